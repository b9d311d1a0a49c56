//! Which paths a value has, and which paths differ between two. It must never change a value.

use serde_json::Value;

use crate::api::fields::{Element, Set, Shape, set::Node};

/// How one value differs from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Paths that only the new one has, those of whole objects among them.
    pub added: Set,
    /// Paths whose values differ.
    pub modified: Set,
    /// Paths that only the old one has.
    pub removed: Set,
}

/// The paths that whoever applies this value owns: its leaves, and the items of its lists and maps.
#[must_use]
pub fn applied(shape: &Shape, value: &Value) -> Set {
    below(shape, value, false)
}

/// Paths inside a value. `whole` adds those of objects that only hold others.
fn below(shape: &Shape, value: &Value, whole: bool) -> Set {
    let mut set = Set::default();
    if let Some(fields) = shape.fields(value) {
        for (key, value) in fields {
            let inner = shape.under(key);
            let is_empty = value.is_null() || value.as_object().is_some_and(|it| it.is_empty());
            let is_leaf = inner.fields(value).is_none() && inner.items(value).is_none();
            let is_member = whole || is_leaf || is_empty || !shape.names(key);
            set.put(Element::field(key), Node { is_member, below: below(inner, value, whole) });
        }
    } else if let Some(items) = shape.items(value) {
        for (element, item) in items {
            let below = below(shape.item(), item, whole);
            set.put(element, Node { is_member: true, below });
        }
    }
    set
}

/// How an object differs from what it was.
#[must_use]
pub fn compare(shape: &Shape, old: &Value, new: &Value) -> Changes {
    let mut changes = Changes::default();
    if old == new {
        return changes;
    }
    let empty = serde_json::Map::new();
    match (shape.fields(old), shape.fields(new)) {
        (None, None) => {}
        (old, new) => {
            let (old, new) = (old.unwrap_or(&empty), new.unwrap_or(&empty));
            for key in old.keys().chain(new.keys().filter(|it| !old.contains_key(*it))) {
                let inner = shape.under(key);
                changes.step(Element::field(key), inner, (old.get(key), new.get(key)));
            }
            return changes;
        }
    }
    let (old, new) = (shape.items(old).unwrap_or_default(), shape.items(new).unwrap_or_default());
    let find = |list: &[(Element, &'_ Value)], element: &Element| {
        list.iter().position(|(it, _)| it == element)
    };
    for (element, value) in &old {
        let other = find(&new, element).map(|at| new[at].1);
        changes.step(element.clone(), shape.item(), (Some(value), other));
    }
    for (element, value) in new.iter().filter(|(element, _)| find(&old, element).is_none()) {
        changes.step(element.clone(), shape.item(), (None, Some(value)));
    }
    changes
}

impl Changes {
    /// Notes how the value at one step differs.
    fn step(&mut self, element: Element, shape: &Shape, values: (Option<&Value>, Option<&Value>)) {
        let whole = |value| Node { is_member: true, below: below(shape, value, true) };
        match values {
            (None, None) => {}
            (Some(old), None) => self.removed.put(element, whole(old)),
            (None, Some(new)) => self.added.put(element, whole(new)),
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(new)) => {
                let is_map = |it: &Value| shape.fields(it).is_some_and(|it| !it.is_empty());
                let both_maps = shape.fields(old).is_some()
                    && shape.fields(new).is_some()
                    && (is_map(old) || is_map(new));
                let both_lists = shape.items(old).is_some() && shape.items(new).is_some();
                let inner = compare(shape, old, new);
                let is_member = !both_maps && !both_lists;
                self.modified.put(element.clone(), Node { is_member, below: inner.modified });
                self.added.put(element.clone(), Node { is_member: false, below: inner.added });
                self.removed.put(element, Node { is_member: false, below: inner.removed });
            }
        }
    }
}
