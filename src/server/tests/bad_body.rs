//! Bodies that must be refused by the rules that manifests have, with what the refusal names; nothing of them is kept.

use super::*;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const MERGE: &str = "application/merge-patch+json";
const STEPS: &str = "application/json-patch+json";

/// What is asked for an environment, in which media type, the body, the code, and the message or the field of the first cause.
const BAD: &[(&str, &str, &str, u16, &str)] = &[
    // A field that is there twice.
    (
        "POST",
        JSON,
        r#"{"metadata": {"name": "eve", "name": "alice"}}"#,
        400,
        "strict decoding error: duplicate field \"metadata.name\" (line 1, column 35)",
    ),
    (
        "POST",
        JSON,
        "{\"metadata\": {\"name\": \"eve\"},\n\"spec\": {\"env\": {\"A\": \"1\", \"\\u0041\": \"2\"}}}",
        400,
        "strict decoding error: duplicate field \"spec.env.A\" (line 2, column 35)",
    ),
    (
        "PUT",
        JSON,
        r#"{"spec": {}, "spec": {}}"#,
        400,
        "strict decoding error: duplicate field \"spec\" (line 1, column 19)",
    ),
    (
        "PATCH",
        MERGE,
        r#"{"spec": {"owner": "a", "owner": "b"}}"#,
        400,
        "strict decoding error: duplicate field \"spec.owner\" (line 1, column 31)",
    ),
    (
        "PATCH",
        STEPS,
        r#"[{"op": "add", "path": "/spec/env", "path": "/spec/x", "value": {}}]"#,
        400,
        "strict decoding error: duplicate field \"[0].path\" (line 1, column 42)",
    ),
    (
        "POST",
        YAML,
        "metadata: {name: eve}\nspec:\n  owner: a\n  owner: b\n",
        400,
        "the body: line 4: `spec.owner` is there twice, first on line 3",
    ),
    // No object, or more than one.
    (
        "POST",
        JSON,
        r#"{"metadata": {"name": "eve"}} {}"#,
        400,
        "the body: line 1, column 31: not JSON",
    ),
    (
        "POST",
        YAML,
        "metadata: {name: eve}\n---\nmetadata: {name: bob}\n",
        400,
        "the body is not one object",
    ),
    ("POST", YAML, "# nothing\n", 400, "the body is not one object"),
    (
        "POST",
        YAML,
        "spec: {owner: &a x, region: &a y}\n",
        400,
        "the body: line 1: the anchor `&a` is there twice: give them different names",
    ),
    (
        "POST",
        YAML,
        "spec: {owner: x\u{7}}\n",
        400,
        "the body: line 1: the control character U+0007 is in it",
    ),
    // Values that are not text.
    ("POST", JSON, r#"{"spec": {"env": {"PORTS": 8080}}}"#, 422, "spec.env.PORTS"),
    ("POST", JSON, r#"{"spec": {"env": {"DEBUG": true}}}"#, 422, "spec.env.DEBUG"),
    ("POST", JSON, r#"{"spec": {"env": {"X": null}}}"#, 422, "spec.env.X"),
    (
        "PUT",
        JSON,
        r#"{"metadata": {"resourceVersion": "REVISION"}, "spec": {"env": {"X": []}}}"#,
        422,
        "spec.env.X",
    ),
    ("PATCH", MERGE, r#"{"spec": {"env": {"X": 1}}}"#, 422, "spec.env.X"),
    (
        "PATCH",
        STEPS,
        r#"[{"op": "add", "path": "/spec/env", "value": {"X": 1}}]"#,
        422,
        "spec.env.X",
    ),
    ("POST", YAML, "spec: {env: {X: ~}}\n", 422, "spec.env.X"),
    ("POST", JSON, r#"{"metadata": {"labels": {"year": 2026}}}"#, 422, "metadata.labels.year"),
    // Control characters.
    ("POST", JSON, r#"{"spec": {"owner": "a\u0000"}}"#, 422, "spec.owner"),
    ("POST", JSON, r#"{"spec": {"owner": "a\nb"}}"#, 422, "spec.owner"),
    (
        "POST",
        JSON,
        r#"{"metadata": {"annotations": {"note": "\u001b[2J"}}}"#,
        422,
        "metadata.annotations.note",
    ),
    ("POST", JSON, r#"{"spec": {"env": {"X": "\u009b"}}}"#, 422, "spec.env.X"),
    ("PATCH", MERGE, r#"{"spec": {"env": {"X": "a\rb"}}}"#, 422, "spec.env.X"),
    (
        "PATCH",
        STEPS,
        r#"[{"op": "add", "path": "/metadata/annotations", "value": {"a\u0007": "b"}}]"#,
        422,
        "metadata.annotations.a\u{7}",
    ),
    (
        "POST",
        JSON,
        r#"{"spec": {"$serde_json::private::RawValue": "{}"}}"#,
        422,
        "spec.$serde_json::private::RawValue",
    ),
];

#[tokio::test]
async fn each_is_refused_with_what_is_wrong_and_changes_nothing() {
    let api = Api::start().await;
    let revision = revision(&api.env("alice").await).to_string();
    let before = api.get(ENVS).await.body;
    for (method, media, body, code, expected) in BAD {
        let path = if *method == "POST" { ENVS.to_owned() } else { format!("{ENVS}/alice") };
        let request = api.request(&format!("{method} {path}")).header("content-type", *media);
        let reply = api.send(request.body(body.replace("REVISION", &revision))).await;
        let said = match code {
            422 => text(&reply.body, "/details/causes/0/field"),
            _ => text(&reply.body, "/message"),
        };
        assert_eq!((reply.code, said), (*code, *expected), "{body}: {}", reply.body);
        assert_eq!(text(&reply.body, "/kind"), "Status");
    }
    assert_eq!(api.get(ENVS).await.body, before);
}

#[tokio::test]
async fn a_body_that_is_too_long_or_too_deep_is_refused() {
    let api = Api::start().await;
    for (body, code) in [
        (format!(r#"{{"spec": {{"owner": "{}"}}}}"#, "a".repeat(256 * 1024)), 413),
        ("[".repeat(200_000), 400),
        ("{\"a\":".repeat(40_000), 400),
    ] {
        let request = api.request(&format!("POST {ENVS}")).header("content-type", JSON);
        assert_eq!(api.send(request.body(body)).await.code, code);
    }
}

#[tokio::test]
async fn a_refusal_does_not_show_a_secrets_value() {
    let api = Api::start().await;
    for body in [
        json!({"metadata": {"name": "s"}, "data": {"PIN": 271_828}}),
        json!({"metadata": {"name": "s"}, "data": "271828"}),
        json!({"metadata": {"name": "s"}, "stringData": {"PIN": "271828\u{0}"}}),
        json!({"metadata": {"name": "s"}, "stringData": [271_828]}),
        json!({"metadata": {"name": "s"}, "type": 271_828}),
    ] {
        let reply = api.post(SECRETS, &body).await;
        assert_eq!(reply.code, 422, "{}", reply.body);
        assert!(!reply.body.to_string().contains("271828"), "{}", reply.body);
    }
}

#[tokio::test]
async fn null_in_a_merge_patch_still_takes_a_variable_out() {
    let api = Api::start().await;
    api.env("alice").await;
    let path = format!("{ENVS}/alice");
    let set = api.patch(&path, &json!({"spec": {"env": {"A": "1", "B": "2"}}})).await;
    assert_eq!(set.code, 200);
    let unset = api.patch(&path, &json!({"spec": {"env": {"A": null}}})).await;
    assert_eq!(unset.body["spec"]["env"], json!({"B": "2"}));
}
