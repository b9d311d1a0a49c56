//! Commands with open streams. The shim starts one and hands its pipes, or its terminal, to the driver, which then reads and
//! writes them itself; the connection tells the end, and by its own end the shim knows that nobody wants the command any
//! more. It must never leave a command behind whose caller is gone.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    process::Stdio,
    sync::Arc,
};

use tokio::{
    io::AsyncReadExt as _,
    net::{UnixStream, unix::pipe},
    sync::{mpsc, oneshot},
};

use crate::local::{
    driver::{Ended, Interactive, Session},
    process::{
        control::{self, Reply},
        descriptors,
        exec::{Surroundings, cannot_run, family},
        procfs,
        reaper::{End, Reaper},
        supervisor::Order,
    },
};

/// A command that the shim started, and the near ends of its streams.
#[derive(Debug)]
pub(super) struct Opened {
    pid: u32,
    end: End,
    /// Standard input if it has one, standard output, standard error; or one terminal.
    streams: Vec<OwnedFd>,
}

impl Opened {
    pub(super) fn spawn(
        around: &Surroundings,
        reaper: &Arc<Reaper>,
        wanted: &Interactive,
    ) -> io::Result<Self> {
        if wanted.tty {
            return Self::in_terminal(around, reaper, wanted);
        }
        let stdin = if wanted.stdin { Stdio::piped() } else { Stdio::null() };
        let (mut child, end) = around.spawn(reaper, &wanted.argv, stdin)?;
        let pid = child.id();
        let streams = child.stdin.take().map(OwnedFd::from).into_iter();
        let streams = streams.chain(child.stdout.take().map(OwnedFd::from));
        let streams = streams.chain(child.stderr.take().map(OwnedFd::from)).collect();
        Ok(Self { pid, end, streams })
    }

    fn in_terminal(
        around: &Surroundings,
        reaper: &Arc<Reaper>,
        wanted: &Interactive,
    ) -> io::Result<Self> {
        let (near, far) = pty_process::blocking::open().map_err(io::Error::other)?;
        let mut command = around.command(&wanted.argv)?;
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm");
        }
        // The command leads a session of its own, and so a group of its own.
        let command = pty_process::blocking::Command::from(command);
        let spawn = || {
            command.spawn(far).map_err(|error| match error {
                pty_process::Error::Io(error) => cannot_run(&wanted.argv, &error),
                other => io::Error::other(other),
            })
        };
        let (child, end) = reaper.spawn_by(spawn)?;
        Ok(Self { pid: child.id(), end, streams: vec![near.into()] })
    }
}

/// The shim's side of one command.
pub(super) async fn serve(
    mut stream: UnixStream,
    command: Interactive,
    orders: &mpsc::Sender<Order>,
) -> io::Result<()> {
    let (answer, answered) = oneshot::channel();
    // If nobody takes the order, the end is near already.
    let _ending = orders.send(Order::Open { command, answer }).await;
    let opened = match answered.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(refusal)) => return control::send(&mut stream, &refusal).await,
        Err(_) => return control::send(&mut stream, &Reply::NotRunning).await,
    };
    let Opened { pid, mut end, streams } = opened;
    let hand_over = async {
        control::send(&mut stream, &Reply::Opened).await?;
        let streams: Vec<_> = streams.iter().map(OwnedFd::as_fd).collect();
        descriptors::send(&stream, &streams).await
    };
    let handed = hand_over.await;
    // As long as they are open here too, the command would not see its caller close them.
    drop(streams);
    if handed.is_ok() {
        tokio::select! {
            // First: after its end its process id may be another's.
            biased;
            ended = &mut end => {
                let (code, signal) = ended.map_or((None, None), |it| (it.code, it.signal));
                return control::send(&mut stream, &Reply::Ended { code, signal }).await;
            }
            _gone = stream.read_u8() => {}
        }
    }
    procfs::kill(family(pid)).await?;
    handed
}

/// The driver's side: what the shim handed over, as streams.
pub(super) async fn session(stream: UnixStream, wanted: &Interactive) -> io::Result<Session> {
    let mut streams = descriptors::receive(&stream).await?.into_iter();
    let mut next = || streams.next().ok_or_else(|| io::Error::other("a stream is missing"));
    let ended = Box::pin(async move {
        let mut stream = stream;
        match control::receive(&mut stream).await {
            Ok(Some(Reply::Ended { code, signal })) => Ended { code, signal },
            // The machine ended, and everything in it.
            _ => Ended { code: None, signal: Some(9) },
        }
    });
    if wanted.tty {
        let (input, output, terminal) = descriptors::terminal(next()?)?;
        return Ok(Session {
            stdin: if wanted.stdin { Some(Box::new(input)) } else { None },
            stdout: Box::new(output),
            stderr: None,
            resize: Some(Box::new(move |columns, rows| {
                descriptors::resize(&terminal, columns, rows)
            })),
            ended,
        });
    }
    let stdin = if wanted.stdin { Some(pipe::Sender::from_owned_fd(next()?)?) } else { None };
    Ok(Session {
        stdin: stdin.map(|it| Box::new(it) as _),
        stdout: Box::new(pipe::Receiver::from_owned_fd(next()?)?),
        stderr: Some(Box::new(pipe::Receiver::from_owned_fd(next()?)?)),
        resize: None,
        ended,
    })
}
