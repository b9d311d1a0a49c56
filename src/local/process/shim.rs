//! The shim's process: becomes the machine's owner, starts the program, answers on the control socket, and ends after the
//! program. It must never depend on whoever started it once it has said that the program runs.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use rustix::process::Signal;
use tokio::{
    io::AsyncReadExt,
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};

use crate::clock::System;
use crate::local::driver::{Spec, Status};
use crate::local::process::{
    control::{self, Boot, Reply, Request},
    directory::Directory,
    exec::Surroundings,
    open,
    output::Output,
    procfs,
    reaper::Reaper,
    restart::Policy,
    signal as names,
    supervisor::{Order, Supervision, Supervisor},
};
use crate::tasks;

/// How long a shim that is about to end may still hold the machine.
const CLAIM_MAX: Duration = Duration::from_secs(5);
/// How long a client may take to say what it wants.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Runs the shim of the machine in `directory`: reads what to run from standard input, says on standard output whether it
/// runs, and returns when it has ended for good. Call it first thing in the process, outside any async runtime.
///
/// # Errors
/// If the program cannot be started; the same is said on standard output.
pub fn machine_shim(directory: &Path) -> anyhow::Result<()> {
    // Away from the terminal and its Ctrl-C.
    rustix::process::setsid().context("cannot leave the session")?;
    // Orphans of the program become ours: to freeze, to kill and to reap.
    #[cfg(target_os = "linux")]
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot adopt orphans")?;
    // Standard error is `shim.log`. If the program has set up its own tracing, that will do.
    let _set_up = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).try_init();
    let mut text = Vec::new();
    io::stdin().lock().read_to_end(&mut text).context("cannot read what to run")?;
    let boot: Boot = serde_json::from_slice(&text).context("cannot read what to run")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(live(&Directory::open(directory)?, boot.spec))
}

/// Starts the program, says how that went, and lives until the program has ended.
async fn live(directory: &Directory, spec: Spec) -> anyhow::Result<()> {
    let started = start(directory, spec).await;
    let said = match &started {
        Ok(_) => Reply::Done,
        Err(error) => Reply::refused(error),
    };
    tell(&said).context("cannot leave standard input and output")?;
    let Shim { claim, listener, supervision, desk } = started?;
    // The system goes down, most likely.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut life = std::pin::pin!(supervision.run());
    loop {
        tokio::select! {
            () = &mut life => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => tasks::detached(serve(stream, desk.clone())),
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(()) = terminated.recv() => {
                let stop = Order::Stop { signal: desk.stop_signal, timeout: desk.stop_timeout };
                // Never awaited here: the orders are taken by `life`, which stands still meanwhile.
                if let Err(error) = desk.orders.try_send(stop) {
                    tracing::warn!(%error, "too busy to stop");
                }
            }
        }
    }
    drop(claim);
    Ok(())
}

/// A machine that runs.
struct Shim {
    claim: File,
    listener: UnixListener,
    supervision: Supervision,
    desk: Desk,
}

/// Makes sure that programs begin with no signal ignored, as on Fly. `nohup` and shell scripts that put things into the background
/// leave some ignored, which programs inherit; what this process catches, the system sets back for them.
fn catch_signals() -> io::Result<()> {
    for kind in [
        SignalKind::alarm(),
        SignalKind::hangup(),
        SignalKind::interrupt(),
        SignalKind::quit(),
        SignalKind::terminate(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ] {
        // Caught for as long as the process lives, whether anybody listens or not.
        drop(signal(kind)?);
    }
    Ok(())
}

async fn start(directory: &Directory, spec: Spec) -> io::Result<Shim> {
    catch_signals()?;
    let stop_signal = names::parse(&spec.stop_signal)?;
    let claim = claim(directory).await?;
    // Of a shim that was killed.
    let marker = directory.marker();
    procfs::kill(move |all| procfs::marked(all, &marker)).await?;
    directory.lay_out(&spec)?;
    let ports = directory.choose_ports(&spec.ports)?;
    let (clock, stop_timeout) = (System::shared(), spec.stop_timeout);
    let (order, orders) = mpsc::channel(64);
    let (status, seen) = watch::channel(Status::Absent);
    let listener = control::listen(directory.path())?;
    let supervisor = Supervisor {
        around: Surroundings::new(&spec, directory, &ports),
        directory: directory.clone(),
        reaper: Reaper::start()?,
        output: Arc::new(Output::open(directory.path(), Arc::clone(&clock))?),
        clock,
        policy: Policy::new(spec.restart),
        restarts: 0,
        orders,
        status,
        spec,
    };
    let desk = Desk { orders: order, status: seen, stop_signal, stop_timeout };
    Ok(Shim { claim, listener, supervision: supervisor.start()?, desk })
}

async fn claim(directory: &Directory) -> io::Result<File> {
    let tries = async {
        loop {
            if let Some(claim) = directory.claim()? {
                return Ok(claim);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(CLAIM_MAX, tries).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "it has a shim already"))
    })
}

