//! A front between real sockets: a router that orders what the request tells it to, machines that tell what they saw, and a
//! client.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::clock::System;
use crate::fly::wire::Autostop;
use crate::local::{
    driver::{self, Stream},
    fleet::{Fleet, Target, WakeError},
    front::{Config, serve},
};
use crate::net;
use crate::tasks::{self, Trigger};

/// A machine of the fleet.
#[derive(Debug)]
struct Berth {
    target: Target,
    address: SocketAddr,
    refusals: u32,
}

/// A fleet whose machines are servers on this computer.
#[derive(Debug, Default)]
pub(super) struct Yard {
    berths: Mutex<BTreeMap<String, Berth>>,
    log: Mutex<Vec<String>>,
}

impl Yard {
    pub(super) fn change(&self, id: &str, change: impl FnOnce(&mut Target)) {
        change(&mut self.berths.lock().unwrap().get_mut(id).unwrap().target);
    }

    pub(super) fn refuse(&self, id: &str, times: u32) {
        self.berths.lock().unwrap().get_mut(id).unwrap().refusals = times;
    }

    pub(super) fn state(&self, id: &str) -> String {
        self.target(id).unwrap().state
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn add(&self, app: &str, id: &str, address: SocketAddr) {
        let target = Target {
            app: app.to_owned(),
            network: "default".to_owned(),
            id: id.to_owned(),
            state: "started".to_owned(),
            region: "local".to_owned(),
            internal_port: 8080,
            autostart: true,
            autostop: Autostop::Off,
            min_machines_running: 0,
            cordoned: false,
        };
        let berth = Berth { target, address, refusals: 0 };
        self.berths.lock().unwrap().insert(id.to_owned(), berth);
    }

    fn all(&self, wanted: impl Fn(&Target) -> bool) -> Vec<Target> {
        let berths = self.berths.lock().unwrap();
        berths.values().map(|berth| berth.target.clone()).filter(wanted).collect()
    }

    fn note(&self, what: &str, id: &str) {
        self.log.lock().unwrap().push(format!("{what} {id}"));
    }
}

impl Fleet for Yard {
    fn has_app(&self, app: &str) -> bool {
        !self.targets(app).is_empty()
    }

    fn targets(&self, app: &str) -> Vec<Target> {
        self.all(|target| target.app == app)
    }

    fn target(&self, id: &str) -> Option<Target> {
        self.all(|target| target.id == id).pop()
    }

    fn autostopped(&self) -> Vec<Target> {
        self.all(|target| target.autostop != Autostop::Off)
    }

    fn wake<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), WakeError>> {
        Box::pin(async move {
            self.note("wake", id);
            self.change(id, |target| target.state = "started".to_owned());
            Ok(())
        })
    }

