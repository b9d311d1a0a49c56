//! The driver's side: starts shims, talks to them, reads what they left in the machine's directory. It must never keep
//! anything about a machine in memory.

use std::{
    fmt, fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::future::BoxFuture;
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};

use crate::local::driver::{
    Driver, Error, Executed, Image, Interactive, Isolation, Lines, LogLine, Process as Listed,
    Session, Spec, Status, Stream, Wanted,
};
use crate::local::process::{
    control::{self, Boot, Reply, Request},
    directory::Directory,
    follow, images, open, output, procfs,
};
use crate::tasks;

/// Time for a shim to say that the program runs: leftovers of an earlier one may have to die first.
const START_MAX: Duration = Duration::from_secs(30);
/// Time for a shim to do what is done at once.
const REPLY_MAX: Duration = Duration::from_secs(15);
/// Time for a stop whose timeout is the machine's own: far more than anybody waits.
const STOP_MAX: Duration = Duration::from_hours(24);
/// Time for a shim to obey a removal; then it goes by force.
const REMOVE_MAX: Duration = Duration::from_secs(5);
/// Time for a host port to accept.
const DIAL_MAX: Duration = Duration::from_secs(5);
/// How long one question for a change may stay open.
const CHANGED_MAX: Duration = Duration::from_secs(30);
/// How often a machine without a shim is looked at for one.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs machines as plain processes; see the module's text for what that means.
#[derive(Clone)]
pub struct Process {
    machines: PathBuf,
    hangar: PathBuf,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("machines", &self.machines).finish_non_exhaustive()
    }
}

