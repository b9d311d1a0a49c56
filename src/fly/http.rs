//! The Machines API over HTTP: one request per call, with a token of the rate limit before it, a deadline, and a record for
//! the observer after it. It must never repeat a request by itself, and never show the API token.

mod calls;

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use reqwest::Url;
use serde::Serialize;

use crate::clock::Clock;
use crate::fly::{
    Error, Reason, Refusal,
    call::{Call, Route},
    decode::Answer,
    limit::{Lane, Limiter},
    observer::{CallRecord, Observer},
    token::Token,
    transport::{ANSWER_BYTES_MAX, Failed, Network, Transport, Why},
};

/// Fly's public address of the API.
pub const PUBLIC_URL: &str = "https://api.machines.dev";

/// A longer `Retry-After` is taken for this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// A bucket's pause after a 429 that does not say how long.
const RETRY_AFTER_UNSAID: Duration = Duration::from_secs(1);

/// Where the API is and who we are.
#[derive(Debug, Clone)]
pub struct Config {
    /// [`PUBLIC_URL`], or what stands in for it.
    pub base_url: String,
    /// The API token.
    pub token: Token,
    /// `User-Agent`.
    pub user_agent: String,
    /// Whether calls wait here for Fly's rate limits. Only what stands in for Fly, and has none, may be asked without.
    pub limited: bool,
}

impl Config {
    /// The usual one: `hangar/<version>`.
    #[must_use]
    pub fn new(base_url: &str, token: Token) -> Self {
        let user_agent = concat!("hangar/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { base_url: base_url.to_owned(), token, user_agent, limited: true }
    }
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not `http(s)://host[:port]`, maybe with a path.
    #[error(
        "the base URL of the Machines API must be like {PUBLIC_URL}, without user, query or fragment"
    )]
    BaseUrl,
    /// Empty, or with a character that no header can have.
    #[error("the API token is empty or has a character that no token has")]
    Token,
    /// No TLS, or no certificates to check servers with.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// The client.
#[derive(Debug, Clone)]
pub struct Http {
    transport: Arc<dyn Transport>,
    base: Url,
    token: Token,
    clock: Arc<dyn Clock>,
    limiter: Option<Arc<Limiter>>,
    lane: Lane,
    observer: Arc<dyn Observer>,
}

impl Http {
    /// A client over the network. Connects to nobody yet.
    ///
    /// # Errors
    /// If the base URL or the token cannot be used, or the computer has no certificates for TLS.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        let base = base_url(&config.base_url)?;
        let mut headers = HeaderMap::new();
        let authorization = config.token.header().map_err(|_invalid| SetupError::Token)?;
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        let network = Network::new(headers, &config.user_agent, base.scheme() != "http")
            .map_err(SetupError::Client)?;
        Self::over(Arc::new(network), config, clock, observer)
    }

    /// A client over a transport of one's own, which adds the token itself if it wants one.
    ///
    /// # Errors
    /// If the base URL or the token cannot be used.
    pub fn over(
        transport: Arc<dyn Transport>,
        config: Config,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        let base = base_url(&config.base_url)?;
        if config.token.is_empty() {
            return Err(SetupError::Token);
        }
        let limiter = config.limited.then(|| Arc::new(Limiter::new(Arc::clone(&clock))));
        let (token, lane) = (config.token, Lane::First);
        Ok(Self { transport, base, token, clock, limiter, lane, observer })
    }

    /// The same client, whose calls give way to all others where calls are limited.
    #[must_use]
    pub fn giving_way(&self) -> Self {
        Self { lane: Lane::Spare, ..self.clone() }
    }

    /// The same client with something around its transport.
    #[must_use]
    pub fn carried(mut self, by: impl FnOnce(Arc<dyn Transport>) -> Arc<dyn Transport>) -> Self {
        self.transport = by(self.transport);
        self
    }

    /// Makes a call: takes a token, sends the request, reads the answer, tells the observer.
    async fn send<T: Answer>(&self, mut ask: Ask<'_>) -> Result<T, Error> {
        let call = ask.call();
        let begun = self.clock.monotonic();
        let mut report = Report {
            http: self,
            call: &call,
            begun,
            sent: None,
            outcome: "unsent",
            status: None,
            request_id: None,
        };
        let result = self.exchange(&mut ask, &mut report).await;
        report.outcome = result.as_ref().map_or_else(Error::kind, |_| "ok");
        result
    }

    async fn exchange<T: Answer>(
        &self,
        ask: &mut Ask<'_>,
        report: &mut Report<'_>,
    ) -> Result<T, Error> {
        let call = report.call;
        let wrong = |text: &str| Error::new(call.clone(), Reason::BadRequest).saying(text);
        let url = self.url(ask).ok_or_else(|| wrong("a part of the path is not a name"))?;
        let body = ask.body.take().transpose();
        let body = body.map_err(|_why| wrong("the body cannot be written as JSON"))?;
        let route = ask.route;
        if let Some(limiter) = &self.limiter {
            limiter.take(self.lane, route.name, ask.limited_by, route.rate).await;
        }
        report.sent = Some(self.clock.monotonic());
        report.outcome = "cancelled";
        let request = request(route.method.clone(), &url, body)
            .ok_or_else(|| wrong("the address cannot be written"))?;
        let response = match self.transport.send(request, ask.timeout).await {
            Ok(response) => response,
            Err(failed) => return Err(Self::failed(call, failed, report)),
        };
        let status = response.status();
        report.status = Some(status);
        report.request_id = request_id(response.headers());
        let after = retry_after(response.headers());
        let body = response.body();
        let request_id = report.request_id.as_deref();
        if status.is_success() {
            return T::read(body).map_err(|at| {
                Error::new(call.clone(), Reason::Decode { at }).answered(status, request_id)
            });
        }
        let hide: Vec<&str> = self.token.parts().chain(ask.hide.iter().copied()).collect();
        let refusal = Refusal { status, request_id, after, body, hide: &hide };
        let error = Error::refused(call.clone(), refusal);
        if let (Reason::RateLimited { after }, Some(limiter)) = (&error.reason, &self.limiter) {
            let wait = after.unwrap_or(RETRY_AFTER_UNSAID);
            limiter.pause(route.name, ask.limited_by, route.rate, wait);
        }
        Err(error)
    }

    fn failed(call: &Call, failed: Failed, report: &mut Report<'_>) -> Error {
        let Failed { sent, head, why } = failed;
        let error = match why {
            Why::Lost(source) => Error::lost(call.clone(), sent, source),
            Why::TooLong => {
                let at = format!("byte {ANSWER_BYTES_MAX}");
                Error::new(call.clone(), Reason::Decode { at })
            }
        };
        let Some((status, headers)) = head else { return error };
        report.status = Some(status);
        report.request_id = request_id(&headers);
        error.answered(status, report.request_id.as_deref())
    }

    /// The address: each `{…}` of the template is one path segment, whatever is in it.
    fn url(&self, ask: &Ask<'_>) -> Option<Url> {
        let mut url = self.base.clone();
        let mut path = ask.path.iter();
        {
            let mut segments = url.path_segments_mut().ok()?;
            segments.pop_if_empty();
            for segment in ask.route.template.split('/').skip(1) {
                if segment.starts_with('{') {
                    // URLs swallow dots: a call for machine `..` would be one for all machines.
                    let name = path.next().filter(|it| !matches!(**it, "" | "." | ".."))?;
                    segments.push(name);
                } else {
                    segments.push(segment);
                }
            }
        }
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        Some(url)
    }
}

