//! A WebSocket that sends back what it gets. It must never keep a connection that is not a WebSocket.

use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};

use crate::net::Body;
use crate::tasks;

/// Accepts the upgrade, or returns nothing when the request asks for none.
pub(super) fn accept(request: Request<Incoming>) -> Option<Response<Body>> {
    let wanted = has(request.headers(), header::CONNECTION, "upgrade")
        && has(request.headers(), header::UPGRADE, "websocket");
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY)?.clone();
    if !wanted {
        return None;
    }
    tasks::detached(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            echo(upgraded).await;
        }
    });
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(body)
        .ok()
}

fn has(headers: &HeaderMap, name: header::HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

async fn echo(upgraded: hyper::upgrade::Upgraded) {
    let stream = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let sent = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            // Pongs and the closing handshake are the library's.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
        };
        if sent.is_err() {
            break;
        }
    }
}
