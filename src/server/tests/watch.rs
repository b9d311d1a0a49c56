//! Watches: from where they start, what they tell, and how they end.

use std::{collections::BTreeMap, time::Duration};

use futures::future;
use serde_json::{Value, json};

use super::{Api, ENVS, SECRETS, env, revision, secret, text};

async fn add(api: &Api, name: &str, team: &str) -> Value {
    let mut body = env(name);
    body["metadata"]["labels"] = json!({"team": team});
    let reply = api.post(ENVS, &body).await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    reply.body
}

async fn move_to(api: &Api, name: &str, team: &str) -> Value {
    let patch = json!({"metadata": {"labels": {"team": team}}});
    api.patch(&format!("{ENVS}/{name}"), &patch).await.body
}

#[tokio::test]
async fn a_watch_without_a_revision_tells_what_there_is_first() {
    let api = Api::start().await;
    add(&api, "a", "x").await;
    for query in ["watch=true", "watch=1&resourceVersion=0"] {
        let mut watch = api.watch(&format!("{ENVS}?{query}")).await;
        assert_eq!(watch.event().await.unwrap(), "ADDED a");
    }
    let mut watch = api.watch(&format!("{ENVS}?watch=true")).await;
    add(&api, "b", "x").await;
    move_to(&api, "a", "y").await;
    assert_eq!(watch.event().await.unwrap(), "ADDED a");
    assert_eq!(watch.event().await.unwrap(), "ADDED b");
    assert_eq!(watch.event().await.unwrap(), "MODIFIED a");
}

#[tokio::test]
async fn a_watch_from_a_revision_tells_what_came_after_it() {
    let api = Api::start().await;
    let made = add(&api, "a", "x").await;
    add(&api, "b", "x").await;
    let after = revision(&made);
    let mut watch = api.watch(&format!("{ENVS}?watch=true&resourceVersion={after}")).await;
    assert_eq!(watch.event().await.unwrap(), "ADDED b");
    let mut future = api.watch(&format!("{ENVS}?watch=true&resourceVersion=99999")).await;
    let error = future.next().await.unwrap();
    assert_eq!((text(&error, "/type"), &error["object"]["code"]), ("ERROR", &json!(410)));
    assert_eq!(future.next().await, None);
}

#[tokio::test]
async fn a_deletion_carries_its_own_revision() {
    let api = Api::start().await;
    let made = api.post(SECRETS, &secret("keys", "v")).await.body;
    let after = revision(&made);
    let mut watch = api.watch(&format!("{SECRETS}?watch=true&resourceVersion={after}")).await;
    api.delete(&format!("{SECRETS}/keys")).await;
    let event = watch.next().await.unwrap();
    assert_eq!((text(&event, "/type"), text(&event, "/object/metadata/name")), ("DELETED", "keys"));
    assert!(revision(&event["object"]) > after);
}

#[tokio::test]
async fn a_selection_sees_objects_come_and_go() {
    let api = Api::start().await;
    let after = revision(&add(&api, "a", "x").await);
    let query = format!("watch=true&resourceVersion={after}&labelSelector=team%3Dx");
    let mut watch = api.watch(&format!("{ENVS}?{query}")).await;
    add(&api, "other", "y").await;
    move_to(&api, "a", "y").await;
    move_to(&api, "other", "z").await;
    move_to(&api, "a", "x").await;
    api.patch(&format!("{ENVS}/a"), &json!({"spec": {"env": {"A": "1"}}})).await;
    assert_eq!(watch.event().await.unwrap(), "DELETED a");
    assert_eq!(watch.event().await.unwrap(), "ADDED a");
    assert_eq!(watch.event().await.unwrap(), "MODIFIED a");
}

#[tokio::test]
async fn one_objects_watch_tells_only_of_it() {
    let api = Api::start().await;
    add(&api, "a", "x").await;
    add(&api, "ab", "x").await;
    let query = "watch=true&fieldSelector=metadata.name%3Da&resourceVersion=0";
    let mut watch = api.watch(&format!("{ENVS}?{query}")).await;
    move_to(&api, "ab", "y").await;
    move_to(&api, "a", "y").await;
    assert_eq!(watch.event().await.unwrap(), "ADDED a");
    assert_eq!(watch.event().await.unwrap(), "MODIFIED a");
}

