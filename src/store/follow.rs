//! List, then watch, then list again whenever the watch fell behind: a stream that never leaves a gap. It must never
//! tell a change before the list it belongs to.

use std::{collections::VecDeque, sync::Arc};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};

use crate::store::{Change, Entry, Error, Event, Events, Revision, WatchError, handle::Store};

/// What [`Store::follow`] delivers: `Init`, `InitApply` for each entry, `InitDone`, then `Apply` and `Delete`; and from
/// `Init` again after a gap.
///
/// Build something new between `Init` and `InitDone` and put it in place at `InitDone`: what was deleted during the gap
/// is only told by not being listed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follow {
    /// A list begins.
    Init,
    /// An entry of the list.
    InitApply(Entry),
    /// The list is complete and true at this revision.
    InitDone(Revision),
    /// A value was written.
    Apply(Entry),
    /// A value was deleted; `before` says what it was.
    Delete(Change),
}

type Item = Result<Follow, Error>;

enum Step {
    List,
    Listing(std::vec::IntoIter<Entry>, Revision),
    Watch(Revision),
    Watching(Events, VecDeque<Item>),
    Ended,
}

struct Follower {
    store: Store,
    prefix: Arc<str>,
    step: Step,
}

pub(super) fn follow(store: Store, prefix: &str) -> BoxStream<'static, Item> {
    let follower = Follower { store, prefix: prefix.into(), step: Step::List };
    stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    })
    .boxed()
}

impl Follower {
    async fn next(&mut self) -> Option<Item> {
        loop {
            match &mut self.step {
                Step::List => match self.store.list_sealed(&self.prefix).await {
                    Ok((entries, revision)) => {
                        self.step = Step::Listing(entries.into_iter(), revision);
                        return Some(Ok(Follow::Init));
                    }
                    Err(error) => return self.end(error),
                },
                Step::Listing(entries, revision) => match entries.next() {
                    Some(entry) => {
                        return Some(self.store.open_entry(entry).map(Follow::InitApply));
                    }
                    None => {
                        let revision = *revision;
                        self.step = Step::Watch(revision);
                        return Some(Ok(Follow::InitDone(revision)));
                    }
                },
                Step::Watch(after) => match self.store.watch_sealed(&self.prefix, *after) {
                    Ok(events) => self.step = Step::Watching(events, VecDeque::new()),
                    Err(WatchError::Compacted { .. }) => self.step = Step::List,
                    Err(WatchError::Closed) => return self.end(Error::Closed),
                },
                Step::Watching(events, waiting) => {
                    if let Some(item) = waiting.pop_front() {
                        return Some(item);
                    }
                    match events.next().await {
                        Some(Ok(Event::Changes(changes))) => {
                            waiting.extend(changes.iter().map(|it| apply(&self.store, it)));
                        }
                        Some(Ok(Event::Progress(_))) => {}
                        Some(Err(WatchError::Compacted { .. })) => self.step = Step::List,
                        Some(Err(WatchError::Closed)) | None => return self.end(Error::Closed),
                    }
                }
                Step::Ended => return None,
            }
        }
    }

    fn end(&mut self, error: Error) -> Option<Item> {
        self.step = Step::Ended;
        Some(Err(error))
    }
}

fn apply(store: &Store, change: &Change) -> Item {
    let Change { key, value, before, revision } = store.open_change(change)?;
    Ok(match value {
        Some(value) => Follow::Apply(Entry { key, value, revision }),
        None => Follow::Delete(Change { key, value: None, before, revision }),
    })
}
