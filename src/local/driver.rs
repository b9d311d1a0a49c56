//! What runs machines on this computer: the trait behind which plain processes stand now, containers and virtual machines
//! later. It must never know Fly's HTTP forms, apps or the proxy.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use futures::{future::BoxFuture, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncWrite};

/// One machine's directory name and handle; Fly's machine id.
pub type MachineId = String;

/// How much a driver keeps machines apart, said wherever a person may take it for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// None: the host user's own files, network and processes.
    None,
}

/// Everything needed to start a machine, with nothing left to look up.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    /// The machine.
    pub id: MachineId,
    /// Image reference as the API was given it.
    pub image: String,
    /// Full command line; never empty. From the image, replaced by `init.exec`, `init.entrypoint` and `init.cmd`.
    pub argv: Vec<String>,
    /// The whole environment, app secrets and Fly's own variables (`FLY_APP_NAME`, `FLY_MACHINE_ID` …) included.
    pub env: BTreeMap<String, String>,
    /// Volume directory on the host and the path where the machine expects it. The process driver cannot mount, so it
    /// rewrites the path through the machine's directory (see its documentation).
    pub volume: Option<(PathBuf, String)>,
    /// Files to write before the start: guest path, content, mode.
    pub files: Vec<(String, Vec<u8>, u32)>,
    /// Ports that services and checks name; the driver makes each one reachable through [`Driver::dial`].
    pub ports: Vec<u16>,
    /// What `init.tty`, restart policy and stop config say.
    pub restart: Restart,
    /// Signal that asks the program to end, e.g. `SIGINT`.
    pub stop_signal: String,
    /// How long it may take before it is killed.
    pub stop_timeout: Duration,
}

/// When a program that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    No,
    /// After any end, without limit.
    Always,
    /// After an end with a non-zero code, at most this often within five minutes.
    OnFailure {
        /// Fly's default is 10.
        max_retries: u32,
    },
}

/// What a machine is doing, as its shim knows.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Status {
    /// The program runs.
    Running {
        /// Its process id.
        pid: u32,
        /// Times the restart policy started it again.
        restarts: u32,
    },
    /// The program is frozen with its memory kept.
    Frozen {
        /// Its process id.
        pid: u32,
    },
    /// The program ended and the restart policy does not start it again.
    Exited(Exit),
    /// There is no shim: never started, or it is gone (a reboot, a kill).
    Absent,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Exit {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Signal number that ended it.
    pub signal: Option<i32>,
    /// Whether [`Driver::stop`] asked for it.
    pub requested: bool,
    /// Unix time, milliseconds.
    pub at_ms: i64,
    /// Times the restart policy had started it again.
    pub restarts: u32,
}

/// The result of a command run inside a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Signal number.
    pub signal: Option<i32>,
    /// Standard output, cut at the driver's limit.
    pub stdout: Vec<u8>,
    /// Standard error, cut at the driver's limit.
    pub stderr: Vec<u8>,
}

/// A line of a machine's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Unix time, milliseconds.
    pub at_ms: i64,
    /// Whether it came from standard error.
    pub stderr: bool,
    /// The line without its end.
    pub text: String,
}

/// Which output of a machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// That of the run before the last start, instead of the last one's.
    pub previous: bool,
    /// At most so many lines, the last ones.
    pub last: Option<usize>,
    /// Only lines from this time on, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Also what comes, until the run ends.
    pub follow: bool,
}

/// Lines as they come, those together that were there together.
pub type Lines = BoxStream<'static, Vec<LogLine>>;

/// A command to be run with open streams.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Interactive {
    /// Command line.
    pub argv: Vec<String>,
    /// Whether it has a standard input; otherwise it reads an end at once.
    pub stdin: bool,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit code; `None` after a signal.
    pub code: Option<i32>,
    /// Signal number.
    pub signal: Option<i32>,
}

/// Gives a terminal another size: columns and rows.
pub type Resize = Box<dyn Fn(u16, u16) -> std::io::Result<()> + Send + Sync>;

/// A command that runs, and its streams. With [`Session::ended`] dropped, the command is killed.
pub struct Session {
    /// Its standard input; dropped, it is at its end.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output, and with a terminal its standard error too.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// The terminal's size, if it has one.
    pub resize: Option<Resize>,
    /// Its end.
    pub ended: BoxFuture<'static, Ended>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("tty", &self.resize.is_some()).finish_non_exhaustive()
    }
}

