//! Kills a process that commits, many times, and asserts that every acknowledged commit is there and each is whole.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use hangar::store::{
    Backend, Key, Op, Precondition, Revision, Txn,
    sled::{Opened, Sled},
};

const KILLS: u64 = 20;
const WRITERS: u64 = 6;

/// Set in the child to the directory of its store.
const CHILD: &str = "HANGAR_STORE_CRASH_DIR";

/// What a writer's commit number `n` leaves: both of its keys hold it, and its own large value.
fn txn(writer: u64, n: u64) -> Txn {
    let number = Bytes::copy_from_slice(n.to_string().as_bytes());
    let large = Bytes::from(vec![u8::try_from(n % 251).unwrap(); 9000]);
    Txn::one(key(writer, "left"), Precondition::Any, Op::Put(number.clone()))
        .and(key(writer, "right"), Precondition::Any, Op::Put(number))
        .and(key(writer, "large"), Precondition::Any, Op::Put(large))
}

fn key(writer: u64, name: &str) -> Key {
    Key::new(&format!("writers/{writer}/{name}"))
}

async fn number(store: &Sled, key: &Key) -> u64 {
    match store.get(key).await.unwrap() {
        Some(entry) => std::str::from_utf8(&entry.value).unwrap().parse().unwrap(),
        None => 0,
    }
}

/// The child: a test only by name, so that the same binary can be started again. Alone it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = Arc::new(Sled::open(dir).await.unwrap());
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            let mut n = number(&store, &key(writer, "left")).await;
            loop {
                n += 1;
                let revision = store.commit(txn(writer, n)).await.unwrap();
                // One write call per line, so that no line is torn but the last.
                let line = format!("ack {writer} {n} {revision}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
}

/// Starts a child, kills it after `delay`, and returns what it acknowledged: writer, number, revision. With `settled` the
/// delay begins at the first acknowledgement, so that it commits when it is killed; without, it may still be opening.
fn crash(dir: &Path, delay: Duration, settled: bool) -> Vec<(u64, u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_commits_until_it_is_killed", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let (first, started) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in stderr.lines().map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            if let ["ack", writer, n, revision] = words.as_slice()
                && let Ok(revision) = revision.parse()
            {
                acknowledged.push((writer.parse().unwrap(), n.parse().unwrap(), revision));
                let _after_the_first = first.send(());
            }
        }
        acknowledged
    });
    // It fails at once when the child ends without a word.
    let spoke = !settled || started.recv().is_ok();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let acknowledged = reader.join().unwrap();
    assert!(spoke, "the child committed nothing");
    acknowledged
}

async fn assert_whole(store: &Sled, acknowledged: &[(u64, u64, u64)]) -> Revision {
    let (entries, revision) = store.list("").await.unwrap();
    for writer in 0..WRITERS {
        let n = number(store, &key(writer, "left")).await;
        assert_eq!(number(store, &key(writer, "right")).await, n, "writer {writer}: a torn commit");
        if let Some(large) = store.get(&key(writer, "large")).await.unwrap() {
            let expected = vec![u8::try_from(n % 251).unwrap(); 9000];
            assert!(large.value == expected, "writer {writer}: another commit's large value");
        }
        let last = acknowledged.iter().filter(|it| it.0 == writer).map(|it| it.1).max();
        assert!(last.is_none_or(|last| n >= last), "writer {writer}: {n}, acknowledged {last:?}");
    }
    let last = acknowledged.iter().map(|it| it.2).max().unwrap_or(0);
    assert!(revision >= Revision(last), "at {revision}, acknowledged {last}");
    assert!(entries.iter().all(|entry| entry.revision <= revision));
    revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_commit_survives_a_kill_and_is_whole() {
    let given = std::env::var("HANGAR_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| u64::from(std::process::id()));
    println!("HANGAR_SEED={seed}");
    let mut dice = seed;
    let dir = tempfile::tempdir().unwrap();
    let mut before = Revision(0);
    let mut commits = 0;
    for round in 0..KILLS {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros(1000 + (dice >> 33) % 200_000);
        let path = dir.path().join("store");
        let settled = round % 4 != 3;
        let crashed = tokio::task::spawn_blocking(move || crash(&path, delay, settled));
        let acknowledged = crashed.await.unwrap();
        commits += acknowledged.len();
        let store = Sled::open(dir.path().join("store")).await.unwrap();
        assert_eq!(store.opened(), Opened::Existing);
        let revision = assert_whole(&store, &acknowledged).await;
        assert!(revision >= before, "round {round}: {revision} after {before}");
        before = revision;
    }
    println!("{commits} commits acknowledged over {KILLS} kills, the store is at {before}");
}
