//! A machine's program from its first start to its last end: one task, one phase at a time, orders one after another. It
//! must never leave a process behind when it ends.

use std::{process::Stdio, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::Clock;
use crate::local::driver::{Exit, Interactive, Spec, Status};
use crate::local::process::{
    control::Reply,
    directory::Directory,
    exec::{Started, Surroundings, pipes},
    open::Opened,
    output::Output,
    procfs,
    reaper::{End, Ended, Reaper},
    restart::Policy,
};
use crate::tasks;

/// How long output may arrive after the last process is gone. It is in the pipe already, so this is never used up.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(1);

/// What the shim is told to do. Each answer is sent exactly once; a stop is answered by the shim's end.
#[derive(Debug)]
pub(super) enum Order {
    Stop { signal: Signal, timeout: Duration },
    Signal { signal: Signal, answer: oneshot::Sender<Reply> },
    Suspend { answer: oneshot::Sender<Reply> },
    Resume { answer: oneshot::Sender<Reply> },
    Exec { argv: Vec<String>, stdin: Vec<u8>, timeout: Duration, answer: oneshot::Sender<Reply> },
    Open { command: Interactive, answer: oneshot::Sender<Result<Opened, Reply>> },
}

/// What moves a machine.
enum Event {
    Ended(Ended),
    Order(Order),
    Due,
}

/// A program that was started.
struct Program {
    pid: u32,
    end: End,
    /// Closes when both pipes have been read to their end.
    output: oneshot::Receiver<()>,
}

enum Phase {
    Running(Program),
    Frozen(Program),
    /// Asked to end; killed at this time, `None` once that is done.
    Stopping(Program, Option<Duration>),
    /// Between an end and the restart at this time. The old process id is shown until then.
    Resting {
        ended: Ended,
        pid: u32,
        until: Duration,
    },
}

enum Step {
    Go(Phase),
    End(Exit),
}

/// What a supervisor works with.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) spec: Spec,
    pub(super) around: Surroundings,
    pub(super) directory: Directory,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) reaper: Arc<Reaper>,
    pub(super) output: Arc<Output>,
    pub(super) policy: Policy,
    pub(super) restarts: u32,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) status: watch::Sender<Status>,
}

/// A first program that runs, and who looks after it.
pub(super) struct Supervision {
    supervisor: Supervisor,
    phase: Phase,
}

impl Supervisor {
    /// Starts the program for the first time. Failing to is no end that a policy could retry.
    pub(super) fn start(self) -> std::io::Result<Supervision> {
        let program = self.spawn()?;
        self.publish(&Status::Running { pid: program.pid, restarts: 0 });
        Ok(Supervision { supervisor: self, phase: Phase::Running(program) })
    }

    fn spawn(&self) -> std::io::Result<Program> {
        if let Err(error) = self.output.start() {
            tracing::warn!(%error, "the start of a run was not marked");
        }
        let (mut child, end) = self.around.spawn(&self.reaper, &self.spec.argv, Stdio::null())?;
        let (stdout, stderr) = pipes(&mut child)?;
        let (done, output) = oneshot::channel();
        let writer = Arc::clone(&self.output);
        tasks::detached(async move {
            tokio::join!(writer.copy(false, stdout), writer.copy(true, stderr));
            drop(done);
        });
        Ok(Program { pid: child.id(), end, output })
    }

    fn publish(&self, status: &Status) {
        match self.directory.write_status(status) {
            Ok(()) => {
                self.status.send_replace(status.clone());
            }
            // Nobody is told what the file, which everybody reads, does not say.
            Err(error) => tracing::error!(%error, "the machine's status could not be written"),
        }
    }

    async fn step(&mut self, phase: Phase, event: Event) -> Step {
        match (phase, event) {
            (Phase::Running(program) | Phase::Frozen(program), Event::Ended(ended)) => {
                let pid = program.pid;
                self.clear(program).await;
                self.after_end(ended, pid)
            }
            (Phase::Stopping(program, _), Event::Ended(ended)) => {
                self.clear(program).await;
                Step::End(self.exit(ended, true))
            }
            (Phase::Stopping(program, _), Event::Due) => {
                self.kill().await;
                Step::Go(Phase::Stopping(program, None))
            }
            (Phase::Resting { ended, pid, .. }, Event::Due) => self.again(ended, pid),
            (phase @ (Phase::Running(_) | Phase::Frozen(_)), Event::Due)
            | (phase @ Phase::Resting { .. }, Event::Ended(_)) => Step::Go(phase),
            (phase, Event::Order(order)) => self.obey(phase, order).await,
        }
    }

