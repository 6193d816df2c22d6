//! The msgpack wire form of values, driven by the type.
//!
//! Source: `docs/plugin-protocol/object-wire-format.md` in hashicorp/terraform. Any extension
//! code means unknown (code 12 carries refinements, which are read and dropped). A number may
//! come as integer, float or decimal text; a dynamic value is `[type as JSON, value]`.

use std::collections::BTreeMap;

use rmp::{Marker, decode, encode};

use super::{DecodeError, Number, Path, Type, Value};

/// Deepest nesting that is followed, so that hostile input cannot exhaust the stack.
const MAX_DEPTH: usize = 128;

/// Encodes `value` as `ty`. Attributes missing in an object are written as null.
///
/// # Errors
/// Where the value does not fit the type: a mistake of the provider's author.
pub(crate) fn encode(value: &Value, ty: &Type) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    write(&mut out, value, ty, &Path::root())?;
    Ok(out)
}

fn write(out: &mut Vec<u8>, value: &Value, ty: &Type, path: &Path) -> Result<(), DecodeError> {
    let mismatch = || {
        DecodeError::new(path, format!("{} is needed, this is {}", ty.friendly(), value.friendly()))
    };
    match (ty, value) {
        (_, Value::Null) => out.push(Marker::Null.to_u8()),
        // fixext1, code 0, one zero byte.
        (_, Value::Unknown) => out.extend([0xd4, 0, 0]),
        (Type::Dynamic, value) => {
            let actual = Type::of(value);
            let json = actual.to_json().to_string();
            infallible(encode::write_array_len(out, 2));
            infallible(encode::write_bin(out, json.as_bytes()));
            write(out, value, &actual, path)?;
        }
        (Type::Bool, Value::Bool(value)) => infallible(encode::write_bool(out, *value)),
        (Type::Number, Value::Number(number)) => match number.as_i64() {
            Some(int) => drop(infallible(encode::write_sint(out, int))),
            // As text, since 0.1 as a float is not the 0.1 of the configuration.
            None => infallible(encode::write_str(out, &number.canonical())),
        },
        (Type::String, Value::String(text)) => infallible(encode::write_str(out, text)),
        (Type::List(of) | Type::Set(of), Value::List(elements)) => {
            infallible(encode::write_array_len(out, length(elements.len(), path)?));
            for (index, element) in elements.iter().enumerate() {
                write(out, element, of, &path.index(index))?;
            }
        }
        (Type::Tuple(types), Value::List(elements)) if types.len() == elements.len() => {
            infallible(encode::write_array_len(out, length(elements.len(), path)?));
            for (index, (element, of)) in elements.iter().zip(types).enumerate() {
                write(out, element, of, &path.index(index))?;
            }
        }
        (Type::Map(of), Value::Map(entries)) => {
            infallible(encode::write_map_len(out, length(entries.len(), path)?));
            for (key, element) in entries {
                infallible(encode::write_str(out, key));
                write(out, element, of, &path.key(key))?;
            }
        }
        (Type::Object(types), Value::Map(entries)) => {
            if let Some(extra) = entries.keys().find(|name| !types.contains_key(*name)) {
                let problem = format!("the schema has no attribute {extra}");
                return Err(DecodeError::new(path, problem));
            }
            infallible(encode::write_map_len(out, length(types.len(), path)?));
            for (name, of) in types {
                infallible(encode::write_str(out, name));
                let element = entries.get(name).unwrap_or(&Value::Null);
                write(out, element, of, &path.attribute(name))?;
            }
        }
        _ => return Err(mismatch()),
    }
    Ok(())
}

fn length(len: usize, path: &Path) -> Result<u32, DecodeError> {
    u32::try_from(len).map_err(|_| DecodeError::new(path, "too many elements"))
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail")]
fn infallible<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    result.expect("writing to a Vec cannot fail")
}

/// Decodes `bytes` as `ty`. Sets come out sorted.
pub(crate) fn decode(bytes: &[u8], ty: &Type) -> Result<Value, DecodeError> {
    let mut input = bytes;
    let value = read(&mut input, ty, &Path::root(), 0)?;
    if !input.is_empty() {
        return Err(DecodeError::new(&Path::root(), "bytes are left over after the value"));
    }
    Ok(ty.normalise(&value))
}

