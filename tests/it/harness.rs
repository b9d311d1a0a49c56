//! One `hangar up` of a test, and every way of talking to it. It must never leave a process behind, however the test ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::fly::Fly;
pub(crate) use crate::until::until;

/// Far more than anything takes on a loaded computer; only a fault reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// The domain of `hangar up`.
pub(crate) const DOMAIN: &str = "dev.localhost";

/// A running hangar, or a killed one whose data is still there.
pub(crate) struct Hangar {
    /// Holds the data directory; for manifests and whatever else a test writes.
    pub(crate) home: tempfile::TempDir,
    process: Child,
    /// `host:port` of the API.
    pub(crate) api: String,
    /// `host:port` of the local Machines API.
    pub(crate) fly: String,
    /// `host:port` of the proxy front.
    pub(crate) front: String,
    /// `host:port` of the router.
    pub(crate) router: String,
}

impl Hangar {
    /// Starts it with manifests, given as YAML, and waits until every environment in them is ready.
    pub(crate) async fn up(manifests: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        Self::start(home, Some(&file)).await
    }

    /// Starts it with the manifests of a directory, and waits until every environment in them is ready.
    pub(crate) async fn up_with(directory: &Path) -> Self {
        Self::start(tempfile::tempdir().unwrap(), Some(directory)).await
    }

    /// Starts it with manifests, given as YAML, and waits for nothing.
    pub(crate) fn begin_with(manifests: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("manifests.yaml");
        fs::write(&file, manifests).unwrap();
        Self::begin(home, Some(&file))
    }

    /// Starts it with nothing.
    pub(crate) async fn empty() -> Self {
        Self::start(tempfile::tempdir().unwrap(), None).await
    }

    /// Starts it again on the same data, without manifests: what is desired is in the store. The ports are others.
    pub(crate) async fn again(mut self) -> Self {
        self.kill9();
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        Self::start(home, None).await
    }

    async fn start(home: tempfile::TempDir, manifests: Option<&Path>) -> Self {
        let mut up = Self::begin(home, manifests);
        up.ready().await;
        up
    }

    /// Starts it again as [`Hangar::again`], after a clean end too, and waits for nothing.
    pub(crate) fn begin_again(mut self, manifests: Option<&Path>) -> Self {
        self.kill9();
        let home = std::mem::replace(&mut self.home, tempfile::tempdir().unwrap());
        Self::begin(home, manifests)
    }

