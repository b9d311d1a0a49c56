//! Streams of pods over real connections, to a machine that only says back what it hears.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Error, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode,
    },
};

use super::{Api, SOON, eventually, pods::PODS, text};
use crate::server::{
    reach::{
        Command, Connection, Ended, Line, OutputOptions, Place, Reach, Refusal, Session, Usage,
    },
    streams::{OPEN_MAX, spdy::client},
};

/// Commands say back their input and end with it; ports say back what they get, but for 9, at which nothing listens.
#[derive(Debug, Default)]
struct Echo {
    /// Machines that were reached.
    reached: Mutex<Vec<String>>,
}

impl Echo {
    fn note(&self, place: &Place) {
        self.reached.lock().unwrap().push(place.machine.clone());
    }
}

impl Reach for Echo {
    fn output<'a>(
        &'a self,
        place: &'a Place,
        options: OutputOptions,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Vec<Line>>, Refusal>> {
        self.note(place);
        let line = |text: &str| Line { at_ms: 1_500, stderr: false, text: text.to_owned() };
        let first = futures::stream::iter([vec![line("one"), line("two")]]);
        let rest = futures::stream::pending().boxed();
        let lines = if options.follow { first.chain(rest).boxed() } else { first.boxed() };
        async { Ok(lines) }.boxed()
    }

    fn open<'a>(
        &'a self,
        place: &'a Place,
        command: &'a Command,
    ) -> BoxFuture<'a, Result<Session, Refusal>> {
        self.note(place);
        let code: i32 = command.argv.get(1).map_or(0, |it| it.parse().unwrap());
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (from, to) = tokio::io::split(far);
        let (over, is_over) = tokio::sync::oneshot::channel();
        crate::tasks::detached(async move {
            let (mut from, mut to) = (from, to);
            let _copied = tokio::io::copy(&mut from, &mut to).await;
            drop(to);
            let _unheard = over.send(());
        });
        let (stdout, stdin) = tokio::io::split(near);
        let ended = async move {
            let _gone = is_over.await;
            Ended { code: Some(code), signal: None }
        };
        let session = Session {
            stdin: Some(Box::new(stdin)),
            stdout: Box::new(stdout),
            stderr: None,
            resize: None,
            ended: ended.boxed(),
        };
        async { Ok(session) }.boxed()
    }

    fn connect<'a>(
        &'a self,
        place: &'a Place,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, Refusal>> {
        self.note(place);
        if port == 9 {
            return async { Err(Refusal::Failed("nothing listens".to_owned())) }.boxed();
        }
        let (near, far) = tokio::io::duplex(64 * 1024);
        crate::tasks::detached(async move {
            let (mut from, mut to) = tokio::io::split(far);
            let _copied = tokio::io::copy(&mut from, &mut to).await;
        });
        async { Ok(Box::new(near) as Box<dyn Connection>) }.boxed()
    }

    fn usage<'a>(&'a self, _place: &'a Place) -> BoxFuture<'a, Option<Usage>> {
        async { Some(Usage { cpu_ms: 0, memory_bytes: 2_048 }) }.boxed()
    }
}

struct Ground {
    api: Api,
    echo: Arc<Echo>,
}

type Socket = WebSocketStream<Box<dyn Connection>>;

impl Ground {
    async fn with(token: Option<&str>) -> Self {
        let echo = Arc::new(Echo::default());
        let api = Api::reaching(token, Arc::clone(&echo) as _).await;
        api.bound("alice", "started").await;
        Self { api, echo }
    }

