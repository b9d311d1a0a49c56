//! The servers, each a child process of the benchmark that is told what to do by lines on its standard input.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hangar::{
    clock::System,
    net::Limits,
    router::{
        activity::Seen,
        feed::{Fed, Feed, Part},
        head::Place,
        serve::{self, Router, Unobserved},
        table::Table,
    },
    tasks,
};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;

use crate::objects;

const ROLE: &str = "HANGAR_BENCH_ROLE";

/// What a child serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// hyper that answers 200 to everything.
    Bare,
    /// The same behind the limits and the drain of `hangar::net`.
    Limited,
    /// The router.
    Router,
}

impl Role {
    pub(crate) fn from_env() -> Option<Self> {
        match std::env::var(ROLE).ok()?.as_str() {
            "bare" => Some(Self::Bare),
            "limited" => Some(Self::Limited),
            _ => Some(Self::Router),
        }
    }
}

/// A running child.
pub(crate) struct Child {
    process: process::Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Child {
    pub(crate) fn start(role: Role) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match Command::new("taskset").arg("--version").output() {
            Ok(_) => {
                let mut command = Command::new("taskset");
                command.args(["-c", "0"]).arg(program);
                command
            }
            Err(_) => Command::new(program),
        };
        let name = match role {
            Role::Bare => "bare",
            Role::Limited => "limited",
            Role::Router => "router",
        };
        let mut process =
            command.env(ROLE, name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut child = Self { process, stdin, stdout, address };
        child.address = child.answer().parse().unwrap();
        child
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    pub(crate) fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn ask(&mut self, line: &str) {
        self.tell(line);
        assert_eq!(self.answer(), "done");
    }

    /// CPU time of all threads.
    pub(crate) fn cpu_ns(&self) -> u64 {
        cpu_ns(self.process.id())
    }

    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

fn cpu_ns(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let used = |task: io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    tasks.filter_map(used).sum()
}

/// CPU time of this process.
pub(crate) fn own_cpu_ns() -> u64 {
    cpu_ns(process::id())
}

/// CPU time of everything on this machine, and what was taken from it.
pub(crate) fn machine_cpu_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(|it| it.parse().unwrap())
        .collect();
    // User, nice, system, then idle and waiting which do not count, then interrupts and steal; ticks of 10 ms.
    (ticks.iter().sum::<u64>() - ticks[3] - ticks[4]) * 10_000_000
}

/// Keeps this process off the servers' core, if `taskset` is there.
pub(crate) fn pin_self(core: u32) {
    let pid = process::id().to_string();
    let _output =
        Command::new("taskset").args(["-a", "-p", "-c", &core.to_string(), &pid]).output();
}

/// The child's own main.
pub(crate) fn run(role: Role) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = hangar::net::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        say(&listener.local_addr().unwrap().to_string());
        let feed = Feed::new(Arc::new(Seen::new(System::shared())));
        let (table, seen) = (feed.table(), feed.seen());
        let (orders, ended) = tokio::sync::oneshot::channel::<()>();
        std::thread::spawn(move || {
            obey(feed);
            drop(orders);
        });
        let serve = async {
            match role {
                Role::Bare => bare(listener).await,
                Role::Limited => limited(listener).await,
                Role::Router => router(listener, table, seen).await,
            }
        };
        // The end of the orders is the end of the benchmark.
        tokio::select! {
            () = serve => {}
            _ = ended => {}
        }
    });
}

fn say(line: &str) {
    println!("{line}");
    io::stdout().flush().unwrap();
}

async fn bare(listener: tokio::net::TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tasks::detached(async move {
            let service = hyper::service::service_fn(|_request| async {
                let body = http_body_util::Empty::<bytes::Bytes>::new();
                Ok::<_, std::convert::Infallible>(http::Response::new(body))
            });
            let connection = hyper::server::conn::http1::Builder::new();
            // It ends when the client goes.
            let _ended = connection.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn limited(listener: tokio::net::TcpListener) {
    let (_trigger, shutdown) = tasks::shutdown();
    let handle = |_request, _peer| {
        let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        std::future::ready(http::Response::new(body))
    };
    hangar::net::serve(listener, Limits::default(), Duration::ZERO, shutdown, handle)
        .await
        .unwrap();
}

async fn router(listener: tokio::net::TcpListener, table: Arc<Table>, seen: Arc<Seen>) {
    let place = Arc::new(Place::new("dev.example.com", None).unwrap());
    let router = Router { table, seen, place, observer: Arc::new(Unobserved) };
    let (_trigger, shutdown) = tasks::shutdown();
    serve::serve(listener, Limits::default(), Duration::ZERO, shutdown, router).await.unwrap();
}

fn obey(feed: Feed) {
    let feed = Arc::new(Mutex::new(feed));
    let churning = Arc::new(AtomicBool::new(false));
    for line in io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["load", count] => {
                let mut feed = feed.lock().unwrap();
                objects::all(count.parse().unwrap()).for_each(|fed| feed.take(&fed));
            }
            ["change", number, epoch] => {
                let object =
                    objects::environment(number.parse().unwrap(), 1, epoch.parse().unwrap());
                feed.lock().unwrap().take(&Fed::Apply(Part::Environments, object));
            }
            ["churn", "on"] => {
                churning.store(true, Ordering::Relaxed);
                let (feed, churning) = (Arc::clone(&feed), Arc::clone(&churning));
                std::thread::spawn(move || churn(&feed, &churning));
            }
            ["churn", ..] => churning.store(false, Ordering::Relaxed),
            _ => {}
        }
        say("done");
    }
}

/// A thousand changes a second: new machines, and every eighth time a deletion and a successor with another uid.
fn churn(feed: &Mutex<Feed>, churning: &AtomicBool) {
    let mut round = 0_u32;
    while churning.load(Ordering::Relaxed) {
        round += 1;
        let number = round.wrapping_mul(2_654_435_761) % crate::LARGE;
        let mut feed = feed.lock().unwrap();
        if round.is_multiple_of(8) {
            feed.take(&Fed::Delete(Part::Environments, objects::environment(number, 1, 1)));
            feed.take(&Fed::Delete(Part::Hostnames, objects::hostname(number, 1)));
            feed.take(&Fed::Apply(Part::Hostnames, objects::hostname(number, 2)));
            feed.take(&Fed::Apply(Part::Environments, objects::environment(number, 2, 1)));
        } else {
            let object = objects::environment(number, 1, 1_000 + round);
            feed.take(&Fed::Apply(Part::Environments, object));
        }
        drop(feed);
        std::thread::sleep(Duration::from_millis(1));
    }
}
