//! One `hangar up` with the environment `alice`, whose program is the sample app. It must never leave a process behind, however
//! the test ends.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{
    Api, Client, Config,
    api::DynamicObject,
    discovery::{ApiResource, pinned_kind},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Far more than anything takes on a loaded computer; only a fault reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);

const MANIFESTS: &str = "---
apiVersion: hangar.dev/v1alpha1
kind: Template
metadata: {name: node}
spec:
  machine:
    image: hangar.dev/host:1
    guest: {cpuKind: shared, cpus: 1, memory: 256Mi}
    command: [HANGAR, sample-app]
  services: [{name: web, internalPort: 8080}]
  regions: [ams]
  readiness: {http: {path: /healthz, port: 8080}, timeout: 30s}
---
apiVersion: hangar.dev/v1alpha1
kind: Environment
metadata: {name: alice}
spec: {templateRef: {name: node}, access: Public}
";

pub(crate) struct Ground {
    home: tempfile::TempDir,
    process: Child,
    pub(crate) client: Client,
    /// What discovery says of environments.
    pub(crate) kind: ApiResource,
}

/// The program: `$HANGAR`, or what a build left.
fn program() -> PathBuf {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/hangar");
    let program = std::env::var_os("HANGAR").map_or_else(|| built.into(), PathBuf::from);
    program.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

impl Ground {
    pub(crate) async fn up() -> Self {
        let (home, program) = (tempfile::tempdir().unwrap(), program());
        let manifests = MANIFESTS.replace("HANGAR", &program.to_string_lossy());
        fs::write(home.path().join("manifests.yaml"), manifests).unwrap();
        let output = |name| fs::File::create(home.path().join(name)).unwrap();
        let mut command = Command::new(&program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(home.path()).stdin(Stdio::null());
        command.stdout(output("out")).stderr(output("err"));
        command.args(["up", "--data-dir", "data", "-f", "manifests.yaml", "--ready-file", "ready"]);
        for option in ["--listen", "--fly-listen", "--front-listen", "--router-listen"] {
            command.args([option, "127.0.0.1:0"]);
        }
        let mut process = command.spawn().unwrap();
        let ready = home.path().join("ready");
        let said = || fs::read_to_string(home.path().join("err")).unwrap_or_default();
        until("hangar to be ready", async || {
            assert!(process.try_wait().unwrap().is_none(), "it ended: {}", said());
            ready.exists().then_some(()).ok_or_else(said)
        })
        .await;
        let addresses: Value = serde_json::from_slice(&fs::read(&ready).unwrap()).unwrap();
        let url = format!("http://{}", addresses["api"].as_str().unwrap());
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        let named = kube::core::GroupVersionKind::gvk("hangar.dev", "v1alpha1", "Environment");
        let (kind, _) = pinned_kind(&client, &named).await.unwrap();
        Self { home, process, client, kind }
    }

    pub(crate) fn environments(&self) -> Api<DynamicObject> {
        Api::default_namespaced_with(self.client.clone(), &self.kind)
    }

    pub(crate) fn environment(&self, name: &str) -> DynamicObject {
        DynamicObject::new(name, &self.kind)
            .data(json!({"spec": {"templateRef": {"name": "node"}, "owner": "a@example.com"}}))
    }

    /// Kills everything that names this directory in its arguments or variables.
    fn end_all(&self) {
        let home = self.home.path().to_string_lossy().into_owned();
        for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let pid = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
            let names = ["cmdline", "environ"].map(|name| fs::read(entry.path().join(name)));
            let has = |it: Vec<u8>| String::from_utf8_lossy(&it).contains(&home);
            if let Some(pid) = pid
                && names.into_iter().flatten().any(has)
            {
                // It may have ended.
                let _gone = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
        // What is killed first cannot restart its program, but one round may miss what another just started.
        (0..3).for_each(|_| self.end_all());
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
