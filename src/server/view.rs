//! How objects look in answers: whole, their metadata alone, or rows of a table. It must never show a secret's values in
//! anything but the whole object.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::kind::{Form, Info, Kind};
use crate::server::{call::Include, status::Status};
use crate::store::Revision;

/// A form that the caller can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// As it is, or as another group has it.
    Whole(Option<&'static Form>),
    /// `PartialObjectMetadata`.
    Partial,
    /// `Table`, whose rows carry so much of their object.
    Table(Include),
}

/// kubectl keeps what was applied here, a secret's values among it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl View {
    /// The first form in an `Accept` header that hangar has.
    pub(super) fn choose(accept: Option<&str>, include: Include) -> Result<Self, Status> {
        let accept = accept.unwrap_or_default();
        if accept.trim().is_empty() {
            return Ok(Self::Whole(None));
        }
        accept
            .split(',')
            .find_map(|range| Self::of_range(range, include))
            .ok_or_else(Status::not_acceptable)
    }

    fn of_range(range: &str, include: Include) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
            return None;
        }
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |key| parameters.iter().find(|(it, _)| *it == key).map(|(_, it)| *it);
        match parameter("as") {
            None => Some(Self::Whole(None)),
            Some(_) if parameter("g") != Some("meta.k8s.io") => None,
            Some("Table") => Some(Self::Table(include)),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Self::Partial),
            Some(_) => None,
        }
    }

    /// The same, with whole objects as a group has them.
    pub(super) fn of_form(self, form: Option<&'static Form>) -> Self {
        if matches!(self, Self::Whole(_)) { Self::Whole(form) } else { self }
    }

    /// One object.
    pub(super) fn one(self, kind: Kind, object: Value, now: Timestamp) -> Value {
        if !matches!(self, Self::Table(_)) {
            return self.item(kind, object, now);
        }
        let revision = object.pointer("/metadata/resourceVersion").cloned();
        let (mut table, rows) = self.list(kind, &json!({"resourceVersion": revision}));
        table[rows] = json!([self.item(kind, object, now)]);
        table
    }

    /// A list without its objects, and the name of the field that they go into.
    pub(super) fn list(self, kind: Kind, metadata: &Value) -> (Value, &'static str) {
        let info = kind.info();
        match self {
            Self::Whole(form) => {
                let version = form.map_or_else(|| info.api_version(), Form::api_version);
                let name = format!("{}List", info.kind_name);
                (json!({"kind": name, "apiVersion": version, "metadata": metadata}), "items")
            }
            Self::Partial => {
                let name = "PartialObjectMetadataList";
                let list =
                    json!({"kind": name, "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
                (list, "items")
            }
            Self::Table(_) => {
                let list = json!({
                    "kind": "Table",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": metadata,
                    "columnDefinitions": columns(info),
                });
                (list, "rows")
            }
        }
    }

    /// An object of a list.
    pub(super) fn item(self, kind: Kind, object: Value, now: Timestamp) -> Value {
        match self {
            Self::Whole(form) => in_form(form, object),
            Self::Partial => partial(kind, &object),
            Self::Table(include) => row(kind, &object, include, now),
        }
    }

    /// What a watch's bookmark carries.
    pub(super) fn bookmark(self, kind: Kind, revision: Revision, end_of_initial: bool) -> Value {
        let info = kind.info();
        let mut metadata =
            json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if end_of_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self {
            Self::Whole(form) => {
                let version = form.map_or_else(|| info.api_version(), Form::api_version);
                json!({"kind": info.kind_name, "apiVersion": version, "metadata": metadata})
            }
            Self::Partial => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            }),
            Self::Table(_) => {
                let object = json!({
                    "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                });
                json!({
                    "kind": "Table",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": {"resourceVersion": revision.to_string()},
                    "columnDefinitions": [],
                    "rows": [{"cells": [], "object": object}],
                })
            }
        }
    }
}

/// A stored object with the revision that everybody outside knows it by.
pub(super) fn with_revision(mut object: Value, revision: Revision) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    }
    object
}

fn in_form(form: Option<&Form>, object: Value) -> Value {
    match form {
        Some(form) => form.show(object),
        None => object,
    }
}

fn partial(kind: Kind, object: &Value) -> Value {
    let mut metadata = object.get("metadata").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    if kind == Kind::Secret
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.shift_remove(LAST_APPLIED);
    }
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
}

fn row(kind: Kind, object: &Value, include: Include, now: Timestamp) -> Value {
    let name = object.pointer("/metadata/name").cloned().unwrap_or_default();
    let mut cells = vec![name];
    cells.extend(kind.info().columns.iter().map(|it| Value::String(it.cell.text(object, now))));
    let mut row = json!({"cells": cells});
    match include {
        Include::None => {}
        Include::Metadata => {
            row["object"] = partial(kind, object);
            // Whoever shows a table shows no owners, and they are longer than the rest.
            row["object"]["metadata"].as_object_mut().map(|it| it.shift_remove("managedFields"));
        }
        // Even on demand, a table is no place for values.
        Include::Object if kind == Kind::Secret => row["object"] = partial(kind, object),
        Include::Object => row["object"] = object.clone(),
    }
    row
}

fn columns(info: &Info) -> Value {
    let mut columns = vec![json!({
        "name": "Name", "type": "string", "format": "name", "description": "Name", "priority": 0,
    })];
    columns.extend(info.columns.iter().map(|it| {
        json!({
            "name": it.name, "type": "string", "format": "", "description": it.about,
            "priority": u8::from(it.wide),
        })
    }));
    Value::Array(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_hangar_has_is_taken() {
        let check = |accept: &str, expected: Option<View>| {
            assert_eq!(View::choose(Some(accept), Include::Metadata).ok(), expected, "{accept}");
        };
        check("", Some(View::Whole(None)));
        check("*/*", Some(View::Whole(None)));
        check("application/vnd.kubernetes.protobuf, */*", Some(View::Whole(None)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            Some(View::Table(Include::Metadata)),
        );
        check(
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            Some(View::Partial),
        );
        check(
            "application/json;as=Other;g=x, application/json;profile=nopeer",
            Some(View::Whole(None)),
        );
        check("application/vnd.kubernetes.protobuf", None);
    }

    #[test]
    fn a_secrets_row_carries_no_values() {
        let secret = json!({
            "metadata": {"name": "s", "annotations": {LAST_APPLIED: "{\"data\":\"canary\"}"}},
            "data": {"k": "canary"},
        });
        let view = View::Table(Include::Object);
        let table = view.one(Kind::Secret, secret, Timestamp::UNIX_EPOCH).to_string();
        assert!(!table.contains("canary"), "{table}");
    }
}
