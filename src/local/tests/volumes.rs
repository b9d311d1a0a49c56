//! Volumes and snapshots.

use super::*;

impl Fly {
    async fn volume(&self, input: Value) -> Value {
        self.call("POST /apps/a/volumes", input).await.good()
    }

    /// The volume's state once it is the one waited for.
    async fn volume_is(&self, id: &str, state: &str) {
        while self.get(&format!("/apps/a/volumes/{id}")).await.good()["state"] != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn snapshot(&self, volume: &str) -> String {
        let path = format!("/apps/a/volumes/{volume}/snapshots");
        self.call(&format!("POST {path}"), Value::Null).await.good();
        loop {
            let newest = self.get(&path).await.good()[0].clone();
            if newest["status"] == "created" {
                return newest["id"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn data() -> Value {
    json!({"name": "data", "region": "fra"})
}

fn id_of(volume: &Value) -> String {
    volume["id"].as_str().unwrap().to_owned()
}

fn mounting(volume: &str) -> Value {
    json!({"config": {"image": "a", "mounts": [{"volume": volume, "path": "/data"}]}})
}

#[tokio::test]
async fn a_volume_has_flys_defaults_and_can_only_grow() {
    let (fly, dir) = fly().await;
    let made = fly.volume(data()).await;
    let id = id_of(&made);
    assert!(id.starts_with("vol_") && id.len() == 20, "{id}");
    assert_eq!((&made["size_gb"], &made["encrypted"]), (&json!(3), &json!(true)));
    assert_eq!((&made["state"], &made["snapshot_retention"]), (&json!("created"), &json!(5)));
    assert!(dir.path().join("volumes").join(&id).is_dir());
    let extend = format!("PUT /apps/a/volumes/{id}/extend");
    assert_eq!(fly.call(&extend, json!({"size_gb": 3})).await.status, 400);
    let extended = fly.call(&extend, json!({"size_gb": 5})).await.good();
    assert_eq!(extended["volume"]["size_gb"], 5);
    assert_eq!(extended["needs_restart"], false);
    let update = json!({"snapshot_retention": 9, "auto_backup_enabled": false});
    let updated = fly.call(&format!("PUT /apps/a/volumes/{id}"), update).await.good();
    assert_eq!(
        (&updated["snapshot_retention"], &updated["auto_backup_enabled"]),
        (&json!(9), &json!(false))
    );
    fly.get("/apps/a/volumes/vol_none").await.refused(404, "volume not found");
}

#[tokio::test]
async fn a_mounted_volume_decides_the_region_and_is_claimed_until_its_machine_is_gone() {
    let (fly, _dir) = fly().await;
    let volume = id_of(&fly.volume(data()).await);
    let elsewhere = json!({"region": "iad", "config": mounting(&volume)["config"]});
    assert_eq!(fly.create(elsewhere).await.status, 400);
    let machine = fly.machine("started", mounting(&volume)).await;
    assert_eq!(fly.get(&format!("/apps/a/machines/{machine}")).await.good()["region"], "fra");
    let path = format!("/apps/a/volumes/{volume}");
    assert_eq!(fly.get(&path).await.good()["attached_machine_id"], machine.as_str());
    let claimed = format!("failed_precondition: volume already claimed by machine {machine}");
    fly.create(mounting(&volume)).await.refused(412, &claimed);
    let destroy = format!("DELETE {path}");
    let bound = format!("failed_precondition: volume is currently bound to machine: {machine}");
    fly.call(&destroy, Value::Null).await.refused(412, &bound);
    fly.call(&format!("DELETE /apps/a/machines/{machine}?force=1"), Value::Null).await.good();
    fly.call(&destroy, Value::Null).await.refused(412, &bound);
    fly.backend.until_gone(&machine).await;
    let gone = fly.call(&destroy, Value::Null).await.good();
    assert_eq!(gone["state"], "pending_destroy");
    assert_eq!(fly.get(&path).await.good()["state"], "pending_destroy");
    fly.create(mounting(&volume)).await.refused(400, "volume not found");
}

#[tokio::test]
async fn a_mount_may_name_a_free_volume() {
    let (fly, _dir) = fly().await;
    let volume = id_of(&fly.volume(data()).await);
    let config = json!({"image": "a", "mounts": [{"name": "data", "path": "/data"}]});
    let made = fly.create(json!({"config": config})).await.good();
    assert_eq!(made["config"]["mounts"][0]["volume"], volume.as_str());
    fly.create(json!({"config": config})).await.refused(400, "volume not found");
}

#[tokio::test]
async fn an_update_cannot_change_the_volume() {
    let (fly, _dir) = fly().await;
    let volume = id_of(&fly.volume(data()).await);
    let other = id_of(&fly.volume(data()).await);
    let machine = fly.machine("started", mounting(&volume)).await;
    let update = format!("POST /apps/a/machines/{machine}");
    assert_eq!(fly.call(&update, mounting(&other)).await.status, 400);
    assert_eq!(fly.call(&update, small()).await.status, 400);
    fly.call(&update, mounting(&volume)).await.good();
}

#[tokio::test]
async fn a_deleted_volume_is_erased_when_its_day_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.timings.volume_kept = Duration::ZERO;
    let fly = Fly::open(config, Arc::default()).await;
    fly.app("a").await;
    let id = id_of(&fly.volume(data()).await);
    fly.call(&format!("DELETE /apps/a/volumes/{id}"), Value::Null).await.good();
    let content = dir.path().join("volumes").join(&id);
    while content.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fly.get(&format!("/apps/a/volumes/{id}")).await.refused(404, "volume not found");
}

#[tokio::test]
async fn a_snapshot_and_a_fork_hold_what_the_volume_held() {
    let (fly, dir) = fly().await;
    let id = id_of(&fly.volume(data()).await);
    let content = |id: &str| dir.path().join("volumes").join(id).join("sub/file");
    std::fs::create_dir_all(content(&id).parent().unwrap()).unwrap();
    std::fs::write(content(&id), "before").unwrap();
    let snapshot = fly.snapshot(&id).await;
    std::fs::write(content(&id), "after").unwrap();
    let restored =
        fly.volume(json!({"name": "data", "region": "fra", "snapshot_id": snapshot})).await;
    assert_eq!(restored["state"], "restoring");
    let forked = fly.volume(json!({"name": "data", "region": "fra", "source_volume_id": id})).await;
    assert_eq!(forked["state"], "hydrating");
    for (volume, text) in [(restored, "before"), (forked, "after")] {
        let volume = id_of(&volume);
        fly.volume_is(&volume, "created").await;
        assert_eq!(std::fs::read_to_string(content(&volume)).unwrap(), text);
    }
    let small = json!({"name": "data", "region": "fra", "snapshot_id": snapshot, "size_gb": 1});
    assert_eq!(fly.call("POST /apps/a/volumes", small).await.status, 400);
}

#[tokio::test]
async fn the_organisations_volumes_are_listed_with_their_apps() {
    let (fly, _dir) = fly().await;
    let one = id_of(&fly.volume(data()).await);
    let two = id_of(&fly.volume(data()).await);
    fly.call(&format!("DELETE /apps/a/volumes/{one}"), Value::Null).await.good();
    let list = fly.get("/orgs/personal/volumes").await.good();
    let volumes = list["volumes"].as_array().unwrap();
    assert_eq!((volumes.len(), &volumes[0]["id"]), (1, &json!(two)));
    assert_eq!(volumes[0]["app_name"], "a");
    let all = fly.get("/orgs/personal/volumes?include_deleted=true").await.good();
    assert_eq!(all["volumes"][1]["id"], one.as_str());
}
