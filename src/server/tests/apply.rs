//! Server-side apply over HTTP: objects, owners, conflicts, and what writes nothing.

use serde_json::{Value, json};

use super::{Api, ENVS, env, revision, secret};
use crate::api::fields::{Managers, Operation};

fn path(name: &str, query: &str) -> String {
    format!("{ENVS}/{name}?{query}")
}

fn owned(object: &Value, manager: &str, operation: Operation) -> Vec<String> {
    Managers::of(object).fields(manager, operation)
}

#[tokio::test]
async fn a_configuration_makes_an_object_and_owns_what_it_says_and_no_defaults() {
    let server = Api::start().await;
    let reply = server.apply(&path("alice", "fieldManager=me"), &env("alice")).await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    let mine = owned(&reply.body, "me", Operation::Apply);
    assert_eq!(mine, [".spec.owner", ".spec.templateRef.name"]);
    assert_eq!(reply.body["metadata"]["managedFields"].as_array().unwrap().len(), 1);

    // The same again writes nothing.
    server.clock.advance(std::time::Duration::from_secs(60));
    let again = server.apply(&path("alice", "fieldManager=me"), &env("alice")).await;
    assert_eq!((again.code, &again.body), (200, &reply.body));
    assert_eq!(server.get(&path("alice", "")).await.body, reply.body);
}

#[tokio::test]
async fn what_cannot_be_applied_is_refused_as_kubernetes_does() {
    let server = Api::start().await;
    let refused = async |query: &str, configuration: Value| {
        let reply = server.apply(&path("alice", query), &configuration).await;
        (reply.code, reply.body["message"].as_str().unwrap().to_owned())
    };
    let (code, message) = refused("", env("alice")).await;
    assert_eq!(code, 422);
    assert!(message.contains("fieldManager: Required value: is required for apply patch"));
    assert_eq!(refused("fieldManager=me", env("bob")).await.0, 400);
    let mut owned = env("alice");
    owned["metadata"]["managedFields"] = json!([{"manager": "x", "operation": "Apply"}]);
    assert_eq!(refused("fieldManager=me", owned).await.0, 400);
    let mut wrong = env("alice");
    wrong["spec"]["regoin"] = json!("ams");
    assert_eq!(refused("fieldManager=me", wrong).await.0, 400);
    assert_eq!(refused(&format!("fieldManager={}", "x".repeat(129)), env("alice")).await.0, 400);
    let status = format!("{ENVS}/alice/status?fieldManager=me");
    assert_eq!(server.apply(&status, &env("alice")).await.code, 404);
    server.env("alice").await;
    let forced = server.patch(&path("alice", "force=true"), &json!({})).await;
    assert_eq!(forced.code, 422, "{}", forced.body);
}

#[tokio::test]
async fn another_managers_field_is_a_conflict_until_it_is_taken_by_force() {
    let server = Api::start().await;
    server.post(&format!("{ENVS}?fieldManager=maker"), &env("alice")).await;
    let mut mine = env("alice");
    mine["spec"]["owner"] = json!("bob@example.com");
    mine["spec"]["env"] = json!({"A": "1"});
    let reply = server.apply(&path("alice", "fieldManager=me"), &mine).await;
    let why = "conflict with \"maker\" using hangar.dev/v1alpha1";
    assert_eq!(
        reply.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": format!("Apply failed with 1 conflict: {why}: .spec.owner"),
            "reason": "Conflict",
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": why, "field": ".spec.owner"},
            ]},
            "code": 409,
        })
    );
    let dry = server.apply(&path("alice", "fieldManager=me&force=true&dryRun=All"), &mine).await;
    assert_eq!((dry.code, &dry.body["spec"]["env"]["A"]), (200, &json!("1")));
    assert_eq!(server.get(&path("alice", "")).await.body["spec"].get("env"), None);
    let reply = server.apply(&path("alice", "fieldManager=me&force=true"), &mine).await;
    assert_eq!((reply.code, &reply.body["spec"]["owner"]), (200, &json!("bob@example.com")));
    let makers = owned(&reply.body, "maker", Operation::Update);
    assert!(!makers.contains(&".spec.owner".to_owned()), "{makers:?}");
    // Both say which template, with the same value.
    assert!(makers.contains(&".spec.templateRef.name".to_owned()), "{makers:?}");
}

