//! Objects one by one: who owns which field, and what each verb answers.

use serde_json::{Value, json};

use super::{Api, ENVS, NAMESPACES, SECRETS, env, revision, secret, text};

#[tokio::test]
async fn a_created_object_has_the_servers_fields_and_not_the_clients() {
    let api = Api::start().await;
    let mut body = env("alice");
    for (key, value) in [
        ("uid", json!("mine")),
        ("generation", json!(7)),
        ("creationTimestamp", json!("1999-01-01T00:00:00Z")),
        ("deletionTimestamp", json!("1999-01-01T00:00:00Z")),
    ] {
        body["metadata"][key] = value;
    }
    body["status"] = json!({"phase": "Ready"});
    let made = api.post(ENVS, &body).await;
    assert_eq!(made.code, 201, "{}", made.body);
    let object = made.body;
    assert_eq!(text(&object, "/metadata/namespace"), "default");
    assert_eq!(text(&object, "/metadata/creationTimestamp"), "2026-09-01T12:00:00Z");
    assert_eq!(object["metadata"]["generation"], 1);
    assert_eq!(text(&object, "/metadata/uid").len(), 36);
    assert_eq!(object["metadata"].get("deletionTimestamp"), None);
    assert_eq!(object["metadata"]["finalizers"], json!(["hangar.dev/bay"]));
    assert_eq!(text(&object, "/status/phase"), "Pending");
    assert_eq!(api.get(&format!("{ENVS}/alice")).await.body, object);
}

#[tokio::test]
async fn the_resource_version_is_never_stored() {
    let api = Api::start().await;
    api.env("alice").await;
    let entries = api.store.list_bytes("environments/").await.unwrap().0;
    let stored = String::from_utf8(entries[0].value.to_vec()).unwrap();
    assert!(!stored.contains("resourceVersion"), "{stored}");
}

#[tokio::test]
async fn a_name_is_taken_once_and_made_up_on_demand() {
    let api = Api::start().await;
    api.env("alice").await;
    let again = api.post(ENVS, &env("alice")).await;
    assert_eq!((again.code, text(&again.body, "/reason")), (409, "AlreadyExists"));
    assert_eq!(text(&again.body, "/message"), "environments.hangar.dev \"alice\" already exists");
    let mut body = env("");
    body["metadata"] = json!({"generateName": "env-"});
    let (one, two) = (api.post(ENVS, &body).await, api.post(ENVS, &body).await);
    let names = [text(&one.body, "/metadata/name"), text(&two.body, "/metadata/name")];
    assert!(names.iter().all(|it| it.starts_with("env-") && it.len() == 9), "{names:?}");
    assert_ne!(names[0], names[1]);
    body["metadata"] = json!({});
    assert_eq!(api.post(ENVS, &body).await.code, 422);
}

#[tokio::test]
async fn what_is_not_there_is_not_found_with_its_name() {
    let api = Api::start().await;
    let missing = api.get(&format!("{ENVS}/nobody")).await;
    assert_eq!(
        missing.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "environments.hangar.dev \"nobody\" not found",
            "reason": "NotFound",
            "details": {"name": "nobody", "group": "hangar.dev", "kind": "environments"},
            "code": 404,
        })
    );
    for request in ["PUT", "PATCH", "DELETE"] {
        let reply = api.call(&format!("{request} {ENVS}/nobody"), Some(&env("nobody"))).await;
        assert_eq!(reply.code, 404, "{request}");
    }
    assert_eq!(api.get("/apis/apps/v1/deployments").await.code, 404);
    assert_eq!(api.call("DELETE /version", None).await.code, 405);
}

#[tokio::test]
async fn a_replacement_says_what_it_replaces() {
    let api = Api::start().await;
    let path = format!("{ENVS}/alice");
    let mut object = api.env("alice").await;
    object["spec"]["env"] = json!({"A": "1"});
    let put = format!("PUT {path}");
    let first = api.call(&put, Some(&object)).await;
    assert_eq!((first.code, first.body["metadata"]["generation"].clone()), (200, json!(2)));
    let stale = api.call(&put, Some(&object)).await;
    assert_eq!((stale.code, text(&stale.body, "/reason")), (409, "Conflict"));
    let unsaid = api.call(&put, Some(&env("alice"))).await;
    assert_eq!((unsaid.code, text(&unsaid.body, "/reason")), (422, "Invalid"));
    assert_eq!(text(&unsaid.body, "/details/causes/0/field"), "metadata.resourceVersion");
    let mut other = first.body.clone();
    other["metadata"]["name"] = json!("bob");
    assert_eq!(api.call(&put, Some(&other)).await.code, 400);
    let mut reborn = first.body;
    reborn["metadata"]["uid"] = json!("another");
    assert_eq!(api.call(&put, Some(&reborn)).await.code, 409);
}

