//! The store against the floor that the disk sets: `cargo bench --bench store`. Prints ratios of things measured in turn
//! in one run, and fails when one misses what it must reach.

#![expect(clippy::unwrap_used, reason = "a failed step fails the run")]
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use hangar::clock::{Clock, System};
use hangar::store::{Backend, Event, Key, Op, Precondition, Revision, Txn, WatchError, sled::Sled};

const OBJECTS: usize = 100_000;
const OBJECT_BYTES: usize = 2046;
const PAIRS: usize = 5;
const WATCHERS: usize = 100;
/// More than the store's history has commits.
const STALLED_COMMITS: usize = 20_000;

/// Set in a child to the directory of the store that it writes until it is killed.
const CHILD: &str = "HANGAR_BENCH_CHILD";

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Some(dir) = std::env::var_os(CHILD) {
        runtime.block_on(write_until_killed(Path::new(&dir)));
        return ExitCode::SUCCESS;
    }
    let rows = runtime.block_on(run());
    println!("\n{:<58} {:>9} {:>9} {:>9}", "goal", "measured", "must", "aim");
    let mut missed = false;
    for row in rows {
        let verdict = if row.holds() { "" } else { "  MISSED" };
        missed |= !row.holds();
        let Row { goal, measured, must, aim } = &row;
        println!(
            "{goal:<58} {measured:>9.2} {:>9} {:>9}{verdict}",
            must.to_string(),
            aim.to_string()
        );
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A bound on a measured number.
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::AtLeast(least) => write!(f, ">= {least}"),
        }
    }
}

struct Row {
    goal: &'static str,
    measured: f64,
    must: Bound,
    aim: Bound,
}

impl Row {
    fn holds(&self) -> bool {
        match self.must {
            Bound::AtMost(most) => self.measured <= most,
            Bound::AtLeast(least) => self.measured >= least,
        }
    }
}

async fn run() -> Vec<Row> {
    let clock = System::new();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Arc::new(Sled::open(dir.path().join("store")).await.unwrap());
    load(&*store).await;
    let mut floor = Floor::new(&dir.path().join("floor"));
    let mut rows = vec![
        single(&clock, &*store, &mut floor).await,
        concurrent(&clock, &*store).await,
        grouped(&clock, &*store, &mut floor).await,
    ];
    rows.extend(watched(&clock, &store).await);
    rows.push(stalled(&*store).await);
    drop(store);
    rows.push(reopened(&clock, &dir.path().join("store")).await);
    rows
}

/// The least that a durable store does: append, sync, remember.
struct Floor {
    log: File,
    objects: BTreeMap<Key, Bytes>,
}

impl Floor {
    fn new(path: &Path) -> Self {
        let mut floor = Self { log: File::create(path).unwrap(), objects: BTreeMap::new() };
        for start in (0..OBJECTS).step_by(1000) {
            floor.commit((start..start + 1000).map(|at| (key(at), object(at, 0))).collect());
        }
        floor
    }

    fn commit(&mut self, objects: Vec<(Key, Bytes)>) {
        let mut bytes = Vec::with_capacity(objects.len() * (OBJECT_BYTES + 64));
        for (key, value) in &objects {
            bytes.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(key.as_str().as_bytes());
            bytes.extend_from_slice(value);
        }
        self.log.write_all(&bytes).unwrap();
        self.log.sync_data().unwrap();
        self.objects.extend(objects);
    }
}

fn key(at: usize) -> Key {
    Key::new(&format!("environments/default/user-{at:010}/of-the-bench"))
}

/// Incompressible, as the larger part of a real object is; another one each round.
fn object(at: usize, round: usize) -> Bytes {
    let mut state = (at as u64) << 32 | (round as u64) << 1 | 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    std::iter::repeat_with(next).take(OBJECT_BYTES).collect()
}

fn txn(at: usize, round: usize) -> Txn {
    Txn::one(key(at), Precondition::Any, Op::Put(object(at, round)))
}

/// Spreads writes over all objects.
fn scattered(at: usize) -> usize {
    at.wrapping_mul(7919) % OBJECTS
}

