//! Creating, reading, updating machines; their metadata and what reaches into them.

use super::*;

#[tokio::test]
async fn a_created_machine_is_prepared_then_started() {
    let (fly, _dir) = fly().await;
    let made = fly.create(small()).await.good();
    assert_eq!((&made["state"], &made["region"]), (&json!("created"), &json!("ams")));
    assert_eq!(made["config"]["guest"]["memory_mb"], 256);
    let id = made["id"].as_str().unwrap();
    fly.reach(id, "started").await;
    assert_eq!(fly.events(id).await, ["launch/created/user", "start/started/flyd"]);
    let shown = fly.get(&format!("/apps/a/machines/{id}")).await.good();
    assert!(shown["private_ip"].as_str().unwrap().starts_with("fdaa:"));
    assert!(shown["image_ref"]["digest"].as_str().unwrap().starts_with("sha256:"));
}

#[tokio::test]
async fn a_machine_that_skips_its_launch_is_created_then_stopped_and_refuses_a_start_until_then() {
    let (fly, _dir) = fly().await;
    let input = json!({"config": {"image": "app"}, "skip_launch": true});
    let id = fly.create(input).await.good()["id"].as_str().unwrap().to_owned();
    fly.on(&id, "start")
        .await
        .refused(412, "failed_precondition: unable to start machine from current state: 'created'");
    fly.reach(&id, "stopped").await;
    let started = fly.on(&id, "start").await.good();
    assert_eq!(started["previous_state"], "stopped");
}

#[tokio::test]
async fn a_used_name_is_refused_with_the_first_machines_id() {
    let (fly, _dir) = fly().await;
    let input = json!({"name": "main", "config": {"image": "app"}});
    let id = fly.machine("started", input.clone()).await;
    let text = format!(
        "already_exists: unique machine name violation, machine ID {id} already exists with name \
         \"main\""
    );
    fly.create(input.clone()).await.refused(409, &text);
    fly.call(&format!("DELETE /apps/a/machines/{id}?force=true"), Value::Null).await.good();
    fly.backend.until_gone(&id).await;
    fly.create(input).await.good();
}

#[tokio::test]
async fn configurations_that_fly_refuses_are_refused() {
    let (fly, _dir) = fly().await;
    for (config, word) in [
        (json!({}), "config.image"),
        (json!({"image": "x", "mounts": [{"volume": "v"}, {"volume": "w"}]}), "config.mounts"),
        (json!({"image": "x", "mounts": [{"volume": "vol_gone"}]}), "volume not found"),
        (json!({"image": "x", "guest": {"memory_mb": 300}}), "memory_mb"),
        (json!({"image": "x", "guest": {"cpus": 3}}), "cpus"),
        (json!({"image": "x", "size": "shared-cpu-1x", "guest": {}}), "mutually exclusive"),
        (json!({"image": "x", "stop_config": {"timeout": "6m"}}), "cannot exceed 5 minutes"),
        (json!({"image": 5}), "json: cannot unmarshal number into Go struct field"),
    ] {
        let refused = fly.create(json!({"config": config})).await;
        assert_eq!(refused.status, 400, "{config}");
        assert!(refused.error().contains(word), "{refused:?}");
    }
    let full = fly.create(json!({"config": {"image": "x"}, "region": "syd"})).await;
    full.refused(422, "could not find a candidate host");
    assert_eq!(full.body["status"], "insufficient_capacity");
}

#[tokio::test]
async fn an_image_that_no_registry_has_makes_a_failed_machine() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("failed", json!({"config": {"image": "hangar.test/unpullable"}})).await;
    let events = fly.get(&format!("/apps/a/machines/{id}/events")).await.good();
    assert_eq!(events[0]["status"], "failed");
    assert!(events[0]["request"]["error"].as_str().unwrap().starts_with("MANIFEST_UNKNOWN"));
}

#[tokio::test]
async fn an_update_replaces_everything_makes_a_version_and_restarts() {
    let (fly, _dir) = fly().await;
    let input = json!({"config": {"image": "app", "env": {"A": "1"}, "metadata": {"k": "v"}}});
    let id = fly.machine("started", input).await;
    let path = format!("/apps/a/machines/{id}");
    let first = fly.get(&path).await.good()["instance_id"].as_str().unwrap().to_owned();
    let update = format!("POST {path}");
    let updated = fly.call(&update, json!({"config": {"image": "app:2"}})).await.good();
    assert_eq!(updated["state"], "replacing");
    fly.on(&id, "start")
        .await
        .refused(412, "failed_precondition: machine getting replaced, refusing to start");
    fly.call(&update, small())
        .await
        .refused(409, "machine is replacing: concurrent update in progress");
    fly.reach(&id, "started").await;
    let shown = fly.get(&path).await.good();
    assert!(shown["config"].get("env").is_none() && shown["config"].get("metadata").is_none());
    assert!(shown["instance_id"].as_str().unwrap() > first.as_str());
    let superseded = fly.get(&format!("{path}/wait?instance_id={first}")).await;
    assert_eq!(superseded.status, 408);
    assert!(superseded.error().ends_with("currently replaced"), "{superseded:?}");
    let stale = json!({"config": {"image": "app"}, "current_version": first});
    assert_eq!(fly.call(&update, stale).await.status, 409);
    let versions = fly.get(&format!("{path}/versions")).await.good();
    assert_eq!(versions[1]["version"], first.as_str());
}

