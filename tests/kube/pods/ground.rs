//! One `hangar up` with a machine that talks and listens, and the kubectl binaries to let loose on it. It must never leave a
//! process behind, however the test ends.

use std::{fs, process::Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};

use crate::{
    kubectl::Kubectl,
    server::{PATIENCE, until},
};

/// A running hangar with the environment `alice`. Its program says `up` and, on standard error, `careful`; then whatever is
/// written into `$HANGAR_ROOT/say`; and it is the sample app.
pub(crate) struct Ground {
    pub(crate) home: tempfile::TempDir,
    processes: Vec<Child>,
    /// `host:port` of the API.
    pub(crate) api: String,
}

impl Ground {
    pub(crate) async fn up() -> Self {
        Self::start(&[]).await
    }

    pub(crate) async fn start(options: &[&str]) -> Self {
        let home = home();
        let mut arguments = vec!["up", "--data-dir", "data", "-f", "manifests.yaml"];
        arguments.extend(["--fly-listen", ANY, "--front-listen", ANY]);
        arguments.extend(["--listen", ANY, "--router-listen", ANY]);
        arguments.extend(options);
        let mut process = begin(&home, "up", &arguments, &[]);
        let api = address(&home, &mut process, "up", "api").await;
        Self { processes: vec![process], home, api }
    }

    /// `hangar serve` beside a `hangar local`: machines are reached by the Machines API only.
    pub(crate) async fn apart() -> Self {
        let home = home();
        let arguments = ["local", "--data-dir", "away", "--fly-listen", ANY, "--front-listen", ANY];
        let mut local = begin(&home, "local", &arguments, &[]);
        let fly = format!("http://{}", address(&home, &mut local, "local", "fly").await);
        let arguments = ["serve", "--org", "personal", "--listen", ANY, "--router-listen", ANY];
        let variables = [("FLY_API_TOKEN", "t"), ("FLY_FLAPS_BASE_URL", &*fly)];
        let mut serve = begin(&home, "serve", &arguments, &variables);
        let api = address(&home, &mut serve, "serve", "api").await;
        let server = [("HANGAR_SERVER", &*format!("http://{api}"))];
        for arguments in [
            &["apply", "-f", "manifests.yaml"][..],
            &["wait", "environment/alice", "--for", "condition=Ready", "--timeout", "60s"],
        ] {
            let ended = begin(&home, arguments[0], arguments, &server).wait().await.unwrap();
            assert!(ended.success(), "{}", said(&home, arguments[0]));
        }
        Self { processes: vec![serve, local], home, api }
    }

    fn said(&self) -> String {
        ["up", "serve", "local"].map(|name| said(&self.home, name)).concat()
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
        for process in &mut self.processes {
            // It may have ended.
            let _gone = process.start_kill();
        }
        // A shim that is killed first cannot restart its program, but one round may miss what another just started.
        for _ in 0..3 {
            for pid in self.processes("").into_iter().filter_map(Pid::from_raw) {
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// A free port of this computer.
const ANY: &str = "127.0.0.1:0";

/// A directory with the manifests.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("manifests.yaml"), manifests()).unwrap();
    home
}

/// Starts hangar; what it writes has its name.
fn begin(
    home: &tempfile::TempDir,
    name: &str,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Child {
    let output = |kind| fs::File::create(home.path().join(format!("{name}.{kind}"))).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
    command.args(arguments).env_clear().env("PATH", path()).envs(variables.iter().copied());
    command.env("HANGAR_READY_FILE", home.path().join(format!("{name}.json")));
    command.current_dir(home.path()).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(output("out")).stderr(output("err")).spawn().unwrap()
}

fn said(home: &tempfile::TempDir, name: &str) -> String {
    let read =
        |kind| fs::read_to_string(home.path().join(format!("{name}.{kind}"))).unwrap_or_default();
    read("out") + &read("err")
}

/// Where a part of it listens, once it is ready.
async fn address(home: &tempfile::TempDir, process: &mut Child, name: &str, part: &str) -> String {
    let ready = home.path().join(format!("{name}.json"));
    until(&format!("hangar {name} to be ready"), async || {
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", said(home, name));
        ready.exists().then_some(()).ok_or_else(|| said(home, name))
    })
    .await;
    let addresses: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
    addresses[part].as_str().unwrap().to_owned()
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
  volume: {{mountPath: /data, size: 1Gi}}
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
