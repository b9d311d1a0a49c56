//! Ctrl-C, and the start after it.

use std::{fs, time::Duration};

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

/// Offsets at which a signal finds starts at different steps.
const OFFSETS_MS: [u64; 8] = [0, 10, 40, 100, 200, 320, 340, 400];

async fn nothing_runs(hangar: &Hangar) {
    eventually("the end of every process", PATIENCE, async || hangar.processes().is_empty()).await;
}

#[tokio::test]
async fn ctrl_c_while_machines_start_leaves_none_of_them() {
    let three = manifest::one("a")
        + &manifest::environment("b", "workspace", "")
        + &manifest::environment("c", "workspace", "");
    let mut hangar = Hangar::up(&three).await;
    hangar.stop().await;
    for offset in OFFSETS_MS {
        let starts = hangar.said().matches("note: machines run").count();
        hangar = hangar.begin_again(None);
        eventually("the last line of the start", PATIENCE, async || {
            hangar.said().matches("note: machines run").count() > starts
        })
        .await;
        tokio::time::sleep(Duration::from_millis(offset)).await;
        assert_eq!(hangar.stop().await.code(), Some(0), "{}", hangar.said());
        nothing_runs(&hangar).await;
    }
}

#[tokio::test]
async fn ctrl_c_while_a_machine_is_replaced_leaves_nothing() {
    let mut hangar = Hangar::up(&manifest::one("alice")).await;
    for offset in OFFSETS_MS {
        let env = format!("env: {{AT: '{offset}'}}");
        hangar.apply(&manifest::environment("alice", "workspace", &env)).await.good();
        tokio::time::sleep(Duration::from_millis(offset)).await;
        assert_eq!(hangar.stop().await.code(), Some(0), "{}", hangar.said());
        nothing_runs(&hangar).await;
        hangar = hangar.again().await;
        hangar.phase("alice", "Ready").await;
    }
}

#[tokio::test]
async fn a_start_that_the_server_refuses_leaves_nothing() {
    let larger = manifest::one("alice").replace("size: 1Gi", "size: 2Gi");
    let mut hangar = Hangar::up(&larger).await;
    hangar.stop().await;
    let smaller = hangar.home.path().join("smaller.yaml");
    fs::write(&smaller, manifest::one("alice")).unwrap();
    let mut hangar = hangar.begin_again(Some(&smaller));
    assert_eq!(hangar.ended().await.code(), Some(1), "{}", hangar.said());
    nothing_runs(&hangar).await;
}

#[tokio::test]
async fn a_stand_in_for_fly_in_the_directory_of_a_running_hangar_is_refused() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    let line = "local --data-dir data --fly-listen 127.0.0.1:0 --front-listen 127.0.0.1:0";
    let refused = hangar.cli(&line.split(' ').collect::<Vec<_>>()).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let said = &refused.stderr;
    assert!(said.contains("data/fly is in use by another process"), "{said}");
    assert!(said.contains("hint: ") && said.contains("--data-dir"), "{said}");
    hangar.page("alice").await;
}
