//! The collector beside the server.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Api, ENVS, NAMESPACES, SECRETS, env, eventually, secret, text};
use crate::store::{Key, Precondition};

#[tokio::test]
async fn a_namespace_goes_after_everything_in_it() {
    let api = Api::start().await;
    api.collect();
    let path = format!("{NAMESPACES}/team-a");
    api.post(NAMESPACES, &json!({"metadata": {"name": "team-a"}})).await;
    let (envs, secrets) = (ENVS.replace("default", "team-a"), SECRETS.replace("default", "team-a"));
    assert_eq!(api.post(&envs, &env("alice")).await.code, 201);
    assert_eq!(api.post(&secrets, &secret("keys", "v")).await.code, 201);
    api.env("bystander").await;
    assert_eq!(api.delete(&path).await.code, 200);
    let alice = format!("{envs}/alice");
    eventually("the environment is marked", async || {
        !text(&api.get(&alice).await.body, "/metadata/deletionTimestamp").is_empty()
    })
    .await;
    assert_eq!(api.get(&format!("{secrets}/keys")).await.code, 200, "it may still be needed");
    assert_eq!(api.finish(&path).await.code, 200);
    assert_eq!(api.get(&path).await.code, 200, "its finalizer is not a caller's to take");
    api.finish(&alice).await;
    eventually("the namespace is gone", async || api.get(&path).await.code == 404).await;
    assert_eq!(api.get(&format!("{secrets}/keys")).await.code, 404);
    assert_eq!(api.get(&format!("{ENVS}/bystander")).await.code, 200);
}

#[tokio::test]
async fn a_secret_goes_with_the_bay_that_owns_it() {
    let api = Api::start().await;
    let bay = Key::new("bays/default/bay-1");
    let put = |uid: &str| {
        let bay_object = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Bay",
            "metadata": {"name": "bay-1", "namespace": "default", "uid": uid},
        });
        api.store.txn().put(&bay, Precondition::Any, &bay_object).commit()
    };
    put("bay-uid").await.unwrap();
    for (name, uid) in [("mine", "bay-uid"), ("orphan", "an-earlier-bay")] {
        let mut body = secret(name, "v");
        body["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Bay", "name": "bay-1", "uid": uid,
        }]);
        assert_eq!(api.post(SECRETS, &body).await.code, 201);
    }
    api.post(SECRETS, &secret("free", "v")).await;
    api.collect();
    let is_gone = async |name: &str| api.get(&format!("{SECRETS}/{name}")).await.code == 404;
    eventually("the orphan is gone", async || is_gone("orphan").await).await;
    assert!(!is_gone("mine").await);
    api.store.txn().delete(&bay, Precondition::Any).commit().await.unwrap();
    eventually("the dependent is gone", async || is_gone("mine").await).await;
    assert!(!is_gone("free").await);
}

