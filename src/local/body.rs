//! Request bodies, read as leniently as Go's decoder and refused in its words. It must never look at what they mean.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::local::refusal::Refusal;

/// Reads a body; `name` is what Go calls the type, for its error texts.
///
/// Top-level keys match whatever their case. An empty body reads as `{}` where `optional`.
pub(super) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    name: &'static str,
    optional: bool,
) -> Result<T, Refusal> {
    decode(bytes, name, optional, Nulls::AreMissing)
}

/// The same for bodies in which null is a value.
pub(super) fn read_with_nulls<T: DeserializeOwned>(
    bytes: &[u8],
    name: &'static str,
) -> Result<T, Refusal> {
    decode(bytes, name, false, Nulls::AreValues)
}

/// Go reads null as a zero value, as it does what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    AreMissing,
    AreValues,
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, it)| !it.is_null())
                .map(|(key, it)| (key, without_nulls(it)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn decode<T: DeserializeOwned>(
    bytes: &[u8],
    name: &'static str,
    optional: bool,
    nulls: Nulls,
) -> Result<T, Refusal> {
    let value = if bytes.iter().all(u8::is_ascii_whitespace) {
        if !optional {
            return Err(Refusal::Invalid("EOF".to_owned()));
        }
        Value::Object(serde_json::Map::new())
    } else {
        serde_json::from_slice(bytes)
            .map_err(|error| Refusal::Invalid(format!("invalid JSON: {error}")))?
    };
    let value = match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key.to_lowercase(), value)).collect())
        }
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(Refusal::Invalid(format!(
                "json: cannot unmarshal {} into Go value of type main.{name}",
                kind(&value)
            )));
        }
    };
    let value = if nulls == Nulls::AreMissing { without_nulls(value) } else { value };
    let at = value.clone();
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let found = at.pointer(&format!("/{}", path.replace('.', "/"))).map_or("value", kind);
        Refusal::Invalid(format!(
            "json: cannot unmarshal {found} into Go struct field {name}.{path} of type main.{name}: {}",
            error.inner()
        ))
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
