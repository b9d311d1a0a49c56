//! What people do in a world: users of the API, browsers, somebody else with a token of Fly's. Whoever asks asks again after a
//! crash. It must never judge an answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::{
    local::{Delivered, fleet::Fleet as _},
    router::{
        decide::{Decision, decide},
        head::{Head, Replayed},
        packed::Label,
    },
    sim::universe::Universe,
};

/// How often somebody else tries a call.
const MEDDLES_MAX: u32 = 200;
/// How long a request of the user may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where environments are.
pub(crate) const ENVIRONMENTS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";
/// Where pools are.
const POOLS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/warmpools";
/// Where pods are.
const PODS: &str = "/api/v1/namespaces/default/pods";
const HOLDS: &str = "/apis/hangar.dev/v1alpha1/holds";

impl Universe {
    /// Changes a template.
    ///
    /// # Errors
    /// As [`Self::ask`], and when the API refuses.
    pub async fn change_template(&mut self, name: &str, spec: &Value) -> anyhow::Result<()> {
        let path = format!("{}/{name}", ENVIRONMENTS.replace("environments", "templates"));
        let (status, answer) = self.ask(Method::PATCH, &path, &json!({"spec": spec})).await?;
        anyhow::ensure!(status.is_success(), "{status}: {answer}");
        Ok(())
    }

    /// Asks the API, again after each crash, until there is an answer.
    ///
    /// # Errors
    /// As [`Self::pass`], and when there is no answer for a minute.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(StatusCode, Value)> {
        loop {
            let Some(life) = &self.life else { anyhow::bail!("there is no controller to ask") };
            let (api, gate) = (life.api.clone(), Arc::clone(&life.gate));
            let media = if method == Method::PATCH {
                "application/merge-patch+json"
            } else {
                "application/json"
            };
            let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header(header::HOST, "localhost")
                .header(header::CONTENT_TYPE, media)
                .body(Full::new(bytes))?;
            let answered = async {
                let response = api.answer(request).await;
                let status = response.status();
                let body = response.into_body().collect().await?.to_bytes();
                anyhow::Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
            };
            tokio::select! {
                biased;
                () = gate.struck() => {}
                answer = tokio::time::timeout(PATIENCE, answered) => {
                    let (status, body) = answer??;
                    self.tell(format_args!("user {method} {path} -> {}", status.as_u16()));
                    self.oracle.read("an answer of the API", &public(path, &body));
                    return Ok((status, body));
                }
            }
            self.crash_and_restart(Duration::from_secs(1)).await?;
        }
    }

    /// Makes an object, or merges it into the one that is there.
    ///
    /// # Errors
    /// As [`Self::ask`], and when the API refuses.
    pub async fn apply(&mut self, object: &Value) -> anyhow::Result<()> {
        let collection = collection(object)?;
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        loop {
            let (status, answer) = self.ask(Method::POST, &collection, object).await?;
            if status.is_success() {
                return Ok(());
            }
            anyhow::ensure!(status == StatusCode::CONFLICT, "{status}: {answer}");
            let one = format!("{collection}/{name}");
            let (status, answer) = self.ask(Method::PATCH, &one, object).await?;
            match status {
                // It went meanwhile, or it was changed meanwhile.
                StatusCode::NOT_FOUND | StatusCode::CONFLICT => {}
                status if status.is_success() => return Ok(()),
                status => anyhow::bail!("{status}: {answer}"),
            }
            self.pass(Duration::from_millis(100)).await?;
        }
    }

    /// Orders the deletion of an environment.
    ///
    /// # Errors
    /// As [`Self::ask`], and when the API refuses.
    pub async fn delete(&mut self, environment: &str) -> anyhow::Result<()> {
        self.remove(&format!("{ENVIRONMENTS}/{environment}")).await
    }

    /// Has the machine of an environment made anew.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn reset(&mut self, environment: &str) -> anyhow::Result<()> {
        self.remove(&format!("{PODS}/{environment}")).await
    }

    /// Deletes a pool.
    ///
    /// # Errors
    /// As [`Self::delete`].
    pub async fn remove_pool(&mut self, pool: &str) -> anyhow::Result<()> {
        self.remove(&format!("{POOLS}/{pool}")).await
    }

    async fn remove(&mut self, path: &str) -> anyhow::Result<()> {
        let (status, answer) = self.ask(Method::DELETE, path, &Value::Null).await?;
        let fine = status.is_success() || status == StatusCode::NOT_FOUND;
        anyhow::ensure!(fine, "{status}: {answer}");
        Ok(())
    }

    /// What the environments and pools that are on their way somewhere wait for.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn waits(&mut self) -> anyhow::Result<Vec<String>> {
        let (_, list) = self.ask(Method::GET, ENVIRONMENTS, &Value::Null).await?;
        let items = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let waits = |it: &Value| {
            let phase = it.pointer("/status/phase")?.as_str()?;
            let settled = ["Ready", "Asleep", "Stalled"].contains(&phase);
            let why = it.pointer("/status/conditions")?.as_array()?;
            let why = why.iter().find(|it| it["status"] == "False" && it["type"] != "Stalled");
            let why = why.map(|it| it["message"].to_string()).unwrap_or_default();
            (!settled).then(|| format!("{} is {phase}: {why}", it["metadata"]["name"]))
        };
        let (_, list) = self.ask(Method::GET, POOLS, &Value::Null).await?;
        let pools = list.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let fills = |it: &Value| {
            let full = it.pointer("/status/conditions")?.as_array()?;
            let full = full.iter().find(|it| it["type"] == "Full" && it["status"] == "False")?;
            Some(format!("pool {}: {}", it["metadata"]["name"], full["message"]))
        };
        Ok(items.iter().filter_map(waits).chain(pools.iter().filter_map(fills)).collect())
    }

    /// What an environment says of itself, where that is not all well.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn says(&mut self, name: &str) -> anyhow::Result<String> {
        let path = format!("{ENVIRONMENTS}/{name}");
        let (_, environment) = self.ask(Method::GET, &path, &Value::Null).await?;
        let conditions = environment.pointer("/status/conditions").and_then(Value::as_array);
        let said = conditions.into_iter().flatten().filter_map(|it| it["message"].as_str());
        Ok(said.filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; "))
    }

    /// Lets go on what waits for a person's word. Says whether there was anything.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn resume(&mut self) -> anyhow::Result<bool> {
        let (_, holds) = self.ask(Method::GET, HOLDS, &Value::Null).await?;
        let holds = holds.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = holds.iter().filter_map(|it| it.pointer("/metadata/name")?.as_str());
        for name in names {
            self.ask(Method::DELETE, &format!("{HOLDS}/{name}"), &Value::Null).await?;
        }
        Ok(!holds.is_empty())
    }

    /// Somebody else than hangar makes a call to Fly, and again if Fly is what fails.
    ///
    /// # Errors
    /// When Fly refuses.
    pub async fn meddle(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let mut said = String::new();
        for _ in 0..MEDDLES_MAX {
            // What hangar may have seen up to now was so.
            self.oracle.look();
            let bytes = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header(header::AUTHORIZATION, "Bearer somebody")
                .body(bytes)?;
            let answer = self.fly.answer(request).await;
            if let Delivered::Whole(answer) = answer {
                self.tell(format_args!("somebody {method} {path} -> {}", answer.status().as_u16()));
                if answer.status().is_success() {
                    return Ok(serde_json::from_slice(answer.body()).unwrap_or(Value::Null));
                }
                said = String::from_utf8_lossy(answer.body()).into_owned();
            }
            self.pass(Duration::from_secs(1)).await?;
        }
        anyhow::bail!("{method} {path}: {said}")
    }

    /// A browser asks for a host. True when a machine answered.
    pub async fn visit(&mut self, label: &str) -> bool {
        let Some(life) = &self.life else { return false };
        let head = Head { label: Label::of_name(label), failed: false, replayed: Replayed::No };
        let decision = decide(&head, &life.table);
        self.oracle.look();
        let Decision::Replay(route) = decision else {
            self.tell(format_args!("visit {label}: {}", decision.name()));
            return false;
        };
        let (seen, table) = (Arc::clone(&life.seen), Arc::clone(&life.table));
        seen.touch(route.slot());
        let (app, machine) = (route.app().text().as_str().to_owned(), route.machine().to_string());
        let there = self.fly.target(&machine).is_some_and(|it| it.app == app);
        let woken = tokio::time::timeout(Duration::from_secs(10), self.fly.wake(&machine)).await;
        let served = there && matches!(woken, Ok(Ok(())));
        if !served {
            // The proxy brings the request back to the router.
            if let Decision::Failed(route) = decide(&Head { failed: true, ..head }, &table) {
                seen.fail(route.slot());
            }
        }
        self.tell(format_args!("visit {label}: {}", if served { "served" } else { "failed" }));
        served
    }
}