#[tokio::test]
async fn a_field_that_is_no_longer_applied_goes_unless_another_has_it() {
    let server = Api::start().await;
    let with = |env_: Value| {
        let mut object = env("alice");
        object["spec"]["env"] = env_;
        object
    };
    let both = with(json!({"A": "1", "B": "1"}));
    server.apply(&path("alice", "fieldManager=one"), &both).await;
    let partial = json!({"spec": {"env": {"B": "1"}}});
    assert_eq!(server.apply(&path("alice", "fieldManager=two"), &partial).await.code, 200);
    let reply = server.apply(&path("alice", "fieldManager=one"), &env("alice")).await;
    assert_eq!(reply.body["spec"]["env"], json!({"B": "1"}));
    let reply = server.apply(&path("alice", "fieldManager=two"), &json!({})).await;
    assert_eq!(reply.body["spec"].get("env"), None);
    assert_eq!(owned(&reply.body, "two", Operation::Apply), [""; 0]);
}

#[tokio::test]
async fn owners_follow_every_kind_of_write_and_the_user_agent_names_them() {
    let server = Api::start().await;
    let body = env("alice").to_string();
    let request = server.request(&format!("POST {ENVS}")).header("user-agent", "tool/1.2 (x)");
    let made = server.send(request.header("content-type", "application/json").body(body)).await;
    let tools = owned(&made.body, "tool", Operation::Update);
    assert!(tools.contains(&".spec.owner".to_owned()), "{tools:?}");
    assert!(tools.iter().all(|it| !it.contains("uid") && !it.contains("finalizers")), "{tools:?}");

    let label = |value: &str| json!({"metadata": {"labels": {"a": value}}});
    let reply = server.patch(&path("alice", "fieldManager=merger"), &label("1")).await;
    assert!(
        owned(&reply.body, "merger", Operation::Update).contains(&".metadata.labels.a".to_owned())
    );
    let steps = json!([{"op": "replace", "path": "/metadata/labels/a", "value": "2"}]);
    let reply = server.patch(&path("alice", "fieldManager=stepper"), &steps).await;
    assert_eq!(owned(&reply.body, "stepper", Operation::Update), [".metadata.labels.a"]);
    let mut whole = reply.body.clone();
    whole["metadata"]["labels"]["a"] = json!("3");
    // A client that knows nothing of owners takes nobody's away.
    whole["metadata"].as_object_mut().unwrap().remove("managedFields");
    let replace = format!("PUT {}", path("alice", "fieldManager=replacer"));
    let reply = server.call(&replace, Some(&whole)).await;
    assert_eq!(owned(&reply.body, "replacer", Operation::Update), [".metadata.labels.a"]);
    assert_eq!(owned(&reply.body, "stepper", Operation::Update), [""; 0]);
    assert!(!owned(&reply.body, "tool", Operation::Update).is_empty());
    let before = revision(&reply.body);
    let reply = server.patch(&path("alice", "fieldManager=merger"), &label("3")).await;
    assert_eq!(revision(&reply.body), before, "nothing changed, so nobody owns more");
}

#[tokio::test]
async fn a_status_has_owners_of_its_own() {
    let server = Api::start().await;
    server.apply(&path("alice", "fieldManager=me"), &env("alice")).await;
    let status = json!({"status": {"observedGeneration": 1}, "spec": {"owner": "x"}});
    let status_path = format!("{ENVS}/alice/status?fieldManager=me");
    let reply = server.apply(&status_path, &status).await;
    assert_eq!(reply.code, 200, "{}", reply.body);
    assert_eq!(reply.body["spec"]["owner"], "alice@example.com");
    let list = reply.body["metadata"]["managedFields"].as_array().unwrap();
    let of_status: Vec<_> = list.iter().filter(|it| it["subresource"] == "status").collect();
    assert_eq!(of_status.len(), 1, "{list:?}");
    assert_eq!(of_status[0]["fieldsV1"], json!({"f:status": {"f:observedGeneration": {}}}));
    // Applying the rest again is no reason to take the status away.
    let again = server.apply(&path("alice", "fieldManager=me"), &env("alice")).await;
    assert_eq!(again.body, reply.body);
}