/// One call as it will be sent.
#[derive(Debug)]
struct Ask<'a> {
    route: &'static Route,
    /// What stands for each `{…}` of the template.
    path: Vec<&'a str>,
    query: Vec<(String, String)>,
    body: Option<Result<Vec<u8>, serde_json::Error>>,
    app: Option<&'a str>,
    object: Option<&'a str>,
    /// What the rate limit counts by.
    limited_by: &'a str,
    timeout: Duration,
    /// Texts that must not come back in an error.
    hide: Vec<&'a str>,
}

impl<'a> Ask<'a> {
    /// Named and limited by what the path names: the machine or volume if there is one, else the app or organisation.
    fn new(route: &'static Route, path: &[&'a str]) -> Self {
        let first = path.first().copied();
        let (app, object) =
            if route.names_app() { (first, path.get(1).copied()) } else { (None, first) };
        Self {
            route,
            path: path.to_vec(),
            query: Vec::new(),
            body: None,
            app,
            object,
            limited_by: object.or(app).unwrap_or_default(),
            timeout: route.timeout,
            hide: Vec::new(),
        }
    }

    /// Names what is not in the path; the limit stays.
    fn about(mut self, object: &'a str) -> Self {
        self.object = Some(object).filter(|it| !it.is_empty());
        self
    }

    fn limited_by(mut self, what: &'a str) -> Self {
        self.limited_by = what;
        self
    }

    fn query(mut self, key: &str, value: &str) -> Self {
        self.query.push((key.to_owned(), value.to_owned()));
        self
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body));
        self
    }

    /// Time that the API itself was given, on top of the route's.
    fn and_within(mut self, timeout: Duration) -> Self {
        self.timeout += timeout;
        self
    }

    fn hiding(mut self, secrets: impl Iterator<Item = &'a str>) -> Self {
        self.hide.extend(secrets);
        self
    }

    fn call(&self) -> Call {
        Call {
            route: self.route,
            app: self.app.map(str::to_owned),
            object: self.object.map(str::to_owned),
        }
    }
}

/// Tells the observer when it is dropped, so that a call given up is told as well.
struct Report<'a> {
    http: &'a Http,
    call: &'a Call,
    begun: Duration,
    sent: Option<Duration>,
    outcome: &'static str,
    status: Option<StatusCode>,
    request_id: Option<String>,
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        let now = self.http.clock.monotonic();
        let sent = self.sent.unwrap_or(now);
        self.http.observer.called(&CallRecord {
            call: self.call,
            waited: sent.saturating_sub(self.begun),
            took: now.saturating_sub(sent),
            outcome: self.outcome,
            status: self.status,
            request_id: self.request_id.as_deref(),
        });
    }
}

fn request(method: ::http::Method, url: &Url, body: Option<Vec<u8>>) -> Option<Request<Bytes>> {
    let mut builder = Request::builder().method(method).uri(url.as_str());
    if body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    builder.body(body.map(Bytes::from).unwrap_or_default()).ok()
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get("fly-request-id")?.to_str().ok()?;
    Some(id.chars().take(100).collect())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn base_url(text: &str) -> Result<Url, SetupError> {
    let url = Url::parse(text.trim()).map_err(|_invalid| SetupError::BaseUrl)?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err(SetupError::BaseUrl) }
}
