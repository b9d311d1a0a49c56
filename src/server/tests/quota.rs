//! Quotas: the one too many is refused, however many ask at once, and what is used is said.

use futures::{StreamExt as _, stream};

use super::*;
use crate::api::{kind::Kind, meta::ObjectRef};
use crate::server::{
    Api as InProcess,
    quota::{Place, place},
};
use crate::store::{self, Key, Precondition};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

fn quota(hard: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}})
}

/// A server on whose default namespace so many environments are allowed.
async fn limited(environments: u64) -> Api {
    let api = Api::start().await;
    let hard = json!({"count/environments.hangar.dev": environments.to_string()});
    let reply = api.post(QUOTAS, &quota(&hard)).await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    api
}

async fn used(api: &Api) -> Value {
    api.get(&format!("{QUOTAS}/small")).await.body["status"]["used"].take()
}

#[tokio::test]
async fn the_one_too_many_is_refused_in_kubernetes_words() {
    let api = limited(2).await;
    api.env("alice").await;
    let dry_run = async |name| api.post(&format!("{ENVS}?dryRun=All"), &env(name)).await.code;
    assert_eq!(dry_run("bob").await, 201);
    api.env("bob").await;
    assert_eq!(dry_run("carol").await, 403);
    let reply = api.post(ENVS, &env("carol")).await;
    assert_eq!((reply.code, text(&reply.body, "/reason")), (403, "Forbidden"));
    assert_eq!(
        text(&reply.body, "/message"),
        "environments.hangar.dev \"carol\" is forbidden: exceeded quota: small, \
         requested: count/environments.hangar.dev=1, used: count/environments.hangar.dev=2, \
         limited: count/environments.hangar.dev=2"
    );
    assert_eq!(api.post(ENVS, &env("bob")).await.code, 409, "one that is there needs no room");
    let other = "/apis/hangar.dev/v1alpha1/namespaces/other/environments";
    api.post(NAMESPACES, &json!({"metadata": {"name": "other"}})).await;
    assert_eq!(api.post(other, &env("dave")).await.code, 201, "another namespace has its own");
}

#[tokio::test]
async fn what_is_being_deleted_counts_until_it_is_gone() {
    let api = limited(1).await;
    api.env("alice").await;
    api.delete(&format!("{ENVS}/alice")).await;
    assert_eq!(api.post(ENVS, &env("bob")).await.code, 403);
    assert_eq!(api.finish(&format!("{ENVS}/alice")).await.code, 200);
    api.env("bob").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_creations_get_the_places_that_there_are() {
    let api = limited(5).await;
    let creations = (0..64).map(async |at| api.post(ENVS, &env(&format!("env-{at}"))).await.code);
    let codes: Vec<_> = stream::iter(creations).buffer_unordered(64).collect().await;
    assert!(codes.iter().all(|it| matches!(it, 201 | 403)), "{codes:?}");
    assert_eq!(codes.iter().filter(|it| **it == 201).count(), 5);
    assert_eq!(api.store.count("environments/default").await.unwrap(), 5);
}

#[tokio::test]
async fn of_two_servers_that_counted_the_same_only_one_lets_somebody_in() {
    let api = limited(1).await;
    let server = async || {
        let (parts, shutdown) = (api.parts.clone(), api.shutdown.clone());
        InProcess::in_process(parts, shutdown).await.unwrap()
    };
    let (one, other) = (server().await, server().await);
    let object = |name: &str| ObjectRef::new(Kind::Environment, "default", name);
    let first = place(&one.0, &object("alice")).await.unwrap();
    let second = place(&other.0, &object("bob")).await.unwrap();
    let let_in = async |place: Place<'_>, name: &str| {
        let key = Key::new(&object(name).store_key());
        let mut made = env(name);
        made["metadata"]["uid"] = json!(name);
        let txn = api.store.txn().put(&key, Precondition::Absent, &made);
        place.take(txn, &made).commit().await
    };
    let_in(first, "alice").await.unwrap();
    match let_in(second, "bob").await {
        Err(store::Error::Conflict { key, .. }) => assert_eq!(key.as_str(), "quota-turns/default"),
        other => panic!("{other:?}"),
    }
    assert_eq!(place(&other.0, &object("bob")).await.unwrap_err().code.as_u16(), 403);
}

#[tokio::test]
async fn what_is_used_is_said_and_a_smaller_quota_takes_nothing_away() {
    let api = limited(5).await;
    api.collect();
    let says = async |count: &str| {
        eventually(&format!("{count} are said to be used"), || async {
            used(&api).await == json!({"count/environments.hangar.dev": count})
        })
        .await;
    };
    says("0").await;
    for name in ["alice", "bob"] {
        api.env(name).await;
    }
    says("2").await;
    let hard = json!({"spec": {"hard": {"count/environments.hangar.dev": "1"}}});
    assert_eq!(api.patch(&format!("{QUOTAS}/small"), &hard).await.code, 200);
    assert_eq!(api.post(ENVS, &env("carol")).await.code, 403);
    api.delete(&format!("{ENVS}/alice")).await;
    says("2").await;
    api.finish(&format!("{ENVS}/alice")).await;
    says("1").await;
    let table = api.request(&format!("GET {QUOTAS}"));
    let table =
        api.send(table.header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")).await;
    assert_eq!(text(&table.body, "/rows/0/cells/1"), "count/environments.hangar.dev: 1/1");
    api.delete(&format!("{QUOTAS}/small")).await;
    api.env("carol").await;
}

#[tokio::test]
async fn what_is_not_counted_cannot_be_limited() {
    let api = Api::start().await;
    let reply = api.post(QUOTAS, &quota(&json!({"pods": "4", "count/bays.hangar.dev": "x"}))).await;
    assert_eq!(reply.code, 422);
    let message = text(&reply.body, "/message");
    for part in [
        "spec.hard.pods: `pods` is not counted here: what can be limited is count/environments.hangar.dev and count/bays.hangar.dev",
        "it must be a whole number of objects, such as 10",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
