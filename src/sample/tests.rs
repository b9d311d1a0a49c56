//! The sample app as a client sees it.

use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use super::*;

fn options(env: &[(&str, &str)]) -> anyhow::Result<Options> {
    Options::read(|name| {
        env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn it_listens_on_all_addresses_on_fly_and_on_loopback_elsewhere() {
    let address = |env| options(env).unwrap().address.to_string();
    assert_eq!(address(&[]), "127.0.0.1:8080");
    assert_eq!(address(&[("FLY_APP_NAME", "a"), ("PORT", "80")]), "[::]:80");
    assert_eq!(address(&[("FLY_APP_NAME", "a"), ("HANGAR_ROOT", "/x")]), "127.0.0.1:8080");
}

#[test]
fn a_port_that_is_none_is_named() {
    let error = options(&[("PORT", "http")]).unwrap_err();
    assert_eq!(error.to_string(), "PORT=http is not a port");
}

/// An app that serves until it is dropped.
struct Served {
    address: SocketAddr,
    volume: tempfile::TempDir,
    trigger: tasks::Trigger,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.trigger.shut_down();
    }
}

impl Served {
    async fn new(env: &[(&str, &str)]) -> Self {
        let volume = tempfile::tempdir().unwrap();
        let path = volume.path().to_str().unwrap();
        let env = env.iter().copied().chain([("HANGAR_VOLUME", path)]);
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let app = App::new(Personal::new(env), false);
        let listener = net::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = tasks::shutdown();
        tasks::detached(async move { serve(listener, app, shutdown).await.unwrap() });
        Self { address, volume, trigger }
    }

    /// Sends a request (its first line, header lines, body) and returns the status code and the body.
    async fn ask(&self, first: &str, headers: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{first} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }
}

#[tokio::test]
async fn the_front_counts_visits_and_nothing_else_does() {
    let app = Served::new(&[("HANGAR_ENVIRONMENT", "alice"), ("A_KEY", "hush")]).await;
    let (status, page) = app.ask("GET /", "", b"").await;
    assert!(status == 200 && page.contains("<h1>alice</h1>"), "{page}");
    app.ask("GET /healthz", "", b"").await;
    let (_, json) = app.ask("GET /", "accept: application/json\r\n", b"").await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.get("visits"), Some(&2.into()));
    assert!(!json.to_string().contains("hush"));
    let kept = std::fs::read_to_string(app.volume.path().join("visits")).unwrap();
    assert_eq!(kept, "2\n");
}

#[tokio::test]
async fn every_path_answers_as_the_table_says() {
    let app = Served::new(&[("GREETING", "hello")]).await;
    for (first, body, status, said) in [
        ("GET /healthz", "", 200, "ok\n"),
        ("GET /slow?ms=1", "", 200, "that took 1 ms\n"),
        ("GET /slow", "", 400, "say how slow: /slow?ms=200\n"),
        ("POST /echo", "back", 200, "back"),
        ("GET /echo", "", 405, "not with this method\n"),
        ("GET /ws", "", 426, "this is a WebSocket; ask for an upgrade\n"),
        ("GET /nowhere", "", 404, "there is nothing here\n"),
    ] {
        assert_eq!(app.ask(first, "", body.as_bytes()).await, (status, said.to_owned()), "{first}");
    }
    assert!(app.ask("GET /env", "", b"").await.1.contains("\"GREETING\": \"hello\""));
}

#[tokio::test]
async fn an_upload_is_weighed_and_told_by_its_digest() {
    let app = Served::new(&[]).await;
    let body = vec![7; 2_000_000];
    let (_, answer) = app.ask("POST /upload", "", &body).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let digest = blake3::hash(&body).to_hex().to_string();
    assert_eq!(answer, serde_json::json!({"bytes": 2_000_000, "blake3": digest}));
}

#[tokio::test]
async fn a_websocket_echoes() {
    let app = Served::new(&[]).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://a/ws", stream).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn a_replay_with_an_old_key_is_refused_and_one_without_replay_is_not() {
    let app = Served::new(&[("HANGAR_BAY_KEY", "new")]).await;
    for (headers, status) in [
        ("fly-replay-src: instance=r1;region=ams;t=1;state=new\r\n", 200),
        ("fly-replay-src: instance=r1;region=ams;t=1;state=old\r\n", 403),
        ("fly-replay-src: instance=r1;region=ams;t=1\r\n", 403),
        ("", 200),
    ] {
        assert_eq!(app.ask("GET /healthz", headers, b"").await.0, status, "{headers}");
    }
}
