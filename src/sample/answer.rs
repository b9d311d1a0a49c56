//! One request, one answer. It must never trust a request's size: bodies are streamed.

use std::{io, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use serde_json::json;

use crate::net::Body;
use crate::sample::{
    fence,
    page::{self, View},
    personal::Personal,
    place::Place,
    visits::Visits,
    websocket,
};

/// The longest that `/slow` takes.
const SLOW_MAX: Duration = Duration::from_mins(5);

/// The app's state.
#[derive(Debug)]
pub(super) struct App {
    personal: Personal,
    visits: Visits,
    never_ready: bool,
}

impl App {
    pub(super) fn new(personal: Personal, never_ready: bool) -> Self {
        let visits = Visits::in_directory(&personal.place().volume);
        Self { personal, visits, never_ready }
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let place = self.personal.place();
        let replayed = request.headers().get("fly-replay-src");
        if let (Some(key), Some(source)) = (&place.bay_key, replayed)
            && !fence::admits(source.as_bytes(), key)
        {
            return text(StatusCode::FORBIDDEN, "this machine no longer serves that environment\n");
        }
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET | &Method::HEAD, "/") => self.front(&place, &request),
            (&Method::GET | &Method::HEAD, "/healthz") if self.never_ready => {
                text(StatusCode::SERVICE_UNAVAILABLE, "not ready, and never will be\n")
            }
            (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, "/env") => json_answer(&json!(place.env)),
            (&Method::GET, "/ws") => websocket::accept(request).unwrap_or_else(|| {
                text(StatusCode::UPGRADE_REQUIRED, "this is a WebSocket; ask for an upgrade\n")
            }),
            (&Method::GET, "/slow") => slow(&request).await,
            (&Method::POST, "/echo") => echo(request),
            (&Method::POST, "/upload") => upload(request.into_body()).await,
            (_, "/" | "/healthz" | "/env" | "/ws" | "/slow" | "/echo" | "/upload") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "not with this method\n")
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here\n"),
        }
    }

    fn front(&self, place: &Place, request: &Request<Incoming>) -> Response<Body> {
        let view = View { place, count: self.visits.add() };
        let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let wants_json = accepts.is_some_and(|value| value.contains("application/json"))
            || parameter(request, "format") == Some("json");
        if wants_json {
            json_answer(&page::json(&view))
        } else {
            respond(StatusCode::OK, "text/html; charset=utf-8", page::html(&view).into())
        }
    }
}

async fn slow(request: &Request<Incoming>) -> Response<Body> {
    let Some(Ok(ms)) = parameter(request, "ms").map(str::parse) else {
        return text(StatusCode::BAD_REQUEST, "say how slow: /slow?ms=200\n");
    };
    let pause = Duration::from_millis(ms).min(SLOW_MAX);
    tokio::time::sleep(pause).await;
    text(StatusCode::OK, &format!("that took {} ms\n", pause.as_millis()))
}

fn echo(request: Request<Incoming>) -> Response<Body> {
    let kind = request.headers().get(header::CONTENT_TYPE).cloned();
    let body = request.into_body().map_err(io::Error::other).boxed_unsync();
    let mut response = Response::new(body);
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

async fn upload(mut body: Incoming) -> Response<Body> {
    let (mut bytes, mut hasher) = (0_u64, blake3::Hasher::new());
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return text(StatusCode::BAD_REQUEST, "the upload broke off\n");
        };
        if let Some(data) = frame.data_ref() {
            bytes += data.len() as u64;
            hasher.update(data);
        }
    }
    json_answer(&json!({"bytes": bytes, "blake3": hasher.finalize().to_hex().as_str()}))
}

fn parameter<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    let query = request.uri().query()?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|it| it.0 == name).map(|it| it.1)
}

fn text(status: StatusCode, text: &str) -> Response<Body> {
    respond(status, "text/plain; charset=utf-8", text.to_owned().into())
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    respond(StatusCode::OK, "application/json", format!("{value:#}\n").into())
}

fn respond(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response =
        Response::new(Full::new(body).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}
