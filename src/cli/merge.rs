//! What `apply` sends: the three-way merge of kubectl's client-side apply, as a JSON merge patch. Pure; it must stay such
//! that kubectl and hangar may be used on the same object in turns.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::{api::kind::Kind, cli::go_json};

/// The annotation in which kubectl, and so hangar, keeps what was last applied.
pub(super) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manifest as it is sent: without what only the server writes, with the annotation that remembers it.
pub(super) fn prepared(kind: Kind, manifest: &Value) -> Value {
    let mut object = manifest.clone();
    if kind.info().has_status {
        remove(&mut object, "status");
    }
    if let Some(annotations) = object.pointer_mut("/metadata/annotations") {
        remove(annotations, LAST_APPLIED);
    }
    if kind == Kind::Secret {
        encode_text(&mut object);
    }
    let mut remembered = object.clone();
    if kind == Kind::Secret {
        // Names are enough to see later what was taken out; values do not belong into metadata.
        for value in
            remembered.pointer_mut("/data").and_then(Value::as_object_mut).into_iter().flatten()
        {
            *value.1 = json!("");
        }
    }
    annotate(&mut object, written_as_kubectl_does(remembered));
    object
}

/// Letter for letter: where it differed, each of the two would change the object after the other.
fn written_as_kubectl_does(mut remembered: Value) -> String {
    if let Some(metadata) = remembered.get_mut("metadata").and_then(Value::as_object_mut)
        && metadata.get("annotations").is_none_or(Value::is_null)
    {
        metadata.insert("annotations".to_owned(), json!({}));
    }
    go_json::line(&remembered) + "\n"
}

fn remove(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        // Not `swap_remove`: the order of what is left is what a person wrote.
        fields.shift_remove(field);
    }
}

/// A Secret's `stringData` as `data`, as the server keeps it: otherwise it would differ at every apply.
fn encode_text(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    let Some(Value::Object(text)) = fields.shift_remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
    let Some(data) = data.as_object_mut() else { return };
    for (key, value) in text {
        let value = match value {
            Value::String(text) => {
                Value::String(base64::engine::general_purpose::STANDARD.encode(text))
            }
            other => other,
        };
        data.insert(key, value);
    }
}

fn annotate(object: &mut Value, text: String) {
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(LAST_APPLIED.to_owned(), Value::String(text));
    }
}

/// What was last applied to the object as it is now; nothing if it was not made by an apply.
pub(super) fn last_applied(current: &Value) -> Value {
    current
        .pointer("/metadata/annotations")
        .and_then(|it| it.get(LAST_APPLIED))
        .and_then(Value::as_str)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| json!({}))
}

/// The merge patch that brings `current` to `modified`: sets what differs, and takes out what `original` (last applied) had
/// and `modified` no longer has. What somebody else set stays. Empty if there is nothing to do.
pub(super) fn three_way(original: &Value, modified: &Value, current: &Value) -> Map<String, Value> {
    let none = Map::new();
    let fields = |value: &Value| value.as_object().cloned();
    merge(
        original.as_object().unwrap_or(&none),
        &fields(modified).unwrap_or_default(),
        current.as_object().unwrap_or(&none),
    )
}

fn merge(
    original: &Map<String, Value>,
    modified: &Map<String, Value>,
    current: &Map<String, Value>,
) -> Map<String, Value> {
    let none = Map::new();
    let mut patch = Map::new();
    for (key, wanted) in modified {
        match (wanted, current.get(key)) {
            // An explicit null takes the field out.
            (Value::Null, None | Some(Value::Null)) => {}
            (Value::Object(wanted), Some(Value::Object(found))) => {
                let before = original.get(key).and_then(Value::as_object).unwrap_or(&none);
                let inside = merge(before, wanted, found);
                if !inside.is_empty() {
                    patch.insert(key.clone(), Value::Object(inside));
                }
            }
            // Lists are replaced as a whole, as in any merge patch.
            (wanted, Some(found)) if wanted == found => {}
            (wanted, _) => {
                patch.insert(key.clone(), wanted.clone());
            }
        }
    }
    for key in original.keys() {
        if !modified.contains_key(key) && current.contains_key(key) {
            patch.insert(key.clone(), Value::Null);
        }
    }
    patch
}

