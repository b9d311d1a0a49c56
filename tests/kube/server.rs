//! One `hangar up --no-run` of a test, and what its API says of an object. It must never leave a process behind, however the
//! test ends.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use hangar::api::kind::Kind;
use serde_json::Value;

/// Far more than anything takes on a loaded computer; only a fault reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// A running hangar.
pub(crate) struct Hangar {
    /// Holds the data directory, the clients' homes, and the files that they are given.
    home: tempfile::TempDir,
    process: Child,
    /// `http://127.0.0.1:PORT` of the API.
    pub(crate) url: String,
    http: reqwest::Client,
}

impl Hangar {
    /// Starts it and waits until it answers.
    pub(crate) async fn up() -> Self {
        let home = tempfile::tempdir().unwrap();
        let output = |name| fs::File::create(home.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
        command.env_clear().current_dir(home.path()).stdin(Stdio::null());
        command.stdout(output("out")).stderr(output("err"));
        command.args(["up", "--no-run", "--data-dir", "data", "--ready-file", "ready.json"]);
        for option in ["--listen", "--fly-listen", "--front-listen", "--router-listen"] {
            command.args([option, "127.0.0.1:0"]);
        }
        let process = command.spawn().unwrap();
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut hangar = Self { home, process, url: String::new(), http };
        let ready = hangar.home.path().join("ready.json");
        until("hangar to be ready", async || {
            let ended = hangar.process.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", hangar.said());
            ready.exists().then_some(()).ok_or_else(|| hangar.said())
        })
        .await;
        let addresses: Value = serde_json::from_slice(&fs::read(ready).unwrap()).unwrap();
        hangar.url = format!("http://{}", addresses["api"].as_str().unwrap());
        hangar
    }

    /// Where the clients' files are.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        read("out") + &read("err")
    }

    /// The answer to a GET as JSON, and its code.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// The answer to a request with a body, as JSON, and its code.
    pub(crate) async fn send(&self, request: &str, media: &str, body: &Value) -> (u16, Value) {
        let (method, path) = request.split_once(' ').unwrap();
        let request = self.http.request(method.parse().unwrap(), format!("{}{path}", self.url));
        let request = request.header("content-type", media).body(body.to_string());
        let answer = request.send().await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// An object, named as `environments/demo` or `team-a/environments/demo`; nothing if there is none.
    pub(crate) async fn object(&self, place: &str) -> Option<Value> {
        let parts: Vec<_> = place.split('/').collect();
        let (namespace, plural, name) = match parts.as_slice() {
            [plural, name] => ("default", plural, name),
            [namespace, plural, name] => (*namespace, plural, name),
            _ => panic!("{place} names no object"),
        };
        let kind = Kind::from_plural(plural)?;
        match self.get(&kind.info().path(Some(namespace), Some(name))).await {
            (200, object) => Some(object),
            (404, _) => None,
            (code, answer) => panic!("{place}: {code}: {answer}"),
        }
    }
}

impl Drop for Hangar {
    fn drop(&mut self) {
        // It may have ended.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
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