    fn after_end(&mut self, ended: Ended, pid: u32) -> Step {
        let now = self.clock.monotonic();
        match self.policy.after_end(ended.code != Some(0), now) {
            Some(pause) => Step::Go(Phase::Resting { ended, pid, until: now + pause }),
            None => Step::End(self.exit(ended, false)),
        }
    }

    fn again(&mut self, ended: Ended, pid: u32) -> Step {
        self.restarts += 1;
        // A restart makes the root file system anew, whoever restarts: Fly keeps it only for who asks for `persist_rootfs`.
        match self.directory.lay_out(&self.spec).and_then(|()| self.spawn()) {
            Ok(program) => {
                self.publish(&Status::Running { pid: program.pid, restarts: self.restarts });
                Step::Go(Phase::Running(program))
            }
            Err(error) => {
                let said = self.output.line(true, format!("hangar: {error}").as_bytes());
                tracing::warn!(%error, logged = said.is_ok(), "the program did not start again");
                self.after_end(ended, pid)
            }
        }
    }

    async fn obey(&mut self, phase: Phase, order: Order) -> Step {
        match order {
            Order::Stop { signal, timeout } => return self.stop(phase, signal, timeout).await,
            Order::Suspend { answer } => return self.suspend(phase, answer).await,
            Order::Resume { answer } => return self.resume(phase, answer).await,
            Order::Signal { signal, answer } => reply(
                answer,
                match &phase {
                    Phase::Running(program) | Phase::Stopping(program, _) => {
                        Reply::of(signal_program(program, signal))
                    }
                    Phase::Frozen(_) | Phase::Resting { .. } => Reply::NotRunning,
                },
            ),
            Order::Exec { argv, stdin, timeout, answer } => match &phase {
                Phase::Running(_) => self.exec(&argv, stdin, timeout, answer),
                Phase::Frozen(_) | Phase::Stopping(..) | Phase::Resting { .. } => {
                    reply(answer, Reply::NotRunning);
                }
            },
            Order::Open { command, answer } => {
                let opened = match &phase {
                    Phase::Running(_) => Opened::spawn(&self.around, &self.reaper, &command)
                        .map_err(|error| Reply::refused(&error)),
                    Phase::Frozen(_) | Phase::Stopping(..) | Phase::Resting { .. } => {
                        Err(Reply::NotRunning)
                    }
                };
                // Not heard, it is dropped, and nothing reads or writes the command's streams any more.
                let _unheard = answer.send(opened);
            }
        }
        Step::Go(phase)
    }

    async fn stop(&mut self, phase: Phase, signal: Signal, timeout: Duration) -> Step {
        let kill_at = self.clock.monotonic() + timeout;
        Step::Go(match phase {
            Phase::Running(program) => {
                if let Err(error) = signal_program(&program, signal) {
                    tracing::warn!(%error, "the stop signal was not sent");
                }
                Phase::Stopping(program, Some(kill_at))
            }
            // As on Fly, stopping a suspended machine throws its memory away: it never runs again.
            Phase::Frozen(program) => {
                self.kill().await;
                Phase::Stopping(program, None)
            }
            Phase::Stopping(program, sooner) => {
                Phase::Stopping(program, sooner.map(|sooner| sooner.min(kill_at)))
            }
            Phase::Resting { ended, .. } => return Step::End(self.exit(ended, true)),
        })
    }

