//! What only a backend on disk can be asked: what is still there after it was closed, and what happens when the disk
//! fails.

use std::{io, sync::mpsc};

use super::*;

fn dir() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    (dir, path)
}

#[tokio::test]
async fn a_new_store_says_that_it_is_fresh() {
    let (_dir, path) = dir();
    let store = Sled::open(&path).await.unwrap();
    assert_eq!(store.opened(), Opened::Fresh);
    drop(store);
    let store = Sled::open(&path).await.unwrap();
    assert_eq!(store.opened(), Opened::Fresh, "nothing was ever committed");
    put(&store, "a", "1").await;
    drop(store);
    assert_eq!(Sled::open(&path).await.unwrap().opened(), Opened::Existing);
}

#[tokio::test]
async fn everything_is_there_again_and_revisions_go_on() {
    let (_dir, path) = dir();
    let mut dice = Dice::seeded();
    let mut before = (Vec::new(), Revision(0));
    for _ in 0..4 {
        let store = open(&path, HISTORY_COMMITS_MAX).await;
        assert_eq!(store.list("").await.unwrap(), before);
        let in_a = before.0.iter().filter(|it| it.key.as_str().starts_with("a/")).count();
        assert_eq!(store.count("a").await.unwrap(), u64::try_from(in_a).unwrap());
        let mut last = before.1;
        for round in 0..40 {
            let revision = store.commit(dice.txn(round)).await.unwrap();
            assert!(revision >= last);
            last = revision;
        }
        // A deletion at the very end must not take its revision with it.
        store.commit(write("gone", "x")).await.unwrap();
        store.commit(delete("gone")).await.unwrap();
        before = store.list("").await.unwrap();
    }
}

#[tokio::test]
async fn a_watch_resumes_where_it_was() {
    let (_dir, path) = dir();
    let mut dice = Dice::seeded();
    let mut snapshots = Vec::new();
    let mut store = open(&path, HISTORY_COMMITS_MAX).await;
    for round in 0..120 {
        let (entries, revision) = store.list("").await.unwrap();
        snapshots.push((model(&entries), revision));
        store.commit(dice.txn(round)).await.unwrap();
        if round % 50 == 0 {
            drop(store);
            store = open(&path, HISTORY_COMMITS_MAX).await;
        }
    }
    drop(store);
    let store = open(&path, HISTORY_COMMITS_MAX).await;
    let (entries, last) = store.list("").await.unwrap();
    for (mut seen, after) in snapshots {
        let told = changes_until(&mut store.watch("", after).unwrap(), last).await;
        assert!(told.iter().map(|it| (it.revision, &it.key)).is_sorted());
        assert!(told.iter().all(|it| it.value.is_some() || it.before.is_some()));
        follow(&mut seen, &told, false);
        assert_eq!(seen, model(&entries), "after {after}");
    }
}

#[tokio::test]
async fn the_log_on_disk_is_cut_with_the_history() {
    let (_dir, path) = dir();
    let store = open(&path, 8).await;
    for round in 0..50 {
        put(&store, "a", &round.to_string()).await;
    }
    drop(store);
    let db = ::sled::open(&path).unwrap();
    let rows = db.scan_prefix("l/").count();
    assert!((8..=10).contains(&rows), "{rows} rows");
    drop(db);
    let store = open(&path, 8).await;
    assert!(matches!(store.watch("", Revision(30)), Err(WatchError::Compacted { .. })));
    assert!(store.watch("", Revision(42)).is_ok());
}

