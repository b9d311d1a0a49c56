//! Decisions as responses: the only place with `fly-replay` and status codes. It must never put anything but typed values
//! into a header, nor name a replay cache, which would answer past the access check and past a deletion.

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::{
    net::Body,
    router::{
        decide::Decision,
        page::{self, Page},
        table::Route,
    },
};

const FLY_REPLAY: HeaderName = HeaderName::from_static("fly-replay");

/// Fly Proxy waits this long for the machine, then hands the request back to the router, which says so.
const ENDING: &[u8] = b";timeout=10s;fallback=prefer_self";
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");

/// What of a request shapes a page.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its headers, of which `Accept` is read.
    pub headers: &'a HeaderMap,
    /// Whether it is a HEAD, which gets no body.
    pub head: bool,
}

/// The response to a decision.
#[must_use]
pub fn respond(decision: &Decision, asked: Asked<'_>) -> Response<Body> {
    let (status, sentence, retry_after_s) = match decision {
        Decision::Replay(route) => match replay(route) {
            Some(response) => return response,
            None => said(&Decision::NotYet),
        },
        other => said(other),
    };
    let page = Page { status, code: decision.name(), sentence };
    let (content_type, text) = page.render(page::Form::of(asked.headers));
    let length = text.len();
    let mut response = Response::new(if asked.head { empty() } else { full(text) });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, length.into());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    if let Some(seconds) = retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
    }
    response
}

/// The answer to whoever asks whether this router lives, or is ready.
#[must_use]
pub fn probe(fine: bool, asked: Asked<'_>) -> Response<Body> {
    let (status, text) = if fine {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "no routes were read yet\n")
    };
    let mut response = Response::new(if asked.head { empty() } else { full(text.to_owned()) });
    *response.status_mut() = status;
    response
}

/// Status, sentence, and the seconds after which asking again makes sense.
fn said(decision: &Decision) -> (StatusCode, &'static str, Option<&'static str>) {
    match decision {
        Decision::Unknown => {
            (StatusCode::NOT_FOUND, "There is no environment at this address.", None)
        }
        Decision::Gone => {
            (StatusCode::GONE, "The environment that was at this address is gone.", None)
        }
        Decision::Private => (
            StatusCode::FORBIDDEN,
            "This environment is private. It needs a sign-in, which does not exist yet; its owner can make it public.",
            None,
        ),
        Decision::OrderedAsleep => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This environment was put to sleep by its owner, and a request does not wake it.",
            None,
        ),
        Decision::Broken => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This environment cannot answer. Its status says why.",
            Some("30"),
        ),
        Decision::NotYet | Decision::Replay(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "This environment is being set up.", Some("2"))
        }
        Decision::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The router has just started and does not know this address yet.",
            Some("2"),
        ),
        Decision::Failed(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The machine of this environment did not answer in time. It is being looked at.",
            Some("5"),
        ),
        Decision::Loop => (
            StatusCode::LOOP_DETECTED,
            "This environment sends its requests back to where they came from.",
            None,
        ),
        Decision::BadHost => (
            StatusCode::BAD_REQUEST,
            "The request does not name exactly one host that can be an environment's.",
            None,
        ),
        Decision::Misdirected => (
            StatusCode::MISDIRECTED_REQUEST,
            "The host of this request is not under the domain that is served here.",
            None,
        ),
    }
}

/// An empty answer that the proxy in front takes as an order. `None` for a route that leads nowhere.
fn replay(route: &Route) -> Option<Response<Body>> {
    const FIELDS: [&[u8]; 4] = [b"app=", b";instance=", b";state=", ENDING];
    let (app, machine, key) = (route.app().text(), route.machine().bytes(), route.key()?);
    // Of the exact size it becomes the header's value as it is, without another allocation.
    let fields: usize = FIELDS.iter().map(|field| field.len()).sum();
    let size = fields + app.as_bytes().len() + 2 * (machine.len() + key.len());
    let mut value = Vec::with_capacity(size);
    let [before_app, before_machine, before_key, ending] = FIELDS;
    value.extend_from_slice(before_app);
    value.extend_from_slice(app.as_bytes());
    value.extend_from_slice(before_machine);
    push_hex(&mut value, &machine);
    value.extend_from_slice(before_key);
    push_hex(&mut value, &key);
    value.extend_from_slice(ending);
    let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()?;
    value.set_sensitive(true);
    let mut response = Response::new(empty());
    response.headers_mut().insert(FLY_REPLAY, value);
    Some(response)
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn empty() -> Body {
    use http_body_util::BodyExt as _;
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn full(text: String) -> Body {
    use http_body_util::BodyExt as _;
    http_body_util::Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use proptest::prelude::*;

    use super::*;
    use crate::router::{packed::App, table::Machine};

    fn answer(decision: &Decision, accept: Option<&'static str>) -> Response<Body> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        }
        respond(decision, Asked { headers: &headers, head: false })
    }

    proptest! {
        #[test]
        fn a_replay_has_exactly_the_fields_of_its_route(app in "\\PC{0,30}|[a-z0-9-]{1,24}", id in "\\PC{0,20}|[0-9a-f]{14}", key in any::<[u8; 16]>()) {
            let (Some(packed), Some(machine)) = (App::exact(&app), Machine::parse(id.as_bytes())) else {
                return Ok(());
            };
            let route = Route::new(0).to(packed, machine).keyed(Some(key));
            let response = answer(&Decision::Replay(route), None);
            prop_assert_eq!(response.headers().len(), 1);
            let header = response.headers()["fly-replay"].to_str().unwrap();
            let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
            let app = format!("app={app}");
            let id = format!("instance={id}");
            let state = format!("state={hex}");
            let fields: Vec<_> = header.split(';').collect();
            prop_assert_eq!(fields, vec![&app[..], &id, &state, "timeout=10s", "fallback=prefer_self"]);
        }
    }

    #[tokio::test]
    async fn every_other_answer_is_a_page_that_no_cache_keeps() {
        for (decision, status) in [
            (Decision::Unknown, 404),
            (Decision::Gone, 410),
            (Decision::Private, 403),
            (Decision::OrderedAsleep, 503),
            (Decision::Broken, 503),
            (Decision::NotYet, 503),
            (Decision::Starting, 503),
            (Decision::Failed(Route::new(0)), 503),
            (Decision::Loop, 508),
            (Decision::BadHost, 400),
            (Decision::Misdirected, 421),
        ] {
            let response = answer(&decision, Some("application/json"));
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert!(!response.headers().keys().any(|name| name.as_str().starts_with("fly-replay")));
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(json["code"], decision.name());
            assert_eq!(json["status"], status);
        }
    }

    #[test]
    fn a_wait_that_ends_by_itself_says_when_to_come_back() {
        assert_eq!(answer(&Decision::NotYet, None).headers()["retry-after"], "2");
        assert!(!answer(&Decision::OrderedAsleep, None).headers().contains_key("retry-after"));
    }

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let headers = HeaderMap::new();
        let response = respond(&Decision::Gone, Asked { headers: &headers, head: true });
        assert_ne!(response.headers()["content-length"], "0");
        assert!(hyper::body::Body::is_end_stream(response.body()));
    }
}
