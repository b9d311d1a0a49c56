//! Leases.

use super::*;

/// An app, a started machine, and somebody's lease on it.
async fn leased(ttl: &str) -> (Fly, tempfile::TempDir, String, Value) {
    let (fly, dir) = fly().await;
    let id = fly.machine("started", small()).await;
    let lease = fly.on(&id, &format!("lease?ttl={ttl}")).await;
    assert_eq!((lease.status, lease.text("status")), (201, "success"));
    let lease = lease.good()["data"].clone();
    (fly, dir, id, lease)
}

#[tokio::test]
async fn a_leased_machine_refuses_others_with_the_leases_end() {
    let (fly, _dir, id, lease) = leased("60").await;
    let until = crate::clock::Timestamp::from_second(lease["expires_at"].as_i64().unwrap());
    let text = format!(
        "machine ID {id} lease currently held by local@tokens.fly.io, expires at {}",
        until.unwrap()
    );
    for verb in ["start", "lease", "suspend", "restart", "cordon"] {
        let refused = fly.on(&id, verb).await;
        refused.refused(409, &text);
        assert_eq!(refused.text("status"), "error");
    }
    fly.call(&format!("POST /apps/a/machines/{id}"), small()).await.refused(409, &text);
    let metadata = format!("POST /apps/a/machines/{id}/metadata/k");
    assert_eq!(fly.call(&metadata, json!({"value": "v"})).await.status, 204);
}

#[tokio::test]
async fn the_nonce_opens_refreshes_survives_an_update_and_releases() {
    let (mut fly, _dir, id, lease) = leased("60").await;
    fly.nonce = Some(lease["nonce"].as_str().unwrap().to_owned());
    let path = format!("/apps/a/machines/{id}");
    fly.call(&format!("POST {path}"), small()).await.good();
    fly.reach(&id, "started").await;
    let more = json!({"ttl": 600, "description": "x"});
    let again = fly.call(&format!("POST {path}/lease"), more).await.good();
    assert_eq!(again["data"]["nonce"], lease["nonce"]);
    assert!(again["data"]["expires_at"].as_i64() > lease["expires_at"].as_i64());
    let shown = fly.get(&format!("{path}?include_leases=true")).await.good();
    assert!(shown["lease"]["owner"].is_string() && shown["lease"].get("nonce").is_none());
    fly.get(&format!("{path}/lease")).await.good();
    let released = fly.call(&format!("DELETE {path}/lease"), Value::Null).await.good();
    assert_eq!(released, json!({"status": "success", "data": {"ok": true}}));
    fly.get(&format!("{path}/lease")).await.refused(404, "lease not found");
}

#[tokio::test]
async fn a_stop_without_the_nonce_blocks_until_the_lease_is_over() {
    let (fly, _dir, id, lease) = leased("1").await;
    fly.on(&id, "stop").await.good();
    let now = fly.backend.now().as_second();
    assert!(now >= lease["expires_at"].as_i64().unwrap(), "{now} {lease}");
    fly.reach(&id, "stopped").await;
}

#[tokio::test]
async fn a_destroy_without_the_nonce_goes_on_when_the_lease_is_released() {
    let (fly, _dir, id, lease) = leased("600").await;
    let path = format!("/apps/a/machines/{id}");
    let destroy = format!("DELETE {path}?force=true");
    let destroyed = fly.call(&destroy, Value::Null);
    let released = async {
        let release = fly.client.delete(format!("{}/v1{path}/lease", fly.base)).bearer_auth("t");
        let nonce = lease["nonce"].as_str().unwrap();
        release.header("fly-machine-lease-nonce", nonce).send().await.unwrap()
    };
    let (destroyed, _) = tokio::join!(destroyed, released);
    destroyed.good();
    fly.backend.until_gone(&id).await;
}

#[tokio::test]
async fn a_machine_may_be_created_leased() {
    let (fly, _dir) = fly().await;
    let made = fly.create(json!({"config": {"image": "app"}, "lease_ttl": 60})).await.good();
    assert!(made["nonce"].is_string());
    let id = made["id"].as_str().unwrap();
    assert_eq!(fly.on(id, "cordon").await.status, 409);
}
