//! What a backend holds in memory: the entries, the revision and the recent history. Pure: it must never do IO or wait.
//!
//! A [`Draft`] collects transactions that are decided but not yet durable; each is judged against the entries overlaid
//! with the ones before it. [`State::publish`] makes a draft visible at once.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;

use crate::store::{
    Change, Entry, Error, KEY_BYTES_MAX, Key, Op, Precondition, Revision, TXN_STEPS_MAX, Txn,
    VALUE_BYTES_MAX, WatchError,
};

/// How many commits a watch can look back.
pub(super) const HISTORY_COMMITS_MAX: usize = 16_384;

/// How much the history may weigh, so that many large values do not fill the memory.
const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How many commits one look at the history passes over, which bounds how long it holds the lock.
const LOOK_COMMITS_MAX: usize = 1024;

/// All changes of one commit in key order; never empty.
pub(super) type Commit = Arc<[Change]>;

/// A value and the revision that wrote it.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) value: Bytes,
    pub(super) revision: Revision,
}

/// How many entries there are, and what they add up to: any of them missing or other than it should be changes the sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) count: u64,
    pub(super) sum: u64,
}

impl Live {
    pub(super) fn add(&mut self, key: &Key, revision: Revision, value: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(checksum(key, revision, value).into());
    }

    fn take(&mut self, key: &Key, revision: Revision, value: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(checksum(key, revision, value).into());
    }
}

/// What an entry is recognised by. Against accidents only: whoever can write the files can write this too.
pub(super) fn checksum(key: &Key, revision: Revision, value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key.as_str().as_bytes());
    hasher.update(&revision.0.to_be_bytes());
    hasher.update(value);
    hasher.finalize()
}

/// The durable truth.
#[derive(Debug)]
pub(super) struct State {
    /// Hashed, because most commits write keys that are there already: a search in an ordered map of 100k keys misses
    /// the processor's cache some 27 times, and a group of 64 pays it for each of its writes.
    entries: HashMap<Key, Held>,
    /// The keys of `entries`, for lists.
    keys: BTreeSet<Key>,
    /// How many of them there are in each directory.
    counts: HashMap<Box<str>, u64>,
    live: Live,
    revision: Revision,
    history: History,
}

impl State {
    /// A state that was read back. The entries are fastest in key order; `commits` are those after `floor` that can still be told, oldest first.
    pub(super) fn new(
        entries: Vec<(Key, Held)>,
        revision: Revision,
        floor: Revision,
        commits: Vec<Commit>,
    ) -> Self {
        let mut history = History { floor, ..History::default() };
        for commit in commits {
            history.push(commit, &mut Vec::new());
        }
        let keys = entries.iter().map(|(key, _)| key.clone()).collect();
        let mut live = Live::default();
        let mut counts = HashMap::new();
        for (key, held) in &entries {
            live.add(key, held.revision, &held.value);
            *counts.entry(directory(key).into()).or_default() += 1;
        }
        Self { entries: entries.into_iter().collect(), keys, counts, live, revision, history }
    }

    /// The state of a new store.
    pub(super) fn empty() -> Self {
        Self::new(Vec::new(), Revision(0), Revision(0), Vec::new())
    }

    /// The same with another length of history.
    pub(super) fn with_history(mut self, commits_max: usize) -> Self {
        self.history.commits_max = commits_max;
        self
    }

    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    pub(super) fn live(&self) -> Live {
        self.live
    }

    /// The earliest revision a watch can start after.
    pub(super) fn floor(&self) -> Revision {
        self.history.floor
    }

    pub(super) fn get(&self, key: &Key) -> Option<Entry> {
        self.entries.get(key).map(|held| entry(key, held))
    }