#[tokio::test]
async fn large_values_come_back_and_leave_nothing_behind() {
    let (_dir, path) = dir();
    let store = open(&path, 8).await;
    let sizes = [60_000, 0, 4096, 4097, 9000, 4084, 4085, 1];
    for (round, bytes) in sizes.into_iter().enumerate() {
        let op = Op::Put(Bytes::from(vec![u8::try_from(round).unwrap(); bytes]));
        store.commit(Txn::one(key("a"), Precondition::Any, op)).await.unwrap();
    }
    let op = |byte| Op::Put(Bytes::from(vec![byte; VALUE_BYTES_MAX]));
    for at in 0..40 {
        let txn = Txn::one(key(&format!("b/{at:02}")), Precondition::Any, op(at));
        store.commit(txn).await.unwrap();
    }
    store.commit(delete("b/39")).await.unwrap();
    let before = store.list("").await.unwrap();
    drop(store);

    let files = std::fs::read_dir(path.join("blobs")).unwrap().count();
    assert_eq!(files, 0, "sled put something into files that it never syncs");
    let db = ::sled::open(&path).unwrap();
    assert_eq!(db.scan_prefix("o/a").count(), 1, "the rest of a longer value stayed");
    assert_eq!(db.scan_prefix("o/b/39").count(), 0);
    drop(db);
    let store = open(&path, 8).await;
    assert_eq!(store.list("").await.unwrap(), before);
    let told =
        changes_until(&mut store.watch("", Revision(before.1.0 - 1)).unwrap(), before.1).await;
    assert_eq!(told[0].before.as_ref().unwrap().len(), VALUE_BYTES_MAX);
}

#[tokio::test]
async fn a_second_opener_is_told_that_the_store_is_in_use() {
    let (_dir, path) = dir();
    let _store = open(&path, 8).await;
    let error = Sled::open(&path).await.unwrap_err();
    let text = crate::retry::chain(&error);
    assert!(text.contains("another process has"), "{text}");
}

#[tokio::test]
async fn damage_is_an_error_and_not_a_guess() {
    let (_dir, path) = dir();
    let store = open(&path, 8).await;
    put(&store, "a", "1").await;
    drop(store);
    let db = ::sled::open(&path).unwrap();
    db.remove("m/head").unwrap();
    drop(db);
    assert!(matches!(Sled::open(&path).await, Err(Error::Corrupt { key, .. }) if key == "m/head"));

    let (_dir, path) = dir();
    let db = ::sled::open(&path).unwrap();
    db.insert("something", "else").unwrap();
    drop(db);
    assert!(matches!(Sled::open(&path).await, Err(Error::Corrupt { .. })));
}

/// sled checks pages. What it gives back whole and wrong is noticed by the rows themselves.
#[tokio::test]
async fn a_row_that_is_missing_changed_or_too_old_is_noticed() {
    let rows = ["o/a", "o/b\0\0\x01", "l/0000000000000002", "l/0000000000000004", "m/head"];
    let old = filled().await;
    for name in rows {
        for damage in ["missing", "changed", "too old"] {
            let (_dir, path) = filled().await;
            put(&open(&path, 8).await, "a", "of the same length").await;
            let db = ::sled::open(&path).unwrap();
            match damage {
                "missing" => drop(db.remove(name).unwrap()),
                "changed" => {
                    let mut row = db.get(name).unwrap().unwrap().to_vec();
                    *row.last_mut().unwrap() ^= 1;
                    db.insert(name, row).unwrap();
                }
                _ if name.starts_with("l/") || name.contains('\0') => continue,
                _ => {
                    let before = ::sled::open(&old.1).unwrap().get(name).unwrap().unwrap();
                    db.insert(name, before).unwrap();
                }
            }
            drop(db);
            let opened = Sled::open(&path).await;
            assert!(matches!(opened, Err(Error::Corrupt { .. })), "{name} {damage}: {opened:?}");
        }
    }
}

/// A closed store at revision 4 with a value in several rows.
async fn filled() -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = dir();
    let store = open(&path, 8).await;
    put(&store, "a", "of some length ..").await;
    put(&store, "b", &"x".repeat(9000)).await;
    put(&store, "c", "1").await;
    store.commit(delete("c")).await.unwrap();
    drop(store);
    (dir, path)
}

