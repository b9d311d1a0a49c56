//! One HTTP request: token, rate limit, call, answer. It must never know what a call does.

use std::{net::SocketAddr, sync::Arc, sync::PoisonError, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use tokio::net::TcpListener;

use crate::local::{
    Access, Backend,
    apps::list_apps,
    call::{self, Call},
    delivered::Delivered,
    faults::{Look, Subject},
    limits,
    refusal::Refusal,
    respond::{self, Reply},
    route,
};
use crate::net::{self, Body};
use crate::tasks::Shutdown;

const BODY_BYTES_MAX: usize = 1024 * 1024;
const DRAIN: Duration = Duration::from_secs(5);

/// Serves the Machines API until shutdown.
///
/// # Errors
/// As [`net::serve`].
pub async fn serve(
    backend: Arc<Backend>,
    listener: TcpListener,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    net::serve(listener, net::Limits::default(), DRAIN, shutdown, move |request, peer| {
        let backend = Arc::clone(&backend);
        async move { backend.over_http(request, peer).await }
    })
    .await
}

/// What a token may see; `None` means everything.
type Orgs = Option<Vec<String>>;

/// A request as far as it can be read without knowing whether it is allowed.
struct Asked {
    method: &'static str,
    template: &'static str,
    path: Vec<String>,
    uri: Uri,
    authorization: String,
    call: Result<Call, Refusal>,
}

impl Asked {
    fn of(request: Request<Bytes>) -> Self {
        let header = |name: &str| request.headers().get(name).and_then(|it| it.to_str().ok());
        let authorization = header(AUTHORIZATION.as_str()).unwrap_or_default().to_owned();
        let nonce = header("fly-machine-lease-nonce").map(str::to_owned);
        let method = method(request.method());
        let uri = request.uri().clone();
        let path = uri.path().trim_matches('/').split('/').map(|it| route::decode(it, false));
        let path: Vec<String> = path.collect();
        let body = request.into_body();
        let query = route::Query::parse(uri.query().unwrap_or_default());
        let request = route::Request { method, path, query, nonce, body };
        let (template, call) = route::parse(&request);
        Self { method, template, path: request.path, uri, authorization, call }
    }
}

impl Backend {
    async fn over_http(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let whole = match Limited::new(body, BODY_BYTES_MAX).collect().await {
            Ok(body) => Ok(Request::from_parts(head, body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err((method(&head.method), "too large", Refusal::TooLarge))
            }
            Err(error) => {
                let refusal = Refusal::Invalid(error.to_string());
                Err((method(&head.method), "cut short", refusal))
            }
        };
        let delivered = match whole {
            Ok(request) => self.answer(request).await,
            Err((method, route, refusal)) => {
                Delivered::Whole(self.reply(method, route, Err(refusal)))
            }
        };
        tracing::debug!(%peer, status = delivered.status(), "answered");
        delivered.over_http()
    }

    /// One request and what reaches the caller of its answer, whatever carried it here.
    pub async fn answer(self: &Arc<Self>, request: Request<Bytes>) -> Delivered {
        if let Some((route, outcome)) = self.own(&request) {
            return Delivered::Whole(self.reply(method(request.method()), route, outcome));
        }
        let asked = Asked::of(request);
        let (method, template) = (asked.method, asked.template);
        let call = asked.call.as_ref().ok();
        let fault = self.reply_fault(|| self.subject((method, template), call));
        if let Some(instead) = fault.as_ref().and_then(|it| self.instead(it, template)) {
            self.metrics.count(method, template, instead.status());
            return instead;
        }
        let outcome = self.outcome(asked).await;
        let real = self.reply(method, template, outcome);
        match fault {
            Some(rule) => self.bend(&rule, template, real).await,
            None => Delivered::Whole(real),
        }
    }

    fn subject(&self, route: (&'static str, &'static str), call: Option<&Call>) -> Subject {
        Subject::call(route, call, &self.lock(), &self.config.regions)
    }

    /// What is this backend's own and not Fly's.
    fn own(&self, request: &Request<Bytes>) -> Option<(&'static str, Result<Reply, Refusal>)> {
        let method = method(request.method());
        let path = request.uri().path();
        if method == "GET" && path == "/metrics" {
            return Some(("/metrics", Ok(Reply::Text(self.metrics.text()))));
        }
        let below = path.strip_prefix("/_local/faults")?;
        let (route, id) = match below.strip_prefix('/') {
            Some(id) if !id.is_empty() => ("/_local/faults/{id}", Some(id)),
            Some(_) => ("/_local/faults", None),
            None if below.is_empty() => ("/_local/faults", None),
            None => return None,
        };
        let authorization = request.headers().get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        let allowed = self.authenticate(authorization.unwrap_or_default());
        Some((route, allowed.and_then(|_| self.control_faults(method, id, request.body()))))
    }

    pub(super) fn request_id(&self) -> String {
        format!("{}-local", self.ids.ulid())
    }

    fn reply(
        &self,
        method: &'static str,
        route: &'static str,
        outcome: Result<Reply, Refusal>,
    ) -> Response<Bytes> {
        let request_id = self.request_id();
        if let Err(refusal) = &outcome {
            tracing::debug!(%method, route, %refusal, request_id, "refused");
        }
        let route =
            if outcome == Err(Refusal::Unauthenticated) { "unauthenticated" } else { route };
        let response = respond::response(outcome, &request_id);
        self.metrics.count(method, route, response.status().as_u16());
        response
    }

    async fn outcome(self: &Arc<Self>, asked: Asked) -> Result<Reply, Refusal> {
        let orgs = self.authenticate(&asked.authorization)?;
        self.limit(asked.method, asked.template, &asked.path)?;
        let call = asked.call?;
        let route = (asked.method, asked.template);
        let look = self.look(|| self.subject(route, Some(&call)), &asked.uri);
        self.authorize(&call, orgs.as_deref())?;
        self.befall(&call, || self.subject(route, Some(&call))).await?;
        // Boxed, since the largest of all calls would be in every connection otherwise.
        if may_be_cut(&call) {
            Box::pin(self.apply(call, &look)).await
        } else {
            let backend = Arc::clone(self);
            self.whole(async move { Box::pin(backend.apply(call, &look)).await }).await
        }
    }

    /// `Bearer` or `FlyV1` and at least one token that is good, of a comma-separated list.
    fn authenticate(&self, header: &str) -> Result<Orgs, Refusal> {
        let (scheme, tokens) = header.split_once(' ').ok_or(Refusal::Unauthenticated)?;
        if !scheme.eq_ignore_ascii_case("bearer") && !scheme.eq_ignore_ascii_case("flyv1") {
            return Err(Refusal::Unauthenticated);
        }
        let mut tokens = tokens.split(',').map(str::trim).filter(|it| !it.is_empty());
        match &self.config.access {
            Access::AnyToken => tokens.next().map(|_| None).ok_or(Refusal::Unauthenticated),
            Access::Tokens(known) => {
                let found: Vec<_> = tokens.filter_map(|it| known.get(it)).collect();
                if found.is_empty() {
                    return Err(Refusal::Unauthenticated);
                }
                Ok(Some(found.into_iter().flatten().cloned().collect()))
            }
        }
    }

    /// App names are global, so an app of a stranger is told from one that does not exist.
    fn authorize(&self, call: &Call, orgs: Option<&[String]>) -> Result<(), Refusal> {
        let Some(orgs) = orgs else { return Ok(()) };
        let org = match call {
            Call::ListApps { org }
            | Call::OrgMachines { org, .. }
            | Call::OrgVolumes { org, .. } => Some(org.clone()),
            Call::CreateApp(input) => Some(input.org_slug.clone()),
            Call::App { app, .. } | Call::Machine { app, .. } | Call::Volume { app, .. } => {
                self.lock().apps.get(app).map(|it| it.org.clone())
            }
            Call::Regions | Call::Placements(_) => None,
        };
        match org {
            Some(org) if !org.is_empty() && !orgs.contains(&org) => Err(Refusal::Forbidden),
            Some(_) | None => Ok(()),
        }
    }

    fn limit(
        &self,
        method: &'static str,
        route: &'static str,
        path: &[String],
    ) -> Result<(), Refusal> {
        let (rate, on) = match (method, route, path) {
            ("DELETE", "/v1/apps/{app}", _) => (limits::DELETE_APP, ""),
            ("GET", "/v1/apps/{app}/machines/{id}", [_, _, _, _, id]) => {
                (limits::GET_MACHINE, id.as_str())
            }
            (_, _, [_, apps, _, kind, id, ..])
                if apps == "apps" && (kind == "machines" || kind == "volumes") =>
            {
                (limits::ACTION, id.as_str())
            }
            (_, _, [_, apps, app, kind])
                if apps == "apps" && (kind == "machines" || kind == "volumes") =>
            {
                (limits::ACTION, app.as_str())
            }
            _ => return Ok(()),
        };
        if !self.config.rate_limits || route == "unknown" {
            return Ok(());
        }
        let on = format!("{method} {on}");
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.take(route, &on, rate, self.clock.monotonic()) {
            Ok(())
        } else {
            Err(Refusal::RateLimited)
        }
    }

    async fn apply(self: &Arc<Self>, call: Call, look: &Look) -> Result<Reply, Refusal> {
        match call {
            Call::ListApps { org } => list_apps(&self.view(look), &org),
            Call::CreateApp(input) => self.create_app(input).await,
            Call::App { app, call } => self.app_call(&app, call, look).await,
            Call::Machine { app, id, nonce, call } => {
                self.machine_call((&app, &id), nonce.as_deref(), call, look).await
            }
            Call::Volume { app, id, call } => self.volume_call(&app, &id, call, look).await,
            Call::OrgMachines { org, page } => {
                self.list_org_machines(&self.view(look), &org, &page)
            }
            Call::OrgVolumes { org, page } => self.list_org_volumes(&self.view(look), &org, &page),
            Call::Regions => self.regions(),
            Call::Placements(input) => self.placements(&input),
        }
    }
}

/// Whether a call ends with its caller: those that wait, and change nothing themselves while they do.
fn may_be_cut(call: &Call) -> bool {
    use call::MachineCall::{Destroy, Exec, Stop, Wait};
    matches!(call, Call::Machine { call: Wait(_) | Exec(_) | Stop(_) | Destroy { .. }, .. })
}

/// A label must come from a closed set.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