/// The object without fields that are null: what a merge patch onto nothing makes of it.
pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), without_nulls(value)))
            .collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(original: Value, modified: Value, current: Value, expected: Value) {
        let patch = Value::Object(three_way(&original, &modified, &current));
        assert_eq!(patch, expected);
    }

    #[test]
    fn what_is_the_same_is_not_sent() {
        check(json!({"a": 1}), json!({"a": 1}), json!({"a": 1, "status": {}}), json!({}));
        check(json!({}), json!({"a": {"b": [1]}}), json!({"a": {"b": [1], "c": 2}}), json!({}));
    }

    #[test]
    fn a_field_that_is_no_longer_declared_is_taken_out() {
        let (original, current) =
            (json!({"s": {"a": 1, "b": 2}}), json!({"s": {"a": 1, "b": 2, "c": 3}}));
        check(original.clone(), json!({"s": {"a": 1}}), current.clone(), json!({"s": {"b": null}}));
        check(original.clone(), json!({}), current, json!({"s": null}));
        check(original, json!({"s": {"a": 1}}), json!({"s": {"a": 1}}), json!({}));
    }

    #[test]
    fn what_somebody_else_set_stays() {
        check(
            json!({"s": {"a": 1}}),
            json!({"s": {"a": 2}}),
            json!({"s": {"a": 1, "x": 9}}),
            json!({"s": {"a": 2}}),
        );
    }

    #[test]
    fn drift_of_a_declared_field_is_put_right() {
        check(json!({"a": 1}), json!({"a": 1}), json!({"a": 5}), json!({"a": 1}));
        check(json!({"a": 1}), json!({"a": 1}), json!({}), json!({"a": 1}));
    }

    #[test]
    fn lists_are_replaced_whole() {
        check(
            json!({"l": [1, 2]}),
            json!({"l": [2, 3]}),
            json!({"l": [1, 2]}),
            json!({"l": [2, 3]}),
        );
    }

    #[test]
    fn null_takes_a_field_out() {
        check(json!({}), json!({"a": null, "b": null}), json!({"a": 1}), json!({"a": null}));
        assert_eq!(
            without_nulls(&json!({"a": null, "b": {"c": null}, "d": [null]})),
            json!({"b": {}, "d": [null]})
        );
    }

    #[test]
    fn types_may_change() {
        check(json!({}), json!({"a": {"b": 1}}), json!({"a": 1}), json!({"a": {"b": 1}}));
        check(json!({"a": {"b": 1}}), json!({"a": 1}), json!({"a": {"b": 1}}), json!({"a": 1}));
    }

    #[test]
    fn a_manifest_is_sent_with_what_it_was() {
        let manifest = json!({
            "kind": "Environment",
            "metadata": {"name": "a", "annotations": {LAST_APPLIED: "old", "x": "y"}},
            "spec": {"b": 1},
            "status": {"phase": "Ready"},
        });
        let sent = prepared(Kind::Environment, &manifest);
        assert_eq!(sent.get("status"), None);
        assert_eq!(sent["metadata"]["annotations"]["x"], "y");
        let remembered = last_applied(&sent);
        assert_eq!(remembered["spec"], json!({"b": 1}));
        assert_eq!(remembered["metadata"]["annotations"], json!({"x": "y"}));
        assert_eq!(
            three_way(&remembered, &prepared(Kind::Environment, &manifest), &sent),
            Map::new()
        );
    }

    /// Taken from what kubectl 1.33 wrote.
    #[test]
    fn what_was_applied_is_remembered_letter_for_letter_as_kubectl_writes_it() {
        let manifest = json!({
            "kind": "Environment", "apiVersion": "hangar.dev/v1alpha1",
            "spec": {"env": {"A": "a <b> && c \"\u{2028} é"}},
            "metadata": {"name": "a", "annotations": null},
        });
        let sent = prepared(Kind::Environment, &manifest);
        let expected = concat!(
            r#"{"apiVersion":"hangar.dev/v1alpha1","kind":"Environment","metadata":{"annotations":{},"name":"a"},"#,
            r#""spec":{"env":{"A":"a \u003cb\u003e \u0026\u0026 c \"\u2028 é"}}}"#,
            "\n"
        );
        assert_eq!(sent["metadata"]["annotations"][LAST_APPLIED], expected);
    }

    #[test]
    fn a_secrets_values_are_sent_and_not_remembered() {
        let manifest = json!({"metadata": {"name": "a"}, "data": {"old": "b2xk"}, "stringData": {"key": "hunter2"}});
        let sent = prepared(Kind::Secret, &manifest);
        assert_eq!(sent["data"], json!({"old": "b2xk", "key": "aHVudGVyMg=="}));
        assert_eq!(last_applied(&sent)["data"], json!({"old": "", "key": ""}));
        let text = sent["metadata"].to_string();
        assert!(!text.contains("hunter2") && !text.contains("aHVudGVyMg"), "{text}");
        let without =
            prepared(Kind::Secret, &json!({"metadata": {"name": "a"}, "data": {"old": "b2xk"}}));
        assert_eq!(three_way(&last_applied(&sent), &without, &sent)["data"], json!({"key": null}));
    }
}
