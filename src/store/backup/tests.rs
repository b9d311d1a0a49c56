//! Exports as files, and stores made of them.

use std::{os::unix::fs::MetadataExt, time::Duration};

use super::*;
use crate::store::{
    Backend, Event, Key, Op, Precondition, Revision, Txn, WatchError,
    crypt::Cipher,
    memory::Memory,
    sled::{Opened, Sled},
    whole,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn filled() -> Store {
    let store = Store::new(
        Arc::new(Memory::new()),
        Cipher::from_text("a passphrase of the tests").unwrap(),
        &["secrets/"],
    );
    for (key, value) in [("a/1", "one"), ("secrets/x", "hunter2"), ("b", &"long ".repeat(3000))] {
        store.txn().put(&Key::new(key), Precondition::Any, value).commit().await.unwrap();
    }
    store
}

fn names(backups: &Backups) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(&backups.dir)
        .unwrap()
        .map(|it| it.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn an_export_is_whole_private_and_shows_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let backups = Backups::in_dir(&dir.path().join("backups"));
    assert_eq!(backups.last().unwrap(), None);
    let store = filled().await;
    let made = backups.write(&store, at("2026-11-22T08:39:38.7Z")).await.unwrap();
    assert_eq!(names(&backups), ["2026-11-22T08-39-38Z.jsonl"]);
    assert_eq!(backups.last().unwrap(), Some((at("2026-11-22T08:39:38Z"), made.file.clone())));
    assert_eq!((made.revision, made.entries), (3, 3));
    let (text, metadata) = (fs::read(&made.file).unwrap(), fs::metadata(&made.file).unwrap());
    assert_eq!((metadata.mode() & 0o777, metadata.len()), (0o600, made.bytes));
    assert!(!text.windows(7).any(|part| part == b"hunter2"));
    let export = read(&made.file).unwrap();
    assert_eq!(export.entries, store.list_sealed("").await.unwrap().0);
    fs::write(&made.file, &text[..text.len() / 2]).unwrap();
    assert!(matches!(read(&made.file), Err(Error::Unusable { .. })));
}

#[tokio::test]
async fn of_each_of_the_last_hours_the_last_export_stays() {
    let dir = tempfile::tempdir().unwrap();
    let backups = Backups::in_dir(dir.path());
    let store = filled().await;
    let first = at("2026-11-22T00:10:00Z");
    fs::write(dir.path().join("notes.txt"), "somebody's").unwrap();
    for step in 0..60 {
        backups.write(&store, first + Duration::from_secs(step * 1800)).await.unwrap();
    }
    // Before this, some store was lost.
    let lost_at = first + Duration::from_secs(3600);
    backups.thin_out(Some(lost_at)).unwrap();
    let kept = names(&backups);
    assert_eq!(kept.len(), 2 + HOURS_KEPT + 1, "{kept:?}");
    assert_eq!(kept[..2], ["2026-11-22T00-10-00Z.jsonl", "2026-11-22T00-40-00Z.jsonl"]);
    assert_eq!(kept[2], "2026-11-22T06-40-00Z.jsonl");
    assert_eq!(kept[25], "2026-11-23T05-40-00Z.jsonl");
    backups.thin_out(None).unwrap();
    assert_eq!(names(&backups)[..], kept[2..]);
}

#[tokio::test]
async fn a_store_made_of_an_export_has_everything_at_one_revision_and_no_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (entries, _) = filled().await.list_sealed("").await.unwrap();
    let given: Vec<_> = entries.iter().map(|it| (it.key.clone(), it.value.clone())).collect();
    whole::make(&path, given.clone(), Revision(5000)).await.unwrap();
    let store = Sled::open(&path).await.unwrap();
    assert_eq!(store.opened(), Opened::Existing);
    let (found, revision) = store.list("").await.unwrap();
    assert_eq!(revision, Revision(5000));
    assert!(found.iter().all(|it| it.revision == revision));
    let found: Vec<_> = found.into_iter().map(|it| (it.key, it.value)).collect();
    assert_eq!(found, given);
    assert!(matches!(
        store.watch("", Revision(4999)),
        Err(WatchError::Compacted { oldest: Revision(5000), .. })
    ));
    // It goes on from there, over a restart too.
    let mut events = store.watch("", revision).unwrap();
    let delete = Txn::one(Key::new("b"), Precondition::At(revision), Op::Delete);
    assert_eq!(store.commit(delete).await.unwrap(), Revision(5001));
    let told = futures::StreamExt::next(&mut events).await.unwrap().unwrap();
    assert!(matches!(told, Event::Changes(changes) if changes[0].revision == Revision(5001)));
    drop(store);
    let store = Sled::open(&path).await.unwrap();
    assert_eq!(store.list("").await.unwrap().0.len(), 2);
    drop(store);
    let refused = whole::make(&path, given, Revision(6000)).await.unwrap_err();
    assert!(crate::retry::chain(&refused).contains("there is something in"), "{refused}");
}

#[tokio::test]
async fn what_a_restore_that_was_killed_left_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::create_dir(&path).unwrap();
    fs::create_dir(dir.path().join("store.partial")).unwrap();
    fs::write(dir.path().join("store.partial/db"), "half a database").unwrap();
    whole::make(&path, Vec::new(), Revision(9)).await.unwrap();
    assert_eq!(Sled::open(&path).await.unwrap().list("").await.unwrap().1, Revision(9));
}
