//! The door from outside: what is let in, what is refused, and at which path.

use serde_json::{Value, json};

use super::*;

fn template() -> Value {
    json!({
        "apiVersion": "hangar.dev/v1alpha1", "kind": "Template", "metadata": {"name": "node"},
        "spec": {
            "machine": {"image": "hangar.dev/sample-app:1"},
            "services": [{"name": "web", "internalPort": 8080}],
            "volume": {"mountPath": "/data", "size": "1Gi"},
            "regions": ["ams", "fra"],
            "sleep": {"after": "15m"},
        },
    })
}

fn environment() -> Value {
    json!({
        "apiVersion": "hangar.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "alice"},
        "spec": {"templateRef": {"name": "node"}},
    })
}

/// `base` with the value at the dotted path replaced (or removed by null).
fn with(mut base: Value, path: &str, value: Value) -> Value {
    let pointer = format!("/{}", path.replace('.', "/"));
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = base.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        parent.remove(last);
    } else {
        parent.insert(last.to_owned(), value);
    }
    base
}

#[track_caller]
fn refused(kind: Kind, object: Value, old: Option<&Value>, fields: &[&str]) {
    let found = admit(kind, object, old).expect_err("it should be refused");
    let found: Vec<_> = found.iter().map(|it| it.field.as_str()).collect();
    assert_eq!(found, fields);
}

#[track_caller]
fn admitted(kind: Kind, object: Value, old: Option<&Value>) -> Value {
    admit(kind, object, old).expect("it should be admitted").object
}

#[test]
fn defaults_are_filled_and_visible() {
    let spec = &admitted(Kind::Template, template(), None)["spec"];
    assert_eq!(
        spec["machine"]["guest"],
        json!({"cpuKind": "shared", "cpus": 1, "memory": "256Mi"})
    );
    assert_eq!(spec["readiness"], json!({"tcp": {"port": 8080}, "timeout": "60s"}));
    assert_eq!(spec["sleep"], json!({"after": "15m", "mode": "Suspend", "decidedBy": "Hangar"}));
    assert_eq!(spec["update"], json!({"strategy": "WhenAsleep"}));
    let spec = &admitted(Kind::Environment, environment(), None)["spec"];
    assert_eq!(spec["access"], "Private");
    assert_eq!(spec["hostnames"], json!(["alice"]));
}

#[test]
fn an_admitted_object_is_admitted_again_unchanged() {
    for (kind, object) in [(Kind::Template, template()), (Kind::Environment, environment())] {
        let once = admitted(kind, object, None);
        assert_eq!(admitted(kind, once.clone(), Some(&once)), once);
    }
}

#[test]
fn wrong_values_hide_neither_each_other_nor_what_is_wrong_elsewhere() {
    let mut object = template();
    for (path, value) in [
        ("spec.machine.env", json!({"A": 1, "B": true})),
        ("spec.machine.guest", json!({"cpuKind": "fast", "cpus": 3})),
        ("spec.sleep.after", json!("soon")),
        ("spec.services", json!([{"name": "web"}, {"name": 5, "internalPort": 1, "typo": 1}])),
        ("spec.regions", json!(["mars"])),
    ] {
        object = with(object, path, value);
    }
    let found = admit(Kind::Template, object, None).unwrap_err();
    let found: std::collections::BTreeSet<_> = found.iter().map(|it| it.field.as_str()).collect();
    for field in [
        "spec.machine.env.A",
        "spec.machine.env.B",
        "spec.machine.guest.cpuKind",
        "spec.services[0].internalPort",
        "spec.sleep.after",
    ] {
        assert!(found.contains(field), "{field} is not in {found:?}");
    }
    let object = with(template(), "spec.regions", json!(["mars"]));
    let object = with(object, "spec.update", json!({"strategy": "Sometimes"}));
    refused(Kind::Template, object, None, &["spec.update.strategy", "spec.regions[0]"]);
}

