//! The API over real HTTP on a memory store, through one helper. Each file is one subject.

mod access;
mod apply;
mod audit;
mod backup;
mod bad_body;
mod clients;
mod collect;
mod crud;
mod guard;
mod hold;
mod hostname;
mod list;
mod order;
mod pods;
mod quota;
mod scale;
mod secret;
mod streams;
mod validation;
mod watch;

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Access, Config, Parts, Readiness, Server, Token,
    audit::Audit,
    bootstrap, collect as collector,
    tls::{Source, Tls},
};
use crate::chance;
use crate::clock::{Clock, Manual, Timestamp};
use crate::store::{backup::Backups, crypt::Cipher, handle::Store, memory::Memory};
use crate::tasks::{self, Trigger};
use crate::telemetry::{Journal, Metrics};

/// Where environments of the default namespace are.
const ENVS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";
/// Where namespaces are.
const NAMESPACES: &str = "/api/v1/namespaces";
/// Where secrets of the default namespace are.
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
/// How long a test waits for what must happen.
const SOON: Duration = Duration::from_secs(20);

/// A running server and its caller.
struct Api {
    url: String,
    http: reqwest::Client,
    /// The certificate to know, where there is TLS.
    authority: Option<String>,
    store: Store,
    clock: Arc<Manual>,
    parts: Parts,
    audit: Audit,
    trigger: Trigger,
    shutdown: tasks::Shutdown,
    /// Where exports are.
    dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
struct Reply {
    code: u16,
    body: Value,
    headers: reqwest::header::HeaderMap,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.trigger.shut_down();
    }
}

impl Api {
    async fn start() -> Self {
        Self::start_with(None).await
    }

    async fn start_with(token: Option<&str>) -> Self {
        Self::reaching(token, Arc::new(super::reach::Nowhere)).await
    }

    async fn reaching(token: Option<&str>, reach: Arc<dyn super::reach::Reach>) -> Self {
        let store =
            Store::new(Arc::new(Memory::new()), Cipher::ephemeral().unwrap(), &["secrets/"]);
        let clock = Arc::new(Manual::at("2026-09-01T12:00:00.5Z".parse().unwrap()));
        bootstrap(&store, &*clock, &chance::System).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts {
            store: store.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            chance: chance::System::shared(),
            journal: Journal::in_memory(),
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            backups: Backups::in_dir(dir.path()),
            reach,
        };
        let (access, authority) = access(token, dir.path(), clock.now());
        let audit = Audit::to_file(&dir.path().join("audit.log")).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = Config { listen, access, audit: audit.clone() };
        let server = Server::bind(config, parts.clone()).await.unwrap();
        let scheme = if authority.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", server.address());
        let (trigger, shutdown) = tasks::shutdown();
        let until = shutdown.clone();
        tasks::detached(async move { server.serve(until).await.unwrap() });
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let roots = authority.iter().map(|it| it.as_bytes());
        let roots = roots.map(|it| reqwest::Certificate::from_pem(it).unwrap());
        let http = reqwest::Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
        Self { url, http, authority, store, clock, parts, audit, trigger, shutdown, dir }
    }

    /// Starts the collector beside the server.
    fn collect(&self) {
        let (store, clock) = (self.store.clone(), Arc::clone(&self.parts.clock));
        let shutdown = self.shutdown.clone();
        tasks::detached(async move { collector::run(store, clock, shutdown).await.unwrap() });
    }

    fn request(&self, request: &str) -> reqwest::RequestBuilder {
        let (method, path) = request.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// One call: `GET /path`, and a body where there is one.
    async fn call(&self, request: &str, body: Option<&Value>) -> Reply {
        let (media, body) = match request.split_once(' ').unwrap().0 {
            "PATCH" if body.is_some_and(Value::is_array) => ("application/json-patch+json", body),
            "PATCH" => ("application/merge-patch+json", body),
            _ => ("application/json", body),
        };
        let mut builder = self.request(request);
        if let Some(body) = body {
            builder = builder.header("content-type", media).body(body.to_string());
        }
        self.send(builder).await
    }

    async fn send(&self, builder: reqwest::RequestBuilder) -> Reply {
        let response = builder.send().await.unwrap();
        let (code, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply { code, body, headers }
    }

    async fn get(&self, path: &str) -> Reply {
        self.call(&format!("GET {path}"), None).await
    }

    async fn post(&self, path: &str, body: &Value) -> Reply {
        self.call(&format!("POST {path}"), Some(body)).await
    }

    async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.call(&format!("PATCH {path}"), Some(body)).await
    }

    /// Applies a configuration; the path says as whom.
    async fn apply(&self, path: &str, configuration: &Value) -> Reply {
        let request = self.request(&format!("PATCH {path}"));
        let request = request.header("content-type", "application/apply-patch+yaml");
        self.send(request.body(configuration.to_string())).await
    }

    async fn delete(&self, path: &str) -> Reply {
        self.call(&format!("DELETE {path}"), None).await
    }

    /// Makes an environment and returns it.
    async fn env(&self, name: &str) -> Value {
        let reply = self.post(ENVS, &env(name)).await;
        assert_eq!(reply.code, 201, "{}", reply.body);
        reply.body
    }

    /// Takes the finalizers off, as the reconciler does when nothing is left at Fly.
    async fn finish(&self, path: &str) -> Reply {
        self.patch(path, &json!({"metadata": {"finalizers": null}})).await
    }

    /// Opens a watch.
    async fn watch(&self, path_and_query: &str) -> Lines {
        let response = self.request(&format!("GET {path_and_query}")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Lines { response, rest: Vec::new() }
    }
}

/// Who is let in: everybody, or whoever shows this token, over TLS.
fn access(token: Option<&str>, dir: &Path, now: Timestamp) -> (Access, Option<String>) {
    let Some(token) = token else { return (Access::Open, None) };
    let tls = Source::Own { dir: dir.join("tls"), names: Vec::new() };
    let tls = Tls::open(tls, now).unwrap();
    let authority = tls.authority();
    (Access::Tokens { token: Token::new(token), tls }, authority)
}

/// JSON lines of an endless answer.
struct Lines {
    response: reqwest::Response,
    rest: Vec<u8>,
}

impl Lines {
    /// The next line; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|&c| c == b'\n') {
                let line: Vec<_> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await.unwrap();
            self.rest.extend_from_slice(&chunk.ok()??);
        }
    }

    /// The next event in short: `ADDED alice`.
    async fn event(&mut self) -> Option<String> {
        let event = self.next().await?;
        let name = event.pointer("/object/metadata/name").and_then(Value::as_str);
        Some(format!("{} {}", text(&event, "/type"), name.unwrap_or_default()).trim().to_owned())
    }
}

/// An environment's manifest.
fn env(name: &str) -> Value {
    json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name},
        "spec": {"templateRef": {"name": "node"}, "owner": "alice@example.com"},
    })
}

/// An opaque secret's manifest.
fn secret(name: &str, value: &str) -> Value {
    use base64::Engine as _;
    let value = base64::engine::general_purpose::STANDARD.encode(value);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "Opaque",
        "data": {"KEY": value},
    })
}

/// Text at a JSON pointer, or nothing.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn revision(object: &Value) -> u64 {
    text(object, "/metadata/resourceVersion").parse().unwrap()
}

/// Waits until something is true.
async fn eventually<F: Future<Output = bool>>(what: &str, mut is_true: impl FnMut() -> F) {
    let wait = async {
        while !is_true().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "it never happened that {what}");
}
