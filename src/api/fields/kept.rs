//! `metadata.managedFields` as objects carry them: as text, because most who read an object never ask for them and a tree of
//! maps takes many times the room. It must never look into them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

/// A list as JSON; nothing where there is none. It is read from JSON, and from a tree of it, and from nothing else.
#[derive(Debug, Clone, Default)]
pub struct Kept(Option<Box<RawValue>>);

impl Kept {
    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn text(&self) -> Option<&str> {
        self.0.as_deref().map(RawValue::get)
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Kept {}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(list) = Option::<Box<RawValue>>::deserialize(deserializer)? else {
            return Ok(Self::default());
        };
        let Some(rest) = list.get().strip_prefix('[') else {
            return Err(D::Error::custom("managedFields must be a list"));
        };
        let is_empty = rest.trim_start() == "]";
        Ok(Self((!is_empty).then_some(list)))
    }
}

impl Serialize for Kept {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(list: &str) -> serde_json::Result<Kept> {
        serde_json::from_str(list)
    }

    #[test]
    fn a_list_is_the_same_as_text_and_as_a_tree_and_comes_out_as_it_was() {
        let list = r#"[{"manager":"kubectl","fieldsV1":{"f:spec":{"f:é\"":{}}}}]"#;
        let kept = read(list).unwrap();
        let tree: Value = serde_json::from_str(list).unwrap();
        assert_eq!(serde_json::from_value::<Kept>(tree.clone()).unwrap(), kept);
        assert_eq!(Kept::deserialize(&tree).unwrap(), kept);
        assert_eq!(serde_json::to_string(&kept).unwrap(), list);
        assert_eq!(serde_json::to_value(&kept).unwrap(), tree);
    }

    #[test]
    fn an_empty_list_is_nothing_and_what_is_no_list_is_refused() {
        for nothing in ["null", "[]", " [ ] "] {
            assert!(read(nothing).unwrap().is_empty(), "{nothing}");
        }
        for other in
            [r#"{"a": 1}"#, r#""[]""#, "7", "[1", r#"{"$serde_json::private::RawValue": "[1]"}"#]
        {
            assert!(read(other).is_err(), "{other}");
        }
        let disguised = json!({"$serde_json::private::RawValue": "[1]"});
        assert!(serde_json::from_value::<Kept>(disguised).is_err());
    }
}
