//! What the API answers besides objects: lists, tables, watch events, refusals. Data only; it must never send
//! anything.

use reqwest::header::HeaderValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::api::meta::Resource;

/// Which objects of a kind, and how many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Label selector.
    pub labels: Option<String>,
    /// Field selector.
    pub fields: Option<String>,
}

impl Query {
    /// The one object of this name.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self { labels: None, fields: Some(format!("metadata.name={name}")) }
    }

    pub(super) fn pairs(&self) -> Vec<(&'static str, String)> {
        let labels = self.labels.iter().map(|it| ("labelSelector", it.clone()));
        let fields = self.fields.iter().map(|it| ("fieldSelector", it.clone()));
        labels.chain(fields).collect()
    }
}

/// Objects of one kind, and the revision at which that was so.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct List<T> {
    /// The list's own metadata.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    pub items: Vec<T>,
}

/// Metadata of a list or a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// From here a watch goes on.
    pub resource_version: String,
}

/// Objects as they are to be shown.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// The table's own metadata.
    pub metadata: ListMeta,
    /// Columns; in a watch only the first event has them.
    pub column_definitions: Vec<TableColumn>,
    /// One for each object.
    pub rows: Vec<TableRow>,
}

/// A column of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TableColumn {
    /// Heading.
    pub name: String,
    /// Above 0: shown only when much is wanted.
    pub priority: i32,
}

/// A row of a table.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct TableRow {
    /// One for each column.
    pub cells: Vec<Value>,
    /// The object's metadata, or all of it.
    pub object: Value,
}

/// A change of an object.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent<T> {
    /// It came, or was there when the watch began.
    Added(T),
    /// It changed.
    Modified(T),
    /// It went; this is how it was last.
    Deleted(T),
    /// Nothing, but from this revision the watch may be taken up again.
    Bookmark(String),
}

impl<T> WatchEvent<T> {
    /// The object, except of a bookmark.
    #[must_use]
    pub fn into_object(self) -> Option<T> {
        match self {
            Self::Added(object) | Self::Modified(object) | Self::Deleted(object) => Some(object),
            Self::Bookmark(_) => None,
        }
    }
}

/// What a watch may bring: a kind's type, any object, or rows to be shown.
pub trait Watched: DeserializeOwned {
    /// What is asked for.
    const ACCEPT: HeaderValue = HeaderValue::from_static("application/json");

    /// The revision from which a watch goes on after this.
    fn revision(&self) -> Option<&str>;
}

impl<T: Resource> Watched for T {
    fn revision(&self) -> Option<&str> {
        Some(&self.metadata().resource_version)
    }
}

impl Watched for Value {
    fn revision(&self) -> Option<&str> {
        self.get("metadata")?.get("resourceVersion")?.as_str()
    }
}

impl Watched for Table {
    const ACCEPT: HeaderValue =
        HeaderValue::from_static("application/json;as=Table;v=v1;g=meta.k8s.io,application/json");

    fn revision(&self) -> Option<&str> {
        self.rows.first()?.object.revision()
    }
}

/// An object that was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written<T> {
    /// As it is now.
    pub object: T,
    /// What the server remarked.
    pub warnings: Vec<String>,
}

/// How a deletion went.
#[derive(Debug, Clone, PartialEq)]
pub enum Deleted {
    /// The object is gone.
    Gone,
    /// It goes when its finalizers do; this is how it stands.
    Going(Value),
}

/// Why the server refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Status {
    /// For people.
    pub message: String,
    /// For programs.
    pub reason: String,
    /// HTTP status.
    pub code: u16,
    /// What it is about.
    pub details: Option<StatusDetails>,
}

/// What a refusal is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// Name of the object.
    pub name: String,
    /// Its kind, or the plural of it.
    pub kind: String,
    /// Each wrong field.
    pub causes: Vec<Cause>,
    /// Not before this.
    pub retry_after_seconds: Option<u64>,
}

/// A wrong field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// What sort of wrong.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Its dotted path.
    pub field: String,
}

impl Status {
    /// The message, or the reason where there is none.
    #[must_use]
    pub fn text(&self) -> String {
        match (self.message.is_empty(), self.reason.is_empty()) {
            (false, _) => self.message.clone(),
            (true, false) => self.reason.clone(),
            (true, true) => format!("the server answered {}", self.code),
        }
    }

    /// Each wrong field.
    #[must_use]
    pub fn causes(&self) -> &[Cause] {
        self.details.as_ref().map_or(&[], |it| &it.causes)
    }

    pub(super) fn retry_after(&self) -> Option<u64> {
        self.details.as_ref()?.retry_after_seconds
    }

    pub(super) fn hint(&self) -> Option<String> {
        let hint = match self.reason.as_str() {
            "Unauthorized" => {
                "HANGAR_TOKEN is not set, or its token is wrong, expired or revoked; the server's own is in admin.token of its data directory"
            }
            // With a cause it is about what a field says, and no repetition helps.
            "Conflict" if self.causes().is_empty() => {
                "somebody else changed it meanwhile: read it again and repeat"
            }
            "NotFound" if self.details.as_ref().is_some_and(|it| it.kind == "namespaces") => {
                "the namespace must be there first: apply a v1 Namespace, or choose another with -n"
            }
            "NotFound" if self.details.is_none() => {
                "the server does not know this request: is it of another version? See `hangar version`"
            }
            "NotFound" => "is it in another namespace? Try -n NAMESPACE, or `get -A`",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// The server's version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// `v1.32.0+hangar.0.1.0`.
    pub git_version: String,
}

/// An export of a store that the server wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Backup {
    /// Where, on the server's computer.
    pub file: String,
    /// The revision of the store.
    pub revision: u64,
    /// How many entries.
    pub entries: u64,
    /// The size of the file.
    pub bytes: u64,
}

/// The text of a `Warning: 299 - "…"` header.
pub(super) fn warning_text(header: &str) -> String {
    let text = header.splitn(3, ' ').nth(2).unwrap_or(header).trim();
    let inside = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    inside.map_or_else(|| text.to_owned(), |it| it.replace("\\\"", "\"").replace("\\\\", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_header_is_read_as_kubernetes_writes_it() {
        assert_eq!(warning_text(r#"299 - "unknown field \"spec.x\"""#), "unknown field \"spec.x\"");
        assert_eq!(warning_text("odd"), "odd");
    }
}
