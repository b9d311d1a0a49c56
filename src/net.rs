//! LEAF. hyper's accept loop with the limits that hyper does not set by itself: a timer, a header size, a number of
//! connections, a time for the first byte, strict line ends, and a drain at shutdown. It must never look at what a request
//! asks for.

mod lines;

use std::{convert::Infallible, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as _, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;

use self::lines::{Lines, Raw};
use crate::tasks::{self, Shutdown};

/// A response body of any kind: full, empty or streamed.
pub type Body = UnsyncBoxBody<bytes::Bytes, io::Error>;

/// What a listener puts up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
    /// Time from the accept to the first byte, and from there to the end of the head.
    pub head_timeout: Duration,
    /// Bytes of a request's head; more is answered 431.
    pub head_bytes: usize,
    /// Header lines of a request; more is answered 431.
    pub header_lines: usize,
    /// Whether a line of a head may end in a bare line feed, as hyper has it; otherwise that is answered 400. Then a body
    /// of unknown length ends its connection.
    pub bare_line_feeds: bool,
}

/// Marks a response that is not to be sent.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection is closed instead of an answer")]
struct HangUp;

/// What a handler returns to close the connection without an answer.
#[must_use]
pub fn hang_up() -> Response<Body> {
    let empty = Empty::new().map_err(|never: Infallible| match never {});
    let mut response = Response::new(empty.boxed_unsync());
    response.extensions_mut().insert(HangUp);
    response
}

/// What hyper allows when it is told nothing.
const HYPER_HEADER_LINES: usize = 100;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            head_timeout: Duration::from_secs(10),
            head_bytes: 32 * 1024,
            header_lines: HYPER_HEADER_LINES,
            bare_line_feeds: true,
        }
    }
}

/// What connections come from, with TLS in front of HTTP where there is some.
#[expect(
    missing_debug_implementations,
    reason = "an acceptor has none, and its keys are nobody's business"
)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Takes nothing but TLS.
    #[must_use]
    pub fn over_tls(tcp: TcpListener, tls: TlsAcceptor) -> Self {
        Self { tcp, tls: Some(tls) }
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

/// Binds an address; port 0 picks a free one, which the listener then tells.
///
/// # Errors
/// With the address in its text, if it is taken or not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
    })
}

/// Serves HTTP/1.1 (with upgrades) until shutdown, then lets requests under way end for at most `drain`.
///
/// `handle` gets each request with its peer's address; it cannot fail, errors are responses, and [`hang_up`] is none.
///
/// # Errors
/// Never at present; accept errors are logged and survived.
pub async fn serve<H, F>(
    listener: impl Into<Listener>,
    limits: Limits,
    drain: Duration,
    mut shutdown: Shutdown,
    handle: H,
) -> anyhow::Result<()>
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let Listener { tcp: listener, tls } = listener.into();
    let slots = Arc::new(Semaphore::new(limits.connections));
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot?,
            () = shutdown.wait() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    // Out of descriptors, most likely; spinning would not free any.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = shutdown.wait() => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "set_nodelay failed");
        }
        let (handle, tls) = (handle.clone(), tls.clone());
        let shutdown = shutdown.clone();
        tasks::detached(async move {
            // hyper's header timer starts with the first byte, so silence is timed here.
            let first = tokio::time::timeout(limits.head_timeout, stream.readable()).await;
            if let Ok(Ok(())) = first {
                match tls {
                    None => connection(stream, peer, limits, shutdown, handle).await,
                    Some(_) if is_plain(&stream).await => refuse_plain(stream).await,
                    Some(tls) => match greeted(&tls, stream, limits.head_timeout).await {
                        Some(stream) => connection(stream, peer, limits, shutdown, handle).await,
                        None => tracing::debug!(%peer, "no TLS, or nothing behind it"),
                    },
                }
            }
            drop(slot);
        });
    }
    drop(listener);
    // Every connection holds a slot, so holding them all means that none is left.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(drain, slots.acquire_many(all)).await.is_err() {
        tracing::debug!("connections were still open at the end of the drain");
    }
    Ok(())
}

/// Whether what comes first is no TLS.
async fn is_plain(stream: &TcpStream) -> bool {
    const HANDSHAKE: u8 = 0x16;
    let mut first = [0; 1];
    stream.peek(&mut first).await.is_ok_and(|length| length == 1 && first[0] != HANDSHAKE)
}

/// Whoever forgot the s is told.
async fn refuse_plain(mut stream: TcpStream) {
    const BODY: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"this server speaks https only: write https://","reason":"BadRequest","code":400}"#;
    let length = BODY.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{BODY}"
    );
    // Whoever is gone already is not told.
    let _gone = stream.write_all(answer.as_bytes()).await;
    let _gone = stream.shutdown().await;
}

/// A connection behind TLS, once its first byte is there.
async fn greeted(
    tls: &TlsAcceptor,
    stream: TcpStream,
    within: Duration,
) -> Option<impl AsyncRead + AsyncWrite + Unpin + Send + 'static + use<>> {
    let greeting = async {
        let mut stream = BufReader::new(tls.accept(stream).await.ok()?);
        let is_there = stream.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty());
        is_there.then(|| Box::new(stream))
    };
    tokio::time::timeout(within, greeting).await.ok()?
}

/// Serves one connection to its end.
async fn connection<S, H, F>(
    stream: S,
    peer: SocketAddr,
    limits: Limits,
    mut shutdown: Shutdown,
    handle: H,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Response<Body>>,
{
    let raw = Raw::default();
    if limits.bare_line_feeds {
        raw.rest();
    }
    let stream = Lines::new(stream, raw.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let unknown = !limits.bare_line_feeds && expect_body(&raw, request.body());
        let response = handle(request, peer);
        let raw = raw.clone();
        async move {
            let mut response = response.await;
            if unknown {
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                raw.rest();
            }
            match response.extensions().get::<HangUp>() {
                Some(hang_up) => Err(*hang_up),
                None => Ok(response),
            }
        }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.head_bytes);
    // Said explicitly, even hyper's own number costs an allocation of 6 KB for every request.
    if limits.header_lines != HYPER_HEADER_LINES {
        http.max_headers(limits.header_lines);
    }
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended early");
    }
}

/// Says what follows the head of a request; whether it is not known where that ends.
fn expect_body(raw: &Raw, body: &Incoming) -> bool {
    let length = body.size_hint().exact();
    match length {
        Some(bytes) => raw.body(bytes),
        None => raw.rest(),
    }
    length.is_none()
}
