//! The feed over the objects as the store writes them: renames, swaps, deletions, gaps, an old copy.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use base64::Engine as _;

use super::*;
use crate::{
    clock,
    router::{
        decide::{Decision, decide},
        head::{Head, Replayed},
    },
};

/// An environment of the tests; its app tells its uid.
#[derive(Clone)]
struct Env {
    uid: u32,
    name: String,
    labels: Vec<&'static str>,
    epoch: u32,
    deleting: bool,
    machine: bool,
}

fn env(uid: u32, labels: &[&'static str]) -> Env {
    let name = labels.first().map_or_else(|| format!("env-{uid}"), |it| (*it).to_owned());
    Env { uid, name, labels: labels.to_vec(), epoch: 1, deleting: false, machine: true }
}

fn uid(number: u32) -> String {
    format!("00000000-1111-4222-8333-{number:012}")
}

impl Env {
    fn fact(&self) -> Bytes {
        let mut object = serde_json::json!({
            "metadata": {"name": self.name, "namespace": "default", "uid": uid(self.uid)},
            "spec": {"hostnames": self.labels, "access": "Public"},
            "status": {"bay": {"name": format!("bay-{}", self.uid), "app": format!("hgr-{}", self.uid), "epoch": self.epoch}},
        });
        if self.machine {
            object["status"]["bay"]["machine"] = format!("{:014x}", self.epoch).into();
        }
        if self.deleting {
            object["metadata"]["deletionTimestamp"] = "2026-11-01T00:00:00Z".into();
        }
        object.to_string().into()
    }

    fn key(&self) -> Bytes {
        let key = base64::engine::general_purpose::STANDARD.encode([7; 16]);
        let object = serde_json::json!({
            "metadata": {"name": format!("bay-{}", self.uid), "namespace": "default"},
            "type": "hangar.dev/bay-key",
            "data": {"key": key},
        });
        object.to_string().into()
    }

    fn hostname(&self, label: &str, released: bool) -> Bytes {
        let mut object = serde_json::json!({
            "metadata": {"name": label},
            "spec": {"namespace": "default", "environment": self.name, "uid": uid(self.uid)},
            "status": {},
        });
        if released {
            object["status"]["releasedAt"] = "2026-11-01T00:00:00Z".into();
        }
        object.to_string().into()
    }
}

struct Harness {
    feed: Feed,
}

impl Harness {
    fn empty() -> Self {
        Self { feed: Feed::new(Arc::new(Seen::new(clock::System::shared()))) }
    }

    /// A harness with these environments, whose lists are complete.
    fn with(environments: &[Env]) -> Self {
        let mut harness = Self::empty();
        harness.list(environments);
        harness
    }

    fn list(&mut self, environments: &[Env]) {
        for part in Part::ALL {
            self.feed.take(&Fed::Init(part));
            for env in environments {
                match part {
                    Part::Environments => self.apply(part, env.fact()),
                    Part::Hostnames => {
                        env.labels.iter().for_each(|it| self.apply(part, env.hostname(it, false)))
                    }
                    Part::Secrets => self.apply(part, env.key()),
                }
            }
            self.feed.take(&Fed::InitDone(part));
        }
    }

    fn apply(&mut self, part: Part, object: Bytes) {
        self.feed.take(&Fed::Apply(part, object));
    }

    fn delete(&mut self, part: Part, object: Bytes) {
        self.feed.take(&Fed::Delete(part, object));
    }

    fn answer(&self, label: &str) -> String {
        answer(&self.feed.table, label)
    }
}

/// `hgr-1/machine` for a replay, else the decision's name.
fn answer(table: &Table, label: &str) -> String {
    let head = Head { label: Label::of_name(label), failed: false, replayed: Replayed::No };
    match decide(&head, table) {
        Decision::Replay(route) => format!("{}/{}", route.app(), route.machine()),
        other => other.name().to_owned(),
    }
}

const FIRST: &str = "00000000000001";

#[test]
fn the_table_is_ready_when_every_part_was_listed_once() {
    let alice = env(1, &["alice"]);
    let mut harness = Harness::empty();
    for part in [Part::Hostnames, Part::Secrets] {
        harness.feed.take(&Fed::Init(part));
        harness.feed.take(&Fed::InitDone(part));
    }
    harness.feed.take(&Fed::Init(Part::Environments));
    assert!(!harness.feed.table.ready());
    assert_eq!(harness.answer("alice"), "starting");
    harness.feed.take(&Fed::InitDone(Part::Environments));
    assert!(harness.feed.table.ready());
    assert_eq!(harness.answer("alice"), "unknown");
    harness.list(&[alice]);
    assert_eq!(harness.answer("alice"), format!("hgr-1/{FIRST}"));
}

#[test]
fn an_environment_answers_only_on_hostnames_that_are_its_own() {
    let alice = env(1, &["alice"]);
    let mut harness = Harness::with(std::slice::from_ref(&alice));
    let thief = env(2, &["alice"]);
    harness.apply(Part::Secrets, thief.key());
    harness.apply(Part::Environments, thief.fact());
    assert_eq!(harness.answer("alice"), format!("hgr-1/{FIRST}"));
    let unheld = env(3, &["free"]);
    harness.apply(Part::Environments, unheld.fact());
    assert_eq!(harness.answer("free"), "unknown");
}

#[test]
fn a_rename_moves_the_route_and_the_old_name_is_gone() {
    let alice = env(1, &["alice"]);
    let mut harness = Harness::with(std::slice::from_ref(&alice));
    let renamed = Env { labels: vec!["wonder"], ..alice.clone() };
    harness.apply(Part::Environments, renamed.fact());
    assert_eq!(harness.answer("alice"), "gone");
    harness.apply(Part::Hostnames, alice.hostname("alice", true));
    harness.apply(Part::Hostnames, renamed.hostname("wonder", false));
    assert_eq!(
        (harness.answer("alice"), harness.answer("wonder")),
        ("gone".to_owned(), format!("hgr-1/{FIRST}"))
    );
    harness.delete(Part::Hostnames, alice.hostname("alice", true));
    assert_eq!(harness.answer("alice"), "unknown");
}

#[test]
fn a_swap_never_shows_the_other_environment_too_early() {
    let (alice, bob) = (env(1, &["alice"]), env(2, &["bob"]));
    let (new_alice, new_bob) = (
        Env { labels: vec!["bob"], ..alice.clone() },
        Env { labels: vec!["alice"], ..bob.clone() },
    );
    let events = [
        (Part::Environments, new_alice.fact()),
        (Part::Environments, new_bob.fact()),
        (Part::Hostnames, new_alice.hostname("bob", false)),
        (Part::Hostnames, new_bob.hostname("alice", false)),
    ];
    // In every order in which four streams could deliver them.
    for order in 0..24_usize {
        let mut left: Vec<_> = events.to_vec();
        let mut harness = Harness::with(&[alice.clone(), bob.clone()]);
        let mut moved = [false; 2];
        for step in [order / 6, order / 2 % 3, order % 2, 0] {
            let (part, object) = left.remove(step);
            for (flag, label) in moved.iter_mut().zip(["alice", "bob"]) {
                let named = String::from_utf8_lossy(&object)
                    .contains(&format!("\"metadata\":{{\"name\":\"{label}\"}}"));
                *flag |= part == Part::Hostnames && named;
            }
            harness.apply(part, object);
            for (moved, label, before, after) in
                [(moved[0], "alice", "hgr-1/", "hgr-2/"), (moved[1], "bob", "hgr-2/", "hgr-1/")]
            {
                let answer = harness.answer(label);
                let right = if moved { after } else { before };
                assert!(
                    answer.starts_with(right) || answer == "gone",
                    "{label}: {answer} in order {order}"
                );
            }
        }
        assert_eq!(
            (harness.answer("alice"), harness.answer("bob")),
            (format!("hgr-2/{FIRST}"), format!("hgr-1/{FIRST}"))
        );
    }
}

#[test]
fn a_deletion_is_gone_at_once_and_a_successor_of_the_same_name_is_another() {
    let alice = env(1, &["alice"]);
    let mut harness = Harness::with(std::slice::from_ref(&alice));
    harness.apply(Part::Environments, Env { deleting: true, ..alice.clone() }.fact());
    assert_eq!(harness.answer("alice"), "gone");
    harness.delete(Part::Environments, alice.fact());
    assert_eq!(harness.answer("alice"), "gone");
    let again = Env { uid: 2, machine: false, ..alice.clone() };
    harness.apply(Part::Environments, again.fact());
    assert_eq!(harness.answer("alice"), "gone", "the label is still the old one's");
    harness.apply(Part::Hostnames, again.hostname("alice", false));
    assert_eq!(harness.answer("alice"), "not_yet");
    harness.apply(Part::Environments, Env { machine: true, ..again.clone() }.fact());
    assert_eq!(harness.answer("alice"), "not_yet", "there is no key yet");
    harness.apply(Part::Secrets, again.key());
    assert_eq!(
        harness.answer("alice"),
        format!("hgr-2/{FIRST}"),
        "a lower epoch of another uid is no older one"
    );
}

#[test]
fn an_epoch_never_goes_back() {
    let alice = Env { epoch: 5, ..env(1, &["alice"]) };
    let mut harness = Harness::with(std::slice::from_ref(&alice));
    harness.apply(Part::Environments, Env { epoch: 4, ..alice.clone() }.fact());
    assert_eq!(harness.answer("alice"), "hgr-1/00000000000005");
    harness.apply(Part::Environments, Env { machine: false, ..alice.clone() }.fact());
    assert_eq!(harness.answer("alice"), "not_yet");
}

#[test]
fn a_new_list_takes_back_what_a_store_made_from_an_export_does_not_know() {
    let alice = env(1, &["alice"]);
    let mut harness = Harness::with(std::slice::from_ref(&alice));
    let later = Env { epoch: 2, deleting: true, ..alice.clone() };
    harness.apply(Part::Environments, later.fact());
    assert_eq!(harness.answer("alice"), "gone");
    harness.list(std::slice::from_ref(&alice));
    assert_eq!(harness.answer("alice"), format!("hgr-1/{FIRST}"));
    // Only a list does.
    harness.apply(Part::Environments, later.fact());
    harness.apply(Part::Environments, alice.fact());
    assert_eq!(harness.answer("alice"), "gone");
}

#[test]
fn what_a_new_list_does_not_name_is_gone() {
    let (alice, bob) = (env(1, &["alice"]), env(2, &["bob"]));
    let mut harness = Harness::with(&[alice.clone(), bob]);
    harness.feed.take(&Fed::Init(Part::Environments));
    harness.apply(Part::Environments, alice.fact());
    assert!(
        harness.answer("bob").starts_with("hgr-2"),
        "nothing is concluded before the list is complete"
    );
    harness.feed.take(&Fed::InitDone(Part::Environments));
    assert_eq!(harness.answer("bob"), "gone");
    harness.list(std::slice::from_ref(&alice));
    assert_eq!(
        (harness.answer("alice"), harness.answer("bob")),
        (format!("hgr-1/{FIRST}"), "unknown".to_owned())
    );
}

#[test]
fn an_object_that_cannot_be_read_changes_nothing() {
    let mut harness = Harness::with(&[env(1, &["alice"])]);
    for part in Part::ALL {
        harness.apply(part, Bytes::from_static(b"{\"metadata\":7}"));
        harness.delete(part, Bytes::from_static(b"nonsense"));
    }
    assert_eq!(harness.answer("alice"), format!("hgr-1/{FIRST}"));
}

#[test]
fn a_router_starts_on_its_own_copy_and_stays_right_when_the_server_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let (alice, bob) = (env(1, &["alice", "both"]), env(2, &["bob"]));
    let harness = Harness::with(&[alice.clone(), bob.clone()]);
    {
        let shelf = Shelf::open(dir.path()).unwrap();
        let mut index = locked(&harness.feed.index);
        index.changed_from_the_start();
        shelf.write(index.take_changes(100)).unwrap();
    }
    let mut harness = Harness::empty();
    let shelf = Shelf::open(dir.path()).unwrap();
    assert_eq!(shelf.load(&mut locked(&harness.feed.index)).unwrap(), 3);
    assert!(harness.feed.table.ready() && !harness.feed.table.synced());
    for (label, app) in [("alice", "hgr-1"), ("both", "hgr-1"), ("bob", "hgr-2")] {
        assert_eq!(harness.answer(label), format!("{app}/{FIRST}"));
    }
    assert_eq!(harness.answer("new"), "starting", "it may be there by now");
    let (new_alice, new_bob) =
        (Env { labels: vec!["both"], ..alice }, Env { labels: vec!["alice"], ..bob });
    harness.list(&[new_alice, new_bob]);
    assert_eq!(harness.answer("alice"), format!("hgr-2/{FIRST}"));
    assert_eq!(harness.answer("both"), format!("hgr-1/{FIRST}"));
    assert_eq!(harness.answer("bob"), "unknown");
}

