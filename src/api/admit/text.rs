//! Rules for text, the same for every kind: a map of text holds nothing else, and no text has control characters that a
//! terminal, a C string or a header would take for something. It must never put a value into a message.

use serde_json::Value;

use crate::api::{
    admit::{Violation, ViolationReason},
    kind::Kind,
};

/// Maps from names that people choose to text.
const MAPS: &[(Option<Kind>, &str)] = &[
    (None, "/metadata/labels"),
    (None, "/metadata/annotations"),
    (Some(Kind::Environment), "/spec/env"),
    (Some(Kind::Template), "/spec/machine/env"),
    (Some(Kind::Secret), "/data"),
    (Some(Kind::ConfigMap), "/data"),
    (Some(Kind::ConfigMap), "/binaryData"),
    (Some(Kind::Secret), "/stringData"),
];

/// Where text may have several lines, and tabs: programs read it. `*` stands for any field or place.
const LINES: &[&str] = &[
    "metadata.annotations.*",
    "spec.env.*",
    "spec.machine.env.*",
    "spec.machine.command.*",
    "spec.machine.entrypoint.*",
    "spec.machine.files.*.content",
    "spec.readiness.exec.command.*",
    "spec.personalize.exec.command.*",
    "spec.personalize.readiness.exec.command.*",
    "stringData.*",
    "data.*",
    "message",
];

/// What is wrong with the text in an object as it was sent.
#[must_use]
pub fn check(kind: Kind, object: &Value) -> Vec<Violation> {
    let mut found = Vec::new();
    for (of, pointer) in MAPS {
        if of.is_none_or(|it| it == kind)
            && let Some(Value::Object(fields)) = object.pointer(pointer)
        {
            let map = pointer.trim_start_matches('/').replace('/', ".");
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_string()) {
                found.push(invalid(format!("{map}.{key}"), not_text(value)));
            }
        }
    }
    let Value::Object(fields) = object else { return found };
    let mut walk = Walk { place: Vec::new(), found };
    // A status is hangar's own, and a write of the rest must not fail for it.
    for (key, value) in fields.iter().filter(|(key, _)| *key != "status") {
        walk.field(key, value);
    }
    walk.found
}

fn invalid(field: String, message: String) -> Violation {
    Violation { field, reason: ViolationReason::Invalid, message }
}

/// Why a value is not text, without the value.
fn not_text(value: &Value) -> String {
    let what = match value {
        Value::Null => {
            return "it is null and must be text: put it in quotes, or leave it out".to_owned();
        }
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::Array(_) => return "it is a list and must be text".to_owned(),
        Value::Object(_) => return "it is an object and must be text".to_owned(),
        Value::String(_) => "text",
    };
    format!("it is {what} and must be text: put it in quotes")
}

/// Looks at every key and every text of an object.
struct Walk<'a> {
    place: Vec<Step<'a>>,
    found: Vec<Violation>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl<'a> Walk<'a> {
    fn field(&mut self, key: &'a str, value: &'a Value) {
        self.place.push(Step::Field(key));
        if let Some(control) = key.chars().find(|it| it.is_control()) {
            self.refuse("its name has", control);
        }
        // serde_json reads the text under such a key as JSON once more, past every check here.
        if key.starts_with("$serde_json::private::") {
            self.found.push(invalid(self.path(), "no field has such a name".to_owned()));
        }
        self.value(value);
        self.place.pop();
    }

    /// No deeper than the parsers of JSON and YAML allow.
    fn value(&mut self, value: &'a Value) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| self.field(key, value)),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.place.push(Step::Item(index));
                    self.value(item);
                    self.place.pop();
                }
            }
            Value::String(text) => {
                let lines = LINES.iter().any(|pattern| self.is_at(pattern));
                let fine = |c: char| !c.is_control() || (lines && matches!(c, '\n' | '\t'));
                if let Some(control) = text.chars().find(|it| !fine(*it)) {
                    self.refuse("it has", control);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn is_at(&self, pattern: &str) -> bool {
        let mut parts = pattern.split('.');
        let fits = |step: &Step<'_>| match (parts.next(), step) {
            (Some("*"), _) => true,
            (Some(part), Step::Field(key)) => part == *key,
            (Some(_) | None, _) => false,
        };
        self.place.iter().all(fits) && parts.next().is_none()
    }

    fn refuse(&mut self, has: &str, control: char) {
        let message = format!("{has} the control character U+{:04X}", u32::from(control));
        self.found.push(invalid(self.path(), message));
    }

    fn path(&self) -> String {
        let mut field = String::new();
        for step in &self.place {
            match step {
                Step::Field(key) if field.is_empty() => field.push_str(key),
                Step::Field(key) => field.extend([".", key]),
                Step::Item(index) => field.extend(["[", &index.to_string(), "]"]),
            }
        }
        field
    }
}
