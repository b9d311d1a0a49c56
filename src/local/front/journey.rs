//! One request from the client to the answer: to the router, then wherever the answers replay it to. It must never choose
//! a machine itself.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_TYPE, HOST, TRANSFER_ENCODING},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt, Limited};
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;

use crate::local::{
    driver::Stream,
    fleet::Target,
    front::{
        FIRST_BYTE, Front, HOPS_MAX,
        activity::Busy,
        body::{Reader, Tape, held},
        choice::Wanted,
        error::Error,
        headers::{self, Entry},
        link::{self, Link},
        reach::{self, Reached, Unreached, reach},
        replay::{self, Fallback, Instance, Invalid, Replay},
    },
};
use crate::net;
use crate::tasks;

const REPLAY_JSON: &str = "application/vnd.fly.replay+json";
/// Most bytes of a replay's JSON body; far more than its fields can need.
const REPLAY_JSON_MAX: usize = 64 * 1024;

/// Who answered.
#[derive(Debug, Clone)]
enum Place {
    Router,
    Machine(Target),
}

/// An answer, with what keeps its machine busy.
struct Answer {
    place: Place,
    response: Response<Incoming>,
    busy: Option<Busy>,
}

/// A request without its body, as it was sent last.
#[derive(Debug, Clone)]
struct Head {
    method: Method,
    path: PathAndQuery,
    headers: HeaderMap,
}

struct Journey<'a> {
    front: &'a Front,
    head: Head,
    tape: Tape,
    /// The client's side of an upgrade, with the protocol it asked for.
    upgrade: Option<OnUpgrade>,
}

/// Takes a request to its answer.
pub(super) async fn run(
    front: &Front,
    request: Request<Incoming>,
    peer: SocketAddr,
    request_id: &str,
) -> Result<Response<net::Body>, Error> {
    let mut journey = Journey::start(front, request, peer, request_id)?;
    let answered = journey.travel().await;
    journey.tape.linger();
    journey.arrive(answered?)
}

impl<'a> Journey<'a> {
    fn start(
        front: &'a Front,
        mut request: Request<Incoming>,
        peer: SocketAddr,
        request_id: &str,
    ) -> Result<Self, Error> {
        if request.method() == Method::CONNECT {
            return Err(Error::Refused("CONNECT is not served"));
        }
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (mut parts, body) = request.into_parts();
        if let Some(authority) = parts.uri.authority() {
            // RFC 9112, 3.2.2: a proxy believes the target, not the header.
            let host = HeaderValue::from_str(authority.as_str())
                .map_err(|_| Error::Refused("the target has no valid host"))?;
            parts.headers.insert(HOST, host);
        }
        let path = parts.uri.path_and_query().cloned();
        let path = path.ok_or(Error::Refused("the target has no path"))?;
        let region = front.config.region.as_str();
        let entry = Entry { peer, port: front.port, region, request_id };
        let upgrade = headers::enter(&mut parts.headers, entry).map(|_protocol| on_upgrade);
        let head = Head { method: parts.method, path, headers: parts.headers };
        Ok(Self { front, head, tape: Tape::new(body), upgrade })
    }

    /// From answer to answer until one is meant for the client.
    async fn travel(&mut self) -> Result<Answer, Error> {
        let mut answer = self.ask_router(self.tape.live()).await?;
        let mut hops = 0;
        let mut fell_back = false;
        loop {
            let Some(replay) = ordered(&mut answer.response).await? else { return Ok(answer) };
            if fell_back {
                return Err(Invalid::AfterFallback.into());
            }
            hops += 1;
            if hops > HOPS_MAX {
                return Err(Error::TooManyHops);
            }
            let place = answer.place.clone();
            drop(answer);
            (answer, fell_back) = self.follow(replay, place).await?;
        }
    }

    /// Replays the request, or takes it back to where the replay came from.
    async fn follow(&mut self, replay: Replay, from: Place) -> Result<(Answer, bool), Error> {
        let body = self.tape.whole().await?;
        let wanted = self.wanted(&replay, &from)?;
        let started = self.front.clock.monotonic();
        let limit = replay.timeout.unwrap_or(reach::TIMEOUT);
        match self.reach(&wanted, limit).await {
            Ok(reached) => {
                self.prepare(&replay, &from, reached.missed.as_deref());
                Ok((self.ask_machine(reached, body).await?, false))
            }
            Err(why) => {
                let Some(fallback) = replay.fallback else { return Err(Error::Unreached(why)) };
                let elapsed = self.front.clock.monotonic().saturating_sub(started);
                let source = match &from {
                    Place::Router => &self.front.config.instance,
                    Place::Machine(target) => &target.id,
                };
                let failed = failed(&wanted, source, &why, elapsed);
                tracing::debug!(failed, "the replay falls back");
                headers::set(&mut self.head.headers, headers::FLY_REPLAY_FAILED, &failed);
                Ok((self.fall_back(fallback, from, body).await?, true))
            }
        }
    }

