//! `fieldValidation`: what becomes of fields that the kind does not have or that are there twice.

use super::*;

/// What is sent to make an environment: a field that it does not have, and one twice.
const UNKNOWN: &str = r#"{"metadata": {"name": "eve"}, "spec": {"templateRef": {"name": "node"}, "owner": "a@example.com", "regoin": "ams"}}"#;
const TWICE: &str = r#"{"metadata": {"name": "eve"}, "spec": {"templateRef": {"name": "node"}, "owner": "b@example.com", "owner": "a@example.com"}}"#;

async fn send(api: &Api, request: &str, media: &str, body: &str) -> Reply {
    api.send(api.request(request).header("content-type", media).body(body.to_owned())).await
}

fn warnings(reply: &Reply) -> Vec<&str> {
    reply.headers.get_all("warning").iter().map(|it| it.to_str().unwrap()).collect()
}

#[tokio::test]
async fn strict_refuses_warn_says_and_ignore_keeps_quiet() {
    let api = Api::start().await;
    for (body, said, code) in [
        (UNKNOWN, "unknown field \"spec.regoin\"", "BadRequest"),
        (TWICE, "duplicate field \"spec.owner\"", "BadRequest"),
    ] {
        for strict in ["", "?fieldValidation=Strict&fieldManager=me"] {
            let reply = send(&api, &format!("POST {ENVS}{strict}"), "application/json", body).await;
            assert_eq!((reply.code, text(&reply.body, "/reason")), (400, code));
            let message = text(&reply.body, "/message");
            assert!(message.contains(&format!("strict decoding error: {said}")), "{message}");
        }
        for (way, remarks) in [("Warn", vec![said.replace('"', "\\\"")]), ("Ignore", vec![])] {
            let request = format!("POST {ENVS}?fieldValidation={way}&dryRun=All");
            let reply = send(&api, &request, "application/json", body).await;
            assert_eq!(reply.code, 201, "{}", reply.body);
            assert_eq!(text(&reply.body, "/spec/owner"), "a@example.com");
            assert_eq!(reply.body["spec"].get("regoin"), None);
            let expected: Vec<_> = remarks.iter().map(|it| format!("299 - \"{it}\"")).collect();
            assert_eq!(warnings(&reply), expected, "{way}");
        }
    }
    let reply =
        send(&api, &format!("POST {ENVS}?fieldValidation=Maybe"), "application/json", "{}").await;
    assert_eq!(reply.code, 400);
}

#[tokio::test]
async fn other_mistakes_are_refused_whatever_is_asked_for() {
    let api = Api::start().await;
    let body = r#"{"metadata": {"name": "eve"}, "spec": {"owner": "a@example.com", "regoin": 1}}"#;
    let reply =
        send(&api, &format!("POST {ENVS}?fieldValidation=Ignore"), "application/json", body).await;
    assert_eq!(reply.code, 422, "{}", reply.body);
    let causes = reply.body["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 1, "only what is wrong by itself: {}", reply.body);
    assert_eq!(causes[0]["field"], "spec.templateRef");
    // What the design has and hangar does not do yet is never left out in silence.
    let body = r#"{"metadata": {"name": "t"}, "spec": {"machine": {"image": "x"}, "services": [{"name": "web", "internalPort": 80}], "regions": ["ams"], "standby": {}}}"#;
    let templates = ENVS.replace("environments", "templates");
    let request = format!("POST {templates}?fieldValidation=Ignore");
    assert_eq!(send(&api, &request, "application/json", body).await.code, 422);
}

#[tokio::test]
async fn patches_and_replacements_are_validated_too() {
    let api = Api::start().await;
    let before = api.env("alice").await;
    let alice = format!("{ENVS}/alice");
    let merge = r#"{"spec": {"regoin": "ams", "owner": "b@example.com"}}"#;
    let steps = r#"[{"op": "add", "path": "/spec/regoin", "value": "ams"}]"#;
    let mut whole = before.clone();
    whole["spec"]["regoin"] = json!("ams");
    for (method, media, body) in [
        ("PATCH", "application/merge-patch+json", merge),
        ("PATCH", "application/json-patch+json", steps),
        ("PUT", "application/json", whole.to_string().as_str()),
    ] {
        assert_eq!(send(&api, &format!("{method} {alice}"), media, body).await.code, 400, "{body}");
        let request = format!("{method} {alice}?fieldValidation=Warn&dryRun=All");
        let reply = send(&api, &request, media, body).await;
        assert_eq!(reply.code, 200, "{}", reply.body);
        assert_eq!(warnings(&reply), ["299 - \"unknown field \\\"spec.regoin\\\"\""]);
    }
    assert_eq!(api.get(&alice).await.body, before);
}

#[tokio::test]
async fn a_programs_note_in_a_status_is_left_out_unless_strictness_is_asked_for() {
    let api = Api::start().await;
    api.env("alice").await;
    let (media, note) = ("application/merge-patch+json", r#"{"status": {"note": {"done": 1}}}"#);
    for path in [format!("{ENVS}/alice"), format!("{ENVS}/alice/status")] {
        let reply = send(&api, &format!("PATCH {path}"), media, note).await;
        assert_eq!(reply.code, 200, "{}", reply.body);
        assert_eq!(reply.body["status"].get("note"), None);
    }
    let path = format!("PATCH {ENVS}/alice/status");
    let reply = send(&api, &path, media, note).await;
    assert_eq!(warnings(&reply), ["299 - \"unknown field \\\"status.note\\\"\""]);
    let reply = send(&api, &format!("{path}?fieldValidation=Strict"), media, note).await;
    assert_eq!(reply.code, 400, "{}", reply.body);
}
