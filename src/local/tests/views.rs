//! Faults that bend what reads show.

use std::fmt::Write as _;

use expect_test::expect;

use super::{near::Near, *};
use crate::local::faults::{Invalid, Kind, Rule};

/// Every list, as its line of a table: who is in it.
async fn lists(near: &Near) -> String {
    let mut table = String::new();
    for path in [
        "/apps?org_slug=personal",
        "/apps/a/machines",
        "/orgs/personal/machines",
        "/apps/a/volumes",
        "/orgs/personal/volumes",
    ] {
        let body = near.get(path).await.good();
        let list = ["apps", "machines", "volumes"].iter().find_map(|it| body.get(*it));
        let names = list.unwrap_or(&body).as_array().unwrap().iter();
        let mut names: Vec<_> = names.map(|it| it["name"].as_str().unwrap()).collect();
        names.sort_unstable();
        let failed = match &body["error_regions"] {
            Value::Array(regions) if !regions.is_empty() => format!("; failed: {regions:?}"),
            _ => String::new(),
        };
        writeln!(table, "    {path:<24} {}{failed}", names.join(" ")).unwrap();
    }
    table
}

/// Apps `a` and `b`, and in `a` an old machine and volume in one region and new ones in another.
async fn populated() -> Near {
    let near = Near::open().await;
    near.app("a").await;
    near.machine("old", json!({"region": "ams"})).await;
    near.volume("old", "ams").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    near.machine("new", json!({"region": "fra"})).await;
    near.volume("new", "fra").await;
    near.app("b").await;
    near
}

#[tokio::test(start_paused = true)]
async fn lists_are_empty_or_short_or_partial() {
    let near = populated().await;
    let mut table = format!("as it is\n{}", lists(&near).await);
    let regions = || Some(vec!["ams".to_owned()]);
    for rule in [
        Rule::new(Kind::ListEmpty),
        Rule::new(Kind::ListShort),
        Rule { regions: regions(), ..Rule::new(Kind::ListOneRegion) },
        Rule { regions: regions(), ..Rule::new(Kind::ErrorRegions) },
    ] {
        let kind = rule.kind;
        let id = near.fault(rule);
        write!(table, "{}\n{}", kind.name(), lists(&near).await).unwrap();
        assert!(near.fired(kind) > 0);
        near.backend.faults().remove(id);
    }
    expect![[r#"
        as it is
            /apps?org_slug=personal  a b
            /apps/a/machines         new old
            /orgs/personal/machines  new old
            /apps/a/volumes          new old
            /orgs/personal/volumes   new old
        list_empty
            /apps?org_slug=personal  
            /apps/a/machines         
            /orgs/personal/machines  
            /apps/a/volumes          
            /orgs/personal/volumes   
        list_short
            /apps?org_slug=personal  a
            /apps/a/machines         old
            /orgs/personal/machines  old
            /apps/a/volumes          old
            /orgs/personal/volumes   old
        list_one_region
            /apps?org_slug=personal  a b
            /apps/a/machines         old
            /orgs/personal/machines  old
            /apps/a/volumes          old
            /orgs/personal/volumes   old
        error_regions
            /apps?org_slug=personal  a b
            /apps/a/machines         new old
            /orgs/personal/machines  new; failed: [String("ams")]
            /apps/a/volumes          new old
            /orgs/personal/volumes   new old
    "#]]
    .assert_eq(&table);
}

#[tokio::test(start_paused = true)]
async fn what_needs_regions_says_so() {
    let near = Near::open().await;
    let refused = near.backend.faults().add(Rule::new(Kind::ErrorRegions)).unwrap_err();
    assert_eq!(refused, Invalid::Needed { kind: "error_regions", field: "regions" });
}

/// Names in the organisation's list of machines.
async fn listed(near: &Near) -> Vec<String> {
    let list = near.get("/orgs/personal/machines").await.good();
    let machines = list["machines"].as_array().unwrap().iter();
    machines.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_is_as_it_was_at_an_earlier_read_of_it() {
    let near = Near::open().await;
    near.app("a").await;
    near.fault(Rule { reads: Some(2), skip: Some(3), ..Rule::new(Kind::ListStale) });
    let mut seen = Vec::new();
    for name in ["one", "two", "three", "four"] {
        near.machine(name, json!({})).await;
        // Another list's reads are not counted.
        near.get("/apps/a/volumes").await.good();
        near.get("/orgs/personal/machines?summary=true").await.good();
        seen.push(listed(&near).await.len());
    }
    // The rule comes true at every read from the fourth of any list on; the first of this list knows nothing earlier.
    assert_eq!(seen, [1, 0, 1, 2]);
    near.backend.faults().clear();
    assert_eq!(listed(&near).await, ["one", "two", "three", "four"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_as_it_was_some_time_ago() {
    let near = Near::open().await;
    near.app("a").await;
    near.fault(Rule { ago: Some(Duration::from_secs(60)), ..Rule::new(Kind::ListStale) });
    let id = near.machine("one", json!({})).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(listed(&near).await.is_empty());
    tokio::time::sleep(Duration::from_secs(40)).await;
    near.destroy(&id).await.good();
    assert_eq!(listed(&near).await, ["one"]);
    tokio::time::sleep(Duration::from_secs(59)).await;
    let list = near.get("/orgs/personal/machines").await.good();
    assert_eq!(list["machines"][0]["state"], "started");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(listed(&near).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_is_listed_for_a_while_as_it_was() {
    let near = populated().await;
    near.fault(Rule::new(Kind::DeletedListed));
    let census = near.backend.census();
    let volume = census.volumes.values().find(|it| it.name == "old").unwrap().id.clone();
    let machine = census.machines.values().find(|it| it.name == "new").unwrap().id.clone();
    let gone = near.call(&format!("DELETE /apps/a/volumes/{volume}"), Value::Null).await.good();
    assert_eq!(gone["state"], "pending_destroy");
    near.destroy(&machine).await.good();
    near.backend.until_gone(&machine).await;
    assert_eq!(near.state(&machine), "destroyed");
    let list = near.get("/apps/a/volumes").await.good();
    let states: Vec<_> = list.as_array().unwrap().iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["created", "created"]);
    let list = near.get("/apps/a/machines").await.good();
    let states: Vec<_> = list.as_array().unwrap().iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["started", "started"]);
    // One that is asked for by itself is as it is.
    let state = near.get(&format!("/apps/a/machines/{machine}")).await.good()["state"].clone();
    assert_eq!(state, "destroyed");
    near.call("DELETE /apps/a", Value::Null).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(near.backend.census().machines.is_empty());
    assert_eq!(listed(&near).await.len(), 2);
    tokio::time::sleep(Duration::from_secs(40)).await;
    assert!(listed(&near).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn reads_lag_behind_what_happened() {
    let near = Near::open().await;
    near.app("a").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let ago = Some(Duration::from_secs(5));
    near.fault(Rule { ago, ..Rule::new(Kind::LaggingReads) });
    let input = json!({"name": "one", "config": {"image": "app"}});
    let id = near.call("POST /apps/a/machines", input).await.good()["id"].clone();
    let path = format!("/apps/a/machines/{}", id.as_str().unwrap());
    near.get(&path).await.refused(404, "machine not found");
    assert_eq!(near.get("/apps/a/machines").await.good(), json!([]));
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(near.get(&path).await.good()["state"], "started");
    near.on(id.as_str().unwrap(), "stop").await.good();
    near.reach(id.as_str().unwrap(), "stopped").await;
    assert_eq!(near.get(&path).await.good()["state"], "started");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(near.get(&path).await.good()["state"], "stopped");
}