impl Process {
    /// A driver with its machines' directories under `root`, which is made if it is missing. `hangar` is the program that
    /// becomes a shim when it is started as `hangar machine-shim <directory>`, and the sample app as `hangar sample-app`.
    ///
    /// # Errors
    /// If `root` can't be made, or `hangar` isn't there.
    pub fn new(root: &Path, hangar: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { machines: root.canonicalize()?, hangar: hangar.canonicalize()? })
    }

    /// The same, with this very program.
    ///
    /// # Errors
    /// As [`Process::new`].
    pub fn with_this_program(root: &Path) -> io::Result<Self> {
        Self::new(root, &std::env::current_exe()?)
    }

    fn directory(&self, id: &str, doing: &'static str) -> Result<Directory, Error> {
        Directory::of(&self.machines, id).map_err(failed(id, doing))
    }

    async fn ask(
        &self,
        id: &str,
        doing: &'static str,
        request: &Request,
        patience: Duration,
    ) -> Result<Reply, Error> {
        let directory = self.directory(id, doing)?;
        let asked = tokio::time::timeout(patience, ask(&directory, request)).await;
        match asked {
            Ok(Ok(Some(Reply::NotRunning) | None)) => Err(Error::NotRunning { id: id.to_owned() }),
            Ok(Ok(Some(Reply::Refused { why }))) => Err(failed(id, doing)(io::Error::other(why))),
            Ok(Ok(Some(reply))) => Ok(reply),
            Ok(Err(error)) => Err(failed(id, doing)(error)),
            Err(_) => Err(failed(id, doing)(timed_out("its shim does not answer"))),
        }
    }

    async fn start_shim(&self, spec: &Spec) -> io::Result<()> {
        let directory = Directory::of(&self.machines, &spec.id)?;
        directory.create()?;
        let log = fs::File::create(directory.path().join("shim.log"))?;
        let mut shim = Command::new(&self.hangar)
            .arg("machine-shim")
            .arg(directory.path())
            // What the backend knows by its environment is no business of a machine's.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let (stdin, stdout) = (shim.stdin.take(), shim.stdout.take());
        // It outlives this process if it must, and is reaped by it otherwise.
        tasks::detached(async move {
            let _ended = shim.wait().await;
        });
        let missing = || io::Error::other("the shim has no pipes");
        let (mut stdin, mut stdout) = (stdin.ok_or_else(missing)?, stdout.ok_or_else(missing)?);
        let talk = async {
            let boot = serde_json::to_vec(&Boot { spec: spec.clone() })?;
            stdin.write_all(&boot).await?;
            drop(stdin);
            let mut said = Vec::new();
            stdout.read_to_end(&mut said).await?;
            Ok::<_, io::Error>(said)
        };
        let said = tokio::time::timeout(START_MAX, talk)
            .await
            .map_err(|_| timed_out("its shim does not say that it runs"))??;
        match serde_json::from_slice(&said) {
            Ok(Reply::Done) => Ok(()),
            Ok(Reply::Refused { why }) => Err(io::Error::other(why)),
            Ok(_) | Err(_) => {
                let log = fs::read_to_string(directory.path().join("shim.log")).unwrap_or_default();
                Err(io::Error::other(format!("its shim ended at once: {}", log.trim())))
            }
        }
    }

    async fn start(&self, spec: &Spec) -> Result<(), Error> {
        let already = |status: &Status| match status {
            Status::Running { .. } => Some(Ok(())),
            Status::Frozen { .. } => Some(Err(failed(&spec.id, "start")(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "it is suspended; resume it",
            )))),
            Status::Exited(_) | Status::Absent => None,
        };
        if let Some(done) = already(&self.status(&spec.id).await) {
            return done;
        }
        let Err(error) = self.start_shim(spec).await else { return Ok(()) };
        // Another start may have been quicker.
        already(&self.status(&spec.id).await)
            .unwrap_or_else(|| Err(failed(&spec.id, "start")(error)))
    }

    async fn stop(
        &self,
        id: &str,
        signal: Option<&str>,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        // Without a timeout the shim knows better how long it takes; patience ends in any case.
        let patience = timeout.map_or(STOP_MAX, |timeout| timeout + REPLY_MAX);
        let timeout_ms = timeout.map(milliseconds);
        let request = Request::Stop { signal: signal.map(str::to_owned), timeout_ms };
        self.end(id, &request, patience).await
    }

    /// Asks the shim for a stop, and waits until it is gone.
    async fn end(&self, id: &str, request: &Request, patience: Duration) -> Result<(), Error> {
        let directory = self.directory(id, "stop")?;
        match self.ask(id, "stop", request, patience).await {
            // Either nobody listened, or the connection ended with the shim.
            Err(Error::NotRunning { .. }) | Ok(_) => {}
            Err(error) => return Err(error),
        }
        gone(&directory).await.map_err(failed(id, "stop"))
    }

    async fn exec(
        &self,
        id: &str,
        argv: &[String],
        stdin: &[u8],
        timeout: Duration,
    ) -> Result<Executed, Error> {
        let request = Request::Exec {
            argv: argv.to_vec(),
            stdin: stdin.to_vec(),
            timeout_ms: milliseconds(timeout),
        };
        match self.ask(id, "run a command in", &request, timeout + REPLY_MAX).await? {
            Reply::Executed { code, signal, stdout, stderr } => {
                Ok(Executed { code, signal, stdout, stderr })
            }
            Reply::ExecTimeout => Err(Error::ExecTimeout),
            _ => Err(failed(id, "run a command in")(unexpected())),
        }
    }

    async fn open(&self, id: &str, command: &Interactive) -> Result<Session, Error> {
        const DOING: &str = "run a command in";
        let directory = self.directory(id, DOING)?;
        let talk = async {
            let mut stream = control::connect(directory.path()).await?;
            control::send(&mut stream, &Request::Open { command: command.clone() }).await?;
            let reply = control::receive(&mut stream).await?;
            Ok(reply.map(|reply| (reply, stream)))
        };
        let talked = tokio::time::timeout(REPLY_MAX, talk).await;
        let talked = talked.unwrap_or_else(|_| Err(timed_out("its shim does not answer")));
        match talked {
            Ok(Some((Reply::Opened, stream))) => {
                open::session(stream, command).await.map_err(failed(id, DOING))
            }
            Ok(Some((Reply::Refused { why }, _))) => Err(failed(id, DOING)(io::Error::other(why))),
            Ok(Some((Reply::NotRunning, _)) | None) => Err(Error::NotRunning { id: id.to_owned() }),
            Ok(Some(_)) => Err(failed(id, DOING)(unexpected())),
            Err(error) if is_gone(&error) => Err(Error::NotRunning { id: id.to_owned() }),
            Err(error) => Err(failed(id, DOING)(error)),
        }
    }

    async fn simple(&self, id: &str, doing: &'static str, request: Request) -> Result<(), Error> {
        match self.ask(id, doing, &request, REPLY_MAX).await? {
            Reply::Done => Ok(()),
            _ => Err(failed(id, doing)(unexpected())),
        }
    }

    async fn status(&self, id: &str) -> Status {
        let Ok(directory) = Directory::of(&self.machines, id) else { return Status::Absent };
        tasks::blocking(move || directory.status()).await.unwrap_or(Status::Absent)
    }

    async fn other_than(&self, id: &str, known: &Status) -> Status {
        loop {
            let status = self.status(id).await;
            if status != *known {
                return status;
            }
            let request =
                Request::Changed { known: known.clone(), timeout_ms: milliseconds(CHANGED_MAX) };
            if self.ask(id, "watch", &request, CHANGED_MAX + REPLY_MAX).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }

    async fn dial(&self, id: &str, port: u16) -> Result<Box<dyn Stream>, Error> {
        let directory = self.directory(id, "dial")?;
        if !matches!(self.status(id).await, Status::Running { .. }) {
            // Its host port may be another program's by now.
            return Err(Error::NotRunning { id: id.to_owned() });
        }
        let host = directory.ports().get(&port).copied().ok_or_else(|| {
            let text = format!("no service of it has port {port}");
            failed(id, "dial")(io::Error::new(io::ErrorKind::NotFound, text))
        })?;
        let connect = TcpStream::connect((Ipv4Addr::LOCALHOST, host));
        let stream = tokio::time::timeout(DIAL_MAX, connect)
            .await
            .unwrap_or_else(|_| Err(timed_out("its port does not accept")))
            .map_err(failed(id, "dial"))?;
        stream.set_nodelay(true).map_err(failed(id, "dial"))?;
        Ok(Box::new(stream))
    }

    async fn remove(&self, id: &str) -> Result<(), Error> {
        let directory = self.directory(id, "remove")?;
        let failed = failed(id, "remove");
        if directory.shim().is_some() {
            let request = Request::Stop { signal: Some("SIGKILL".to_owned()), timeout_ms: Some(0) };
            if let Err(error) = self.end(id, &request, REMOVE_MAX).await {
                tracing::warn!(machine = id, %error, "the shim does not obey and is killed");
            }
        }
        if let Some(shim) = directory.shim() {
            // Its family while it is one: orphans would have to be known by their environment.
            procfs::kill({
                let pid = shim.pid;
                move |all| procfs::below(all, pid)
            })
            .await
            .map_err(failed)?;
            procfs::send(&shim, Signal::KILL).map_err(failed)?;
            gone(&directory).await.map_err(failed)?;
        }
        let marker = directory.marker();
        procfs::kill(move |all| procfs::marked(all, &marker)).await.map_err(failed)?;
        blocking(move || directory.remove()).await.map_err(failed)
    }
}

