//! What lists and watches cost: `cargo test --release --test kube figures -- --ignored --nocapture`. Client and server share the
//! computer, so that all times include both. It must never fail for a number.

use std::{fs, time::Duration};

use futures::{StreamExt as _, stream};
use hangar::clock::{Clock as _, System};
use reqwest::Client;
use serde_json::json;
use tokio::{sync::mpsc, task::JoinSet};

use crate::server::Hangar;

const ENVIRONMENTS: usize = 10_000;
const CHUNK: usize = 500;
const LISTS: usize = 5;
const WATCHERS: usize = 500;
const CHANGES: usize = 200;
const HERE: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/environments";

/// A line of `/proc/PID/status` in KiB.
fn memory_kib(hangar: &Hangar, line: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", hangar.pid())).unwrap();
    let found = status.lines().find_map(|it| it.strip_prefix(line)).unwrap();
    found.trim_matches(|it: char| !it.is_ascii_digit()).parse().unwrap()
}

/// Says how long ago it was made.
fn stopwatch() -> impl Fn() -> Duration {
    let clock = System::new();
    let start = clock.monotonic();
    move || clock.monotonic() - start
}

fn percentile(sorted: &[Duration], of_hundred: usize) -> Duration {
    sorted[(sorted.len() - 1) * of_hundred / 100]
}

/// Makes them of a template that is not there: the controller says so in each status, and asks nobody else.
async fn fill(http: &Client, hangar: &Hangar) {
    let url = format!("{}{HERE}", hangar.url);
    let post = async |number: usize| {
        let body = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": format!("env-{number:05}"), "labels": {"step": "no"}},
            "spec": {"templateRef": {"name": "none"}, "owner": format!("user-{number}@example.com")},
        });
        http.post(&url).json(&body).send().await.unwrap().error_for_status().unwrap();
    };
    let elapsed = stopwatch();
    stream::iter(0..ENVIRONMENTS).map(post).buffer_unordered(16).collect::<Vec<_>>().await;
    eprintln!("{ENVIRONMENTS} environments made in {:.1?}, 16 at a time", elapsed());
}

/// Lists them all, in pages or not; the bytes of all answers, and the time until they were there.
async fn list(http: &Client, hangar: &Hangar, limit: Option<usize>) -> (usize, Duration) {
    let (mut bytes, mut found, mut more) = (0, 0, String::new());
    let mut time = Duration::ZERO;
    loop {
        let limit = limit.map(|it| format!("limit={it}&continue={more}")).unwrap_or_default();
        let elapsed = stopwatch();
        let answer = http.get(format!("{}{HERE}?{limit}", hangar.url)).send().await.unwrap();
        let page = answer.error_for_status().unwrap().bytes().await.unwrap();
        time += elapsed();
        bytes += page.len();
        let text = String::from_utf8_lossy(&page);
        found += text.matches("\"kind\":\"Environment\"").count();
        let after = text.split("\"continue\":\"").nth(1).and_then(|it| it.split('"').next());
        more = after.unwrap_or_default().to_owned();
        if more.is_empty() {
            assert_eq!(found, ENVIRONMENTS);
            return (bytes, time);
        }
    }
}

async fn lists(http: &Client, hangar: &Hangar) {
    for (name, limit) in [("whole", None), ("in chunks of 500", Some(CHUNK))] {
        let before = memory_kib(hangar, "VmRSS:");
        // The peak starts anew.
        fs::write(format!("/proc/{}/clear_refs", hangar.pid()), "5").unwrap();
        let (mut times, mut bytes) = (Vec::new(), 0);
        for _ in 0..LISTS {
            let time;
            (bytes, time) = list(http, hangar, limit).await;
            times.push(time);
        }
        times.sort();
        eprintln!(
            "list {name}: {:.2?} (median of {LISTS}), {bytes} bytes; server memory {before} KiB before, {} KiB at most",
            percentile(&times, 50),
            memory_kib(hangar, "VmHWM:")
        );
    }
}

/// Tells each step whose change a watcher was told.
async fn follow(http: Client, url: String, told: mpsc::Sender<usize>) {
    let mut body = http.get(url).send().await.unwrap().error_for_status().unwrap().bytes_stream();
    told.send(usize::MAX).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = body.next().await {
        text.extend_from_slice(&piece.unwrap());
        while let Some(end) = text.iter().position(|it| *it == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let step = line.split("\"step\":\"").nth(1).and_then(|it| it.split('"').next());
            if let Some(Ok(step)) = step.map(str::parse)
                && told.send(step).await.is_err()
            {
                return;
            }
        }
    }
}

async fn all_told(receiver: &mut mpsc::Receiver<usize>, expected: usize) {
    let mut count = 0;
    while count < WATCHERS {
        count += usize::from(receiver.recv().await.unwrap() == expected);
    }
}

/// Begins all watches; what they are told comes out of the channel.
async fn begin(http: &Client, hangar: &Hangar) -> (JoinSet<()>, mpsc::Receiver<usize>) {
    let (_, page) = hangar.get(&format!("{HERE}?limit=1")).await;
    let position = page["metadata"]["resourceVersion"].as_str().unwrap();
    let url = format!("{}{HERE}?watch=true&resourceVersion={position}", hangar.url);
    let (sender, mut receiver) = mpsc::channel(WATCHERS);
    let following =
        (0..WATCHERS).map(|_| follow(http.clone(), url.clone(), sender.clone())).collect();
    all_told(&mut receiver, usize::MAX).await;
    (following, receiver)
}

/// On a server that did nothing before: later, what lists left free would hide it.
async fn idle(http: &Client, hangar: &Hangar) {
    let before = memory_kib(hangar, "VmRSS:");
    let _following = begin(http, hangar).await;
    let more = memory_kib(hangar, "VmRSS:").saturating_sub(before);
    eprintln!("{WATCHERS} idle watchers: {more} KiB more server memory");
}

async fn changes(http: &Client, hangar: &Hangar) {
    let (_following, mut receiver) = begin(http, hangar).await;
    let mut times = Vec::new();
    for step in 0..CHANGES {
        let patch = json!({"metadata": {"labels": {"step": step.to_string()}}}).to_string();
        let patch = http.patch(format!("{}{HERE}/env-00000", hangar.url)).body(patch);
        let patch = patch.header("content-type", "application/merge-patch+json").send();
        let elapsed = stopwatch();
        let (answer, ()) = futures::join!(patch, all_told(&mut receiver, step));
        answer.unwrap().error_for_status().unwrap();
        times.push(elapsed());
    }
    times.sort();
    eprintln!(
        "a change, from its request to the last of {WATCHERS} watchers: p50 {:.1?}, p99 {:.1?} ({CHANGES} changes)",
        percentile(&times, 50),
        percentile(&times, 99)
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures; it proves nothing"]
async fn figures() {
    let hangar = Hangar::up().await;
    let http = Client::builder().no_proxy().build().unwrap();
    idle(&http, &hangar).await;
    fill(&http, &hangar).await;
    lists(&http, &hangar).await;
    changes(&http, &hangar).await;
}
