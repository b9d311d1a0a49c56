//! Start, stop, suspend, restart, destroy, wait, and ends that nobody asked for.

use super::*;

#[tokio::test]
async fn a_start_right_after_a_stop_is_refused_while_the_machine_is_still_active() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.on(&id, "stop").await.good();
    fly.reach(&id, "stopped").await;
    fly.on(&id, "start")
        .await
        .refused(412, "failed_precondition: machine still active, refusing to start");
    while fly.on(&id, "start").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fly.reach(&id, "started").await;
    fly.on(&id, "start").await.good();
}

#[tokio::test]
async fn a_stop_may_be_repeated_and_its_body_may_be_odd() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let stop = format!("POST /apps/a/machines/{id}/stop");
    let odd = fly.call(&stop, json!(["now"])).await;
    odd.refused(400, "json: cannot unmarshal array into Go value of type main.stopRequest");
    fly.call(&stop, json!({"timeout": "301s"}))
        .await
        .refused(400, "invalid stop_config.timeout, cannot exceed 5 minutes");
    // Go matches keys whatever their case, and reads numbers as nanoseconds.
    fly.call(&stop, json!({"Signal": "SIGTERM", "Timeout": 1_000_000_000})).await.good();
    fly.reach(&id, "stopped").await;
    fly.on(&id, "stop").await.good();
    let events = fly.events(&id).await;
    assert_eq!(events[2..], ["stop/stopping/user", "exit/stopped/flyd"]);
}

#[tokio::test]
async fn a_suspended_machine_resumes_and_its_stop_discards_it() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.on(&id, "suspend").await.good();
    fly.reach(&id, "suspended").await;
    assert_eq!(fly.on(&id, "start").await.good()["previous_state"], "suspended");
    fly.reach(&id, "started").await;
    fly.on(&id, "suspend").await.good();
    fly.reach(&id, "suspended").await;
    fly.on(&id, "stop").await.good();
    fly.reach(&id, "stopped").await;
    fly.on(&id, "suspend").await.refused(
        412,
        "failed_precondition: unable to suspend machine from current state: 'stopped'",
    );
}

#[tokio::test]
async fn large_swapping_and_scheduled_machines_are_not_suspended() {
    let (fly, _dir) = fly().await;
    for config in [
        json!({"image": "a", "guest": {"cpus": 2, "memory_mb": 4096}}),
        json!({"image": "a", "init": {"swap_size_mb": 512}}),
        json!({"image": "a", "schedule": "daily"}),
    ] {
        let id = fly.machine("started", json!({"config": config})).await;
        assert_eq!(fly.on(&id, "suspend").await.status, 412, "{config}");
    }
}

#[tokio::test]
async fn a_restart_ends_started() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.on(&id, "restart?force_stop=false&timeout=10s").await.good();
    fly.reach(&id, "started").await;
    let events = fly.events(&id).await;
    assert_eq!(events[2..], ["restart/restarting/user", "exit/stopped/flyd", "start/started/flyd"]);
}

#[tokio::test]
async fn a_running_machine_is_destroyed_only_by_force_then_gone_in_the_background() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let path = format!("/apps/a/machines/{id}");
    fly.call(&format!("DELETE {path}"), Value::Null)
        .await
        .refused(412, "failed_precondition: unable to destroy machine, not currently stopped");
    let ok = fly.call(&format!("DELETE {path}?kill=true"), Value::Null).await.good();
    assert_eq!(ok, json!({"ok": true}));
    assert_eq!(fly.get(&path).await.good()["state"], "destroying");
    fly.reach(&id, "destroyed").await;
    assert_eq!(fly.get("/apps/a/machines").await.good(), json!([]));
    let all = fly.get("/apps/a/machines?include_deleted=true").await.good();
    assert_eq!(all[0]["state"], "destroyed");
}

#[tokio::test]
async fn a_destroyed_machine_is_not_found_after_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.timings.destroyed_readable = Duration::ZERO;
    let fly = Fly::open(config, Arc::default()).await;
    fly.app("a").await;
    let id = fly.machine("started", small()).await;
    let path = format!("/apps/a/machines/{id}");
    fly.call(&format!("DELETE {path}?force=true"), Value::Null).await.good();
    fly.backend.until_gone(&id).await;
    fly.get(&path).await.refused(404, "machine not found");
    fly.get(&format!("{path}/wait?state=destroyed")).await.refused(404, "machine not found");
    assert_eq!(fly.get("/apps/a/machines?include_deleted=true").await.good()[0]["id"], id);
}

#[tokio::test]
async fn a_program_that_ends_by_itself_leaves_a_stopped_machine_and_an_exit_code() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.driver.end(&id, 7);
    fly.reach(&id, "stopped").await;
    let events = fly.get(&format!("/apps/a/machines/{id}/events")).await.good();
    let exit = &events[0]["request"]["exit_event"];
    assert_eq!((&exit["exit_code"], &exit["requested_stop"]), (&json!(7), &json!(false)));
}

#[tokio::test]
async fn an_auto_destroy_machine_goes_with_its_program() {
    let (fly, _dir) = fly().await;
    let config = json!({"image": "app", "auto_destroy": true, "restart": {"policy": "no"}});
    let id = fly.machine("started", json!({"config": config})).await;
    fly.driver.end(&id, 0);
    fly.reach(&id, "destroyed").await;
}

#[tokio::test]
async fn a_wait_is_bounded_and_says_what_it_missed() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let wait = |query: &str| format!("/apps/a/machines/{id}/wait?{query}");
    let range = "invalid_argument: invalid WaitMachineRequest.Timeout: value must be inside range \
                 [1s, 1m0s]";
    for bad in ["timeout=0", "timeout=61", "timeout=-1"] {
        fly.get(&wait(bad)).await.refused(400, range);
    }
    assert_eq!(fly.get(&wait("state=dancing")).await.status, 400);
    fly.get(&wait("state=stopped,failed&timeout=1")).await.refused(
        408,
        "deadline_exceeded: machine failed to reach desired state, stopped,failed, currently \
         started",
    );
    let waited = fly.get(&wait("state=settled")).await.good();
    assert_eq!((&waited["ok"], &waited["state"]), (&json!(true), &json!("started")));
}

#[tokio::test]
async fn a_wait_from_an_event_sees_a_state_that_was_passed_through() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let last = fly.get(&format!("/apps/a/machines/{id}/wait")).await.good();
    let from = last["event_id"].as_str().unwrap();
    fly.driver.end(&id, 0);
    fly.reach(&id, "stopped").await;
    while fly.on(&id, "start").await.status != 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fly.reach(&id, "started").await;
    let wait = format!("/apps/a/machines/{id}/wait?state=stopped&from_event_id={from}");
    assert_eq!(fly.get(&wait).await.good()["state"], "stopped");
}

#[tokio::test]
async fn a_cordoned_machine_says_so_until_it_is_uncordoned() {
    let (fly, _dir) = fly().await;
    let input = json!({"config": {"image": "a"}, "skip_service_registration": true});
    let id = fly.machine("started", input).await;
    let cordoned =
        async || fly.get(&format!("/apps/a/machines/{id}")).await.good()["cordoned"].clone();
    assert_eq!(cordoned().await, true);
    fly.on(&id, "uncordon").await.good();
    assert!(cordoned().await.is_null());
    fly.on(&id, "cordon").await.good();
    assert_eq!(cordoned().await, true);
}
