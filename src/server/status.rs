//! What went wrong with a request, as a Kubernetes `Status`. The only place that pairs HTTP codes with reasons. A message
//! must never quote a value that somebody sent.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::{
    admit::{Violation, ViolationReason},
    fields::Conflict,
    kind::Kind,
    meta::ObjectRef,
};
use crate::server::call::NoCall;
use crate::store::{self, WatchError};

/// A refusal or a failure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Status {
    /// HTTP code.
    pub(super) code: StatusCode,
    /// What clients switch on.
    pub(super) reason: &'static str,
    /// What people read.
    pub(super) message: String,
    /// Object and causes.
    pub(super) details: Option<Value>,
    /// Whether it is the caller who may not, whatever is asked of the object.
    pub(super) denies: bool,
}

impl Status {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), details: None, denies: false }
    }

    fn about(mut self, object: &ObjectRef) -> Self {
        self.details = Some(details(object));
        self
    }

    /// 404
    pub(super) fn not_found(object: &ObjectRef) -> Self {
        let message = format!("{} not found", quoted(object));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(object)
    }

    /// 404 for a path.
    pub(super) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 409: the name is taken.
    pub(super) fn already_exists(object: &ObjectRef) -> Self {
        let message = format!("{} already exists", quoted(object));
        Self::new(StatusCode::CONFLICT, "AlreadyExists", message).about(object)
    }

    /// 409: it is not what the caller thinks it is.
    pub(super) fn conflict(object: &ObjectRef, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {}: {why}", quoted(object));
        Self::new(StatusCode::CONFLICT, "Conflict", message).about(object)
    }

    /// 409: it was changed since the caller read it.
    pub(super) fn modified(object: &ObjectRef) -> Self {
        Self::conflict(
            object,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// 409: a hostname belongs to another environment.
    pub(super) fn hostname_taken(object: &ObjectRef, field: &str, why: &str) -> Self {
        let mut status = Self::conflict(object, &format!("{field}: {why}"));
        status.cause(field, ViolationReason::Duplicate.as_str(), why);
        status
    }

    /// 422 with each wrong field; 400 when a field does not exist at all, as Kubernetes' strict decoding has it.
    pub(super) fn invalid(object: &ObjectRef, violations: &[Violation]) -> Self {
        let info = object.kind.info();
        let unknown: Vec<_> =
            violations.iter().filter(|it| it.reason == ViolationReason::Unknown).collect();
        let mut status = if unknown.is_empty() {
            let all: Vec<_> =
                violations.iter().map(|it| format!("{}: {}", it.field, it.message)).collect();
            let list = if let [one] = all.as_slice() {
                one.clone()
            } else {
                format!("[{}]", all.join(", "))
            };
            let name = format!("{}.{}", info.kind_name, info.group);
            let name = name.trim_end_matches('.');
            let message = format!("{name} \"{}\" is invalid: {list}", object.name);
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
        } else {
            let all: Vec<_> =
                unknown.iter().map(|it| format!("unknown field \"{}\"", it.field)).collect();
            let (name, version) = (info.kind_name, info.version);
            let message = format!(
                "{name} in version \"{version}\" cannot be handled as a {name}: strict decoding error: {}",
                all.join(", ")
            );
            Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
        };
        status.details = Some(json!({
            "name": object.name, "group": info.group, "kind": info.kind_name, "causes": [],
        }));
        for it in violations {
            status.cause(&it.field, it.reason.as_str(), &it.message);
        }
        status
    }

    /// 422 for one field.
    pub(super) fn invalid_field(
        object: &ObjectRef,
        field: &str,
        reason: ViolationReason,
        message: impl Into<String>,
    ) -> Self {
        let violation = Violation { field: field.to_owned(), reason, message: message.into() };
        Self::invalid(object, &[violation])
    }

    fn cause(&mut self, field: &str, reason: &str, message: &str) {
        let cause = json!({"reason": reason, "message": message, "field": field});
        let details = self.details.get_or_insert_with(|| json!({}));
        match details.get_mut("causes").and_then(Value::as_array_mut) {
            Some(causes) => causes.push(cause),
            None => details["causes"] = json!([cause]),
        }
    }

    /// 422 for a parameter of a patch.
    pub(super) fn patch_option(field: &str, reason: ViolationReason, why: &str) -> Self {
        let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {field}: {why}");
        let mut status = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message);
        status.details = Some(json!({"group": "meta.k8s.io", "kind": "PatchOptions"}));
        status.cause(field, reason.as_str(), why);
        status
    }

    /// 409: others own fields that are to be applied. They are sorted by their managers.
    pub(super) fn apply_conflict(conflicts: &[Conflict]) -> Self {
        let message = match conflicts {
            [one] => format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                one.manager, one.field
            ),
            all => {
                let of_each = all.chunk_by(|a, b| a.manager == b.manager).map(|of_one| {
                    let fields: Vec<_> =
                        of_one.iter().map(|it| format!("- {}", it.field)).collect();
                    let manager = of_one.first().map_or("", |it| it.manager.as_str());
                    format!("conflicts with {manager}:\n{}", fields.join("\n"))
                });
                let of_each = of_each.collect::<Vec<_>>().join("\n");
                format!("Apply failed with {} conflicts: {of_each}", all.len())
            }
        };
        let mut status = Self::new(StatusCode::CONFLICT, "Conflict", message);
        for it in conflicts {
            let why = format!("conflict with {}", it.manager);
            status.cause(&it.field, "FieldManagerConflict", &why);
        }
        status
    }

    /// 422 for what cannot be done, whatever the field.
    pub(super) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    /// 400
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// 401
    pub(super) fn unauthorized() -> Self {
        let status = Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
        Self { denies: true, ..status }
    }

    /// 403 for the caller.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self { denies: true, ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message) }
    }

    /// 403 for one object.
    pub(super) fn forbidden_object(object: &ObjectRef, why: &str) -> Self {
        let message = format!("{} is forbidden: {why}", quoted(object));
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(object)
    }

    /// 405
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 405 that says what to do instead.
    pub(super) fn not_allowed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// 406
    pub(super) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "NotAcceptable",
            "only application/json can be answered here",
        )
    }

    /// 410: a revision or a page is gone.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// 413
    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// 415
    pub(super) fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    /// 429
    pub(super) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// 503
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// 500; the cause goes to the log only.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// As it goes over the wire.
    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        });
        if let Some(details) = &self.details {
            body["details"] = details.clone();
        }
        body["code"] = json!(self.code.as_u16());
        body
    }
}

