//! The local Machines API over real HTTP, with a driver that starts nothing.

mod apps;
mod course;
mod faults;
mod fleet;
mod leases;
mod lifecycle;
mod lists;
mod machines;
mod near;
mod platform;
mod restart;
mod views;
mod volumes;

use std::{path::Path, sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Access, Backend, Config, Error, Keep, Timings, norun::NoRun, serve};
use crate::chance;
use crate::clock::{Clock, System};
use crate::tasks;

/// An answer.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    /// The text of an error, wherever it is.
    fn error(&self) -> &str {
        let text = self.body.get("error").or_else(|| self.body.get("message"));
        text.and_then(Value::as_str).unwrap_or_default()
    }

    fn text(&self, field: &str) -> &str {
        self.body[field].as_str().unwrap_or_default()
    }

    /// The body of an answer that went well.
    #[track_caller]
    fn good(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.body
    }

    #[track_caller]
    fn refused(&self, status: u16, text: &str) {
        assert_eq!((self.status, self.error()), (status, text));
    }
}

/// A backend that serves on a port of its own.
struct Fly {
    backend: Arc<Backend>,
    driver: Arc<NoRun>,
    base: String,
    client: reqwest::Client,
    trigger: tasks::Trigger,
    nonce: Option<String>,
}

/// Slow enough to be seen, fast enough to be waited for; no rate limits, which have a test of their own.
fn config(dir: &Path) -> Config {
    Config {
        timings: Timings {
            prepare: Duration::from_millis(40),
            settle: Duration::from_millis(60),
            destroy: Duration::from_millis(40),
            first_check: Duration::from_millis(5),
            sweep: Duration::from_millis(20),
            ..Timings::default()
        },
        rate_limits: false,
        keep: Keep::Unsynced,
        no_run: true,
        ..Config::new(dir.to_owned())
    }
}

impl Fly {
    async fn open(config: Config, driver: Arc<NoRun>) -> Self {
        // A second installation is refused and changes nothing.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let clock: Arc<dyn Clock> = Arc::new(System::new());
        let backend = loop {
            let randomness = (Arc::clone(&clock), chance::System::shared());
            match Backend::open(config.clone(), Arc::clone(&driver) as _, randomness) {
                // The tasks of one that crashed hold the directory until they have seen it.
                Err(Error::InUse { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
                opened => break opened.unwrap(),
            }
        };
        let listener = crate::net::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let (trigger, shutdown) = tasks::shutdown();
        let served = serve(Arc::clone(&backend), listener, shutdown.clone());
        tasks::detached(async move { served.await.unwrap() });
        backend.resume_all().await;
        let run = Arc::clone(&backend).run(shutdown);
        tasks::detached(async move { run.await.unwrap() });
        let client = reqwest::Client::new();
        Self { backend, driver, base, client, trigger, nonce: None }
    }

    /// As after a kill of the process: nothing is stopped, nothing more is written.
    fn crash(self) -> Arc<NoRun> {
        Arc::clone(&self.driver)
    }

    /// `call("POST /apps", body)`; a null body is not sent.
    async fn call(&self, line: &str, body: Value) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let url = format!("{}/v1{path}", self.base);
        let mut request = self.client.request(method.parse().unwrap(), url).bearer_auth("t");
        if let Some(nonce) = &self.nonce {
            request = request.header("fly-machine-lease-nonce", nonce);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), Value::Null).await
    }

    async fn app(&self, name: &str) {
        let input = json!({"name": name, "org_slug": "personal", "network": format!("net-{name}")});
        self.call("POST /apps", input).await.good();
    }

    /// A machine in app `a` as it is right after its creation.
    async fn create(&self, input: Value) -> Answer {
        self.call("POST /apps/a/machines", input).await
    }

    /// A machine of app `a` that has reached a state.
    async fn machine(&self, state: &str, input: Value) -> String {
        let id = self.create(input).await.good()["id"].as_str().unwrap().to_owned();
        self.reach(&id, state).await;
        id
    }

    async fn on(&self, id: &str, verb: &str) -> Answer {
        self.call(&format!("POST /apps/a/machines/{id}/{verb}"), Value::Null).await
    }

    #[track_caller]
    fn reach(&self, id: &str, state: &str) -> impl Future<Output = ()> {
        let wait = format!("/apps/a/machines/{id}/wait?state={state}&timeout=10");
        async move {
            let waited = self.get(&wait).await;
            assert_eq!(waited.status, 200, "{waited:?}");
        }
    }

    /// `type/status/source` of a machine's events, oldest first.
    async fn events(&self, id: &str) -> Vec<String> {
        let events = self.get(&format!("/apps/a/machines/{id}/events?limit=50")).await.good();
        let word = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        let events = events.as_array().unwrap().iter().rev();
        let line =
            |it| format!("{}/{}/{}", word(it, "type"), word(it, "status"), word(it, "source"));
        events.map(line).collect()
    }
}

impl Drop for Fly {
    fn drop(&mut self) {
        self.backend.close();
        self.trigger.shut_down();
    }
}

/// A backend with app `a`, and the directory that it lives in.
async fn fly() -> (Fly, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let fly = Fly::open(config(dir.path()), Arc::new(NoRun::new())).await;
    fly.app("a").await;
    (fly, dir)
}

/// The smallest machine.
fn small() -> Value {
    json!({"config": {"image": "app"}})
}