#[tokio::test]
async fn a_deletion_waits_for_its_dependents_or_lets_them_go_as_its_caller_says() {
    let api = Api::start().await;
    api.collect();
    let maps = SECRETS.replace("secrets", "configmaps");
    for (owner, policy, keeps) in [
        ("background", json!({"propagationPolicy": "Background"}), false),
        ("foreground", json!({"propagationPolicy": "Foreground"}), false),
        ("orphan", json!({"propagationPolicy": "Orphan"}), true),
        ("query", Value::Null, true),
    ] {
        let made = api.post(&maps, &json!({"metadata": {"name": owner}})).await.body;
        let dependent = format!("of-{owner}");
        let references = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": made["metadata"]["uid"],
            "blockOwnerDeletion": true,
        }]);
        // Somebody holds it for a while.
        let finalizers =
            if owner == "foreground" { json!(["example.com/mine"]) } else { json!([]) };
        let metadata =
            json!({"name": dependent, "ownerReferences": references, "finalizers": finalizers});
        assert_eq!(api.post(&maps, &json!({"metadata": metadata})).await.code, 201);
        let (owner_path, path) = (format!("{maps}/{owner}"), format!("{maps}/{dependent}"));
        let reply = match &policy {
            Value::Null => api.delete(&format!("{owner_path}?propagationPolicy=Orphan")).await,
            body => api.call(&format!("DELETE {owner_path}"), Some(body)).await,
        };
        assert_eq!(reply.code, 200, "{}", reply.body);
        if owner == "foreground" {
            eventually("the dependent is marked", async || {
                !text(&api.get(&path).await.body, "/metadata/deletionTimestamp").is_empty()
            })
            .await;
            let waits = api.get(&owner_path).await.body;
            assert_eq!(waits["metadata"]["finalizers"], json!(["foregroundDeletion"]));
            api.finish(&path).await;
        }
        eventually("the owner is gone", async || api.get(&owner_path).await.code == 404).await;
        if keeps {
            let kept = api.get(&path).await;
            assert_eq!(kept.code, 200, "{owner}");
            assert_eq!(kept.body.pointer("/metadata/ownerReferences/0"), None);
        } else {
            eventually("the dependent is gone", async || api.get(&path).await.code == 404).await;
        }
    }
    // What only hangar makes goes with its owner all the same.
    let mut owned = json!({
        "apiVersion": "hangar.dev/v1alpha1", "kind": "TemplateRevision",
        "metadata": {"name": "t-1", "namespace": "default", "uid": "r", "ownerReferences": [{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "last", "uid": "",
        }]},
    });
    let last = api.post(&maps, &json!({"metadata": {"name": "last"}})).await.body;
    owned["metadata"]["ownerReferences"][0]["uid"] = last["metadata"]["uid"].clone();
    let key = Key::new("templaterevisions/default/t-1");
    api.store.txn().put(&key, Precondition::Any, &owned).commit().await.unwrap();
    assert_eq!(api.delete(&format!("{maps}/last?propagationPolicy=Orphan")).await.code, 200);
    eventually("hangar's own is gone", async || api.store.get_bytes(&key).await.unwrap().is_none())
        .await;
    let wrong = api.delete(&format!("{maps}/x?propagationPolicy=Sideways")).await;
    assert_eq!(wrong.code, 400);
}

#[tokio::test]
async fn events_are_kept_for_an_hour() {
    let api = Api::start().await;
    let path = "/api/v1/namespaces/default/events";
    let event = |name: &str, last: &str| {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "default"},
            "involvedObject": {"kind": "Environment", "name": "alice", "namespace": "default"},
            "reason": "Started", "message": "started", "type": "Normal", "lastTimestamp": last,
        })
    };
    for (name, last) in [("old", "2026-09-01T11:30:00Z"), ("new", "2026-09-01T12:00:00Z")] {
        let reply = api.post(path, &event(name, last)).await;
        assert_eq!(reply.code, 201, "{}", reply.body);
    }
    api.clock.advance(Duration::from_secs(45 * 60));
    api.collect();
    let names = async || -> Vec<String> {
        let list = api.get(path).await.body;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|it| text(it, "/metadata/name").to_owned()).collect()
    };
    eventually("only the new event is left", async || names().await == ["new"]).await;
}

#[tokio::test]
async fn a_hostname_is_forgotten_after_its_quarantine_and_freed_with_its_environment() {
    let api = Api::start().await;
    let record = "/apis/hangar.dev/v1alpha1/hostnames/alice";
    api.env("alice").await;
    // As if the last finalizer and the mark had gone in one step, past the API.
    let key = Key::new("environments/default/alice");
    api.store.txn().delete(&key, Precondition::Any).commit().await.unwrap();
    api.collect();
    eventually("the hostname is freed", async || {
        !text(&api.get(record).await.body, "/status/releasedAt").is_empty()
    })
    .await;
    api.clock.advance(Duration::from_secs(31 * 86_400));
    eventually("the record is gone", async || api.get(record).await.code == 404).await;
}

#[tokio::test]
async fn what_routers_saw_goes_with_the_environment() {
    let api = Api::start().await;
    api.collect();
    let made = api.env("alice").await;
    let report = json!({"requests": [{
        "namespace": "default", "name": "alice", "uid": made["metadata"]["uid"], "atMs": 1,
    }]});
    assert_eq!(api.post("/router/activity", &report).await.code, 200);
    let key = Key::new("activity/default/alice");
    assert!(api.store.get::<Value>(&key).await.unwrap().is_some());
    api.delete(&format!("{ENVS}/alice")).await;
    api.finish(&format!("{ENVS}/alice")).await;
    eventually("the activity is gone", async || {
        api.store.get::<Value>(&key).await.unwrap().is_none()
    })
    .await;
}
