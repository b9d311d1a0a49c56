//! The program against a server that answers from a script: exit codes, what is sent, what is said.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    collections::BTreeMap,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use hangar::{net, tasks};
use http::{Request, Response, header::ACCEPT};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

const ENVIRONMENTS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";
const ENVIRONMENT: &str = "apiVersion: hangar.dev/v1alpha1\nkind: Environment\n";
const ALICE: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments/alice";

/// A server's answers by request: `GET /path`, `TABLE /path`, `WATCH /path`. The last answer of several is given again.
#[derive(Default)]
struct Script {
    answers: BTreeMap<String, Vec<(u16, String)>>,
    requests: Vec<(String, Value)>,
}

struct Server {
    script: Arc<Mutex<Script>>,
    address: String,
    _trigger: tasks::Trigger,
}

/// What the program did.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Server {
    async fn start() -> Self {
        let listener = net::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let (trigger, shutdown) = tasks::shutdown();
        let answers = Arc::clone(&script);
        tasks::detached(async move {
            let handle = move |request, _| answer(Arc::clone(&answers), request);
            let drain = Duration::ZERO;
            net::serve(listener, net::Limits::default(), drain, shutdown, handle).await.unwrap();
        });
        Self { script, address, _trigger: trigger }
    }

    fn on(&self, request: &str, code: u16, body: impl ToString) -> &Self {
        let mut script = self.script.lock().unwrap();
        script.answers.entry(request.to_owned()).or_default().push((code, body.to_string()));
        self
    }

    async fn run(&self, line: &str, stdin: &str) -> Ran {
        run(&self.address, line, stdin).await
    }

    /// Requests that change something, with their bodies.
    fn writes(&self) -> Vec<(String, Value)> {
        let script = self.script.lock().unwrap();
        let reads = |it: &&(String, Value)| {
            !["GET", "TABLE", "WATCH"].iter().any(|verb| it.0.starts_with(verb))
        };
        script.requests.iter().filter(reads).cloned().collect()
    }
}

async fn answer(script: Arc<Mutex<Script>>, request: Request<Incoming>) -> Response<net::Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let accept = request.headers().get(ACCEPT).map(|it| it.to_str().unwrap().to_owned());
    let verb = if query.contains("watch=true") {
        "WATCH".to_owned()
    } else if accept.is_some_and(|it| it.contains("as=Table")) {
        "TABLE".to_owned()
    } else {
        request.method().to_string()
    };
    let key = format!("{verb} {}", request.uri().path());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut script = script.lock().unwrap();
    let sent = serde_json::from_slice(&body).unwrap_or_default();
    let noted = if query.contains("dryRun=All") { format!("{key} dry") } else { key.clone() };
    script.requests.push((noted, sent));
    let (code, text) = match script.answers.get_mut(&key) {
        Some(answers) if answers.len() > 1 => answers.remove(0),
        Some(answers) => answers[0].clone(),
        None => (404, status(404, "NotFound", &format!("{key} is not scripted")).to_string()),
    };
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

async fn run(server: &str, line: &str, stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(line.split_whitespace())
        .env_clear()
        .env("HANGAR_SERVER", server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code})
}

fn alice(spec: &Value) -> Value {
    json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": "alice", "namespace": "default", "uid": "u1", "resourceVersion": "7", "generation": 1},
        "spec": spec,
    })
}

fn with_ready(status: &str) -> Value {
    let mut object = alice(&json!({"templateRef": {"name": "t"}}));
    object["status"] = json!({"observedGeneration": 1, "conditions": [
        {"type": "Ready", "status": status, "reason": "NotReadyYet", "message": "not yet"}]});
    object
}

fn list(items: &[Value]) -> Value {
    json!({"kind": "EnvironmentList", "metadata": {"resourceVersion": "9"}, "items": items})
}

fn table(rows: &[[&str; 3]]) -> Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|cells| json!({"cells": cells, "object": {"metadata": {"name": cells[0], "namespace": "default"}}}))
        .collect();
    json!({
        "kind": "Table",
        "metadata": {"resourceVersion": "9"},
        "columnDefinitions": [{"name": "Name"}, {"name": "Phase"}, {"name": "Bay", "priority": 1}],
        "rows": rows,
    })
}

const MANIFEST: &str = "\
apiVersion: hangar.dev/v1alpha1
kind: Environment
metadata:
  name: alice
spec:
  templateRef: {name: t}
  owner: a@example.com
";