    fn idle<'a>(&'a self, id: &'a str, how: Autostop) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.note("idle", id);
            let asleep = if how == Autostop::Suspend { "suspended" } else { "stopped" };
            self.change(id, |target| target.state = asleep.to_owned());
        })
    }

    fn dial<'a>(
        &'a self,
        id: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Stream>, driver::Error>> {
        Box::pin(async move {
            self.note("dial", id);
            assert_eq!(port, 8080);
            let error = |source| driver::Error::Io { id: id.to_owned(), doing: "dial", source };
            let address = {
                let mut berths = self.berths.lock().unwrap();
                let berth = berths.get_mut(id).unwrap();
                if let Some(left) = berth.refusals.checked_sub(1) {
                    berth.refusals = left;
                    return Err(error(std::io::ErrorKind::ConnectionRefused.into()));
                }
                berth.address
            };
            let stream = TcpStream::connect(address).await.map_err(error)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// Everything, running.
pub(super) struct Bench {
    pub(super) yard: Arc<Yard>,
    pub(super) address: SocketAddr,
    /// Client addresses that the router saw: one per connection.
    pub(super) router_peers: Arc<Mutex<BTreeSet<SocketAddr>>>,
    client: Client<HttpConnector, UnsyncBoxBody<Bytes, Infallible>>,
    _trigger: Trigger,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: StatusCode,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

impl Told {
    /// What a machine saw.
    pub(super) fn saw(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Bench {
    /// A front, a router and the machines `m1`, `m2` of app `web` and `d1` of app `db`.
    pub(super) async fn start() -> Self {
        Self::with(Duration::from_secs(180)).await
    }

    pub(super) async fn with(idle_interval: Duration) -> Self {
        let (trigger, shutdown) = tasks::shutdown();
        let yard = Arc::new(Yard::default());
        for (app, id) in [("web", "m1"), ("web", "m2"), ("db", "d1")] {
            yard.add(app, id, listen(&shutdown, move |request, _| machine(id, request)).await);
        }
        let router_peers = Arc::new(Mutex::new(BTreeSet::new()));
        let peers = Arc::clone(&router_peers);
        let upstream = listen(&shutdown, move |request, peer| {
            peers.lock().unwrap().insert(peer);
            router(request)
        })
        .await;
        let listener = net::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config { idle_interval, ..Config::new(upstream) };
        let fleet: Arc<dyn Fleet> = Arc::<Yard>::clone(&yard);
        tasks::detached(async move {
            serve(listener, config, fleet, System::shared(), shutdown).await.unwrap();
        });
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { yard, address, router_peers, client, _trigger: trigger }
    }

    pub(super) fn request(&self, path: &str, headers: &[(&str, &str)]) -> http::request::Builder {
        let request = Request::builder().uri(format!("http://{}{path}", self.address));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    pub(super) async fn send<B>(&self, request: Request<B>) -> Response<Incoming>
    where
        B: hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let request = request.map(UnsyncBoxBody::new);
        let sent = self.client.request(request);
        tokio::time::timeout(Duration::from_secs(20), sent).await.unwrap().unwrap()
    }

    /// Sends a request with a body and reads the answer.
    pub(super) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Told {
        let request = self.request(path, headers).method(method);
        let response = self.send(request.body(Full::new(body.into())).unwrap()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Told { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Told {
        self.ask("GET", path, headers, "").await
    }

    /// Waits until the condition holds.
    pub(super) async fn until(&self, condition: impl Fn(&Yard) -> bool) {
        let held = async {
            while !condition(&self.yard) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), held).await.unwrap();
    }
}

async fn listen<H, F>(shutdown: &tasks::Shutdown, handle: H) -> SocketAddr
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<net::Body>> + Send + 'static,
{
    let listener = net::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (limits, drain) = (net::Limits::default(), Duration::ZERO);
    let serving = net::serve(listener, limits, drain, shutdown.clone(), handle);
    tasks::detached(async move { serving.await.unwrap() });
    address
}

pub(super) fn full(body: impl Into<Bytes>) -> net::Body {
    net::Body::new(Full::new(body.into()).map_err(|never| match never {}))
}

/// Orders the replay that `x-order` (or `x-order-json`) says, without reading the body; else answers itself.
async fn router(request: Request<Incoming>) -> Response<net::Body> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
    let came_back = header("fly-replay-failed").is_some();
    let order = header("x-order").filter(|_| !came_back || request.uri().path() == "/again");
    if let Some(order) = order {
        let response = Response::builder().header("fly-replay", order);
        return response.body(full("never seen")).unwrap();
    }
    if let Some(order) = header("x-order-json") {
        let response = Response::builder().header(CONTENT_TYPE, "application/vnd.fly.replay+json");
        return response.body(full(order.to_owned())).unwrap();
    }
    machine("router", request).await
}

/// Tells what it saw; `/echo` sends the body back, `/order` replays as `x-second` says.
async fn machine(id: &'static str, request: Request<Incoming>) -> Response<net::Body> {
    let (parts, body) = request.into_parts();
    let headers: BTreeMap<_, _> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .collect();
    let response = Response::builder().header("x-machine", id);
    match parts.uri.path() {
        "/order" => response.header("fly-replay", &headers["x-second"]).body(full("")).unwrap(),
        "/none" => response.status(204).body(full("")).unwrap(),
        "/deaf" => response.body(full("unread")).unwrap(),
        "/old" => response.status(304).header("etag", "\"1\"").body(full("")).unwrap(),
        "/echo" => response.body(full(body.collect().await.unwrap().to_bytes())).unwrap(),
        path => {
            let length = body.collect().await.unwrap().to_bytes().len();
            let saw = json!({
                "machine": id, "method": parts.method.as_str(), "path": path,
                "query": parts.uri.query(), "headers": headers, "length": length,
            });
            response.body(full(saw.to_string())).unwrap()
        }
    }
}