/// Which environments a label may answer with just now; a change allows both sides while it is being made.
#[derive(Default)]
struct Truth {
    allowed: AtomicU64,
    changes: AtomicU32,
}

const LABELS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[test]
fn ten_thousand_changes_never_answer_with_a_wrong_environment() {
    let mut harness = Harness::with(&[]);
    let truths: Arc<[Truth; 8]> = Arc::default();
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (table, truths, over) =
                (harness.feed.table(), Arc::clone(&truths), Arc::clone(&over));
            std::thread::spawn(move || probe(&table, &truths, &over))
        })
        .collect();

    let mut random = 0x1234_5678_9abc_def1_u64;
    let mut below = |limit: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % limit as u64).unwrap()
    };
    // Uids 0..63 by turns, each an environment that holds some labels.
    let mut holders: [Option<Env>; 8] = Default::default();
    for change in 0..10_000_u32 {
        let position = below(8);
        let (label, truth) = (LABELS[position], &truths[position]);
        let next = match below(3) {
            0 => None,
            // Another label's environment takes this one too, or its place is taken by a new one.
            1 => holders[below(8)].clone().map(|env| Env { epoch: env.epoch + 1, ..env }),
            _ => Some(Env { name: format!("env-{change}"), ..env(change % 64, &LABELS) }),
        };
        truth.changes.fetch_add(1, Ordering::SeqCst);
        if let Some(next) = &next {
            truth.allowed.fetch_or(1 << next.uid, Ordering::SeqCst);
            harness.apply(Part::Secrets, next.key());
            harness.apply(Part::Environments, next.fact());
            harness.apply(Part::Hostnames, next.hostname(label, false));
        } else if let Some(before) = &holders[position] {
            harness.delete(Part::Hostnames, before.hostname(label, false));
        }
        let allowed = next.as_ref().map_or(0, |it| 1 << it.uid);
        truth.allowed.store(allowed, Ordering::SeqCst);
        truth.changes.fetch_add(1, Ordering::SeqCst);
        let before = std::mem::replace(&mut holders[position], next);
        if let Some(before) = before
            && !holders.iter().flatten().any(|it| it.uid == before.uid)
        {
            harness.delete(Part::Environments, before.fact());
        }
    }
    over.store(true, Ordering::SeqCst);
    let probes: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert!(probes > 1_000, "{probes} probes could be judged");
}

/// Asks for every label by turns; an answer counts when at most one change was under way.
fn probe(table: &Table, truths: &[Truth; 8], over: &AtomicBool) -> u64 {
    let mut judged = 0;
    for position in (0..8).cycle() {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let truth = &truths[position];
        let changes = truth.changes.load(Ordering::SeqCst);
        let before = truth.allowed.load(Ordering::SeqCst);
        let answer = answer(table, LABELS[position]);
        let allowed = before | truth.allowed.load(Ordering::SeqCst);
        if truth.changes.load(Ordering::SeqCst) > changes + 1 {
            continue;
        }
        judged += 1;
        if let Some(number) = answer.strip_prefix("hgr-").and_then(|it| it.split('/').next()) {
            let number: u32 = number.parse().unwrap();
            assert!(allowed & (1 << number) != 0, "{answer} for {}", LABELS[position]);
        }
    }
    judged
}
