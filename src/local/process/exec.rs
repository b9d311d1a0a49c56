//! Children of a machine: what they are started with, and commands that run beside the program with a time limit. It must
//! never outlast its caller's patience.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    pin::pin,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{ChildStderr, ChildStdin, ChildStdout},
};

use crate::local::driver::Spec;
use crate::local::process::{
    control::Reply,
    directory::{Directory, Ports},
    procfs,
    reaper::{End, Reaper},
};
use crate::tasks;

/// Bytes kept of each output stream of a command; the rest is read and dropped.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// How long a command's pipes are read after its end, for what it left running in the background.
const PIPES_AFTER_END: Duration = Duration::from_millis(250);

/// Directory and environment that every process of a machine starts with.
#[derive(Debug)]
pub(super) struct Surroundings {
    root: PathBuf,
    env: BTreeMap<String, String>,
}

impl Surroundings {
    pub(super) fn new(spec: &Spec, directory: &Directory, ports: &Ports) -> Self {
        let root = directory.root();
        let mut env = spec.env.clone();
        // Programs of the host are found where the host's user finds them.
        if let (false, Ok(path)) = (env.contains_key("PATH"), std::env::var("PATH")) {
            env.insert("PATH".to_owned(), path);
        }
        env.entry("HOME".to_owned()).or_insert_with(|| root.to_string_lossy().into_owned());
        env.insert("HANGAR_ROOT".to_owned(), root.to_string_lossy().into_owned());
        env.remove("HANGAR_VOLUME");
        if let Some((host, _)) = &spec.volume {
            env.insert("HANGAR_VOLUME".to_owned(), host.to_string_lossy().into_owned());
        }
        if let Some(host) = spec.ports.first().and_then(|first| ports.get(first)) {
            env.insert("PORT".to_owned(), host.to_string());
        }
        env.extend(ports.iter().map(|(port, host)| (format!("PORT_{port}"), host.to_string())));
        Self { root, env }
    }

    /// Starts a process in a group of its own, with pipes for output.
    pub(super) fn spawn(
        &self,
        reaper: &Reaper,
        argv: &[String],
        stdin: Stdio,
    ) -> io::Result<(Child, End)> {
        let mut command = self.command(argv)?;
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        reaper.spawn(&mut command).map_err(|error| cannot_run(argv, &error))
    }

    /// A command line with the machine's directory and environment.
    pub(super) fn command(&self, argv: &[String]) -> io::Result<Command> {
        let (program, arguments) = argv.split_first().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "no command: the image has none and none was given",
            )
        })?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(&self.env).current_dir(&self.root);
        Ok(command)
    }
}

/// Names the program that does not start.
pub(super) fn cannot_run(argv: &[String], error: &io::Error) -> io::Error {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    io::Error::new(error.kind(), format!("cannot run {program}: {error}"))
}

/// The output pipes of a child, for tokio.
pub(super) fn pipes(child: &mut Child) -> io::Result<(ChildStdout, ChildStderr)> {
    let missing = || io::Error::other("the child has no pipes");
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    Ok((ChildStdout::from_std(stdout)?, ChildStderr::from_std(stderr)?))
}

/// A command that was started.
#[derive(Debug)]
pub(super) struct Started {
    pid: u32,
    end: End,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Started {
    /// Starts a command and feeds it `stdin`.
    pub(super) fn spawn(
        around: &Surroundings,
        reaper: &Arc<Reaper>,
        argv: &[String],
        stdin: Vec<u8>,
    ) -> io::Result<Self> {
        let (mut child, end) = around.spawn(reaper, argv, Stdio::piped())?;
        let (stdout, stderr) = pipes(&mut child)?;
        if let Some(pipe) = child.stdin.take() {
            let mut pipe = ChildStdin::from_std(pipe)?;
            tasks::detached(async move {
                // A command need not read what it is given.
                let _unread = pipe.write_all(&stdin).await;
            });
        }
        Ok(Self { pid: child.id(), end, stdout, stderr })
    }

    /// Waits for the end, at most `timeout`; then the command, its group and its children are killed.
    pub(super) async fn finish(self, timeout: Duration) -> Reply {
        let pid = self.pid;
        let Ok(reply) = tokio::time::timeout(timeout, self.end()).await else {
            return match procfs::kill(family(pid)).await {
                Ok(()) => Reply::ExecTimeout,
                Err(error) => Reply::refused(&error),
            };
        };
        reply
    }

    async fn end(self) -> Reply {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let ended = {
            let mut reading = pin!(async {
                tokio::join!(fill(&mut stdout, self.stdout), fill(&mut stderr, self.stderr))
            });
            let mut end = self.end;
            tokio::select! {
                ended = &mut end => {
                    let _still_open = tokio::time::timeout(PIPES_AFTER_END, reading).await;
                    ended
                }
                _ = &mut reading => end.await,
            }
        };
        match ended {
            Ok(ended) => Reply::Executed { code: ended.code, signal: ended.signal, stdout, stderr },
            Err(_) => Reply::NotRunning,
        }
    }
}

/// A command, its group and everything below it.
pub(super) fn family(pid: u32) -> impl Fn(&[procfs::Stat]) -> Vec<procfs::Stat> {
    move |all| {
        let mut family = procfs::below(all, pid);
        family.extend(all.iter().filter(|it| it.pid == pid || it.group == pid).cloned());
        family
    }
}

/// Reads to the end, keeps the beginning.
async fn fill(kept: &mut Vec<u8>, mut from: impl AsyncRead + Unpin) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(chunk.iter().take(length.min(room)));
    }
}