/// The answer to a deletion after which nothing is left.
pub(super) fn deleted(object: &ObjectRef, uid: &str) -> Value {
    let mut details = details(object);
    details["uid"] = json!(uid);
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn details(object: &ObjectRef) -> Value {
    let info = object.kind.info();
    json!({"name": object.name, "group": info.group, "kind": info.plural})
}

/// `environments.hangar.dev "alice"`
fn quoted(object: &ObjectRef) -> String {
    format!("{} \"{}\"", object.kind.info().qualified(), object.name)
}

/// The name of a kind's object that has none yet.
pub(super) fn unnamed(kind: Kind) -> ObjectRef {
    ObjectRef::new(kind, "", "")
}

impl From<NoCall> for Status {
    fn from(no_call: NoCall) -> Self {
        match no_call {
            NoCall::NotFound => Self::no_such_path(),
            NoCall::MethodNotAllowed => Self::method_not_allowed(),
            NoCall::NotAllowed(why) => Self::not_allowed(why),
            NoCall::Bad(message) => Self::bad_request(message),
            NoCall::Forbidden(field, why) => {
                let mut status = Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "Invalid",
                    format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {why}"),
                );
                status.cause(field, ViolationReason::Forbidden.as_str(), why);
                status
            }
        }
    }
}

impl From<store::Error> for Status {
    fn from(error: store::Error) -> Self {
        match &error {
            store::Error::Conflict { key, .. } => match ObjectRef::from_store_key(key.as_str()) {
                Some(object) => Self::modified(&object),
                None => Self::new(StatusCode::CONFLICT, "Conflict", "it was changed meanwhile"),
            },
            store::Error::TooLarge { bytes, .. } => Self::too_large(format!(
                "the object would have {bytes} bytes, and one may have {}",
                store::VALUE_BYTES_MAX
            )),
            store::Error::Closed => Self::unavailable("the store is closed"),
            store::Error::Invalid { .. }
            | store::Error::Corrupt { .. }
            | store::Error::Io { .. } => {
                tracing::error!(
                    error = crate::retry::chain(&error),
                    "a request met a broken store"
                );
                Self::internal("the store failed; the server's log says how")
            }
        }
    }
}

impl From<WatchError> for Status {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Compacted { asked, oldest } if asked > oldest => Self::expired(format!(
                "too large resource version: {asked} is newer than everything here; list again"
            )),
            WatchError::Compacted { asked, oldest } => {
                Self::expired(format!("too old resource version: {asked} ({oldest})"))
            }
            WatchError::Closed => Self::unavailable("the store is closed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revision;

    #[test]
    fn a_revision_from_the_future_is_not_called_old() {
        let said = |asked, oldest| {
            let (asked, oldest) = (Revision(asked), Revision(oldest));
            Status::from(WatchError::Compacted { asked, oldest }).message
        };
        assert_eq!(said(2, 5), "too old resource version: 2 (5)");
        assert!(said(9, 5).starts_with("too large resource version: 9 "), "{}", said(9, 5));
    }
}
