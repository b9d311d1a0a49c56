//! Questions to the router, over connections that stay open, as Fly's proxy asks them. It must never note what it hears.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future;
use http::{Request, Uri, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::Semaphore;

use crate::cli::bench::ground::DOMAIN;

/// Connections to the router.
const CONNECTIONS: usize = 64;
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// Whoever asks the router. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Prober {
    http: Client<HttpConnector, Empty<Bytes>>,
    router: Uri,
    connections: Arc<Semaphore>,
}

impl Prober {
    pub(super) fn new(router: SocketAddr) -> anyhow::Result<Self> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Ok(Self {
            http: Client::builder(TokioExecutor::new()).build(connector),
            router: format!("http://{router}/").parse()?,
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
        })
    }

    /// Opens all connections.
    pub(super) async fn connect(&self) {
        future::join_all((0..CONNECTIONS).map(|_| self.replayed_by(DOMAIN))).await;
    }

    /// Returns once the router has this host's requests replayed by a machine of this app.
    pub(super) async fn routed(&self, host: &str, app: &str) {
        let _connection = self.connections.acquire().await;
        let wanted = format!("app={app};");
        while !self.replayed_by(host).await.is_some_and(|it| it.starts_with(&wanted)) {
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// What the router says of who is to answer this host's requests.
    async fn replayed_by(&self, host: &str) -> Option<String> {
        let request = Request::get(&self.router).header(HOST, host).body(Empty::new()).ok()?;
        let (head, body) = self.http.request(request).await.ok()?.into_parts();
        // Read to its end, so that the connection can be used again.
        body.collect().await.ok()?;
        let replay = head.headers.get("fly-replay").filter(|_| head.status.is_success())?;
        replay.to_str().ok().map(str::to_owned)
    }
}