#[tokio::test]
async fn an_update_starts_a_stopped_machine_unless_it_skips_the_launch() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.on(&id, "stop").await.good();
    fly.reach(&id, "stopped").await;
    let update = format!("POST /apps/a/machines/{id}");
    let skip = json!({"config": {"image": "app"}, "skip_launch": true});
    fly.call(&update, skip).await.good();
    fly.reach(&id, "stopped").await;
    fly.call(&update, small()).await.good();
    fly.reach(&id, "started").await;
}

#[tokio::test]
async fn metadata_is_written_without_a_version() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let path = format!("/apps/a/machines/{id}");
    let version = fly.get(&path).await.good()["instance_id"].clone();
    let all = format!("{path}/metadata");
    let status = async |line: String, body| fly.call(&line, body).await.status;
    let update = json!({"metadata": {"a": "1", "b": "2"}, "machine_version": version});
    assert_eq!(status(format!("PUT {all}"), update).await, 204);
    let patch = json!({"metadata": {"a": null, "c": "3"}});
    assert_eq!(status(format!("PATCH {all}"), patch).await, 204);
    assert_eq!(status(format!("POST {all}/d"), json!({"value": "4"})).await, 204);
    assert_eq!(status(format!("DELETE {all}/b"), Value::Null).await, 204);
    assert_eq!(fly.get(&all).await.good(), json!({"c": "3", "d": "4"}));
    assert_eq!(fly.get(&format!("{all}/d")).await.good(), json!({"value": "4"}));
    assert_eq!(fly.get(&format!("{all}/a")).await.status, 404);
    let stale = json!({"metadata": {}, "machine_version": "01OLD"});
    assert_eq!(status(format!("PUT {all}"), stale).await, 412);
    assert_eq!(fly.get(&path).await.good()["instance_id"], version);
}

#[tokio::test]
async fn exec_ps_and_signal_need_a_started_machine() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let on = |verb: &str| format!("POST /apps/a/machines/{id}/{verb}");
    let done = fly.call(&on("exec"), json!({"cmd": "echo hi"})).await.good();
    assert_eq!(done["exit_code"], 0);
    fly.call(&on("signal"), json!({"signal": "SIGTERM"})).await.good();
    assert_eq!(fly.call(&on("signal"), json!({"signal": "SIGNOPE"})).await.status, 400);
    fly.get(&format!("/apps/a/machines/{id}/ps?sort_by=rss&order=desc")).await.good();
    fly.call(&on("signal"), json!({"signal": 9})).await.good();
    fly.reach(&id, "stopped").await;
    assert_eq!(fly.call(&on("exec"), json!({"command": ["id"]})).await.status, 412);
}

#[tokio::test]
async fn checks_appear_after_the_start_and_not_before() {
    let (fly, _dir) = fly().await;
    let service = json!({"internal_port": 80, "checks": [{"type": "tcp"}], "autostop": "stop"});
    let config = json!({
        "image": "app", "services": [service],
        "checks": {"up": {"type": "http", "port": 80, "path": "/"}},
    });
    let made = fly.create(json!({"config": config})).await.good();
    assert_eq!(made["checks"], json!([]));
    assert_eq!(made["config"]["services"][0]["autostop"], true);
    let path = format!("/apps/a/machines/{}", made["id"].as_str().unwrap());
    let checks = loop {
        let shown = fly.get(&path).await.good();
        if shown["checks"].as_array().unwrap().len() == 2 {
            break shown["checks"].clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((&checks[0]["name"], &checks[0]["status"]), (&json!("up"), &json!("passing")));
    assert_eq!(checks[1]["name"], "servicecheck-00-tcp-80");
}

#[tokio::test]
async fn of_many_creates_of_one_name_exactly_one_succeeds() {
    let (fly, _dir) = fly().await;
    let input = json!({"name": "main", "config": {"image": "app"}});
    let answers = futures::future::join_all((0..20).map(|_| fly.create(input.clone()))).await;
    let mut statuses: Vec<_> = answers.iter().map(|it| it.status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (200, &[409; 19][..]));
}

#[tokio::test]
async fn null_is_what_go_takes_it_for() {
    let (fly, _dir) = fly().await;
    let config = json!({"image": "app", "env": null, "mounts": null, "init": {"cmd": null}});
    fly.machine("started", json!({"config": config, "lease_ttl": null})).await;
}

#[tokio::test]
async fn a_check_that_cannot_connect_is_critical_after_its_grace_period() {
    let dir = tempfile::tempdir().unwrap();
    let fly = Fly::open(Config { no_run: false, ..config(dir.path()) }, Arc::default()).await;
    fly.app("a").await;
    let check = json!({"type": "tcp", "port": 80, "interval": "200ms", "grace_period": "300ms"});
    let config = json!({"image": "app", "checks": {"up": check}});
    let id = fly.machine("started", json!({"config": config})).await;
    let path = format!("/apps/a/machines/{id}");
    let started = fly.backend.clock.monotonic();
    let check = loop {
        let shown = fly.get(&path).await.good();
        if let Some(check) = shown["checks"].get(0) {
            break check.clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(fly.backend.clock.monotonic() - started > Duration::from_millis(200));
    assert_eq!(check["status"], "critical");
    assert!(check["output"].as_str().unwrap().contains("nothing listens"), "{check}");
    fly.on(&id, "suspend").await.good();
    fly.reach(&id, "suspended").await;
    assert_eq!(fly.get(&path).await.good()["checks"], json!([]));
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_nothing_half_done() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let path = format!("POST /apps/a/machines/{id}/restart");
    for _ in 0..20 {
        let hung_up = Duration::from_micros(300);
        let _cut = tokio::time::timeout(hung_up, fly.call(&path, Value::Null)).await;
        fly.reach(&id, "started").await;
    }
}