    async fn fall_back(
        &self,
        fallback: Fallback,
        from: Place,
        body: Reader,
    ) -> Result<Answer, Error> {
        let Place::Machine(source) = from else { return self.ask_router(body).await };
        let instance = match fallback {
            Fallback::ForceSelf => Instance::Exactly(source.id),
            Fallback::PreferSelf => Instance::Prefer(source.id),
        };
        let wanted = Wanted {
            app: Some(source.app),
            instance: Some(instance),
            regions: Vec::new(),
            except: None,
        };
        let reached = self.reach(&wanted, reach::TIMEOUT).await.map_err(Error::Unreached)?;
        self.ask_machine(reached, body).await
    }

    async fn reach(&self, wanted: &Wanted, limit: Duration) -> Result<Reached, Unreached> {
        reach(&*self.front.fleet, &self.front.activity, wanted, limit).await
    }

    /// Fills in what the replay leaves to where it came from.
    fn wanted(&self, replay: &Replay, from: &Place) -> Result<Wanted, Error> {
        let fleet = &self.front.fleet;
        let (own_app, own_id) = match from {
            Place::Router => (None, None),
            Place::Machine(target) => (Some(target.app.clone()), Some(target.id.clone())),
        };
        let app = match (&replay.app, &replay.instance) {
            (Some(app), _) if !fleet.has_app(app) => {
                return Err(Error::NoApp { app: app.clone() });
            }
            (Some(app), _) => Some(app.clone()),
            // A machine's id is enough to find it, in whatever app.
            (None, Some(Instance::Exactly(_))) => None,
            (None, Some(Instance::Prefer(id))) => {
                own_app.or_else(|| fleet.target(id).map(|target| target.app))
            }
            (None, None) => Some(own_app.ok_or(Invalid::Nowhere)?),
        };
        Ok(Wanted {
            app,
            instance: replay.instance.clone(),
            regions: replay.regions.clone(),
            except: own_id.filter(|_| replay.elsewhere),
        })
    }

    /// Makes the head the one of the replayed request.
    fn prepare(&mut self, replay: &Replay, from: &Place, missed: Option<&str>) {
        let transform = &replay.transform;
        if let Some(path) = &transform.path {
            self.head.path = with_query(path, &self.head.path);
        }
        let head = &mut self.head.headers;
        // The body is whole now and has a length.
        head.remove(TRANSFER_ENCODING);
        for name in &transform.delete_headers {
            head.remove(name);
        }
        for (name, value) in &transform.set_headers {
            head.insert(name, value.clone());
        }
        let (instance, region) = match from {
            Place::Router => (&self.front.config.instance, &self.front.config.region),
            Place::Machine(target) => (&target.id, &target.region),
        };
        let now = self.front.clock.now().as_microsecond();
        let mut source = format!("instance={instance};region={region};t={now}");
        if let Some(state) = &replay.state {
            // Writing to a string cannot fail.
            let _written = write!(source, ";state={state}");
        }
        headers::set(head, headers::FLY_REPLAY_SRC, &source);
        head.remove(headers::FLY_REPLAY_FAILED);
        head.remove(headers::PREFERRED_UNAVAILABLE);
        if let Some(missed) = missed {
            headers::set(head, headers::PREFERRED_UNAVAILABLE, missed);
        }
    }

    async fn ask_router(&self, body: Reader) -> Result<Answer, Error> {
        let router = self.front.config.upstream;
        let response = if body.is_end_stream() {
            let uri = Uri::builder()
                .scheme("http")
                .authority(router.to_string())
                .path_and_query(self.head.path.clone())
                .build()
                .map_err(|_| Error::Refused("the target has no path"))?;
            let sent = self.front.router.request(self.head.request(uri, body));
            self.in_time(sent).await?.map_err(|error| Error::Router(error.into()))?
        } else {
            // Not a kept connection: a router that answers without reading the body closes it, but after the answer, and
            // the next request on it would be lost.
            let stream =
                link::connect(router).await.map_err(|error| Error::Router(error.into()))?;
            self.ask(stream, body).await?.map_err(|error| Error::Router(error.into()))?
        };
        Ok(Answer { place: Place::Router, response, busy: None })
    }

