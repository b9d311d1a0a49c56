//! The one suite that every backend passes, and what only a backend on disk can be asked. The memory twin is the
//! reference; a new backend joins by one line in `backends!`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt};

use crate::store::{
    Backend, Change, Entry, Error, Event, Events, Key, Op, Precondition, Revision, TXN_STEPS_MAX,
    Txn, VALUE_BYTES_MAX, WatchError,
    memory::Memory,
    sled::{Opened, Sled},
    state::HISTORY_COMMITS_MAX,
};

/// A backend under test, and the directory that must outlive it.
struct Subject {
    backend: Arc<dyn Backend>,
    _dir: Option<tempfile::TempDir>,
}

async fn memory(history: usize) -> Subject {
    Subject { backend: Arc::new(Memory::with_history(history)), _dir: None }
}

async fn sled(history: usize) -> Subject {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path(), history).await;
    Subject { backend: Arc::new(backend), _dir: Some(dir) }
}

/// A sled backend that skips the sync: these tests end no process.
async fn open(dir: &Path, history: usize) -> Sled {
    Sled::open_with(dir.to_owned(), history, |_| Ok(Box::new(|| Ok(())))).await.unwrap()
}

macro_rules! backends {
    ($($test:ident $(history $history:expr)?;)*) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::memory(super::history(&[$($history)?])).await).await;
            })*
        }
        mod on_sled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::sled(super::history(&[$($history)?])).await).await;
            })*
        }
    };
}

fn history(asked: &[usize]) -> usize {
    asked.first().copied().unwrap_or(HISTORY_COMMITS_MAX)
}

backends! {
    a_write_is_read_back;
    a_stale_revision_conflicts_and_names_key_and_current;
    a_transaction_does_all_or_nothing;
    a_list_is_a_snapshot_in_key_order;
    what_is_right_under_a_directory_is_counted;
    nothing_changed_keeps_the_revision_and_tells_nothing;
    what_can_never_be_written_is_refused;
    a_deletion_carries_what_was_there;
    a_watch_starts_in_the_past_and_goes_on_live;
    a_watch_elsewhere_hears_of_progress_only;
    a_watch_misses_and_repeats_nothing;
    a_watch_across_the_compaction_is_told_so history 8;
    a_watch_from_the_future_is_told_to_list_again;
    a_stalled_watch_holds_up_nobody history 64;
    a_long_history_is_told_in_order;
    sixty_four_writers_of_one_key_lose_nothing;
    a_watch_ends_when_the_store_closes;
}

fn key(text: &str) -> Key {
    Key::new(text)
}

