//! The program against the real API over a store in memory: what one verb writes, the others read.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use hangar::{
    api::{
        environment::{Environment, Phase},
        hold::HoldReason,
        kind::Kind,
        meta::ObjectRef,
    },
    chance,
    client::{Client, Query, WatchEvent},
    clock::{Clock as _, System},
    reconcile::holds,
    server::{self, Access, Config, Parts, Readiness, Server, audit::Audit},
    store::{backup::Backups, crypt::Cipher, handle::Store, memory::Memory},
    tasks,
    telemetry::{Journal, Line, Metrics, Outcome},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

struct Api {
    address: String,
    store: Store,
    journal: Journal,
    client: Client,
    _trigger: tasks::Trigger,
    /// For exports.
    _dir: tempfile::TempDir,
}

impl Api {
    async fn start() -> Self {
        let backend = Arc::new(Memory::new());
        let store = Store::new(backend, Cipher::ephemeral().unwrap(), &["secrets/"]);
        let clock = System::shared();
        server::bootstrap(&store, &*clock, &chance::System).await.unwrap();
        let journal = Journal::in_memory();
        let dir = tempfile::tempdir().unwrap();
        let parts = Parts {
            store: store.clone(),
            clock,
            chance: chance::System::shared(),
            journal: journal.clone(),
            metrics: Metrics::new(),
            readiness: Readiness::default(),
            backups: Backups::in_dir(dir.path()),
            reach: Arc::new(server::reach::Nowhere),
        };
        let config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            access: Access::Open,
            audit: Audit::off(),
        };
        let server = Server::bind(config, parts).await.unwrap();
        let address = format!("http://{}", server.address());
        let (trigger, shutdown) = tasks::shutdown();
        tasks::detached(async move { server.serve(shutdown).await.unwrap() });
        let client = Client::new(&address, None).unwrap();
        Self { address, store, journal, client, _trigger: trigger, _dir: dir }
    }

    fn spawn(&self, line: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_hangar"))
            .args(line.split_whitespace())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .env_clear()
            .env("HANGAR_SERVER", &self.address)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Exit code and both outputs.
    async fn run(&self, line: &str) -> (i32, String) {
        let output = self.spawn(line).wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    async fn check(&self, line: &str, code: i32, text: &str) {
        assert_eq!(self.run(line).await, (code, text.to_owned()), "{line}");
    }
}

const APPLIED: [&str; 5] = [
    "secret/alice-keys",
    "template.hangar.dev/scratch",
    "template.hangar.dev/workspace",
    "environment.hangar.dev/alice",
    "environment.hangar.dev/bob",
];

fn each(did: &str) -> String {
    APPLIED.map(|it| format!("{it} {did}\n")).concat()
}

#[tokio::test]
async fn the_shipped_manifests_are_applied_once() {
    let api = Api::start().await;
    let dry = api.run("apply -f manifests --dry-run=client").await;
    assert_eq!(dry, (0, each("valid (client dry run)")), "client");
    let (code, text) = api.run("apply -f manifests --dry-run").await;
    assert_eq!(code, 0, "{text}");
    assert_eq!(api.run("get env -o name").await.1, "", "a dry run makes nothing");
    let (code, text) = api.run("apply -f manifests").await;
    assert_eq!(code, 0, "{text}");
    api.check("apply -f manifests", 0, &each("unchanged")).await;
    api.check("get env -o name", 0, "environment.hangar.dev/alice\nenvironment.hangar.dev/bob\n")
        .await;
    api.check("get env -l team=b -o name", 0, "environment.hangar.dev/bob\n").await;
    let (_, yaml) = api.run("get secret/alice-keys -o yaml").await;
    assert!(!yaml.contains("not-a-real-key"), "{yaml}");
    let (code, text) = api.run("describe env/alice").await;
    assert!(code == 0 && text.contains("Bay:          none yet"), "{text}");
}

#[tokio::test]
async fn deletion_is_waited_for() {
    let api = Api::start().await;
    api.run("apply -f manifests/scratch.yaml -f manifests/bob.yaml").await;
    let object = ObjectRef::new(Kind::Environment, "default", "bob");
    let waiting = api.spawn("wait env/bob --for=delete");
    let mut deleting = api.spawn("delete env bob");
    let mut lines = BufReader::new(deleting.stderr.take().unwrap()).lines();
    assert_eq!(
        lines.next_line().await.unwrap().as_deref(),
        Some("waiting until environment.hangar.dev/bob is gone")
    );
    let patch = serde_json::json!({"metadata": {"finalizers": null}});
    api.client.merge_patch::<serde_json::Value>(&object, &patch, false).await.unwrap();
    assert!(deleting.wait().await.unwrap().success());
    let waited = waiting.wait_with_output().await.unwrap();
    // Where it began after the end, it says nothing, as kubectl.
    let said = String::from_utf8(waited.stdout).unwrap();
    assert!(waited.status.success(), "{said}");
    assert!(said.is_empty() || said == "environment.hangar.dev/bob condition met\n", "{said}");
    let (code, text) = api.run("get env bob").await;
    assert!(code == 1 && text.contains("not found"), "{text}");
}

#[tokio::test]
async fn a_watch_shows_changes_and_a_wait_ends_with_the_condition() {
    let api = Api::start().await;
    api.run("apply -f manifests/scratch.yaml -f manifests/bob.yaml").await;
    let mut watching = api.spawn("get env -w");
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("NAME   PHASE"));
    assert!(lines.next_line().await.unwrap().unwrap().starts_with("bob    Pending"));
    let waiting = api.spawn("wait env/bob --for=condition=Ready --timeout=20s");

    let object = ObjectRef::new(Kind::Environment, "default", "bob");
    let mut bob: Environment = api.client.get(&object).await.unwrap();
    bob.status.phase = Phase::Ready;
    bob.status.observed_generation = bob.metadata.generation;
    bob.status.conditions = serde_json::from_value(serde_json::json!([{
        "type": "Ready", "status": "True", "reason": "Serving", "message": "",
        "lastTransitionTime": System::new().now(),
    }]))
    .unwrap();
    api.client.update_status(&object, &bob).await.unwrap();

    assert!(lines.next_line().await.unwrap().unwrap().starts_with("bob    Ready"));
    let waited = waiting.wait_with_output().await.unwrap();
    assert_eq!(waited.stdout, b"environment.hangar.dev/bob condition met\n");
    api.check(
        "apply -f manifests/bob.yaml --wait",
        0,
        "environment.hangar.dev/bob unchanged\nenvironment.hangar.dev/bob ready\n",
    )
    .await;
}

