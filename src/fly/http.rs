//! The Machines API over HTTP: one request per call, with a token of the rate limit before it, a deadline, and a record for
//! the observer after it. It must never repeat a request by itself, and never show the API token.

mod calls;

use std::{sync::Arc, time::Duration};

use ::http::{HeaderMap, StatusCode, header};
use reqwest::{Client, Url};
use serde::Serialize;

use crate::clock::Clock;
use crate::fly::{
    Error, Reason, Refusal,
    call::{Call, Route},
    decode::Answer,
    limit::Limiter,
    observer::{CallRecord, Observer},
    token::Token,
};

/// Fly's public address of the API.
pub const PUBLIC_URL: &str = "https://api.machines.dev";

/// A list of thousands of machines fits; an endless answer does not fill the memory.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A longer `Retry-After` is taken for this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// A bucket's pause after a 429 that does not say how long.
const RETRY_AFTER_UNSAID: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the API is and who we are.
#[derive(Debug, Clone)]
pub struct Config {
    /// [`PUBLIC_URL`], or what stands in for it.
    pub base_url: String,
    /// The API token.
    pub token: Token,
    /// `User-Agent`.
    pub user_agent: String,
}

impl Config {
    /// The usual one: `hangar/<version>`.
    #[must_use]
    pub fn new(base_url: &str, token: Token) -> Self {
        let user_agent = concat!("hangar/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { base_url: base_url.to_owned(), token, user_agent }
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
#[derive(Debug)]
pub struct Http {
    client: Client,
    base: Url,
    token: Token,
    clock: Arc<dyn Clock>,
    limiter: Limiter,
    observer: Arc<dyn Observer>,
}

impl Http {
    /// A client. Connects to nobody yet.
    ///
    /// # Errors
    /// If the base URL or the token cannot be used, or the computer has no certificates for TLS.
    pub fn new(
        config: Config,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, SetupError> {
        let base = base_url(&config.base_url)?;
        if config.token.is_empty() {
            return Err(SetupError::Token);
        }
        let mut headers = HeaderMap::new();
        let authorization = config.token.header().map_err(|_invalid| SetupError::Token)?;
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(header::ACCEPT, header::HeaderValue::from_static("application/json"));
        // Somebody else may have installed one; any will do.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(config.user_agent)
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            // Closed by us before the other side does it under a request on its way.
            .pool_idle_timeout(Duration::from_secs(30))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // A redirect would take the token elsewhere, and a repeated creation makes two.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if base.scheme() == "http" {
            // Without TLS there need be no certificates on the computer.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(SetupError::Client)?;
        let limiter = Limiter::new(Arc::clone(&clock));
        Ok(Self { client, base, token: config.token, clock, limiter, observer })
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
        self.limiter.take(route.name, ask.limited_by, route.rate).await;
        report.sent = Some(self.clock.monotonic());
        report.outcome = "cancelled";
        let mut request = self.client.request(route.method.clone(), url).timeout(ask.timeout);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        let response = request.send().await.map_err(|lost| Error::lost(call.clone(), lost))?;
        let status = response.status();
        report.status = Some(status);
        report.request_id = request_id(response.headers());
        let after = retry_after(response.headers());
        let body = read(response).await.map_err(|error| {
            let error = match error {
                Unread::Lost(lost) => Error::lost(call.clone(), lost),
                Unread::TooLong => {
                    let at = format!("byte {ANSWER_BYTES_MAX}");
                    Error::new(call.clone(), Reason::Decode { at })
                }
            };
            error.answered(status, report.request_id.as_deref())
        })?;
        let request_id = report.request_id.as_deref();
        if status.is_success() {
            return T::read(&body).map_err(|at| {
                Error::new(call.clone(), Reason::Decode { at }).answered(status, request_id)
            });
        }
        let hide: Vec<&str> = self.token.parts().chain(ask.hide.iter().copied()).collect();
        let refusal = Refusal { status, request_id, after, body: &body, hide: &hide };
        let error = Error::refused(call.clone(), refusal);
        if let Reason::RateLimited { after } = &error.reason {
            let wait = after.unwrap_or(RETRY_AFTER_UNSAID);
            self.limiter.pause(route.name, ask.limited_by, route.rate, wait);
        }
        Err(error)
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

enum Unread {
    Lost(reqwest::Error),
    TooLong,
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, Unread> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Unread::Lost)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Unread::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
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
