//! WebSockets: commands and ports in channels of `v5.channel.k8s.io` and `v4.channel.k8s.io`, and a tunnel of plain bytes. Each
//! message's first byte is its channel. It must never end one without close code 1000, which clients take for a failure.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::server::{
    reach::{Connection, Place, Reach},
    streams::{
        CHUNK_BYTES,
        command::{self, Far, Output},
        pings,
    },
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const SIZE: u8 = 4;
/// In v5: the channel in the next byte is at its end.
const END: u8 = 255;

/// Bytes of one message: far more than anybody sends, and no more than can be held for every caller.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long the caller may take to answer the close.
const CLOSE_MAX: Duration = Duration::from_secs(5);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn accept(upgraded: Upgraded) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await
}

/// Carries a command's caller. Returns when the caller is gone, or has heard everything.
pub(super) async fn command(upgraded: Upgraded, far: Far) {
    let Far { mut stdin, sizes, mut output } = far;
    let (mut sink, mut source) = accept(upgraded).await.split();
    let reading = async {
        while let Some(message) = next(&mut source).await {
            match message.split_first() {
                Some((&STDIN, bytes)) if !bytes.is_empty() => {
                    if let Some(to) = &stdin
                        && to.send(message.slice(1..)).await.is_err()
                    {
                        stdin = None;
                    }
                }
                Some((&SIZE, text)) => {
                    if let Some(size) = command::size(text) {
                        // A command that ended has no size.
                        let _unheard = sizes.send(size).await;
                    }
                }
                Some((&END, [STDIN])) => stdin = None,
                _ => {}
            }
        }
    };
    let writing = async {
        let mut pings = pings();
        loop {
            let sent = tokio::select! {
                said = output.recv() => match said {
                    Some(Output::Stdout(bytes)) => sink.send(framed(STDOUT, &bytes)).await,
                    Some(Output::Stderr(bytes)) => sink.send(framed(STDERR, &bytes)).await,
                    Some(Output::Status(status)) => {
                        sink.send(framed(STATUS, status.to_string().as_bytes())).await
                    }
                    None => break,
                },
                _ = pings.tick() => sink.send(Message::Ping(Bytes::new())).await,
            };
            if sent.is_err() {
                return false;
            }
        }
        close(&mut sink).await;
        true
    };
    until_closed(reading, writing).await;
}

/// Reads all the while, also when there is nothing to say; after the close as long as the caller takes to answer it. `writing` tells
/// whether it came to a close: a caller that nothing can be said to is gone.
async fn until_closed(reading: impl Future<Output = ()>, writing: impl Future<Output = bool>) {
    let mut reading = std::pin::pin!(reading);
    tokio::select! {
        () = &mut reading => return,
        closed = writing => if !closed { return },
    }
    let _silent = tokio::time::timeout(CLOSE_MAX, reading).await;
}

/// The next message's bytes; `None` at the end.
async fn next(source: &mut SplitStream<Socket>) -> Option<Bytes> {
    loop {
        match source.next().await? {
            Ok(Message::Binary(bytes)) => return Some(bytes),
            Ok(Message::Text(text)) => return Some(text.into()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
        }
    }
}

fn framed(channel: u8, bytes: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(bytes.len() + 1);
    message.extend_from_slice(&[channel]);
    message.extend_from_slice(bytes);
    Message::Binary(message.freeze())
}

async fn close(sink: &mut SplitSink<Socket, Message>) {
    let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    // The caller may be gone.
    let _unheard = sink.send(Message::Close(Some(frame))).await;
}

/// Carries bytes that are no messages: what comes out of the returned end is what the caller sent, in order.
pub(super) async fn tunnel(upgraded: Upgraded, near: DuplexStream) {
    let (mut sink, mut source) = accept(upgraded).await.split();
    let (mut from, mut to) = tokio::io::split(near);
    let reading = async {
        while let Some(bytes) = next(&mut source).await {
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _closed = to.shutdown().await;
        // The other way ends when whoever is there has read the end.
        std::future::pending().await
    };
    let writing = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            let bytes = Bytes::copy_from_slice(chunk.get(..length).unwrap_or_default());
            if sink.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
        close(&mut sink).await;
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}

/// Carries connections to ports, two channels each: data and errors. Both begin with the port.
pub(super) async fn ports(upgraded: Upgraded, ports: &[u16], reach: &dyn Reach, place: &Place) {
    let (mut sink, mut source) = accept(upgraded).await.split();
    let (said, mut saying) = mpsc::channel::<Message>(4);
    let mut to_ports = Vec::new();
    let mut connections = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else { break };
        let (to, from) = mpsc::channel::<Bytes>(4);
        to_ports.push(to);
        connections.push(one_port(channel, *port, (reach, place), from, said.clone()));
    }
    drop(said);
    let reading = async {
        while let Some(message) = next(&mut source).await {
            let Some((channel, [_, ..])) = message.split_first() else { continue };
            if let Some(to) = to_ports.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0) {
                // Nobody reads a connection that has ended.
                let _unread = to.send(message.slice(1..)).await;
            }
        }
    };
    let writing = async {
        while let Some(message) = saying.recv().await {
            if sink.send(message).await.is_err() {
                return false;
            }
        }
        close(&mut sink).await;
        true
    };
    until_closed(reading, async {
        tokio::join!(futures::future::join_all(connections), writing).1
    })
    .await;
}

async fn one_port(
    channel: u8,
    port: u16,
    (reach, place): (&dyn Reach, &Place),
    mut from: mpsc::Receiver<Bytes>,
    said: mpsc::Sender<Message>,
) {
    for channel in [channel, channel + 1] {
        if said.send(framed(channel, &port.to_le_bytes())).await.is_err() {
            return;
        }
    }
    let connection: Box<dyn Connection> = match reach.connect(place, port).await {
        Ok(connection) => connection,
        Err(refusal) => {
            let _unheard = said.send(framed(channel + 1, refusal.to_string().as_bytes())).await;
            return;
        }
    };
    let (mut source, mut sink) = tokio::io::split(connection);
    let writing = async {
        while let Some(bytes) = from.recv().await {
            if sink.write_all(&bytes).await.is_err() {
                break;
            }
        }
        std::future::pending().await
    };
    let reading = async {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = source.read(&mut chunk).await {
            let bytes = chunk.get(..length).unwrap_or_default();
            if said.send(framed(channel, bytes)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}