/// A guest with one CPU of its own.
fn performance(memory: &str) -> Value {
    json!({"cpuKind": "performance", "cpus": 1, "memory": memory})
}

#[test]
fn every_wrong_field_of_a_template_is_named() {
    for (path, value, field) in [
        ("spec.colour", json!("red"), "spec.colour"),
        ("spec.volume.colour", json!("red"), "spec.volume.colour"),
        ("spec.machine.image", json!("NOT AN IMAGE"), "spec.machine.image"),
        ("spec.machine.image", Value::Null, "spec.machine.image"),
        ("spec.machine.guest", json!({"memory": "1 GB"}), "spec.machine.guest.memory"),
        ("spec.machine.guest", json!({"memory": "300Mi"}), "spec.machine.guest.memory"),
        ("spec.machine.guest", json!({"memory": "4Gi"}), "spec.machine.guest.memory"),
        ("spec.machine.guest", performance("2304Mi"), "spec.machine.guest.memory"),
        ("spec.machine.guest", json!({"cpus": 3}), "spec.machine.guest.cpus"),
        ("spec.machine.guest", json!({"cpuKind": "fast"}), "spec.machine.guest.cpuKind"),
        ("spec.machine.env", json!({"FLY_X": "1"}), "spec.machine.env.FLY_X"),
        ("spec.machine.env", json!({"A": 1}), "spec.machine.env.A"),
        ("spec.machine.stopTimeout", json!("10m"), "spec.machine.stopTimeout"),
        ("spec.volume.size", json!("501Gi"), "spec.volume.size"),
        ("spec.volume.mountPath", json!("data/../etc"), "spec.volume.mountPath"),
        ("spec.regions", json!([]), "spec.regions"),
        ("spec.regions", json!(["ams", "mars"]), "spec.regions[1]"),
        ("spec.sleep.after", json!("soon"), "spec.sleep.after"),
        ("spec.sleep.after", json!("1s"), "spec.sleep.after"),
        ("spec.standby", json!({"replicas": 1}), "spec.standby"),
        ("spec.checkpoints", json!({"every": "24h"}), "spec.checkpoints"),
        (
            "spec.update",
            json!({"strategy": "Rolling", "maxUnavailable": "0%"}),
            "spec.update.maxUnavailable",
        ),
        (
            "spec.update",
            json!({"strategy": "Rolling", "maxUnavailable": "ten"}),
            "spec.update.maxUnavailable",
        ),
        ("spec.update", json!({"strategy": "Sometimes"}), "spec.update.strategy"),
        (
            "spec.update",
            json!({"strategy": "Rolling", "window": {"start": "02:00", "duration": "1h"}}),
            "spec.update.window",
        ),
        (
            "spec.update",
            json!({"strategy": "WhenAsleep", "window": {"start": "24:00", "duration": "1h"}}),
            "spec.update.window.start",
        ),
        (
            "spec.update",
            json!({"strategy": "WhenAsleep", "window": {"start": "02:00", "duration": "24h"}}),
            "spec.update.window.duration",
        ),
        ("spec.readiness", json!({"timeout": "5s"}), "spec.readiness"),
        (
            "spec.services",
            json!([{"name": "a", "internalPort": 1}, {"name": "a", "internalPort": 2, "port": 80}]),
            "spec.services[1].name",
        ),
        ("spec.network", json!({"isolated": false}), "spec.network.isolated"),
        ("metadata.name", json!("Not_A_Name"), "metadata.name"),
        ("metadata.labels", json!({"team": "a b"}), "metadata.labels.team"),
    ] {
        refused(Kind::Template, with(template(), path, value), None, &[field]);
    }
}

#[test]
fn several_wrong_fields_are_named_at_once() {
    let object = with(with(template(), "spec.regions", json!(["mars"])), "spec.typo", json!(1));
    refused(Kind::Template, object, None, &["spec.typo", "spec.regions[0]"]);
}

#[test]
fn every_size_that_fly_sells_is_taken() {
    for memory in ["2Gi", "4Gi", "6144Mi", "8Gi"] {
        admitted(Kind::Template, with(template(), "spec.machine.guest", performance(memory)), None);
    }
}

