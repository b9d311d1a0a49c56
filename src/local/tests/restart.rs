//! What survives the end of the process, clean or not.

use super::*;

/// Opens the same directory again, with the driver of before (shims survived) or a new one (they did not).
async fn again(dir: &tempfile::TempDir, driver: Arc<NoRun>) -> Fly {
    Fly::open(Config { keep: Keep::Synced, ..config(dir.path()) }, driver).await
}

#[tokio::test]
async fn everything_is_there_again_after_a_kill() {
    let (fly, dir) = fly().await;
    let volume = json!({"name": "data", "region": "ams"});
    let volume = fly.call("POST /apps/a/volumes", volume).await.good()["id"].clone();
    let config = json!({"image": "a", "mounts": [{"volume": volume, "path": "/d"}], "x": {"y": 1}});
    let id = fly.machine("started", json!({"config": config, "name": "main"})).await;
    fly.call("POST /apps/a/secrets", json!({"values": {"K": "v"}})).await.good();
    let paths = [
        "/apps?org_slug=personal".to_owned(),
        "/apps/a/volumes".to_owned(),
        "/apps/a/secrets".to_owned(),
        format!("/apps/a/machines/{id}"),
        "/orgs/personal/machines".to_owned(),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(fly.get(path).await.good());
    }
    let driver = fly.crash();
    let fly = again(&dir, driver).await;
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(fly.get(path).await.good(), before, "{path}");
    }
}

#[tokio::test]
async fn a_machine_whose_program_survived_is_adopted_as_it_is() {
    let (fly, dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let driver = fly.crash();
    let fly = again(&dir, driver).await;
    assert_eq!(fly.events(&id).await.len(), 2);
    fly.driver.end(&id, 3);
    fly.reach(&id, "stopped").await;
}

#[tokio::test]
async fn a_machine_whose_program_ended_meanwhile_is_stopped() {
    let (fly, dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let driver = fly.crash();
    driver.end(&id, 1);
    let fly = again(&dir, driver).await;
    fly.reach(&id, "stopped").await;
}

#[tokio::test]
async fn a_started_machine_is_started_again_after_a_reboot_and_a_stopped_one_is_not() {
    let (fly, dir) = fly().await;
    let started = fly.machine("started", small()).await;
    let stopped = fly.machine("started", small()).await;
    fly.on(&stopped, "stop").await.good();
    fly.reach(&stopped, "stopped").await;
    let suspended = fly.machine("started", small()).await;
    fly.on(&suspended, "suspend").await.good();
    fly.reach(&suspended, "suspended").await;
    drop(fly.crash());
    let fly = again(&dir, Arc::default()).await;
    fly.reach(&started, "started").await;
    fly.reach(&stopped, "stopped").await;
    // Its memory is lost: it starts cold.
    fly.reach(&suspended, "suspended").await;
    fly.on(&suspended, "start").await.good();
    fly.reach(&suspended, "started").await;
}

#[tokio::test]
async fn a_clean_stop_ends_every_program_and_the_next_run_starts_them_again() {
    let (fly, dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.backend.stop_all().await;
    let driver = Arc::clone(&fly.driver);
    assert!(matches!(
        crate::local::driver::Driver::status(driver.as_ref(), &id).await,
        crate::local::driver::Status::Exited(_)
    ));
    drop(fly);
    let fly = again(&dir, driver).await;
    fly.reach(&id, "started").await;
    let events = fly.events(&id).await;
    assert_eq!(events.last().unwrap(), "start/started/flyd");
    assert_eq!(events.len(), 5, "{events:?}");
}

#[tokio::test]
async fn work_that_was_cut_short_goes_on() {
    let (fly, dir) = fly().await;
    let created = fly.create(small()).await.good()["id"].as_str().unwrap().to_owned();
    let going = fly.machine("started", small()).await;
    let destroy = format!("DELETE /apps/a/machines/{going}?force=true");
    fly.call(&destroy, Value::Null).await.good();
    let driver = fly.crash();
    let fly = again(&dir, driver).await;
    fly.reach(&created, "started").await;
    fly.backend.until_gone(&going).await;
}

#[tokio::test]
async fn an_app_whose_deletion_was_cut_short_goes() {
    let (fly, dir) = fly().await;
    fly.machine("started", small()).await;
    assert_eq!(fly.call("DELETE /apps/a", Value::Null).await.status, 202);
    let driver = fly.crash();
    let fly = again(&dir, driver).await;
    while dir.path().join("apps/a").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fly.app("a").await;
}

#[tokio::test]
async fn a_damaged_record_is_an_error_and_not_an_empty_world() {
    let (fly, dir) = fly().await;
    drop(fly.crash());
    std::fs::write(dir.path().join("apps/a/app.json"), "{").unwrap();
    let opened = loop {
        match open(dir.path()) {
            Err(Error::InUse { .. }) => tokio::time::sleep(Duration::from_millis(1)).await,
            opened => break opened,
        }
    };
    assert!(opened.unwrap_err().to_string().ends_with("app.json is damaged"));
}

fn open(dir: &Path) -> Result<Arc<Backend>, Error> {
    let randomness: (Arc<dyn Clock>, _) = (System::shared(), chance::System::shared());
    Backend::open(config(dir), Arc::new(NoRun::new()), randomness)
}

#[tokio::test]
async fn a_directory_that_another_backend_has_open_is_refused() {
    let (fly, dir) = fly().await;
    assert!(matches!(open(dir.path()), Err(Error::InUse { path }) if path == dir.path()));
    // Even while it stops its machines.
    fly.backend.stop_all().await;
    assert!(matches!(open(dir.path()), Err(Error::InUse { .. })));
    drop(fly.crash());
    while open(dir.path()).is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
