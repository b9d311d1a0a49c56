//! Long lists in pages: the list that a first page was cut from is kept for a while, so that all pages are of one moment.
//! It must never serve a page of another moment; an old token is answered 410.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::store::{Entry, Revision};

/// How many lists are kept.
const LISTS_MAX: usize = 16;
/// How long one is kept.
const KEPT: Duration = Duration::from_secs(300);

/// Where a page ended. Opaque to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    /// The moment.
    pub(super) revision: u64,
    /// The last key of the page.
    pub(super) after: String,
}

impl Token {
    /// As clients carry it.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}:{}", self.revision, self.after))
    }

    /// Reads one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (revision, after) = text.split_once(':')?;
        Some(Self { revision: revision.parse().ok()?, after: after.to_owned() })
    }
}

/// Lists that pages are still being asked of.
#[derive(Debug)]
pub(super) struct Pages {
    kept: Mutex<VecDeque<Kept>>,
    clock: Arc<dyn Clock>,
}

struct Kept {
    prefix: String,
    revision: Revision,
    entries: Arc<[Entry]>,
    since: Duration,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl Pages {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { kept: Mutex::new(VecDeque::new()), clock }
    }

    /// Keeps a list for the pages that follow.
    pub(super) fn keep(&self, prefix: &str, revision: Revision, entries: Arc<[Entry]>) {
        let since = self.clock.monotonic();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|it| since.saturating_sub(it.since) < KEPT);
        if kept.iter().any(|it| it.prefix == prefix && it.revision == revision) {
            return;
        }
        if kept.len() >= LISTS_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept { prefix: prefix.to_owned(), revision, entries, since });
    }

    /// The list of that moment.
    pub(super) fn find(&self, prefix: &str, revision: Revision) -> Option<Arc<[Entry]>> {
        let now = self.clock.monotonic();
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.iter().filter(|it| now.saturating_sub(it.since) < KEPT);
        let found = fresh.into_iter().find(|it| it.prefix == prefix && it.revision == revision);
        found.map(|it| Arc::clone(&it.entries))
    }
}
