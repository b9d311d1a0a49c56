//! A backend in this process whose time is the runtime's, for what takes long.

use bytes::Bytes;
use http::Request;

use super::*;
use crate::clock::{Paused, Timestamp};
use crate::fly::{token::Token, transport::Transport};
use crate::local::{
    InProcess, NoHooks,
    faults::{Kind, Rule},
};

/// A backend in this process, on the runtime's time, and the way to it.
pub(super) struct Near {
    pub(super) backend: Arc<Backend>,
    pub(super) transport: Arc<dyn Transport>,
    trigger: tasks::Trigger,
}

impl Near {
    pub(super) async fn open() -> Self {
        let clock = Arc::new(Paused::at(Timestamp::UNIX_EPOCH));
        let mut config = Config { keep: Keep::Nothing, ..config(Path::new("")) };
        // Days pass in these tests.
        config.timings.sweep = Timings::default().sweep;
        let chance = Arc::new(chance::Seeded::new(1, "local"));
        let backend = Backend::open(config, Arc::new(NoRun::new()), (clock, chance)).unwrap();
        let (trigger, shutdown) = tasks::shutdown();
        let run = Arc::clone(&backend).run(shutdown);
        tasks::detached(async move { run.await.unwrap() });
        let near = InProcess::new(Arc::clone(&backend), &Token::new("t"), Arc::new(NoHooks));
        Self { backend, transport: Arc::new(near.unwrap()), trigger }
    }

    /// `call("POST /apps", body)`; a null body is not sent. There must be a whole answer.
    pub(super) async fn call(&self, line: &str, body: Value) -> Answer {
        let asked = request("http://fly", line, &body);
        let answer = self.transport.send(asked, Duration::from_secs(100)).await.unwrap();
        let body = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
        Answer { status: answer.status().as_u16(), body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.call(&format!("GET {path}"), Value::Null).await
    }

    pub(super) async fn app(&self, name: &str) {
        let input = json!({"name": name, "org_slug": "personal", "network": format!("net-{name}")});
        self.call("POST /apps", input).await.good();
    }

    /// A machine of app `a` with a name and what else is given, once it has started.
    pub(super) async fn machine(&self, name: &str, mut input: Value) -> String {
        input["name"] = json!(name);
        if input["config"].is_null() {
            input["config"] = json!({"image": "app"});
        }
        let made = self.call("POST /apps/a/machines", input).await.good();
        let id = made["id"].as_str().unwrap().to_owned();
        self.reach(&id, "started").await;
        id
    }

    /// A volume of app `a`.
    pub(super) async fn volume(&self, name: &str, region: &str) -> String {
        let input = json!({"name": name, "region": region});
        let made = self.call("POST /apps/a/volumes", input).await.good();
        made["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn on(&self, id: &str, verb: &str) -> Answer {
        self.call(&format!("POST /apps/a/machines/{id}/{verb}"), Value::Null).await
    }

    pub(super) async fn destroy(&self, id: &str) -> Answer {
        self.call(&format!("DELETE /apps/a/machines/{id}?force=true"), Value::Null).await
    }

    #[track_caller]
    pub(super) fn reach(&self, id: &str, state: &str) -> impl Future<Output = ()> {
        let wait = format!("/apps/a/machines/{id}/wait?state={state}&timeout=60");
        async move {
            let waited = self.get(&wait).await;
            assert_eq!(waited.status, 200, "{waited:?}");
        }
    }

    /// What a machine is really doing.
    #[track_caller]
    pub(super) fn state(&self, id: &str) -> &'static str {
        self.backend.census().machines[id].state
    }

    pub(super) fn fault(&self, rule: Rule) -> u64 {
        self.backend.faults().add(rule).unwrap()
    }

    pub(super) fn fired(&self, kind: Kind) -> u64 {
        self.backend.faults().fired().get(kind.name()).copied().unwrap_or(0)
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        self.backend.close();
        self.trigger.shut_down();
    }
}

pub(super) fn request(base: &str, line: &str, body: &Value) -> Request<Bytes> {
    let (method, path) = line.split_once(' ').unwrap();
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    Request::builder().method(method).uri(format!("{base}/v1{path}")).body(body).unwrap()
}
