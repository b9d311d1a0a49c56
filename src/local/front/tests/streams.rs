//! Bodies that are not there at once: uploads, event streams, tunnels.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::{Bench, TO_M1, bytes};
use crate::fly::wire::Autostop;
use crate::tasks;

/// Sends bytes as they are and reads until the front closes.
pub(super) async fn raw(bench: &Bench, request: &str) -> String {
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut told = String::new();
    let read = stream.read_to_string(&mut told);
    tokio::time::timeout(Duration::from_secs(20), read).await.unwrap().unwrap();
    told
}

fn stream_body(
    chunks: mpsc::Receiver<Bytes>,
) -> impl hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static {
    StreamBody::new(futures::stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((Ok(Frame::data(chunk)), chunks))
    }))
}

#[tokio::test]
async fn an_upload_that_is_still_coming_is_read_on_for_the_replay() {
    let bench = Bench::start().await;
    let (sender, chunks) = mpsc::channel(1);
    let body = bytes(300_000);
    let request = bench.request("/echo", &[TO_M1]).method("PUT").body(stream_body(chunks)).unwrap();
    let upload = async {
        sender.send(Bytes::copy_from_slice(&body[..100_000])).await.unwrap();
        // The router has answered long before the body ends.
        while bench.router_peers.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for chunk in body[100_000..].chunks(1_000) {
            sender.send(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        drop(sender);
    };
    let (response, ()) = tokio::join!(bench.send(request), upload);
    assert_eq!(response.headers()["x-machine"], "m1");
    assert!(response.into_body().collect().await.unwrap().to_bytes() == body);
}

#[tokio::test]
async fn an_upload_of_unknown_length_is_refused_when_it_grows_too_long() {
    let bench = Bench::start().await;
    let (sender, chunks) = mpsc::channel(1);
    let request = bench.request("/echo", &[TO_M1]).method("PUT").body(stream_body(chunks)).unwrap();
    let upload = async {
        for chunk in bytes(1_500_000).chunks(50_000) {
            sender.send(Bytes::copy_from_slice(chunk)).await.unwrap();
        }
        drop(sender);
    };
    let (response, ()) = tokio::join!(bench.send(request), upload);
    assert_eq!(response.status(), 413);
}

/// A machine that answers whatever it is asked with an event stream, one line per message of the test.
async fn event_server(mut lines: mpsc::Receiver<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks::detached(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        // An old server: no length, no chunks, HTTP/1.0.
        let head = b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while let Some(line) = lines.recv().await {
            stream.write_all(line.as_bytes()).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn an_event_stream_arrives_line_by_line() {
    let bench = Bench::start().await;
    let (sender, lines) = mpsc::channel(1);
    bench.yard.add("web", "sse", event_server(lines).await);
    let order = ("x-order", "app=web;instance=sse");
    let request = bench.request("/", &[order]).body(http_body_util::Empty::new()).unwrap();
    let mut response = bench.send(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    for line in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        sender.send(line).await.unwrap();
        // Nothing more is sent until this line has come through.
        let frame = response.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), line);
    }
    drop(sender);
    assert!(response.frame().await.is_none());
}

/// A machine that speaks WebSocket and nothing else; it greets with what it was told and echoes.
async fn socket_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks::detached(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.send(Message::text("hello")).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn a_web_socket_passes_through_a_replay_and_keeps_its_machine_awake() {
    let bench = Bench::with(Duration::from_millis(10)).await;
    bench.yard.add("web", "ws", socket_server().await);
    bench.yard.change("ws", |target| target.autostop = Autostop::Stop);

    let mut request = format!("ws://{}/socket", bench.address).into_client_request().unwrap();
    request.headers_mut().insert("x-order", "app=web;instance=ws".parse().unwrap());
    let stream = TcpStream::connect(bench.address).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert!(response.headers().contains_key("fly-request-id"));
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    let large = Message::binary(bytes(200_000));
    socket.send(large.clone()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), large);

    // One machine per round: by the last of these, three rounds have passed the socket's machine by.
    for id in ["i1", "i2", "i3"] {
        bench.yard.add("idle", id, bench.address);
        bench.yard.change(id, |target| target.autostop = Autostop::Suspend);
    }
    bench.until(|yard| ["i1", "i2", "i3"].iter().all(|id| yard.state(id) == "suspended")).await;
    assert_eq!(bench.yard.state("ws"), "started");
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("still here"));
    socket.close(None).await.unwrap();
    drop(socket);
    bench.until(|yard| yard.state("ws") == "stopped").await;
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_not_passed_on() {
    let bench = Bench::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench.yard.add("web", "odd", listener.local_addr().unwrap());
    tasks::detached(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        stream.write_all(head).await.unwrap();
    });
    let told = bench.get("/", &[("x-order", "app=web;instance=odd")]).await;
    assert_eq!(told.status, 502);
    assert!(told.text().starts_with("PU02: "), "{}", told.text());
}

#[tokio::test]
async fn a_machine_that_breaks_off_is_told_as_such() {
    let bench = Bench::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    bench.yard.add("web", "odd", listener.local_addr().unwrap());
    tasks::detached(async move {
        let _closed = listener.accept().await.unwrap();
    });
    let told = bench.get("/", &[("x-order", "app=web;instance=odd")]).await;
    assert_eq!(told.status, 502);
    assert!(told.text().contains("machine odd broke off"), "{}", told.text());
}
