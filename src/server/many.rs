//! Many objects in one answer, each written as soon as it is there: as values all objects of a large list would take many times
//! their text. It must never know what a list is about.

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::{json, kind::Kind};
use crate::server::view::View;

/// A list that is being written.
pub(super) struct Many {
    view: View,
    kind: Kind,
    now: Timestamp,
    /// The objects so far, with a comma before each.
    text: String,
}

impl Many {
    /// An empty one.
    pub(super) fn new(view: View, kind: Kind, now: Timestamp) -> Self {
        Self { view, kind, now, text: String::new() }
    }

    /// Adds an object as callers see it.
    pub(super) fn add(&mut self, object: Value) {
        self.text.push(',');
        self.text.push_str(&json::text(&self.view.item(self.kind, object, self.now)));
    }

    /// The whole list.
    pub(super) fn end(self, metadata: &Value) -> Bytes {
        let (list, field) = self.view.list(self.kind, metadata);
        let list = json::text(&list);
        let head = list.strip_suffix('}').unwrap_or(&list);
        let objects = self.text.strip_prefix(',').unwrap_or_default();
        format!("{head},\"{field}\":[{objects}]}}").into()
    }
}
