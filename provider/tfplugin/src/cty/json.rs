//! The JSON form of values: raw states and, from some hosts, dynamic values.

use serde_json::Value as Json;

use super::{DecodeError, Number, Path, Type, Value};

/// Reads `json` as `ty`. An attribute that is missing is null; one too many is an error.
///
/// Missing attributes are accepted because a state written before an attribute was added
/// lacks it, while the schema's version stays the same.
pub(crate) fn decode(json: &Json, ty: &Type) -> Result<Value, DecodeError> {
    read(json, ty, &Path::root(), Extra::Refused).map(|value| ty.normalise(&value))
}

/// As [`decode`], but what the type does not have is left out: a schema may have lost an
/// attribute since a state was written.
pub(crate) fn decode_known(json: &Json, ty: &Type) -> Result<Value, DecodeError> {
    read(json, ty, &Path::root(), Extra::LeftOut).map(|value| ty.normalise(&value))
}

/// What becomes of attributes that an object type does not have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extra {
    Refused,
    LeftOut,
}

fn read(json: &Json, ty: &Type, path: &Path, extra: Extra) -> Result<Value, DecodeError> {
    let wrong = || DecodeError::new(path, format!("{} is needed, this is {json}", ty.friendly()));
    match (ty, json) {
        (_, Json::Null) => Ok(Value::Null),
        (Type::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Type::String, Json::String(text)) => Ok(Value::String(text.clone())),
        (Type::Number, Json::Number(number)) => {
            Number::parse(&number.to_string()).map(Value::Number).ok_or_else(wrong)
        }
        (Type::Number, Json::String(text)) => {
            Number::parse(text).map(Value::Number).ok_or_else(wrong)
        }
        (Type::List(of) | Type::Set(of), Json::Array(elements)) => elements
            .iter()
            .enumerate()
            .map(|(index, element)| read(element, of, &path.index(index), extra))
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Type::Tuple(types), Json::Array(elements)) if types.len() == elements.len() => elements
            .iter()
            .zip(types)
            .enumerate()
            .map(|(index, (element, of))| read(element, of, &path.index(index), extra))
            .collect::<Result<_, _>>()
            .map(Value::List),
        (Type::Map(of), Json::Object(entries)) => entries
            .iter()
            .map(|(key, element)| Ok((key.clone(), read(element, of, &path.key(key), extra)?)))
            .collect::<Result<_, _>>()
            .map(Value::Map),
        (Type::Object(types), Json::Object(entries)) => {
            let unknown = entries.keys().find(|name| !types.contains_key(*name));
            if let Some(unknown) = unknown.filter(|_| extra == Extra::Refused) {
                let path = path.attribute(unknown);
                return Err(DecodeError::new(&path, "the schema has no such attribute"));
            }
            types
                .iter()
                .map(|(name, of)| {
                    let element = entries.get(name).unwrap_or(&Json::Null);
                    Ok((name.clone(), read(element, of, &path.attribute(name), extra)?))
                })
                .collect::<Result<_, _>>()
                .map(Value::Map)
        }
        // A dynamic value is { "type": ..., "value": ... }.
        (Type::Dynamic, Json::Object(entries)) => {
            let actual =
                entries.get("type").and_then(|ty| Type::from_json(ty).ok()).ok_or_else(wrong)?;
            read(entries.get("value").unwrap_or(&Json::Null), &actual, path, extra)
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_lacking_a_newer_attribute_is_read_with_null() {
        let ty = Type::object([("name", Type::String), ("size", Type::Number)]);
        let value = decode(&json!({ "name": "a" }), &ty).unwrap();
        assert_eq!(value, Value::object([("name", Value::from("a")), ("size", Value::Null)]));
    }

    #[test]
    fn an_attribute_unknown_to_the_schema_is_refused_with_its_path() {
        let ty = Type::object([("disk", Type::object([("gib", Type::Number)]))]);
        let error = decode(&json!({ "disk": { "gb": 4 } }), &ty).unwrap_err();
        assert_eq!(error.to_string(), "disk.gb: the schema has no such attribute");
    }

    #[test]
    fn of_a_stored_state_what_the_schema_has_lost_is_left_out() {
        let ty = Type::list(Type::object([("gib", Type::Number)]));
        let value = decode_known(&json!([{ "gib": 4, "gb": 4 }]), &ty).unwrap();
        assert_eq!(value, Value::List(vec![Value::object([("gib", 4)])]));
    }
}
