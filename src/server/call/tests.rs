//! Requests and the calls they mean, as tables.

use super::*;

#[track_caller]
fn check(request: &str, expected: &str) {
    let (method, target) = request.split_once(' ').unwrap();
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let text = match Call::parse(&method, path, query) {
        Ok(call) => short(&call),
        Err(no_call) => format!("{no_call:?}"),
    };
    assert_eq!(text, expected, "{request}");
}

fn short(call: &Call) -> String {
    let at = |scope: &Scope| scope.prefix();
    let on = |target: &Target| {
        format!("{}{}", target.object.store_key(), if target.status { " status" } else { "" })
    };
    match call {
        Call::Get(target) => format!("get {}", on(target)),
        Call::List(scope, it) => format!("list {} limit {}", at(scope), it.limit),
        Call::Watch(scope, it) => format!("watch {} {:?}", at(scope), it.start),
        Call::Create(scope, it) => format!("create {} dry {}", at(scope), it.dry_run),
        Call::Replace(target, _) => format!("replace {}", on(target)),
        Call::Patch(target, _) => format!("patch {}", on(target)),
        Call::Delete(object, _) => format!("delete {}", object.store_key()),
        Call::DeleteCollection(scope, ..) => format!("delete all {}", at(scope)),
        Call::Logs(it) => format!("logs {:?} {} {}", it.object, it.limit, it.follow),
        other => format!("{other:?}"),
    }
}

const NS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";

#[test]
fn paths_of_objects_mean_calls() {
    check(&format!("GET {NS}"), "list environments/default/ limit 0");
    check(&format!("GET {NS}/?&limit=500"), "list environments/default/ limit 500");
    check(&format!("GET {NS}/alice"), "get environments/default/alice");
    check(&format!("GET {NS}/alice/status"), "get environments/default/alice status");
    check(&format!("PUT {NS}/alice"), "replace environments/default/alice");
    check(&format!("PATCH {NS}/alice/status"), "patch environments/default/alice status");
    check(&format!("DELETE {NS}/alice"), "delete environments/default/alice");
    check(&format!("DELETE {NS}?labelSelector=a=b"), "delete all environments/default/");
    check(&format!("POST {NS}?dryRun=All&fieldManager=x"), "create environments/default/ dry true");
    check("GET /apis/hangar.dev/v1alpha1/environments", "list environments/ limit 0");
    check("GET /apis/hangar.dev/v1alpha1/hostnames/alice", "get hostnames//alice");
    check("GET /api/v1/namespaces", "list namespaces/ limit 0");
    check("GET /api/v1/namespaces/team-a", "get namespaces//team-a");
    check("PUT /api/v1/namespaces/team-a/status", "replace namespaces//team-a status");
    check("GET /api/v1/namespaces/team-a/secrets/keys", "get secrets/team-a/keys");
}

#[test]
fn paths_of_nothing_are_not_found_and_wrong_methods_not_allowed() {
    check("GET /", "NotFound");
    check("GET /apis/apps/v1/deployments", "NotFound");
    check("GET /api/v1/environments", "NotFound");
    check("GET /apis/hangar.dev/v1alpha1/environments/alice", "NotFound");
    check("GET /apis/hangar.dev/v1alpha1/namespaces/default/hostnames", "NotFound");
    check(&format!("GET {NS}/a%2Fb"), "NotFound");
    check(&format!("GET {NS}/alice/logs"), "NotFound");
    check("GET /api/v1/namespaces/a/secrets/b/status", "NotFound");
    check("POST /apis/hangar.dev/v1alpha1/environments", "MethodNotAllowed");
    check(&format!("DELETE {NS}/alice/status"), "MethodNotAllowed");
    check("POST /version", "MethodNotAllowed");
}

#[test]
fn a_watch_starts_where_it_is_told_to() {
    check(&format!("GET {NS}?watch=1"), "watch environments/default/ Existing");
    check(
        &format!("GET {NS}?watch=true&resourceVersion=0"),
        "watch environments/default/ Existing",
    );
    check(
        &format!("GET {NS}?watch=true&resourceVersion=7"),
        "watch environments/default/ After(Some(7))",
    );
    let list = "watch=true&resourceVersionMatch=NotOlderThan";
    check(
        &format!("GET {NS}?{list}&sendInitialEvents=true"),
        "watch environments/default/ ExistingThenBookmark",
    );
    check(
        &format!("GET {NS}?{list}&sendInitialEvents=false"),
        "watch environments/default/ After(None)",
    );
    check(
        &format!("GET {NS}?watch=true&sendInitialEvents=true"),
        r#"Forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")"#,
    );
}

#[test]
fn only_pools_have_a_scale() {
    let pools = NS.replace("environments", "warmpools");
    let node = r#"ObjectRef { kind: WarmPool, namespace: "default", name: "node" }"#;
    check(&format!("GET {pools}/node/scale"), &format!("GetScale({node})"));
    let writer =
        r#"Writer { name: "", is_named: false, operation: Update, subresource: "", force: None }"#;
    let write = format!(
        "WriteOptions {{ dry_run: true, validation: Unsaid, propagation: None, writer: {writer} }}"
    );
    check(&format!("PUT {pools}/node/scale?dryRun=All"), &format!("ReplaceScale({node}, {write})"));
    check(&format!("PATCH {pools}/node/scale?dryRun=All"), &format!("PatchScale({node}, {write})"));
    check(&format!("POST {pools}/node/scale"), "MethodNotAllowed");
    check(&format!("GET {NS}/alice/scale"), "NotFound");
}

#[test]
fn the_other_paths_mean_their_calls() {
    check("GET /version/", "Version");
    check("GET /healthz", "Live");
    check("GET /readyz?timeout=3s", "Ready");
    check("GET /api", "Discovery(CoreVersions)");
    check("GET /apis/", "Discovery(Groups)");
    check("GET /apis/hangar.dev", "Discovery(Group(\"hangar.dev\"))");
    check(
        "GET /apis/hangar.dev/v1alpha1?timeout=32s",
        "Discovery(Resources(\"hangar.dev\", \"v1alpha1\"))",
    );
    check("GET /api/v1", "Discovery(Resources(\"\", \"v1\"))");
    check("GET /logs?follow=true&object=env/alice&limit=3", "logs Some(\"env/alice\") 3 true");
    check("GET /logs?object=environments/team-a/bob", "logs Some(\"env/team-a/bob\") 1000 false");
    check("POST /router/activity", "Activity");
    check("POST /backups", "Backup");
    check("GET /backups", "MethodNotAllowed");
}

#[test]
fn wrong_parameters_are_named() {
    check(&format!("GET {NS}?limit=many"), "Bad(\"`limit` must be a number, and `many` is not\")");
    check(
        &format!("GET {NS}?fieldSelector=spec.colour=red"),
        "Bad(\"field label not supported: spec.colour\")",
    );
    check(&format!("POST {NS}?dryRun=Some"), "Bad(\"`dryRun` can only be All, and not `Some`\")");
}