/// Answers whoever started this process, and lets go of it.
fn tell(said: &Reply) -> io::Result<()> {
    let mut out = io::stdout().lock();
    // Nobody may be listening any more; the machine runs all the same.
    let _unheard = out.write_all(&serde_json::to_vec(said)?).and_then(|()| out.flush());
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok(())
}

/// What a connection needs: where orders go, and the status.
#[derive(Debug, Clone)]
struct Desk {
    orders: mpsc::Sender<Order>,
    status: watch::Receiver<Status>,
    stop_signal: Signal,
    stop_timeout: Duration,
}

async fn serve(mut stream: UnixStream, desk: Desk) {
    let asked = tokio::time::timeout(REQUEST_MAX, control::receive(&mut stream)).await;
    let said = match asked {
        Ok(Ok(Some(Request::Open { command }))) => {
            if let Err(error) = open::serve(stream, command, &desk.orders).await {
                tracing::debug!(%error, "a command's caller is gone");
            }
            return;
        }
        Ok(Ok(Some(request))) => desk.answer(request).await,
        Ok(Ok(None)) | Err(_) => return,
        Ok(Err(error)) => Some(Reply::refused(&error)),
    };
    let Some(said) = said else {
        // A stop is answered by the end of this process; until then the connection stays, unless the caller leaves.
        let _left = stream.read_u8().await;
        return;
    };
    if let Err(error) = control::send(&mut stream, &said).await {
        tracing::debug!(%error, "a reply was not wanted any more");
    }
}

impl Desk {
    async fn answer(mut self, request: Request) -> Option<Reply> {
        Some(match request {
            Request::Stop { signal, timeout_ms } => {
                let signal = match signal.as_deref().map(names::parse).transpose() {
                    Ok(signal) => signal.unwrap_or(self.stop_signal),
                    Err(error) => return Some(Reply::refused(&error)),
                };
                let timeout = timeout_ms.map_or(self.stop_timeout, Duration::from_millis);
                // If nobody takes the order, the end is near already.
                let _ending = self.orders.send(Order::Stop { signal, timeout }).await;
                return None;
            }
            Request::Signal { signal } => match names::parse(&signal) {
                Ok(signal) => self.order(|answer| Order::Signal { signal, answer }).await,
                Err(error) => Reply::refused(&error),
            },
            Request::Suspend => self.order(|answer| Order::Suspend { answer }).await,
            Request::Resume => self.order(|answer| Order::Resume { answer }).await,
            Request::Exec { argv, stdin, timeout_ms } => {
                let timeout = Duration::from_millis(timeout_ms);
                self.order(|answer| Order::Exec { argv, stdin, timeout, answer }).await
            }
            // Served where its connection is.
            Request::Open { .. } => Reply::NotRunning,
            Request::Changed { known, timeout_ms } => {
                let other = self.status.wait_for(|status| *status != known);
                let _same = tokio::time::timeout(Duration::from_millis(timeout_ms), other).await;
                Reply::Done
            }
        })
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<Reply>) -> Order) -> Reply {
        let (answer, answered) = oneshot::channel();
        if self.orders.send(order(answer)).await.is_err() {
            return Reply::NotRunning;
        }
        answered.await.unwrap_or(Reply::NotRunning)
    }
}
