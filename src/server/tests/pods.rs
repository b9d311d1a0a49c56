//! Pods: what follows from environments and bays, read and watched as if it were kept.

use serde_json::{Value, json};

use super::{Api, env, revision, text};
use crate::store::{Key, Precondition};

pub(super) const PODS: &str = "/api/v1/namespaces/default/pods";

impl Api {
    async fn put(&self, key: &str, value: &Value) {
        self.store.txn().put(&Key::new(key), Precondition::Any, value).commit().await.unwrap();
    }

    /// Writes an environment and its bay as the controller does, whose machine is in this state.
    pub(super) async fn bound(&self, name: &str, state: &str) {
        self.environment(name).await;
        self.bay(name, state).await;
    }

    async fn environment(&self, name: &str) {
        let mut environment = env(name);
        environment["metadata"]["namespace"] = json!("default");
        environment["metadata"]["uid"] = json!(format!("uid-{name}"));
        environment["status"] = json!({"bay": {"name": format!("bay-{name}"), "app": "hgr-1"}});
        self.put(&format!("environments/default/{name}"), &environment).await;
    }

    pub(super) async fn bay(&self, name: &str, state: &str) {
        let machine = json!({"id": format!("m-{name}"), "state": state});
        self.bay_with(name, &json!({"machine": machine, "epoch": 1})).await;
    }

