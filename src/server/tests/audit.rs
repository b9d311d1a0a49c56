//! The audit log of real calls: everything that is done is in it, and nothing that should not be.

use std::fs;

use serde_json::{Value, json};

use super::{Api, ENVS, SECRETS, access::OWN, env, eventually, secret, text};

impl Api {
    /// All lines of the file as it is.
    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Those about calls that were let in, and those about all others.
    async fn audit(&self) -> (Vec<Value>, Vec<Value>) {
        self.audit.flush().await;
        self.lines().into_iter().partition(|it| it["refused"].is_null())
    }

    /// The last line about a call that was let in.
    async fn last(&self) -> Value {
        self.audit().await.0.pop().unwrap()
    }
}

/// `ci get secrets keys allow 200`
fn short(line: &Value) -> String {
    let word = |key: &str| text(line, key).to_owned();
    let (who, verb) = (word("/who"), word("/verb"));
    let (resource, name) = (word("/resource"), word("/name"));
    format!("{who} {verb} {resource} {name} {} {}", word("/decision"), line["code"])
}

/// How many these lines say were refused.
fn refused(lines: &[Value]) -> u64 {
    lines.iter().map(|it| it["refused"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn every_call_is_a_line_with_its_decision_and_no_secret_is_in_any() {
    let api = Api::guarded().await;
    let scope =
        json!({"namespaces": ["default"], "verbs": ["create", "get"], "resources": ["secrets"]});
    let ci = api.token("ci", &scope).await;
    let canary = "value-canary";
    let made = secret("keys", canary);
    assert_eq!(api.as_user(&ci, &format!("POST {SECRETS}"), Some(&made)).await.code, 201);
    assert_eq!(api.as_user(&ci, &format!("GET {SECRETS}/keys"), None).await.code, 200);
    assert_eq!(api.as_user(&ci, &format!("DELETE {SECRETS}/keys"), None).await.code, 403);
    let patch = json!({"stringData": {"KEY": canary}});
    assert_eq!(api.as_user(OWN, &format!("PATCH {SECRETS}/keys"), Some(&patch)).await.code, 200);
    let wrong = api.as_user("wrong-canary", &format!("GET {ENVS}?token=query-canary"), None).await;
    assert_eq!(wrong.code, 401);
    assert_eq!(api.as_user(OWN, "GET /version", None).await.code, 200);
    assert_eq!(api.as_user(OWN, "GET /apis", None).await.code, 200);
    assert_eq!(api.as_user(OWN, "GET /path-canary", None).await.code, 404);
    let mut named = env("");
    named["metadata"] = json!({"generateName": "made-"});
    let named = api.as_user(OWN, &format!("POST {ENVS}"), Some(&named)).await;
    let (lines, others) = api.audit().await;
    let name = text(&named.body, "/metadata/name");
    assert_eq!(
        lines.iter().map(short).collect::<Vec<_>>(),
        [
            "hangar:token create accesstokens ci allow 201",
            "ci create secrets keys allow 201",
            "ci get secrets keys allow 200",
            "ci delete secrets keys deny 403",
            "hangar:token patch secrets keys allow 200",
            "hangar:token get   allow 404",
            &format!("hangar:token create environments {name} allow 201"),
        ]
    );
    assert_eq!(others.iter().map(short).collect::<Vec<_>>(), [" list environments  deny 401"]);
    let line = &lines[1];
    assert_eq!(
        (text(line, "/namespace"), text(line, "/at"), text(line, "/from")),
        ("default", "2026-09-01T12:00:00.5Z", "127.0.0.1")
    );
    let log = fs::read_to_string(api.dir.path().join("audit.log")).unwrap();
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(canary);
    let hash = blake3::hash(ci.as_bytes()).to_hex().to_string();
    for hidden in ["canary", &ci, &encoded, &hash] {
        assert!(!log.contains(hidden), "{hidden}");
    }
}

#[tokio::test]
async fn whoever_is_not_let_in_cannot_push_out_what_others_did() {
    let api = Api::guarded().await;
    api.as_user(OWN, &format!("POST {ENVS}"), Some(&env("alice"))).await;
    let name = "long".repeat(1_000);
    for _ in 0..200 {
        assert_eq!(api.get(&format!("{ENVS}/{name}")).await.code, 401);
    }
    let (lines, others) = api.audit().await;
    assert_eq!(short(&lines[0]), "hangar:token create environments alice allow 201");
    assert_eq!(refused(&others), 200);
    assert!(!api.dir.path().join("audit.log.1").exists());
    assert!(others.iter().all(|it| it["name"].is_null() && text(it, "/from") == "127.0.0.1"));
}

#[tokio::test]
async fn who_is_not_let_in_leaves_a_word_wherever_they_knocked() {
    let api = Api::guarded().await;
    for (count, path) in (1..).zip(["/api", "/apis", "/version", "/openapi/v2", "/nothing"]) {
        assert_eq!(api.as_user("guessed", &format!("GET {path}"), None).await.code, 401);
        let (_, others) = api.audit().await;
        assert_eq!(refused(&others), count, "{path}");
        let said = text(others.last().unwrap(), "/path");
        assert_eq!(said, if path == "/nothing" { "" } else { path });
    }
}

#[tokio::test]
async fn the_longest_names_make_no_long_line() {
    let api = Api::guarded().await;
    let (namespace, name) = ("n".repeat(10_000), "a".repeat(10_000));
    let path = format!("/apis/hangar.dev/v1alpha1/namespaces/{namespace}/environments/{name}");
    api.as_user(OWN, &format!("GET {path}"), None).await;
    let line = api.last().await;
    assert_eq!(text(&line, "/name"), format!("{}…", "a".repeat(253)));
    assert_eq!(text(&line, "/namespace"), format!("{}…", "n".repeat(253)));
    let method = "M".repeat(1_000);
    api.as_user(OWN, &format!("{method} {ENVS}"), None).await;
    assert!(text(&api.last().await, "/verb").ends_with("m…"));
    // The name of a token and a uid come on top of that.
    assert!(api.lines().iter().all(|it| it.to_string().len() + 253 + 36 < 2_048));
}

#[tokio::test]
async fn a_refusal_for_scope_is_a_denial_even_when_it_comes_late_and_no_other_is() {
    let api = Api::guarded().await;
    let scope =
        json!({"namespaces": ["default"], "verbs": ["patch"], "resources": ["environments"]});
    let ci = api.token("ci", &scope).await;
    let apply = api.request(&format!("PATCH {ENVS}/new?fieldManager=me")).bearer_auth(ci);
    let apply = apply.header("content-type", "application/apply-patch+yaml");
    assert_eq!(api.send(apply.body(env("new").to_string())).await.code, 403);
    assert_eq!(short(&api.last().await), "ci patch environments new deny 403");
    api.as_user(OWN, "DELETE /api/v1/namespaces/default", None).await;
    assert_eq!(short(&api.last().await), "hangar:token delete namespaces default allow 403");
}

#[tokio::test]
async fn a_dry_run_says_that_it_is_one() {
    let api = Api::start().await;
    let all = json!({"dryRun": ["All"]});
    for (request, body, is_dry) in [
        (format!("POST {ENVS}?dryRun=All"), env("alice"), true),
        (format!("POST {ENVS}"), env("alice"), false),
        (format!("DELETE {ENVS}/alice"), all.clone(), true),
        (format!("DELETE {ENVS}"), all, true),
        (format!("DELETE {ENVS}?dryRun=All"), json!({}), true),
        (format!("DELETE {ENVS}/alice"), json!({}), false),
    ] {
        let reply = api.call(&request, Some(&body)).await;
        assert!(reply.code < 300, "{request}: {}", reply.body);
        assert_eq!(api.last().await["dry_run"] == json!(true), is_dry, "{request}");
    }
}

#[tokio::test]
async fn a_token_that_is_made_anew_under_an_old_name_is_told_from_it() {
    let api = Api::guarded().await;
    let scope =
        json!({"namespaces": ["default"], "verbs": ["list"], "resources": ["environments"]});
    let token = "/apis/hangar.dev/v1alpha1/accesstokens/ci";
    for _ in 0..2 {
        let ci = api.token("ci", &scope).await;
        assert_eq!(api.as_user(&ci, &format!("GET {ENVS}"), None).await.code, 200);
        let line = api.last().await;
        let object = api.as_user(OWN, &format!("GET {token}"), None).await;
        assert_eq!(text(&line, "/uid"), text(&object.body, "/metadata/uid"));
        assert!(!text(&line, "/uid").is_empty() && api.last().await["uid"].is_null());
        api.as_user(OWN, &format!("DELETE {token}"), None).await;
    }
}

#[tokio::test]
async fn the_end_of_the_server_waits_for_the_last_lines() {
    let api = Api::guarded().await;
    let told = || api.lines().iter().filter_map(|it| it["refused"].as_u64()).sum::<u64>();
    assert_eq!(api.get(ENVS).await.code, 401);
    eventually("the first refusal is written", async || told() == 1).await;
    // Only the end writes this one before a minute is over.
    assert_eq!(api.get(ENVS).await.code, 401);
    api.trigger.shut_down();
    eventually("the second is written", async || told() == 2).await;
}
