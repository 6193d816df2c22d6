//! `weft_prefix_list`: ranges under one name, which rules refer to.

use serde::{Deserialize, Serialize};
use tfplugin::{Attribute, ConvertError, Diagnostics, Nesting, Schema, Validator, Value};
use weft_model::{PrefixListSpec, Problem};
use weft_proto::convert::prefix_list_from_wire;
use weft_proto::v1;

use crate::kind::Kind;
use crate::kind::plain::Plain;
use crate::tags::TagMap;
use crate::{checks, kept, problem, tags};

#[derive(Debug)]
pub(crate) enum PrefixList {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Kept {
    tags: Option<TagMap>,
}

impl Kind for PrefixList {
    type Wire = v1::PrefixList;
    type Kept = Kept;
    const TYPE: &'static str = "weft_prefix_list";
    const NOUN: &'static str = "prefix list";

    fn schema() -> Schema {
        Schema::new(
            "Ranges of addresses under one name, which rules of security groups refer to. A change \
             of its entries changes all of these rules, at once. In the limit of a group's rules a \
             list counts as one, however many entries it has (in EC2 as many as it may have).",
        )
        .subcategory("Network")
        .attribute(
            Attribute::string("name", "For people; need not be unique.")
                .required()
                .validate(checks::name()),
        )
        .attribute(
            Attribute::string("address_family", "Of every entry: `IPv4` or `IPv6`.")
                .required()
                .replace_on_change()
                .validate(Validator::one_of(["IPv4", "IPv6"])),
        )
        .attribute(
            Attribute::nested(
                "entries",
                Nesting::Set,
                "The ranges, at most 1000; they may overlap.",
                [
                    Attribute::string("cidr", "A range, such as `10.0.0.0/8` or `2001:db8::/32`.")
                        .required()
                        .validate(checks::any_cidr()),
                    Attribute::string("description", "What it is there for.")
                        .default("")
                        .validate(checks::description()),
                ],
            )
            .required(),
        )
        .attributes(tags::attributes())
        .attribute(Attribute::string("id", "`pl-` and 17 hexadecimal digits.").computed())
    }

    fn kept(plan: &Value) -> Result<Kept, ConvertError> {
        Ok(Kept { tags: tags::own(plan)? })
    }

    fn state(wire: v1::PrefixList) -> Result<Value, Problem> {
        let object = prefix_list_from_wire(wire)?;
        let kept: Kept = kept::decode(&object.client_data);
        let entries: Vec<Value> = object
            .spec
            .entries
            .into_iter()
            .map(|(range, description)| {
                Value::object([
                    ("cidr", Value::from(range.to_string())),
                    ("description", description.into()),
                ])
            })
            .collect();
        Ok(Value::object([
            ("id", Value::from(object.id.to_string())),
            ("name", object.spec.name.into()),
            ("address_family", object.spec.address_family.to_string().into()),
            ("entries", entries.into()),
            ("tags", kept.tags.into()),
            ("tags_all", object.tags.into_map().into()),
        ]))
    }
}

impl Plain for PrefixList {
    fn spec(plan: &Value) -> Result<v1::PrefixListSpec, Diagnostics> {
        let entries = plan.get("entries").as_list().unwrap_or_default().iter();
        let entries = entries.map(|entry| {
            Ok(v1::PrefixListEntry {
                cidr: entry.read("cidr")?,
                description: entry.read("description")?,
            })
        });
        Ok(v1::PrefixListSpec {
            name: plan.read("name")?,
            address_family: plan.read("address_family")?,
            entries: entries.collect::<Result<_, ConvertError>>()?,
        })
    }

    fn validate(config: &Value) -> Diagnostics {
        let family = config.get("address_family").as_str().and_then(|text| text.parse().ok());
        let (Some(family), Some(entries)) = (family, config.get("entries").as_list()) else {
            return Diagnostics::new();
        };
        // An entry that is not known yet is judged by the agent; what is no range has been said.
        let ranges = entries.iter().filter_map(|entry| entry.get("cidr").as_str()?.parse().ok());
        let entries = ranges.map(|range| (range, String::new()));
        match PrefixListSpec::new(String::new(), family, entries) {
            Ok(_) => Diagnostics::new(),
            Err(problem) => {
                let schema = <Self as Kind>::schema();
                problem::diagnostic("Invalid entries", &problem, &schema, config).into()
            }
        }
    }
}
