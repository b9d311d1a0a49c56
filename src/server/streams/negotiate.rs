//! From a request to a stream: what carries it (WebSocket or SPDY/3.1), which dialect, and the answer 101. It must never
//! upgrade what it cannot carry: the caller then tries another way, or reads why not.

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts as Head};
use http_body_util::{BodyExt as _, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::api::environment::Environment;
use crate::net::Body;
use crate::server::{
    status::Status,
    streams::{Desk, command, forward, framed, query::Wanted, socket},
};
use crate::tasks;

const V5: &str = "v5.channel.k8s.io";
const V4: &str = "v4.channel.k8s.io";
const FORWARD: &str = "portforward.k8s.io";
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// SPDY's list of dialects, and the one that was taken.
const DIALECT: &str = "x-stream-protocol-version";

/// How a caller's bytes are carried.
enum Carrier {
    WebSocket,
    Spdy,
}

/// An upgrade that was agreed on.
struct Agreed {
    carrier: Carrier,
    dialect: &'static str,
    upgrade: OnUpgrade,
    answer: Response<Body>,
}

impl Agreed {
    /// The first of `known` that the caller offers for what it wants to be carried by.
    fn of(head: &Head, web_socket: &[&'static str], spdy: &[&'static str]) -> Result<Self, Status> {
        let headers = &head.headers;
        let is = |name: &str| {
            words(headers, "upgrade").any(|word| word.eq_ignore_ascii_case(name))
                && words(headers, "connection").any(|word| word.eq_ignore_ascii_case("upgrade"))
        };
        let upgrade = head.extensions.get::<OnUpgrade>().cloned();
        let refused = || Status::bad_request("an upgrade to WebSocket or SPDY/3.1 is needed here");
        let upgrade = upgrade.ok_or_else(refused)?;
        if is("websocket") && head.method == http::Method::GET {
            let dialect = pick(headers, "sec-websocket-protocol", web_socket)?;
            let answer = web_socket_answer(headers, dialect)?;
            return Ok(Self { carrier: Carrier::WebSocket, dialect, upgrade, answer });
        }
        if is("SPDY/3.1") {
            let dialect = pick(headers, DIALECT, spdy)?;
            let answer = switching("SPDY/3.1", &[(DIALECT, dialect)])?;
            return Ok(Self { carrier: Carrier::Spdy, dialect, upgrade, answer });
        }
        Err(refused())
    }
}

fn words<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty())
}

fn pick(headers: &HeaderMap, name: &str, known: &[&'static str]) -> Result<&'static str, Status> {
    let offered = |dialect: &&&'static str| words(headers, name).any(|it| it == **dialect);
    known.iter().find(offered).copied().ok_or_else(|| {
        let known = known.join(", ");
        Status::bad_request(format!("`{name}` must offer one of these: {known}"))
    })
}

fn web_socket_answer(headers: &HeaderMap, dialect: &str) -> Result<Response<Body>, Status> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).map(HeaderValue::as_bytes);
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let (Some(key), Some(b"13")) = (key, version) else {
        return Err(Status::bad_request("a WebSocket has a key, and version 13"));
    };
    let accept = derive_accept_key(key);
    switching(
        "websocket",
        &[("sec-websocket-accept", &accept), ("sec-websocket-protocol", dialect)],
    )
}

fn switching(to: &str, more: &[(&'static str, &str)]) -> Result<Response<Body>, Status> {
    let mut answer = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, to);
    for (name, value) in more {
        answer = answer.header(*name, *value);
    }
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    answer.body(body).map_err(|error| Status::internal(error.to_string()))
}

/// Whether a command is run, or the program's own output shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Run,
    Attach,
}

/// Runs a command, or shows a program's own output.
pub(super) fn command(
    desk: Desk,
    environment: Environment,
    head: &Head,
    (work, wanted): (Work, Wanted),
) -> Result<Response<Body>, Status> {
    let Agreed { carrier, dialect: _, upgrade, answer } = Agreed::of(head, &[V5, V4], &[V5, V4])?;
    begin(upgrade, move |upgraded| {
        Box::pin(async move {
            let (near, far) = command::pair();
            let caller = async {
                match carrier {
                    Carrier::WebSocket => socket::command(upgraded, far).await,
                    Carrier::Spdy => framed::command(TokioIo::new(upgraded), far, &wanted).await,
                }
            };
            let working = async {
                match work {
                    Work::Run => {
                        command::run(&*desk.reach, &desk.place, &wanted.command, near).await
                    }
                    Work::Attach => {
                        command::attach(&*desk.reach, &desk.place, &wanted.command, near).await;
                    }
                }
            };
            let mut caller = std::pin::pin!(caller);
            tokio::select! {
                // The caller is gone: what it ran goes too.
                () = &mut caller => return,
                () = working => {}
                () = desk.while_it_may(&environment) => return,
            }
            // What was said is carried to its end.
            caller.await;
        })
    });
    Ok(answer)
}

/// Connects to ports.
pub(super) fn ports(
    desk: Desk,
    environment: Environment,
    head: &Head,
    ports: Vec<u16>,
) -> Result<Response<Body>, Status> {
    // A tunnel names its ports later; without one they are in the request.
    let known: &[&'static str] = if ports.is_empty() { &[TUNNEL] } else { &[TUNNEL, V4] };
    let agreed = Agreed::of(head, known, &[FORWARD])?;
    let Agreed { carrier, dialect, upgrade, answer } = agreed;
    begin(upgrade, move |upgraded| {
        Box::pin(async move {
            let reach = &*desk.reach;
            let caller = async {
                match carrier {
                    Carrier::Spdy => forward::serve(TokioIo::new(upgraded), &desk).await,
                    Carrier::WebSocket if dialect == TUNNEL => {
                        let (near, far) = tokio::io::duplex(64 * 1024);
                        tokio::join!(socket::tunnel(upgraded, near), forward::serve(far, &desk));
                    }
                    Carrier::WebSocket => socket::ports(upgraded, &ports, reach, &desk.place).await,
                }
            };
            tokio::select! {
                () = caller => {}
                () = desk.while_it_may(&environment) => {}
            }
        })
    });
    Ok(answer)
}

/// Goes on once the answer is out.
fn begin<W>(upgrade: OnUpgrade, work: W)
where
    W: FnOnce(Upgraded) -> BoxFuture<'static, ()> + Send + 'static,
{
    tasks::detached(async move {
        match upgrade.await {
            Ok(upgraded) => work(upgraded).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
    });
}
