//! Manifests: text to objects that may be stored.

use hangar::api::{
    admit::{self, Admitted},
    json,
    manifest::{self, Document},
};
use serde_json::Value;

/// Reads the text, admits what is in it, and looks at what came of it.
///
/// # Panics
/// If a property does not hold.
pub(crate) fn check(bytes: &[u8]) {
    // The server's other door reads JSON.
    if let Ok(value) = json::parse(bytes) {
        let again = json::parse(value.to_string().as_bytes()).expect("what was written is read");
        assert!(has_float(&value) || again == value, "JSON changes when it is written");
        admitted(&value);
    }
    let documents = match manifest::parse(bytes) {
        Ok(documents) => documents,
        Err(error) => {
            assert!(error.line >= 1 && error.document >= 1, "nowhere: {error:?}");
            return;
        }
    };
    let text = std::str::from_utf8(bytes).expect("what was read is text");
    let lines = text.split('\n').count();
    for document in &documents {
        placed(document, lines);
        admitted(&document.value);
        // JSON is YAML: what both doors take is the same.
        let written = document.value.to_string();
        if let Ok(again) = manifest::parse(&written)
            && !has_float(&document.value)
            && document.value.get("kind").is_none_or(|it| it != "List")
        {
            assert_eq!(again.len(), 1);
            assert_eq!(again[0].value, document.value, "YAML and JSON differ");
        }
    }
}

/// Each field is on a line of the text.
fn placed(document: &Document, lines: usize) {
    assert!(document.value.is_object(), "a document is an object");
    let mut todo = vec![(String::new(), &document.value)];
    while let Some((path, value)) = todo.pop() {
        let line = document.line_of(&path);
        assert!((1..=lines).contains(&line), "`{path}` is on line {line} of {lines}");
        match value {
            Value::Object(fields) => {
                todo.extend(fields.iter().map(|(key, value)| (format!("{path}.{key}"), value)));
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                todo.extend(items.map(|(index, value)| (format!("{path}[{index}]"), value)));
            }
            _ => {}
        }
    }
}

/// What is admitted is admitted again unchanged, and holds nothing that a terminal or a variable cannot have.
fn admitted(value: &Value) {
    let Ok(kind) = manifest::kind_of(value) else { return };
    match admit::admit(kind, value.clone(), None) {
        Ok(Admitted { object, .. }) => {
            let again = admit::admit(kind, object.clone(), Some(&object)).expect("it was admitted");
            assert_eq!(again.object, object, "defaults are not filled at once");
            assert!(admit::check_text(kind, &object).is_empty());
            let controls = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
            let mut text = object.clone();
            text.as_object_mut().expect("an object").remove("status");
            // As JSON, DEL and what follows it stand for themselves, and the rest is an escape.
            assert!(!text.to_string().contains(controls), "control characters came through");
            for pointer in ["/spec/env", "/spec/machine/env", "/metadata/labels"] {
                let map = object.pointer(pointer).and_then(Value::as_object);
                assert!(map.is_none_or(|it| it.values().all(Value::is_string)), "{pointer}");
            }
        }
        Err(violations) => assert!(!violations.is_empty(), "refused, and nobody knows why"),
    }
}

/// serde_json writes some numbers so that it reads others.
fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        _ => false,
    }
}