    pub(super) fn list(&self, prefix: &str) -> Vec<Entry> {
        self.keys
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|key| key.as_str().starts_with(prefix))
            .filter_map(|key| self.get(key))
            .collect()
    }

    pub(super) fn count(&self, directory: &str) -> u64 {
        self.counts.get(directory).copied().unwrap_or_default()
    }

    /// Makes everything in the draft visible. The draft must have been started from this state. Returns what fell out of
    /// the history, because freeing it takes a while and can wait.
    #[must_use = "drop it when nobody waits any more"]
    pub(super) fn publish(&mut self, draft: Draft) -> Vec<Commit> {
        let mut fallen = Vec::new();
        for commit in draft.commits {
            for change in commit.iter() {
                self.apply(change);
            }
            self.history.push(commit, &mut fallen);
        }
        self.revision = draft.revision;
        self.live = draft.live;
        fallen
    }

    fn apply(&mut self, change: &Change) {
        match (held(change), self.entries.get_mut(&change.key)) {
            (Some(new), Some(held)) => *held = new,
            (Some(new), None) => {
                self.entries.insert(change.key.clone(), new);
                self.keys.insert(change.key.clone());
                *self.counts.entry(directory(&change.key).into()).or_default() += 1;
            }
            (None, None) => {}
            (None, Some(_)) => {
                self.entries.remove(&change.key);
                self.keys.remove(&change.key);
                self.uncount(directory(&change.key));
            }
        }
    }

    fn uncount(&mut self, directory: &str) {
        let Some(count) = self.counts.get_mut(directory) else { return };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(directory);
        }
    }

    /// What happened under the prefix after a revision, up to some later one.
    ///
    /// # Errors
    /// `Compacted` when the history after the revision is not whole.
    pub(super) fn look(&self, prefix: &str, after: Revision) -> Result<Look, WatchError> {
        if after < self.history.floor || after > self.revision {
            return Err(WatchError::Compacted { asked: after, oldest: self.history.floor });
        }
        let commits = &self.history.commits;
        let start = commits.partition_point(|commit| revision_of(commit) <= after);
        let end = commits.len().min(start.saturating_add(LOOK_COMMITS_MAX));
        let seen = commits.range(start..end).filter_map(|commit| under(prefix, commit)).collect();
        let upto = match commits.get(end) {
            Some(_) => commits.get(end.saturating_sub(1)).map_or(after, revision_of),
            None => self.revision,
        };
        Ok(Look { commits: seen, upto, head: self.revision })
    }
}

/// The answer of [`State::look`].
#[derive(Debug)]
pub(super) struct Look {
    /// What changed, oldest first.
    pub(super) commits: Vec<Commit>,
    /// Everything up to here is in `commits`.
    pub(super) upto: Revision,
    /// Where the store is.
    pub(super) head: Revision,
}

/// Everything before a key's last slash.
fn directory(key: &Key) -> &str {
    key.as_str().rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn held(change: &Change) -> Option<Held> {
    let value = change.value.clone()?;
    Some(Held { value, revision: change.revision })
}

fn entry(key: &Key, held: &Held) -> Entry {
    Entry { key: key.clone(), value: held.value.clone(), revision: held.revision }
}

fn revision_of(commit: &Commit) -> Revision {
    commit.first().map_or(Revision(0), |change| change.revision)
}

/// The part of a commit under a prefix: the commit itself when that is all of it.
fn under(prefix: &str, commit: &Commit) -> Option<Commit> {
    let inside = |change: &&Change| change.key.as_str().starts_with(prefix);
    match commit.iter().filter(inside).count() {
        0 => None,
        all if all == commit.len() => Some(Arc::clone(commit)),
        _ => Some(commit.iter().filter(inside).cloned().collect()),
    }
}

/// The recent commits. Everything after `floor` is there.
#[derive(Debug)]
struct History {
    floor: Revision,
    commits: VecDeque<Commit>,
    bytes: usize,
    commits_max: usize,
}

impl Default for History {
    fn default() -> Self {
        Self {
            floor: Revision(0),
            commits: VecDeque::new(),
            bytes: 0,
            commits_max: HISTORY_COMMITS_MAX,
        }
    }
}

impl History {
    fn push(&mut self, commit: Commit, fallen: &mut Vec<Commit>) {
        self.bytes += weight(&commit);
        self.commits.push_back(commit);
        while self.commits.len() > self.commits_max || self.bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = self.commits.pop_front() else { break };
            self.bytes -= weight(&oldest);
            self.floor = revision_of(&oldest);
            fallen.push(oldest);
        }
    }
}

