//! Connections to a pod's ports over SPDY: for each a pair of streams, one for bytes and one for what went wrong. It must never
//! let one connection that nobody reads hold up the others for long.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::mpsc,
};

use crate::server::{
    reach::Connection,
    streams::{
        CHUNK_BYTES, Desk, pings,
        spdy::{Answer, Frame, Reader, Writer, header},
    },
};

/// Connections at once over one carrier.
const CONNECTIONS_MAX: usize = 64;
/// Pieces of each that may wait for its machine.
const WAITING: usize = 16;
/// How long a connection may take no bytes while others wait behind it; then it is given up.
const STALLED_MAX: Duration = Duration::from_secs(30);

/// One of a pair, whose other one has not come yet.
#[derive(Debug, Default)]
struct Half {
    error: Option<u32>,
    data: Option<(u32, u16)>,
}

/// What the caller's side is told by connections, and the bytes for them.
struct Carrier {
    answers: mpsc::Sender<Answer>,
    halves: HashMap<String, Half>,
    /// Bytes for a connection, by the id of its data stream; gone once the caller has ended that.
    inputs: HashMap<u32, mpsc::Sender<Bytes>>,
}

/// A connection that is to be made.
struct Begun {
    port: u16,
    error: u32,
    data: u32,
    input: mpsc::Receiver<Bytes>,
}

/// Carries connections until the caller goes.
pub(super) async fn serve<S: AsyncRead + AsyncWrite>(stream: S, desk: &Desk) {
    let (from, to) = tokio::io::split(stream);
    let Ok(writer) = Writer::new(to) else { return };
    let (answers, to_send) = mpsc::channel(8);
    let (begin, begun) = mpsc::channel(1);
    let told = answers.clone();
    let carrier = Carrier { answers, halves: HashMap::new(), inputs: HashMap::new() };
    tokio::select! {
        () = carrier.read(Reader::new(from), begin) => {}
        () = write(writer, to_send) => {}
        () = connections(desk, begun, told) => {}
    }
}

impl Carrier {
    async fn read<R: AsyncRead + Unpin>(
        mut self,
        mut reader: Reader<R>,
        begin: mpsc::Sender<Begun>,
    ) {
        while let Ok(Some(frame)) = reader.next().await {
            let answer = match frame {
                Frame::Open { id, headers, .. } => match self.open(id, &headers) {
                    Some(begun) => {
                        if let Some(begun) = begun
                            && begin.send(begun).await.is_err()
                        {
                            return;
                        }
                        Some(Answer::Reply { id })
                    }
                    None => Some(Answer::Reset { id }),
                },
                Frame::Data { id, bytes, fin } => self.data(id, bytes, fin).await,
                Frame::Reset { id } => {
                    self.inputs.remove(&id);
                    None
                }
                // The client answers the server's own, whose ids are even.
                Frame::Ping { id } => (id % 2 == 1).then_some(Answer::Ping { id }),
                Frame::GoAway => return,
            };
            if let Some(answer) = answer
                && self.answers.send(answer).await.is_err()
            {
                return;
            }
        }
    }

    /// Takes a stream, and with it perhaps a whole pair; `None` refuses it.
    fn open(&mut self, id: u32, headers: &[(String, String)]) -> Option<Option<Begun>> {
        self.inputs.retain(|_, input| !input.is_closed());
        if self.inputs.len() + self.halves.len() >= CONNECTIONS_MAX {
            return None;
        }
        let port: u16 = header(headers, "port")?.parse().ok().filter(|port| *port != 0)?;
        let request = header(headers, "requestid").unwrap_or_default();
        let half = self.halves.entry(request.to_owned()).or_default();
        match header(headers, "streamtype")? {
            "error" if half.error.is_none() => half.error = Some(id),
            "data" if half.data.is_none() => half.data = Some((id, port)),
            _ => return None,
        }
        let (Some(error), Some((data, port))) = (half.error, half.data) else { return Some(None) };
        self.halves.remove(request);
        let (to, input) = mpsc::channel(WAITING);
        self.inputs.insert(data, to);
        Some(Some(Begun { port, error, data, input }))
    }

    /// Hands bytes on; what takes none for too long is given up, as everybody else's wait behind them.
    async fn data(&mut self, id: u32, bytes: Bytes, fin: bool) -> Option<Answer> {
        let mut answer = None;
        if let Some(to) = self.inputs.get(&id)
            && !bytes.is_empty()
            && tokio::time::timeout(STALLED_MAX, to.send(bytes)).await.is_err()
        {
            self.inputs.remove(&id);
            answer = Some(Answer::Reset { id });
        }
        if fin {
            self.inputs.remove(&id);
        }
        answer
    }
}

/// Drives the connections that are begun, until no more can come.
async fn connections(desk: &Desk, mut begun: mpsc::Receiver<Begun>, told: mpsc::Sender<Answer>) {
    let mut all = FuturesUnordered::new();
    loop {
        tokio::select! {
            next = begun.recv() => match next {
                Some(next) => all.push(connection(desk, next, told.clone())),
                None => return,
            },
            Some(()) = all.next() => {}
        }
    }
}

async fn connection(desk: &Desk, begun: Begun, told: mpsc::Sender<Answer>) {
    let Begun { port, error, data, input } = begun;
    let said = match desk.reach.connect(&desk.place, port).await {
        Ok(connection) => carry(connection, data, input, &told).await,
        Err(refusal) => refusal.to_string(),
    };
    let last = |id, text: String| Answer::Data { id, bytes: text.into(), fin: true };
    for answer in [last(data, String::new()), last(error, said)] {
        // The caller may be gone.
        let _unheard = told.send(answer).await;
    }
}

/// Both ways, each to its own end. What went wrong is returned.
async fn carry(
    connection: Box<dyn Connection>,
    data: u32,
    mut input: mpsc::Receiver<Bytes>,
    told: &mpsc::Sender<Answer>,
) -> String {
    let (mut from, mut to) = tokio::io::split(connection);
    let writing = async {
        while let Some(bytes) = input.recv().await {
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    let reading = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let length = from.read(&mut chunk).await?;
            let Some(bytes @ [_, ..]) = chunk.get(..length) else { return Ok(()) };
            let bytes = Bytes::copy_from_slice(bytes);
            if told.send(Answer::Data { id: data, bytes, fin: false }).await.is_err() {
                return Ok(());
            }
        }
    };
    let mut writing = std::pin::pin!(writing);
    let mut written = false;
    let mut reading = std::pin::pin!(reading);
    // A machine that ends its side has said everything; a caller that ends its own may still wait for an answer.
    let ended: std::io::Result<()> = loop {
        tokio::select! {
            ended = &mut reading => break ended,
            ended = &mut writing, if !written => match ended {
                Ok(()) => written = true,
                Err(error) => break Err(error),
            },
        }
    };
    ended.err().map_or_else(String::new, |error| format!("the connection broke: {error}"))
}

async fn write<W: AsyncWrite + Unpin>(mut writer: Writer<W>, mut answers: mpsc::Receiver<Answer>) {
    let mut pings = pings();
    let mut ping = 0;
    loop {
        let answer = tokio::select! {
            answer = answers.recv() => match answer {
                Some(answer) => answer,
                None => return,
            },
            _ = pings.tick() => {
                ping += 2;
                Answer::Ping { id: ping }
            }
        };
        if writer.send(answer).await.is_err() {
            return;
        }
    }
}
