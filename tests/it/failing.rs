//! Environments that cannot become ready: each says why, holds up nobody, and heals when its template does.

use crate::harness::{Hangar, PATIENCE, until};
use crate::manifest;

/// Applies one environment of an image that fails beside a good one; its reason must be true, and both must be ready once the
/// image is replaced.
async fn fails_and_heals(image: &str, reasons: &[&str], words: &str) {
    let hangar = Hangar::empty().await;
    let good = manifest::template("good", manifest::SAMPLE, "")
        + &manifest::environment("bob", "good", "");
    let bad = manifest::template("bad", image, "") + &manifest::environment("alice", "bad", "");
    hangar.apply(&(bad + &good)).await.good();
    hangar.phase("bob", "Ready").await;
    hangar.phase("alice", "Degraded").await;
    let why = until("a reason", PATIENCE, async || {
        let alice = hangar.object("environment/alice").await;
        let conditions = alice["status"]["conditions"].as_array().unwrap().clone();
        let degraded = conditions.iter().find(|it| it["type"] == "Degraded").unwrap().clone();
        let told = degraded["message"].as_str().unwrap().contains(words);
        let known = reasons.iter().any(|it| degraded["reason"] == *it);
        if told && known { Ok(degraded) } else { Err(degraded.to_string()) }
    })
    .await;
    let page = hangar.run("describe env alice").await;
    assert!(page.contains("Degraded") && page.contains(why["reason"].as_str().unwrap()), "{page}");
    assert_eq!(hangar.page("bob").await["environment"], "bob");

    hangar.apply(&manifest::template("bad", manifest::SAMPLE, "")).await.good();
    hangar.phase("alice", "Ready").await;
    assert_eq!(hangar.page("alice").await["environment"], "alice");
    assert_eq!(hangar.fly().volumes().await.len(), 2);
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_degrades_its_environment_only() {
    fails_and_heals(
        "hangar.test/unpullable",
        &["MachineFailed"],
        "MANIFEST_UNKNOWN: hangar.test/unpullable",
    )
    .await;
}

#[tokio::test]
async fn a_crash_loop_degrades_its_environment_only() {
    fails_and_heals("hangar.test/crash-loop", &["MachineFailed"], "the program ended by itself")
        .await;
}

#[tokio::test]
async fn a_machine_that_is_never_ready_degrades_its_environment_only() {
    fails_and_heals("hangar.test/never-ready", &["ReadinessTimeout"], "has not passed within 3 s")
        .await;
}

#[tokio::test]
async fn a_program_that_crash_loops_after_its_first_day_is_not_ready_any_more() {
    let hangar = Hangar::empty().await;
    let broken = hangar.home.path().join("broken");
    let program = env!("CARGO_BIN_EXE_hangar");
    let line = format!("test -e {} && exit 1; exec {program} sample-app", broken.display());
    let template = manifest::template("day", "hangar.dev/host:1", "")
        .replace("    guest:", &format!("    command: [/bin/sh, -c, '{line}']\n    guest:"));
    hangar.apply(&(template + &manifest::environment("alice", "day", ""))).await.good();
    hangar.phase("alice", "Ready").await;
    assert_eq!(hangar.page("alice").await["environment"], "alice");
    std::fs::write(&broken, "").unwrap();
    hangar.kill_programs("sample-app");
    hangar.phase("alice", "Degraded").await;
    let alice = hangar.object("environment/alice").await;
    let conditions = alice["status"]["conditions"].as_array().unwrap().clone();
    let ready = conditions.iter().find(|it| it["type"] == "Ready").unwrap();
    assert_eq!((&ready["status"], &ready["reason"]), (&"False".into(), &"MachineFailed".into()));
    std::fs::remove_file(&broken).unwrap();
    hangar.phase("alice", "Ready").await;
}
