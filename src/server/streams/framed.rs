//! A command's caller over SPDY: one stream of frames for each of the command's. It must never answer a stream that was not
//! asked for.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};

use crate::server::streams::{
    command::{self, Far, Output},
    pings,
    query::Wanted,
    spdy::{Answer, Frame, Reader, Writer, header},
};

/// How long the caller may take to open its streams.
const OPEN_MAX: Duration = Duration::from_secs(30);
/// How long the caller may take to go once it has heard everything.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The ids of a command's streams; 0 is none.
#[derive(Debug, Default)]
struct Ids {
    error: u32,
    stdin: u32,
    stdout: u32,
    stderr: u32,
    resize: u32,
}

impl Ids {
    fn of(&mut self, kind: Option<&str>) -> Option<&mut u32> {
        match kind {
            Some("error") => Some(&mut self.error),
            Some("stdin") => Some(&mut self.stdin),
            Some("stdout") => Some(&mut self.stdout),
            Some("stderr") => Some(&mut self.stderr),
            Some("resize") => Some(&mut self.resize),
            Some(_) | None => None,
        }
    }

    fn are_whole(&self, wanted: &Wanted) -> bool {
        let needed = [
            (true, self.error),
            (wanted.command.stdin, self.stdin),
            (wanted.stdout, self.stdout),
            (wanted.stderr, self.stderr),
            (wanted.command.tty, self.resize),
        ];
        needed.iter().all(|(needed, id)| !needed || *id != 0)
    }
}

/// Carries a command's caller. Returns when the caller is gone, or has heard everything.
pub(super) async fn command<S: AsyncRead + AsyncWrite>(stream: S, far: Far, wanted: &Wanted) {
    let (from, to) = tokio::io::split(stream);
    let mut reader = Reader::new(from);
    let Ok(mut writer) = Writer::new(to) else { return };
    let opening = opened(&mut reader, &mut writer, wanted);
    let Ok(Some(ids)) = tokio::time::timeout(OPEN_MAX, opening).await else { return };
    let Far { stdin, sizes, output } = far;
    let (answers, to_send) = mpsc::channel(4);
    let reading = async {
        let stdin = stdin.filter(|_| ids.stdin != 0);
        read(&mut reader, &ids, stdin, sizes, &answers).await;
    };
    let writing = write(writer, &ids, output, to_send);
    let mut reading = std::pin::pin!(reading);
    tokio::select! {
        () = &mut reading => return,
        // A caller that nothing can be said to is gone.
        closed = writing => if !closed { return },
    }
    let _silent = tokio::time::timeout(CLOSE_MAX, reading).await;
}

/// Waits for the streams that were announced.
async fn opened<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    reader: &mut Reader<R>,
    writer: &mut Writer<W>,
    wanted: &Wanted,
) -> Option<Ids> {
    let mut ids = Ids::default();
    while !ids.are_whole(wanted) {
        let answer = match reader.next().await.ok()?? {
            Frame::Open { id, headers, .. } => match ids.of(header(&headers, "streamtype")) {
                Some(slot) if *slot == 0 && id != 0 => {
                    *slot = id;
                    Answer::Reply { id }
                }
                Some(_) | None => Answer::Reset { id },
            },
            Frame::Ping { id } => Answer::Ping { id },
            // No command is there yet to hear anything.
            Frame::Data { .. } | Frame::Reset { .. } | Frame::GoAway => return None,
        };
        writer.send(answer).await.ok()?;
    }
    Some(ids)
}

/// Reads to the end of the connection.
async fn read<R: AsyncRead + Unpin>(
    reader: &mut Reader<R>,
    ids: &Ids,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    sizes: mpsc::Sender<(u16, u16)>,
    answers: &mpsc::Sender<Answer>,
) {
    while let Ok(Some(frame)) = reader.next().await {
        match frame {
            Frame::Data { id, bytes, fin } if id == ids.stdin => {
                if let Some(to) = &stdin
                    && !bytes.is_empty()
                    && to.send(bytes).await.is_err()
                {
                    stdin = None;
                }
                if fin {
                    stdin = None;
                }
            }
            Frame::Data { id, bytes, .. } if id == ids.resize => {
                if let Some(size) = command::size(&bytes) {
                    // A command that ended has no size.
                    let _unheard = sizes.send(size).await;
                }
            }
            Frame::Reset { id } if id == ids.stdin => stdin = None,
            // The client answers the server's own, whose ids are even.
            Frame::Ping { id } if id % 2 == 1 => {
                let _ending = answers.send(Answer::Ping { id }).await;
            }
            Frame::Open { id, .. } => {
                let _ending = answers.send(Answer::Reset { id }).await;
            }
            Frame::GoAway => return,
            Frame::Data { .. } | Frame::Reset { .. } | Frame::Ping { .. } => {}
        }
    }
}

/// Writes everything, and the end of each stream; whether it came to that.
async fn write<W: AsyncWrite + Unpin>(
    mut writer: Writer<W>,
    ids: &Ids,
    mut output: mpsc::Receiver<Output>,
    mut answers: mpsc::Receiver<Answer>,
) -> bool {
    let mut pings = pings();
    let mut ping = 0;
    loop {
        let answer = tokio::select! {
            said = output.recv() => match said {
                Some(Output::Stdout(bytes)) => data(ids.stdout, bytes),
                Some(Output::Stderr(bytes)) => data(ids.stderr, bytes),
                // Success is what nothing is said of.
                Some(Output::Status(status)) if status["status"] == "Success" => None,
                Some(Output::Status(status)) => data(ids.error, status.to_string().into()),
                None => break,
            },
            Some(answer) = answers.recv() => Some(answer),
            _ = pings.tick() => {
                ping += 2;
                Some(Answer::Ping { id: ping })
            }
        };
        if let Some(answer) = answer
            && writer.send(answer).await.is_err()
        {
            return false;
        }
    }
    for id in [ids.stdout, ids.stderr, ids.error].into_iter().filter(|id| *id != 0) {
        if writer.send(Answer::Data { id, bytes: Bytes::new(), fin: true }).await.is_err() {
            return false;
        }
    }
    let said = writer.send(Answer::GoAway).await.is_ok();
    writer.close().await;
    said
}

fn data(id: u32, bytes: Bytes) -> Option<Answer> {
    (id != 0).then_some(Answer::Data { id, bytes, fin: false })
}
