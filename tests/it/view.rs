//! What people see: tables, descriptions, events, logs, waiting.

use std::path::Path;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::harness::Hangar;
use crate::manifest;

#[tokio::test]
async fn get_prints_what_is_asked_for_in_the_form_that_is_asked_for() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let hangar = Hangar::up_with(&manifests).await;
    let table = hangar.run("get env").await;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = table.lines().map(words).collect();
    assert_eq!(rows[0][..2], ["NAME", "PHASE"], "{table}");
    assert_eq!((&*rows[1][0], &*rows[2][0], rows.len()), ("alice", "bob", 3), "{table}");
    assert!(table.contains("http://alice.dev.localhost:"), "{table}");
    let wide = hangar.run("get env -o wide").await;
    let machine = hangar.page("alice").await["machine"].as_str().unwrap().to_owned();
    assert!(wide.contains(&machine) && wide.contains(" MACHINE "), "{wide}");
    assert_eq!(hangar.run("get env -l team=a -o name").await, "environment.hangar.dev/alice\n");
    assert_eq!(hangar.run("get env -l team!=a -o name").await, "environment.hangar.dev/bob\n");
    let all = hangar.run("get env -A").await;
    assert!(all.starts_with("NAMESPACE") && all.contains("default"), "{all}");
    let yaml = hangar.run("get env alice -o yaml").await;
    assert!(yaml.contains("kind: Environment\n") && yaml.contains("phase: Ready\n"), "{yaml}");
    assert_eq!(hangar.object("environment/alice").await["kind"], "Environment");
    let nobody = hangar.cli(&["get", "env", "nobody"]).await;
    assert_eq!((nobody.code, &*nobody.stdout), (1, ""));
    assert!(nobody.stderr.contains("\"nobody\" not found"), "{nobody:?}");
    let several = hangar.run("get bays,templates").await;
    assert!(several.contains("workspace") && several.contains("hgr-"), "{several}");
}

#[tokio::test]
async fn a_watch_follows_an_environment_from_pending_to_ready() {
    let hangar = Hangar::empty().await;
    let mut watching = hangar.spawn(&["get", "env", "-w"]);
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert_eq!(hangar.apply(&manifest::one("alice")).await.code, 0);
    let mut seen = Vec::new();
    while seen.last().is_none_or(|it: &String| !it.contains(" Ready ")) {
        let next = tokio::time::timeout(crate::harness::PATIENCE, lines.next_line()).await;
        seen.push(next.unwrap().unwrap().unwrap());
    }
    assert!(
        seen[0].starts_with("NAME") && seen.iter().any(|it| it.contains("Pending")),
        "{seen:#?}"
    );
    let waited = hangar.run("wait env/alice --for=condition=Ready --timeout=10s").await;
    assert_eq!(waited, "environment.hangar.dev/alice condition met\n");
    let never = ["wait", "env/alice", "--for=condition=Stalled", "--timeout=1s"];
    let never = hangar.cli(&never).await;
    assert!(never.code == 1 && never.stderr.contains("environments/alice"), "{never:?}");
}

#[tokio::test]
async fn describe_events_and_logs_tell_what_happened_and_why() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    let page = hangar.run("describe env alice").await;
    for part in ["Phase:        Ready", "Conditions:", "Serving", "Events:"] {
        assert!(page.contains(part), "no {part} in:\n{page}");
    }
    let conditions = page.lines().filter(|it| it.contains("AsDeclared")).count();
    assert!(conditions >= 3 && page.contains("SINCE"), "{page}");

    let events = hangar.run("events --for env/alice").await;
    assert!(events.contains("CreatingMachine") || events.contains("Created"), "{events}");

    let logs = hangar.run("logs").await;
    let logged = hangar.run("logs env/alice --json").await;
    let lines: Vec<Value> =
        logged.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().all(|it| it["object"] == "env/alice"), "{logged}");
    let actions: Vec<_> = lines.iter().map(|it| it["action"].as_str().unwrap()).collect();
    for action in ["create-app", "create-volume", "create-machine"] {
        assert!(actions.contains(&action), "no {action} in {actions:?}");
        assert!(logs.contains(action), "{logs}");
    }
    for call in
        ["fly POST /v1/apps", "fly POST /v1/apps/{app}/volumes", "fly POST /v1/apps/{app}/machines"]
    {
        assert!(actions.contains(&call), "no {call} in {actions:?}");
    }
    assert!(
        lines
            .iter()
            .filter(|it| it["action"].as_str().unwrap().starts_with("fly "))
            .all(|it| it["requestId"].is_string())
    );
}
