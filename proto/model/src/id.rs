//! Identifiers: a typed prefix and 17 lowercase hexadecimal digits, as in EC2.
//!
//! The agent mints ids; nobody else does. A wrong prefix fails while parsing, so a reference to the
//! wrong kind of object is caught in the plan.

mod pair;

use std::fmt;
use std::str::FromStr;

pub use pair::{Attachment, AttachmentId, Joins, PairId, VolumeAttachment, VolumeAttachmentId};

/// Hexadecimal digits after the prefix, as EC2's long ids have.
const DIGITS: usize = 17;

/// Text that is not an id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The text starts with another prefix.
    #[error(
        "\"{text}\" is not the id of {noun}: expected \"{prefix}\" and 17 hexadecimal digits{hint}"
    )]
    WrongKind {
        /// What was given.
        text: String,
        /// What was expected, with its article: "an instance".
        noun: &'static str,
        /// The expected prefix with its dash.
        prefix: &'static str,
        /// What the text looks like instead, or nothing.
        hint: String,
    },
    /// The text is not two ids.
    #[error("\"{text}\" is not the id of {noun}: expected {form}")]
    NotAPair {
        /// What was given.
        text: String,
        /// What was expected, with its article.
        noun: &'static str,
        /// How that is written.
        form: &'static str,
    },
}

/// Every prefix in use, to tell people what they gave instead.
const KINDS: &[(&str, &str)] = &[
    ("i-", "an instance"),
    ("img-", "an image"),
    ("key-", "a key pair"),
    ("type-", "an instance type"),
    ("sg-", "a security group"),
    ("sgr-", "a security group rule"),
    ("vpc-", "a VPC"),
    ("subnet-", "a subnet"),
    ("eni-", "a network interface"),
    ("eip-", "an elastic IP"),
    ("pf-", "a port forward"),
    ("vol-", "a volume"),
    ("snap-", "a snapshot"),
    ("layer-", "a layer of disks"),
    ("rtb-", "a route table"),
    ("pl-", "a prefix list"),
    ("host-", "a host"),
];

/// What `weft ls` calls the kind that the API calls `name`, such as "key-pairs".
pub fn listed(name: &str) -> &str {
    match name {
        "key-pairs" => "keys",
        "security-groups" => "groups",
        "security-group-rules" | "security-group-ingress-rules" | "security-group-egress-rules" => {
            "rules"
        }
        "instance-types" => "types",
        name => name,
    }
}

/// What a text is the id of, told by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdKind {
    /// With its dash: "i-".
    pub prefix: &'static str,
    /// "an instance".
    pub with_article: &'static str,
}

impl IdKind {
    /// `None` where `text` is no id.
    pub fn of(text: &str) -> Option<Self> {
        let (prefix, with_article) = *KINDS.iter().find(|(prefix, _)| well_formed(text, prefix))?;
        Some(Self { prefix, with_article })
    }

    /// "instance".
    pub fn noun(&self) -> &'static str {
        self.with_article.split_once(' ').map_or(self.with_article, |(_, noun)| noun)
    }
}

fn well_formed(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Why `text` is no id, where it begins as one does; `None` where it is one, or something else.
pub fn malformed_id(text: &str) -> Option<InvalidId> {
    let (prefix, noun) = KINDS.iter().find(|(prefix, _)| text.starts_with(prefix))?;
    (!well_formed(text, prefix)).then(|| InvalidId::WrongKind {
        text: text.to_owned(),
        noun,
        prefix,
        hint: String::new(),
    })
}

fn looks_like(text: &str) -> String {
    KINDS
        .iter()
        .find(|(prefix, _)| well_formed(text, prefix))
        .map(|(_, noun)| format!(" (this is the id of {noun})"))
        .unwrap_or_default()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The prefix with its dash.
            pub const PREFIX: &'static str = $prefix;

            /// Makes an id of 68 random bits; the caller supplies the randomness.
            pub fn from_random(random: [u8; 9]) -> Self {
                let mut text = String::from($prefix);
                for byte in random {
                    text.push_str(&format!("{byte:02x}"));
                }
                text.truncate($prefix.len() + DIGITS);
                Self(text)
            }

            /// The whole id, prefix included.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The 17 hexadecimal digits without the prefix.
            pub fn digits(&self) -> &str {
                &self.0[$prefix.len()..]
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                if well_formed(text, $prefix) {
                    return Ok(Self(text.to_owned()));
                }
                Err(InvalidId::WrongKind {
                    text: text.to_owned(),
                    noun: $noun,
                    prefix: $prefix,
                    hint: looks_like(text),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A virtual machine, for its whole life.
    InstanceId, "i-", "an instance";
    /// An immutable disk image and how to boot it.
    ImageId, "img-", "an image";
    /// A registered SSH public key.
    KeyPairId, "key-", "a key pair";
    /// A named size that somebody made.
    InstanceTypeId, "type-", "an instance type";
    /// A security group.
    GroupId, "sg-", "a security group";
    /// One rule of a security group.
    RuleId, "sgr-", "a security group rule";
    /// An isolated address space.
    VpcId, "vpc-", "a VPC";
    /// A range of addresses in a VPC.
    SubnetId, "subnet-", "a subnet";
    /// An address, a MAC and groups: what an instance is connected by.
    InterfaceId, "eni-", "a network interface";
    /// An address of the public pool.
    ElasticIpId, "eip-", "an elastic IP";
    /// A port of the host that leads to a guest.
    PortForwardId, "pf-", "a port forward";
    /// Routes of subnets' guests.
    RouteTableId, "rtb-", "a route table";
    /// Ranges of addresses under one name.
    PrefixListId, "pl-", "a prefix list";
    /// A sealed part of disks, which others lie over.
    LayerId, "layer-", "a layer of disks";
    /// What a disk had on it at one moment.
    SnapshotId, "snap-", "a snapshot";
    /// A disk that outlives the instances that have it.
    VolumeId, "vol-", "a volume";
    /// A machine that runs guests.
    HostId, "host-", "a host";
    /// One run of a client, from ConfigureProvider to its end.
    SessionId, "session-", "a session";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text_and_json() {
        let id = InstanceId::from_random([0xab; 9]);
        assert_eq!(id.as_str(), "i-ababababababababa");
        assert_eq!(id.as_str().parse::<InstanceId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<InstanceId>(&json).unwrap(), id);
    }

    #[test]
    fn a_wrong_prefix_says_what_was_given_instead() {
        let error = "sg-0123456789abcdef0".parse::<SubnetId>().unwrap_err().to_string();
        assert!(error.contains("this is the id of a security group"), "{error}");
    }

    #[test]
    fn almost_ids_are_refused() {
        for text in ["", "i-", "i-123", "i-0123456789ABCDEF0", "i-0123456789abcdef01", "img-x"] {
            assert!(text.parse::<InstanceId>().is_err(), "{text:?}");
        }
    }
}
