//! Faults on purpose: the same over HTTP and in this process.

use std::{
    fmt::Write as _,
    future::{pending, ready},
};

use bytes::Bytes;
use expect_test::expect;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};

use super::{
    near::{Near, request},
    *,
};
use crate::fly::{
    token::Token,
    transport::{Failed, Network, Transport},
};
use crate::local::{
    Hooks, InProcess,
    faults::{Kind, Rule},
};

/// The way to a backend by HTTP.
fn far() -> Arc<dyn Transport> {
    let mut headers = http::HeaderMap::new();
    headers.insert("authorization", http::HeaderValue::from_static("Bearer t"));
    Arc::new(Network::new(headers, "test", false).unwrap())
}

/// What a caller makes of an answer.
fn told(result: &Result<Response<Bytes>, Failed>) -> String {
    let answer = match result {
        Ok(answer) => answer,
        Err(failed) => {
            let head = failed.head.as_ref();
            return head.map_or_else(
                || "no answer".to_owned(),
                |(status, _)| format!("{}, and half a body", status.as_u16()),
            );
        }
    };
    let status = answer.status().as_u16();
    let after = answer.headers().get("retry-after");
    let after = after.map_or_else(String::new, |it| format!(", retry after {it:?}"));
    let text = String::from_utf8_lossy(answer.body());
    let body = match serde_json::from_str::<Value>(&text) {
        Ok(body) if body["error"].is_string() => body["error"].as_str().unwrap().to_owned(),
        Ok(body) if body["id"].is_string() => {
            let (state, region) = (&body["state"], &body["region"]);
            let orbit = if body["orbit"].is_null() { "" } else { ", in an orbit" };
            format!("a machine, {state}, in {region}{orbit}")
        }
        Ok(other) => other.to_string(),
        Err(_) if text.starts_with('{') => "not quite JSON".to_owned(),
        Err(_) => text.into_owned(),
    };
    format!("{status} {body}{after}")
}

/// Kinds that befall any call.
fn replies() -> impl Iterator<Item = &'static Kind> {
    Kind::ALL.iter().take_while(|it| **it != Kind::MachineNameViolation)
}

