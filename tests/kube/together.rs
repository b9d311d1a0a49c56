//! Many writers of one object, each in the way of some client: nothing that one wrote may be lost, or be done twice. And how many
//! patches a second that makes, for whoever asks.

use std::{collections::BTreeSet, time::Duration};

use futures::future::join_all;
use hangar::clock::System;
use serde_json::{Value, json};

use crate::server::Hangar;

const ENVS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";
const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const WRITERS: usize = 8;
/// How many edits each makes; `HANGAR_EDITS` is another number.
const EDITS: usize = 1_000;

/// How a writer writes.
#[derive(Debug, Clone, Copy)]
enum Way {
    Merge,
    Steps,
    Replace,
    Apply,
}

/// One of them, with a key that only it writes.
#[derive(Debug, Clone)]
struct Writer {
    way: Way,
    key: String,
}

impl Writer {
    fn all() -> Vec<Self> {
        let ways = [Way::Merge, Way::Steps, Way::Replace, Way::Apply].into_iter().cycle();
        let of = |(number, way)| Self { way, key: format!("W{number}") };
        ways.take(WRITERS).enumerate().map(of).collect()
    }

    /// Makes one edit and returns the object after it.
    async fn edit(&self, hangar: &Hangar, number: usize) -> Value {
        let key = &self.key;
        let path = format!("{ENVS}/busy?fieldManager={key}");
        let (patch, put) = (format!("PATCH {path}"), format!("PUT {path}"));
        let (before, after) = ((number - 1).to_string(), number.to_string());
        let at = format!("/spec/env/{key}");
        let (code, answer) = match self.way {
            Way::Merge => hangar.send(&patch, MERGE, &json!({"spec": {"env": {key: after}}})).await,
            Way::Steps => {
                let steps = json!([
                    {"op": "test", "path": at, "value": before},
                    {"op": "replace", "path": at, "value": after},
                ]);
                hangar.send(&patch, "application/json-patch+json", &steps).await
            }
            Way::Apply => {
                let mut applied = json!({"spec": {"env": {key: after}}});
                if number % 2 == 1 {
                    applied["spec"]["env"][format!("{key}_ODD")] = json!("yes");
                }
                hangar.send(&patch, APPLY, &applied).await
            }
            Way::Replace => loop {
                let (_, mut object) = hangar.get(&path).await;
                assert_eq!(object.pointer(&at), Some(&json!(before)), "{key}");
                object["spec"]["env"][key] = json!(after);
                let shared = &mut object["spec"]["env"]["SHARED"];
                *shared =
                    json!((shared.as_str().unwrap().parse::<usize>().unwrap() + 1).to_string());
                match hangar.send(&put, "application/json", &object).await {
                    // Someone else was faster, which is for the client to see.
                    (409, _) => {}
                    answer => break answer,
                }
            },
        };
        assert_eq!(code, 200, "{self:?} {number}: {answer}");
        assert_eq!(answer.pointer(&at), Some(&json!(after)), "{self:?}");
        if matches!(self.way, Way::Apply) {
            let odd = answer.pointer(&format!("{at}_ODD"));
            assert_eq!(odd.is_some(), number % 2 == 1, "{self:?} {number}: {answer}");
        }
        answer
    }
}

/// An environment that waits for a template, so that nothing but its writers changes it.
async fn busy(hangar: &Hangar) -> Value {
    let keys = Writer::all().into_iter().filter(|it| !matches!(it.way, Way::Apply));
    let mut env: serde_json::Map<_, _> = keys.map(|it| (it.key, json!("0"))).collect();
    env.insert("SHARED".to_owned(), json!("0"));
    let object = json!({
        "metadata": {"name": "busy"},
        "spec": {"templateRef": {"name": "nothing"}, "env": env},
    });
    let (code, made) = hangar.send(&format!("POST {ENVS}"), "application/json", &object).await;
    assert_eq!(code, 201, "{made}");
    made
}

#[tokio::test]
async fn nothing_of_many_writers_edits_is_lost() {
    let edits = std::env::var("HANGAR_EDITS").map_or(EDITS, |it| it.parse().unwrap());
    let hangar = Hangar::up().await;
    busy(&hangar).await;
    let writers = Writer::all();
    let writing = writers.iter().map(async |writer| {
        let mut seen = Vec::new();
        for number in 1..=edits {
            let after = writer.edit(&hangar, number).await;
            seen.push(after["metadata"]["generation"].as_u64().unwrap());
        }
        assert!(seen.is_sorted(), "{writer:?}");
        seen
    });
    let seen: BTreeSet<_> = join_all(writing).await.concat().into_iter().collect();
    assert_eq!(seen.len(), WRITERS * edits, "each edit is a change of its own");
    let (_, object) = hangar.get(&format!("{ENVS}/busy")).await;
    assert_eq!(object["metadata"]["generation"], json!(WRITERS * edits + 1));
    let replacers = writers.iter().filter(|it| matches!(it.way, Way::Replace)).count();
    assert_eq!(object["spec"]["env"]["SHARED"], json!((replacers * edits).to_string()));
    let managers = object["metadata"]["managedFields"].as_array().unwrap();
    for writer in &writers {
        let key = &writer.key;
        assert_eq!(object["spec"]["env"][key], json!(edits.to_string()), "{key}");
        let field = format!("f:{key}");
        let owners =
            managers.iter().filter(|it| it["fieldsV1"]["f:spec"]["f:env"].get(&field).is_some());
        assert_eq!(owners.map(|it| &it["manager"]).collect::<Vec<_>>(), [&json!(key)]);
    }
}

/// Patches for so long, and how many a second that were.
async fn rate(hangar: &Hangar, objects: usize, media: &str, is_change: bool) -> f64 {
    const FOR: Duration = Duration::from_secs(5);
    let clock = System::shared();
    let began = clock.monotonic();
    let patching = (0..objects).map(async |object| {
        let mut count = 0_u32;
        while clock.monotonic() - began < FOR {
            let value = if is_change { count.to_string() } else { "same".to_owned() };
            let patch = format!("PATCH {ENVS}/e{object}?fieldManager=m&force=true");
            let patch = if media == APPLY { patch } else { patch.replace("&force=true", "") };
            let body = json!({
                "metadata": {"labels": {"a": value}},
                "spec": {"templateRef": {"name": "nothing"}, "env": {"A": value, "B": "1"}},
            });
            let (code, answer) = hangar.send(&patch, media, &body).await;
            assert!(code < 300, "{answer}");
            count += 1;
        }
        count
    });
    let count: u32 = join_all(patching).await.iter().sum();
    f64::from(count) / (clock.monotonic() - began).as_secs_f64()
}

#[tokio::test]
#[ignore = "a measurement: cargo test --test kube -- --ignored --nocapture patches_per_second"]
async fn patches_per_second() {
    let hangar = Hangar::up().await;
    for object in 0..WRITERS {
        let made = json!({
            "metadata": {"name": format!("e{object}")}, "spec": {"templateRef": {"name": "nothing"}},
        });
        hangar.send(&format!("POST {ENVS}"), "application/json", &made).await;
    }
    for (name, media) in [("merge patch", MERGE), ("server-side apply", APPLY)] {
        for objects in [1, WRITERS] {
            let change = rate(&hangar, objects, media, true).await;
            // The first of them changes something, the others find it as it should be.
            let same = rate(&hangar, objects, media, false).await;
            eprintln!(
                "{name}, {objects} at once on as many objects: {change:.0}/s that change something, {same:.0}/s that do not"
            );
        }
    }
}
