//! The proxy front: what Fly Proxy does with `fly-replay`, on one's own computer. It must never know hangar's kinds; a
//! router behind it is an address that answers HTTP.
//!
//! Every request goes to the router first. An answer that orders a replay ([`replay`]) is dropped and the request goes to a
//! machine (`choice`, `reach`), which may answer with a replay in turn. `idle` puts machines to sleep that nobody uses.

mod activity;
mod body;
mod choice;
mod error;
mod headers;
mod idle;
mod journey;
mod link;
mod reach;
pub mod replay;
mod request_id;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use tokio::net::TcpListener;

use crate::clock::Clock;
use crate::local::fleet::Fleet;
use crate::net;
use crate::tasks::Shutdown;

use activity::Activity;

/// Replays of one request after which it is a loop; Fly's limit.
const HOPS_MAX: u32 = 10;
/// Time from the end of a request to the head of its answer.
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// Idle connections to the router are closed before its own timeout for the next head closes them under a request.
const ROUTER_IDLE: Duration = Duration::from_secs(5);

/// How the front is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The router: it sees every request first.
    pub upstream: SocketAddr,
    /// The region that requests enter in.
    pub region: String,
    /// The router's machine id, as `fly-replay-src` tells it.
    pub instance: String,
    /// Time between two rounds of autostop.
    pub idle_interval: Duration,
    /// Time that requests under way have at shutdown.
    pub drain: Duration,
}

impl Config {
    /// The defaults: one region `local`, a router that is no machine, Fly's pace of autostop.
    #[must_use]
    pub fn new(upstream: SocketAddr) -> Self {
        Self {
            upstream,
            region: "local".to_owned(),
            instance: "local".to_owned(),
            idle_interval: Duration::from_secs(180),
            drain: Duration::from_secs(10),
        }
    }
}

/// What all requests share.
struct Front {
    config: Config,
    /// The port that clients connect to.
    port: u16,
    fleet: Arc<dyn Fleet>,
    clock: Arc<dyn Clock>,
    activity: Activity,
    /// Kept connections, for requests without a body.
    router: Client<link::ToRouter, body::Reader>,
    shutdown: Shutdown,
}

/// Serves clients and puts idle machines to sleep until shutdown.
///
/// # Errors
/// If the listener has no address.
pub async fn serve(
    listener: TcpListener,
    config: Config,
    fleet: Arc<dyn Fleet>,
    clock: Arc<dyn Clock>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let router = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(ROUTER_IDLE)
        // A request without a host stays one: the router must see what the client sent.
        .set_host(false)
        .build(link::ToRouter(config.upstream));
    let front = Arc::new(Front {
        port: listener.local_addr()?.port(),
        config,
        fleet,
        clock,
        activity: Activity::default(),
        router,
        shutdown: shutdown.clone(),
    });
    let idle =
        idle::run(&*front.fleet, &front.activity, front.config.idle_interval, shutdown.clone());
    let handler = Arc::clone(&front);
    let drain = front.config.drain;
    let requests =
        net::serve(listener, net::Limits::default(), drain, shutdown, move |request, peer| {
            let front = Arc::clone(&handler);
            async move { front.answer(request, peer).await }
        });
    tokio::try_join!(requests, idle)?;
    Ok(())
}

impl Front {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr) -> Response<net::Body> {
        let id = request_id::fresh(self.clock.now(), &self.config.region);
        let json = error::wants_json(request.headers());
        let mut response = match journey::run(self, request, peer, &id).await {
            Ok(response) => response,
            Err(error) => {
                let cause = crate::retry::chain(&error);
                tracing::warn!(request_id = id, error = cause, "no answer from behind the front");
                error.page(json, &id)
            }
        };
        headers::mark(response.headers_mut(), &id);
        response
    }
}

#[cfg(test)]
mod tests;
