//! A typed client of hangar's API: objects, lists, tables, watches, logs. It must never know the store or the server's code,
//! and never tries a call again by itself: [`Error::retry`] says what may be.
//!
//! Objects are whatever deserializes: `serde_json::Value`, or a kind's own type.
//!
//! ```no_run
//! # async fn example() -> Result<(), hangar::client::Error> {
//! use hangar::{api::{environment::Environment, kind::Kind, meta::ObjectRef}, client::Client};
//! let client = Client::new("http://127.0.0.1:7070", None)?;
//! let alice: Environment = client.get(&ObjectRef::new(Kind::Environment, "default", "alice")).await?;
//! # Ok(()) }
//! ```

use std::time::Duration;

use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WARNING},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::api::{kind::Kind, meta::ObjectRef};

mod error;
mod stream;
mod wire;

pub use self::{
    error::Error,
    stream::Lines,
    wire::{
        Backup, Cause, Deleted, List, ListMeta, Query, Status, StatusDetails, Table, TableColumn,
        TableRow, Version, WatchEvent, Watched, Written,
    },
};

/// Where a server listens unless told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:7070";

const MERGE_PATCH: HeaderValue = HeaderValue::from_static("application/merge-patch+json");

/// Longest time to reach the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for an answer that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Client {
    /// A client of the server at `base`, with a bearer token if it wants one.
    ///
    /// # Errors
    /// [`Error::Address`] if `base` is not an http or https URL, or a token would go over plain http to another computer;
    /// [`Error::Setup`] if TLS cannot be set up.
    pub fn new(base: &str, token: Option<String>) -> Result<Self, Error> {
        Self::trusting(base, token, None)
    }

    /// The same, where the certificate of an https server is from this authority, in PEM, and no other is believed.
    ///
    /// # Errors
    /// As [`Client::new`]; [`Error::Authority`] if there is no certificate in it.
    pub fn trusting(
        base: &str,
        token: Option<String>,
        authority: Option<&str>,
    ) -> Result<Self, Error> {
        let (base, http) = transport(base, token.is_some(), authority)?;
        let http = http.build().map_err(|source| Error::Setup { source })?;
        Ok(Self { http, base, token })
    }

    /// Where the server is.
    #[must_use]
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// One object.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `NotFound` if there is none.
    pub async fn get<T: DeserializeOwned>(&self, object: &ObjectRef) -> Result<T, Error> {
        json(self.call(self.request(Method::GET, &path_of(object)?, &[])).await?).await
    }

    /// All objects of a kind that the query selects; `namespace: None` means all namespaces.
    ///
    /// # Errors
    /// As every call.
    pub async fn list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        query: &Query,
    ) -> Result<List<T>, Error> {
        let path = path(kind, namespace, None)?;
        json(self.call(self.request(Method::GET, &path, &query.pairs())).await?).await
    }

    /// The same as [`Client::list`], as the server would have it shown.
    ///
    /// # Errors
    /// As every call.
    pub async fn table(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        query: &Query,
    ) -> Result<Table, Error> {
        let path = path(kind, namespace, None)?;
        let request =
            self.request(Method::GET, &path, &query.pairs()).header(ACCEPT, Table::ACCEPT);
        json(self.call(request).await?).await
    }

    /// One object as a table of one row.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `NotFound` if there is none.
    pub async fn row(&self, object: &ObjectRef) -> Result<Table, Error> {
        let request =
            self.request(Method::GET, &path_of(object)?, &[]).header(ACCEPT, Table::ACCEPT);
        json(self.call(request).await?).await
    }

    /// Makes an object.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `AlreadyExists`, or `Invalid` with each wrong field.
    pub async fn create<T: Serialize + DeserializeOwned + Sync>(
        &self,
        kind: Kind,
        namespace: &str,
        object: &T,
        dry_run: bool,
    ) -> Result<Written<T>, Error> {
        let path = path(kind, Some(namespace), None)?;
        let request = self.request(Method::POST, &path, &write_query(dry_run)).json(object);
        self.written(request).await
    }

    /// Replaces an object; its `metadata.resourceVersion` makes that conditional.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `Conflict` if it was changed since, or `Invalid`.
    pub async fn update<T: Serialize + DeserializeOwned + Sync>(
        &self,
        target: &ObjectRef,
        object: &T,
        dry_run: bool,
    ) -> Result<Written<T>, Error> {
        let request =
            self.request(Method::PUT, &path_of(target)?, &write_query(dry_run)).json(object);
        self.written(request).await
    }

    /// Replaces an object's status and nothing else.
    ///
    /// # Errors
    /// As [`Client::update`].
    pub async fn update_status<T: Serialize + DeserializeOwned + Sync>(
        &self,
        target: &ObjectRef,
        object: &T,
    ) -> Result<Written<T>, Error> {
        let path = format!("{}/status", path_of(target)?);
        let request = self.request(Method::PUT, &path, &write_query(false)).json(object);
        self.written(request).await
    }

    /// Changes an object by a JSON merge patch.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `NotFound`, `Conflict` or `Invalid`.
    pub async fn merge_patch<T: DeserializeOwned>(
        &self,
        target: &ObjectRef,
        patch: &Value,
        dry_run: bool,
    ) -> Result<Written<T>, Error> {
        let request = self
            .request(Method::PATCH, &path_of(target)?, &write_query(dry_run))
            // Before the body: `json` sets a type of its own where there is none.
            .header(CONTENT_TYPE, MERGE_PATCH)
            .json(patch);
        self.written(request).await
    }

    /// Sets how many there are of what an object keeps, by its `scale`.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `NotFound`, or `Invalid` with why it cannot be scaled by a number.
    pub async fn scale(
        &self,
        target: &ObjectRef,
        replicas: u32,
        dry_run: bool,
    ) -> Result<Written<Value>, Error> {
        let path = format!("{}/scale", path_of(target)?);
        let patch = serde_json::json!({"spec": {"replicas": replicas}});
        let request = self.request(Method::PATCH, &path, &write_query(dry_run));
        self.written(request.header(CONTENT_TYPE, MERGE_PATCH).json(&patch)).await
    }

    /// Asks for an object's deletion. It is gone at once, or when its finalizers are.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `NotFound` if there is none.
    pub async fn delete(&self, target: &ObjectRef, dry_run: bool) -> Result<Deleted, Error> {
        let options = serde_json::json!({"propagationPolicy": "Background"});
        let query: &[(&str, String)] = if dry_run { &[("dryRun", "All".to_owned())] } else { &[] };
        let request = self.request(Method::DELETE, &path_of(target)?, query).json(&options);
        let answer: Value = json(self.call(request).await?).await?;
        Ok(if answer.get("kind").is_some_and(|it| it == "Status") {
            Deleted::Gone
        } else {
            Deleted::Going(answer)
        })
    }

    /// Orders something about an orphan: `{"verb": "Delete"}`, or `{"verb": "Adopt", "to": {"namespace", "name"}}`.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `Forbidden` and why it cannot be ordered, `Conflict` while another order is open.
    pub async fn order<T: DeserializeOwned>(
        &self,
        target: &ObjectRef,
        order: &Value,
        dry_run: bool,
    ) -> Result<T, Error> {
        let path = format!("{}/order", path_of(target)?);
        let query: &[(&str, String)] = if dry_run { &[("dryRun", "All".to_owned())] } else { &[] };
        json(self.call(self.request(Method::POST, &path, query).json(order)).await?).await
    }

    /// Changes from a revision on (`None`: first everything there is); ends only when the server or the network ends it.
    ///
    /// # Errors
    /// [`Error::Status`] with reason `Expired` if the revision is too old: list again.
    pub async fn watch<T: Watched>(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        query: &Query,
        after: Option<&str>,
    ) -> Result<Lines<WatchEvent<T>>, Error> {
        let mut pairs = query.pairs();
        pairs.push(("watch", "true".to_owned()));
        pairs.push(("allowWatchBookmarks", "true".to_owned()));
        if let Some(after) = after {
            pairs.push(("resourceVersion", after.to_owned()));
        }
        let path = path(kind, namespace, None)?;
        let request = self.request(Method::GET, &path, &pairs).header(ACCEPT, T::ACCEPT);
        Ok(Lines::watch(self.stream(request).await?))
    }

    /// hangar's own log lines, each a JSON object: the last `limit`, then, with `follow`, the coming ones. `object` keeps
    /// those about one object.
    ///
    /// # Errors
    /// As every call.
    pub async fn logs(
        &self,
        object: Option<&ObjectRef>,
        limit: Option<usize>,
        follow: bool,
    ) -> Result<Lines<Value>, Error> {
        let mut query = Vec::new();
        if let Some(object) = object {
            query.push(("object", object.to_string()));
        }
        if let Some(limit) = limit {
            query.push(("limit", limit.to_string()));
        }
        if follow {
            query.push(("follow", "true".to_owned()));
        }
        Ok(Lines::plain(self.stream(self.request(Method::GET, "/logs", &query)).await?))
    }

    /// Makes the server write an export of its store, beside its data.
    ///
    /// # Errors
    /// As every call.
    pub async fn backup(&self) -> Result<Backup, Error> {
        json(self.call(self.request(Method::POST, "/backups", &[])).await?).await
    }

    /// The server's version.
    ///
    /// # Errors
    /// As every call.
    pub async fn version(&self) -> Result<Version, Error> {
        json(self.call(self.request(Method::GET, "/version", &[])).await?).await
    }

    fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        // A base with a path (`https://host/hangar`) keeps it.
        let url = format!("{}{path}", self.base());
        let request = self.http.request(method, url).query(query);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request whose answer is read at once.
    async fn call(&self, request: RequestBuilder) -> Result<Response, Error> {
        self.stream(request.timeout(ANSWER_TIMEOUT)).await
    }

    /// Sends a request and refuses what is not a 2xx.
    async fn stream(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|source| {
            // It is in our own text already, and its path says nothing more.
            let source = source.without_url();
            if source.is_connect() {
                Error::Connect { server: self.base().to_owned(), source }
            } else {
                Error::Transport { server: self.base().to_owned(), source }
            }
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let after =
            response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
        let body = response.bytes().await.unwrap_or_default();
        Err(error::refusal(self.base(), code, after, &body))
    }

    async fn written<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Written<T>, Error> {
        let response = self.call(request).await?;
        let warnings = response
            .headers()
            .get_all(WARNING)
            .iter()
            .filter_map(|it| std::str::from_utf8(it.as_bytes()).ok())
            .map(wire::warning_text)
            .collect();
        Ok(Written { object: json(response).await?, warnings })
    }
}

