//! Edited manifests, and manifests that are refused.

use std::time::Duration;

use crate::harness::{Hangar, PATIENCE, host, until};
use crate::manifest;

#[tokio::test]
async fn a_changed_variable_reaches_the_page_and_the_volume_survives() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    hangar.page("alice").await;
    let before = hangar.page("alice").await;
    assert_eq!(
        (&before["visits"], &before["env"]["GREETING"]),
        (&2.into(), &serde_json::Value::Null)
    );
    let edited = manifest::environment("alice", "workspace", "env: {GREETING: hello}");
    assert_eq!(hangar.apply(&edited).await.good(), "environment.hangar.dev/alice configured\n");
    let after = until("the new variable on the page", PATIENCE, async || {
        let answer = hangar.http(&host("alice"), "/env").await;
        if answer.status == 200 && answer.json()["GREETING"] == "hello" {
            Ok(())
        } else {
            Err(answer.text())
        }
    });
    after.await;
    let after = hangar.page("alice").await;
    assert_eq!((&after["visits"], &after["machine"]), (&3.into(), &before["machine"]));
    hangar.run("wait env/alice --for=condition=Ready").await;
    assert_eq!(hangar.apply(&edited).await.good(), "environment.hangar.dev/alice unchanged\n");
}

#[tokio::test]
async fn a_bad_manifest_is_refused_with_its_place_and_nothing_is_applied() {
    let hangar = Hangar::empty().await;
    let bad = manifest::one("alice")
        + &manifest::environment("bob", "workspace", "operatingMode: Sometimes\nsurprise: 1");
    let refused = hangar.apply(&bad).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in ["edited.yaml:", "document 3", "spec.operatingMode", "Sometimes"] {
        assert!(refused.stderr.contains(part), "no {part} in {}", refused.stderr);
    }
    assert_eq!(refused.stdout, "");
    assert_eq!(hangar.run("get env,templates -o name").await, "");
    let broken = hangar.apply("kind: [").await;
    assert!(
        broken.code == 1
            && broken.stderr.contains("edited.yaml:")
            && broken.stderr.contains("not YAML"),
        "{broken:?}"
    );
    assert_eq!(hangar.mutating_calls().await, 0);
}

#[tokio::test]
async fn a_hostname_that_another_environment_holds_is_refused() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    let thief = manifest::environment("mallory", "workspace", "hostnames: [alice]");
    let refused = hangar.apply(&thief).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let place = "spec.hostnames[0]: the hostname `alice` is held by another environment\n";
    assert!(refused.stderr.ends_with(place), "a hint to repeat it would be wrong: {refused:?}");
    assert_eq!(hangar.run("get env -o name").await, "environment.hangar.dev/alice\n");
    assert_eq!(hangar.page("alice").await["environment"], "alice");
}

#[tokio::test]
async fn a_private_environment_answers_403_and_is_not_woken() {
    let private = manifest::environment("alice", "workspace", "").replace("Public", "Private");
    let rule = "sleep: {after: 5s, mode: Suspend}";
    let hangar =
        Hangar::up(&(manifest::template("workspace", manifest::SAMPLE, rule) + &private)).await;
    hangar.phase("alice", "Asleep").await;
    let before = hangar.mutating_calls().await;
    let answer = hangar.http(&host("alice"), "/").await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().to_lowercase().contains("private"), "{}", answer.text());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(hangar.mutating_calls().await, before);
    assert_eq!(hangar.fly().machines().await[0]["state"], "suspended");
}

#[tokio::test]
async fn an_environment_whose_template_was_deleted_says_so_and_serves_on() {
    let manifests = manifest::one("alice");
    let hangar = Hangar::up(&manifests).await;
    hangar.run("delete template workspace").await;
    hangar.phase("alice", "Degraded").await;
    let page = hangar.run("describe env alice").await;
    assert!(page.contains("template workspace does not exist (TemplateMissing"), "{page}");
    assert_eq!(hangar.page("alice").await["visits"], 1);
    hangar.apply(&manifests).await.good();
    hangar.phase("alice", "Ready").await;
    assert_eq!(hangar.page("alice").await["visits_since_start"], 2);
}