#[tokio::test]
async fn generation_rises_with_the_specification_alone_and_no_change_writes_nothing() {
    let api = Api::start().await;
    let path = format!("{ENVS}/alice");
    let made = api.env("alice").await;
    let same = api.patch(&path, &json!({"spec": {"owner": "alice@example.com"}})).await.body;
    assert_eq!(same, made);
    let labelled = api.patch(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await.body;
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert!(revision(&labelled) > revision(&made));
    let changed = api.patch(&path, &json!({"spec": {"env": {"A": "1"}}})).await.body;
    assert_eq!(changed["metadata"]["generation"], 2);
}

#[tokio::test]
async fn status_is_written_apart_from_the_rest() {
    let api = Api::start().await;
    let path = format!("{ENVS}/alice");
    let made = api.env("alice").await;
    let main = api.patch(&path, &json!({"status": {"url": "https://x.example"}})).await.body;
    assert_eq!(main, made);
    let both = json!({"status": {"url": "https://x.example"}, "spec": {"env": {"A": "1"}}});
    let status = api.patch(&format!("{path}/status"), &both).await.body;
    assert_eq!(text(&status, "/status/url"), "https://x.example");
    assert_eq!(status["spec"], made["spec"]);
    assert_eq!(status["metadata"]["generation"], 1);
    let shown = api.get(&format!("{path}/status")).await.body;
    assert_eq!(shown, status);
}

#[tokio::test]
async fn patches_merge_or_step_and_may_say_a_revision() {
    let api = Api::start().await;
    let path = format!("{ENVS}/alice");
    let made = api.env("alice").await;
    let step = json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]);
    let stepped = api.patch(&path, &step).await;
    assert_eq!((stepped.code, text(&stepped.body, "/metadata/labels/a")), (200, "b"));
    let stale = json!({"metadata": {"resourceVersion": text(&made, "/metadata/resourceVersion")}});
    assert_eq!(api.patch(&path, &stale).await.code, 409);
    let failing = json!([{"op": "test", "path": "/spec/owner", "value": "bob"}]);
    assert_eq!(api.patch(&path, &failing).await.code, 422);
    let strategic = api
        .request(&format!("PATCH {path}"))
        .header("content-type", "application/strategic-merge-patch+json")
        .body("{}");
    assert_eq!(api.send(strategic).await.code, 415);
}

#[tokio::test]
async fn a_deleted_object_stays_until_its_last_finalizer_goes() {
    let api = Api::start().await;
    let path = format!("{ENVS}/alice");
    api.env("alice").await;
    let wrong = json!({"preconditions": {"uid": "another"}});
    assert_eq!(api.call(&format!("DELETE {path}"), Some(&wrong)).await.code, 409);
    let policy = json!({"propagationPolicy": "Background", "gracePeriodSeconds": 1});
    let marked = api.call(&format!("DELETE {path}"), Some(&policy)).await;
    assert_eq!(marked.code, 200);
    assert_eq!(text(&marked.body, "/metadata/deletionTimestamp"), "2026-09-01T12:00:00Z");
    assert_eq!(api.delete(&path).await.body, marked.body, "a second deletion changes nothing");
    let more = json!({"metadata": {"finalizers": ["hangar.dev/bay", "example.com/mine"]}});
    assert_eq!(api.patch(&path, &more).await.code, 422);
    let last = api.finish(&path).await;
    assert_eq!((last.code, text(&last.body, "/metadata/name")), (200, "alice"));
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn a_finalizer_of_the_servers_own_is_not_lost_by_a_write_that_does_not_know_it() {
    let api = Api::start().await;
    api.env("alice").await;
    let kept = api.finish(&format!("{ENVS}/alice")).await.body;
    assert_eq!(kept["metadata"]["finalizers"], json!(["hangar.dev/bay"]));
}

#[tokio::test]
async fn an_object_that_nothing_keeps_is_gone_at_once() {
    let api = Api::start().await;
    let made = api.post(SECRETS, &secret("keys", "v")).await.body;
    let gone = api.delete(&format!("{SECRETS}/keys")).await;
    assert_eq!(
        gone.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {
                "name": "keys", "group": "", "kind": "secrets", "uid": made["metadata"]["uid"],
            },
        })
    );
    assert_eq!(api.get(&format!("{SECRETS}/keys")).await.code, 404);
}