    async fn open(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
        let url = format!("{}{PODS}/{path}", self.api.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = self.api.connect().await;
        client_async(request, stream).await.map(|(socket, _)| socket)
    }

    /// The code of a refusal, before anything was reached.
    async fn refusal(&self, path: &str, headers: &[(&'static str, &str)]) -> u16 {
        let Err(Error::Http(answer)) = self.open(path, headers).await else { panic!("{path}") };
        assert_eq!(*self.echo.reached.lock().unwrap(), Vec::<String>::new(), "{path}");
        answer.status().as_u16()
    }
}

const V5: (&str, &str) = ("sec-websocket-protocol", "v5.channel.k8s.io");
const V4: (&str, &str) = ("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io");
const EXEC: &str = "alice/exec?command=echo&stdin=true&stdout=true";

/// Messages up to the close, and its code.
async fn rest(socket: &mut Socket) -> (Vec<Bytes>, Option<CloseCode>) {
    let mut messages = Vec::new();
    let reading = async {
        while let Some(message) = socket.next().await {
            match message.unwrap() {
                Message::Binary(bytes) => messages.push(bytes),
                Message::Close(frame) => return frame.map(|it| it.code),
                _ => {}
            }
        }
        None
    };
    let code = tokio::time::timeout(SOON, reading).await.unwrap();
    (messages, code)
}

#[tokio::test]
async fn a_web_page_and_whoever_has_no_token_never_reach_a_command() {
    let ground = Ground::with(None).await;
    let streams = [EXEC, "alice/attach?stdout=true", "alice/portforward?ports=80", "alice/log"];
    for path in streams {
        for origin in ["http://evil.example", "null", "http://localhost:1"] {
            assert_eq!(ground.refusal(path, &[V4, ("origin", origin)]).await, 403, "{path}");
        }
        assert_eq!(ground.refusal(path, &[V4, ("host", "evil.example")]).await, 403, "{path}");
    }
    let guarded = Ground::with(Some("t")).await;
    for path in streams {
        assert_eq!(guarded.refusal(path, &[V4]).await, 401, "{path}");
    }
    let mut socket = guarded.open(EXEC, &[V5, ("authorization", "Bearer t")]).await.unwrap();
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_command_hears_its_input_its_end_and_is_told_with_its_exit_code() {
    let ground = Ground::with(None).await;
    let mut socket = ground.open(&format!("{EXEC}&command=3"), &[V5]).await.unwrap();
    socket.send(Message::binary(b"\0hello".as_slice())).await.unwrap();
    socket.send(Message::binary([255, 0].as_slice())).await.unwrap();
    let (messages, code) = rest(&mut socket).await;
    assert_eq!(messages[0], b"\x01hello".as_slice());
    let [3, status @ ..] = &*messages[1] else { panic!("{messages:?}") };
    let status: Value = serde_json::from_slice(status).unwrap();
    assert_eq!(text(&status, "/reason"), "NonZeroExitCode");
    assert_eq!(text(&status, "/details/causes/0/message"), "3");
    assert_eq!(code, Some(CloseCode::Normal));
    assert_eq!(*ground.echo.reached.lock().unwrap(), ["m-alice"]);
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused_before_anything_is_reached() {
    let ground = Ground::with(None).await;
    ground.api.bound("bob", "suspended").await;
    let exec = |pod: &str, more: &str| format!("{pod}/exec?command=a&stdout=true{more}");
    assert_eq!(ground.refusal(&exec("nobody", ""), &[V5]).await, 404);
    assert_eq!(ground.refusal(&exec("bob", ""), &[V5]).await, 400);
    assert_eq!(ground.refusal(&exec("bay-alice", ""), &[V5]).await, 404);
    assert_eq!(ground.refusal(&exec("alice", "&container=x"), &[V5]).await, 400);
    assert_eq!(ground.refusal(&exec("alice", "&tty=true&stderr=true"), &[V5]).await, 400);
    assert_eq!(ground.refusal("alice/exec?stdout=true", &[V5]).await, 400);
    assert_eq!(ground.refusal("alice/exec?command=a", &[V5]).await, 400);
    assert_eq!(ground.refusal(&exec("alice", ""), &[("sec-websocket-protocol", "v1")]).await, 400);
    assert_eq!(ground.refusal("alice/portforward?ports=0", &[V4]).await, 400);
    assert_eq!(ground.refusal("%2e%2e/exec?command=a&stdout=true", &[V5]).await, 404);
    let plain = ground.api.get(&format!("{PODS}/{EXEC}")).await;
    assert_eq!(plain.code, 400, "{}", plain.body);
    assert_eq!(ground.api.delete(&format!("{PODS}/{EXEC}")).await.code, 405);
}

#[tokio::test]
async fn a_stream_is_closed_when_its_machine_is_the_pods_no_more() {
    let ground = Ground::with(None).await;
    let mut socket = ground.open(EXEC, &[V5]).await.unwrap();
    socket.send(Message::binary(b"\0a".as_slice())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::binary(b"\x01a".as_slice()));
    ground.api.unbind("alice").await;
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(SOON, ended).await.unwrap();
}

#[tokio::test]
async fn streams_end_with_the_server() {
    let ground = Ground::with(None).await;
    let mut socket = ground.open(EXEC, &[V5]).await.unwrap();
    ground.api.trigger.shut_down();
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(SOON, ended).await.unwrap();
}

#[tokio::test]
async fn an_open_stream_is_a_use_of_its_environment() {
    let ground = Ground::with(None).await;
    let _socket = ground.open(EXEC, &[V5]).await.unwrap();
    eventually("a use is recorded", async || {
        let (all, _) = ground.api.store.list_bytes("").await.unwrap();
        all.iter().any(|entry| entry.key.as_str().contains("activity"))
    })
    .await;
}

#[tokio::test]
async fn of_streams_only_so_many_are_open_at_once() {
    let ground = Ground::with(None).await;
    let follow = format!("{PODS}/alice/log?follow=true");
    let mut open = Vec::new();
    for _ in 0..OPEN_MAX {
        let answer = ground.api.request(&format!("GET {follow}")).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        open.push(answer);
    }
    assert_eq!(ground.api.get(&follow).await.code, 429);
    drop(open);
    eventually("a place is free again", async || {
        ground.api.get(&format!("{PODS}/alice/log")).await.code == 200
    })
    .await;
}

#[tokio::test]
async fn a_log_has_the_form_that_is_asked_for() {
    let ground = Ground::with(None).await;
    let log = async |query: &str| ground.api.get(&format!("{PODS}/alice/log{query}")).await;
    assert_eq!(log("").await.body, json!("one\ntwo\n"));
    let stamped = log("?timestamps=true&limitBytes=34").await.body;
    assert_eq!(stamped, json!("1970-01-01T00:00:01.500000000Z one"));
    for wrong in ["?tailLines=x", "?sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", "?limitBytes=0"]
    {
        assert_eq!(log(wrong).await.code, 400, "{wrong}");
    }
}

#[tokio::test]
async fn ports_are_told_apart_by_channel() {
    let ground = Ground::with(None).await;
    let mut socket = ground.open("alice/portforward?ports=80&ports=9", &[V4]).await.unwrap();
    socket.send(Message::binary(b"\0hello".as_slice())).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let next = tokio::time::timeout(SOON, socket.next()).await.unwrap().unwrap().unwrap();
        if let Message::Binary(bytes) = next {
            seen.push(bytes);
        }
    }
    seen.sort();
    let expected: [&[u8]; 6] =
        [b"\0P\0", b"\0hello", b"\x01P\0", b"\x02\x09\0", b"\x03\x09\0", b"\x03nothing listens"];
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn what_pods_use_is_told_where_it_is_known() {
    let ground = Ground::with(None).await;
    let all = ground.api.get("/apis/metrics.k8s.io/v1beta1/pods").await.body;
    assert_eq!(text(&all, "/items/0/metadata/name"), "alice");
    assert_eq!(text(&all, "/items/0/containers/0/usage/memory"), "2Ki");
    let path = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
    assert_eq!(text(&ground.api.get(&format!("{path}/alice")).await.body, "/kind"), "PodMetrics");
    assert_eq!(ground.api.get(&format!("{path}/bob")).await.code, 404);
    let groups = ground.api.get("/apis").await.body;
    let groups = groups["groups"].as_array().unwrap();
    assert!(groups.iter().any(|it| it["name"] == "metrics.k8s.io"), "{groups:?}");
}

/// A connection that was switched to SPDY.
struct Spdy {
    stream: TcpStream,
    pack: flate2::Compress,
}

impl Spdy {
    async fn to(api: &Api, path: &str, dialect: &str) -> Self {
        let address = api.url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST {PODS}/{path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\n\
             upgrade: SPDY/3.1\r\nx-stream-protocol-version: {dialect}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap().to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains(&format!("x-stream-protocol-version: {dialect}")), "{answer}");
        Self { stream, pack: client::pack() }
    }

    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let frame = client::opening(&mut self.pack, id, headers);
        self.stream.write_all(&frame).await.unwrap();
    }

    async fn data(&mut self, id: u32, bytes: &[u8], fin: bool) {
        self.stream.write_all(&client::data(id, bytes, fin)).await.unwrap();
    }

    /// What came of these streams, by their ids, until all of them have ended.
    async fn rest(&mut self, ids: &[u32]) -> Vec<String> {
        let mut said = vec![Vec::new(); ids.len()];
        let mut open = ids.len();
        let reading = async {
            while open > 0 {
                let (first, flags_and_length) =
                    (self.stream.read_u32().await.unwrap(), self.stream.read_u32().await.unwrap());
                let mut body = vec![0; usize::try_from(flags_and_length & 0x00ff_ffff).unwrap()];
                self.stream.read_exact(&mut body).await.unwrap();
                if let Some(at) = ids.iter().position(|id| *id == first) {
                    said[at].extend(body);
                    open -= usize::from(flags_and_length >> 24 == 1);
                }
            }
        };
        tokio::time::timeout(SOON, reading).await.unwrap();
        said.into_iter().map(|it| String::from_utf8(it).unwrap()).collect()
    }
}

#[tokio::test]
async fn older_clients_run_commands_over_spdy() {
    let ground = Ground::with(None).await;
    let path = format!("{EXEC}&command=4");
    let mut spdy = Spdy::to(&ground.api, &path, "v4.channel.k8s.io").await;
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
        spdy.open(id, &[("streamType", kind)]).await;
    }
    spdy.data(3, b"hel", false).await;
    spdy.data(3, b"lo", true).await;
    let [error, out] = spdy.rest(&[1, 5]).await.try_into().unwrap();
    assert_eq!(out, "hello");
    let status: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(text(&status, "/details/causes/0/message"), "4");
}

#[tokio::test]
async fn connections_over_one_carrier_do_not_mix_and_each_says_what_went_wrong() {
    let ground = Ground::with(None).await;
    let mut spdy = Spdy::to(&ground.api, "alice/portforward", "portforward.k8s.io").await;
    for (id, port, request) in [(1, "80", "0"), (5, "9", "1"), (9, "81", "2")] {
        let headers = |kind| [("streamType", kind), ("port", port), ("requestID", request)];
        spdy.open(id, &headers("error")).await;
        spdy.open(id + 2, &headers("data")).await;
    }
    spdy.data(3, b"one", false).await;
    spdy.data(11, b"two", true).await;
    spdy.data(3, b" more", true).await;
    let said = spdy.rest(&[1, 3, 5, 7, 9, 11]).await;
    assert_eq!(said, ["", "one more", "nothing listens", "", "", "two"]);
}