/// A process as `ps` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Command line.
    pub command: String,
    /// Working directory.
    pub directory: String,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// User and system time used, milliseconds.
    pub cpu_ms: u64,
}

/// A byte stream to a port of a machine.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What went wrong in a driver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image is not known here; the text is what a registry would say.
    #[error("MANIFEST_UNKNOWN: {image} is not an image that this driver knows")]
    UnknownImage {
        /// The reference.
        image: String,
    },
    /// The machine is not in the state that the call needs.
    #[error("machine {id} is not running")]
    NotRunning {
        /// The machine.
        id: MachineId,
    },
    /// There are no programs here.
    #[error("machines are only pretended here (--no-run), so there is no program in one to reach")]
    NothingRuns,
    /// There was only one run.
    #[error("machine {id} was started once only, so there is no run before this one")]
    NoRunBefore {
        /// The machine.
        id: MachineId,
    },
    /// A command inside the machine took longer than it was given.
    #[error("the command did not end in time")]
    ExecTimeout,
    /// The host refused something.
    #[error("cannot {doing} machine {id}")]
    Io {
        /// The machine.
        id: MachineId,
        /// start, stop, dial …
        doing: &'static str,
        /// The cause.
        source: std::io::Error,
    },
}

/// An image as the driver resolved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Content digest, `sha256:…`; for images without content, of their name.
    pub digest: String,
    /// The image's own entrypoint.
    pub entrypoint: Vec<String>,
    /// The image's own command.
    pub cmd: Vec<String>,
    /// The image's own environment.
    pub env: BTreeMap<String, String>,
    /// How long preparing the image takes on a first use (magic images are slow on purpose).
    pub prepare: Duration,
}

/// Runs machines. Machines outlive the process that holds the driver: a later one finds them again by id.
///
/// All calls may be made for any id in any state and say so when the state is wrong.
pub trait Driver: fmt::Debug + Send + Sync {
    /// How weak the walls are.
    fn isolation(&self) -> Isolation;
    /// Looks an image up.
    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image, Error>>;
    /// Starts a machine; returns when its program was started.
    fn start<'a>(&'a self, spec: &'a Spec) -> BoxFuture<'a, Result<(), Error>>;
    /// Asks the program to end, kills it after the timeout, returns when it is gone. `None` takes the spec's own.
    fn stop<'a>(
        &'a self,
        id: &'a str,
        signal: Option<&'a str>,
        timeout: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), Error>>;
    /// Sends a signal to the program.
    fn signal<'a>(&'a self, id: &'a str, signal: &'a str) -> BoxFuture<'a, Result<(), Error>>;
    /// Freezes every process of the machine; memory is kept.
    fn suspend<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>>;
    /// Thaws a frozen machine.
    fn resume<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>>;
    /// Runs a command beside the program, with its environment and directory.
    fn exec<'a>(
        &'a self,
        id: &'a str,
        argv: &'a [String],
        stdin: &'a [u8],
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, Error>>;
    /// Runs a command beside the program, with its streams open.
    fn open<'a>(
        &'a self,
        id: &'a str,
        command: &'a Interactive,
    ) -> BoxFuture<'a, Result<Session, Error>> {
        let _nobody = (id, command);
        Box::pin(async { Err(Error::NothingRuns) })
    }
    /// The program's output, of one run.
    fn output<'a>(&'a self, id: &'a str, wanted: Wanted) -> BoxFuture<'a, Result<Lines, Error>> {
        let _nobody = (id, wanted);
        Box::pin(async { Err(Error::NothingRuns) })
    }
    /// What the machine is doing now.
    fn status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Status>;
    /// Waits until the status differs from `known`, at most `timeout`; returns the new one.
    fn changed<'a>(
        &'a self,
        id: &'a str,
        known: &'a Status,
        timeout: Duration,
    ) -> BoxFuture<'a, Status>;
    /// Connects to a port of [`Spec::ports`]. A frozen machine may accept: ask [`Driver::status`] first.
    fn dial<'a>(&'a self, id: &'a str, port: u16) -> BoxFuture<'a, Result<Box<dyn Stream>, Error>>;
    /// Processes of the machine.
    fn processes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<Process>, Error>>;
    /// The last `limit` lines of output.
    fn logs<'a>(&'a self, id: &'a str, limit: usize) -> BoxFuture<'a, Result<Vec<LogLine>, Error>>;
    /// Kills whatever is left and removes the machine's directory (never the volume's). Fine when nothing is left.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>>;
}
