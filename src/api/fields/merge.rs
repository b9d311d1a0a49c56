//! An applied configuration put into an object, and what its manager no longer applies taken out. It must never touch what the
//! configuration does not mention and its manager does not own.

use serde_json::Value;

use crate::api::fields::{Element, Set, Shape};

/// The object with every field of the configuration. A list's items keep the object's places, as far as the configuration has no
/// other order for those that it names.
#[must_use]
pub fn merge(shape: &Shape, object: &Value, configuration: &Value) -> Value {
    if let (Some(fields), Some(applied)) = (shape.fields(object), shape.fields(configuration)) {
        let mut fields = fields.clone();
        for (key, value) in applied {
            let merged = match fields.get(key) {
                Some(old) => merge(shape.under(key), old, value),
                None => value.clone(),
            };
            fields.insert(key.clone(), merged);
        }
        return Value::Object(fields);
    }
    match (shape.items(object), shape.items(configuration)) {
        (Some(items), Some(applied)) => Value::Array(lists(shape, &items, &applied)),
        _ => configuration.clone(),
    }
}

fn lists(shape: &Shape, items: &[(Element, &Value)], applied: &[(Element, &Value)]) -> Vec<Value> {
    let is_applied = |element: &Element| applied.iter().any(|(it, _)| it == element);
    let mut merged = Vec::new();
    let mut done: Vec<&Element> = Vec::new();
    let mut rest = items.iter().peekable();
    for (element, value) in applied {
        while let Some((other, kept)) =
            rest.next_if(|(other, _)| !is_applied(other) || done.contains(&other))
        {
            if !is_applied(other) {
                merged.push((*kept).clone());
            }
        }
        let old = items.iter().find(|(it, _)| it == element);
        merged.push(old.map_or_else(|| (*value).clone(), |old| merge(shape.item(), old.1, value)));
        done.push(element);
    }
    merged.extend(rest.filter(|(it, _)| !is_applied(it)).map(|(_, kept)| (*kept).clone()));
    merged
}

/// Takes out of an object what its manager applied before (`last`) and nobody, the manager's new configuration included, has in
/// `owned`. An object or item of which nobody owns a part goes with all that is in it; of `metadata`, which others than
/// managers write too, only what the manager owned goes.
pub fn prune(shape: &Shape, object: &mut Value, last: &Set, owned: &Set) {
    let element = Element::field("metadata");
    if let (Some(metadata), Some(last)) = (object.get_mut("metadata"), last.get(&element)) {
        let owned = owned.get(&element).map(|it| it.below.clone()).unwrap_or_default();
        inside(shape.under("metadata"), metadata, (&last.below, &owned), true);
    }
    let mut last = last.clone();
    last.forget(&["metadata"]);
    inside(shape, object, (&last, owned), false);
}

/// The same for what is inside a value. Fields of an `open` one that hold others stay.
fn inside(shape: &Shape, value: &mut Value, (last, owned): (&Set, &Set), open: bool) {
    let nothing = Set::default();
    let elements = shape.items(value);
    let elements: Option<Vec<_>> =
        elements.map(|it| it.into_iter().map(|(element, _)| element).collect());
    // Whether it goes; if not, what is inside it is looked at.
    let goes = |element: &Element, inner: &Shape, value: &mut Value, is_named: bool| {
        let Some(last) = last.get(element) else { return false };
        let owned = owned.get(element);
        if owned.is_none() && (last.is_member || is_named) {
            return true;
        }
        inside(inner, value, (&last.below, owned.map_or(&nothing, |it| &it.below)), false);
        false
    };
    if shape.fields(value).is_some()
        && let Value::Object(fields) = value
    {
        fields.retain(|key, value| {
            let is_named = !open && shape.names(key);
            !goes(&Element::field(key), shape.under(key), value, is_named)
        });
    } else if let (Some(elements), Value::Array(items)) = (elements, value) {
        let mut elements = elements.iter();
        items.retain_mut(|item| {
            elements.next().is_none_or(|element| !goes(element, shape.item(), item, false))
        });
    }
}
