//! Ctrl-C, and the start after it.

use std::time::Duration;

use crate::harness::{Hangar, PATIENCE, eventually, host, until};
use crate::manifest;

#[tokio::test]
async fn ctrl_c_ends_everything_and_a_new_start_finds_the_same_environments() {
    let both = manifest::one("alice") + &manifest::environment("bob", "workspace", "");
    let mut hangar = Hangar::up(&both).await;
    let before = hangar.page("alice").await;
    let bays = |object: serde_json::Value| object["status"]["bay"].clone();
    let (alice, bob) = (
        bays(hangar.object("environment/alice").await),
        bays(hangar.object("environment/bob").await),
    );
    assert!(hangar.processes().len() >= 5, "hangar, two shims, two programs");

    // A terminal and a supervisor may both say so.
    hangar.interrupt();
    let ended = tokio::time::timeout(Duration::from_secs(15), hangar.stop()).await.unwrap();
    assert_eq!(ended.code(), Some(0), "{}", hangar.said());
    eventually("the end of every process", PATIENCE, async || hangar.processes().is_empty()).await;
    assert!(hangar.data().join("store").exists());
    let exports = std::fs::read_dir(hangar.data().join("backups")).unwrap().count();
    assert_eq!(exports, 1, "the store is exported at the end");

    let hangar = hangar.again().await;
    let after = until("its page", PATIENCE, async || {
        let answer = hangar.http(&host("alice"), "/?format=json").await;
        if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!((&after["visits"], &after["machine"]), (&2.into(), &before["machine"]));
    hangar.phase("bob", "Ready").await;
    assert_eq!(bays(hangar.object("environment/alice").await), alice);
    assert_eq!(bays(hangar.object("environment/bob").await), bob);
    assert_eq!((hangar.fly().apps().await.len(), hangar.fly().machines().await.len()), (2, 2));
}
