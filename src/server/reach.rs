//! The seam behind which machines are reached: their output, commands in them, their ports. What can be reached, and how,
//! is decided where the parts of the process are put together. It must never know a kind, nor who asks.

use std::fmt;

use futures::{future::BoxFuture, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncWrite};

pub use crate::api::pod::Place;

/// Which output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputOptions {
    /// That of the run before the last start, instead of the last one's.
    pub previous: bool,
    /// At most so many lines, the last ones.
    pub last: Option<usize>,
    /// Only lines from this time on, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Also what comes, until the run ends.
    pub follow: bool,
}

/// A line of a program's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Unix time, milliseconds.
    pub at_ms: i64,
    /// Whether it came from standard error.
    pub stderr: bool,
    /// Without its end.
    pub text: String,
}

/// A command to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Command line.
    pub argv: Vec<String>,
    /// Whether it has a standard input.
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
pub type Resize = Box<dyn Fn(u16, u16) + Send + Sync>;
/// Bytes from a machine.
pub type Source = Box<dyn AsyncRead + Send + Unpin>;
/// Bytes to a machine.
pub type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// A command that runs, and its streams. With [`Session::ended`] dropped, the command is killed.
pub struct Session {
    /// Standard input; dropped, it is at its end.
    pub stdin: Option<Sink>,
    /// Standard output, and with a terminal standard error too.
    pub stdout: Source,
    /// Standard error.
    pub stderr: Option<Source>,
    /// The terminal's size.
    pub resize: Option<Resize>,
    /// The end.
    pub ended: BoxFuture<'static, Ended>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("tty", &self.resize.is_some()).finish_non_exhaustive()
    }
}

/// A connection to a port.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// What a machine uses now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time used so far, milliseconds.
    pub cpu_ms: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// Why a machine was not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It never can be, in this way; a sentence that says why.
    #[error("{0}")]
    Never(String),
    /// It cannot be as it is now.
    #[error("{0}")]
    NotNow(String),
    /// It should have been.
    #[error("{0}")]
    Failed(String),
}

/// Reaches machines.
pub trait Reach: fmt::Debug + Send + Sync {
    /// What a program wrote, in batches.
    fn output<'a>(
        &'a self,
        place: &'a Place,
        options: OutputOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Vec<Line>>, Refusal>>;
    /// Runs a command beside the program.
    fn open<'a>(
        &'a self,
        place: &'a Place,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Session, Refusal>>;
    /// Connects to a port.
    fn connect<'a>(
        &'a self,
        place: &'a Place,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, Refusal>>;
    /// What the machine uses; `None` where that is not known.
    fn usage<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Option<Usage>>;
}

/// Reaches nothing: for processes that have no machines.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Nowhere {
    fn refuse<T: Send>() -> BoxFuture<'static, Result<T, Refusal>> {
        let why = "this process reaches no machines";
        Box::pin(async move { Err(Refusal::Never(why.to_owned())) })
    }
}

impl Reach for Nowhere {
    fn output<'a>(
        &'a self,
        _place: &'a Place,
        _options: OutputOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Vec<Line>>, Refusal>> {
        Self::refuse()
    }

    fn open<'a>(
        &'a self,
        _place: &'a Place,
        _command: &'a Command,
    ) -> BoxFuture<'a, Result<Session, Refusal>> {
        Self::refuse()
    }

    fn connect<'a>(
        &'a self,
        _place: &'a Place,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, Refusal>> {
        Self::refuse()
    }

    fn usage<'a>(&'a self, _place: &'a Place) -> BoxFuture<'a, Option<Usage>> {
        Box::pin(async { None })
    }
}
