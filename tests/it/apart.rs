//! The parts in processes of their own: the stand-in for Fly, the server, a router that follows it. Each dies and comes back
//! alone, and what lies between two of them can be made to lie.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::fly::Fly;
use crate::harness::{Answer, PATIENCE, call, host, until};

const MANIFESTS: &str = "
{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: kept}, spec: {machine: {image: 'hangar.dev/sample-app:1'},
  volume: {mountPath: /data, size: 1Gi}, services: [{name: web, internalPort: 8080}], regions: [ams],
  readiness: {http: {path: /healthz, port: 8080}}, sleep: {after: 1h}, update: {strategy: Rolling}}}
---
{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {name: alice}, spec: {templateRef: {name: kept},
  owner: a@example.com, access: Public, env: {GREETING: GIVEN}}}
";

/// The parts. Their addresses are chosen before they start, since they must stay over restarts.
pub(crate) struct Apart {
    pub(crate) home: tempfile::TempDir,
    fly: String,
    front: String,
    pub(crate) api: String,
    router: String,
    /// What the server is told Fly's address is.
    flaps: String,
    local: Option<Child>,
    server: Option<Child>,
    others: Vec<Child>,
}

impl Apart {
    /// Both, with one environment that is ready.
    pub(crate) async fn new() -> Self {
        let fly = free().await;
        Self::with_flaps(fly.clone(), fly).await
    }

    async fn with_flaps(fly: String, flaps: String) -> Self {
        let mut apart = Self {
            home: tempfile::tempdir().unwrap(),
            fly,
            front: free().await,
            api: free().await,
            router: free().await,
            flaps,
            local: None,
            server: None,
            others: Vec::new(),
        };
        apart.start_local().await;
        apart.start_server().await;
        apart.apply("hello").await;
        apart.phase("Ready").await;
        apart
    }

    async fn start_local(&mut self) {
        let arguments = [
            "--fly-listen",
            &self.fly,
            "--front-listen",
            &self.front,
            "--front-upstream",
            &self.router,
        ];
        self.local = Some(start(self.home.path(), "local", &arguments, &[]).await);
    }

    pub(crate) async fn start_server(&mut self) {
        let url = format!("http://dev.localhost:{}", self.front.rsplit_once(':').unwrap().1);
        let arguments = [
            "--org",
            "personal",
            "--listen",
            &self.api,
            "--router-listen",
            &self.router,
            "--public-url",
            &url,
        ];
        let flaps = format!("http://{}", self.flaps);
        let environment = [("FLY_API_TOKEN", "x"), ("FLY_FLAPS_BASE_URL", flaps.as_str())];
        self.server = Some(start(self.home.path(), "serve", &arguments, &environment).await);
    }

    /// A router of its own.
    pub(crate) async fn start_router(&mut self, listen: &str) {
        let from = format!("http://{}", self.api);
        let arguments = ["--from", &from, "--listen", listen];
        self.others.push(start(self.home.path(), "router", &arguments, &[]).await);
    }

    fn kill_local(&mut self) {
        kill(self.local.take().unwrap());
    }

    pub(crate) fn kill_server(&mut self) {
        kill(self.server.take().unwrap());
    }

    async fn output(&self, arguments: &[&str]) -> std::process::Output {
        tokio::process::Command::new(env!("CARGO_BIN_EXE_hangar"))
            .args(arguments)
            .env_clear()
            .env("HANGAR_SERVER", format!("http://{}", self.api))
            .current_dir(self.home.path())
            .output()
            .await
            .unwrap()
    }