#[tokio::test]
async fn apply_makes_what_is_not_there_and_remembers_what_was_applied() {
    let server = Server::start().await;
    server.on(&format!("GET {ALICE}"), 404, status(404, "NotFound", "not found"));
    server.on(&format!("POST {ENVIRONMENTS}"), 201, alice(&json!({})));
    let ran = server.run("apply -f -", MANIFEST).await;
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "environment.hangar.dev/alice created\n", "")
    );
    let (_, sent) = server.writes().remove(0);
    assert_eq!(sent["spec"], json!({"templateRef": {"name": "t"}, "owner": "a@example.com"}));
    let remembered =
        &sent["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert!(remembered.as_str().unwrap().contains("\"owner\":\"a@example.com\""));
}

#[tokio::test]
async fn apply_sends_only_what_changed_and_nothing_when_nothing_did() {
    let server = Server::start().await;
    server.on(&format!("GET {ALICE}"), 404, status(404, "NotFound", "not found"));
    server.on(&format!("POST {ENVIRONMENTS}"), 201, alice(&json!({})));
    server.run("apply -f -", MANIFEST).await;
    let (_, mut stored) = server.writes().remove(0);
    stored["spec"]["access"] = json!("Private");

    let server = Server::start().await;
    server.on(&format!("GET {ALICE}"), 200, &stored);
    let mut patched = stored.clone();
    patched["spec"] = json!({"templateRef": {"name": "t"}, "operatingMode": "Running"});
    server.on(&format!("PATCH {ALICE}"), 200, &patched).on(&format!("PATCH {ALICE}"), 200, &stored);
    let ran = server.run("apply -f -", MANIFEST).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "environment.hangar.dev/alice unchanged\n"));
    assert_eq!(server.writes(), []);

    let changed = MANIFEST.replace("  owner: a@example.com\n", "  operatingMode: Running\n");
    let ran = server.run("apply -f - --dry-run", &changed).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "environment.hangar.dev/alice configured (server dry run)\n")
    );
    let ran = server.run("apply -f -", &changed).await;
    let why = "what the server makes the same again was no change";
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "environment.hangar.dev/alice unchanged\n"),
        "{why}"
    );
    let (request, patch) = server.writes().remove(0);
    assert_eq!(request, format!("PATCH {ALICE} dry"));
    assert_eq!(patch["spec"], json!({"operatingMode": "Running", "owner": null}));
}

#[tokio::test]
async fn apply_sends_nothing_of_a_file_with_anything_wrong() {
    let server = Server::start().await;
    let wrong = format!("{MANIFEST}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: x}}\n");
    let ran = server.run("apply -f -", &wrong).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with("error: stdin:10: document 2: kind: `Pod`"), "{}", ran.err);
    assert_eq!(server.writes(), []);

    let ran = server.run("apply -f -", "a: 1\na: 2\n").await;
    let expected = "error: stdin:2: document 1: `a` is there twice, first on line 1\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
}

#[tokio::test]
async fn a_servers_refusal_is_told_at_the_line_of_the_field() {
    let server = Server::start().await;
    let mut refusal = status(422, "Invalid", "Environment is invalid");
    refusal["details"] = json!({"causes": [
        {"reason": "FieldValueInvalid", "field": "spec.owner", "message": "has no such owner"}]});
    server.on(&format!("GET {ALICE}"), 404, status(404, "NotFound", "not found"));
    server.on(&format!("POST {ENVIRONMENTS}"), 422, refusal);
    let ran = server.run("apply -f -", MANIFEST).await;
    let expected = "error: stdin:7: document 1: spec.owner: has no such owner\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
}

#[tokio::test]
async fn of_a_file_that_the_server_would_not_take_whole_nothing_is_sent() {
    let server = Server::start().await;
    let bob = ALICE.replace("alice", "bob");
    for path in [ALICE, &bob] {
        server.on(&format!("GET {path}"), 404, status(404, "NotFound", "not found"));
    }
    server.on(&format!("POST {ENVIRONMENTS}"), 200, alice(&json!({})));
    server.on(&format!("POST {ENVIRONMENTS}"), 409, status(409, "Conflict", "it is taken"));
    let ran = server
        .run("apply -f -", &format!("{MANIFEST}---\n{}", MANIFEST.replace("alice", "bob")))
        .await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("environment.hangar.dev/bob: it is taken"), "{}", ran.err);
    let requests: Vec<_> = server.writes().into_iter().map(|it| it.0).collect();
    let asked = format!("POST {ENVIRONMENTS} dry");
    assert_eq!(requests, [asked.clone(), asked]);
}

#[tokio::test]
async fn what_was_typed_wrong_ends_with_code_2() {
    for line in [
        "delete env",
        "wait env --for=delete",
        "logs alice",
        "router --from nonsense",
        "serve --org acme",
        "-n team-a up",
        "schema --server http://127.0.0.1:1",
        "sim -n team-a",
    ] {
        let ran = run("http://127.0.0.1:1", line, "").await;
        assert!(ran.code == 2 && ran.err.contains("\nhint: "), "{line}: {} {}", ran.code, ran.err);
    }
}