/// One creation for every kind of fault on replies: what is told, and whether there is a machine then.
async fn creations(backend: &Backend, transport: &dyn Transport, base: &str) -> String {
    let timeout = Duration::from_secs(10);
    let app = json!({"name": "b", "org_slug": "personal"});
    transport.send(request(base, "POST /apps", &app), timeout).await.unwrap();
    let mut table = String::new();
    for kind in replies() {
        let takes = (*kind == Kind::Slow).then_some(Duration::from_millis(20));
        let rule = Rule { takes, ..Rule::new(*kind).on("create_machine").times(1) };
        let id = backend.faults().add(rule).unwrap();
        let input = json!({"name": kind.name(), "config": {"image": "a"}});
        let line = "POST /apps/b/machines";
        let result = transport.send(request(base, line, &input), timeout).await;
        let done = backend.census().machines.values().any(|it| it.name == kind.name());
        let done = if done { "done" } else { "not done" };
        writeln!(table, "{:<24} {done:<9} {}", kind.name(), told(&result)).unwrap();
        assert!(backend.faults().remove(id));
        assert_eq!(backend.faults().fired()[kind.name()], 1);
    }
    table
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_replies_is_seen_and_counted_in_this_process() {
    let near = Near::open().await;
    let table = creations(&near.backend, &*near.transport, "http://fly").await;
    expect![[r#"
        answer_408_done          done      408 deadline_exceeded: context deadline exceeded
        answer_408_not_done      not done  408 deadline_exceeded: context deadline exceeded
        answer_500_done          done      500 unknown: internal server error
        answer_500_not_done      not done  500 unknown: internal server error
        answer_502_done          done      502 <html><head><title>502 Bad Gateway</title></head></html>
        answer_502_not_done      not done  502 <html><head><title>502 Bad Gateway</title></head></html>
        answer_503_done          done      503 Service Unavailable
        answer_503_not_done      not done  503 Service Unavailable
        storm_408                done      408 deadline_exceeded: context deadline exceeded
        reset_before             not done  no answer
        reset_after              done      no answer
        slow                     done      200 a machine, "created", in "ams"
        truncated_json           done      200 not quite JSON
        truncated_body           done      200, and half a body
        unknown_state            done      200 a machine, "hibernating", in "ams"
        unknown_field            done      200 a machine, "created", in "ams", in an orbit
        region_missing           done      200 a machine, "created", in null
        rate_limited             not done  429 rate limit exceeded
        rate_limited_retry_after not done  429 rate limit exceeded, retry after "5"
        unauthenticated          not done  401 Authenticate: token validation error
        forbidden                not done  403 unauthorized
        flapping_not_found       not done  404 app not found
        empty_ok                 done      200 {}
    "#]].assert_eq(&table);
}

#[tokio::test]
async fn every_fault_of_replies_is_the_same_over_http() {
    let (fly, _dir) = fly().await;
    let over_http = creations(&fly.backend, &*far(), &fly.base).await;
    tokio::time::pause();
    let near = Near::open().await;
    let in_process = creations(&near.backend, &*near.transport, "http://fly").await;
    // Chance may differ.
    let fixed = |table: &str| {
        let lines = table.lines().filter(|it| !it.starts_with(Kind::Storm408.name()));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(fixed(&over_http), fixed(&in_process));
    let metrics = fly.client.get(format!("{}/metrics", fly.base)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    assert!(metrics.contains("hangar_local_faults_total{kind=\"reset_after\"} 1"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_gives_up_on_a_slow_answer_whose_effect_was_at_once() {
    let near = Near::open().await;
    near.backend.faults().add(Rule::new(Kind::Slow).on("create_app")).unwrap();
    let input = json!({"name": "a", "org_slug": "personal"});
    let asked = request("http://fly", "POST /apps", &input);
    let begun = tokio::time::Instant::now();
    let failed = near.transport.send(asked, Duration::from_secs(30)).await.unwrap_err();
    assert!(failed.sent && failed.head.is_none());
    assert_eq!(begun.elapsed(), Duration::from_secs(30));
    assert!(near.backend.census().apps.contains_key("a"));
}

/// Stops calls for ever: before they are sent, or before their answer is heard.
#[derive(Debug)]
struct Stops {
    before: bool,
}

impl Hooks for Stops {
    fn before<'a>(&'a self, _request: &'a Request<Bytes>) -> BoxFuture<'a, ()> {
        if self.before { pending().boxed() } else { ready(()).boxed() }
    }

    fn after<'a>(
        &'a self,
        _request: &'a Request<Bytes>,
        _result: &'a Result<Response<Bytes>, Failed>,
    ) -> BoxFuture<'a, ()> {
        pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_can_be_stopped_before_it_is_sent_and_after_its_effect() {
    let near = Near::open().await;
    for (name, before) in [("a", true), ("b", false)] {
        let hooks = Arc::new(Stops { before });
        let stopped = InProcess::new(Arc::clone(&near.backend), &Token::new("t"), hooks).unwrap();
        let input = json!({"name": name, "org_slug": "personal"});
        let asked = request("http://fly", "POST /apps", &input);
        let call = stopped.send(asked, Duration::from_secs(30));
        assert!(tokio::time::timeout(Duration::from_secs(3_600), call).await.is_err());
        assert_eq!(near.backend.census().apps.contains_key(name), !before);
    }
}

#[tokio::test]
async fn rules_are_kept_under_a_path_of_their_own() {
    let (fly, _dir) = fly().await;
    let control = async |method: &str, below: &str, body: &str| {
        let url = format!("{}/_local/faults{below}", fly.base);
        let method = method.parse().unwrap();
        let request = fly.client.request(method, url).bearer_auth("t").body(body.to_owned());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
    };
    let rules = "- {kind: answer_503_not_done, route: 'GET /v1/apps/{app}', app: a, times: 1}\n\
                 - {kind: unauthenticated, app: other}\n";
    let made = control("POST", "", rules).await;
    assert_eq!(made, (201, json!({"ids": [1, 2]})));
    assert_eq!(fly.get("/apps/a").await.status, 503);
    fly.get("/apps/a").await.good();
    fly.get("/apps/other").await.refused(401, "Authenticate: token validation error");
    let (_, listed) = control("GET", "", "").await;
    let first = json!({
        "id": 1, "kind": "answer_503_not_done", "route": "GET /v1/apps/{app}", "app": "a",
        "times": 1, "matched": 2, "fired": 1,
    });
    assert_eq!(listed["rules"][0], first);
    assert_eq!(listed["fired"], json!({"answer_503_not_done": 1, "unauthenticated": 1}));
    assert_eq!(control("DELETE", "/1", "").await.0, 204);
    assert_eq!(control("DELETE", "/1", "").await.0, 404);
    assert_eq!(control("POST", "", "{kind: nonsense}").await.0, 400);
    assert_eq!(control("DELETE", "", "").await.0, 204);
    assert_eq!(control("GET", "", "").await.1["rules"], json!([]));
    fly.get("/apps/other").await.refused(404, "app not found");
}

#[tokio::test(start_paused = true)]
async fn a_rule_befalls_only_what_it_names() {
    let near = Near::open().await;
    let faults = near.backend.faults();
    let call = async |line: &str, body: Value| near.call(line, body).await;
    near.app("a").await;
    let volume = json!({"name": "data", "region": "ams"});
    let volume = call("POST /apps/a/volumes", volume).await.good();
    let mounts = json!([{"volume": volume["id"], "path": "/d"}]);
    let with = json!({"name": "with", "config": {"image": "a", "mounts": mounts}});
    let with = call("POST /apps/a/machines", with).await.good();
    let without = json!({"name": "without", "region": "fra", "config": {"image": "a"}});
    let without = call("POST /apps/a/machines", without).await.good();
    let host = near.backend.census().volumes[volume["id"].as_str().unwrap()].host.clone();
    let rule = || Rule::new(Kind::Answer500NotDone);
    let some = |it: &str| Some(it.to_owned());
    for only in [
        Rule { machine: some(with["id"].as_str().unwrap()), ..rule() },
        Rule { machine: some("with"), ..rule() },
        Rule { volume: some("data"), ..rule() },
        Rule { host: Some(host), ..rule() },
        Rule { region: some("ams"), ..rule() },
    ] {
        let id = faults.add(only).unwrap();
        let get = async |machine: &Value| {
            call(&format!("GET /apps/a/machines/{}", machine["id"].as_str().unwrap()), json!(null))
                .await
                .status
        };
        assert_eq!((get(&with).await, get(&without).await), (500, 200), "{:?}", faults.list());
        faults.remove(id);
    }
}
