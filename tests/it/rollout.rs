//! Changes of a template that several environments have: by turns, stopped where they fail, undone, paused, one by one.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Hangar, PATIENCE, host, until};
use crate::manifest;

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

/// A template with a variable that tells its revisions apart.
fn template(color: &str, strategy: &str, path: &str) -> String {
    manifest::template("node", manifest::SAMPLE, "")
        .replace("strategy: Rolling", strategy)
        .replace("path: /healthz", &format!("path: {path}"))
        .replace("timeout: 3s", "timeout: 2s")
        .replace("    guest:", &format!("    env: {{COLOR: {color}}}\n    guest:"))
}

fn environments() -> String {
    NAMES.iter().map(|it| manifest::environment(it, "node", "")).collect()
}

impl Hangar {
    async fn all_ready(template: &str) -> Self {
        let hangar = Self::up(&(template.to_owned() + &environments())).await;
        for name in NAMES {
            hangar.phase(name, "Ready").await;
        }
        hangar
    }

    async fn color(&self, name: &str) -> String {
        let answer = self.http(&host(name), "/env").await;
        let color = (answer.status == 200).then(|| answer.json()["COLOR"].take());
        color.unwrap_or_default().as_str().unwrap_or_default().to_owned()
    }

    /// Which environments have this colour.
    async fn colored(&self, color: &str) -> BTreeSet<&'static str> {
        let mut found = BTreeSet::new();
        for name in NAMES {
            if self.color(name).await == color {
                found.insert(name);
            }
        }
        found
    }

    async fn condition(&self, kind: &str) -> (String, String) {
        let template = self.object("template/node").await;
        let conditions = template["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.into_iter().find(|it| it["type"] == kind).unwrap_or_default();
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    async fn told(&self, kind: &str, status: &str, reason: &str) {
        until(&format!("{kind} {status} {reason}"), PATIENCE, async || {
            let found = self.condition(kind).await;
            if found == (status.to_owned(), reason.to_owned()) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_rolling_change_goes_by_turns_and_is_never_too_many() {
    let rolling = "strategy: Rolling, maxUnavailable: 1";
    let hangar = Hangar::all_ready(&template("blue", rolling, "/healthz")).await;
    hangar.apply(&template("green", rolling, "/healthz")).await.good();
    let mut waits = hangar.spawn(&["rollout", "status", "template/node", "--timeout", "60s"]);
    while waits.try_wait().unwrap().is_none() {
        let list = hangar.cli(&["get", "env", "-o", "json"]).await.good();
        let list: Value = serde_json::from_str(&list).unwrap();
        let changing = list["items"].as_array().unwrap().iter().filter(|it| {
            let at = &it["status"]["template"];
            at["from"] == 1 && at["readyAt"].is_null()
        });
        let changing = changing.count();
        assert!(changing <= 1, "{changing} at once: {list}");
    }
    let ended = waits.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("environments have revision 2, 1 at a time"), "{said}");
    assert!(said.ends_with("template \"node\" successfully rolled out\n"), "{said}");
    assert_eq!(hangar.colored("green").await.len(), 4);
    // One began when the one before it served: the log is in the order in which things were done.
    let log = hangar.run("logs").await;
    let turns = log.lines().filter(|it| it.contains("it is its turn")).count();
    assert_eq!(turns, 4, "{log}");
    let bays = hangar.run("get bays -o wide").await;
    assert!(bays.contains("REVISION") && bays.contains("HASH"), "{bays}");
    let history = hangar.run("rollout history template/node").await;
    assert_eq!(history.lines().count(), 4, "{history}");
}

#[tokio::test]
async fn a_failing_revision_stops_and_undo_repairs_it() {
    let rolling = "strategy: Rolling, maxUnavailable: 1";
    let hangar = Hangar::all_ready(&template("blue", rolling, "/healthz")).await;
    hangar.apply(&template("red", rolling, "/nowhere")).await.good();
    let failed = hangar.cli(&["rollout", "status", "template/node", "--timeout=60s"]).await;
    assert_eq!(failed.code, 1, "{failed:?}");
    for part in ["error: revision 2 of template \"node\" fails", "rollout undo template/node"] {
        assert!(failed.stderr.contains(part), "no {part} in {failed:?}");
    }
    assert_eq!(hangar.colored("blue").await.len(), 3, "the rest stays as it was");
    let described = hangar.run("describe template/node").await;
    let told = |it: &str| it.contains("Warning") && it.contains("RevisionFailing");
    assert!(described.lines().any(told), "{described}");
    // Whoever comes now gets what works.
    hangar.apply(&manifest::environment("erin", "node", "")).await.good();
    hangar.phase("erin", "Ready").await;
    assert_eq!(hangar.color("erin").await, "blue");
    // What stays on the old revision is repaired by the old revision.
    let bob = hangar.object("environment/bob").await["status"]["bay"].take();
    let old_machine = bob["machine"].as_str().unwrap().to_owned();
    let app = bob["app"].as_str().unwrap();
    hangar.fly().delete(&format!("/v1/apps/{app}/machines/{old_machine}?force=true")).await;
    until("another machine of bob's", PATIENCE, async || {
        let status = hangar.object("environment/bob").await["status"].take();
        let there = status["bay"]["machine"] != old_machine.as_str() && status["phase"] == "Ready";
        if there { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    assert_eq!(hangar.color("bob").await, "blue");

    assert_eq!(
        hangar.run("rollout undo template/node").await,
        "template.hangar.dev/node rolled back\n"
    );
    hangar.run("rollout status template/node --timeout=60s").await;
    assert_eq!(hangar.colored("blue").await.len(), 4);
    let status = hangar.object("template/node").await["status"].take();
    assert_eq!((&status["revision"], &status["stopped"]), (&3.into(), &Value::Null));
}

#[tokio::test]
async fn manual_and_paused_templates_wait_for_a_persons_word() {
    let hangar = Hangar::all_ready(&template("blue", "strategy: Manual", "/healthz")).await;
    hangar.apply(&template("green", "strategy: Manual", "/healthz")).await.good();
    hangar.told("Complete", "False", "AwaitingOrder").await;
    let paused = template("green", "strategy: Manual, paused: true", "/healthz");
    let planned = hangar.plan(&paused, &[]).await;
    assert!(planned.contains("calls to Fly once a person says so: 4"), "{planned}");
    hangar.run("rollout resume env/carol").await;
    until("carol to follow", PATIENCE, async || {
        let green = hangar.colored("green").await;
        if green == BTreeSet::from(["carol"]) { Ok(()) } else { Err(format!("{green:?}")) }
    })
    .await;
    hangar.run("rollout resume template/node").await;
    hangar.run("rollout status template/node --timeout=60s").await;
    assert_eq!(hangar.colored("green").await.len(), 4);
    let again = hangar.cli(&["rollout", "resume", "template/node"]).await;
    assert!(again.code == 1 && again.stderr.contains("is not paused"), "{again:?}");

    hangar.run("rollout pause template/node").await;
    let rolling = "strategy: Rolling, paused: true";
    hangar.apply(&template("red", rolling, "/healthz")).await.good();
    hangar.told("Complete", "False", "Paused").await;
    assert_eq!(hangar.colored("green").await.len(), 4);
    hangar.run("rollout resume template/node").await;
    hangar.run("rollout status template/node --timeout=60s").await;
    assert_eq!(hangar.colored("red").await.len(), 4);
}

#[tokio::test]
async fn in_its_window_a_template_reaches_those_that_do_not_sleep_yet() {
    let now = jiff::Timestamp::now();
    let window = |hours: i64| {
        let start = (now + jiff::SignedDuration::from_hours(hours)).strftime("%H:%M").to_string();
        format!("strategy: WhenAsleep, window: {{start: \"{start}\", duration: 2h}}")
    };
    let sleeping = |color: &str, strategy: &str| {
        template(color, strategy, "/healthz") + "  sleep: {after: 1h}\n"
    };
    let hangar = Hangar::all_ready(&sleeping("blue", "strategy: WhenAsleep")).await;
    hangar.apply(&sleeping("red", &window(2))).await.good();
    hangar.told("Progressing", "True", "WaitingForSleep").await;
    assert_eq!(hangar.colored("blue").await.len(), 4);
    let planned = hangar.plan(&sleeping("red", &window(-1)), &[]).await;
    let calls = "calls to Fly: 4, of which restart a running machine: 4";
    assert!(planned.contains(calls) && planned.contains("as one of the first"), "{planned}");
    hangar.apply(&sleeping("red", &window(-1))).await.good();
    hangar.run("rollout status template/node --timeout=60s").await;
    assert_eq!(hangar.colored("red").await.len(), 4);
}
