//! `metadata.managedFields` as objects carry them: as text, because most who read an object never ask for them and a tree of
//! maps takes many times the room. It must never look into them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A list as JSON; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept(Box<str>);

impl Kept {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Option::<Vec<Value>>::deserialize(deserializer)?.unwrap_or_default();
        if list.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self(Value::Array(list).to_string().into()))
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let list = serde_json::from_str::<Value>(&self.0);
        list.unwrap_or_else(|_| Value::Array(Vec::new())).serialize(serializer)
    }
}

impl JsonSchema for Kept {
    fn schema_name() -> Cow<'static, str> {
        "ManagedFields".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": true})
    }
}