impl Driver for Process {
    fn isolation(&self) -> Isolation {
        Isolation::None
    }

    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image, Error>> {
        Box::pin(async { images::find(reference, &self.hangar) })
    }

    /// A machine that runs already stays as it is.
    fn start<'a>(&'a self, spec: &'a Spec) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.start(spec))
    }

    /// Fine for a machine that does not run.
    fn stop<'a>(
        &'a self,
        id: &'a str,
        signal: Option<&'a str>,
        timeout: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.stop(id, signal, timeout))
    }

    fn signal<'a>(&'a self, id: &'a str, signal: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.simple(id, "signal", Request::Signal { signal: signal.to_owned() }))
    }

    fn suspend<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.simple(id, "suspend", Request::Suspend))
    }

    fn resume<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.simple(id, "resume", Request::Resume))
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        argv: &'a [String],
        stdin: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, Error>> {
        Box::pin(self.exec(id, argv, stdin, timeout))
    }

    fn open<'a>(
        &'a self,
        id: &'a str,
        command: &'a Interactive,
    ) -> BoxFuture<'a, Result<Session, Error>> {
        Box::pin(self.open(id, command))
    }

    fn output<'a>(&'a self, id: &'a str, wanted: Wanted) -> BoxFuture<'a, Result<Lines, Error>> {
        Box::pin(async move {
            let directory = self.directory(id, "read the output of")?;
            follow::output(directory, id, wanted).await
        })
    }

    fn status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Status> {
        Box::pin(self.status(id))
    }

    fn changed<'a>(
        &'a self,
        id: &'a str,
        known: &'a Status,
        timeout: Duration,
    ) -> BoxFuture<'a, Status> {
        Box::pin(async move {
            match tokio::time::timeout(timeout, self.other_than(id, known)).await {
                Ok(status) => status,
                Err(_) => self.status(id).await,
            }
        })
    }

    fn dial<'a>(&'a self, id: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>, Error>> {
        Box::pin(self.dial(id, port))
    }

    fn processes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<Listed>, Error>> {
        Box::pin(async move {
            let directory = self.directory(id, "list the processes of")?;
            let shim = directory.shim().ok_or_else(|| Error::NotRunning { id: id.to_owned() })?;
            let list = move || {
                let all = procfs::all()?;
                Ok(procfs::below(&all, shim.pid).iter().map(procfs::describe).collect())
            };
            blocking(list).await.map_err(failed(id, "list the processes of"))
        })
    }

    fn logs<'a>(&'a self, id: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<LogLine>, Error>> {
        Box::pin(async move {
            let directory = self.directory(id, "read the output of")?;
            let read = move || output::tail(directory.path(), limit);
            blocking(read).await.map_err(failed(id, "read the output of"))
        })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(self.remove(id))
    }
}

/// One request; `None` when no shim is there, or it ends without a reply.
async fn ask(directory: &Directory, request: &Request) -> io::Result<Option<Reply>> {
    let talk = async {
        let mut stream = control::connect(directory.path()).await?;
        control::send(&mut stream, request).await?;
        control::receive(&mut stream).await
    };
    match talk.await {
        Err(error) if is_gone(&error) => Ok(None),
        other => other,
    }
}

/// Whether no shim is there any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
    )
}

/// Waits until the machine has no shim.
async fn gone(directory: &Directory) -> io::Result<()> {
    let looks = async {
        while directory.shim().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(REPLY_MAX, looks).await.map_err(|_| timed_out("its shim does not end"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tasks::blocking(work).await.map_err(io::Error::other)?
}

fn failed<'a>(id: &'a str, doing: &'static str) -> impl Fn(io::Error) -> Error + Copy + use<'a> {
    move |source| Error::Io { id: id.to_owned(), doing, source }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its shim answers another question")
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