fn read(input: &mut &[u8], ty: &Type, path: &Path, depth: usize) -> Result<Value, DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::new(path, "nested too deeply"));
    }
    let marker = Marker::from_u8(*input.first().ok_or_else(|| cut_short(path))?);
    match marker {
        Marker::Null => {
            *input = &input[1..];
            return Ok(Value::Null);
        }
        Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => {
            let meta = decode::read_ext_meta(input).map_err(|_| cut_short(path))?;
            *input = input.get(meta.size as usize..).ok_or_else(|| cut_short(path))?;
            return Ok(Value::Unknown);
        }
        _ => {}
    }
    let wrong =
        || DecodeError::new(path, format!("{} is needed, this is {marker:?}", ty.friendly()));
    match ty {
        Type::Bool => decode::read_bool(input).map(Value::Bool).map_err(|_| wrong()),
        Type::String => read_text(input).map(Value::String).ok_or_else(wrong),
        Type::Number => read_number(input, marker).map(Value::Number).ok_or_else(wrong),
        Type::List(of) | Type::Set(of) => {
            let len = decode::read_array_len(input).map_err(|_| wrong())?;
            let elements = (0..len as usize)
                .map(|index| read(input, of, &path.index(index), depth + 1))
                .collect::<Result<_, _>>()?;
            Ok(Value::List(elements))
        }
        Type::Tuple(types) => {
            let len = decode::read_array_len(input).map_err(|_| wrong())?;
            if len as usize != types.len() {
                let problem = format!("{} elements are needed, there are {len}", types.len());
                return Err(DecodeError::new(path, problem));
            }
            let elements = types
                .iter()
                .enumerate()
                .map(|(index, of)| read(input, of, &path.index(index), depth + 1))
                .collect::<Result<_, _>>()?;
            Ok(Value::List(elements))
        }
        Type::Map(of) => {
            let len = decode::read_map_len(input).map_err(|_| wrong())?;
            let mut entries = BTreeMap::new();
            for _ in 0..len {
                let key = read_text(input)
                    .ok_or_else(|| DecodeError::new(path, "a key of the map is not a string"))?;
                let value = read(input, of, &path.key(&key), depth + 1)?;
                entries.insert(key, value);
            }
            Ok(Value::Map(entries))
        }
        Type::Object(types) => {
            let len = decode::read_map_len(input).map_err(|_| wrong())?;
            let mut entries = BTreeMap::new();
            for _ in 0..len {
                let name = read_text(input)
                    .ok_or_else(|| DecodeError::new(path, "an attribute name is not a string"))?;
                let path = path.attribute(&name);
                let of = types
                    .get(&name)
                    .ok_or_else(|| DecodeError::new(&path, "the schema has no such attribute"))?;
                let value = read(input, of, &path, depth + 1)?;
                entries.insert(name, value);
            }
            if let Some(missing) = types.keys().find(|name| !entries.contains_key(*name)) {
                return Err(DecodeError::new(&path.attribute(missing), "the attribute is missing"));
            }
            Ok(Value::Map(entries))
        }
        Type::Dynamic => {
            let len = decode::read_array_len(input).map_err(|_| wrong())?;
            if len != 2 {
                return Err(wrong());
            }
            let json = read_bin(input).ok_or_else(wrong)?;
            let actual = serde_json::from_slice(json)
                .ok()
                .and_then(|json| Type::from_json(&json).ok())
                .ok_or_else(|| {
                    DecodeError::new(path, "the type of a dynamic value is not a type")
                })?;
            read(input, &actual, path, depth + 1)
        }
    }
}

fn cut_short(path: &Path) -> DecodeError {
    DecodeError::new(path, "the message is cut short")
}

fn read_text(input: &mut &[u8]) -> Option<String> {
    let len = decode::read_str_len(input).ok()? as usize;
    let (text, rest) = input.split_at_checked(len)?;
    *input = rest;
    String::from_utf8(text.to_vec()).ok()
}

fn read_bin<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut ahead = *input;
    let len = match decode::read_bin_len(&mut ahead) {
        Ok(len) => len,
        // go-msgpack of old hosts writes bytes as a string.
        Err(_not_bin) => {
            ahead = *input;
            decode::read_str_len(&mut ahead).ok()?
        }
    };
    let (bytes, rest) = ahead.split_at_checked(len as usize)?;
    *input = rest;
    Some(bytes)
}

fn read_number(input: &mut &[u8], marker: Marker) -> Option<Number> {
    match marker {
        Marker::F32 => decode::read_f32(input).ok().map(|f| Number::Float(f64::from(f))),
        Marker::F64 => decode::read_f64(input).ok().map(Number::Float),
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            Number::parse(&read_text(input)?)
        }
        _ => {
            let int: i128 = decode::read_int(input).ok()?;
            Some(match i64::try_from(int) {
                Ok(int) => Number::Int(int),
                Err(_above_i64) => Number::Decimal(int.to_string()),
            })
        }
    }
}

#[cfg(test)]
mod tests;