#[tokio::test]
async fn a_dry_run_does_everything_but_the_write() {
    let api = Api::start().await;
    let dry = api.post(&format!("{ENVS}?dryRun=All"), &env("alice")).await;
    assert_eq!((dry.code, text(&dry.body, "/metadata/name")), (201, "alice"));
    assert_eq!(api.get(&format!("{ENVS}/alice")).await.code, 404);
    let made = api.env("alice").await;
    let path = format!("{ENVS}/alice?dryRun=All");
    let patched = api.patch(&path, &json!({"spec": {"env": {"A": "1"}}})).await.body;
    assert_eq!(revision(&patched), revision(&made));
    assert_eq!(text(&patched, "/spec/env/A"), "1");
    assert_eq!(api.delete(&path).await.code, 200);
    let options = json!({"dryRun": ["All"]});
    assert_eq!(api.call(&format!("DELETE {ENVS}/alice"), Some(&options)).await.code, 200);
    assert_eq!(api.get(&format!("{ENVS}/alice")).await.body, made);
}

#[tokio::test]
async fn a_collection_is_deleted_by_selector() {
    let api = Api::start().await;
    for (name, team) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut body = secret(name, "v");
        body["metadata"]["labels"] = json!({"team": team});
        assert_eq!(api.post(SECRETS, &body).await.code, 201);
    }
    let gone = api.delete(&format!("{SECRETS}?labelSelector=team%3Dx")).await;
    assert_eq!(gone.body["items"].as_array().map(Vec::len), Some(2));
    let left = api.get(SECRETS).await.body;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(text(&left, "/items/0/metadata/name"), "b");
}

#[tokio::test]
async fn kinds_of_hangars_own_are_read_only() {
    let api = Api::start().await;
    api.env("alice").await;
    let hostname = "/apis/hangar.dev/v1alpha1/hostnames/alice";
    assert_eq!(text(&api.get(hostname).await.body, "/spec/environment"), "alice");
    for reply in [
        api.delete(hostname).await,
        api.patch(hostname, &json!({"spec": {"uid": "mine"}})).await,
        api.patch("/apis/hangar.dev/v1alpha1/namespaces/default/bays/x/status", &json!({})).await,
        api.post("/apis/hangar.dev/v1alpha1/hostnames", &json!({})).await,
    ] {
        assert_eq!((reply.code, text(&reply.body, "/reason")), (403, "Forbidden"));
    }
}

#[tokio::test]
async fn an_object_needs_a_namespace_that_stays() {
    let api = Api::start().await;
    let team = ENVS.replace("default", "team-a");
    let missing = api.post(&team, &env("alice")).await;
    assert_eq!(
        (missing.code, text(&missing.body, "/message")),
        (404, "namespaces \"team-a\" not found")
    );
    let made = api.post(NAMESPACES, &json!({"metadata": {"name": "team-a"}})).await.body;
    assert_eq!(text(&made, "/status/phase"), "Active");
    assert_eq!(api.post(&team, &env("alice")).await.code, 201);
    let going = api.delete(&format!("{NAMESPACES}/team-a")).await.body;
    assert_eq!(text(&going, "/status/phase"), "Terminating");
    assert_eq!(api.post(&team, &env("bob")).await.code, 403);
    assert_eq!(api.delete(&format!("{NAMESPACES}/default")).await.code, 403);
}

#[tokio::test]
async fn what_cannot_be_read_or_is_too_large_is_refused_with_a_sentence() {
    let api = Api::start().await;
    let send = async |media: &'static str, body: String| {
        let builder = api.request(&format!("POST {ENVS}")).header("content-type", media);
        api.send(builder.body(body)).await
    };
    let broken = send("application/json", "{\"spec\": hunter2}".to_owned()).await;
    assert_eq!(broken.code, 400);
    assert!(!broken.body.to_string().contains("hunter2"), "{}", broken.body);
    assert_eq!(send("application/json", "[]".to_owned()).await.code, 400);
    assert_eq!(send("text/plain", "{}".to_owned()).await.code, 415);
    let yaml = serde_yaml::to_string(&env("yam")).unwrap();
    assert_eq!(send("application/yaml", yaml).await.code, 201);
    let mut large = env("large");
    large["metadata"]["annotations"] = json!({"a": "x".repeat(70_000)});
    let large = send("application/json", large.to_string()).await;
    assert!(matches!(large.code, 413 | 422), "{}", large.body);
    let endless = send("application/json", " ".repeat(1024 * 1024 + 1)).await;
    assert_eq!((endless.code, text(&endless.body, "/reason")), (413, "RequestEntityTooLarge"));
    let mut other = env("other");
    other["kind"] = json!("Template");
    assert_eq!(send("application/json", other.to_string()).await.code, 400);
}

