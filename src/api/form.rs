//! One object in another group's words and back: some fields of its outermost level have other names there. It must never
//! lose a field.

use serde_json::{Map, Value};

use crate::api::kind::Form;

impl Form {
    /// Group and version, as `apiVersion` has it.
    #[must_use]
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    /// An object, or a schema's properties, as the other group has it.
    #[must_use]
    pub fn show(&self, object: Value) -> Value {
        let named =
            Self::renamed(object, |name| self.names.iter().find(|it| it.0 == name).map(|it| it.1));
        with_version(named, &self.api_version())
    }

    /// The reverse of [`Form::show`], for an object of a kind with this `apiVersion`.
    #[must_use]
    pub fn read(&self, object: Value, api_version: &str) -> Value {
        let is_theirs = object.get("apiVersion").is_none_or(|it| *it == self.api_version());
        let named =
            Self::renamed(object, |name| self.names.iter().find(|it| it.1 == name).map(|it| it.0));
        // Another version than the path's is for admission to refuse.
        if is_theirs { with_version(named, api_version) } else { named }
    }

    /// A field's path in the kind's own words.
    #[must_use]
    pub fn own_path(&self, path: &str) -> String {
        let (first, rest) = path.split_at(path.find('.').unwrap_or(path.len()));
        let own = self.names.iter().find(|it| it.1 == first).map_or(first, |it| it.0);
        format!("{own}{rest}")
    }

    fn renamed(value: Value, name: impl Fn(&str) -> Option<&'static str>) -> Value {
        let Value::Object(fields) = value else { return value };
        let mut renamed = Map::new();
        for (key, value) in fields {
            let key = name(&key).map_or(key, str::to_owned);
            renamed.insert(key, value);
        }
        Value::Object(renamed)
    }
}

fn with_version(mut object: Value, api_version: &str) -> Value {
    if let Some(version) = object.get_mut("apiVersion") {
        *version = Value::String(api_version.to_owned());
    }
    object
}
