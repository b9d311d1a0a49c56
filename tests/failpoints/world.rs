//! A controller and the stand-in for Fly, each in a process of its own, and their users' ways to them. The controller is
//! started again whenever it has killed itself, and must not end otherwise.

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use hangar::client::{self, Client};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::until::until;

/// Far more than anything takes on a loaded computer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);
const SIGKILL: i32 = 9;

/// A boundary that was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crossed {
    /// `CallUnsent:POST:3`.
    pub(crate) boundary: String,
    /// What was committed or called, without ids.
    pub(crate) what: String,
}

pub(crate) struct World {
    home: tempfile::TempDir,
    fly: String,
    local: Child,
    server: Option<Child>,
    die_at: Option<String>,
    /// Where the controller killed itself.
    pub(crate) died_at: Option<Crossed>,
}

impl World {
    /// Goes on from what lies in a directory.
    pub(crate) async fn begin(from: &Path, die_at: Option<String>) -> Self {
        let home = tempfile::tempdir().unwrap();
        copy(from, home.path());
        let mut command = command(home.path(), "local");
        command.args(["--no-run", "--front-upstream", "127.0.0.1:1"]);
        command.args(["--fly-listen", "127.0.0.1:0", "--front-listen", "127.0.0.1:0"]);
        let local = command.spawn().unwrap();
        // From here on dropping it ends what was started.
        let mut world =
            Self { home, fly: String::new(), local, server: None, die_at, died_at: None };
        let addresses = until("the stand-in for Fly", PATIENCE, async || {
            assert!(world.local.try_wait().unwrap().is_none(), "hangar local ended");
            ready(world.home.path(), "local")
        })
        .await;
        addresses["fly"].as_str().unwrap().clone_into(&mut world.fly);
        world
    }

    /// A client of a controller that runs.
    pub(crate) async fn client(&mut self) -> Client {
        let addresses = until("the controller", PATIENCE, async || {
            if self.has_died() {
                self.start();
            }
            ready(self.home.path(), "serve")
        })
        .await;
        Client::new(&format!("http://{}", addresses["api"].as_str().unwrap()), None).unwrap()
    }

    /// Whether there is no controller, because none was started or it killed itself.
    fn has_died(&mut self) -> bool {
        let Some(server) = &mut self.server else { return true };
        let Some(status) = server.try_wait().unwrap() else { return false };
        let struck = status.signal() == Some(SIGKILL) && self.die_at.take().is_some();
        assert!(struck, "the controller ended with {status}: {}", self.said());
        self.died_at = self.crossed().pop();
        true
    }

    fn start(&mut self) {
        let mut command = command(self.home.path(), "serve");
        command.args([
            "--org",
            "personal",
            "--listen",
            "127.0.0.1:0",
            "--router-listen",
            "127.0.0.1:0",
        ]);
        command.env("FLY_API_TOKEN", "x").env("FLY_FLAPS_BASE_URL", format!("http://{}", self.fly));
        command.env("HANGAR_BOUNDARIES", self.home.path().join("boundaries"));
        if let Some(die_at) = &self.die_at {
            command.env("HANGAR_DIE_AT", die_at);
        }
        self.server = Some(command.spawn().unwrap());
    }

    /// Does something until it is acknowledged.
    pub(crate) async fn insist<T>(
        &mut self,
        what: &str,
        act: impl AsyncFn(Client) -> Result<T, client::Error>,
    ) -> T {
        until(what, PATIENCE, async || {
            let client = self.client().await;
            act(client).await.map_err(|error| hangar::retry::chain(&error))
        })
        .await
    }

    /// Boundaries that the controller crossed, in all its lives.
    pub(crate) fn crossed(&self) -> Vec<Crossed> {
        let log = fs::read_to_string(self.home.path().join("boundaries")).unwrap_or_default();
        let crossed = |line: &str| {
            let (boundary, what) = line.split_once(' ').unwrap();
            Crossed { boundary: boundary.to_owned(), what: without_ids(what) }
        };
        log.lines().map(crossed).collect()
    }

    /// What the controller said, and did.
    pub(crate) fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        let said = [read("serve.err"), read("boundaries"), read("serve/log/journal.jsonl")];
        said.join("---\n")
    }

    /// `GET` from the stand-in for Fly, behind the controller's back.
    pub(crate) async fn fly(&self, path: &str) -> Value {
        self.ask(Method::GET, path).await
    }

    /// `DELETE` behind its back.
    pub(crate) async fn delete_at_fly(&self, path: &str) {
        self.ask(Method::DELETE, path).await;
    }

    async fn ask(&self, method: Method, path: &str) -> Value {
        let stream = TcpStream::connect(&self.fly).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = Request::builder().method(method).uri(path).header("host", &self.fly);
        let request = request.header("authorization", "Bearer x").body(Full::<Bytes>::default());
        let answering = async {
            let answer = sender.send_request(request.unwrap()).await.unwrap();
            assert!(answer.status().is_success(), "{path}: {}", answer.status());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            drop(sender);
            body
        };
        let body = futures::join!(answering, connection).0;
        serde_json::from_slice(&body).unwrap_or_default()
    }

    /// Ends both by `kill -9` and leaves what they kept in a directory.
    pub(crate) fn leave(mut self, at: &Path) {
        self.kill();
        copy(self.home.path(), at);
        fs::remove_file(at.join("boundaries")).unwrap();
    }

    fn kill(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.local]) {
            // It may have ended.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(home: &Path, part: &str) -> Command {
    let at = |ending: &str| home.join(format!("{part}.{ending}"));
    let _none = fs::remove_file(at("ready"));
    let said = fs::File::options().create(true).append(true).open(at("err"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
    command.arg(part).arg("--data-dir").arg(home.join(part)).arg("--ready-file").arg(at("ready"));
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.unwrap());
    command
}

fn ready(home: &Path, part: &str) -> Result<Value, String> {
    let addresses = fs::read(home.join(format!("{part}.ready")));
    addresses.map(|it| serde_json::from_slice(&it).unwrap()).map_err(|error| error.to_string())
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success(), "cp {} {}", from.display(), to.display());
}

/// Two walks of one course differ in what is drawn on the way: names of bays and apps, ids of machines, names of events.
fn without_ids(what: &str) -> String {
    let part = |part: &str| {
        let drawn = ["bay-", "hgr-"].iter().find(|it| part.starts_with(**it));
        let id = part.len() > 9 && part.bytes().all(|it| it.is_ascii_hexdigit());
        let part = part.split('.').next().unwrap_or_default();
        drawn.map_or(if id { "*" } else { part }, |it| *it).to_owned()
    };
    let word = |word: &str| word.split('/').map(part).collect::<Vec<_>>().join("/");
    what.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