fn value(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn write(at: &str, text: &str) -> Txn {
    Txn::one(key(at), Precondition::Any, Op::Put(value(text)))
}

fn delete(at: &str) -> Txn {
    Txn::one(key(at), Precondition::Any, Op::Delete)
}

async fn put(backend: &dyn Backend, at: &str, text: &str) -> Revision {
    backend.commit(write(at, text)).await.unwrap()
}

async fn get(backend: &dyn Backend, at: &str) -> Option<Entry> {
    backend.get(&key(at)).await.unwrap()
}

/// The next event; a test that waits this long has failed.
async fn next(events: &mut Events) -> Result<Event, WatchError> {
    tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap().unwrap()
}

/// Changes until the watch has reached a revision.
async fn changes_until(events: &mut Events, revision: Revision) -> Vec<Change> {
    let mut told = Vec::new();
    let mut at = Revision(0);
    while at < revision {
        match next(events).await.unwrap() {
            Event::Changes(changes) => {
                at = changes.first().unwrap().revision;
                told.extend(changes.iter().cloned());
            }
            Event::Progress(progress) => at = progress,
        }
    }
    told
}

async fn a_write_is_read_back(it: Subject) {
    assert_eq!(get(&*it.backend, "a").await, None);
    let revision = put(&*it.backend, "a", "1").await;
    assert_eq!(revision, Revision(1));
    let entry = Entry { key: key("a"), value: value("1"), revision };
    assert_eq!(get(&*it.backend, "a").await, Some(entry));
    it.backend.commit(delete("a")).await.unwrap();
    assert_eq!(get(&*it.backend, "a").await, None);
}

async fn a_stale_revision_conflicts_and_names_key_and_current(it: Subject) {
    let first = put(&*it.backend, "a", "1").await;
    let second = put(&*it.backend, "a", "2").await;
    for (at, precondition, expected) in [
        ("a", Precondition::At(first), Some(second)),
        ("a", Precondition::Absent, Some(second)),
        ("b", Precondition::At(first), None),
    ] {
        let txn = Txn::one(key(at), precondition, Op::Put(value("3")));
        let error = it.backend.commit(txn).await.unwrap_err();
        let Error::Conflict { key, current } = error else { panic!("{error}") };
        assert_eq!((key.as_str(), current), (at, expected));
    }
    let txn = Txn::one(key("a"), Precondition::At(second), Op::Put(value("3")));
    assert!(it.backend.commit(txn).await.unwrap() > second);
}

async fn a_transaction_does_all_or_nothing(it: Subject) {
    let at = put(&*it.backend, "a", "1").await;
    let both = |checked: Revision| {
        write("b", "1").and(key("c"), Precondition::Absent, Op::Put(value("1"))).and(
            key("a"),
            Precondition::At(checked),
            Op::Check,
        )
    };
    assert!(it.backend.commit(both(Revision(99))).await.is_err());
    assert_eq!(it.backend.list("").await.unwrap().0.len(), 1);
    let revision = it.backend.commit(both(at)).await.unwrap();
    for written in ["b", "c"] {
        assert_eq!(get(&*it.backend, written).await.unwrap().revision, revision);
    }
    assert_eq!(get(&*it.backend, "a").await.unwrap().revision, at, "a check is no write");
    let mut events = it.backend.watch("", at).unwrap();
    let Event::Changes(changes) = next(&mut events).await.unwrap() else { panic!() };
    let keys: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(keys, ["b", "c"], "one event for one transaction");
}

async fn what_is_right_under_a_directory_is_counted(it: Subject) {
    let count = async |directory| it.backend.count(directory).await.unwrap();
    for at in ["a/x/2", "a/x/1", "a/x", "a/xy/1", "a/x/1/deep", "a"] {
        put(&*it.backend, at, "1").await;
    }
    put(&*it.backend, "a/x/1", "2").await;
    assert_eq!((count("a/x").await, count("a").await, count("").await), (2, 1, 1));
    for at in ["a/x/1", "a/x/1", "a/x/9"] {
        it.backend.commit(Txn::one(key(at), Precondition::Any, Op::Delete)).await.unwrap();
    }
    let refused = Txn::one(key("a/x/3"), Precondition::Any, Op::Put(value("1")));
    let refused = refused.and(key("a/x/9"), Precondition::At(Revision(1)), Op::Delete);
    assert!(it.backend.commit(refused).await.is_err());
    assert_eq!((count("a/x").await, count("a/xy").await, count("b").await), (1, 1, 0));
}

async fn a_list_is_a_snapshot_in_key_order(it: Subject) {
    for at in ["a/2", "a/1", "a", "ab", "b/1", "a0"] {
        put(&*it.backend, at, "x").await;
    }
    let (entries, revision) = it.backend.list("a/").await.unwrap();
    let keys: Vec<_> = entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!((keys.as_slice(), revision), (["a/1", "a/2"].as_slice(), Revision(6)));
    assert_eq!(it.backend.list("").await.unwrap().0.len(), 6);

    // Both keys always change together: no list may see them apart.
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (backend, done) = (Arc::clone(&it.backend), Arc::clone(&done));
        async move {
            for round in 0..200 {
                let text = round.to_string();
                let txn = write("pair/1", &text);
                let txn = txn.and(key("pair/2"), Precondition::Any, Op::Put(value(&text)));
                backend.commit(txn).await.unwrap();
            }
            done.store(true, Ordering::SeqCst);
        }
    };
    let reader = async {
        while !done.load(Ordering::SeqCst) {
            let (entries, revision) = it.backend.list("pair/").await.unwrap();
            if let [one, two] = entries.as_slice() {
                assert_eq!((&one.value, one.revision), (&two.value, two.revision));
                assert!(one.revision <= revision);
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(writer, reader);
}

async fn nothing_changed_keeps_the_revision_and_tells_nothing(it: Subject) {
    let revision = put(&*it.backend, "a", "1").await;
    let mut events = it.backend.watch("", revision).unwrap();
    let check = Txn::one(key("a"), Precondition::At(revision), Op::Check);
    for txn in [write("a", "1"), delete("missing"), check, Txn::default()] {
        assert_eq!(it.backend.commit(txn).await.unwrap(), revision);
    }
    assert_eq!(get(&*it.backend, "a").await.unwrap().revision, revision);
    assert!(events.next().now_or_never().is_none());
}

async fn what_can_never_be_written_is_refused(it: Subject) {
    let large = |bytes| Op::Put(Bytes::from(vec![7; bytes]));
    let txn = Txn::one(key("a"), Precondition::Any, large(VALUE_BYTES_MAX + 1));
    let refused = it.backend.commit(txn).await;
    assert!(matches!(refused, Err(Error::TooLarge { bytes, .. }) if bytes == VALUE_BYTES_MAX + 1));
    let many = (0..=TXN_STEPS_MAX).fold(Txn::default(), |txn, step| {
        txn.and(key(&step.to_string()), Precondition::Any, Op::Delete)
    });
    let twice = write("a", "1").and(key("a"), Precondition::Any, Op::Delete);
    for txn in [twice, write("", "1"), write("a\0b", "1"), write(&"k".repeat(385), "1"), many] {
        assert!(matches!(it.backend.commit(txn).await, Err(Error::Invalid { .. })));
    }
    assert_eq!(it.backend.list("").await.unwrap(), (vec![], Revision(0)));
    let txn = Txn::one(key("a"), Precondition::Any, large(VALUE_BYTES_MAX));
    it.backend.commit(txn).await.unwrap();
    assert_eq!(get(&*it.backend, "a").await.unwrap().value.len(), VALUE_BYTES_MAX);
}

async fn a_deletion_carries_what_was_there(it: Subject) {
    put(&*it.backend, "a", "1").await;
    put(&*it.backend, "a", "2").await;
    let revision = it.backend.commit(delete("a")).await.unwrap();
    let told = changes_until(&mut it.backend.watch("", Revision(0)).unwrap(), revision).await;
    let change = Change { key: key("a"), value: None, before: Some(value("2")), revision };
    assert_eq!(told.last(), Some(&change));
}

async fn a_watch_starts_in_the_past_and_goes_on_live(it: Subject) {
    let first = put(&*it.backend, "a", "1").await;
    let second = put(&*it.backend, "a", "2").await;
    let mut events = it.backend.watch("", first).unwrap();
    let change = |text: &str, before: &str, revision| Change {
        key: key("a"),
        value: Some(value(text)),
        before: Some(value(before)),
        revision,
    };
    assert_eq!(next(&mut events).await, Ok(Event::Changes([change("2", "1", second)].into())));
    assert!(events.next().now_or_never().is_none());
    let third = put(&*it.backend, "a", "3").await;
    assert_eq!(next(&mut events).await, Ok(Event::Changes([change("3", "2", third)].into())));
}

async fn a_watch_elsewhere_hears_of_progress_only(it: Subject) {
    let mut events = it.backend.watch("b/", Revision(0)).unwrap();
    let mut last = Revision(0);
    for round in 0..50 {
        last = put(&*it.backend, "a/1", &round.to_string()).await;
    }
    let mut progress = Vec::new();
    while progress.last() != Some(&last) {
        let Event::Progress(revision) = next(&mut events).await.unwrap() else { panic!() };
        progress.push(revision);
    }
    assert_eq!(progress, [last], "what nobody read in between is told once");
}

/// A small generator, so that a seed says all.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    /// `HANGAR_SEED` repeats a run.
    fn seeded() -> Self {
        let given = std::env::var("HANGAR_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| getrandom::u64().unwrap());
        println!("HANGAR_SEED={seed}");
        Self(seed)
    }

    fn txn(&mut self, round: u64) -> Txn {
        let mut txn = Txn::default();
        let mut at = self.roll(4);
        while at < 12 {
            let op =
                if self.roll(4) == 0 { Op::Delete } else { Op::Put(value(&format!("{round}"))) };
            let place = format!("{}/{at}", ["a", "b"][usize::try_from(at % 2).unwrap()]);
            txn = txn.and(key(&place), Precondition::Any, op);
            at += 1 + self.roll(8);
        }
        txn
    }
}

type Model = BTreeMap<Key, (Bytes, Revision)>;

fn model(entries: &[Entry]) -> Model {
    entries.iter().map(|it| (it.key.clone(), (it.value.clone(), it.revision))).collect()
}

/// Applies changes and asserts that each is new and that what it says was before is what was before.
fn follow(model: &mut Model, changes: &[Change], exact: bool) {
    for change in changes {
        let before = match &change.value {
            Some(new) => model.insert(change.key.clone(), (new.clone(), change.revision)),
            None => model.remove(&change.key),
        };
        if exact {
            assert_eq!(change.before, before.map(|(value, _)| value), "{change:?}");
        }
    }
}

async fn a_watch_misses_and_repeats_nothing(it: Subject) {
    let mut dice = Dice::seeded();
    let rounds = 150;
    let mut snapshots = Vec::new();
    let mut watching = Vec::new();
    for round in 0..rounds {
        if dice.roll(5) == 0 {
            let prefix = ["", "a/", "b/"][usize::try_from(dice.roll(3)).unwrap()];
            let (entries, revision) = it.backend.list(prefix).await.unwrap();
            // Some watch at once, some later from the same revision.
            if dice.roll(2) == 0 {
                let events = it.backend.watch(prefix, revision).unwrap();
                watching.push((prefix, model(&entries), revision, events));
            } else {
                snapshots.push((prefix, model(&entries), revision));
            }
        }
        it.backend.commit(dice.txn(round)).await.unwrap();
    }
    let last = put(&*it.backend, "end", "x").await;
    for (prefix, model, revision) in snapshots {
        let events = it.backend.watch(prefix, revision).unwrap();
        watching.push((prefix, model, revision, events));
    }
    for (prefix, mut model, after, mut events) in watching {
        let told = changes_until(&mut events, last).await;
        let mut places: Vec<_> = told.iter().map(|it| (it.revision, it.key.clone())).collect();
        assert!(places.is_sorted());
        places.dedup();
        assert_eq!(places.len(), told.len(), "none twice");
        assert!(places.iter().all(|(revision, _)| *revision > after));
        follow(&mut model, &told, true);
        assert_eq!(model, self::model(&it.backend.list(prefix).await.unwrap().0));
    }
}

async fn a_watch_across_the_compaction_is_told_so(it: Subject) {
    let first = put(&*it.backend, "a", "0").await;
    for round in 1..20 {
        put(&*it.backend, "a", &round.to_string()).await;
    }
    let Err(error) = it.backend.watch("", first) else { panic!("the history is gone") };
    assert_eq!(error, WatchError::Compacted { asked: first, oldest: Revision(12) });
    let told = changes_until(&mut it.backend.watch("", Revision(12)).unwrap(), Revision(20)).await;
    assert_eq!(told.len(), 8);
}

async fn a_watch_from_the_future_is_told_to_list_again(it: Subject) {
    put(&*it.backend, "a", "1").await;
    assert!(matches!(it.backend.watch("", Revision(2)), Err(WatchError::Compacted { .. })));
}

async fn a_stalled_watch_holds_up_nobody(it: Subject) {
    let mut stalled = it.backend.watch("", Revision(0)).unwrap();
    for round in 0..200 {
        put(&*it.backend, "a", &round.to_string()).await;
    }
    assert!(matches!(next(&mut stalled).await, Err(WatchError::Compacted { .. })));
    assert!(stalled.next().await.is_none(), "an error ends a watch");
}

async fn a_long_history_is_told_in_order(it: Subject) {
    // More than one look at the history passes over.
    for round in 0..1200 {
        put(&*it.backend, ["a", "b"][round % 2], &round.to_string()).await;
    }
    let told =
        changes_until(&mut it.backend.watch("a", Revision(0)).unwrap(), Revision(1200)).await;
    let revisions: Vec<_> = told.iter().map(|change| change.revision.0).collect();
    assert_eq!(revisions, (0..600).map(|at| at * 2 + 1).collect::<Vec<_>>());
}

async fn sixty_four_writers_of_one_key_lose_nothing(it: Subject) {
    const WRITERS: u64 = 64;
    const TIMES: u64 = 5;
    put(&*it.backend, "count", "0").await;
    let count = || async {
        let entry = get(&*it.backend, "count").await.unwrap();
        (std::str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap(), entry.revision)
    };
    let writer = || async {
        for _ in 0..TIMES {
            loop {
                let (now, revision) = count().await;
                let op = Op::Put(value(&(now + 1).to_string()));
                let txn = Txn::one(key("count"), Precondition::At(revision), op);
                match it.backend.commit(txn).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    futures::future::join_all((0..WRITERS).map(|_| writer())).await;
    assert_eq!(count().await, (WRITERS * TIMES, Revision(WRITERS * TIMES + 1)));
}

async fn a_watch_ends_when_the_store_closes(it: Subject) {
    let mut events = it.backend.watch("", Revision(0)).unwrap();
    put(&*it.backend, "a", "1").await;
    drop(it);
    assert!(matches!(next(&mut events).await, Ok(Event::Changes(_))), "what was durable is told");
    assert_eq!(next(&mut events).await, Err(WatchError::Closed));
}

mod reopened;
