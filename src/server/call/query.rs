//! A request's query, and the options of each sort of call in it. It must never know which path they came with.

use crate::api::{
    kind::Kind,
    meta::ObjectRef,
    selector::{Fields, Labels},
};
use crate::server::{
    call::{
        FieldValidation, Include, ListOptions, LogOptions, MANAGER_BYTES_MAX, NoCall, Scope,
        Selection, Start, WatchOptions, WriteOptions, Writer,
    },
    removal::Propagation,
};

/// Lines of the log that are given when no number is asked for.
const LOG_LINES_DEFAULT: usize = 1_000;

/// A query's parameters. Unknown ones are ignored, and so are empty ones (`?&a=b`).
pub(in crate::server) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes());
        Self(pairs.map(|(key, value)| (key.into_owned(), value.into_owned())).collect())
    }

    /// Every value of a parameter, empty ones too.
    pub(in crate::server) fn all(&self, key: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(it, _)| it == key);
        values.map(|(_, value)| value.clone()).collect()
    }

    pub(in crate::server) fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(it, _)| it == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub(in crate::server) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | "True"))
    }

    pub(in crate::server) fn number(&self, key: &'static str) -> Result<Option<u64>, NoCall> {
        let Some(text) = self.get(key) else { return Ok(None) };
        let wrong = |_| NoCall::Bad(format!("`{key}` must be a number, and `{text}` is not"));
        text.parse().map(Some).map_err(wrong)
    }

    fn selection(&self, scope: &Scope) -> Result<Selection, NoCall> {
        let labels = Labels::parse(self.get("labelSelector").unwrap_or_default());
        let fields = self.get("fieldSelector").unwrap_or_default();
        let fields = Fields::parse(fields, scope.kind.info(), scope.form);
        Ok(Selection { labels: labels.map_err(NoCall::Bad)?, fields: fields.map_err(NoCall::Bad)? })
    }

    fn include(&self) -> Result<Include, NoCall> {
        match self.get("includeObject") {
            None | Some("Metadata") => Ok(Include::Metadata),
            Some("None") => Ok(Include::None),
            Some("Object") => Ok(Include::Object),
            Some(other) => Err(NoCall::Bad(format!(
                "`includeObject` is None, Metadata or Object, and not `{other}`"
            ))),
        }
    }

    pub(super) fn list(&self, scope: &Scope) -> Result<ListOptions, NoCall> {
        Ok(ListOptions {
            select: self.selection(scope)?,
            limit: usize::try_from(self.number("limit")?.unwrap_or(0)).unwrap_or(usize::MAX),
            after: self.get("continue").map(str::to_owned),
            revision: self.number("resourceVersion")?.filter(|&revision| revision > 0),
            exact: self.get("resourceVersionMatch") == Some("Exact"),
            include: self.include()?,
        })
    }

    pub(super) fn watch(&self, scope: &Scope) -> Result<WatchOptions, NoCall> {
        let revision = self.number("resourceVersion")?.filter(|&revision| revision > 0);
        let not_older = match self.get("resourceVersionMatch") {
            None => false,
            Some("NotOlderThan") => true,
            Some(_) => {
                return Err(NoCall::Forbidden(
                    "resourceVersionMatch",
                    "only NotOlderThan goes with a watch",
                ));
            }
        };
        let start = match (self.get("sendInitialEvents"), not_older) {
            (None, true) => {
                return Err(NoCall::Forbidden(
                    "resourceVersionMatch",
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (Some(_), false) => {
                return Err(NoCall::Forbidden(
                    "resourceVersionMatch",
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            (Some(_), true) if self.flag("sendInitialEvents") => Start::ExistingThenBookmark,
            (Some(_), true) => Start::After(revision),
            (None, false) if revision.is_some() => Start::After(revision),
            (None, false) => Start::Existing,
        };
        Ok(WatchOptions {
            select: self.selection(scope)?,
            start,
            bookmarks: self.flag("allowWatchBookmarks"),
            timeout_seconds: self.number("timeoutSeconds")?.filter(|&seconds| seconds > 0),
            include: self.include()?,
        })
    }

    pub(super) fn write(&self) -> Result<WriteOptions, NoCall> {
        let dry_run = match self.get("dryRun") {
            None => false,
            Some("All") => true,
            Some(other) => {
                return Err(NoCall::Bad(format!("`dryRun` can only be All, and not `{other}`")));
            }
        };
        let validation = match self.get("fieldValidation") {
            None => FieldValidation::Unsaid,
            Some("Strict") => FieldValidation::Strict,
            Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some(other) => {
                return Err(NoCall::Bad(format!(
                    "`fieldValidation` is Strict, Warn or Ignore, and not `{other}`"
                )));
            }
        };
        let propagation = match self.get("propagationPolicy") {
            None => None,
            Some(text) => Some(Propagation::parse(text).ok_or_else(|| {
                NoCall::Bad(format!(
                    "`propagationPolicy` is Background, Foreground or Orphan, and not `{text}`"
                ))
            })?),
        };
        Ok(WriteOptions { dry_run, validation, propagation, writer: self.writer()? })
    }

    fn writer(&self) -> Result<Writer, NoCall> {
        let name = self.get("fieldManager").unwrap_or_default().to_owned();
        if name.len() > MANAGER_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(NoCall::Bad(format!(
                "`fieldManager` must be printable and have at most {MANAGER_BYTES_MAX} bytes"
            )));
        }
        let force = self.get("force").map(|_| self.flag("force"));
        Ok(Writer { is_named: !name.is_empty(), name, force, ..Writer::default() })
    }

    pub(super) fn log(&self) -> Result<LogOptions, NoCall> {
        let limit = self.number("limit")?.and_then(|limit| usize::try_from(limit).ok());
        Ok(LogOptions {
            object: self.get("object").map(shown),
            limit: limit.unwrap_or(LOG_LINES_DEFAULT),
            follow: self.flag("follow"),
        })
    }
}

/// An object as the log names it: `environments/alice` and `Env/default/alice` are `env/alice` there.
fn shown(text: &str) -> String {
    let mut parts = text.splitn(2, '/');
    let kind = parts.next().and_then(Kind::from_word);
    let (Some(kind), Some(rest)) = (kind, parts.next()) else { return text.to_owned() };
    let (namespace, name) = rest.split_once('/').unwrap_or(("default", rest));
    ObjectRef::new(kind, namespace, name).to_string()
}
