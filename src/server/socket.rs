//! The server's side of a WebSocket: telling a request for one, answering it, and a watch over it. It must never know what
//! the messages mean.

use std::io;

use bytes::Bytes;
use futures::{SinkExt as _, Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::net::Body;
use crate::server::status::Status;
use crate::tasks;

/// What a connection becomes.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| {
        let values = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
        values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case(word))
    };
    has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade")
}

/// The protocol that a request offers, where it offers one: browsers want to hear it again.
pub(super) fn only_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let only = offered.next().filter(|it| !it.as_bytes().contains(&b','));
    only.filter(|_| offered.next().is_none()).cloned()
}

/// Answers a request for a WebSocket, with the protocol that was chosen among those it offers, and hands over the socket once
/// the answer was sent.
pub(super) fn accept<F: Future<Output = ()> + Send + 'static>(
    headers: &HeaderMap,
    upgrade: OnUpgrade,
    protocol: Option<HeaderValue>,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Result<Response<Body>, Status> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.ok_or_else(|| Status::bad_request("a WebSocket needs a Sec-WebSocket-Key"))?;
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|it| it != "13") {
        return Err(Status::bad_request("Sec-WebSocket-Version must be 13"));
    }
    let accepted = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| Status::bad_request("the Sec-WebSocket-Key is none"))?;
    tasks::detached(async move {
        // The caller may be gone before it has the answer.
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        serve(WebSocketStream::from_raw_socket(io, Role::Server, None).await).await;
    });
    let empty = Empty::new().map_err(|never| -> io::Error { match never {} });
    let mut response = Response::new(empty.boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(header::SEC_WEBSOCKET_ACCEPT, accepted);
    if let Some(protocol) = protocol {
        answer.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok(response)
}

/// Sends each line as a message of its own, until they or the caller end.
pub(super) async fn tell(mut socket: Socket, chunks: impl Stream<Item = Bytes> + Send) {
    let mut chunks = std::pin::pin!(chunks);
    loop {
        tokio::select! {
            chunk = chunks.next() => {
                let Some(chunk) = chunk else { break };
                for line in chunk.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
                    let text = String::from_utf8_lossy(line).into_owned();
                    if socket.feed(Message::text(text)).await.is_err() {
                        return;
                    }
                }
                if socket.flush().await.is_err() {
                    return;
                }
            }
            // Pings are answered by reading; a caller has nothing else to say but that it goes.
            message = socket.next() => match message {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    close(socket).await;
}

/// Says that all is well, which clients take for a failure when it is left out.
pub(super) async fn close(mut socket: Socket) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
    // The caller may have gone first.
    let _gone = socket.close(Some(frame)).await;
}
