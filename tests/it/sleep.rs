//! Sleep, wake, and what keeps an environment awake.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Hangar, PATIENCE, host, until};
use crate::manifest;

fn sleepy(mode: &str) -> String {
    let rule = format!("sleep: {{after: 5s, mode: {mode}}}");
    manifest::template("workspace", manifest::SAMPLE, &rule)
}

async fn sleeps_and_wakes(mode: &str, state: &str) {
    let hangar =
        Hangar::up(&(sleepy(mode) + &manifest::environment("alice", "workspace", ""))).await;
    let before = hangar.page("alice").await;
    hangar.phase("alice", "Asleep").await;
    assert!(hangar.run("get env").await.contains("Asleep"));
    assert_eq!(hangar.fly().machines().await[0]["state"], state);
    let after = hangar.page("alice").await;
    assert_eq!((&after["visits"], &after["machine"]), (&2.into(), &before["machine"]));
    let since_start = if mode == "Suspend" { 2 } else { 1 };
    assert_eq!(after["visits_since_start"], since_start, "{after}");
    hangar.phase("alice", "Ready").await;
    let page = hangar.run("describe env alice").await;
    assert!(page.contains("RecentRequest") || page.contains("RecentStart"), "{page}");
}

#[tokio::test]
async fn an_idle_environment_is_suspended_and_a_request_wakes_it_where_it_was() {
    sleeps_and_wakes("Suspend", "suspended").await;
}

#[tokio::test]
async fn an_idle_environment_is_stopped_and_a_request_starts_it_again() {
    sleeps_and_wakes("Stop", "stopped").await;
}

#[tokio::test]
async fn an_environment_put_to_sleep_by_order_is_not_woken_by_requests() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    hangar.page("alice").await;
    let mode =
        |mode: &str| manifest::environment("alice", "workspace", &format!("operatingMode: {mode}"));
    hangar.apply(&mode("Asleep")).await.good();
    hangar.phase("alice", "Asleep").await;
    let answer = until("the page of a sleeper", Duration::from_secs(5), async || {
        let answer = hangar.http(&host("alice"), "/").await;
        if answer.status == 503 { Ok(answer) } else { Err(answer.text()) }
    })
    .await;
    assert!(answer.text().contains("asleep"), "{}", answer.text());
    let before = hangar.mutating_calls().await;
    for _ in 0..3 {
        assert_eq!(hangar.http(&host("alice"), "/").await.status, 503);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(hangar.mutating_calls().await, before);
    assert_ne!(hangar.fly().machines().await[0]["state"], "started");
    let page = hangar.run("describe env alice").await;
    assert!(page.contains("Ordered"), "{page}");

    hangar.apply(&mode("Running")).await.good();
    hangar.phase("alice", "Ready").await;
    let page = until("its page", PATIENCE, async || {
        let answer = hangar.http(&host("alice"), "/?format=json").await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(page["visits"], 2, "{page}");
    assert!(hangar.run("describe env alice").await.contains("AlwaysRunning"));
}

#[tokio::test]
async fn an_open_web_socket_holds_an_environment_awake_and_describe_says_so() {
    let hangar =
        Hangar::up(&(sleepy("Suspend") + &manifest::environment("alice", "workspace", ""))).await;
    let mut socket = hangar.web_socket(&host("alice")).await;
    until("the connection to be seen", PATIENCE, async || {
        let page = hangar.run("describe env alice").await;
        if page.contains("because of OpenConnection") { Ok(()) } else { Err(page) }
    })
    .await;
    assert_eq!(hangar.fly().machines().await[0]["state"], "started");
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
    socket.close(None).await.unwrap();
    drop(socket);
    hangar.phase("alice", "Asleep").await;
}

#[tokio::test]
async fn a_machine_stopped_behind_hangars_back_is_asleep_and_a_request_starts_it() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    hangar.page("alice").await;
    let bay = hangar.object("environment/alice").await["status"]["bay"].take();
    let (app, machine) = (bay["app"].as_str().unwrap(), bay["machine"].as_str().unwrap());
    let stop = format!("/v1/apps/{app}/machines/{machine}/stop");
    hangar.fly().post(&stop, &serde_json::json!({})).await;
    hangar.phase("alice", "Asleep").await;
    let page = hangar.run("describe env alice").await;
    assert!(page.contains("because of External"), "{page}");
    assert_eq!(hangar.page("alice").await["visits"], 2);
    hangar.phase("alice", "Ready").await;
}
