//! JSON letter for letter as kubectl, a Go program, writes it. It must never change what the text means.

use serde::Serialize as _;
use serde_json::{Serializer, Value, ser::PrettyFormatter};

/// What Go escapes though JSON does not ask for it. It is in strings only.
const ESCAPED: [(char, &str); 5] = [
    ('<', "\\u003c"),
    ('>', "\\u003e"),
    ('&', "\\u0026"),
    ('\u{2028}', "\\u2028"),
    ('\u{2029}', "\\u2029"),
];

/// In one line.
pub(super) fn line(value: &Value) -> String {
    escaped(sorted(value).to_string())
}

/// In many lines, for people.
pub(super) fn indented(value: &Value) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let format = PrettyFormatter::with_indent(b"    ");
    sorted(value).serialize(&mut Serializer::with_formatter(&mut bytes, format))?;
    Ok(escaped(String::from_utf8(bytes)?))
}

/// With the fields of all objects in order.
pub(super) fn sorted(value: &Value) -> Value {
    let mut value = value.clone();
    value.sort_all_objects();
    value
}

fn escaped(text: String) -> String {
    ESCAPED.iter().fold(text, |text, (plain, escaped)| text.replace(*plain, escaped))
}
