//! Deleting one object: marked while a finalizer keeps it, gone otherwise. The collector deletes by the same rule. It must
//! never remove what a finalizer keeps.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{kind::Kind, meta::ObjectRef};
use crate::server::{
    claims, draft,
    status::{self, Status},
    view,
    write::{self, ATTEMPTS_MAX},
};
use crate::store::{self, Precondition, Revision, handle::Store};

/// What a caller says about a deletion. `gracePeriodSeconds` is taken and changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    /// What must be true of the object.
    preconditions: Option<Preconditions>,
    /// What becomes of what names the object as its owner.
    propagation_policy: Option<Propagation>,
    /// `All`: do everything but the write.
    dry_run: Option<Vec<String>>,
}

/// What becomes of what names a deleted object as its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Propagation {
    /// It is deleted afterwards.
    Background,
    /// It is deleted, and the object after it.
    Foreground,
    /// It stays, and names the object no more.
    Orphan,
}

impl Propagation {
    /// By its name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_value(Value::from(text)).ok()
    }

    /// What keeps the object until that was done.
    pub(super) fn finalizer(self) -> Option<&'static str> {
        match self {
            Self::Background => None,
            Self::Foreground => Some("foregroundDeletion"),
            Self::Orphan => Some("orphan"),
        }
    }
}

/// What must be true of an object that is deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl Options {
    /// Reads a body, which may be empty.
    pub(super) fn read(body: &[u8], dry_run: bool) -> Result<Self, Status> {
        let mut options: Self = match body {
            [] => Self::default(),
            body => serde_json::from_slice(body)
                .map_err(|_| Status::bad_request("the body is not a DeleteOptions in JSON"))?,
        };
        if dry_run {
            options.dry_run = Some(vec!["All".to_owned()]);
        }
        Ok(options)
    }

    /// With what the query says where the body says nothing.
    pub(super) fn or(mut self, propagation: Option<Propagation>) -> Self {
        self.propagation_policy = self.propagation_policy.or(propagation);
        self
    }

    /// Deletion of exactly the object with this uid.
    pub(super) fn of_uid(uid: &str) -> Self {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        Self { preconditions: Some(preconditions), ..Self::default() }
    }

    /// Refuses what is not as the caller wants it to be.
    pub(super) fn check(
        &self,
        object: &ObjectRef,
        uid: &str,
        revision: Revision,
    ) -> Result<(), Status> {
        let Some(wanted) = &self.preconditions else { return Ok(()) };
        let failed = |what: &str| {
            Err(Status::conflict(
                object,
                &format!("Precondition failed: its {what} is another one"),
            ))
        };
        if wanted.uid.as_ref().is_some_and(|it| it != uid) {
            return failed("uid");
        }
        let revision = revision.to_string();
        if wanted.resource_version.as_ref().is_some_and(|it| *it != revision) {
            return failed("resourceVersion");
        }
        Ok(())
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run.as_ref().is_some_and(|list| list.iter().any(|it| it == "All"))
    }
}

/// What is left after a deletion.
#[derive(Debug)]
pub(super) enum Deleted {
    /// It waits for its finalizers; as callers see it.
    Marked(Value),
    /// Nothing; as callers saw it last.
    Gone(Value),
}

impl Deleted {
    /// The answer to the caller.
    pub(super) fn answer(self, object: &ObjectRef) -> Value {
        match self {
            Self::Marked(marked) => marked,
            Self::Gone(last) => {
                let uid = last.pointer("/metadata/uid").and_then(Value::as_str);
                status::deleted(object, uid.unwrap_or_default())
            }
        }
    }

    /// Whether something still keeps the object.
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::Marked(_))
    }

    /// The object itself.
    pub(super) fn object(self) -> Value {
        match self {
            Self::Marked(object) | Self::Gone(object) => object,
        }
    }
}

/// Deletes one object.
pub(super) async fn delete(
    store: &Store,
    object: &ObjectRef,
    options: &Options,
    now: Timestamp,
) -> Result<Deleted, Status> {
    if object.kind == Kind::Namespace && object.name == "default" {
        return Err(Status::forbidden_object(object, "this namespace may not be deleted"));
    }
    for _ in 0..ATTEMPTS_MAX {
        let old = write::current(store, object).await?;
        let old = old.ok_or_else(|| Status::not_found(object))?;
        let metadata = draft::metadata(&old.object);
        options.check(object, &metadata.uid, old.revision)?;
        let finalizer = options.propagation_policy.and_then(Propagation::finalizer);
        let finalizer = finalizer.filter(|it| !metadata.finalizers.iter().any(|own| own == it));
        let stays = !metadata.finalizers.is_empty() || finalizer.is_some();
        if stays && metadata.deletion_timestamp.is_some() {
            return Ok(Deleted::Marked(view::with_revision(old.object, old.revision)));
        }
        let mut marked = draft::deleting(object.kind, old.object.clone(), now);
        if let Some(finalizer) = finalizer {
            let list = metadata.finalizers.iter().map(String::as_str).chain([finalizer]);
            marked["metadata"]["finalizers"] = list.collect();
        }
        let before = write::environment(object.kind, &old.object)?;
        let claims = claims::release(store, before.as_ref(), None, now).await?;
        let at = Precondition::At(old.revision);
        let revision = if options.is_dry_run() {
            old.revision
        } else {
            let key = write::key(object);
            let txn = store.txn();
            let txn = if stays { txn.put(&key, at, &marked) } else { txn.delete(&key, at) };
            match write::with_claims(txn, &claims).commit().await {
                Ok(revision) => revision,
                Err(store::Error::Conflict { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let marked = view::with_revision(marked, revision);
        return Ok(if stays { Deleted::Marked(marked) } else { Deleted::Gone(marked) });
    }
    Err(Status::modified(object))
}