#[tokio::test]
async fn what_was_there_before_anybody_applied_is_somebodys() {
    let server = Api::start().await;
    server.env("alice").await;
    // As objects are that were stored before owners were kept.
    let reset = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
    let reply = server.patch(&path("alice", ""), &reset).await;
    assert_eq!(reply.body["metadata"].get("managedFields"), None);
    let reply = server.patch(&path("alice", ""), &json!({"spec": {"env": {"A": "1"}}})).await;
    assert_eq!(reply.body["metadata"].get("managedFields"), None, "{}", reply.body);
    let mut mine = env("alice");
    mine["spec"]["owner"] = json!("bob@example.com");
    let reply = server.apply(&path("alice", "fieldManager=me"), &mine).await;
    assert_eq!(reply.code, 409);
    assert!(reply.body.to_string().contains("before-first-apply"), "{}", reply.body);
    let reply = server.apply(&path("alice", "fieldManager=me&force=true"), &mine).await;
    assert_eq!(reply.body["spec"]["env"]["A"], "1");
}

#[tokio::test]
async fn a_clients_move_of_fields_from_one_manager_to_another_is_kept() {
    let server = Api::start().await;
    let made = server.post(&format!("{ENVS}?fieldManager=old"), &env("alice")).await.body;
    let mut list = made["metadata"]["managedFields"].clone();
    list[0]["manager"] = json!("new");
    list[0]["operation"] = json!("Apply");
    let steps = json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": list},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": made["metadata"]["resourceVersion"]},
    ]);
    let reply = server.patch(&path("alice", "fieldManager=old"), &steps).await;
    assert_eq!(reply.code, 200, "{}", reply.body);
    assert!(!owned(&reply.body, "new", Operation::Apply).is_empty());
    assert!(owned(&reply.body, "old", Operation::Update).is_empty());
    assert_eq!(server.patch(&path("alice", ""), &steps).await.code, 409, "it is older now");
}

#[tokio::test]
async fn a_secrets_owners_have_names_and_no_values() {
    let server = Api::start().await;
    let path = "/api/v1/namespaces/default/secrets/keys?fieldManager=me";
    let mut applied = secret("keys", "canary-1");
    applied["stringData"] = json!({"TEXT": "canary-2"});
    let reply = server.apply(path, &applied).await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    assert_eq!(owned(&reply.body, "me", Operation::Apply), [".data.KEY", ".data.TEXT", ".type"]);
    let owners = reply.body["metadata"]["managedFields"].to_string();
    let values = reply.body["data"].as_object().unwrap().values();
    for value in values.map(|it| it.as_str().unwrap()).chain(["canary"]) {
        assert!(!owners.contains(value), "{owners}");
    }
    // What is no longer applied as text goes as well.
    let reply = server.apply(path, &secret("keys", "canary-1")).await;
    assert_eq!(reply.body["data"].as_object().unwrap().len(), 1);
}

#[tokio::test]
async fn a_configuration_may_be_yaml_and_a_scale_has_its_owner() {
    let server = Api::start().await;
    let pools = "/apis/hangar.dev/v1alpha1/namespaces/default/warmpools/stock";
    let yaml = "apiVersion: hangar.dev/v1alpha1\nkind: WarmPool\nmetadata: {name: stock}\nspec: {templateRef: {name: node}, replicas: 1}\n";
    let request = server.request(&format!("PATCH {pools}?fieldManager=me"));
    let request = request.header("content-type", "application/apply-patch+yaml");
    let reply = server.send(request.body(yaml)).await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    let scale = format!("{pools}/scale?fieldManager=scaler");
    assert_eq!(server.patch(&scale, &json!({"spec": {"replicas": 2}})).await.code, 200);
    let pool = server.get(pools).await.body;
    assert_eq!(owned(&pool, "scaler", Operation::Update), [".spec.replicas"]);
    assert!(!owned(&pool, "me", Operation::Apply).contains(&".spec.replicas".to_owned()));
    let list = &pool["metadata"]["managedFields"];
    assert!(list.as_array().unwrap().iter().any(|it| it["subresource"] == "scale"), "{list}");
}