/// An answer without what only its owner may read.
fn public(path: &str, body: &Value) -> String {
    if path.contains("/secrets") { String::new() } else { body.to_string() }
}

/// Where objects of this kind are made.
fn collection(object: &Value) -> anyhow::Result<String> {
    Ok(match object.get("kind").and_then(Value::as_str) {
        Some("Environment") => ENVIRONMENTS.to_owned(),
        Some("WarmPool") => POOLS.to_owned(),
        Some("Template") => ENVIRONMENTS.replace("environments", "templates"),
        Some("Secret") => "/api/v1/namespaces/default/secrets".to_owned(),
        other => anyhow::bail!("no collection for {other:?}"),
    })
}

/// A template in the shape that most courses use.
#[must_use]
pub fn template(name: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Template",
        "metadata": {"name": name},
        "spec": {
            "machine": {"image": "registry.fly.io/app@sha256:1111111111111111111111111111111111111111111111111111111111111111",
                "guest": {"cpuKind": "shared", "cpus": 1, "memory": "256Mi"}},
            "volume": {"mountPath": "/data", "size": "1Gi"},
            "services": [{"name": "web", "internalPort": 8080}],
            "regions": ["ams", "fra"],
            "readiness": {"http": {"path": "/healthz", "port": 8080}},
            "sleep": {"after": "5m", "mode": "Suspend"},
        }
    });
    json_patch::merge(&mut object["spec"], spec);
    object
}

/// A pool of a template.
#[must_use]
pub fn pool(name: &str, template: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "WarmPool",
        "metadata": {"name": name},
        "spec": {"templateRef": {"name": template}},
    });
    json_patch::merge(&mut object["spec"], spec);
    object
}

/// An environment of a template.
#[must_use]
pub fn environment(name: &str, template: &str, spec: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name},
        "spec": {"templateRef": {"name": template}, "owner": format!("{name}@example.com"), "access": "Public"},
    });
    json_patch::merge(&mut object["spec"], spec);
    object
}
