//! Environments with a lifetime: deleted with all they have when it is over, and not when it was changed before.

use std::time::Duration;

use crate::harness::{Hangar, PATIENCE, until};
use crate::manifest;

/// The shortest lifetime, and then what is waited for anyway.
const LIFE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_environment_whose_lifetime_is_over_leaves_nothing_and_says_why() {
    let lives = |name: &str, after: &str| {
        let more = format!("lifetime: {{expiresAfter: {after}}}\n");
        manifest::environment(name, "workspace", &more)
    };
    let template = manifest::template("workspace", manifest::SAMPLE, "");
    let both = lives("alice", "1m") + &lives("bob", "1m");
    let hangar = Hangar::up(&(template + &both)).await;
    let status = hangar.object("environment/alice").await["status"].take();
    let expires_at = status["expiresAt"].as_str().unwrap();
    let shown = hangar.run("get env -o wide").await;
    assert!(shown.contains("EXPIRES") && shown.contains(expires_at), "{shown}");
    // Before it is over it can be had longer.
    hangar.apply(&lives("bob", "1d")).await.good();
    until("alice to be gone", LIFE + PATIENCE, async || {
        let there = hangar.object("environment/alice").await;
        if there.is_null() { Ok(()) } else { Err(there["status"].to_string()) }
    })
    .await;
    assert_eq!(hangar.page("bob").await["environment"], "bob");
    let left = (hangar.fly().apps().await.len(), hangar.fly().machines().await.len());
    assert_eq!((left, hangar.fly().volumes().await.len()), ((1, 1), 1));
    let events = hangar.run("events").await;
    assert!(events.contains("its lifetime of 1m was over at"), "{events}");
}
