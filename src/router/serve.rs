//! The listener: head, decision, response. It must never read a body, nor wait for anything before it answers.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use tokio::net::TcpListener;

use crate::{
    net::{self, Body, Limits},
    router::{
        activity::Seen,
        decide::{Decision, decide},
        head::{Head, Place, Refused},
        respond::{Asked, probe, respond},
        table::Table,
    },
    tasks::{self, Shutdown},
};

/// Who counts the answers.
pub trait Observer: Send + Sync {
    /// One answer; the names are those of [`Decision::NAMES`].
    fn on_reply(&self, decision: &'static str);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn on_reply(&self, _decision: &'static str) {}
}

/// What requests are answered from. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    /// The routes.
    pub table: Arc<Table>,
    /// Where requests are marked.
    pub seen: Arc<Seen>,
    /// The router's domain and machine.
    pub place: Arc<Place>,
    /// Who counts the answers.
    pub observer: Arc<dyn Observer>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A body that nobody wants is read away up to here, so that the front keeps its connection.
const DISCARD_BYTES_MAX: usize = 2 * 1024 * 1024;
const DISCARD_TIME_MAX: Duration = Duration::from_secs(10);

/// Answers until shutdown, then lets answers under way end for at most `drain`.
///
/// # Errors
/// Those of [`net::serve`].
pub async fn serve(
    listener: TcpListener,
    limits: Limits,
    drain: Duration,
    shutdown: Shutdown,
    router: Router,
) -> anyhow::Result<()> {
    let limits = Limits { bare_line_feeds: false, ..limits };
    let router = Arc::new(router);
    let handle = move |request: Request<Incoming>, _peer: SocketAddr| {
        std::future::ready(router.answer(request))
    };
    net::serve(listener, limits, drain, shutdown, handle).await
}

impl Router {
    fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let decision = match Head::read(&parts, &self.place) {
            Ok(head) => decide(&head, &self.table),
            Err(Refused::Bad) => Decision::BadHost,
            Err(Refused::Misdirected) => {
                // Health checks come to the address, not to a host of ours, so no environment's path is taken from it.
                let asked = Asked { headers: &parts.headers, head: parts.method == Method::HEAD };
                match parts.uri.path() {
                    "/healthz" => return probe(true, asked),
                    "/readyz" => return probe(self.table.ready(), asked),
                    _ => Decision::Misdirected,
                }
            }
        };
        match &decision {
            Decision::Replay(route) => self.seen.touch(route.slot()),
            Decision::Failed(route) => {
                self.seen.touch(route.slot());
                self.seen.fail(route.slot());
            }
            Decision::Unknown
            | Decision::Gone
            | Decision::Private
            | Decision::OrderedAsleep
            | Decision::Broken
            | Decision::NotYet
            | Decision::Starting
            | Decision::Loop
            | Decision::BadHost
            | Decision::Misdirected => {}
        }
        self.observer.on_reply(decision.name());
        if !body.is_end_stream() {
            tasks::detached(discard(body));
        }
        let asked = Asked { headers: &parts.headers, head: parts.method == Method::HEAD };
        respond(&decision, asked)
    }
}

/// Reads a body away beside the answer. One that is too long or too slow costs its connection.
async fn discard(mut body: Incoming) {
    let read = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            if bytes > DISCARD_BYTES_MAX {
                return;
            }
        }
    };
    // Too slow is as good as too long.
    let _elapsed = tokio::time::timeout(DISCARD_TIME_MAX, read).await;
}

#[cfg(test)]
mod tests;
