//! Bodies of answers: JSON, text and streams. It must never choose a code for a failure; `status` does.

use std::io;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use serde_json::Value;

use crate::api::json;
use crate::net::Body;
use crate::server::status::Status;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

fn answer(code: StatusCode, content_type: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// 200 with an object.
pub(super) fn json(value: &Value) -> Response<Body> {
    answer(StatusCode::OK, JSON, full(json::text(value)))
}

/// 200 with a list in JSON.
pub(super) fn list(text: Bytes) -> Response<Body> {
    answer(StatusCode::OK, JSON, full(text))
}

/// 200 with an object, of which there are several forms: the request's `Accept` said which.
pub(super) fn json_as(value: &Value, content_type: HeaderValue) -> Response<Body> {
    let mut response = answer(StatusCode::OK, content_type, full(json::text(value)));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// 200 with a document that caches may keep for good where its address names its hash.
pub(super) fn document(
    bytes: impl Into<Bytes>,
    (content_type, hash): (HeaderValue, &str),
    is_for_good: bool,
) -> Response<Body> {
    let mut response = answer(StatusCode::OK, content_type, full(bytes));
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{hash}\"")) {
        headers.insert(header::ETAG, tag);
    }
    if is_for_good {
        let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
        headers.insert(header::CACHE_CONTROL, forever);
    }
    response
}

/// 304: what the caller has is what there is.
pub(super) fn not_modified() -> Response<Body> {
    answer(StatusCode::NOT_MODIFIED, JSON, full(Bytes::new()))
}

/// 301 to the address of a document as it is now.
pub(super) fn moved(location: &str) -> Response<Body> {
    let mut response = answer(StatusCode::MOVED_PERMANENTLY, TEXT, full(Bytes::new()));
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// 201 with an object.
pub(super) fn created(value: &Value) -> Response<Body> {
    answer(StatusCode::CREATED, JSON, full(json::text(value)))
}

/// 200 with text.
pub(super) fn text(text: String) -> Response<Body> {
    answer(StatusCode::OK, TEXT, full(text))
}

/// 200 with metrics, in the form that their encoder writes.
pub(super) fn metrics(text: String) -> Response<Body> {
    answer(StatusCode::OK, OPEN_METRICS, full(text))
}

/// 503 with text, for probes.
pub(super) fn not_ready(text: String) -> Response<Body> {
    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, full(text))
}

/// A refusal or a failure.
pub(super) fn failure(status: &Status) -> Response<Body> {
    let mut response = answer(status.code, JSON, full(json::text(&status.body())));
    if status.code == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"hangar\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    if status.code == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// 200 with chunks that go out as they come.
pub(super) fn stream(
    chunks: impl Stream<Item = Bytes> + Send + 'static,
    as_text: bool,
) -> Response<Body> {
    let frames = chunks.map(|chunk| Ok::<_, io::Error>(Frame::data(chunk)));
    let content_type = if as_text { TEXT } else { JSON };
    answer(StatusCode::OK, content_type, StreamBody::new(frames).boxed_unsync())
}

/// Adds remarks, which kubectl prints.
pub(super) fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let clean: String = warning
            .chars()
            .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{clean}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
