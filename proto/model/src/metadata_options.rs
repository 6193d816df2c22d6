//! How an instance's metadata are served: EC2's `metadata_options`.

use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::image::words;

words! {
    /// Whether metadata are served at all.
    HttpEndpoint {
        /// They are.
        Enabled = "enabled",
        /// Every request is refused.
        Disabled = "disabled",
    }
}

words! {
    /// Whether a token is needed.
    HttpTokens {
        /// It is (IMDSv2).
        Required = "required",
        /// Metadata are read without one too (IMDSv1).
        Optional = "optional",
    }
}

/// The hop limits that a token's answer can have.
pub const HOP_LIMITS: std::ops::RangeInclusive<u32> = 1..=64;
/// EC2's default: a token reaches the guest and nobody behind it.
const HOP_LIMIT: u8 = 1;

/// What was said of how metadata are served; what was not said has a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// Unset: enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_endpoint: Option<HttpEndpoint>,
    /// Unset: required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_tokens: Option<HttpTokens>,
    /// The IP TTL of the answer to the PUT of a token. Unset: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_put_response_hop_limit: Option<u8>,
}

impl MetadataOptions {
    /// Whether metadata are served.
    pub fn is_enabled(self) -> bool {
        self.http_endpoint != Some(HttpEndpoint::Disabled)
    }

    /// Whether metadata are read with a token only.
    pub fn needs_token(self) -> bool {
        self.http_tokens != Some(HttpTokens::Optional)
    }

    /// The IP TTL of the answer to the PUT of a token.
    pub fn hop_limit(self) -> u8 {
        self.http_put_response_hop_limit.unwrap_or(HOP_LIMIT)
    }
}

/// A hop limit as it was asked for.
///
/// # Errors
/// It is none.
pub fn check_hop_limit(limit: u32) -> Result<u8, Problem> {
    let fits = HOP_LIMITS.contains(&limit);
    let limit_in_byte = u8::try_from(limit).ok().filter(|_| fits);
    limit_in_byte.ok_or_else(|| {
        Problem::invalid(
            "metadata_options.http_put_response_hop_limit",
            format!("{limit} is not a hop limit"),
        )
        .remedy(format!("use {} to {}", HOP_LIMITS.start(), HOP_LIMITS.end()))
    })
}
