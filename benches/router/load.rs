//! The client: 64 keep-alive connections, one request under way on each, a random host per request, every answer checked.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use hangar::clock::Clock;

use crate::{
    child::{self, Child},
    objects,
};

const CONNECTIONS: usize = 64;
const TAIL: &str = ".dev.example.com\r\nuser-agent: Mozilla/5.0 (X11; Linux x86_64)\r\naccept: */*\r\nfly-client-ip: 203.0.113.7\r\nx-forwarded-for: 203.0.113.7, 66.241.125.1\r\nx-forwarded-proto: https\r\nx-forwarded-port: 443\r\nfly-forwarded-port: 443\r\nfly-region: ams\r\nvia: 2 fly.io\r\nfly-request-id: 01J8ZK3V9Q4T6Y2M7N5P8R1S0W-ams\r\n\r\n";

/// What an answer must be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// 200.
    Status,
    /// The replay of the host asked for.
    Replay,
    /// If it is a replay, then of the host asked for.
    Churn,
}

/// A run's figures.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) requests: u32,
    pub(crate) replays: u32,
    pub(crate) wrong: u32,
    pub(crate) cpu_us: f64,
    /// Cores used by anything but server and client.
    pub(crate) foreign: f64,
}

/// An open client.
pub(crate) struct Load {
    connections: Vec<(TcpStream, u32)>,
    routes: u32,
    check: Check,
    random: u64,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Load {
    pub(crate) fn connect(address: SocketAddr, routes: u32, check: Check) -> Self {
        let connect = |_| {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            (stream, 0)
        };
        let connections = (0..CONNECTIONS).map(connect).collect();
        Self {
            connections,
            routes,
            check,
            random: 0x9e37_79b9,
            request: Vec::new(),
            answer: vec![0; 4096],
        }
    }

    /// Keeps every connection busy for this long: the oldest request's answer is read, and the next one sent.
    pub(crate) fn run(&mut self, clock: &Arc<dyn Clock>, long: Duration, child: &Child) -> Run {
        let mut run = Run::default();
        let (start, cpu) = (clock.monotonic(), child.cpu_ns());
        let (machine, own) = (child::machine_cpu_ns(), child::own_cpu_ns());
        for connection in 0..CONNECTIONS {
            let number = self.any();
            self.send(connection, number);
        }
        while clock.monotonic() - start < long {
            for connection in 0..CONNECTIONS {
                self.receive(connection, &mut run);
                let number = self.any();
                self.send(connection, number);
            }
        }
        for connection in 0..CONNECTIONS {
            self.receive(connection, &mut run);
        }
        let used = child.cpu_ns() - cpu + child::own_cpu_ns() - own;
        let foreign = (child::machine_cpu_ns() - machine).saturating_sub(used);
        run.foreign = foreign as f64 / 1e9 / (clock.monotonic() - start).as_secs_f64();
        // `as`: nanoseconds of seconds, far under 2^52.
        run.cpu_us = (child.cpu_ns() - cpu) as f64 / 1e3 / f64::from(run.requests);
        run
    }

    /// The machine that one environment's host is replayed to now, or nothing.
    pub(crate) fn machine_of(&mut self, number: u32) -> String {
        self.send(0, number);
        let len = self.read(0);
        let text = std::str::from_utf8(&self.answer[..len]).unwrap();
        field(text, "instance=").unwrap_or_default().to_owned()
    }

    fn any(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        u32::try_from(self.random % u64::from(self.routes)).unwrap()
    }

    fn send(&mut self, connection: usize, number: u32) {
        self.request.clear();
        write!(self.request, "GET /some/path?query=1 HTTP/1.1\r\nhost: env-{number:07}").unwrap();
        self.request.extend_from_slice(TAIL.as_bytes());
        let (stream, asked) = &mut self.connections[connection];
        stream.write_all(&self.request).unwrap();
        *asked = number;
    }

    /// Reads a whole answer and returns its length.
    fn read(&mut self, connection: usize) -> usize {
        let stream = &mut self.connections[connection].0;
        let mut len = 0;
        loop {
            let read = stream.read(&mut self.answer[len..]).unwrap();
            assert_ne!(read, 0, "the server closed a connection");
            len += read;
            let text = String::from_utf8_lossy(&self.answer[..len]);
            let Some(end) = text.find("\r\n\r\n") else { continue };
            let body = field(&text, "content-length: ").map_or(0, |it| it.parse().unwrap());
            if len >= end + 4 + body {
                return len;
            }
        }
    }

    fn receive(&mut self, connection: usize, run: &mut Run) {
        let len = self.read(connection);
        let number = self.connections[connection].1;
        let text = std::str::from_utf8(&self.answer[..len]).unwrap();
        run.requests += 1;
        let replay = field(text, "fly-replay: ").is_some();
        run.replays += u32::from(replay);
        let right = match self.check {
            Check::Status => text.starts_with("HTTP/1.1 200 "),
            Check::Replay => is_of(text, number),
            Check::Churn => !replay || is_of(text, number),
        };
        run.wrong += u32::from(!right);
    }
}

fn is_of(text: &str, number: u32) -> bool {
    let machine = objects::machine(number, 0);
    field(text, "fly-replay: app=") == Some(objects::app(number).as_str())
        && field(text, "instance=").is_some_and(|it| it.ends_with(&machine[6..]))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let rest = &text[text.find(name)? + name.len()..];
    rest.split([';', '\r']).next()
}
