//! What the front says in its own name: the error of one request and the page that tells it. It must never repeat a
//! header's or a body's content.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};

use crate::local::front::{body::Lost, reach::Unreached, replay::Invalid};
use crate::net;

/// Why a request has no answer from behind the front.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The request cannot be passed on.
    #[error("the request cannot be passed on: {0}")]
    Refused(&'static str),
    /// The router cannot be reached, or broke off.
    #[error("the router did not answer")]
    Router(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A machine broke off before it answered.
    #[error("machine {id} broke off")]
    Machine {
        /// The machine.
        id: String,
        /// The cause.
        source: hyper::Error,
    },
    /// Nobody answered in time.
    #[error("no answer came in time")]
    Silent,
    /// The answer cannot be passed on.
    #[error("the answer cannot be passed on: {0}")]
    Answer(&'static str),
    /// The replay cannot be followed.
    #[error("the answer orders no valid replay")]
    Invalid(#[from] Invalid),
    /// The replay's app is not here.
    #[error("there is no app {app:?} to replay to")]
    NoApp {
        /// The app.
        app: String,
    },
    /// Replays that lead to replays.
    #[error("the request was replayed more than {} times", super::HOPS_MAX)]
    TooManyHops,
    /// The request's body is gone.
    #[error("the request's body cannot be replayed")]
    Body(Lost),
    /// No machine.
    #[error("no machine could be reached")]
    Unreached(#[source] Unreached),
}

/// Whether the client would rather read JSON.
pub(super) fn wants_json(asked: &HeaderMap) -> bool {
    asked
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("application/json"))
}

impl From<Lost> for Error {
    fn from(lost: Lost) -> Self {
        Self::Body(lost)
    }
}

impl Error {
    /// Fly's code, its status here, and a sentence for the person who sees the page.
    fn told(&self) -> (&'static str, StatusCode, String) {
        match self {
            Self::Refused(_) => ("PU04", StatusCode::BAD_REQUEST, self.to_string()),
            Self::Router(_) => ("PC02", StatusCode::BAD_GATEWAY, self.to_string()),
            Self::Machine { .. } | Self::Answer(_) => {
                ("PU02", StatusCode::BAD_GATEWAY, self.to_string())
            }
            Self::Silent => ("PU02", StatusCode::GATEWAY_TIMEOUT, self.to_string()),
            Self::Invalid(why) => {
                ("PA03", StatusCode::BAD_GATEWAY, format!("invalid fly-replay: {why}"))
            }
            Self::NoApp { .. } => ("PA04", StatusCode::BAD_GATEWAY, self.to_string()),
            Self::TooManyHops => ("PA02", StatusCode::BAD_GATEWAY, self.to_string()),
            Self::Body(Lost::TooLarge) => (
                "PA01",
                StatusCode::PAYLOAD_TOO_LARGE,
                "the request's body is too large for a fly-replay (over 1 MiB)".to_owned(),
            ),
            Self::Body(Lost::Broken) => ("PU02", StatusCode::BAD_REQUEST, self.to_string()),
            Self::Unreached(why) if why.refused => {
                ("PC01", StatusCode::BAD_GATEWAY, format!("{self}: {why}"))
            }
            Self::Unreached(why) => {
                ("PR03", StatusCode::SERVICE_UNAVAILABLE, format!("{self}: {why}"))
            }
        }
    }

    /// The page.
    pub(super) fn page(&self, json: bool, id: &str) -> Response<net::Body> {
        let (code, status, text) = self.told();
        let (kind, body) = if json {
            let page = serde_json::json!({ "error": text, "code": code, "request_id": id });
            ("application/json", format!("{page}\n"))
        } else {
            ("text/plain; charset=utf-8", format!("{code}: {text}\nRequest ID: {id}\n"))
        };
        let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
        let mut page = Response::new(net::Body::new(body));
        *page.status_mut() = status;
        page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        page
    }
}
