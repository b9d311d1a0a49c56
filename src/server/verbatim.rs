//! A watch's line made of a stored object's own text, for whoever takes objects whole and all of them: there is one for every
//! change and every such watch, and reading an object only to write it again would be most of what they cost. It must never show
//! anything else than the long way does.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::store::Revision;

/// The fields of an object, each as it was written.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<(String, &RawValue)> = Vec::with_capacity(6);
        while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom("a field stands twice"));
            }
            fields.push((name, value));
        }
        Ok(Fields(fields))
    }
}

/// The line of an event; `None` where the text cannot be used as it is.
pub(super) fn line(kind_of_event: &str, value: &[u8], revision: Revision) -> Option<Bytes> {
    if memchr::memchr(b'\n', value).is_some() {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_slice(value);
    let Fields(fields) = (&mut reader).deserialize_map(InOrder).ok()?;
    reader.end().ok()?;
    let mut text = String::with_capacity(value.len() + 80);
    text.push_str("{\"type\":\"");
    text.push_str(kind_of_event);
    text.push_str("\",\"object\":{");
    let mut has_metadata = false;
    for (place, (name, value)) in fields.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(name).ok()?);
        text.push(':');
        if name == "metadata" {
            has_metadata = true;
            metadata(&mut text, value.get(), revision)?;
        } else {
            text.push_str(value.get());
        }
    }
    text.push_str("}}\n");
    has_metadata.then(|| text.into())
}

/// Metadata with the revision, which is never stored.
fn metadata(text: &mut String, value: &str, revision: Revision) -> Option<()> {
    let fields = value.strip_prefix('{')?;
    if value.contains("\"resourceVersion\"") {
        return None;
    }
    text.push_str("{\"resourceVersion\":\"");
    text.push_str(&revision.to_string());
    text.push('"');
    if fields.trim_start() != "}" {
        text.push(',');
    }
    text.push_str(fields);
    Some(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::server::view;

    #[track_caller]
    fn check(text: &str) {
        let line = line("MODIFIED", text.as_bytes(), Revision(17)).unwrap();
        assert_eq!(line.iter().filter(|it| **it == b'\n').count(), 1);
        assert_eq!(line.last(), Some(&b'\n'));
        let shown: Value = serde_json::from_slice(&line).unwrap();
        let object = view::with_revision(serde_json::from_str(text).unwrap(), Revision(17));
        assert_eq!(shown, json!({"type": "MODIFIED", "object": object}));
    }

    #[test]
    fn a_line_shows_what_the_long_way_shows() {
        check(r#"{"kind":"Environment","metadata":{"name":"a"},"spec":{"env":{"A":"\"}\\n{"}}}"#);
        check(r#"{"spec":{"metadata":{"name":"inner"}},"metadata":{}}"#);
        check(r#"{"met\u0061data":{ "uid":"u" },"\u0022odd":[1,{"a":null}]}"#);
    }

    #[test]
    fn what_is_not_plain_goes_the_long_way() {
        for text in [
            "{\"metadata\":{\n}}",
            r#"{"spec":{}}"#,
            r#"{"metadata":{"resourceVersion":"3"}}"#,
            r#"{"metadata":{},"metadata":{}}"#,
            r#"{"metadata":{}} x"#,
            "[]",
        ] {
            assert_eq!(line("ADDED", text.as_bytes(), Revision(1)), None, "{text}");
        }
    }
}