fn path_of(object: &ObjectRef) -> Result<String, Error> {
    path(object.kind, Some(&object.namespace), Some(&object.name))
}

/// Every part is a name: `?`, `.` or `a/b` in the place of one would ask for something else, such as all objects.
fn path(kind: Kind, namespace: Option<&str>, name: Option<&str>) -> Result<String, Error> {
    let namespace = namespace.filter(|_| kind.info().namespaced);
    for part in namespace.into_iter().chain(name) {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b':');
        if matches!(part, "" | "." | "..") || !part.bytes().all(plain) {
            return Err(Error::Name(part.to_owned()));
        }
    }
    Ok(kind.info().path(namespace, name))
}

fn write_query(dry_run: bool) -> Vec<(&'static str, String)> {
    let mut query =
        vec![("fieldManager", "hangar".to_owned()), ("fieldValidation", "Strict".to_owned())];
    if dry_run {
        query.push(("dryRun", "All".to_owned()));
    }
    query
}

/// The way to a server: its address, and what makes connections to it.
///
/// # Errors
/// As [`Client::trusting`].
pub(crate) fn transport(
    base: &str,
    has_token: bool,
    authority: Option<&str>,
) -> Result<(Url, reqwest::ClientBuilder), Error> {
    let address = |reason: &str| Error::Address { url: base.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(base).map_err(|error| address(&error.to_string()))?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(address("write http://host:port or https://host"));
    };
    if url.scheme() == "http" && has_token && !is_loopback(host) {
        return Err(address("a token is sent over https only"));
    }
    let mut builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("hangar/", env!("CARGO_PKG_VERSION")));
    if is_loopback(host) {
        // A proxy for the outside world cannot reach this computer's own ports.
        builder = builder.no_proxy();
    }
    if url.scheme() == "http" {
        // No certificate will be looked at, and a computer without any must not be refused for it.
        builder = builder.tls_certs_only([]);
    } else if let Some(authority) = authority {
        let certificates = reqwest::Certificate::from_pem_bundle(authority.as_bytes())
            .map_err(|source| Error::Setup { source })?;
        if certificates.is_empty() {
            return Err(Error::Authority);
        }
        builder = builder.tls_certs_only(certificates);
    }
    // Somebody else may have installed it already, which is as good.
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    Ok((url, builder))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
}

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, Error> {
    let server = response.url().origin().ascii_serialization();
    let path = response.url().path().to_owned();
    let body = response.bytes().await.map_err(|source| Error::Transport { server, source })?;
    serde_json::from_slice(&body).map_err(|source| Error::Answer { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_asks_for_nothing() {
        let ask = |namespace, name| path(Kind::Environment, Some(namespace), Some(name));
        assert!(
            ask("default", "alice").unwrap().ends_with("/namespaces/default/environments/alice")
        );
        for bad in ["", ".", "..", "?", "#", "a/b", "a?b", "%2e", "a b", "ä", "a\n"] {
            assert!(matches!(ask("default", bad), Err(Error::Name(_))), "{bad:?}");
            assert!(matches!(ask(bad, "alice"), Err(Error::Name(_))), "{bad:?}");
        }
        // Kinds without a namespace are asked for without one.
        assert!(path(Kind::Namespace, Some(""), Some("team-a")).is_ok());
    }
}
