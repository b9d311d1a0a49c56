//! What the proxy front sees and does.

use super::*;
use crate::fly::wire::Autostop;
use crate::local::fleet::Fleet;

fn serving(autostop: &str) -> Value {
    let service = json!({
        "internal_port": 8080, "autostart": true, "autostop": autostop,
        "ports": [{"port": 443, "handlers": ["tls", "http"]}],
    });
    let tcp = json!({"internal_port": 22, "ports": [{"port": 22}]});
    json!({"config": {"image": "a", "services": [tcp, service]}})
}

#[tokio::test]
async fn the_front_sees_the_service_that_speaks_http() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", serving("suspend")).await;
    fly.machine("started", small()).await;
    let fleet: Arc<dyn Fleet> = Arc::clone(&fly.backend) as _;
    let targets = fleet.targets("a");
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].internal_port, targets[0].autostop), (8080, Autostop::Suspend));
    assert_eq!(targets[0].network, "net-a");
    assert_eq!(fleet.target(&id), Some(targets[0].clone()));
    assert_eq!(fleet.autostopped(), targets);
    assert!(fleet.has_app("a") && !fleet.has_app("b"));
}

#[tokio::test]
async fn the_proxy_wakes_a_machine_that_is_still_active() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", serving("stop")).await;
    fly.backend.idle(&id, Autostop::Stop).await;
    fly.reach(&id, "stopped").await;
    fly.backend.wake(&id).await.unwrap();
    let events = fly.events(&id).await;
    assert_eq!(
        events[2..],
        ["stop/stopping/proxy", "exit/stopped/flyd", "start/starting/proxy", "start/started/flyd"]
    );
}

#[tokio::test]
async fn the_proxy_cannot_wake_a_leased_machine() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", serving("stop")).await;
    fly.backend.idle(&id, Autostop::Suspend).await;
    fly.reach(&id, "suspended").await;
    fly.on(&id, "lease?ttl=60").await.good();
    let refused = fly.backend.wake(&id).await.unwrap_err();
    assert!(refused.why.contains("lease currently held by"), "{refused}");
}
