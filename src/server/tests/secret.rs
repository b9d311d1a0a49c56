//! A secret's value is in its own object and nowhere else; and the journal over HTTP.

use serde_json::{Value, json};

use super::{Api, SECRETS, env, secret, text};
use crate::telemetry::{Line, Outcome};

fn line(object: &str, message: &str) -> Line {
    Line {
        at: "2026-09-01T12:03:04.123Z".parse().unwrap(),
        object: object.to_owned(),
        action: "create-machine".to_owned(),
        outcome: Outcome::Ok,
        duration_ms: None,
        message: message.to_owned(),
        request_id: None,
    }
}

#[tokio::test]
async fn a_value_shows_in_its_own_object_and_nowhere_else() {
    const VALUE: &str = "canary-7f3a";
    let api = Api::start().await;
    let mut body = secret("keys", VALUE);
    let encoded = text(&body, "/data/KEY").to_owned();
    body["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": body.to_string()});
    assert_eq!(api.post(SECRETS, &body).await.code, 201);
    let path = format!("{SECRETS}/keys");
    assert!(api.get(&path).await.body.to_string().contains(&encoded));
    let mut answers = vec![
        api.get("/logs").await.body,
        api.get("/metrics").await.body,
        api.post(SECRETS, &body).await.body,
        api.post(SECRETS, &json!({"metadata": {"name": "x"}, "data": {"KEY": [VALUE]}})).await.body,
        api.patch(&path, &json!([{"op": "test", "path": "/data/KEY", "value": VALUE}])).await.body,
        api.patch(&path, &json!({"kind": VALUE})).await.body,
        api.patch(&path, &json!({"metadata": VALUE})).await.body,
    ];
    for query in ["", "?includeObject=Object", "?fieldSelector=data.KEY%3Dx"] {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let get = api.request(&format!("GET {SECRETS}{query}")).header("accept", table);
        answers.push(api.send(get).await.body);
    }
    for answer in answers {
        let answer = answer.to_string();
        assert!(!answer.contains(VALUE) && !answer.contains(&encoded), "{answer}");
    }
}

#[tokio::test]
async fn its_generation_rises_with_its_values_alone() {
    let api = Api::start().await;
    let path = format!("{SECRETS}/keys");
    let generation = |object: &Value| object["metadata"]["generation"].clone();
    assert_eq!(generation(&api.post(SECRETS, &secret("keys", "a")).await.body), 1);
    let labelled = api.patch(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await.body;
    assert_eq!(generation(&labelled), 1);
    let changed = api.patch(&path, &json!({"stringData": {"KEY": "b"}})).await.body;
    assert_eq!(generation(&changed), 2);
}

#[tokio::test]
async fn the_log_is_followed_as_json_or_as_text() {
    let api = Api::start().await;
    api.parts.journal.record(line("env/alice", "one"));
    api.parts.journal.record(line("env/bob", "two"));
    let mut follow = api.watch("/logs?follow=true&object=environments/alice").await;
    assert_eq!(text(&follow.next().await.unwrap(), "/message"), "one");
    api.parts.journal.record(line("env/alice", "three"));
    assert_eq!(text(&follow.next().await.unwrap(), "/message"), "three");
    let last = api.request("GET /logs?limit=1").header("accept", "text/plain");
    assert_eq!(
        api.send(last).await.body,
        json!("12:03:04.123 env/alice  create-machine  ok  three\n")
    );
    api.trigger.shut_down();
    assert_eq!(follow.next().await, None);
}

#[tokio::test]
async fn metrics_are_in_the_text_form() {
    let api = Api::start().await;
    api.parts.metrics.routes(3);
    assert_eq!(env("x")["kind"], "Environment");
    let text = api.get("/metrics").await.body;
    assert!(text.as_str().is_some_and(|it| it.contains("hangar_routes 3")), "{text}");
}
