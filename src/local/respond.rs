//! Answers: the only place that knows status codes, error bodies and response headers. It must never decide anything.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use serde_json::{Value, json};

use crate::local::refusal::Refusal;

/// What a call that went well answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// 200 with JSON.
    Ok(Vec<u8>),
    /// 201 with JSON.
    Created(Vec<u8>),
    /// 202 without a body.
    Accepted,
    /// 204.
    NoContent,
    /// 200 with plain text.
    Text(String),
}

impl Reply {
    /// 200 with a value as JSON.
    pub(super) fn json(value: &impl Serialize) -> Result<Self, Refusal> {
        Ok(Self::Ok(bytes(value)?))
    }

    /// 201 with a value as JSON.
    pub(super) fn created(value: &impl Serialize) -> Result<Self, Refusal> {
        Ok(Self::Created(bytes(value)?))
    }

    /// 200 `{"ok":true}`.
    pub(super) fn ok() -> Result<Self, Refusal> {
        Self::json(&json!({"ok": true}))
    }
}

fn bytes(value: &impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(value).map_err(|error| Refusal::Internal(error.to_string()))
}

/// The HTTP answer, with its status for the metrics.
pub(super) fn response(outcome: Result<Reply, Refusal>, request_id: &str) -> Response<Bytes> {
    let (status, body, kind) = match outcome {
        Ok(Reply::Ok(json)) => (StatusCode::OK, json, "application/json; charset=utf-8"),
        Ok(Reply::Created(json)) => (StatusCode::CREATED, json, "application/json; charset=utf-8"),
        Ok(Reply::Accepted) => (StatusCode::ACCEPTED, Vec::new(), ""),
        Ok(Reply::NoContent) => (StatusCode::NO_CONTENT, Vec::new(), ""),
        Ok(Reply::Text(text)) => {
            (StatusCode::OK, text.into_bytes(), "text/plain; version=0.0.4; charset=utf-8")
        }
        Err(Refusal::NoRoute) => (
            StatusCode::NOT_FOUND,
            Refusal::NoRoute.to_string().into_bytes(),
            "text/plain; charset=utf-8",
        ),
        Err(refusal) => (
            status(&refusal),
            error_body(&refusal).to_string().into_bytes(),
            "application/json; charset=utf-8",
        ),
    };
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    finish(&mut response, kind, request_id);
    response
}

/// An answer that is none of the Machines API's, such as a proxy's.
pub(super) fn page(
    status: StatusCode,
    (kind, body): (&'static str, &'static str),
    request_id: &str,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status;
    finish(&mut response, kind, request_id);
    response
}

fn finish(response: &mut Response<Bytes>, kind: &'static str, request_id: &str) {
    let headers = response.headers_mut();
    if !kind.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert("server", HeaderValue::from_static("hangar-local"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("fly-request-id", id);
    }
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Invalid(_) => StatusCode::BAD_REQUEST,
        Refusal::Unauthenticated => StatusCode::UNAUTHORIZED,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::NotFound(_) | Refusal::NoRoute => StatusCode::NOT_FOUND,
        Refusal::NotReached { .. } | Refusal::Deadline(_) => StatusCode::REQUEST_TIMEOUT,
        Refusal::Leased { .. }
        | Refusal::NameViolation { .. }
        | Refusal::StaleVersion { .. }
        | Refusal::Conflict(_)
        | Refusal::Replacing => StatusCode::CONFLICT,
        Refusal::Unable { .. }
        | Refusal::GettingReplaced
        | Refusal::StillActive
        | Refusal::NotStopped
        | Refusal::VolumeBound(_)
        | Refusal::VolumeClaimed(_)
        | Refusal::SnapshotScheduled(_)
        | Refusal::VolumeHostFull(_)
        | Refusal::Precondition(_) => StatusCode::PRECONDITION_FAILED,
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::NameTaken | Refusal::BadAppName | Refusal::NoHost => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Refusal::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Lease refusals have a form of their own, and only some refusals have a code.
fn error_body(refusal: &Refusal) -> Value {
    let text = refusal.to_string();
    match refusal {
        Refusal::Leased { .. } => json!({"status": "error", "message": text}),
        Refusal::NameTaken => json!({"error": text, "status": "name_taken"}),
        Refusal::NoHost => json!({"error": text, "status": "insufficient_capacity"}),
        Refusal::VolumeHostFull(_) => {
            json!({"error": text, "status": "volume_placement_capacity"})
        }
        Refusal::Invalid(_)
        | Refusal::Conflict(_)
        | Refusal::Unauthenticated
        | Refusal::Forbidden
        | Refusal::NotFound(_)
        | Refusal::NoRoute
        | Refusal::NotReached { .. }
        | Refusal::Deadline(_)
        | Refusal::NameViolation { .. }
        | Refusal::StaleVersion { .. }
        | Refusal::Replacing
        | Refusal::Unable { .. }
        | Refusal::GettingReplaced
        | Refusal::StillActive
        | Refusal::NotStopped
        | Refusal::VolumeBound(_)
        | Refusal::VolumeClaimed(_)
        | Refusal::SnapshotScheduled(_)
        | Refusal::Precondition(_)
        | Refusal::TooLarge
        | Refusal::BadAppName
        | Refusal::RateLimited
        | Refusal::Internal(_) => json!({"error": text}),
    }
}