#[tokio::test]
async fn bookmarks_tell_the_revision_of_quiet_times() {
    let api = Api::start().await;
    let after = revision(&add(&api, "a", "x").await);
    let query = format!("watch=true&resourceVersion={after}&allowWatchBookmarks=true");
    let mut watch = api.watch(&format!("{ENVS}?{query}")).await;
    // A commit elsewhere moves the revision and tells this watch nothing else.
    let elsewhere = revision(&api.post(SECRETS, &secret("keys", "v")).await.body);
    loop {
        let event = watch.next().await.unwrap();
        assert_eq!(text(&event, "/type"), "BOOKMARK");
        assert_eq!(text(&event, "/object/kind"), "Environment");
        if revision(&event["object"]) == elsewhere {
            break;
        }
    }
}

#[tokio::test]
async fn initial_events_end_with_an_annotated_bookmark() {
    let api = Api::start().await;
    add(&api, "a", "x").await;
    let made = add(&api, "b", "x").await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = api.watch(&format!("{ENVS}?{query}")).await;
    assert_eq!(watch.event().await.unwrap(), "ADDED a");
    assert_eq!(watch.event().await.unwrap(), "ADDED b");
    let bookmark = watch.next().await.unwrap();
    assert_eq!(text(&bookmark, "/type"), "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(revision(&bookmark["object"]), revision(&made));
    let refused = api.get(&format!("{ENVS}?watch=true&sendInitialEvents=true")).await;
    assert_eq!((refused.code, text(&refused.body, "/reason")), (422, "Invalid"));
}

#[tokio::test]
async fn a_table_watch_tells_its_columns_once() {
    let api = Api::start().await;
    add(&api, "a", "x").await;
    let request = api
        .request(&format!("GET {ENVS}?watch=true"))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io");
    let mut watch = super::Lines { response: request.send().await.unwrap(), rest: Vec::new() };
    move_to(&api, "a", "y").await;
    let (first, second) = (watch.next().await.unwrap(), watch.next().await.unwrap());
    assert!(!first["object"]["columnDefinitions"].as_array().unwrap().is_empty());
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(text(&second, "/object/rows/0/cells/0"), "a");
}

#[tokio::test]
async fn a_watch_ends_in_its_time_and_with_the_process() {
    let api = Api::start().await;
    let mut timed = api.watch(&format!("{ENVS}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(timed.next().await, None);
    let mut endless = api.watch(&format!("{ENVS}?watch=true")).await;
    api.trigger.shut_down();
    assert_eq!(endless.next().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_resumes_loses_and_repeats_nothing_under_eight_writers() {
    const WRITES: usize = 40;
    let api = Api::start().await;
    let first = revision(&api.get(ENVS).await.body);
    let write = async |writer: usize| {
        let path = format!("{ENVS}/w{writer}");
        api.env(&format!("w{writer}")).await;
        for number in 1..WRITES {
            let patch = json!({"spec": {"env": {"N": number.to_string()}}});
            assert_eq!(api.patch(&path, &patch).await.code, 200);
        }
    };
    let read = async {
        let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut after = first;
        let mut count = 0;
        'resume: loop {
            let mut watch = api.watch(&format!("{ENVS}?watch=true&resourceVersion={after}")).await;
            // Each watch is left after a few events, wherever it happens to be.
            for _ in 0..7 {
                let event = watch.next().await.unwrap();
                let object = &event["object"];
                assert!(revision(object) > after, "{} came again", revision(object));
                after = revision(object);
                let generation = object["metadata"]["generation"].as_u64().unwrap();
                let name = text(object, "/metadata/name").to_owned();
                seen.entry(name).or_default().push(generation);
                count += 1;
                if count == 8 * WRITES {
                    break 'resume;
                }
            }
        }
        seen
    };
    let both = future::join(future::join_all((0..8).map(write)), read);
    let (_, seen) = tokio::time::timeout(Duration::from_secs(120), both).await.unwrap();
    let all: Vec<u64> = (1..=WRITES as u64).collect();
    assert_eq!(seen.len(), 8);
    for (name, generations) in seen {
        assert_eq!(generations, all, "{name}");
    }
}
