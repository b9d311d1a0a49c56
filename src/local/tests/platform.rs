//! Faults of the platform: hosts, regions, migrations, leases, deletions.

use std::fmt::Write as _;

use expect_test::expect;

use super::{near::Near, *};
use crate::fly::{
    Machines as _,
    http::{Config as ClientConfig, Http},
    observer::Silent,
    token::Token,
    wire,
};
use crate::local::{
    census,
    faults::{Kind, Rule},
    fleet::Fleet as _,
};

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Near {
    fn census_of(&self, id: &str) -> census::Machine {
        self.backend.census().machines[id].clone()
    }

    /// A machine of app `a` that mounts a volume of the same name.
    async fn with_volume(&self, name: &str) -> (String, String) {
        let volume = self.volume(name, "ams").await;
        let mounts = json!([{"volume": volume, "path": "/data"}]);
        let config = json!({"image": "app", "mounts": mounts});
        (self.machine(name, json!({"config": config})).await, volume)
    }

    async fn read(&self, id: &str) -> Value {
        self.get(&format!("/apps/a/machines/{id}")).await.good()
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_a_dead_host_comes_back_running_before_it_is_destroyed_as_promised() {
    let near = Near::open().await;
    near.app("a").await;
    let (id, volume) = near.with_volume("one").await;
    let host = near.census_of(&id).host;
    near.fault(Rule { host: Some(host), lasts: seconds(600), ..Rule::new(Kind::HostUnreachable) });
    let shown = near.read(&id).await;
    assert_eq!(
        (&shown["state"], &shown["host_status"]),
        (&json!("started"), &json!("unreachable"))
    );
    assert!(shown["config"].is_null() && shown["incomplete_config"]["image"] == "app");
    for verb in ["start", "stop", "suspend", "restart", "lease", "cordon"] {
        near.on(&id, verb).await.refused(408, "deadline_exceeded: no answer from the host");
    }
    assert!(near.backend.wake(&id).await.is_err() && near.backend.dial(&id, 80).await.is_err());
    let mounts = json!([{"volume": volume, "path": "/data"}]);
    let other = json!({"name": "two", "config": {"image": "app", "mounts": mounts}});
    let refused = near.call("POST /apps/a/machines", other).await;
    assert_eq!((refused.status, refused.text("status")), (412, "volume_placement_capacity"));

    near.destroy(&id).await.good();
    sleep(300).await;
    assert_eq!(near.read(&id).await["state"], "destroying");
    let there = near.census_of(&id);
    assert_eq!((there.state, there.promised), ("started", true));
    sleep(310).await;
    let back = near.read(&id).await;
    assert_eq!((&back["state"], &back["host_status"]), (&json!("started"), &json!("ok")));
    sleep(60).await;
    assert_eq!(near.state(&id), "destroyed");
    near.call(&format!("DELETE /apps/a/volumes/{volume}"), Value::Null).await.good();
}

#[tokio::test(start_paused = true)]
async fn the_deletion_of_an_app_waits_for_its_dead_host() {
    let near = Near::open().await;
    near.app("a").await;
    let id = near.machine("one", json!({})).await;
    let rule = near.fault(Rule::new(Kind::HostUnreachable));
    assert_eq!(near.call("DELETE /apps/a", Value::Null).await.status, 202);
    sleep(7_200).await;
    near.get("/apps/a").await.refused(404, "app not found");
    assert_eq!(near.state(&id), "started");
    near.backend.faults().remove(rule);
    sleep(50).await;
    assert_eq!(near.state(&id), "started");
    sleep(15).await;
    assert!(near.backend.census().apps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_new_avoids_dead_hosts_and_full_regions() {
    let near = Near::open().await;
    near.app("a").await;
    let dead =
        |host: &str| Rule { host: Some(host.to_owned()), ..Rule::new(Kind::HostUnreachable) };
    near.fault(dead("ams-1"));
    near.fault(dead("ams-3"));
    for name in ["one", "two", "three"] {
        let id = near.machine(name, json!({"region": "ams"})).await;
        assert_eq!(near.census_of(&id).host, "ams-2");
    }
    near.fault(Rule { regions: Some(vec!["ams".to_owned()]), ..Rule::new(Kind::RegionFull) });
    let config = json!({"image": "app"});
    let there = json!({"region": "ams,fra", "config": config});
    let made = near.call("POST /apps/a/machines", there).await.good();
    assert_eq!(made["region"], "fra");
    let only = json!({"region": "ams", "config": config});
    let refused = near.call("POST /apps/a/machines", only).await;
    refused.refused(422, "could not find a candidate host");
    assert_eq!(refused.text("status"), "insufficient_capacity");
    let volume = json!({"name": "data", "region": "ams"});
    near.call("POST /apps/a/volumes", volume).await.refused(400, "no capacity");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_somebody_elses_is_free_again_when_the_rule_is_over() {
    let near = Near::open().await;
    near.fault(Rule { lasts: seconds(60), times: Some(1), ..Rule::new(Kind::AppNameTaken) });
    let input = |name: &str| json!({"name": name, "org_slug": "personal"});
    for _ in 0..2 {
        let taken = near.call("POST /apps", input("a")).await;
        assert_eq!((taken.status, taken.text("status")), (422, "name_taken"));
        near.get("/apps/a/machines").await.refused(403, "unauthorized");
    }
    near.call("POST /apps", input("b")).await.good();
    sleep(60).await;
    near.get("/apps/a").await.refused(404, "app not found");
    near.call("POST /apps", input("a")).await.good();
}

#[tokio::test(start_paused = true)]
async fn a_migrated_machine_keeps_its_id_and_little_else() {
    let near = Near::open().await;
    near.app("a").await;
    let (id, volume) = near.with_volume("one").await;
    let resting = near.machine("two", json!({})).await;
    near.on(&resting, "stop").await.good();
    near.reach(&resting, "stopped").await;
    let before = (near.census_of(&id), near.read(&id).await["private_ip"].clone());
    near.fault(Rule { from: seconds(60), ..Rule::new(Kind::Migration) });
    sleep(120).await;
    let after = (near.census_of(&id), near.read(&id).await["private_ip"].clone());
    assert_eq!((after.0.state, near.state(&resting)), ("started", "stopped"));
    assert_ne!(before.0.host, after.0.host);
    assert_ne!(before.0.version, after.0.version);
    assert_ne!(before.0.volume, after.0.volume);
    assert_ne!(before.1, after.1);
    let volumes = near.backend.census().volumes;
    assert_eq!((volumes[&volume].state, &volumes[&volume].attached), ("pending_destroy", &None));
    let moved = &volumes[after.0.volume.as_ref().unwrap()];
    assert_eq!((&moved.host, moved.attached.as_deref()), (&after.0.host, Some(id.as_str())));
    let events = near.get(&format!("/apps/a/machines/{id}/events")).await.good();
    let mut events = events.as_array().unwrap().iter();
    assert!(events.any(|it| it["request"]["migrated"] == true));
    assert_eq!(near.fired(Kind::Migration), 2);
}

#[tokio::test]
async fn what_is_on_a_volume_moves_with_its_machine() {
    let (fly, dir) = fly().await;
    let input = json!({"name": "data", "region": "ams"});
    let volume = fly.call("POST /apps/a/volumes", input).await.good();
    let old = volume["id"].as_str().unwrap();
    std::fs::write(dir.path().join("volumes").join(old).join("f"), "kept").unwrap();
    let mounts = json!([{"volume": old, "path": "/data"}]);
    let id = fly.machine("started", json!({"config": {"image": "a", "mounts": mounts}})).await;
    fly.backend.faults().add(Rule::new(Kind::Migration)).unwrap();
    let new = loop {
        let volume = fly.backend.census().machines[&id].volume.clone().unwrap();
        if volume != old {
            break volume;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let moved = std::fs::read_to_string(dir.path().join("volumes").join(new).join("f"));
    assert_eq!(moved.unwrap(), "kept");
    fly.reach(&id, "started").await;
}

#[tokio::test(start_paused = true)]
async fn checks_flap_and_the_census_sees_it() {
    let near = Near::open().await;
    near.app("a").await;
    let checks = json!({"up": {"type": "tcp", "port": 80}});
    let id = near.machine("one", json!({"config": {"image": "app", "checks": checks}})).await;
    sleep(5).await;
    near.fault(Rule { every: seconds(20), ..Rule::new(Kind::ChecksFlap) });
    let mut seen = String::new();
    for _ in 0..6 {
        let shown = near.read(&id).await["checks"][0]["status"].as_str().unwrap().to_owned();
        assert_eq!(near.census_of(&id).checks_pass, Some(shown == "passing"));
        write!(seen, "{shown} ").unwrap();
        sleep(10).await;
    }
    assert_eq!(seen, "critical critical passing passing critical critical ");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_was_stuck_boots_by_itself_and_one_that_was_destroyed_meanwhile_does_not() {
    let near = Near::open().await;
    near.app("a").await;
    let takes = seconds(2 * 60 * 60 + 20 * 60);
    near.fault(Rule { takes, ..Rule::new(Kind::StuckCreated) });
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let input = json!({"name": name, "config": {"image": "app"}});
        let made = near.call("POST /apps/a/machines", input).await.good();
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    sleep(2 * 60 * 60).await;
    assert_eq!(near.state(&ids[0]), "created");
    near.destroy(&ids[1]).await.good();
    sleep(20 * 60 + 1).await;
    assert_eq!((near.state(&ids[0]), near.state(&ids[1])), ("started", "destroyed"));
}

#[tokio::test(start_paused = true)]
async fn programs_crash_as_often_as_the_rule_says() {
    let near = Near::open().await;
    near.app("a").await;
    let (one, two) = (near.machine("one", json!({})).await, near.machine("two", json!({})).await);
    let only = Rule { machine: Some("one".to_owned()), times: Some(2), ..Rule::new(Kind::Crash) };
    near.fault(Rule { from: seconds(10), every: seconds(30), ..only });
    for _ in 0..2 {
        sleep(20).await;
        assert_eq!((near.state(&one), near.state(&two)), ("stopped", "started"));
        near.on(&one, "start").await.good();
        near.reach(&one, "started").await;
        sleep(10).await;
    }
    sleep(100).await;
    assert_eq!((near.state(&one), near.fired(Kind::Crash)), ("started", 2));
}

#[tokio::test(start_paused = true)]
async fn an_app_whose_deletion_is_slow_is_there_until_it_begins() {
    let near = Near::open().await;
    near.app("a").await;
    let id = near.machine("one", json!({})).await;
    near.fault(Rule { takes: seconds(300), ..Rule::new(Kind::AppDeleteSlow).times(1) });
    for _ in 0..2 {
        assert_eq!(near.call("DELETE /apps/a", Value::Null).await.status, 202);
    }
    sleep(290).await;
    assert_eq!(near.read(&id).await["state"], "started");
    assert!(near.backend.census().apps["a"].deleting);
    sleep(20).await;
    assert!(near.backend.census().apps.is_empty());
}

#[tokio::test]
async fn a_promise_outlives_the_process_and_rules_do_not() {
    let (fly, dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.backend.faults().add(Rule::new(Kind::HostUnreachable)).unwrap();
    fly.call(&format!("DELETE /apps/a/machines/{id}?force=true"), Value::Null).await.good();
    let driver = fly.crash();
    tokio::time::pause();
    let fly = Fly::open(config(dir.path()), driver).await;
    assert!(fly.backend.census().machines[&id].promised);
    assert_eq!(fly.backend.census().machines[&id].state, "started");
    fly.backend.until_gone(&id).await;
}

/// What hangar's own client makes of each refusal.
#[tokio::test(start_paused = true)]
async fn the_client_reads_every_refusal_for_what_it_is() {
    let near = Near::open().await;
    near.app("a").await;
    let (id, volume) = near.with_volume("one").await;
    let config = ClientConfig::new("http://fly", Token::new("secret"));
    let clock = Arc::clone(&near.backend.clock);
    let observer = Arc::new(Silent);
    let fly = Http::over(Arc::clone(&near.transport), config, clock, observer).unwrap();
    let image =
        || wire::MachineConfig { image: "app".to_owned(), ..wire::MachineConfig::default() };
    let update = wire::MachineInput { config: image(), ..wire::MachineInput::default() };
    let mount = wire::Mount { volume: volume.clone(), ..wire::Mount::default() };
    let mounting = wire::MachineInput {
        config: wire::MachineConfig { mounts: vec![mount], ..image() },
        ..wire::MachineInput::default()
    };
    let mut table = String::new();
    for kind in [
        Kind::AppNameTaken,
        Kind::HostFull,
        Kind::HostDisabled,
        Kind::VolumeHostFull,
        Kind::VolumeNotFound,
        Kind::VolumeClaimLingers,
        Kind::ManifestUnknown,
        Kind::StartRace,
        Kind::LeaseHeld,
        Kind::MachineNameViolation,
        Kind::HostUnreachable,
        Kind::RegionFull,
    ] {
        sleep(300).await;
        let rule = near.fault(Rule::new(kind));
        let error = match kind {
            Kind::AppNameTaken => {
                let app = wire::CreateApp { name: "b".to_owned(), ..wire::CreateApp::default() };
                let app = wire::CreateApp { org_slug: "personal".to_owned(), ..app };
                let taken = fly.create_app(&app).await.unwrap_err();
                assert_eq!(taken.kind(), "name_taken");
                fly.get_app("b").await.map(drop)
            }
            Kind::HostDisabled | Kind::ManifestUnknown => {
                fly.update_machine("a", &id, &update).await.map(drop)
            }
            Kind::VolumeHostFull | Kind::VolumeNotFound | Kind::VolumeClaimLingers => {
                fly.create_machine("a", &mounting).await.map(drop)
            }
            Kind::MachineNameViolation | Kind::RegionFull => {
                fly.create_machine("a", &update).await.map(drop)
            }
            _ => fly.start_machine("a", &id).await.map(drop),
        };
        writeln!(table, "{:<22} {}", kind.name(), error.unwrap_err().kind()).unwrap();
        near.backend.faults().remove(rule);
    }
    expect![[r#"
        app_name_taken         foreign_app
        host_full              capacity_host
        host_disabled          capacity_host
        volume_host_full       capacity_volume
        volume_not_found       volume_not_found
        volume_claim_lingers   volume_claimed
        manifest_unknown       manifest_unknown
        start_race             state_race
        lease_held             lease_held
        machine_name_violation machine_name_taken
        host_unreachable       deadline_exceeded
        region_full            capacity_region
    "#]]
    .assert_eq(&table);
}
