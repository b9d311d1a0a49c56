//! The typed handle over the memory backend: JSON, sealing, following.

use std::sync::Mutex;

use futures::StreamExt;

use super::*;
use crate::clock;
use crate::store::memory::Memory;

const SEALED: &[&str] = &["secrets/"];

fn store(backend: &Arc<Memory>) -> Store {
    let cipher = Cipher::from_text("a passphrase of the tests").unwrap();
    Store::new(Arc::clone(backend) as Arc<dyn Backend>, cipher, SEALED)
}

async fn put(store: &Store, key: &str, value: &str) -> Revision {
    store.txn().put(&Key::new(key), Precondition::Any, value).commit().await.unwrap()
}

async fn next(stream: &mut BoxStream<'static, Result<Follow, Error>>) -> Follow {
    stream.next().await.unwrap().unwrap()
}

fn entry(key: &str, value: &str, revision: u64) -> Entry {
    let value = serde_json::to_vec(value).unwrap().into();
    Entry { key: Key::new(key), value, revision: Revision(revision) }
}

#[tokio::test]
async fn a_value_comes_back_as_what_it_was() {
    let store = store(&Arc::default());
    let key = Key::new("environments/default/alice");
    let revision = store.txn().put(&key, Precondition::Absent, &vec![1, 2]).commit().await.unwrap();
    let stored: Stored<Vec<u8>> = store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored, Stored { key: key.clone(), value: vec![1, 2], revision });
    assert!(matches!(store.get::<String>(&key).await, Err(Error::Corrupt { .. })));
    store.txn().delete(&key, Precondition::At(revision)).commit().await.unwrap();
    assert_eq!(store.get::<Vec<u8>>(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_sealed_value_lies_encrypted_and_reads_plain_everywhere() {
    let backend = Arc::new(Memory::new());
    let store = store(&backend);
    let mut events = store.watch("secrets/", Revision(0)).unwrap();
    put(&store, "secrets/default/a", "hunter2").await;
    put(&store, "secrets/default/a", "hunter3").await;

    let key = Key::new("secrets/default/a");
    let raw = backend.get(&key).await.unwrap().unwrap();
    assert!(!raw.value.windows(7).any(|part| part == b"hunter3"));
    assert_eq!(store.get::<String>(&key).await.unwrap().unwrap().value, "hunter3");
    assert_eq!(store.list::<String>("").await.unwrap().0[0].value, "hunter3");
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Event::Changes(changes) = events.next().await.unwrap().unwrap() {
            told.extend(changes.iter().cloned());
        }
    }
    assert_eq!(told[1].value.as_deref(), Some(&b"\"hunter3\""[..]));
    assert_eq!(told[1].before.as_deref(), Some(&b"\"hunter2\""[..]));
}

#[tokio::test]
async fn writing_the_same_secret_again_changes_nothing() {
    let store = store(&Arc::default());
    let first = put(&store, "secrets/default/a", "hunter2").await;
    assert_eq!(put(&store, "secrets/default/a", "hunter2").await, first);
}

#[tokio::test]
async fn another_secret_key_is_found_out_at_the_start() {
    let backend = Arc::new(Memory::new());
    put(&store(&backend), "secrets/default/a", "hunter2").await;
    store(&backend).verify().await.unwrap();
    let other = Store::new(backend, Cipher::ephemeral().unwrap(), SEALED);
    let error = other.verify().await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { key, .. } if key == "secrets/default/a"));
}

#[tokio::test]
async fn the_limit_counts_the_bytes_that_are_stored() {
    let store = store(&Arc::default());
    let fits = "x".repeat(crate::store::VALUE_BYTES_MAX - 2);
    put(&store, "plain/a", &fits).await;
    let sealed = Key::new("secrets/default/a");
    let refused = store.txn().put(&sealed, Precondition::Any, &fits).commit().await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
}

#[tokio::test]
async fn following_tells_the_list_then_the_changes() {
    let store = store(&Arc::default());
    put(&store, "a/1", "one").await;
    put(&store, "b/1", "not followed").await;
    let mut follow = store.follow("a/");
    assert_eq!(next(&mut follow).await, Follow::Init);
    assert_eq!(next(&mut follow).await, Follow::InitApply(entry("a/1", "one", 1)));
    // Between the list and the watch nothing gets lost.
    put(&store, "a/2", "two").await;
    assert_eq!(next(&mut follow).await, Follow::InitDone(Revision(2)));
    assert_eq!(next(&mut follow).await, Follow::Apply(entry("a/2", "two", 3)));
    store.txn().delete(&Key::new("a/1"), Precondition::Any).commit().await.unwrap();
    let Follow::Delete(change) = next(&mut follow).await else { panic!("not a deletion") };
    assert_eq!((change.key.as_str(), change.before.as_deref()), ("a/1", Some(&b"\"one\""[..])));
}

#[tokio::test]
async fn who_falls_behind_gets_a_new_list() {
    let backend = Arc::new(Memory::with_history(4));
    let store = store(&backend);
    let mut follow = store.follow("");
    assert_eq!(next(&mut follow).await, Follow::Init);
    assert_eq!(next(&mut follow).await, Follow::InitDone(Revision(0)));
    for round in 1..=6 {
        put(&store, "a", &format!("{round}")).await;
    }
    assert_eq!(next(&mut follow).await, Follow::Init);
    assert_eq!(next(&mut follow).await, Follow::InitApply(entry("a", "6", 6)));
    assert_eq!(next(&mut follow).await, Follow::InitDone(Revision(6)));
}

#[tokio::test]
async fn a_value_that_does_not_decrypt_is_an_error_in_its_place() {
    let backend = Arc::new(Memory::new());
    let forged = Op::Put(Bytes::from_static(b"forged"));
    let key = Key::new("secrets/default/a");
    backend.commit(Txn::one(key, Precondition::Any, forged)).await.unwrap();
    let store = store(&backend);
    put(&store, "secrets/default/b", "hunter2").await;
    let mut follow = store.follow("secrets/");
    assert_eq!(next(&mut follow).await, Follow::Init);
    assert!(matches!(follow.next().await, Some(Err(Error::Corrupt { .. }))));
    assert_eq!(
        next(&mut follow).await,
        Follow::InitApply(entry("secrets/default/b", "hunter2", 2))
    );
    assert_eq!(next(&mut follow).await, Follow::InitDone(Revision(2)));
}

#[tokio::test]
async fn following_ends_with_the_store() {
    let backend = Arc::new(Memory::new());
    let mut follow = {
        let store = store(&backend);
        put(&store, "a", "1").await;
        store.follow("")
    };
    for _ in 0..3 {
        next(&mut follow).await;
    }
    backend.close();
    assert!(matches!(follow.next().await, Some(Err(Error::Closed))));
    assert!(follow.next().await.is_none());
}

#[tokio::test]
async fn the_observer_hears_how_long_a_commit_took() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let observer: Observer = {
        let heard = Arc::clone(&heard);
        Arc::new(move |took| heard.lock().unwrap().push(took))
    };
    let clock = Arc::new(clock::Manual::at(clock::Timestamp::UNIX_EPOCH));
    let store = store(&Arc::default()).observed(clock, observer);
    put(&store, "a", "1").await;
    assert_eq!(*heard.lock().unwrap(), [Duration::ZERO]);
}