#[tokio::test]
async fn remarks_come_as_warnings_and_refusals_with_their_fields() {
    let api = Api::start().await;
    let path = ENVS.replace("environments", "templates");
    let template = |image: &str| {
        json!({
            "metadata": {"name": "node"},
            "spec": {"machine": {"image": image, "guest": {"memory": "1Gi"}}, "regions": ["ams"]},
        })
    };
    let tagged = api.post(&path, &template("registry.fly.io/devbox:v1")).await;
    assert_eq!(tagged.code, 201, "{}", tagged.body);
    let warning = tagged.headers.get("warning").and_then(|it| it.to_str().ok());
    assert!(warning.is_some_and(|it| it.starts_with("299 - \"")), "{warning:?}");
    let wrong =
        api.patch(&format!("{path}/node"), &json!({"spec": {"regions": ["Amsterdam"]}})).await;
    assert_eq!((wrong.code, text(&wrong.body, "/reason")), (422, "Invalid"));
    assert!(text(&wrong.body, "/details/causes/0/field").starts_with("spec.regions"));
    let unknown = api.patch(&format!("{path}/node"), &json!({"spec": {"regoins": []}})).await;
    assert_eq!((unknown.code, text(&unknown.body, "/reason")), (400, "BadRequest"));
    assert_eq!(
        text(&unknown.body, "/message"),
        "Template in version \"v1alpha1\" cannot be handled as a Template: strict decoding error: unknown field \"spec.regoins\""
    );
}

#[tokio::test]
async fn discovery_names_every_kind_and_what_may_be_done_to_it() {
    let api = Api::start().await;
    let groups = api.get("/apis").await.body;
    assert_eq!(text(&groups, "/groups/0/preferredVersion/groupVersion"), "hangar.dev/v1alpha1");
    let mut found = Vec::new();
    for page in [
        "/api/v1",
        "/apis/hangar.dev/v1alpha1",
        "/apis/coordination.k8s.io/v1",
        "/apis/apiextensions.k8s.io/v1",
    ] {
        let page = api.get(page).await.body;
        let names = page["resources"].as_array().unwrap().iter();
        found.extend(names.map(|it| text(it, "/name").to_owned()));
    }
    for kind in crate::api::kind::Kind::ALL {
        assert!(found.iter().any(|it| it == kind.info().plural), "{kind:?}");
    }
    let version = api.get("/version?timeout=5s").await.body;
    assert!(text(&version, "/gitVersion").starts_with("v1.33.0+hangar."), "{version}");
}

#[tokio::test]
async fn ready_means_that_the_store_answers_and_every_gate_is_open() {
    let api = Api::start().await;
    assert_eq!(api.get("/readyz").await.body, Value::String("ok".to_owned()));
    let gate = api.parts.readiness.gate("router");
    let closed = api.get("/readyz").await;
    assert_eq!(closed.code, 503);
    assert_eq!(closed.body, Value::String("[-]router: it has not started yet\n".to_owned()));
    assert_eq!(api.get("/livez").await.code, 200);
    gate.open();
    assert_eq!(api.get("/readyz").await.code, 200);
}

#[tokio::test]
async fn a_routers_report_is_kept_beside_the_environments_it_knows() {
    use crate::api::activity::Activity;
    use crate::store::Key;
    let api = Api::start().await;
    let made = api.env("alice").await;
    let seen = |uid: &str, at_ms: i64| json!({"namespace": "default", "name": "alice", "uid": uid, "atMs": at_ms});
    let uid = text(&made, "/metadata/uid");
    let report = json!({
        "requests": [seen(uid, 1_000)],
        "nudges": [{"namespace": "default", "name": "nobody", "uid": "x"}],
    });
    assert_eq!(api.post("/router/activity", &report).await.code, 200);
    let older = json!({"requests": [seen(uid, 10), seen("another", 5_000)]});
    assert_eq!(api.post("/router/activity", &older).await.code, 200);
    let key = Key::new("activity/default/alice");
    let stored = api.store.get::<Activity>(&key).await.unwrap().unwrap().value;
    assert_eq!(stored, Activity { uid: uid.to_owned(), last_request_at_ms: 1_000 });
    assert!(api.store.list_bytes("nudges/").await.unwrap().0.is_empty());
}