    fn begin(home: tempfile::TempDir, manifests: Option<&Path>) -> Self {
        let ready = home.path().join("ready.json");
        let _none = fs::remove_file(&ready);
        let open =
            |name| fs::File::options().create(true).append(true).open(home.path().join(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
        command.env_clear().current_dir(home.path()).stdin(Stdio::null());
        command.stdout(open("out").unwrap()).stderr(open("err").unwrap());
        // Relative, as the default is.
        command.args(["up", "--data-dir", "data"]);
        for option in ["--listen", "--fly-listen", "--front-listen", "--router-listen"] {
            command.args([option, "127.0.0.1:0"]);
        }
        command.arg("--ready-file").arg(&ready);
        if let Some(manifests) = manifests {
            command.arg("-f").arg(manifests);
        }
        Self {
            process: command.spawn().unwrap(),
            home,
            api: String::new(),
            fly: String::new(),
            front: String::new(),
            router: String::new(),
        }
    }

    /// Waits until it has said where its API listens, which it does long before it is ready.
    pub(crate) async fn listening(&mut self) {
        self.api = until("the address of the API", PATIENCE, async || {
            let said = self.said();
            let line = said.lines().filter_map(|it| it.strip_prefix("API ")).next_back();
            let address = line.and_then(|it| it.trim().strip_prefix("http://"));
            address.map(str::to_owned).ok_or(said)
        })
        .await;
    }

    /// Whether it has written its ready file.
    pub(crate) fn is_ready(&self) -> bool {
        self.home.path().join("ready.json").exists()
    }

    pub(crate) async fn ready(&mut self) {
        let waiting = async {
            while !self.is_ready() {
                if let Some(status) = self.process.try_wait().unwrap() {
                    panic!("it ended with {status} before it was ready:\n{}", self.said());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        if tokio::time::timeout(PATIENCE, waiting).await.is_err() {
            panic!("it was not ready within {PATIENCE:?}:\n{}", self.said());
        }
        let addresses: Value =
            serde_json::from_slice(&fs::read(self.home.path().join("ready.json")).unwrap())
                .unwrap();
        let address = |part: &str| addresses[part].as_str().unwrap().to_owned();
        (self.api, self.fly) = (address("api"), address("fly"));
        (self.front, self.router) = (address("front"), address("router"));
    }

    /// What the process wrote, over all its lives.
    pub(crate) fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        format!("--- standard output\n{}--- standard error\n{}", read("out"), read("err"))
    }

    /// Where it keeps everything.
    pub(crate) fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ctrl-C, and its end.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.end_by(Signal::INT).await
    }

    /// A signal that asks it to end, and its end.
    pub(crate) async fn end_by(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended().await
    }

    /// Its end, by itself or because it was asked.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        until("the end of hangar", PATIENCE, async || {
            process.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// `kill -9` of hangar; its machines live on.
    pub(crate) fn kill9(&mut self) {
        // It may have ended.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }

    /// Process ids of everything that runs on the data directory: hangar, shims, machines' programs.
    pub(crate) fn processes(&self) -> Vec<i32> {
        processes(self.home.path())
    }

    /// `kill -9` of machines' programs that have this word in their command line.
    pub(crate) fn kill_programs(&self, word: &str) {
        let has = |pid: &i32, word: &str| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(word)
        };
        for pid in self.processes() {
            if has(&pid, word) && !has(&pid, "machine-shim") && !has(&pid, "--data-dir") {
                // It may have ended by itself.
                let _gone = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
    }

    /// Starts the command line against it.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hangar"));
        command
            .args(arguments)
            .env_clear()
            .env("HANGAR_SERVER", format!("http://{}", self.api))
            .current_dir(self.home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// Runs the command line against it.
    pub(crate) async fn cli(&self, arguments: &[&str]) -> Output {
        let running = self.spawn(arguments).wait_with_output();
        let Ok(output) = tokio::time::timeout(PATIENCE, running).await else {
            panic!("hangar {} did not end within {PATIENCE:?}", arguments.join(" "));
        };
        let output = output.unwrap();
        Output {
            line: arguments.join(" "),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code().unwrap(),
        }
    }

    /// Runs a command line that must succeed, given as one string; returns its standard output.
    pub(crate) async fn run(&self, line: &str) -> String {
        let arguments: Vec<_> = line.split_whitespace().collect();
        self.cli(&arguments).await.good()
    }

    /// Applies manifests, given as YAML.
    pub(crate) async fn apply(&self, manifests: &str) -> Output {
        fs::write(self.home.path().join("edited.yaml"), manifests).unwrap();
        self.cli(&["apply", "-f", "edited.yaml"]).await
    }

    /// An object as it is stored, `environment/alice`; null if there is none.
    pub(crate) async fn object(&self, name: &str) -> Value {
        let output = self.cli(&["get", name, "-o", "json"]).await;
        match output.code {
            0 => serde_json::from_str(&output.stdout).unwrap(),
            _ => Value::Null,
        }
    }

    /// Waits for a phase of an environment.
    pub(crate) async fn phase(&self, environment: &str, phase: &str) {
        let what = format!("{environment} to be {phase}");
        until(&what, PATIENCE, async || {
            let status = self.object(&format!("environment/{environment}")).await["status"].take();
            if status["phase"] == phase { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// `GET` through the proxy front, as a browser that looks for this host.
    pub(crate) async fn http(&self, host: &str, path: &str) -> Answer {
        self.send(Method::GET, host, path, Vec::new()).await
    }

    /// A request through the proxy front.
    pub(crate) async fn send(
        &self,
        method: Method,
        host: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", host);
        call(&self.front, request, body).await
    }

    /// The sample application's page of an environment, as JSON. It counts as a visit.
    pub(crate) async fn page(&self, environment: &str) -> Value {
        let answer = self.http(&host(environment), "/?format=json").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json()
    }

    /// A WebSocket through the proxy front to the sample application's echo.
    pub(crate) async fn web_socket(&self, host: &str) -> WebSocketStream<TcpStream> {
        let stream = TcpStream::connect(&self.front).await.unwrap();
        let opening = client_async(format!("ws://{host}/ws"), stream);
        tokio::time::timeout(PATIENCE, opening).await.unwrap().unwrap().0
    }

    /// The local Machines API, behind hangar's back.
    pub(crate) fn fly(&self) -> Fly {
        Fly { address: self.fly.clone() }
    }

    /// How many requests that may change something the local Machines API has answered.
    pub(crate) async fn mutating_calls(&self) -> u64 {
        self.fly().mutating_calls().await
    }
}

impl Drop for Hangar {
    fn drop(&mut self) {
        self.kill9();
        kill_all(self.home.path());
        if std::thread::panicking() {
            let said = self.said();
            let lines: Vec<_> = said.lines().collect();
            let end = lines[lines.len().saturating_sub(120)..].join("\n");
            eprintln!("{end}");
        }
    }
}

/// Process ids of everything that names this directory in its arguments or variables.
fn processes(home: &Path) -> Vec<i32> {
    let home = home.canonicalize().unwrap().to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
        let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
        // Zombies have neither, and are somebody else's to reap.
        let text = [read("cmdline"), read("environ")].concat();
        if String::from_utf8_lossy(&text).contains(&home) {
            found.push(pid);
        }
    }
    found
}

/// Kills all of them.
pub(crate) fn kill_all(home: &Path) {
    // A shim that is killed first cannot restart its program, but one round may miss what another just started.
    for _ in 0..3 {
        for pid in processes(home) {
            if let Some(pid) = Pid::from_raw(pid) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// The host of an environment that has no hostnames of its own.
pub(crate) fn host(environment: &str) -> String {
    format!("{environment}.{DOMAIN}")
}

/// What a command line printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) line: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Output {
    /// The standard output of what must have succeeded.
    pub(crate) fn good(self) -> String {
        let Self { line, stdout, stderr, code } = &self;
        assert_eq!(*code, 0, "hangar {line}\n{stdout}{stderr}");
        self.stdout
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body, null where there is none.
    pub(crate) fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}

pub(crate) async fn call(address: &str, request: http::request::Builder, body: Vec<u8>) -> Answer {
    let exchange = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let answering = async {
            let response = sender.send_request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes().to_vec();
            drop(sender);
            Answer { status: parts.status, headers: parts.headers, body }
        };
        futures::join!(answering, connection).0
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

/// Waits until a condition holds.
pub(crate) async fn eventually(what: &str, within: Duration, mut holds: impl AsyncFnMut() -> bool) {
    until(what, within, async || if holds().await { Ok(()) } else { Err(String::new()) }).await;
}