    async fn suspend(&self, phase: Phase, answer: oneshot::Sender<Reply>) -> Step {
        let me = std::process::id();
        let (phase, said) = match phase {
            Phase::Running(program) => match procfs::freeze(me).await {
                Ok(()) => {
                    self.publish(&Status::Frozen { pid: program.pid });
                    (Phase::Frozen(program), Reply::Done)
                }
                Err(error) => {
                    if let Err(error) = procfs::thaw(me).await {
                        tracing::error!(%error, "the machine is frozen in part");
                    }
                    (Phase::Running(program), Reply::refused(&error))
                }
            },
            Phase::Frozen(program) => (Phase::Frozen(program), Reply::Done),
            other @ (Phase::Stopping(..) | Phase::Resting { .. }) => (other, Reply::NotRunning),
        };
        reply(answer, said);
        Step::Go(phase)
    }

    async fn resume(&self, phase: Phase, answer: oneshot::Sender<Reply>) -> Step {
        let (phase, said) = match phase {
            Phase::Frozen(program) => match procfs::thaw(std::process::id()).await {
                Ok(()) => {
                    self.publish(&Status::Running { pid: program.pid, restarts: self.restarts });
                    (Phase::Running(program), Reply::Done)
                }
                Err(error) => (Phase::Frozen(program), Reply::refused(&error)),
            },
            Phase::Running(program) => (Phase::Running(program), Reply::Done),
            other @ (Phase::Stopping(..) | Phase::Resting { .. }) => (other, Reply::NotRunning),
        };
        reply(answer, said);
        Step::Go(phase)
    }

    fn exec(
        &self,
        argv: &[String],
        stdin: Vec<u8>,
        timeout: Duration,
        answer: oneshot::Sender<Reply>,
    ) {
        match Started::spawn(&self.around, &self.reaper, argv, stdin) {
            Ok(started) => {
                tasks::detached(async move { reply(answer, started.finish(timeout).await) })
            }
            Err(error) => reply(answer, Reply::refused(&error)),
        }
    }

    /// What the program left behind goes with it, as everything goes with a virtual machine.
    async fn clear(&self, program: Program) {
        self.kill().await;
        let _closed = tokio::time::timeout(OUTPUT_AFTER_END, program.output).await;
    }

    async fn kill(&self) {
        let me = std::process::id();
        if let Err(error) = procfs::kill(move |all| procfs::below(all, me)).await {
            tracing::error!(%error, "processes of the machine are left");
        }
    }

    fn exit(&self, ended: Ended, requested: bool) -> Exit {
        let Ended { code, signal } = ended;
        let at_ms = self.clock.now().as_millisecond();
        Exit { code, signal, requested, at_ms, restarts: self.restarts }
    }
}

impl Supervision {
    /// Runs to the last end, which is published.
    pub(super) async fn run(self) {
        let Self { mut supervisor, mut phase } = self;
        let exit = loop {
            let event = next(&mut supervisor, &mut phase).await;
            match supervisor.step(phase, event).await {
                Step::Go(next) => phase = next,
                Step::End(exit) => break exit,
            }
        };
        supervisor.publish(&Status::Exited(exit));
    }
}

async fn next(supervisor: &mut Supervisor, phase: &mut Phase) -> Event {
    let now = supervisor.clock.monotonic();
    let (end, due) = match phase {
        Phase::Running(program) | Phase::Frozen(program) | Phase::Stopping(program, None) => {
            (Some(&mut program.end), None)
        }
        Phase::Stopping(program, Some(kill_at)) => (Some(&mut program.end), Some(*kill_at)),
        Phase::Resting { until, .. } => (None, Some(*until)),
    };
    let ended = async {
        match end {
            // The reaper lives as long as the shim, so the end is always told.
            Some(end) => end.await.unwrap_or(Ended { code: None, signal: None }),
            None => std::future::pending().await,
        }
    };
    let due = async {
        match due {
            Some(due) => tokio::time::sleep(due.saturating_sub(now)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = ended => Event::Ended(ended),
        Some(order) = supervisor.orders.recv() => Event::Order(order),
        () = due => Event::Due,
    }
}

fn signal_program(program: &Program, signal: Signal) -> std::io::Result<()> {
    // Not reaped yet, or its end would have been an event: the id can't be another's.
    procfs::stat(program.pid).map_or(Ok(()), |it| procfs::send(&it, signal))
}

fn reply(answer: oneshot::Sender<Reply>, said: Reply) {
    // The caller may have given up.
    let _unheard = answer.send(said);
}
