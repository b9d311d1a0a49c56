//! Raw requests over a real socket.

mod corpus;

use std::sync::Mutex;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    clock,
    router::{
        packed::{App, Label},
        table::{Flag, Machine, Route},
    },
};

#[derive(Default)]
struct Counted(Mutex<Vec<&'static str>>);

impl Observer for Counted {
    fn on_reply(&self, decision: &'static str) {
        assert!(Decision::NAMES.contains(&decision));
        self.0.lock().unwrap().push(decision);
    }
}

struct Harness {
    address: SocketAddr,
    counted: Arc<Counted>,
    seen: Arc<Seen>,
    _trigger: tasks::Trigger,
}

impl Harness {
    /// Serves `alice` and `bob`.
    async fn start() -> Self {
        let table = Table::new();
        for (slot, name) in [(0, "alice"), (1, "bob")] {
            let machine = Machine::parse(format!("{slot:014x}").as_bytes()).unwrap();
            let route = Route::new(slot)
                .to(App::exact(&format!("hgr-{name}")).unwrap(), machine)
                .keyed(Some([u8::try_from(slot).unwrap(); 16]))
                .with(Flag::PUBLIC, true);
            table.insert(Label::of_name(name).unwrap(), route);
        }
        table.set_synced();
        let seen = Arc::new(Seen::new(clock::System::shared()));
        seen.reserve(1);
        let counted = Arc::new(Counted::default());
        let router = Router {
            table: Arc::new(table),
            seen: Arc::clone(&seen),
            place: Arc::new(Place::new("x", None).unwrap()),
            observer: Arc::clone(&counted) as Arc<dyn Observer>,
        };
        let listener = net::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = tasks::shutdown();
        tasks::detached(async move {
            let limits = Limits { head_timeout: Duration::from_secs(5), ..Limits::default() };
            serve(listener, limits, Duration::ZERO, shutdown, router).await.unwrap();
        });
        Self { address, counted, seen, _trigger: trigger }
    }

    /// Sends bytes and returns what comes back until the server closes or has answered.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may refuse a long request before it has read it.
        let _cut = stream.write_all(request).await;
        answer(&mut stream).await
    }

    /// Sends bytes, says that no more come, and returns all that comes back.
    async fn everything(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut answers = Vec::new();
        // The server may have closed already.
        let _cut = stream.write_all(bytes).await;
        let _cut = stream.shutdown().await;
        let _cut = stream.read_to_end(&mut answers).await;
        String::from_utf8_lossy(&answers).into_owned()
    }
}

async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |it| it.split("\r\n").next().unwrap().parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return text,
            Ok(_) => {}
        }
    }
}

fn status(answer: &str) -> u16 {
    answer
        .strip_prefix("HTTP/1.1 ")
        .or_else(|| answer.strip_prefix("HTTP/1.0 "))
        .map_or(0, |it| it[..3].parse().unwrap())
}

#[tokio::test]
async fn a_request_is_replayed_to_its_environment_and_marked() {
    let harness = Harness::start().await;
    let answer = harness.send(b"GET / HTTP/1.1\r\nHost: bob.x\r\n\r\n").await;
    assert_eq!(status(&answer), 200);
    let expected = format!(
        "fly-replay: app=hgr-bob;instance=00000000000001;state={};timeout=10s;fallback=prefer_self\r\n",
        "01".repeat(16)
    );
    assert!(answer.contains(&expected), "{answer}");
    assert!(!answer.contains("fly-replay-cache"));
    assert_eq!(*harness.counted.0.lock().unwrap(), ["replay"]);
    assert_eq!(harness.seen.marked(), [1]);
}

#[tokio::test]
async fn a_body_nobody_wants_does_not_cost_the_front_its_connection() {
    let harness = Harness::start().await;
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: 300000\r\n\r\n")
        .await
        .unwrap();
    assert!(
        answer(&mut stream).await.contains("hgr-alice"),
        "the answer does not wait for the body"
    );
    stream.write_all(&vec![b'a'; 300_000]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bob.x\r\n\r\n").await.unwrap();
    assert!(answer(&mut stream).await.contains("hgr-bob"));
}

#[tokio::test]
async fn an_upgrade_is_replayed_like_any_request() {
    let harness = Harness::start().await;
    let answer = harness
        .send(b"GET /ws HTTP/1.1\r\nHost: alice.x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        .await;
    assert!(answer.contains("fly-replay: app=hgr-alice;"), "{answer}");
}

#[tokio::test]
async fn a_head_request_gets_no_body_and_the_domain_itself_is_nobodys() {
    let harness = Harness::start().await;
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    assert_eq!(status(&all), 404);
    assert!(all.ends_with("\r\n\r\n") && !all.contains("content-length: 0"), "{all}");
}

#[tokio::test]
async fn a_request_that_came_back_is_answered_and_not_replayed_again() {
    let harness = Harness::start().await;
    for (header, expected) in [
        ("fly-replay-failed: instance=1;reason=timeout", 503),
        ("fly-replay-src: instance=00000000000000;region=ams", 508),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: alice.x\r\n{header}\r\n\r\n");
        let answer = harness.send(request.as_bytes()).await;
        assert_eq!(status(&answer), expected);
        assert!(!answer.contains("fly-replay"));
    }
}

#[tokio::test]
async fn probes_come_to_the_address_and_not_to_an_environments_host() {
    let router = Harness::start().await;
    for path in ["/healthz", "/readyz"] {
        let probe = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8081\r\n\r\n");
        assert_eq!(status(&router.send(probe.as_bytes()).await), 200);
        let theirs = format!("GET {path} HTTP/1.1\r\nHost: alice.x\r\n\r\n");
        assert!(router.send(theirs.as_bytes()).await.contains("fly-replay: "), "{path}");
    }
    assert_eq!(router.counted.0.lock().unwrap().len(), 2);
}