#[tokio::test]
async fn files_that_are_missing_or_empty_say_so() {
    let ran = run("http://127.0.0.1:1", "apply -f no-such-file.yaml", "").await;
    assert!(ran.code == 1 && ran.err.contains("\nhint: -f takes a file, "), "{}", ran.err);
    let ran = run("http://127.0.0.1:1", "apply -f -", "# nothing\n").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "error: no objects passed to apply\n"));
}

#[tokio::test]
async fn logs_of_what_is_not_there_fail_unless_there_are_lines() {
    let server = Server::start().await;
    server.on(&format!("GET {ALICE}"), 404, status(404, "NotFound", "no alice"));
    server.on("GET /logs", 200, "").on("GET /logs", 200, json!({"seen": "once"}));
    let ran = server.run("logs env/alice", "").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with("Error from server (NotFound): no alice"), "{}", ran.err);
    assert_eq!(server.run("logs env/alice", "").await.code, 0);
}

#[tokio::test]
async fn a_description_shows_no_events_of_an_earlier_object_of_the_name() {
    let server = Server::start().await;
    let mut object = alice(&json!({}));
    object["metadata"]["uid"] = json!("new");
    server.on(&format!("GET {ALICE}"), 200, object);
    let event = |uid: &str| {
        json!({"metadata": {"name": uid}, "reason": format!("Of-{uid}"),
            "involvedObject": {"kind": "Environment", "name": "alice", "uid": uid}})
    };
    server.on("GET /api/v1/namespaces/default/events", 200, list(&[event("old"), event("new")]));
    let page = server.run("describe env alice", "").await.out;
    assert!(page.contains("Of-new") && !page.contains("Of-old"), "{page}");
}

#[tokio::test]
async fn without_a_server_there_is_a_hint() {
    let ran = run("http://127.0.0.1:1", "get env", "").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let mut lines = ran.err.lines();
    assert!(
        lines.next().unwrap().starts_with("error: cannot reach the server at http://127.0.0.1:1: ")
    );
    assert!(lines.next().unwrap().starts_with("hint: is `hangar up` or `hangar serve` running?"));
    assert_eq!(run("here", "get env", "").await.code, 1);
    assert_eq!(run("http://127.0.0.1:1", "get", "").await.code, 2);
}

#[tokio::test]
async fn get_prints_the_servers_table() {
    let server = Server::start().await;
    let rows = [["alice", "Ready", "bay-1"], ["bob", "Provisioning", ""]];
    server.on(&format!("TABLE {ENVIRONMENTS}"), 200, table(&rows));
    server.on("TABLE /apis/hangar.dev/v1alpha1/environments", 200, table(&rows));
    let expected = "NAME    PHASE\nalice   Ready\nbob     Provisioning\n";
    assert_eq!(server.run("get env", "").await.out, expected);
    let expected = "\
NAMESPACE   NAME    PHASE          BAY
default     alice   Ready          bay-1
default     bob     Provisioning
";
    assert_eq!(server.run("get env -A -o wide", "").await.out, expected);
}

#[tokio::test]
async fn get_of_nothing_is_no_failure_and_of_a_missing_name_is() {
    let server = Server::start().await;
    server.on(&format!("TABLE {ENVIRONMENTS}"), 200, table(&[]));
    let ran = server.run("get env", "").await;
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (0, "", "No resources found in default namespace.\n")
    );
    // Holds are in no namespace.
    server.on("TABLE /apis/hangar.dev/v1alpha1/holds", 200, table(&[]));
    for (line, said) in [
        ("get holds", "No resources found\n"),
        ("get holds,env", "No resources found in default namespace.\n"),
        ("get holds -n team", "No resources found\n"),
    ] {
        assert_eq!(server.run(line, "").await.err, said, "{line}");
    }
    let mut missing = status(404, "NotFound", "environments \"alice\" not found");
    missing["details"] = json!({"name": "alice", "kind": "environments"});
    server.on(&format!("TABLE {ALICE}"), 404, missing);
    let ran = server.run("get env/alice", "").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let expected = "Error from server (NotFound): environments \"alice\" not found\nhint: ";
    assert!(ran.err.starts_with(expected), "{}", ran.err);
    let ran = server.run("get nodes", "").await;
    assert!(
        ran.code == 1 && ran.err.contains("hint: the kinds are namespaces (ns), "),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn get_prints_whole_objects() {
    let server = Server::start().await;
    let object = alice(&json!({"owner": "a"}));
    server.on(&format!("GET {ALICE}"), 200, &object);
    server.on(&format!("GET {ENVIRONMENTS}"), 200, list(std::slice::from_ref(&object)));
    let yaml = server.run("get env alice -o yaml", "").await.out;
    assert_eq!(serde_yaml::from_str::<Value>(&yaml).unwrap(), object);
    let many: Value = serde_json::from_str(&server.run("get env -o json", "").await.out).unwrap();
    assert_eq!((&many["kind"], &many["items"][0]), (&json!("List"), &object));
    assert_eq!(server.run("get env -o name", "").await.out, "environment.hangar.dev/alice\n");
}

#[tokio::test]
async fn delete_waits_until_the_object_is_gone() {
    let server = Server::start().await;
    let object = alice(&json!({}));
    server.on(&format!("DELETE {ALICE}"), 200, &object);
    server.on(&format!("GET {ENVIRONMENTS}"), 200, list(std::slice::from_ref(&object)));
    let gone = json!({"type": "DELETED", "object": object});
    server.on(&format!("WATCH {ENVIRONMENTS}"), 200, format!("{gone}\n"));
    let ran = server.run("delete env alice", "").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "environment.hangar.dev \"alice\" deleted\n"));
    assert_eq!(ran.err, "waiting until environment.hangar.dev/alice is gone\n");
    let ran = server.run("delete env alice --timeout=300ms --wait=false", "").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let ran = server.run("delete env bob", "").await;
    assert_eq!(ran.code, 1);
    assert_eq!(server.run("delete env bob --ignore-not-found", "").await.code, 0);
    assert_eq!(server.run("delete env", "").await.code, 2);
}

