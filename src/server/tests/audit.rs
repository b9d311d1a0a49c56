//! The audit log of real calls: everything that is done is in it, and nothing that should not be.

use std::fs;

use serde_json::{Value, json};

use super::{Api, ENVS, SECRETS, access::OWN, env, eventually, secret, text};

impl Api {
    fn audit(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.dir.path().join("audit.log")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
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
    assert_eq!(
        api.as_user("wrong-canary", &format!("GET {ENVS}?token=query-canary"), None).await.code,
        401
    );
    assert_eq!(api.as_user(OWN, "GET /version", None).await.code, 200);
    assert_eq!(api.as_user(OWN, "GET /apis", None).await.code, 200);
    assert_eq!(api.as_user(OWN, "GET /path-canary", None).await.code, 404);
    let mut named = env("");
    named["metadata"] = json!({"generateName": "made-"});
    let named = api.as_user(OWN, &format!("POST {ENVS}"), Some(&named)).await;
    eventually("all lines are written", async || api.audit().len() == 8).await;
    let said: Vec<_> = api
        .audit()
        .iter()
        .map(|it| {
            let word = |key: &str| text(it, key).to_owned();
            let (who, verb) = (word("/who"), word("/verb"));
            let (resource, name) = (word("/resource"), word("/name"));
            format!("{who} {verb} {resource} {name} {} {}", word("/decision"), it["code"])
        })
        .collect();
    assert_eq!(
        said,
        [
            "hangar:token create accesstokens ci allow 201",
            "ci create secrets keys allow 201",
            "ci get secrets keys allow 200",
            "ci delete secrets keys deny 403",
            "hangar:token patch secrets keys allow 200",
            " list environments  deny 401",
            "hangar:token get   allow 404",
            &format!(
                "hangar:token create environments {} allow 201",
                text(&named.body, "/metadata/name")
            ),
        ]
    );
    let line = &api.audit()[1];
    assert_eq!(
        (text(line, "/namespace"), text(line, "/at")),
        ("default", "2026-09-01T12:00:00.5Z")
    );
    let log = fs::read_to_string(api.dir.path().join("audit.log")).unwrap();
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(canary);
    let hash = blake3::hash(ci.as_bytes()).to_hex().to_string();
    for hidden in ["canary", &ci, &encoded, &hash] {
        assert!(!log.contains(hidden), "{hidden}");
    }
}