fn weight(commit: &Commit) -> usize {
    let len = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
    commit.iter().map(|it| it.key.as_str().len() + len(&it.value) + len(&it.before)).sum()
}

/// Transactions that are decided but not yet visible.
#[derive(Debug)]
pub(super) struct Draft {
    revision: Revision,
    live: Live,
    commits: Vec<Commit>,
    /// What the first `overlaid` commits leave. A draft of one commit, the common one, never fills it.
    overlay: HashMap<Key, Option<Held>>,
    overlaid: usize,
}

impl Draft {
    /// Nothing decided yet, on top of this state.
    pub(super) fn on(state: &State) -> Self {
        let (commits, overlay) = (Vec::new(), HashMap::new());
        Self { revision: state.revision, live: state.live, commits, overlay, overlaid: 0 }
    }

    /// Where the store will be.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// What the entries will add up to.
    pub(super) fn live(&self) -> Live {
        self.live
    }

    /// What will be visible, oldest first. Each `before` is there unless the key was absent.
    pub(super) fn commits(&self) -> &[Commit] {
        &self.commits
    }

    /// Decides one transaction and returns the revision it is at.
    ///
    /// # Errors
    /// `Conflict`, and then the draft is as it was.
    pub(super) fn add(&mut self, state: &State, txn: Txn) -> Result<Revision, Error> {
        for commit in self.commits.get(self.overlaid..).unwrap_or_default() {
            self.overlay.extend(commit.iter().map(|change| (change.key.clone(), held(change))));
        }
        self.overlaid = self.commits.len();
        let revision = Revision(self.revision.0 + 1);
        let mut live = self.live;
        let mut changes = Vec::with_capacity(txn.steps.len());
        for (key, precondition, op) in txn.steps {
            let current = match self.overlay.get(&key) {
                Some(held) => held.as_ref(),
                None => state.entries.get(&key),
            };
            let at = current.map(|held| held.revision);
            let holds = match precondition {
                Precondition::Absent => at.is_none(),
                Precondition::At(revision) => at == Some(revision),
                Precondition::Any => true,
            };
            if !holds {
                return Err(Error::Conflict { key, current: at });
            }
            let before = current.map(|held| held.value.clone());
            let value = match op {
                Op::Put(value) => Some(value),
                Op::Delete => None,
                Op::Check => continue,
            };
            if before != value {
                if let Some(held) = current {
                    live.take(&key, held.revision, &held.value);
                }
                if let Some(value) = &value {
                    live.add(&key, revision, value);
                }
                changes.push(Change { key, value, before, revision });
            }
        }
        if changes.is_empty() {
            return Ok(self.revision);
        }
        changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        self.commits.push(changes.into());
        self.live = live;
        self.revision = revision;
        Ok(revision)
    }
}

/// Refuses what no state could accept.
///
/// # Errors
/// `TooLarge` or `Invalid`.
pub(super) fn validate(txn: &Txn) -> Result<(), Error> {
    let mut keys = HashSet::with_capacity(txn.steps.len());
    for (at, (key, _, op)) in txn.steps.iter().enumerate() {
        let text = key.as_str();
        let wrong = if text.is_empty() || text.len() > KEY_BYTES_MAX {
            Some(format!("a key has 1 to {KEY_BYTES_MAX} bytes"))
        } else if text.contains('\0') {
            Some("a key has no NUL".to_owned())
        } else if !keys.insert(text) {
            Some("it stands twice in one transaction".to_owned())
        } else if at >= TXN_STEPS_MAX {
            Some(format!("a transaction has at most {TXN_STEPS_MAX} steps"))
        } else {
            None
        };
        if let Some(why) = wrong {
            return Err(Error::Invalid { key: key.clone(), why });
        }
        if let Op::Put(value) = op
            && value.len() > VALUE_BYTES_MAX
        {
            return Err(Error::TooLarge { key: key.clone(), bytes: value.len() });
        }
    }
    Ok(())
}
