//! What a certificate says: whose it is, for which names, until when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate that ends within this time is warned about.
pub const ENDS_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The facts of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name; empty where it has none.
    pub name: String,
    /// DNS names and addresses that a server may have with it.
    pub alternative_names: Vec<String>,
    /// The first moment at which it is not valid any more.
    pub ends: SystemTime,
    /// Its public key: `SubjectPublicKeyInfo` of RFC 5280, section 4.1, in DER.
    pub public_key: Vec<u8>,
}

/// Bytes that are no certificate.
#[derive(Debug, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct InvalidCertificate(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Certificate {
    /// The facts in a DER encoding.
    ///
    /// # Errors
    /// It is no X.509 certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let (_, parsed) =
            X509Certificate::from_der(der).map_err(|error| InvalidCertificate(error.into()))?;
        let name = parsed.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned();
        let alternative_names = match parsed.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.iter().filter_map(show).collect(),
            _ => Vec::new(),
        };
        // A moment before 1970 has passed as well as 1970 has.
        let ends = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or_default();
        let ends = UNIX_EPOCH + Duration::from_secs(ends);
        let public_key = parsed.public_key().raw.to_vec();
        Ok(Self { name, alternative_names, ends, public_key })
    }

    /// How long it is still valid; `None` when it has ended.
    pub fn remaining(&self, now: SystemTime) -> Option<Duration> {
        self.ends.duration_since(now).ok().filter(|left| !left.is_zero())
    }
}

/// A moment as people read it: `2027-11-21 10:04 UTC`.
pub fn show_time(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    match x509_parser::time::ASN1Time::from_timestamp(seconds) {
        Ok(time) => {
            let time = time.to_datetime();
            format!("{} {:02}:{:02} UTC", time.date(), time.hour(), time.minute())
        }
        Err(_) => format!("{seconds} seconds after 1970"),
    }
}

fn show(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                (Ok(v4), _) => Some(std::net::Ipv4Addr::from(v4).to_string()),
                (_, Ok(v6)) => Some(std::net::Ipv6Addr::from(v6).to_string()),
                _ => None,
            }
        }
        _ => None,
    }
}
