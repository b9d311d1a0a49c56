//! How the API server reaches machines: those of the stand-in in this process directly, all others by the Machines API. It
//! must never let something look as if it worked that does not.

use std::{io::Cursor, sync::Arc};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};

use crate::{
    fly::{
        self, Machines,
        wire::{Exec, Executed},
    },
    local::{
        Backend,
        driver::{self, Interactive, Wanted},
    },
    retry,
    server::reach::{
        Command, Connection, Ended, Line, OutputOptions, Place, Reach, Refusal, Resize, Session,
        Usage,
    },
};

/// The machines of the stand-in for Fly in this process.
#[derive(Debug)]
pub(super) struct Here(pub(super) Arc<Backend>);

fn refusal(error: &driver::Error) -> Refusal {
    match error {
        driver::Error::NothingRuns => Refusal::Never(error.to_string()),
        driver::Error::NotRunning { .. } | driver::Error::NoRunBefore { .. } => {
            Refusal::NotNow(error.to_string())
        }
        driver::Error::UnknownImage { .. }
        | driver::Error::ExecTimeout
        | driver::Error::Io { .. } => Refusal::Failed(retry::chain(error)),
    }
}

impl Here {
    async fn output(
        &self,
        place: &Place,
        options: OutputOptions,
    ) -> Result<BoxStream<'static, Vec<Line>>, Refusal> {
        let OutputOptions { previous, last, since_ms, follow } = options;
        let wanted = Wanted { previous, last, since_ms, follow };
        let lines = self.0.output(&place.app, &place.machine, wanted).await;
        let lines = lines.map_err(|error| refusal(&error))?;
        let line = |it: driver::LogLine| Line { at_ms: it.at_ms, stderr: it.stderr, text: it.text };
        Ok(lines.map(move |batch| batch.into_iter().map(line).collect()).boxed())
    }

    async fn open(&self, place: &Place, command: &Command) -> Result<Session, Refusal> {
        let Command { argv, stdin, tty } = command.clone();
        let command = Interactive { argv, stdin, tty };
        let opened = self.0.interact(&place.app, &place.machine, &command).await;
        let driver::Session { stdin, stdout, stderr, resize, ended } =
            opened.map_err(|error| refusal(&error))?;
        let resize = resize.map(|resize| -> Resize {
            Box::new(move |columns, rows| {
                if let Err(error) = resize(columns, rows) {
                    tracing::debug!(%error, "a terminal was not resized");
                }
            })
        });
        let ended = ended.map(|it| Ended { code: it.code, signal: it.signal }).boxed();
        Ok(Session { stdin, stdout, stderr, resize, ended })
    }
}

impl Reach for Here {
    fn output<'a>(
        &'a self,
        place: &'a Place,
        options: OutputOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Vec<Line>>, Refusal>> {
        self.output(place, options).boxed()
    }

    fn open<'a>(
        &'a self,
        place: &'a Place,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Session, Refusal>> {
        self.open(place, command).boxed()
    }

    fn connect<'a>(
        &'a self,
        place: &'a Place,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, Refusal>> {
        async move {
            let connected = self.0.connect(&place.app, &place.machine, port).await;
            let stream = connected.map_err(|error| refusal(&error))?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        }
        .boxed()
    }

    fn usage<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Option<Usage>> {
        async move {
            let processes = self.0.running_in(&place.app, &place.machine).await.ok()?;
            let usage = Usage {
                cpu_ms: processes.iter().map(|it| it.cpu_ms).sum(),
                memory_bytes: processes.iter().map(|it| it.rss_bytes).sum(),
            };
            // What runs has memory; what is only pretended has none.
            (usage.memory_bytes > 0).then_some(usage)
        }
        .boxed()
    }
}

/// Machines that only the Machines API reaches.
#[derive(Debug)]
pub(super) struct ByApi(pub(super) Arc<dyn Machines>);

/// The longest that the Machines API was seen to wait for a command.
const EXEC_SECONDS: u64 = 30;

const NO_LOGS: &str = "the Machines API has no logs: `fly logs --app` with the app in the pod's annotation `hangar.dev/app` shows them";
const NO_PORTS: &str = "the Machines API has no way to a port of a machine: `fly proxy --app` with the app in the pod's annotation `hangar.dev/app` has one";
const NO_TTY: &str = "the Machines API runs a command without a terminal and answers at its end: leave out --tty (-t), or use `fly ssh console --app` with the app in the pod's annotation `hangar.dev/app`";
const NO_STDIN: &str = "the Machines API takes no standard input while a command runs: leave out --stdin (-i); `kubectl cp` to a machine needs it too";

impl ByApi {
    async fn open(&self, place: &Place, command: &Command) -> Result<Session, Refusal> {
        let why = match command {
            Command { tty: true, .. } => NO_TTY,
            Command { stdin: true, .. } => NO_STDIN,
            Command { .. } => "",
        };
        if !why.is_empty() {
            return Err(Refusal::Never(why.to_owned()));
        }
        let exec =
            Exec { command: command.argv.clone(), timeout: Some(EXEC_SECONDS), ..Exec::default() };
        let done = self.0.exec(&place.app, &place.machine, &exec).await;
        let Executed { exit_code, exit_signal, stdout, stderr } =
            done.map_err(|error| refused(&error))?;
        let ended = match exit_signal {
            0 => Ended { code: Some(exit_code), signal: None },
            signal => Ended { code: None, signal: Some(signal) },
        };
        Ok(Session {
            stdin: None,
            stdout: Box::new(Cursor::new(stdout.into_bytes())),
            stderr: Some(Box::new(Cursor::new(stderr.into_bytes()))),
            resize: None,
            ended: std::future::ready(ended).boxed(),
        })
    }
}

fn refused(error: &fly::Error) -> Refusal {
    Refusal::Failed(retry::chain(error))
}

impl Reach for ByApi {
    fn output<'a>(
        &'a self,
        _place: &'a Place,
        _options: OutputOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Vec<Line>>, Refusal>> {
        async { Err(Refusal::Never(NO_LOGS.to_owned())) }.boxed()
    }

    fn open<'a>(
        &'a self,
        place: &'a Place,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Session, Refusal>> {
        self.open(place, command).boxed()
    }

    fn connect<'a>(
        &'a self,
        _place: &'a Place,
        _port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, Refusal>> {
        async { Err(Refusal::Never(NO_PORTS.to_owned())) }.boxed()
    }

    fn usage<'a>(&'a self, _place: &'a Place) -> BoxFuture<'a, Option<Usage>> {
        async { None }.boxed()
    }
}