#[tokio::test]
async fn a_database_that_ends_before_what_was_acknowledged_is_refused() {
    let (_dir, path) = filled().await;
    let reached = std::fs::read(path.join("acknowledged")).unwrap();
    let (_other, behind) = dir();
    put(&open(&behind, 8).await, "a", "1").await;
    for (content, why) in [
        (&reached[..], "it ends at revision 1, and revision 4 was acknowledged"),
        (&reached[..11], "its checksum is wrong"),
        (&[], "missing or empty"),
    ] {
        std::fs::write(behind.join("acknowledged"), content).unwrap();
        let text = crate::retry::chain(&Sled::open(&behind).await.unwrap_err());
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn what_a_killed_process_did_not_acknowledge_and_a_later_one_shows_is_kept_too() {
    let (_dir, path) = filled().await;
    let reached = std::fs::read(path.join("acknowledged")).unwrap();
    let (_other, behind) = dir();
    put(&open(&behind, 8).await, "a", "1").await;
    std::fs::copy(behind.join("acknowledged"), path.join("acknowledged")).unwrap();
    drop(open(&path, 8).await);
    assert_eq!(std::fs::read(path.join("acknowledged")).unwrap(), reached);
}

#[tokio::test]
async fn nothing_is_seen_or_acknowledged_before_it_is_synced() {
    let (_dir, path) = dir();
    let (allow, allowed) = mpsc::channel();
    let store = Sled::open_with(path, 8, |_| {
        Ok(Box::new(move || allowed.recv().map_err(io::Error::other)))
    });
    let store = store.await.unwrap();
    let mut events = store.watch("", Revision(0)).unwrap();
    let mut commit = store.commit(write("a", "1"));
    assert!((&mut commit).now_or_never().is_none());
    // It cannot become visible: nothing was allowed to sync.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(store.list("").await.unwrap(), (vec![], Revision(0)));
        assert!(events.next().now_or_never().is_none());
    }
    allow.send(()).unwrap();
    assert_eq!(commit.await.unwrap(), Revision(1));
    assert_eq!(get(&store, "a").await.unwrap().value, value("1"));
    assert!(matches!(next(&mut events).await, Ok(Event::Changes(_))));
}

#[tokio::test]
async fn a_refused_transaction_does_not_hold_up_its_group() {
    let (_dir, path) = dir();
    let (allow, allowed) = mpsc::channel();
    let (entered, in_sync) = mpsc::channel();
    let store = Sled::open_with(path, 8, |_| {
        Ok(Box::new(move || {
            entered.send(()).map_err(io::Error::other)?;
            allowed.recv().map_err(io::Error::other)
        }))
    });
    let store = Arc::new(store.await.unwrap());
    let create = || Txn::one(key("b"), Precondition::Absent, Op::Put(value("1")));
    let mut first = store.commit(write("a", "1"));
    assert!((&mut first).now_or_never().is_none());
    in_sync.recv().unwrap();
    // While the first one syncs, these gather for the next group; the second one clashes with one not yet durable.
    let mut waiting =
        [store.commit(create()), store.commit(create()), store.commit(write("c", "1"))];
    for commit in &mut waiting {
        assert!(commit.now_or_never().is_none());
    }
    allow.send(()).unwrap();
    allow.send(()).unwrap();
    first.await.unwrap();
    let [created, clashed, other] = waiting;
    assert_eq!(created.await.unwrap(), Revision(2));
    assert!(matches!(clashed.await, Err(Error::Conflict { current: Some(Revision(2)), .. })));
    assert_eq!(other.await.unwrap(), Revision(3));
    assert_eq!(in_sync.try_iter().count(), 1, "one sync for the group");
}

#[tokio::test]
async fn a_failed_sync_is_the_end() {
    let (_dir, path) = dir();
    let store = Sled::open_with(path, 8, |_| {
        let mut good = 1;
        Ok(Box::new(move || {
            good -= 1;
            if good < 0 { Err(io::Error::other("the disk is gone")) } else { Ok(()) }
        }))
    });
    let store = store.await.unwrap();
    put(&store, "a", "1").await;
    let mut events = store.watch("", Revision(1)).unwrap();
    assert!(matches!(store.commit(write("a", "2")).await, Err(Error::Io { doing: "sync", .. })));
    assert!(matches!(store.commit(write("a", "3")).await, Err(Error::Closed)));
    assert!(matches!(store.get(&key("a")).await, Err(Error::Closed)));
    assert_eq!(next(&mut events).await, Err(WatchError::Closed));
    assert!(matches!(store.watch("", Revision(1)), Err(WatchError::Closed)));
}
