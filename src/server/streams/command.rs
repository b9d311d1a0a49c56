//! One command (or a look at the program's own output) between a machine and a caller, whatever carries the caller's bytes. It
//! must never hold more of them than a few chunks: who does not read is waited for.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
};

use crate::server::{
    reach::{Command, Ended, OutputOptions, Place, Reach, Refusal, Resize, Session, Sink, Source},
    streams::{CHUNK_BYTES, refused},
};

/// Chunks that may wait on each way.
const WAITING: usize = 4;
/// How long a command's output may be silent after its end, for what it left running in the background.
const SILENT_AFTER_END: Duration = Duration::from_millis(250);

/// What goes to the caller.
#[derive(Debug)]
pub(super) enum Output {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How it ended; the last one.
    Status(Value),
}

/// The command's side of a caller.
#[derive(Debug)]
pub(super) struct Near {
    /// Closed, it is the end of the input.
    pub(super) stdin: mpsc::Receiver<Bytes>,
    /// Columns and rows.
    pub(super) sizes: mpsc::Receiver<(u16, u16)>,
    pub(super) output: mpsc::Sender<Output>,
}

/// The caller's side.
#[derive(Debug)]
pub(super) struct Far {
    /// `None` once the input is at its end.
    pub(super) stdin: Option<mpsc::Sender<Bytes>>,
    pub(super) sizes: mpsc::Sender<(u16, u16)>,
    pub(super) output: mpsc::Receiver<Output>,
}

/// Both sides.
pub(super) fn pair() -> (Near, Far) {
    let (stdin, near_stdin) = mpsc::channel(WAITING);
    let (sizes, near_sizes) = mpsc::channel(WAITING);
    let (near_output, output) = mpsc::channel(WAITING);
    let near = Near { stdin: near_stdin, sizes: near_sizes, output: near_output };
    (near, Far { stdin: Some(stdin), sizes, output })
}

/// A size as clients send it.
pub(super) fn size(message: &[u8]) -> Option<(u16, u16)> {
    let size: Value = serde_json::from_slice(message).ok()?;
    let side = |key| u16::try_from(size.get(key)?.as_u64()?).ok();
    Some((side("Width")?, side("Height")?))
}

/// Runs a command to its end, and tells how it ended.
pub(super) async fn run(reach: &dyn Reach, place: &Place, command: &Command, near: Near) {
    let Near { stdin, sizes, output } = near;
    let status = match reach.open(place, command).await {
        Ok(session) => ended(carry(session, stdin, sizes, &output).await),
        Err(refusal) => failed(&refusal),
    };
    // The caller may be gone.
    let _unheard = output.send(Output::Status(status)).await;
}

/// Shows what the program writes from now on.
pub(super) async fn attach(reach: &dyn Reach, place: &Place, command: &Command, near: Near) {
    let options = OutputOptions { last: Some(0), follow: true, ..OutputOptions::default() };
    let status = if command.stdin || command.tty {
        let why = "a program's standard input and terminal are not kept: leave out -i and -t to see its output, or exec a shell beside it";
        failed(&Refusal::Never(why.to_owned()))
    } else {
        match reach.output(place, options).await {
            Ok(mut lines) => {
                while let Some(batch) = lines.next().await {
                    for line in batch {
                        let text = Bytes::from(line.text + "\n");
                        let wrap = if line.stderr { Output::Stderr } else { Output::Stdout };
                        if near.output.send(wrap(text)).await.is_err() {
                            return;
                        }
                    }
                }
                success()
            }
            Err(refusal) => failed(&refusal),
        }
    };
    let _unheard = near.output.send(Output::Status(status)).await;
}

async fn carry(
    session: Session,
    input: mpsc::Receiver<Bytes>,
    sizes: mpsc::Receiver<(u16, u16)>,
    output: &mpsc::Sender<Output>,
) -> Ended {
    let Session { stdin, stdout, stderr, resize, mut ended } = session;
    let (over, is_over) = watch::channel(false);
    let copying = async {
        let errors = async {
            if let Some(stderr) = stderr {
                copy(stderr, output, Output::Stderr, is_over.clone()).await;
            }
        };
        tokio::join!(copy(stdout, output, Output::Stdout, is_over.clone()), errors);
    };
    let ending = async {
        let ended = (&mut ended).await;
        over.send_replace(true);
        ended
    };
    tokio::select! {
        (ended, ()) = async { tokio::join!(ending, copying) } => ended,
        () = async { tokio::join!(feed(stdin, input), shape(resize, sizes)); } => {
            // Neither returns.
            Ended { code: None, signal: None }
        }
    }
}

/// What the caller writes, until its end; never returns.
async fn feed(stdin: Option<Sink>, mut input: mpsc::Receiver<Bytes>) {
    if let Some(mut stdin) = stdin {
        while let Some(bytes) = input.recv().await {
            if stdin.write_all(&bytes).await.is_err() || stdin.flush().await.is_err() {
                // The command need not read it.
                break;
            }
        }
        let _closed = stdin.shutdown().await;
    }
    // What still comes is for nobody; dropped here, so that its sender hears of it.
    drop(input);
    std::future::pending().await
}

/// The terminal's sizes; never returns.
async fn shape(resize: Option<Resize>, mut sizes: mpsc::Receiver<(u16, u16)>) {
    while let Some((columns, rows)) = sizes.recv().await {
        if let Some(resize) = &resize {
            resize(columns, rows);
        }
    }
    std::future::pending().await
}

/// Everything to the end of a stream, or until it is silent after the command's end.
async fn copy(
    mut from: Source,
    output: &mpsc::Sender<Output>,
    wrap: fn(Bytes) -> Output,
    mut over: watch::Receiver<bool>,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = tokio::select! {
            biased;
            read = from.read(&mut chunk) => read.unwrap_or(0),
            () = silence(&mut over) => 0,
        };
        let Some(bytes @ [_, ..]) = chunk.get(..length) else { return };
        if output.send(wrap(Bytes::copy_from_slice(bytes))).await.is_err() {
            return;
        }
    }
}

async fn silence(over: &mut watch::Receiver<bool>) {
    // The guard is not to be kept while it is waited.
    drop(over.wait_for(|over| *over).await);
    tokio::time::sleep(SILENT_AFTER_END).await;
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

fn ended(ended: Ended) -> Value {
    // As a shell has it.
    let code = match (ended.code, ended.signal) {
        (Some(0), _) => return success(),
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    json!({
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: {code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failed(refusal: &Refusal) -> Value {
    refused(refusal).body()
}