#[test]
fn suspend_needs_a_small_machine() {
    let big = json!({"cpus": 2, "memory": "4Gi"});
    let object = with(template(), "spec.machine.guest", big.clone());
    assert_eq!(admitted(Kind::Template, object, None)["spec"]["sleep"]["mode"], "Stop");
    let object = with(
        with(template(), "spec.machine.guest", big),
        "spec.sleep",
        json!({"after": "1m", "mode": "Suspend"}),
    );
    refused(Kind::Template, object, None, &["spec.sleep.mode"]);
}

#[test]
fn what_cannot_change_says_so() {
    let old = admitted(Kind::Template, template(), None);
    refused(
        Kind::Template,
        with(template(), "spec.volume", Value::Null),
        Some(&old),
        &["spec.volume"],
    );
    let grown = with(template(), "spec.volume.size", json!("2Gi"));
    let grown = admitted(Kind::Template, grown, Some(&old));
    refused(Kind::Template, template(), Some(&grown), &["spec.volume.size"]);

    let old = admitted(Kind::Environment, environment(), None);
    let other = with(environment(), "spec.templateRef", json!({"name": "other"}));
    refused(Kind::Environment, other, Some(&old), &["spec.templateRef"]);
    let moved = with(environment(), "spec.region", json!("fra"));
    refused(Kind::Environment, moved, Some(&old), &["spec.region"]);
}

#[test]
fn what_does_not_work_yet_is_refused_with_a_sentence() {
    for (path, value) in [
        ("spec.lifetime", json!({"archiveAfter": "1d"})),
        ("spec.deletionPolicy", json!("Archive")),
        ("spec.deletionPolicy", json!("Retain")),
    ] {
        let found = admit(Kind::Environment, with(environment(), path, value), None).unwrap_err();
        assert_eq!(found[0].reason, ViolationReason::Forbidden);
        assert!(found[0].message.contains("yet"), "{}", found[0].message);
    }
}

#[test]
fn a_secrets_text_becomes_data_and_no_message_shows_it() {
    let secret = |data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": data});
    let object = with(secret(json!({})), "stringData", json!({"KEY": "hello"}));
    let object = admitted(Kind::Secret, object, None);
    assert_eq!(object["data"], json!({"KEY": "aGVsbG8="}));
    assert_eq!(object.get("stringData"), None);
    let found = admit(Kind::Secret, secret(json!({"KEY": "canary!"})), None).unwrap_err();
    assert!(!format!("{found:?}").contains("canary"), "{found:?}");
}

#[test]
fn a_tag_is_admitted_with_a_warning() {
    let object = with(template(), "spec.machine.image", json!("nginx:1"));
    let warnings = admit(Kind::Template, object, None).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
}

fn pool() -> Value {
    json!({
        "apiVersion": "hangar.dev/v1alpha1", "kind": "WarmPool", "metadata": {"name": "warm"},
        "spec": {"templateRef": {"name": "node"}, "replicas": 3},
    })
}