/// `?` and `.` in the place of a name would make the path that of all environments.
#[tokio::test]
async fn what_is_no_name_deletes_nothing() {
    let server = Server::start().await;
    for path in [ENVIRONMENTS.to_owned(), format!("{ENVIRONMENTS}/")] {
        server.on(&format!("DELETE {path}"), 200, list(&[]));
    }
    for name in ["?", ".", "..", "#", "?x"] {
        let manifest = format!("{ENVIRONMENT}metadata: {{name: {name:?}}}\n");
        for (line, stdin) in [
            (format!("delete env {name} --wait=false"), ""),
            (format!("delete env/{name} --wait=false"), ""),
            ("delete -f - --wait=false".to_owned(), manifest.as_str()),
        ] {
            let ran = server.run(&line, stdin).await;
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line}");
            assert!(ran.err.contains(&format!("{name:?} is not a name")), "{line}: {}", ran.err);
        }
    }
    assert_eq!(server.writes(), []);
}

#[tokio::test]
async fn wait_follows_changes_until_the_condition_is_met() {
    let server = Server::start().await;
    server.on(&format!("GET {ENVIRONMENTS}"), 200, list(&[with_ready("False")]));
    let change = json!({"type": "MODIFIED", "object": with_ready("True")});
    server.on(&format!("WATCH {ENVIRONMENTS}"), 200, format!("{change}\n"));
    let ran = server.run("wait env/alice --for=condition=Ready", "").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "environment.hangar.dev/alice condition met\n"));
}

#[tokio::test]
async fn wait_says_what_was_missing_when_time_is_up() {
    let server = Server::start().await;
    server.on(&format!("GET {ENVIRONMENTS}"), 200, list(&[with_ready("False")]));
    server.on(&format!("WATCH {ENVIRONMENTS}"), 200, "");
    for (timeout, what) in [
        ("0", "condition not met for environments/alice"),
        ("300ms", "timed out waiting for the condition on environments/alice"),
    ] {
        let line = format!("wait env alice --for condition=Ready --timeout {timeout}");
        let ran = server.run(&line, "").await;
        let expected = format!("error: {what}: not Ready (NotReadyYet): not yet\n");
        assert_eq!((ran.code, ran.err), (1, expected));
    }
    let server = Server::start().await;
    server.on(&format!("GET {ENVIRONMENTS}"), 200, list(&[]));
    let ran = server.run("wait env/alice --for=delete", "").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, ""));
    let ran = server.run("wait env/alice --for=condition=Ready", "").await;
    let expected = "Error from server (NotFound): environments.hangar.dev \"alice\" not found\n";
    assert_eq!((ran.code, ran.err.as_str()), (1, expected));
    let ran = server.run("wait env -l team=a --for=condition=Ready", "").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, "error: no matching resources found\n"));
}

#[tokio::test]
async fn logs_are_lines_for_people_or_programs() {
    let server = Server::start().await;
    let line = json!({"at": "2026-01-01T12:03:04.123Z", "object": "env/alice", "action": "create-machine",
        "outcome": "Ok", "message": "in ams"});
    server.on("GET /logs", 200, format!("{line}\n"));
    let ran = server.run("logs env/alice --tail 1", "").await;
    assert_eq!(ran.out, "12:03:04.123 env/alice  create-machine  ok  in ams\n");
    assert_eq!(server.run("logs --json", "").await.out, format!("{line}\n"));
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .arg("schema")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
