//! Values on the wire.

use crate::{
    cty::{DecodeError, Path, Type, Value, json, msgpack},
    diag::Diagnostic,
    proto,
};

/// Reads a value; `what` names it in the message if it does not fit.
pub(crate) fn decode(
    value: Option<&proto::DynamicValue>,
    ty: &Type,
    what: &str,
) -> Result<Value, Diagnostic> {
    let Some(proto::DynamicValue { msgpack, json }) = value else { return Ok(Value::Null) };
    let decoded = if !msgpack.is_empty() {
        msgpack::decode(msgpack, ty)
    } else if json.is_empty() {
        Ok(Value::Null)
    } else {
        parse_json(json).and_then(|json| json::decode(&json, ty))
    };
    decoded.map_err(|error| Diagnostic::undecodable(what, &error))
}

pub(crate) fn parse_json(bytes: &[u8]) -> Result<serde_json::Value, DecodeError> {
    serde_json::from_slice(bytes)
        .map_err(|error| DecodeError::new(&Path::root(), format!("not JSON: {error}")))
}

/// Writes a value that the provider made; `what` names it if it does not fit the schema.
pub(crate) fn encode(
    value: &Value,
    ty: &Type,
    what: &str,
) -> Result<proto::DynamicValue, Diagnostic> {
    let msgpack = msgpack::encode(value, ty).map_err(|error| {
        Diagnostic::provider_bug(
            format!("The provider made a {what} that does not fit its schema"),
            error.to_string(),
        )
    })?;
    Ok(proto::DynamicValue { msgpack, json: Vec::new() })
}
