//! What a careless controller sends to Fly and believes of its answers. It must never answer what Fly did not, but for what
//! it takes for gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response, Uri};
use serde_json::{Map, Value, json};

use crate::{
    clock::Clock,
    fly::transport::{Failed, Transport},
    plan::machine::{BAY, EPOCH},
    sim::{
        careless::{
            BELIEVED_FOR,
            pools::{self, Claims},
            route,
        },
        mistakes::Mistake,
    },
    telemetry::journal::{Journal, Line, Outcome},
};

/// How often a refused call is repeated at once.
const REPEATS: usize = 40;

type Answer = Result<Response<Bytes>, Failed>;

/// A way to Fly with a mistake.
#[derive(Debug)]
pub(super) struct Wire {
    mistake: Mistake,
    inner: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    journal: Journal,
    known: Mutex<Known>,
    claims: Claims,
}

#[derive(Debug, Default)]
struct Known {
    /// Machines or volumes that a list had.
    listed: BTreeSet<String>,
    /// What is taken for gone, and until when.
    gone: BTreeMap<String, Duration>,
    /// Values of secrets.
    secrets: Map<String, Value>,
    /// Metadata of machines, by their names.
    marks: BTreeMap<String, Value>,
}

impl Wire {
    pub(super) fn new(
        mistake: Mistake,
        inner: Arc<dyn Transport>,
        clock: Arc<dyn Clock>,
        journal: Journal,
    ) -> Self {
        Self { mistake, inner, clock, journal, known: Mutex::default(), claims: Claims::default() }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn exchange(&self, request: Request<Bytes>, timeout: Duration) -> Answer {
        let call = route(request.method(), request.uri().path()).map_or("", |it| it.name);
        let request = self.sent(call, request, timeout).await;
        let answer = self.carry(call, &request, timeout).await?;
        Ok(self.heard(call, &request, answer))
    }

    /// What is sent instead.
    async fn sent(
        &self,
        call: &str,
        mut request: Request<Bytes>,
        timeout: Duration,
    ) -> Request<Bytes> {
        let mut body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        match (self.mistake, call) {
            (Mistake::SharedNetwork, "create_app") => body["network"] = json!("default"),
            (Mistake::SecretsAsVariables, "set_secrets") => {
                self.known()
                    .secrets
                    .extend(body["values"].as_object().cloned().unwrap_or_default());
            }
            (Mistake::SecretsAsVariables, "create_machine" | "update_machine") => {
                if let Some(env) = body["config"]["env"].as_object_mut() {
                    env.extend(self.known().secrets.clone());
                }
            }
            (Mistake::ReuseEpoch, "create_machine" | "update_machine") => {
                body["config"]["metadata"][EPOCH] = json!("1");
            }
            (Mistake::AdoptByName, "create_machine") => {
                let name = body["name"].as_str().unwrap_or_default().to_owned();
                self.known().marks.insert(name, body["config"]["metadata"].clone());
            }
            (Mistake::WriteForAnother, "exec") => self.claims.given(self.mistake, &mut body),
            (Mistake::LogBodies, _) if !request.body().is_empty() => self.journal.record(Line {
                at: self.clock.now(),
                object: request.uri().path().to_owned(),
                action: call.to_owned(),
                outcome: Outcome::Waiting,
                duration_ms: None,
                message: String::from_utf8_lossy(request.body()).into_owned(),
                request_id: None,
            }),
            (Mistake::DestroyByName, "destroy_machine") => {
                if let Some(id) = self.named_as(&request, timeout).await {
                    put_last(&mut request, &id);
                }
            }
            (_, "get_machine" | "get_volume") if self.takes_for_gone(last(&request)) => {
                // Nothing has this id.
                put_last(&mut request, "00000000000000");
            }
            (_, _) => {}
        }
        if !request.body().is_empty() {
            *request.body_mut() = Bytes::from(body.to_string());
        }
        request
    }

    /// The newest machine in the same app whose name begins as that of the one that is meant.
    async fn named_as(&self, request: &Request<Bytes>, timeout: Duration) -> Option<String> {
        let path = request.uri().path();
        let (list, meant) = path.rsplit_once('/')?;
        let mut get = request.clone();
        *get.method_mut() = Method::GET;
        *get.body_mut() = Bytes::new();
        *get.uri_mut() = Uri::try_from(format!("http://fly.invalid{list}")).ok()?;
        let listed = self.inner.send(get, timeout).await.ok()?;
        let listed: Vec<Value> = serde_json::from_slice(listed.body()).ok()?;
        let is_meant = |it: &&Value| it["id"] == meant;
        let (name, _) = listed.iter().find(is_meant)?["name"].as_str()?.rsplit_once('-')?;
        let called =
            listed.iter().filter(|it| it["name"].as_str().is_some_and(|it| it.starts_with(name)));
        let newest = called.max_by_key(|it| it["created_at"].as_str().map(str::to_owned))?;
        Some(newest["id"].as_str()?.to_owned())
    }

    /// Sends it, as often as a careless controller does.
    async fn carry(&self, call: &str, request: &Request<Bytes>, timeout: Duration) -> Answer {
        let send = || self.inner.send(request.clone(), timeout);
        let creates = matches!(call, "create_app" | "create_volume" | "create_machine");
        let refused =
            |answer: &Answer| answer.as_ref().is_ok_and(|it| it.status().is_client_error());
        match self.mistake {
            Mistake::TwoAtOnce if creates => futures::join!(send(), send()).0,
            Mistake::RetryBlindly if creates => {
                let answer = send().await;
                let unclear = |it: &Response<Bytes>| {
                    it.status().is_server_error() || it.status().as_u16() == 408
                };
                if answer.as_ref().map_or_else(|it| it.sent, unclear) {
                    send().await
                } else {
                    answer
                }
            }
            Mistake::RestartToPersonalize if call == "exec" => {
                if let Some(restart) = pools::restart_before(request) {
                    // Whatever becomes of it.
                    let _restarted = self.inner.send(restart, timeout).await;
                }
                send().await
            }
            Mistake::RetryHotly if *request.method() != Method::GET => {
                let mut answer = send().await;
                for _ in 0..REPEATS {
                    if !refused(&answer) {
                        break;
                    }
                    answer = send().await;
                }
                answer
            }
            _ => send().await,
        }
    }

    /// What is understood instead.
    fn heard(
        &self,
        call: &str,
        request: &Request<Bytes>,
        answer: Response<Bytes>,
    ) -> Response<Bytes> {
        if !answer.status().is_success() {
            return answer;
        }
        let Ok(mut body) = serde_json::from_slice::<Value>(answer.body()) else { return answer };
        let before = body.clone();
        let whole = request.uri().query().is_none_or(|it| !it.contains("updated_after"));
        match (self.mistake, call) {
            (Mistake::TrustEmptyList | Mistake::TrustPartialList, "org_machines") => {
                self.believe(&mut body, "machines", whole);
            }
            (Mistake::SkipExitCode, "exec") => body["exit_code"] = json!(0),
            (Mistake::EmptyOverData, "org_volumes") => self.believe(&mut body, "volumes", true),
            (Mistake::TrustEmptyList | Mistake::TrustPartialList, "list_machines") => {
                if let Some(items) = body.as_array_mut() {
                    items.retain(|it| !self.takes_for_gone(id(it)));
                }
            }
            (_, "get_machine" | "list_machines" | "org_machines") => {
                each_machine(&mut body, &|machine| self.machine(machine));
            }
            (_, _) => {}
        }
        if body == before {
            return answer;
        }
        let (head, _) = answer.into_parts();
        Response::from_parts(head, Bytes::from(body.to_string()))
    }

    /// Takes what a list lacks for gone.
    fn believe(&self, body: &mut Value, field: &str, whole: bool) {
        let now = self.clock.monotonic();
        let partial = body["error_regions"].as_array().is_some_and(|it| !it.is_empty());
        let Some(items) = body.get_mut(field).and_then(Value::as_array_mut) else { return };
        let listed: BTreeSet<_> = items.iter().map(|it| id(it).to_owned()).collect();
        let believes = match self.mistake {
            Mistake::TrustPartialList => partial,
            _ => items.is_empty(),
        };
        let mut known = self.known();
        if whole && believes {
            let lacks: Vec<_> = known.listed.difference(&listed).cloned().collect();
            known.gone.extend(lacks.into_iter().map(|it| (it, now + BELIEVED_FOR)));
        }
        known.listed.extend(listed);
        drop(known);
        items.retain(|it| !self.takes_for_gone(id(it)));
        if let Some(body) = body.as_object_mut() {
            body.remove("error_regions");
        }
    }

    fn takes_for_gone(&self, id: &str) -> bool {
        let now = self.clock.monotonic();
        self.known().gone.get(id).is_some_and(|until| now < *until)
    }

    fn machine(&self, machine: &mut Value) {
        match self.mistake {
            Mistake::StoppedIsDead if machine["state"] == "stopped" => {
                machine["state"] = json!("destroyed");
            }
            Mistake::UpdateAlways => {
                // A default that Fly fills in, and nobody asks for.
                if let Some(config) = machine.get_mut("config").and_then(Value::as_object_mut) {
                    config.remove("restart");
                }
            }
            Mistake::ReuseEpoch => {
                let name = machine["name"].as_str().unwrap_or_default().to_owned();
                let metadata = machine.pointer_mut("/config/metadata");
                if let (Some(metadata), Some((_, epoch))) = (metadata, name.rsplit_once('-')) {
                    metadata[EPOCH] = json!(epoch);
                }
            }
            Mistake::AdoptByName => {
                let known = self.known();
                let Some(marks) = known.marks.get(machine["name"].as_str().unwrap_or_default())
                else {
                    return;
                };
                if machine.pointer("/config/metadata").and_then(|it| it.get(BAY)).is_none() {
                    machine["config"]["metadata"] = marks.clone();
                }
            }
            _ => {}
        }
    }
}

impl Transport for Wire {
    fn send(&self, request: Request<Bytes>, timeout: Duration) -> BoxFuture<'_, Answer> {
        self.exchange(request, timeout).boxed()
    }
}

fn id(object: &Value) -> &str {
    object.get("id").and_then(Value::as_str).unwrap_or_default()
}

fn last(request: &Request<Bytes>) -> &str {
    request.uri().path().rsplit('/').next().unwrap_or_default()
}

/// Puts another name at the end of the path.
fn put_last(request: &mut Request<Bytes>, id: &str) {
    let path = request.uri().path().rsplit_once('/').map_or("", |it| it.0);
    let query = request.uri().query().map(|it| format!("?{it}")).unwrap_or_default();
    if let Ok(uri) = Uri::try_from(format!("http://fly.invalid{path}/{id}{query}")) {
        *request.uri_mut() = uri;
    }
}

/// Every machine of an answer: of one, of an app's list, or of the organisation's.
fn each_machine(body: &mut Value, change: &dyn Fn(&mut Value)) {
    match body {
        Value::Array(items) => items.iter_mut().for_each(change),
        Value::Object(fields) => match fields.get_mut("machines").and_then(Value::as_array_mut) {
            Some(items) => items.iter_mut().for_each(change),
            None => change(body),
        },
        _ => {}
    }
}
