//! The API: Kubernetes' REST shapes in front of the store. It must never decide what admission or the plan should, nor
//! show a secret's value in a log line, an error or a table.

mod activity;
mod apply;
pub mod audit;
mod bodies;
mod call;
mod claims;
pub mod collect;
mod derived;
mod discovery;
mod draft;
mod generated;
mod guard;
mod logs;
mod many;
mod may;
mod openapi;
mod order;
mod owners;
mod pages;
mod patch;
mod propagate;
mod protobuf;
mod quota;
pub mod reach;
mod read;
mod readiness;
mod removal;
mod reset;
mod respond;
mod review;
mod scale;
mod socket;
mod status;
mod streams;
pub mod tls;
mod token;
mod turns;
mod verbatim;
mod view;
mod watch;
mod write;

#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Method, Request, Response, header, request::Parts as Head};
use serde_json::json;
use tokio::net::TcpListener;

pub use self::{
    activity::record_activity,
    guard::Token,
    patch::RequestBody,
    readiness::{Gate, Readiness},
};
use self::{
    audit::Audit,
    call::{Call, FieldValidation, Include, Scope, Target, WriteOptions},
    many::Many,
    may::Caller,
    pages::Pages,
    patch::{BODY_BYTES_MAX, Change, Media, REPORT_BYTES_MAX},
    status::Status,
    tls::Tls,
    turns::Turns,
    view::View,
};
use crate::api::{kind::Kind, meta::ObjectRef};
use crate::chance::{self, Chance};
use crate::clock::{Clock, Timestamp};
use crate::net::{self, Body, Limits};
use crate::retry;
use crate::store::{self, Precondition, Revision, backup::Backups, handle::Store};
use crate::tasks::{self, Shutdown};
use crate::telemetry::{Journal, Metrics};

/// Where to listen, and for whom.
#[derive(Debug, Clone)]
pub struct Config {
    /// The address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Who is let in.
    pub access: Access,
    /// Where it is written what everybody did.
    pub audit: Audit,
}

/// Who is let in.
#[derive(Debug, Clone)]
pub enum Access {
    /// Every program of this computer, over plain HTTP.
    Open,
    /// Whoever shows a token, over TLS.
    Tokens {
        /// The one that may do everything; others are objects.
        token: Token,
        /// The certificate.
        tls: Tls,
    },
}

/// What the API shows.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where objects are.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Uids and generated names.
    pub chance: Arc<dyn Chance>,
    /// The reconciliation log.
    pub journal: Journal,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether all parts of the process are ready.
    pub readiness: Readiness,
    /// Where exports of the store are.
    pub backups: Backups,
    /// What reaches machines.
    pub reach: Arc<dyn reach::Reach>,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Everybody could change everything.
    #[error("refusing to listen on {0} without tokens: it is not a loopback address")]
    Unprotected(SocketAddr),
    /// The address cannot be had.
    #[error("the API cannot listen")]
    Listen(#[source] io::Error),
    /// The store does not answer.
    #[error("the API cannot read the store")]
    Store(#[source] store::Error),
}

/// Requests under way get this long at shutdown; watches end at once.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the store may take to say that it is there.
const STORE_ANSWERS: Duration = Duration::from_secs(2);

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
    audit: Audit,
    parts: Parts,
    started: Revision,
}

/// The API without a listener, for callers in this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api(Arc<State>);

/// What every request needs.
#[derive(Debug)]
struct State {
    store: Store,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    journal: Journal,
    metrics: Metrics,
    readiness: Readiness,
    backups: Backups,
    reach: Arc<dyn reach::Reach>,
    /// Places for streams that stay open.
    streams: Arc<tokio::sync::Semaphore>,
    address: SocketAddr,
    /// What whoever may do everything knows; without it everybody of this computer may.
    token: Option<Token>,
    audit: Audit,
    /// Where the store was when this process began to answer.
    started: Revision,
    /// And when that was.
    began: Timestamp,
    pages: Pages,
    /// Held by a creation in a namespace with a quota, from the count to the commit.
    quota_turn: tokio::sync::Mutex<()>,
    /// Held by writers of an object that were too late once, from the read to the commit.
    turns: Turns,
    shutdown: Shutdown,
}