    async fn ask_machine(&self, reached: Reached, body: Reader) -> Result<Answer, Error> {
        let Reached { target, stream, busy, missed: _ } = reached;
        let response = self
            .ask(Link::new(stream), body)
            .await?
            .map_err(|source| Error::Machine { id: target.id.clone(), source })?;
        Ok(Answer { place: Place::Machine(target), response, busy: Some(busy) })
    }

    /// Sends the request on a connection of its own.
    async fn ask(
        &self,
        stream: Link<impl Stream + 'static>,
        body: Reader,
    ) -> Result<hyper::Result<Response<Incoming>>, Error> {
        let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        tasks::detached(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection behind the front ended early");
            }
        });
        let request = self.head.request(Uri::from(self.head.path.clone()), body);
        self.in_time(sender.send_request(request)).await
    }

    /// Waits for an answer no longer than it may take. An upload takes as long as it takes.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, Error> {
        let overdue = async {
            self.tape.ended().await;
            tokio::time::sleep(FIRST_BYTE).await;
        };
        tokio::select! {
            answer = answer => Ok(answer),
            () = overdue => Err(Error::Silent),
        }
    }

    /// Hands the answer to the client.
    fn arrive(self, answer: Answer) -> Result<Response<net::Body>, Error> {
        let Answer { mut response, busy, .. } = answer;
        let status = response.status();
        headers::leave(response.headers_mut(), status);
        *response.version_mut() = Version::HTTP_11;
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response.map(|body| held(body, busy)));
        }
        let client = self.upgrade.ok_or(Error::Answer("it switches protocols unasked"))?;
        let machine = hyper::upgrade::on(&mut response);
        let mut shutdown = self.front.shutdown.clone();
        tasks::detached(async move {
            tokio::select! {
                () = tunnel(client, machine) => {}
                () = shutdown.wait() => {}
            }
            drop(busy);
        });
        Ok(response.map(|body| held(body, None)))
    }
}

/// Copies both ways until both sides have ended.
async fn tunnel(client: OnUpgrade, machine: OnUpgrade) {
    let copied = async {
        let (client, machine) = tokio::try_join!(client, machine)?;
        let (mut client, mut machine) = (TokioIo::new(client), TokioIo::new(machine));
        tokio::io::copy_bidirectional(&mut client, &mut machine).await?;
        anyhow::Ok(())
    };
    if let Err(error) = copied.await {
        tracing::debug!(%error, "a tunnel ended early");
    }
}

impl Head {
    fn request(&self, uri: Uri, body: Reader) -> Request<Reader> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// The replay that an answer orders, if any.
async fn ordered(response: &mut Response<Incoming>) -> Result<Option<Replay>, Error> {
    let json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.to_str().unwrap_or_default();
        kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(REPLAY_JSON)
    });
    let mut orders = response.headers().get_all(headers::FLY_REPLAY).iter();
    match (orders.next(), orders.next(), json) {
        (None, _, false) => Ok(None),
        (Some(order), None, false) => {
            let order = order.to_str().map_err(|_| Invalid::Unreadable)?;
            Ok(Some(replay::parse(order)?))
        }
        (None, _, true) => {
            let body = Limited::new(response.body_mut(), REPLAY_JSON_MAX).collect();
            let body = tokio::time::timeout(FIRST_BYTE, body).await.map_err(|_| Error::Silent)?;
            let body = body.map_err(|_| Invalid::Unreadable)?.to_bytes();
            Ok(Some(replay::parse_json(&body)?))
        }
        (Some(_), Some(_), _) | (Some(_), None, true) => Err(Invalid::Several.into()),
    }
}

/// A new path keeps the query of the old one unless it has its own.
fn with_query(new: &PathAndQuery, old: &PathAndQuery) -> PathAndQuery {
    match (new.query(), old.query()) {
        (None, Some(query)) => {
            format!("{}?{query}", new.path()).parse().unwrap_or_else(|_| new.clone())
        }
        _ => new.clone(),
    }
}

/// The value of `fly-replay-failed`.
fn failed(wanted: &Wanted, source: &str, why: &Unreached, elapsed: Duration) -> String {
    let mut fields = Vec::new();
    if let Some(Instance::Exactly(id) | Instance::Prefer(id)) = &wanted.instance {
        fields.push(format!("instance={id}"));
    }
    if let Some(app) = &wanted.app {
        fields.push(format!("app={app}"));
    }
    if !wanted.regions.is_empty() {
        fields.push(format!("region={}", wanted.regions.join(",")));
    }
    fields.push(format!("replay_source={source}"));
    fields.push(format!("reason={}", why.reason.word()));
    fields.push(format!("elapsed_ms={}", elapsed.as_millis()));
    fields.join(";")
}
