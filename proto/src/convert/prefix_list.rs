//! Prefix lists.

use ipnetwork::IpNetwork;
use weft_model::{Name, Object, PrefixListId, PrefixListSpec, Problem, parse_cidr, parse_cidr_v6};

use super::object::{object_from_wire, object_to_wire};
use super::{description_from_wire, parse, parse_word, required};
use crate::v1;

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn prefix_list_spec_from_wire(
    spec: Option<v1::PrefixListSpec>,
) -> Result<PrefixListSpec, Problem> {
    let v1::PrefixListSpec { name, address_family, entries } = required("spec", spec)?;
    let entries = entries.into_iter().map(|v1::PrefixListEntry { cidr, description }| {
        let range: IpNetwork = match cidr.contains(':') {
            true => parse_cidr_v6("entries", &cidr)?.into(),
            false => parse_cidr("entries", &cidr)?.into(),
        };
        Ok((range, description_from_wire(description)?))
    });
    let entries = entries.collect::<Result<Vec<_>, Problem>>()?;
    let name = parse::<Name>("name", &name)?.to_string();
    PrefixListSpec::new(name, parse_word("address_family", &address_family)?, entries)
}

/// The wire's form of `spec`.
pub fn prefix_list_spec_to_wire(spec: PrefixListSpec) -> v1::PrefixListSpec {
    let PrefixListSpec { name, address_family, entries } = spec;
    let entries = entries.into_iter();
    v1::PrefixListSpec {
        name,
        address_family: address_family.to_string(),
        entries: entries
            .map(|(range, description)| v1::PrefixListEntry {
                cidr: range.to_string(),
                description,
            })
            .collect(),
    }
}

/// # Errors
/// A [`Problem`] at the field that is wrong.
pub fn prefix_list_from_wire(
    wire: v1::PrefixList,
) -> Result<Object<PrefixListId, PrefixListSpec>, Problem> {
    let v1::PrefixList { metadata, spec } = wire;
    object_from_wire(metadata, prefix_list_spec_from_wire(spec)?)
}

/// The wire's form of `object`.
pub fn prefix_list_to_wire(object: Object<PrefixListId, PrefixListSpec>) -> v1::PrefixList {
    let (metadata, spec) = object_to_wire(object);
    v1::PrefixList { metadata: Some(metadata), spec: Some(prefix_list_spec_to_wire(spec)) }
}
