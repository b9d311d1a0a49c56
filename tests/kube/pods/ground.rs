//! One `hangar up` with a machine that talks and listens, and the kubectl binaries to let loose on it. It must never leave a
//! process behind, however the test ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

/// Far more than anything takes on a loaded computer; only a fault reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);
/// Where packages put one binary for each version.
const PACKAGES: &str = "/usr/lib/google-cloud-sdk/bin";

/// A running hangar with the environment `alice`. Its program says `up` and, on standard error, `careful`; then whatever is
/// written into `$HANGAR_ROOT/say`; and it is the sample app.
pub(crate) struct Ground {
    pub(crate) home: tempfile::TempDir,
    process: Child,
    /// `host:port` of the API.
    pub(crate) api: String,
}

impl Ground {
    pub(crate) async fn up() -> Self {
        Self::start(&[]).await
    }

    pub(crate) async fn start(options: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("manifests.yaml");
        fs::write(&file, manifests()).unwrap();
        let output = |name| fs::File::create(home.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
        command.env_clear().env("PATH", path()).current_dir(home.path()).stdin(Stdio::null());
        command.stdout(output("out")).stderr(output("err")).kill_on_drop(true);
        command.args(["up", "--data-dir", "data", "--ready-file", "ready.json"]).args(options);
        for option in ["--listen", "--fly-listen", "--front-listen", "--router-listen"] {
            command.args([option, "127.0.0.1:0"]);
        }
        command.arg("-f").arg(&file);
        let mut ground = Self { process: command.spawn().unwrap(), home, api: String::new() };
        let ready = ground.home.path().join("ready.json");
        until("hangar to be ready", async || {
            let ended = ground.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", ground.said());
            ready.exists().then_some(()).ok_or_else(|| ground.said())
        })
        .await;
        let addresses: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        addresses["api"].as_str().unwrap().clone_into(&mut ground.api);
        ground
    }

    fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        read("out") + &read("err")
    }

    /// A kubectl that sees nothing of a person's own.
    pub(crate) fn command(&self, kubectl: &Kubectl, arguments: &[&str]) -> Command {
        let mut command = Command::new(&kubectl.path);
        command.args(["--server", &format!("http://{}", self.api)]).args(arguments);
        command.env_clear().env("PATH", path()).env("HOME", self.home.path());
        command.env("KUBECACHEDIR", self.home.path().join(format!("cache-{}", kubectl.minor)));
        command.current_dir(self.home.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) async fn run(&self, kubectl: &Kubectl, arguments: &[&str]) -> Ran {
        self.feed(kubectl, arguments, b"").await
    }

    /// Runs it with something on its standard input.
    pub(crate) async fn feed(&self, kubectl: &Kubectl, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(kubectl, arguments);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeding = async move {
            // It need not read it.
            let _unread = stdin.write_all(input).await;
            drop(stdin);
        };
        let running = async { tokio::join!(child.wait_with_output(), feeding).0.unwrap() };
        let line = format!("kubectl 1.{} {}", kubectl.minor, arguments.join(" "));
        let Ok(output) = tokio::time::timeout(PATIENCE, running).await else {
            panic!("{line} did not end within {PATIENCE:?}\n{}", self.said());
        };
        Ran {
            line,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Process ids of everything that names this directory in its arguments or variables, and this text in its arguments.
    pub(crate) fn processes(&self, text: &str) -> Vec<i32> {
        let home = self.home.path().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let Ok(pid) = entry.file_name().to_string_lossy().parse() else { continue };
            let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
            let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            let whole = format!("{arguments}\n{}", String::from_utf8_lossy(&read("environ")));
            if whole.contains(&home) && arguments.contains(text) {
                found.push(pid);
            }
        }
        found
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.process.start_kill();
        // A shim that is killed first cannot restart its program, but one round may miss what another just started.
        for _ in 0..3 {
            for pid in self.processes("").into_iter().filter_map(Pid::from_raw) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

fn manifests() -> String {
    let hangar = env!("CARGO_BIN_EXE_hangar");
    format!(
        "---
apiVersion: hangar.dev/v1alpha1
kind: Template
metadata: {{name: talker}}
spec:
  machine:
    image: hangar.dev/host:1
    guest: {{cpuKind: shared, cpus: 1, memory: 256Mi}}
    command:
    - sh
    - -c
    - 'echo $$ > $HANGAR_ROOT/pid; echo up; echo careful >&2; mkfifo $HANGAR_ROOT/say; (while :; do cat $HANGAR_ROOT/say; done) & exec {hangar} sample-app'
  services: [{{name: web, internalPort: 8080}}]
  regions: [ams]
  readiness: {{http: {{path: /healthz, port: 8080}}, timeout: 30s}}
---
apiVersion: hangar.dev/v1alpha1
kind: Environment
metadata: {{name: alice, labels: {{team: a}}}}
spec:
  templateRef: {{name: talker}}
  access: Public
"
    )
}

/// One version of kubectl.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    /// 33 for v1.33.
    pub(crate) minor: u32,
    pub(crate) path: PathBuf,
}

impl Kubectl {
    /// The oldest and the newest of this computer from 1.28 on: SPDY is what the one speaks, WebSockets the other. Where there
    /// is none, it says so.
    pub(crate) fn ends() -> Vec<Self> {
        let mut found: Vec<_> = (28..60)
            .map(|minor| (minor, Path::new(PACKAGES).join(format!("kubectl.1.{minor}"))))
            .filter(|(_, path)| path.exists())
            .map(|(minor, path)| Self { minor, path })
            .collect();
        if found.is_empty() {
            eprintln!("skipped: there is no kubectl of a version of its own in {PACKAGES}");
        }
        if found.len() > 2 {
            found.drain(1..found.len() - 1);
        }
        found
    }
}

/// What a kubectl printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) line: String,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Ran {
    /// The standard output of what must have succeeded.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}{}", self.line, self.out, self.err);
        self.out
    }

    /// What was said by one that must have failed.
    pub(crate) fn refused(self) -> String {
        assert_ne!(self.code, 0, "{}\n{}{}", self.line, self.out, self.err);
        self.err
    }
}

/// Waits until there is something, and returns it; what was in its place at the last look is said when it never comes.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let mut last = String::new();
    let looking = async {
        loop {
            match look().await {
                Ok(found) => return found,
                Err(instead) => last = instead,
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_) => panic!("waited {PATIENCE:?} for {what}; at last: {last}"),
    }
}