/// Makes what must be there before anybody asks: the `default` namespace.
///
/// # Errors
/// The store's.
pub async fn bootstrap(
    store: &Store,
    clock: &dyn Clock,
    chance: &dyn Chance,
) -> Result<(), store::Error> {
    let scope = Scope { kind: Kind::Namespace, namespace: None, form: None };
    let body = json!({"metadata": {"name": "default"}});
    let drawn = (chance::uuid(chance), clock.now());
    let Ok(draft) = draft::create(&scope, body, drawn, FieldValidation::Strict) else {
        let key = write::key(&ObjectRef::new(Kind::Namespace, "", "default"));
        return Err(store::Error::Invalid { key, why: "it is not admitted".to_owned() });
    };
    let key = write::key(&draft.target);
    match store.txn().put(&key, Precondition::Absent, &draft.object).commit().await {
        Ok(_) | Err(store::Error::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// `Unprotected` for an address that others reach, without tokens; `Listen`; `Store`.
    pub async fn bind(config: Config, parts: Parts) -> Result<Self, Error> {
        let is_open = matches!(config.access, Access::Open);
        if is_open && !config.listen.ip().is_loopback() {
            return Err(Error::Unprotected(config.listen));
        }
        // Under a prefix that no kind has: only the revision is wanted.
        let (_, started) = parts.store.list_bytes("//").await.map_err(Error::Store)?;
        let listener = net::bind(config.listen).await.map_err(Error::Listen)?;
        let address = listener.local_addr().map_err(Error::Listen)?;
        let Config { access, audit, .. } = config;
        Ok(Self { listener, address, access, audit, parts, started })
    }

    /// The address it has.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until shutdown.
    ///
    /// # Errors
    /// Those of [`net::serve`].
    pub async fn serve(self, shutdown: Shutdown) -> anyhow::Result<()> {
        let Self { listener, address, access, audit, parts, started } = self;
        let (token, listener) = match access {
            Access::Open => (None, listener.into()),
            Access::Tokens { token, tls } => {
                let acceptor = tls.acceptor();
                let (clock, shutdown) = (Arc::clone(&parts.clock), shutdown.clone());
                tasks::detached(tls.keep(clock, shutdown));
                (Some(token), net::Listener::over_tls(listener, acceptor))
            }
        };
        let api = Api::new(parts, (address, token, audit.clone()), started, shutdown.clone());
        let served =
            net::serve(listener, Limits::default(), DRAIN, shutdown, move |request, peer| {
                let api = api.clone();
                async move { api.answer_to(Some(peer), request).await }
            })
            .await;
        audit.flush().await;
        served
    }
}

impl Api {
    /// An API that is asked in this process, and believes every caller whose `Host` is `localhost`. Watches end at shutdown.
    ///
    /// # Errors
    /// `Store`.
    pub async fn in_process(parts: Parts, shutdown: Shutdown) -> Result<Self, Error> {
        let (_, started) = parts.store.list_bytes("//").await.map_err(Error::Store)?;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Ok(Self::new(parts, (address, None, Audit::off()), started, shutdown))
    }

    fn new(
        parts: Parts,
        (address, token, audit): (SocketAddr, Option<Token>, Audit),
        started: Revision,
        shutdown: Shutdown,
    ) -> Self {
        let Parts { store, clock, chance, journal, metrics, readiness, backups, reach } = parts;
        let pages = Pages::new(Arc::clone(&clock));
        let began = draft::seconds(clock.now());
        Self(Arc::new(State {
            store,
            clock,
            chance,
            journal,
            metrics,
            readiness,
            backups,
            reach,
            streams: Arc::new(tokio::sync::Semaphore::new(streams::OPEN_MAX)),
            address,
            token,
            audit,
            started,
            began,
            pages,
            quota_turn: tokio::sync::Mutex::new(()),
            turns: Turns::new(),
            shutdown,
        }))
    }

    /// Answers one request of this process.
    pub async fn answer(&self, request: Request<impl RequestBody>) -> Response<Body> {
        self.answer_to(None, request).await
    }

    async fn answer_to(
        &self,
        peer: Option<SocketAddr>,
        request: Request<impl RequestBody>,
    ) -> Response<Body> {
        let state = &*self.0;
        let (head, body) = request.into_parts();
        let call = match Call::parse(&head.method, head.uri.path(), head.uri.query()) {
            // Probes come from wherever the process is watched from, and tell nothing.
            Ok(Call::Live) => return respond::text("ok".to_owned()),
            Ok(Call::Ready) => return ready(state).await,
            call => call,
        };
        let mut line = state.audit.begin((&head, &call), peer, state.clock.now());
        let began = state.clock.monotonic();
        let allowed = token::allowed(state, call, &head, &mut line).await;
        let result = match allowed {
            Ok((caller, Ok(call))) => {
                perform(state, &caller, call.written_by(agent(&head)), &head, body).await
            }
            Ok((_, Err(no_call))) => Err(no_call.into()),
            Err(status) => Err(status),
        };
        if let Some(line) = line {
            state.audit.end(line, &result, state.clock.monotonic().saturating_sub(began));
        }
        let response = result.unwrap_or_else(|status| respond::failure(&status));
        let (method, path) = (&head.method, head.uri.path());
        let code = response.status().as_u16();
        if head.method == Method::GET {
            tracing::debug!(%method, path, code);
        } else {
            tracing::info!(%method, path, code);
        }
        response
    }
}

/// Which program asks.
fn agent(head: &Head) -> &str {
    let agent = head.headers.get(header::USER_AGENT).and_then(|it| it.to_str().ok());
    agent.unwrap_or_default()
}

async fn perform(
    state: &State,
    caller: &Caller,
    call: Call,
    head: &Head,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    let now = state.clock.now();
    let accept = head.headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    let view = |include, form| View::choose(accept, include).map(|it| it.of_form(form));
    let media = Media::of(&head.headers);
    let end = || token::until_it_ends(state, caller);
    match call {
        Call::Live | Call::Ready => Err(Status::no_such_path()),
        Call::Discovery(page) => {
            let (page, media) = discovery::page(page, accept);
            Ok(respond::json_as(&page, media))
        }
        Call::OpenApi(document) => openapi::answer(&document, &head.headers),
        Call::Version => Ok(respond::json(&discovery::version())),
        Call::Metrics => Ok(respond::metrics(state.metrics.render())),
        Call::Logs(options) => Ok(logs::answer(state, options, is_for_people(accept), end())),
        Call::Activity => reported(state, media, body, now).await,
        Call::Backup => backup(state, now).await,
        Call::Get(target) => {
            let view = view(Include::Metadata, target.form)?;
            Ok(respond::json(&read::get(state, &target, view).await?))
        }
        Call::List(scope, options) => {
            let view = view(options.include, scope.form)?;
            let mut many = Many::new(view, scope.kind, now);
            let metadata = read::list(state, &scope, &options, |object| many.add(object)).await?;
            Ok(respond::list(many.end(&metadata)))
        }
        Call::Watch(scope, options) => {
            let view = view(options.include, scope.form)?;
            bodies::watched(state, (&scope, options), view, head, end()).await
        }
        Call::Create(scope, options) => {
            draft::check_writable(scope.kind, None)?;
            let view = view(Include::Metadata, scope.form)?;
            create(state, &scope, &options, (media, body), view).await
        }
        Call::Replace(target, options) => {
            let view = view(Include::Metadata, target.form)?;
            bodies::replace(state, (&target, &options), (media, body), view).await
        }
        Call::Patch(target, options) => {
            let view = view(Include::Metadata, target.form)?;
            let making = may::check_making(caller, &target);
            bodies::change(state, (&target, &options, making), (media, body), view).await
        }
        Call::Delete(object, options) => {
            bodies::delete(state, (&object, &options), media, body).await
        }
        Call::GetScale(object) => Ok(respond::json(&scale::get(state, &object).await?)),
        Call::ReplaceScale(object, options) => {
            bodies::replace_scale(state, (&object, &options), media, body).await
        }
        Call::PatchScale(object, options) => {
            bodies::patch_scale(state, (&object, &options), media, body).await
        }
        Call::Open(pod, wanted) => streams::open(state, head, (pod, wanted), end()).await,
        Call::Usage(pods) => Ok(respond::json(&streams::usage(state, &pods).await?)),
        Call::Order(object, options) => ordered(state, (object, options), media, body).await,
        Call::DeleteCollection(scope, list, options) => {
            bodies::delete_collection(state, (&scope, &list, &options), media, body).await
        }
        Call::Review(review, version) => {
            bodies::reviewed(caller, (review, version), media, body).await
        }
    }
}

/// Whether text is wanted.
fn is_for_people(accept: Option<&str>) -> bool {
    accept.is_some_and(|it| it.starts_with("text/plain"))
}

async fn reported(
    state: &State,
    media: Media,
    body: impl RequestBody,
    now: Timestamp,
) -> Result<Response<Body>, Status> {
    let report = activity::read(&json_body(media, body, REPORT_BYTES_MAX).await?)?;
    activity::record_activity(&state.store, report, now).await?;
    Ok(respond::json(&json!({})))
}

async fn backup(state: &State, now: Timestamp) -> Result<Response<Body>, Status> {
    let written = state.backups.write(&state.store, now).await;
    let written = written.map_err(|error| Status::internal(retry::chain(&error)))?;
    Ok(respond::json(&json!(written)))
}

async fn create(
    state: &State,
    scope: &Scope,
    options: &WriteOptions,
    (media, body): (Media, impl RequestBody),
    view: View,
) -> Result<Response<Body>, Status> {
    check_object(media)?;
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    let (mut object, remarks) = patch::object(media, &body, options.validation)?;
    if let Some(form) = scope.form {
        object = form.read(object, &scope.kind.info().api_version());
    }
    let written = write::create(state, scope, options, object).await?;
    let name = draft::name(&written.object).to_owned();
    let mut response = respond::created(&view.one(scope.kind, written.object, state.clock.now()));
    response.extensions_mut().insert(audit::Named(name));
    respond::warn(&mut response, &remarks);
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

async fn scaled(
    state: &State,
    object: &ObjectRef,
    options: &WriteOptions,
    change: &Change,
) -> Result<Response<Body>, Status> {
    let written = scale::update(state, object, options, change).await?;
    let mut response = respond::json(&written.object);
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

async fn update(
    state: &State,
    target: &Target,
    options: &WriteOptions,
    (change, remarks): (Change, Vec<String>),
    view: View,
) -> Result<Response<Body>, Status> {
    let change = change.of_form(target.form);
    let written = write::update(state, target, options, &change).await?;
    let shown = view.one(target.object.kind, written.object, state.clock.now());
    let mut response = respond::json(&shown);
    respond::warn(&mut response, &remarks);
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

async fn ordered(
    state: &State,
    (object, options): (ObjectRef, WriteOptions),
    media: Media,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    let body = json_body(media, body, BODY_BYTES_MAX).await?;
    Ok(respond::json(&order::order(state, &object, &options, &body).await?))
}

/// Refuses what cannot be an object before it is read.
fn check_object(media: Media) -> Result<(), Status> {
    if matches!(media, Media::Json | Media::Yaml | Media::Protobuf) {
        Ok(())
    } else {
        patch::object(media, b"", FieldValidation::Strict).map(drop)
    }
}

async fn json_body(
    media: Media,
    body: impl RequestBody,
    bytes_max: usize,
) -> Result<bytes::Bytes, Status> {
    if media != Media::Json {
        return Err(Status::unsupported_media_type("the body must be application/json"));
    }
    patch::read(body, bytes_max).await
}

/// Ready is the store's answer and every part's own word.
async fn ready(state: &State) -> Response<Body> {
    let key = write::key(&ObjectRef::new(Kind::Namespace, "", "default"));
    let store = tokio::time::timeout(STORE_ANSWERS, state.store.get_bytes(&key)).await;
    let store = match store {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err("it does not answer".to_owned()),
    };
    let gates = [("store", store)].into_iter().chain(state.readiness.gates());
    let closed: Vec<_> = gates
        .filter_map(|(name, gate)| gate.err().map(|why| format!("[-]{name}: {why}\n")))
        .collect();
    if closed.is_empty() {
        respond::text("ok".to_owned())
    } else {
        respond::not_ready(closed.concat())
    }
}
