//! `parse_id(id)`: what an id is the id of.

use tfplugin::{Arguments, Function, FunctionError, Parameter, Signature, Type, Value};
use weft_model::{IdKind, malformed_id};

#[derive(Debug)]
pub(super) struct ParseId;

/// The resource that has ids of a prefix; ids of rules do not say which of the two it is.
pub(super) const RESOURCES: [(&str, &str); 14] = [
    ("i-", "weft_instance"),
    ("img-", "weft_image"),
    ("key-", "weft_key_pair"),
    ("type-", "weft_instance_type"),
    ("sg-", "weft_security_group"),
    ("vpc-", "weft_vpc"),
    ("subnet-", "weft_subnet"),
    ("eni-", "weft_network_interface"),
    ("eip-", "weft_elastic_ip"),
    ("pf-", "weft_port_forward"),
    ("vol-", "weft_volume"),
    ("snap-", "weft_snapshot"),
    ("rtb-", "weft_route_table"),
    ("pl-", "weft_prefix_list"),
];

/// The resources whose ids are made of two, by the prefixes of both.
pub(super) const PAIRS: [(&str, &str, &str, &str); 5] = [
    ("i-", "vol-", "weft_volume_attachment", "attachment of a volume"),
    ("i-", "eni-", "weft_network_interface_attachment", "attachment of a network interface"),
    ("eip-", "i-", "weft_elastic_ip_association", "association of an elastic IP"),
    ("eip-", "eni-", "weft_elastic_ip_association", "association of an elastic IP"),
    ("rtb-", "subnet-", "weft_route_table_association", "association of a route table"),
];

impl Function for ParseId {
    fn name(&self) -> &str {
        "parse_id"
    }

    fn signature(&self) -> Signature {
        let of = [
            ("id", Type::String),
            ("kind", Type::String),
            ("resource_type", Type::String),
            ("prefix", Type::String),
            ("digits", Type::String),
            ("ids", Type::list(Type::String)),
        ];
        Signature::new(
            "What an id is the id of.",
            "Takes an id of Weft apart. What is no id is an error, so it also checks one.\n\n\
             The result is an object:\n\n\
             - `id`: what was given.\n\
             - `kind`: what it is the id of, in words: `instance`, `security group rule`.\n\
             - `resource_type`: the resource that has such ids: `weft_instance`. Null where the id \
             does not tell (rules of both directions begin with `sgr-`) and where there is none.\n\
             - `prefix` and `digits`: such as `i-`, and the 17 hexadecimal digits; both null for \
             the id of an attachment or association, which is made of two ids.\n\
             - `ids`: the ids that it is made of: one, or the two of an attachment or association, \
             such as `i-.../vol-...`, in their order.",
            Type::object(of),
        )
        .parameter(Parameter::new(
            "id",
            Type::String,
            "An id, such as `i-0123456789abcdef0`, or two with a slash between them.",
        ))
    }

    fn call(&self, arguments: &Arguments) -> Result<Value, FunctionError> {
        let text: String = arguments.read(0)?;
        let result = match text.split_once('/') {
            None => single(&text),
            Some((first, second)) => pair(&text, first, second),
        };
        result.map_err(|problem| FunctionError::at(0, problem))
    }
}

fn kind(text: &str) -> Result<IdKind, String> {
    IdKind::of(text).ok_or_else(|| match malformed_id(text) {
        Some(malformed) => malformed.to_string(),
        None => format!(
            "{text:?} is not an id of Weft: one is a prefix such as \"i-\", \"vol-\" or \
             \"subnet-\" and 17 hexadecimal digits"
        ),
    })
}

fn single(text: &str) -> Result<Value, String> {
    let kind = kind(text)?;
    let resource = RESOURCES.iter().find(|(prefix, _)| *prefix == kind.prefix);
    Ok(object(
        text,
        kind.noun(),
        resource.map(|(_, resource)| *resource),
        Some((kind.prefix, &text[kind.prefix.len()..])),
        &[text],
    ))
}

fn pair(text: &str, first: &str, second: &str) -> Result<Value, String> {
    let (a, b) = (kind(first)?, kind(second)?);
    let found = PAIRS.iter().find(|(x, y, ..)| (*x, *y) == (a.prefix, b.prefix));
    let Some((.., resource, noun)) = found else {
        return Err(format!(
            "{text:?} is the id of nothing: {} and {} are not joined by a slash in this order",
            a.with_article, b.with_article
        ));
    };
    Ok(object(text, noun, Some(resource), None, &[first, second]))
}

fn object(
    id: &str,
    kind: &str,
    resource: Option<&str>,
    prefix_and_digits: Option<(&str, &str)>,
    ids: &[&str],
) -> Value {
    let text = |text: Option<&str>| text.map_or(Value::Null, Value::from);
    Value::object([
        ("id", Value::from(id)),
        ("kind", Value::from(kind)),
        ("resource_type", text(resource)),
        ("prefix", text(prefix_and_digits.map(|(prefix, _)| prefix))),
        ("digits", text(prefix_and_digits.map(|(_, digits)| digits))),
        ("ids", Value::from(ids.to_vec())),
    ])
}

#[cfg(test)]
mod tests {
    use tfplugin::Provider as _;

    use super::*;
    use crate::Weft;

    #[test]
    fn every_resource_is_known_by_its_ids_but_those_that_share_a_prefix() {
        let known = |name: &str| {
            RESOURCES.iter().any(|(_, resource)| *resource == name)
                || PAIRS.iter().any(|(_, _, resource, _)| *resource == name)
        };
        let unknown: Vec<String> = Weft::new(None)
            .resources()
            .iter()
            .map(|resource| resource.type_name().to_owned())
            .filter(|name| !known(name))
            .collect();
        assert_eq!(
            unknown,
            ["weft_security_group_ingress_rule", "weft_security_group_egress_rule"]
        );
    }
}