    async fn bay_with(&self, name: &str, status: &Value) {
        let bay = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Bay",
            "metadata": {"name": format!("bay-{name}"), "namespace": "default", "uid": "u"},
            "spec": {
                "environmentRef": {"name": name, "uid": format!("uid-{name}")},
                "app": "hgr-1", "network": "n", "volume": false,
            },
            "status": status,
        });
        self.put(&format!("bays/default/bay-{name}"), &bay).await;
    }

    pub(super) async fn unbind(&self, name: &str) {
        let key = Key::new(&format!("bays/default/bay-{name}"));
        self.store.txn().delete(&key, Precondition::Any).commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_pod_is_there_while_its_environment_has_a_machine() {
    let api = Api::start().await;
    api.environment("bob").await;
    api.bound("alice", "started").await;
    let pod = api.get(&format!("{PODS}/alice")).await.body;
    assert_eq!(text(&pod, "/metadata/annotations/hangar.dev~1machine"), "m-alice");
    let list = api.get(PODS).await.body;
    assert_eq!(text(&list, "/kind"), "PodList");
    assert_eq!(list["items"], json!([pod]));
    assert_eq!(revision(&list), revision(&pod));
    assert_eq!(api.get("/api/v1/pods").await.body["items"], list["items"]);
    for none in ["/api/v1/namespaces/other/pods/alice", "/api/v1/namespaces/default/pods/bob"] {
        assert_eq!(api.get(none).await.code, 404, "{none}");
    }
    let by_label = api.get(&format!("{PODS}?labelSelector=hangar.dev/environment%3Dalice")).await;
    assert_eq!(by_label.body["items"].as_array().unwrap().len(), 1);
    api.unbind("alice").await;
    assert_eq!(api.get(&format!("{PODS}/alice")).await.code, 404);
}

#[tokio::test]
async fn a_table_has_the_columns_that_kubectl_users_know() {
    let api = Api::start().await;
    api.bound("alice", "suspended").await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = api.send(api.request(&format!("GET {PODS}")).header("accept", accept)).await.body;
    let columns = table["columnDefinitions"].as_array().unwrap().iter();
    let names: Vec<_> = columns.map(|it| text(it, "/name")).collect();
    assert_eq!(names, ["Name", "Ready", "Status", "Restarts", "Age", "Node"]);
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(cells[..4], [json!("alice"), json!("0/1"), json!("Asleep"), json!("0")]);
}

#[tokio::test]
async fn a_watch_tells_of_pods_what_environments_and_bays_are() {
    let api = Api::start().await;
    api.bound("alice", "starting").await;
    let mut watch = api.watch(&format!("{PODS}?watch=true")).await;
    assert_eq!(watch.event().await.unwrap(), "ADDED alice");
    api.bay("alice", "started").await;
    api.bay("bob", "started").await;
    api.env("carol").await;
    api.environment("bob").await;
    api.unbind("alice").await;
    let seen = [watch.next().await, watch.next().await, watch.next().await].map(Option::unwrap);
    let told = seen.each_ref().map(|it| (text(it, "/type"), text(it, "/object/metadata/name")));
    assert_eq!(told, [("MODIFIED", "alice"), ("ADDED", "bob"), ("DELETED", "alice")]);
    let revisions = seen.each_ref().map(|it| revision(&it["object"]));
    assert!(revisions.is_sorted(), "{revisions:?}");
    let mut one = api.watch(&format!("{PODS}?watch=true&fieldSelector=metadata.name%3Dbob")).await;
    assert_eq!(one.event().await.unwrap(), "ADDED bob");
}

#[tokio::test]
async fn a_watch_from_a_revision_tells_pods_as_they_were_then() {
    let api = Api::start().await;
    api.bound("alice", "started").await;
    api.bound("bob", "started").await;
    let after = revision(&api.get(PODS).await.body);
    api.unbind("alice").await;
    api.bay("bob", "suspended").await;
    api.bound("carol", "started").await;
    api.unbind("carol").await;
    let mut watch = api.watch(&format!("{PODS}?watch=true&resourceVersion={after}")).await;
    for expected in ["DELETED alice", "MODIFIED bob", "ADDED carol", "DELETED carol"] {
        assert_eq!(watch.event().await.unwrap(), expected);
    }
    let mut future = api.watch(&format!("{PODS}?watch=true&resourceVersion=99999")).await;
    assert_eq!(future.next().await.unwrap()["object"]["code"], 410);
}

#[tokio::test]
async fn a_pod_that_is_deleted_goes_when_its_machine_is_another() {
    let api = Api::start().await;
    api.bound("alice", "started").await;
    let one = format!("{PODS}/alice");
    let before = api.get(&one).await.body;
    let mut watch = api.watch(&format!("{PODS}?watch=true")).await;
    assert_eq!(watch.event().await.unwrap(), "ADDED alice");
    let other = api
        .call(&format!("DELETE {one}"), Some(&json!({"preconditions": {"uid": "another"}})))
        .await;
    assert_eq!(other.code, 409);
    let dry = api.delete(&format!("{one}?dryRun=All")).await;
    assert_eq!((dry.code, &api.get(&one).await.body), (200, &before));
    for _twice in 0..2 {
        let marked = api.delete(&one).await;
        assert_eq!(marked.code, 200);
        assert_eq!(text(&marked.body, "/metadata/uid"), text(&before, "/metadata/uid"));
        assert!(!text(&marked.body, "/metadata/deletionTimestamp").is_empty());
    }
    let environment = api.get("/apis/hangar.dev/v1alpha1/namespaces/default/environments/alice");
    let order = environment.await.body;
    assert!(text(&order, "/metadata/annotations/hangar.dev~1reset").starts_with("m-alice@"));
    let bay = json!({"machine": {"id": "m-2", "state": "started"}, "epoch": 2});
    api.bay_with("alice", &bay).await;
    for expected in ["MODIFIED alice", "DELETED alice", "ADDED alice"] {
        assert_eq!(watch.event().await.unwrap(), expected);
    }
    let after = api.get(&one).await.body;
    assert!(after.pointer("/metadata/deletionTimestamp").is_none());
    assert_ne!(text(&after, "/metadata/uid"), text(&before, "/metadata/uid"));
    assert_eq!(after.pointer("/status/containerStatuses/0/restartCount"), Some(&json!(1)));
    // One that is not made yet cannot be made anew.
    api.bay_with("alice", &json!({"machine": {"state": ""}, "epoch": 3})).await;
    assert_eq!(api.delete(&one).await.code, 409);
    assert_eq!(api.delete(&format!("{PODS}/nobody")).await.code, 404);
}

#[tokio::test]
async fn whoever_writes_pods_is_told_what_to_do_instead() {
    let api = Api::start().await;
    api.bound("alice", "started").await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {}});
    let one = format!("{PODS}/alice");
    for refused in [
        api.post(PODS, &pod).await,
        api.patch(&one, &json!({"metadata": {"labels": {"a": "b"}}})).await,
        api.patch(&format!("{one}/ephemeralcontainers"), &json!({})).await,
    ] {
        assert_eq!((refused.code, text(&refused.body, "/reason")), (405, "MethodNotAllowed"));
        assert!(text(&refused.body, "/message").len() > 60, "{}", refused.body);
    }
}