#[test]
fn a_pool_is_checked_and_completed() {
    let spec = &admitted(Kind::WarmPool, pool(), None)["spec"];
    assert_eq!((&spec["warmState"], &spec["maxInFlight"]), (&json!("Started"), &json!(4)));
    let regions = with(pool(), "spec.replicas", json!({"ams": 2, "fra": 0}));
    assert_eq!(admitted(Kind::WarmPool, regions.clone(), None)["spec"]["replicas"]["ams"], 2);
    for (path, value, field) in [
        ("spec.replicas", json!(1001), "spec.replicas"),
        ("spec.replicas", json!({}), "spec.replicas"),
        ("spec.replicas", json!({"Amsterdam": 1}), "spec.replicas.Amsterdam"),
        ("spec.maxInFlight", json!(0), "spec.maxInFlight"),
        ("spec.maxUnavailable", json!("101%"), "spec.maxUnavailable"),
        ("spec.maxUnavailable", json!("some"), "spec.maxUnavailable"),
        ("spec.maxUnavailable", json!(-1), "spec.maxUnavailable"),
        ("spec.maxAge", json!("1m"), "spec.maxAge"),
        ("spec.refill", json!({"maxPerMinute": 0}), "spec.refill.maxPerMinute"),
        ("spec.autoscale", json!({"min": 1}), "spec.autoscale.max"),
    ] {
        refused(Kind::WarmPool, with(pool(), path, value), None, &[field]);
    }
    for most in [json!(0), json!("0%"), json!(3), json!("100%")] {
        let pool = with(pool(), "spec.maxUnavailable", most.clone());
        assert_eq!(admitted(Kind::WarmPool, pool, None)["spec"]["maxUnavailable"], most);
    }
    let other = with(pool(), "spec.templateRef", json!({"name": "other"}));
    refused(Kind::WarmPool, other, Some(&pool()), &["spec.templateRef"]);
}

#[test]
fn the_personalize_file_is_on_the_volume() {
    let personalize = |it: Value| with(template(), "spec.personalize", it);
    admitted(Kind::Template, personalize(json!({"file": "/data/x/env.json"})), None);
    for file in ["env.json", "/database/env.json", "/data/../env.json"] {
        let object = personalize(json!({"file": file}));
        let found = admit(Kind::Template, object, None).expect_err("it should be refused");
        assert!(found.iter().all(|it| it.field == "spec.personalize.file"), "{file}: {found:?}");
    }
    let nothing = json!({"file": "/data/env.json", "exec": {"command": []}});
    refused(Kind::Template, personalize(nothing), None, &["spec.personalize.exec.command"]);
}

#[test]
fn a_lifetime_is_a_minute_at_least_and_archives_nothing() {
    let lives = |lifetime| with(environment(), "spec.lifetime", lifetime);
    admitted(Kind::Environment, lives(json!({"expiresAfter": "1m"})), None);
    let field = "spec.lifetime.expiresAfter";
    refused(Kind::Environment, lives(json!({"expiresAfter": "59s"})), None, &[field]);
    refused(Kind::Environment, lives(json!({"expiresAfter": 60})), None, &[field]);
    let archive = lives(json!({"archiveAfter": "7d"}));
    refused(Kind::Environment, archive, None, &["spec.lifetime.archiveAfter"]);
}

#[test]
fn what_a_pool_follows_its_claims_by_is_bounded() {
    let pool = |spec: Value| {
        let mut all = json!({"templateRef": {"name": "node"}, "replicas": 1});
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        json!({"apiVersion": "hangar.dev/v1alpha1", "kind": "WarmPool", "metadata": {"name": "p"}, "spec": all})
    };
    let follows = |rule| pool(json!({"autoscale": rule}));
    let admitted = admitted(Kind::WarmPool, follows(json!({"min": 0, "max": 5})), None);
    let rule = json!({"min": 0, "max": 5, "targetHitRate": 95, "window": "15m"});
    assert_eq!(admitted["spec"]["autoscale"], rule);
    for (rule, field) in [
        (json!({"min": 6, "max": 5}), "spec.autoscale.min"),
        (json!({"min": 0, "max": 0}), "spec.autoscale.max"),
        (json!({"min": 0, "max": 1001}), "spec.autoscale.max"),
        (json!({"min": 0, "max": 5, "targetHitRate": 101}), "spec.autoscale.targetHitRate"),
        (json!({"min": 0, "max": 5, "window": "59s"}), "spec.autoscale.window"),
        (json!({"min": 0, "max": 5, "window": "2h"}), "spec.autoscale.window"),
    ] {
        refused(Kind::WarmPool, follows(rule), None, &[field]);
    }
    let regions = pool(json!({"replicas": {"ams": 1}, "autoscale": {"min": 0, "max": 5}}));
    refused(Kind::WarmPool, regions, None, &["spec.replicas"]);
}
