//! The id of what joins two objects: both of their ids, as `A/B`.
//!
//! An attachment or an association has no name of its own, and two things are joined at most once:
//! so its id is made of its ends, and `terraform import` needs nothing else.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use super::InvalidId;

/// What a pair is called where it is refused.
pub trait Joins {
    /// With its article: "an attachment of a network interface".
    const NOUN: &'static str;
    /// How it is written: "i-.../eni-...".
    const FORM: &'static str;
}

/// The id of a thing that joins an `A` and a `B`. `J` says what it is, and keeps two sorts of pairs
/// with equal ends apart.
pub struct PairId<A, B, J> {
    first: A,
    second: B,
    joins: PhantomData<fn() -> J>,
}

impl<A, B, J> PairId<A, B, J> {
    /// The id of what joins the two.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second, joins: PhantomData }
    }

    /// Who is named before the slash.
    pub fn first(&self) -> &A {
        &self.first
    }

    /// Who is named after the slash.
    pub fn second(&self) -> &B {
        &self.second
    }
}

impl<A, B, J> FromStr for PairId<A, B, J>
where
    A: FromStr<Err = InvalidId>,
    B: FromStr<Err = InvalidId>,
    J: Joins,
{
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let Some((first, second)) = text.split_once('/') else {
            return Err(InvalidId::NotAPair {
                text: text.to_owned(),
                noun: J::NOUN,
                form: J::FORM,
            });
        };
        Ok(Self::new(first.parse()?, second.parse()?))
    }
}

impl<A: fmt::Display, B: fmt::Display, J> fmt::Display for PairId<A, B, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.second)
    }
}

impl<A: fmt::Display, B: fmt::Display, J> fmt::Debug for PairId<A, B, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PairId({self})")
    }
}

// By hand: derives would ask the same of `J`, of which there is none.
impl<A: Clone, B: Clone, J> Clone for PairId<A, B, J> {
    fn clone(&self) -> Self {
        Self::new(self.first.clone(), self.second.clone())
    }
}

impl<A: PartialEq, B: PartialEq, J> PartialEq for PairId<A, B, J> {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.second == other.second
    }
}

impl<A: Eq, B: Eq, J> Eq for PairId<A, B, J> {}

impl<A: Ord, B: Ord, J> PartialOrd for PairId<A, B, J> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<A: Ord, B: Ord, J> Ord for PairId<A, B, J> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.first.cmp(&other.first).then_with(|| self.second.cmp(&other.second))
    }
}

impl<A: std::hash::Hash, B: std::hash::Hash, J> std::hash::Hash for PairId<A, B, J> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.first.hash(state);
        self.second.hash(state);
    }
}

impl<A: fmt::Display, B: fmt::Display, J> serde::Serialize for PairId<A, B, J> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de, A, B, J> serde::Deserialize<'de> for PairId<A, B, J>
where
    Self: FromStr<Err = InvalidId>,
{
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The attachment of a network interface to an instance.
#[derive(Debug)]
pub enum Attachment {}

impl Joins for Attachment {
    const NOUN: &'static str = "an attachment of a network interface";
    const FORM: &'static str = "i-.../eni-...";
}

/// The id of a network interface's attachment to an instance.
pub type AttachmentId = PairId<super::InstanceId, super::InterfaceId, Attachment>;

/// The attachment of a volume to an instance.
#[derive(Debug)]
pub enum VolumeAttachment {}

impl Joins for VolumeAttachment {
    const NOUN: &'static str = "an attachment of a volume";
    const FORM: &'static str = "i-.../vol-...";
}

/// The id of a volume's attachment to an instance.
pub type VolumeAttachmentId = PairId<super::InstanceId, super::VolumeId, VolumeAttachment>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InstanceId, InterfaceId};

    fn id() -> AttachmentId {
        AttachmentId::new(InstanceId::from_random([1; 9]), InterfaceId::from_random([2; 9]))
    }

    #[test]
    fn a_pair_survives_text_and_json() {
        let id = id();
        assert_eq!(id.to_string(), "i-01010101010101010/eni-02020202020202020");
        assert_eq!(id.to_string().parse::<AttachmentId>().unwrap(), id);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<AttachmentId>(&json).unwrap(), id);
    }

    #[test]
    fn a_pair_of_other_things_says_which_end_is_wrong() {
        let refused = |text: &str| text.parse::<AttachmentId>().unwrap_err().to_string();
        let turned = refused("eni-02020202020202020/i-01010101010101010");
        assert!(turned.contains("this is the id of a network interface"), "{turned}");
        let single = refused("eni-02020202020202020");
        assert!(single.contains("expected i-.../eni-..."), "{single}");
        let three = refused("i-01010101010101010/eni-02020202020202020/x");
        assert!(three.contains("eni-02020202020202020/x"), "{three}");
    }
}