#[tokio::test]
async fn the_typed_client_lists_and_watches() {
    let api = Api::start().await;
    api.run("apply -f manifests/scratch.yaml -f manifests/bob.yaml").await;
    let all = Query::default();
    let (kind, namespace) = (Kind::Environment, Some("default"));
    let list = api.client.list::<Environment>(kind, namespace, &all).await.unwrap();
    assert_eq!(list.items.len(), 1);
    let after = Some(list.metadata.resource_version.as_str());
    let mut changes = api.client.watch::<Environment>(kind, namespace, &all, after).await.unwrap();
    let object = ObjectRef::new(kind, "default", "bob");
    let patch = serde_json::json!({"spec": {"owner": "carol@example.com"}});
    api.client.merge_patch::<Environment>(&object, &patch, false).await.unwrap();
    loop {
        match changes.next().await.unwrap().unwrap() {
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Modified(bob) => {
                assert_eq!(bob.spec.owner.as_deref(), Some("carol@example.com"));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // `apply` puts right what it declared.
    api.check("apply -f manifests/bob.yaml", 0, "environment.hangar.dev/bob configured\n").await;
}

#[tokio::test]
async fn logs_are_followed() {
    let api = Api::start().await;
    let line = |object: &str| Line {
        at: System::new().now(),
        object: object.to_owned(),
        action: "create-app".to_owned(),
        outcome: Outcome::Ok,
        duration_ms: None,
        message: "made".to_owned(),
        request_id: None,
    };
    api.journal.record(line("env/alice"));
    let mut following = api.spawn("logs -f env/alice");
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.ends_with("env/alice  create-app  ok  made"), "{first}");
    api.journal.record(line("env/bob"));
    api.journal.record(line("env/alice"));
    let second = tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await.unwrap();
    assert!(second.unwrap().unwrap().contains("env/alice"));
}

#[tokio::test]
async fn a_plan_names_the_calls_before_anything_happens() {
    let api = Api::start().await;
    let (code, text) = api.run("plan -f manifests").await;
    assert_eq!(code, 2, "{text}");
    for line in
        ["+ env/alice create", "> create-app app hgr-(new)", "> create-volume", "> create-machine"]
    {
        assert!(text.contains(line), "{line} is missing from\n{text}");
    }
    assert!(!text.contains("c2VjcmV0"), "{text}");
    let drawn = (System::new().now(), &chance::System as &dyn chance::Chance);
    holds::raise(&api.store, HoldReason::MassAbsence, "many machines are missing", drawn)
        .await
        .unwrap();
    let (_, held) = api.run("plan -f manifests").await;
    let why = "create-app is held back: many machines are missing; `hangar resume` lifts this";
    assert!(held.contains(why) && !held.contains("> create-app"), "{held}");
    assert_eq!(
        api.client
            .list::<Environment>(Kind::Environment, None, &Query::default())
            .await
            .unwrap()
            .items,
        []
    );
    assert_eq!(api.run("apply -f manifests/scratch.yaml").await.0, 0);
    api.check(
        "plan -f manifests/scratch.yaml",
        0,
        "  tmpl/scratch unchanged\nnothing would change (1 looked at)\n",
    )
    .await;
}
