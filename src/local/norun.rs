//! A driver that starts nothing: every machine runs at once and ends only when it is stopped or killed. For tests of rules and for scale. It
//! must never touch a process or a file.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::local::driver::{
    Driver, Error, Executed, Exit, Image, Isolation, LogLine, Process, Spec, Status, Stream,
};

/// The image that no registry has.
const UNPULLABLE: &str = "hangar.test/unpullable";

/// The driver. Cheap: a word per machine.
#[derive(Debug, Default)]
pub struct NoRun {
    machines: Mutex<HashMap<String, watch::Sender<Status>>>,
    /// What a command in each machine was last given on its standard input.
    given: Mutex<BTreeMap<String, Arc<str>>>,
    exit_at: Mutex<Timestamp>,
}

impl NoRun {
    /// No machines yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a machine's program end by itself, as no program here does.
    pub fn end(&self, id: &str, code: i32) {
        let exit = self.exit(Some(code), false);
        if let Some(status) = self.machines().get(id) {
            status.send_replace(Status::Exited(exit));
        }
    }

    /// What a command was last given on its standard input, by machine: as if it wrote that into a file on the machine's volume,
    /// or, without one, on its root file system, of which a start makes a new one.
    #[must_use]
    pub fn given(&self) -> BTreeMap<String, Arc<str>> {
        self.commands().clone()
    }

    /// Times of exits from now on; this driver has no clock.
    pub fn exits_at(&self, at: Timestamp) {
        *self.exit_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn exit(&self, code: Option<i32>, requested: bool) -> Exit {
        let at = *self.exit_at.lock().unwrap_or_else(PoisonError::into_inner);
        Exit { code, signal: None, requested, at_ms: at.as_millisecond(), restarts: 0 }
    }

    fn machines(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Status>>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commands(&self) -> MutexGuard<'_, BTreeMap<String, Arc<str>>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: &str, status: Status) {
        let mut machines = self.machines();
        machines
            .entry(id.to_owned())
            .or_insert_with(|| watch::channel(Status::Absent).0)
            .send_replace(status);
    }

    fn now(&self, id: &str) -> Status {
        self.machines().get(id).map_or(Status::Absent, |it| it.borrow().clone())
    }

    fn running(&self, id: &str) -> Result<(), Error> {
        match self.now(id) {
            Status::Running { .. } => Ok(()),
            Status::Frozen { .. } | Status::Exited(_) | Status::Absent => {
                Err(Error::NotRunning { id: id.to_owned() })
            }
        }
    }
}

/// A process id that is nobody's.
const PID: u32 = 0;

impl Driver for NoRun {
    fn isolation(&self) -> Isolation {
        Isolation::None
    }

    fn image<'a>(&'a self, reference: &'a str) -> BoxFuture<'a, Result<Image, Error>> {
        Box::pin(async move {
            if reference.starts_with(UNPULLABLE) {
                return Err(Error::UnknownImage { image: reference.to_owned() });
            }
            Ok(Image {
                digest: format!("sha256:{}", blake3::hash(reference.as_bytes()).to_hex()),
                entrypoint: Vec::new(),
                cmd: vec!["/bin/true".to_owned()],
                env: BTreeMap::new(),
                prepare: Duration::ZERO,
            })
        })
    }

    fn start<'a>(&'a self, spec: &'a Spec) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if spec.volume.is_none() {
                self.commands().remove(&spec.id);
            }
            self.set(&spec.id, Status::Running { pid: PID, restarts: 0 });
            Ok(())
        })
    }

    fn stop<'a>(
        &'a self,
        id: &'a str,
        _signal: Option<&'a str>,
        _timeout: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            match self.now(id) {
                Status::Running { .. } | Status::Frozen { .. } => {
                    self.set(id, Status::Exited(self.exit(Some(0), true)));
                    Ok(())
                }
                Status::Exited(_) | Status::Absent => Err(Error::NotRunning { id: id.to_owned() }),
            }
        })
    }

    fn signal<'a>(&'a self, id: &'a str, signal: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.running(id)?;
            if signal == "SIGKILL" {
                let exit = Exit { signal: Some(9), ..self.exit(None, false) };
                self.set(id, Status::Exited(exit));
            }
            Ok(())
        })
    }

    fn suspend<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.running(id)?;
            self.set(id, Status::Frozen { pid: PID });
            Ok(())
        })
    }

    fn resume<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            match self.now(id) {
                Status::Frozen { pid } => {
                    self.set(id, Status::Running { pid, restarts: 0 });
                    Ok(())
                }
                Status::Running { .. } | Status::Exited(_) | Status::Absent => {
                    Err(Error::NotRunning { id: id.to_owned() })
                }
            }
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a str,
        _argv: &'a [String],
        stdin: &'a [u8],
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<Executed, Error>> {
        Box::pin(async move {
            self.running(id)?;
            if !stdin.is_empty() {
                let text = String::from_utf8_lossy(stdin);
                self.commands().insert(id.to_owned(), Arc::from(text));
            }
            Ok(Executed { code: Some(0), signal: None, stdout: Vec::new(), stderr: Vec::new() })
        })
    }

    fn status<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Status> {
        Box::pin(async move { self.now(id) })
    }

    fn changed<'a>(
        &'a self,
        id: &'a str,
        known: &'a Status,
        timeout: Duration,
    ) -> BoxFuture<'a, Status> {
        let receiver = self.machines().get(id).map(watch::Sender::subscribe);
        Box::pin(async move {
            let Some(mut receiver) = receiver else { return Status::Absent };
            let changed = receiver.wait_for(|it| it != known);
            match tokio::time::timeout(timeout, changed).await {
                Ok(Ok(status)) => status.clone(),
                Ok(Err(_)) => Status::Absent,
                Err(_) => known.clone(),
            }
        })
    }

    fn dial<'a>(
        &'a self,
        id: &'a str,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Stream>, Error>> {
        Box::pin(async move {
            let source = io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "machines are not run here, so nothing listens in them",
            );
            Err(Error::Io { id: id.to_owned(), doing: "dial", source })
        })
    }

    fn processes<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Vec<Process>, Error>> {
        Box::pin(async move { self.running(id).map(|()| Vec::new()) })
    }

    fn logs<'a>(
        &'a self,
        _id: &'a str,
        _limit: usize,
    ) -> BoxFuture<'a, Result<Vec<LogLine>, Error>> {
        Box::pin(async move { Ok(Vec::new()) })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            self.machines().remove(id);
            self.commands().remove(id);
            Ok(())
        })
    }
}
