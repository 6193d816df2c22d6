//! What an association or a port forward leads to: an instance or a network interface.

use std::fmt;
use std::str::FromStr;

use crate::{ElasticIpId, InstanceId, InterfaceId, InvalidId, Joins, PairId, Problem};

/// An instance, by its primary interface, or any network interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Its primary interface.
    Instance(InstanceId),
    /// Whatever it is attached to.
    Interface(InterfaceId),
}

impl Target {
    /// Of two attributes that exclude each other.
    ///
    /// # Errors
    /// Both or neither are set, or one is not the id that it should be.
    pub fn from_attributes(
        instance_id: Option<&str>,
        network_interface_id: Option<&str>,
    ) -> Result<Self, Problem> {
        let invalid = |field: &str, error: InvalidId| Problem::invalid(field, error.to_string());
        match (instance_id, network_interface_id) {
            (Some(id), None) => {
                id.parse().map(Self::Instance).map_err(|error| invalid("instance_id", error))
            }
            (None, Some(id)) => id
                .parse()
                .map(Self::Interface)
                .map_err(|error| invalid("network_interface_id", error)),
            (None, None) => Err(Problem::invalid("instance_id", "it leads nowhere")
                .remedy("set instance_id or network_interface_id")),
            (Some(_), Some(_)) => {
                let message = "it leads to an instance and to a network interface";
                Err(Problem::invalid("network_interface_id", message)
                    .remedy("set either instance_id or network_interface_id"))
            }
        }
    }

    /// The attribute that it is written as.
    pub fn attribute(&self) -> &'static str {
        match self {
            Self::Instance(_) => "instance_id",
            Self::Interface(_) => "network_interface_id",
        }
    }

    /// The instance, where it was named.
    pub fn instance_id(&self) -> Option<&InstanceId> {
        match self {
            Self::Instance(id) => Some(id),
            Self::Interface(_) => None,
        }
    }

    /// The interface, where it was named.
    pub fn interface_id(&self) -> Option<&InterfaceId> {
        match self {
            Self::Instance(_) => None,
            Self::Interface(id) => Some(id),
        }
    }
}

impl FromStr for Target {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.starts_with(InterfaceId::PREFIX) {
            return text.parse().map(Self::Interface);
        }
        text.parse().map(Self::Instance)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Interface(id) => id.fmt(f),
        }
    }
}

impl serde::Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// An elastic IP leads to an interface.
#[derive(Debug)]
pub enum Association {}

impl Joins for Association {
    const NOUN: &'static str = "an association of an elastic IP";
    const FORM: &'static str = "eip-.../i-... or eip-.../eni-...";
}

/// The association of an elastic IP.
pub type AssociationId = PairId<ElasticIpId, Target, Association>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_association_is_named_by_its_ends() {
        for end in ["i-0123456789abcdef0", "eni-0123456789abcdef0"] {
            let text = format!("eip-0123456789abcdef0/{end}");
            assert_eq!(text.parse::<AssociationId>().unwrap().to_string(), text);
        }
        for text in ["eip-0123456789abcdef0", "eip-0123456789abcdef0/sg-0123456789abcdef0", "/"] {
            assert!(text.parse::<AssociationId>().is_err(), "{text}");
        }
    }

    #[test]
    fn exactly_one_end_is_named() {
        let (i, eni) = (Some("i-0123456789abcdef0"), Some("eni-0123456789abcdef0"));
        assert!(Target::from_attributes(i, None).is_ok());
        assert!(Target::from_attributes(None, eni).is_ok());
        for (instance, interface, field) in [
            (None, None, "instance_id"),
            (i, eni, "network_interface_id"),
            (eni, None, "instance_id"),
            (None, i, "network_interface_id"),
        ] {
            let problem = Target::from_attributes(instance, interface).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some(field));
        }
    }
}