async fn load(store: &dyn Backend) {
    for start in (0..OBJECTS).step_by(1000) {
        let txn = (start..start + 1000).fold(Txn::default(), |txn, at| {
            txn.and(key(at), Precondition::Any, Op::Put(object(at, 0)))
        });
        store.commit(txn).await.unwrap();
    }
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn since(clock: &System, start: Duration) -> f64 {
    (clock.monotonic() - start).as_secs_f64()
}

/// S1: one writer that waits for each commit, against append and fdatasync of the same bytes.
async fn single(clock: &System, store: &dyn Backend, floor: &mut Floor) -> Row {
    const TIMES: usize = 1000;
    let mut ratios = Vec::new();
    for pair in 1..=PAIRS {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for n in 0..TIMES {
            let (at, bytes) = (key(scattered(n)), object(n, pair));
            let start = clock.monotonic();
            floor.commit(vec![(at, bytes)]);
            theirs.push(since(clock, start));
            let txn = txn(scattered(n), pair);
            let start = clock.monotonic();
            store.commit(txn).await.unwrap();
            ours.push(since(clock, start));
        }
        let (theirs, ours) = (median(theirs), median(ours));
        println!("S1 floor {:.3} ms, store {:.3} ms", theirs * 1e3, ours * 1e3);
        ratios.push(ours / theirs);
    }
    Row {
        goal: "S1 one durable write, p50, times append + fdatasync",
        measured: median(ratios),
        must: Bound::AtMost(2.5),
        aim: Bound::AtMost(1.6),
    }
}

/// Objects per second of so many writers, each waiting for its own commits.
async fn writers(
    clock: &System,
    store: &dyn Backend,
    writers: usize,
    times: usize,
    round: usize,
) -> f64 {
    let start = clock.monotonic();
    let writer = |writer: usize| async move {
        for n in 0..times {
            store.commit(txn(scattered(writer * times + n), round)).await.unwrap();
        }
    };
    join_all((0..writers).map(writer)).await;
    (writers * times) as f64 / since(clock, start)
}

/// S2: what the writer gains from having many commits to choose from.
async fn concurrent(clock: &System, store: &dyn Backend) -> Row {
    let mut ratios = Vec::new();
    for pair in 1..=PAIRS {
        let one = writers(clock, store, 1, 1000, 10 + pair).await;
        let many = writers(clock, store, 64, 400, 20 + pair).await;
        println!("S2 one writer {one:.0}/s, 64 writers {many:.0}/s");
        ratios.push(many / one);
    }
    Row {
        goal: "S2 objects/s of 64 writers, times one writer",
        measured: median(ratios),
        must: Bound::AtLeast(8.0),
        aim: Bound::AtLeast(15.0),
    }
}

/// S3: 64 objects in one commit, against the floor doing the same.
async fn grouped(clock: &System, store: &dyn Backend, floor: &mut Floor) -> Row {
    const TIMES: usize = 300;
    let mut ratios = Vec::new();
    for pair in 1..=PAIRS {
        let objects = |n: usize| {
            (0..64)
                .map(move |at| scattered(n * 64 + at))
                .map(move |at| (key(at), object(at, 30 + pair)))
        };
        let (mut theirs, mut ours) = (0.0, 0.0);
        for n in 0..TIMES {
            let for_floor = objects(n).collect();
            let start = clock.monotonic();
            floor.commit(for_floor);
            theirs += since(clock, start);
            let txn = objects(n).fold(Txn::default(), |txn, (key, object)| {
                txn.and(key, Precondition::Any, Op::Put(object))
            });
            let start = clock.monotonic();
            store.commit(txn).await.unwrap();
            ours += since(clock, start);
        }
        let rate = |seconds: f64| (TIMES * 64) as f64 / seconds;
        println!("S3 floor {:.0}/s, store {:.0}/s", rate(theirs), rate(ours));
        ratios.push(theirs / ours);
    }
    Row {
        goal: "S3 objects/s in commits of 64, times an append-only log",
        measured: median(ratios),
        must: Bound::AtLeast(0.5),
        aim: Bound::AtLeast(0.65),
    }
}

/// S7: how late the last of many watchers hears, and what they cost the writer.
async fn watched(clock: &System, store: &Arc<Sled>) -> [Row; 2] {
    const TIMES: usize = 300;
    let (mut slowdowns, mut delays) = (Vec::new(), Vec::new());
    for pair in 1..=PAIRS {
        let mut alone = Vec::new();
        for n in 0..TIMES {
            let txn = txn(scattered(n), 40 + pair);
            let start = clock.monotonic();
            store.commit(txn).await.unwrap();
            alone.push(since(clock, start));
        }
        let (_, revision) = store.list("none").await.unwrap();
        let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
        let watchers: Vec<_> = (0..WATCHERS)
            .map(|_| {
                let mut events = store.watch("environments/", revision).unwrap();
                let told = told.clone();
                hangar::tasks::detached(async move {
                    while let Some(Ok(event)) = events.next().await {
                        if let Event::Changes(_) = event
                            && told.send(()).is_err()
                        {
                            return;
                        }
                    }
                });
            })
            .collect();
        let mut with = Vec::new();
        for n in 0..TIMES {
            let txn = txn(scattered(n), 50 + pair);
            let start = clock.monotonic();
            store.commit(txn).await.unwrap();
            let committed = clock.monotonic();
            with.push((committed - start).as_secs_f64());
            for _ in &watchers {
                heard.recv().await.unwrap();
            }
            delays.push(since(clock, committed));
        }
        slowdowns.push(median(with) / median(alone));
    }
    [
        Row {
            goal: "S7 commit -> last of 100 watchers, p50, ms",
            measured: median(delays) * 1e3,
            must: Bound::AtMost(1.0),
            aim: Bound::AtMost(0.3),
        },
        Row {
            goal: "S7 one durable write with 100 watchers, times with none",
            measured: median(slowdowns),
            must: Bound::AtMost(1.5),
            aim: Bound::AtMost(1.1),
        },
    ]
}

/// S8: a watcher that never reads, while more is written than the history holds.
async fn stalled(store: &dyn Backend) -> Row {
    let (_, revision) = store.list("none").await.unwrap();
    let mut events = store.watch("", revision).unwrap();
    let writer = |writer: usize| async move {
        for n in 0..STALLED_COMMITS.div_ceil(64) {
            store.commit(txn(scattered(writer * 1000 + n), 60)).await.unwrap();
        }
    };
    let all = join_all((0..64).map(writer));
    let finished = tokio::time::timeout(Duration::from_secs(60), all).await.is_ok();
    let resync = matches!(events.next().await, Some(Err(WatchError::Compacted { .. })));
    Row {
        goal: "S8 a stalled watcher blocks nobody and is told to list again",
        measured: f64::from(u8::from(finished && resync)),
        must: Bound::AtLeast(1.0),
        aim: Bound::AtLeast(1.0),
    }
}

async fn write_until_killed(dir: &Path) {
    let store = Sled::open(dir).await.unwrap();
    let (_, start) = store.list("none").await.unwrap();
    let round = usize::try_from(start.0).unwrap();
    let store = &store;
    let writer = |writer: usize| async move {
        for n in 0.. {
            let at = scattered(writer * 5000 + n);
            let revision = store.commit(txn(at, round + n)).await.unwrap();
            let line = format!("{at} {revision}\n");
            std::io::stdout().write_all(line.as_bytes()).unwrap();
        }
    };
    join_all((0..16).map(writer)).await;
}

/// S6: opening after `kill -9` in the middle of writing, and whether anything acknowledged is missing.
async fn reopened(clock: &System, dir: &Path) -> Row {
    let mut times = Vec::new();
    for _ in 0..PAIRS {
        let acknowledged = killed_child(dir);
        let start = clock.monotonic();
        let store = Sled::open(dir).await.unwrap();
        times.push(since(clock, start));
        let (entries, head) = store.list("").await.unwrap();
        assert!(entries.len() >= OBJECTS, "objects are missing");
        for (at, revision) in &acknowledged {
            let entry = store.get(&key(*at)).await.unwrap().unwrap();
            assert!(entry.revision >= *revision, "an acknowledged commit is missing");
            assert!(head >= *revision);
        }
        println!(
            "S6 open {:.0} ms, {} acknowledged",
            times.last().unwrap() * 1e3,
            acknowledged.len()
        );
    }
    Row {
        goal: "S6 open after kill -9 with 100k objects, none lost, s",
        measured: median(times),
        must: Bound::AtMost(1.0),
        aim: Bound::AtMost(0.3),
    }
}

fn killed_child(dir: &Path) -> BTreeMap<usize, Revision> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        if let Some((at, revision)) = line.split_once(' ')
            && let (Ok(at), Ok(revision)) = (at.parse(), revision.parse())
        {
            acknowledged.insert(at, Revision(revision));
        }
        if acknowledged.len() >= 3000 && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    acknowledged
}