    /// The standard output of a command line that succeeds.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "hangar {}: {said}", arguments.join(" "));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command line says that fails.
    pub(crate) async fn refused(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments).await;
        assert_eq!(output.status.code(), Some(1), "hangar {}", arguments.join(" "));
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) async fn apply(&self, greeting: &str) {
        std::fs::write(self.home.path().join("given.yaml"), MANIFESTS.replace("GIVEN", greeting))
            .unwrap();
        self.cli(&["apply", "-f", "given.yaml"]).await;
    }

    async fn status(&self) -> Value {
        let object = self.cli(&["get", "environment/alice", "-o", "json"]).await;
        serde_json::from_str::<Value>(&object).unwrap()["status"].take()
    }

    pub(crate) async fn phase(&self, phase: &str) {
        until(&format!("the phase {phase}"), PATIENCE, async || {
            let status = self.status().await;
            if status["phase"] == phase { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    pub(crate) fn fly(&self) -> Fly {
        Fly { address: self.fly.clone() }
    }

    /// A page through the front, once there is one.
    pub(crate) async fn page(&self) -> Value {
        until("a page", PATIENCE, async || {
            let request = Request::builder().uri("/?format=json").header("host", host("alice"));
            let answer = call(&self.front, request, Vec::new()).await;
            if answer.status == StatusCode::OK { Ok(answer.json()) } else { Err(answer.text()) }
        })
        .await
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        let parts = [self.local.take(), self.server.take()].into_iter().flatten();
        parts.chain(std::mem::take(&mut self.others)).for_each(kill);
        crate::harness::kill_all(self.home.path());
        if std::thread::panicking() {
            for part in ["local", "serve", "router"] {
                let said = std::fs::read_to_string(self.home.path().join(format!("{part}.err")));
                let log =
                    std::fs::read_to_string(self.home.path().join(part).join("log/hangar.log"));
                eprintln!("--- {part}\n{}{}", said.unwrap_or_default(), log.unwrap_or_default());
            }
        }
    }
}

pub(crate) fn kill(mut child: Child) {
    // It may have ended.
    let _gone = child.kill();
    let _reaped = child.wait();
}

/// What a router says of Alice's host, once that is a replay in which this stands.
pub(crate) async fn replay(router: &str, wanted: &str) -> String {
    until("a replay", PATIENCE, async || {
        let answer = ask(router).await;
        let replay = answer.headers.get("fly-replay").map(|it| it.to_str().unwrap().to_owned());
        match replay {
            Some(replay) if replay.contains(wanted) => Ok(replay),
            other => Err(format!("{} {other:?}", answer.text())),
        }
    })
    .await
}

/// Waits until a router says that Alice is gone.
pub(crate) async fn gone(router: &str) {
    until("that the environment is gone", PATIENCE, async || {
        let answer = ask(router).await;
        if answer.status == StatusCode::GONE { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

async fn ask(router: &str) -> Answer {
    call(router, Request::builder().uri("/").header("host", host("alice")), Vec::new()).await
}

/// An address that nothing listens on now.
pub(crate) async fn free() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Starts a part and waits until it listens.
pub(crate) async fn start(
    home: &Path,
    part: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Child {
    let ready = home.join(format!("{part}.ready"));
    let _none = std::fs::remove_file(&ready);
    let said =
        std::fs::File::options().create(true).append(true).open(home.join(format!("{part}.err")));
    let mut child = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .arg(part)
        .args(arguments)
        .arg("--data-dir")
        .arg(home.join(part))
        .arg("--ready-file")
        .arg(&ready)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(said.as_ref().unwrap().try_clone().unwrap())
        .stderr(said.unwrap())
        .spawn()
        .unwrap();
    until(&format!("hangar {part}"), PATIENCE, async || {
        if let Some(status) = child.try_wait().unwrap() {
            let said =
                std::fs::read_to_string(home.join(format!("{part}.err"))).unwrap_or_default();
            panic!("hangar {part} ended with {status}: {said}");
        }
        if ready.exists() { Ok(()) } else { Err("not ready".to_owned()) }
    })
    .await;
    child
}

#[tokio::test]
async fn server_and_fly_die_and_come_back_alone() {
    let mut apart = Apart::new().await;
    let first = apart.page().await;
    let calls = apart.fly().mutating_calls().await;

    // The machines run on without a server, and a server that comes back has nothing to do.
    apart.kill_server();
    let machines = apart.fly().machines().await;
    assert_eq!((machines.len(), machines[0]["state"].as_str()), (1, Some("started")));
    apart.start_server().await;
    let second = apart.page().await;
    apart.phase("Ready").await;
    assert_eq!(second["visits_since_start"].as_u64(), first["visits"].as_u64().map(|it| it + 1));
    assert_eq!(apart.fly().mutating_calls().await, calls);

    // Without Fly nothing is lost, what is asked for waits, and the status says for what.
    apart.kill_local();
    apart.apply("changed meanwhile").await;
    until("the status to say that Fly does not answer", PATIENCE, async || {
        let status = apart.status().await;
        let text = status.to_string();
        let told = text.contains("connect") && status["phase"] != "Ready";
        if told { Ok(()) } else { Err(text) }
    })
    .await;
    apart.start_local().await;
    let page = until("the change", PATIENCE, async || {
        let page = apart.page().await;
        if page["env"]["GREETING"] == "changed meanwhile" {
            Ok(page)
        } else {
            Err(page.to_string())
        }
    })
    .await;
    apart.phase("Ready").await;
    assert_eq!(
        (&page["machine"], &page["epoch"], &page["visits"]),
        (&first["machine"], &json!("1"), &page["visits"])
    );
    assert!(page["visits"].as_u64() > second["visits"].as_u64());
    assert_eq!((apart.fly().machines().await.len(), apart.fly().volumes().await.len()), (1, 1));
}

#[tokio::test]
async fn a_router_of_its_own_outlives_the_server() {
    let mut apart = Apart::new().await;
    apart.page().await;
    let listen = free().await;
    apart.start_router(&listen).await;
    let first = replay(&listen, "").await;

    // It follows: another machine, another answer.
    let machine = apart.fly().machines().await.remove(0);
    let text = |field: &str| machine[field].as_str().unwrap().to_owned();
    assert!(first.contains(&text("id")), "{first}");
    apart
        .fly()
        .delete(&format!("/v1/apps/{}/machines/{}?force=true", text("app_name"), text("id")))
        .await;
    let page = until("the other machine", PATIENCE, async || {
        let page = apart.page().await;
        if page["machine"] != text("id").as_str() { Ok(page) } else { Err(page.to_string()) }
    })
    .await;
    let second = replay(&listen, page["machine"].as_str().unwrap()).await;

    // And answers from what it knows when there is nobody to follow, even when it has to start.
    apart.kill_server();
    assert_eq!(replay(&listen, "").await, second);
    for mut router in apart.others.drain(..) {
        let pid = Pid::from_raw(i32::try_from(router.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        until("the end of the router", PATIENCE, async || {
            router.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        })
        .await;
    }
    apart.start_router(&listen).await;
    assert_eq!(replay(&listen, "").await, second);

    // It takes up with a server that comes back.
    apart.start_server().await;
    apart.cli(&["delete", "environment/alice"]).await;
    gone(&listen).await;
}

/// What stands between the server and Fly answers truly.
const TRUE: u8 = 0;
/// It leaves everything out of the organisation's lists.
const EMPTY: u8 = 1;
/// It answers those lists, and all reads, with an error.
const FAILING: u8 = 2;

/// Something between the server and Fly.
async fn liar(fly: String, mode: Arc<AtomicU8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    hangar::tasks::detached(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (fly, mode) = (fly.clone(), Arc::clone(&mode));
            let answers = service_fn(move |request| {
                answer(fly.clone(), mode.load(Ordering::SeqCst), request)
            });
            hangar::tasks::detached(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _closed = http.serve_connection(TokioIo::new(stream), answers).await;
            });
        }
    });
    address
}

async fn answer(
    fly: String,
    mode: u8,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let list = request.uri().path().starts_with("/v1/orgs/");
    if mode == FAILING && request.method() == Method::GET {
        let mut failed = Response::new(Full::from("{\"error\":\"unknown: internal error\"}"));
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return Ok(failed);
    }
    if mode == EMPTY && list {
        let empty = json!({"machines": [], "volumes": [], "next_cursor": "", "error_regions": []});
        return Ok(Response::new(Full::from(empty.to_string())));
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(forward(&fly, Request::from_parts(parts, body)).await)
}

/// Fly's own answer.
pub(crate) async fn forward(fly: &str, request: Request<Bytes>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let mut forwarded = Request::builder().method(parts.method).uri(target);
    for (name, value) in &parts.headers {
        forwarded = forwarded.header(name, value);
    }
    let Answer { status, headers, body } = call(fly, forwarded, body.to_vec()).await;
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[tokio::test]
async fn empty_and_failing_lists_neither_make_nor_destroy_anything() {
    let fly = free().await;
    let mode = Arc::new(AtomicU8::new(TRUE));
    let between = liar(fly.clone(), Arc::clone(&mode)).await;
    let mut apart = Apart::with_flaps(fly, between.to_string()).await;
    let first = apart.page().await;
    let calls = apart.fly().mutating_calls().await;
    for lie in [EMPTY, FAILING] {
        mode.store(lie, Ordering::SeqCst);
        // A server that starts into the lie looks at everything at once.
        apart.kill_server();
        apart.start_server().await;
        // There is nothing to wait for: what is tested is that nothing happens, over several lists.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(apart.page().await["machine"], first["machine"], "lie {lie}");
        assert_eq!(apart.fly().mutating_calls().await, calls, "lie {lie}");
    }
    mode.store(TRUE, Ordering::SeqCst);
    apart.phase("Ready").await;
    assert_eq!(apart.page().await["machine"], first["machine"]);
    assert_eq!(apart.fly().mutating_calls().await, calls);
}
