//! Rules that are broken are told: a rule that cannot fail says nothing.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;

use crate::api::{bay::Bay, hostname::Hostname};
use crate::clock::Timestamp;
use crate::local::census;
use crate::router::{
    packed::{App, Label},
    table::{Flag, Machine, Route, Table},
};
use crate::sim::oracle::facts::Facts;
use crate::store::Op;

const MACHINE: &str = "3d8d9930c4e1b8";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// `alice` leads to app `hgr-a`'s machine of epoch 1; the hostname, the bay and its epoch are as given, since second 0.
fn violations(holder: &str, epoch: u64, deleted: bool, second: i64) -> Vec<String> {
    let mut facts = Facts { now: at(0), ..Facts::default() };
    let put = |value: serde_json::Value| Op::Put(value.to_string().into());
    let hostname = json!({"apiVersion": "hangar.dev/v1alpha1", "kind": "Hostname", "metadata": {"name": "alice"},
        "spec": {"namespace": "default", "environment": "alice", "uid": holder}});
    let bay = json!({"apiVersion": "hangar.dev/v1alpha1", "kind": "Bay", "metadata": {"name": "bay-a", "uid": "b"},
        "spec": {"environmentRef": {"name": "alice", "uid": "e"}, "app": "hgr-a", "network": "n", "volume": false},
        "status": {"epoch": epoch}});
    serde_json::from_value::<Hostname>(hostname.clone()).unwrap();
    serde_json::from_value::<Bay>(bay.clone()).unwrap();
    facts.object("hostnames//alice", &put(hostname));
    facts.object("bays/default/bay-a", &put(bay));
    facts.machines.insert(MACHINE.to_owned(), ("b".to_owned(), 1));
    if deleted {
        facts.deleted_at.insert("e".to_owned(), at(0));
    }
    let table = Table::new();
    let route = Route::new(0)
        .to(App::exact("hgr-a").unwrap(), Machine::parse(MACHINE.as_bytes()).unwrap())
        .keyed(Some([1; 16]))
        .with(Flag::PUBLIC, true);
    table.insert(Label::of_name("alice").unwrap(), route);
    facts.table = Some(Arc::new(table));
    facts.now = at(second);
    facts.check_routes(at(second));
    facts.violations
}

#[test]
fn a_route_as_it_should_be_breaks_no_rule() {
    assert_eq!(violations("e", 1, false, 60), Vec::<String>::new());
}

#[test]
fn a_route_to_another_environment_is_told_once_the_router_could_know() {
    assert_eq!(violations("other", 1, false, 1), Vec::<String>::new());
    assert!(violations("other", 1, false, 3)[0].starts_with("17:"));
}

#[test]
fn a_route_to_a_superseded_machine_is_told_once_the_router_could_know() {
    assert_eq!(violations("e", 2, false, 1), Vec::<String>::new());
    assert!(violations("e", 2, false, 3)[0].starts_with("2:"));
}

#[test]
fn a_route_to_a_deleted_environment_is_told_once_the_router_could_know() {
    assert_eq!(violations("e", 1, true, 1), Vec::<String>::new());
    assert!(violations("e", 1, true, 3)[0].starts_with("18:"));
}

/// A volume goes that a machine had, or none ever did, while its environment stays.
fn loses_a_volume(used: bool) -> Vec<String> {
    let volume = census::Volume {
        id: "vol_1".to_owned(),
        app: "hgr-a".to_owned(),
        name: "bay_a".to_owned(),
        region: "ams".to_owned(),
        host: "h1".to_owned(),
        state: "created",
        size_gib: 1,
        attached: None,
        destroy_at: None,
    };
    let machine = census::Machine {
        id: MACHINE.to_owned(),
        app: "hgr-a".to_owned(),
        name: "bay-a-1".to_owned(),
        region: "ams".to_owned(),
        host: "h1".to_owned(),
        state: "stopped",
        version: "v1".to_owned(),
        image: String::new(),
        env: BTreeMap::new(),
        metadata: BTreeMap::new(),
        volume: Some("vol_1".to_owned()),
        checks_pass: None,
        promised: false,
        created_at: at(0),
        destroyed_at: None,
    };
    let census = census::Census {
        volumes: BTreeMap::from([(volume.id.clone(), volume)]),
        machines: used.then(|| (machine.id.clone(), machine)).into_iter().collect(),
        ..census::Census::default()
    };
    let mut facts = Facts::default();
    facts.see(census, at(0));
    facts.see(census::Census::default(), at(1));
    facts.violations
}

#[test]
fn data_that_goes_without_its_environment_is_told() {
    assert!(loses_a_volume(true)[0].starts_with("3:"));
    assert_eq!(loses_a_volume(false), Vec::<String>::new());
}
