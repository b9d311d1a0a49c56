//! Watches: an endless answer of one JSON line per change. A watch ends when its time is up, when the process ends, or
//! with an ERROR line when it cannot go on. It must never leave a change out or tell one twice.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::{Interval, Sleep};

use crate::api::{json, kind::Kind};
use crate::clock::Clock;
use crate::server::{
    State,
    call::{Scope, Selection, Start, WatchOptions},
    derived, generated, read,
    status::Status,
    verbatim,
    view::{self, View},
};
use crate::store::{Change, Event, Events, Key, Revision, WatchError, handle::decode_bytes};
use crate::tasks::Shutdown;

/// How often a watch that wants bookmarks gets one.
const BOOKMARK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };

/// The lines of a watch.
pub(super) async fn watch(
    state: &State,
    scope: &Scope,
    options: WatchOptions,
    view: View,
    shutdown: Shutdown,
) -> Result<impl Stream<Item = Bytes> + Send + use<>, Status> {
    let prefix = read::prefix(scope, options.select.fields.name());
    let mut bookmarks = tokio::time::interval(BOOKMARK_EVERY);
    bookmarks.reset();
    let mut feed = Feed {
        kind: scope.kind,
        select: options.select,
        view,
        clock: Arc::clone(&state.clock),
        waiting: VecDeque::new(),
        is_first: true,
        events: None,
        told: Revision(0),
        bookmarks: options.bookmarks.then_some(bookmarks),
        end: options
            .timeout_seconds
            .map(|it| Box::pin(tokio::time::sleep(Duration::from_secs(it)))),
        shutdown,
    };
    let after = match options.start {
        Start::After(Some(revision)) => Revision(revision),
        start @ (Start::Existing | Start::ExistingThenBookmark | Start::After(None)) => {
            let (entries, revision) = generated::entries(state, (scope.kind, &prefix)).await?;
            for entry in entries.iter().filter(|_| start != Start::After(None)) {
                let object = read::shown(entry)?;
                if feed.select.matches(&object) {
                    feed.tell("ADDED", object);
                }
            }
            if start == Start::ExistingThenBookmark {
                let bookmark = view.bookmark(scope.kind, revision, true);
                feed.waiting.push_back(line("BOOKMARK", &bookmark));
            }
            revision
        }
    };
    feed.told = after;
    // Changes from before this start were read back without what was there before them: nobody can say any more which
    // of them left a selection.
    let selects = !feed.select.is_everything() || !scope.kind.info().is_kept();
    let unsure = selects && after < state.started;
    let events = if unsure {
        Err(WatchError::Compacted { asked: after, oldest: state.started })
    } else {
        derived::watch(&state.store, scope.kind, &prefix, after).await
    };
    match events {
        Ok(events) => feed.events = Some(events),
        Err(error) => feed.fail(error),
    }
    Ok(stream::unfold(feed, |mut feed| async move { Some((feed.next().await?, feed)) }))
}

/// One watch.
struct Feed {
    kind: Kind,
    select: Selection,
    view: View,
    clock: Arc<dyn Clock>,
    waiting: VecDeque<Bytes>,
    /// Whether no object was told yet: only the first table tells its columns.
    is_first: bool,
    /// `None` when nothing more will come.
    events: Option<Events>,
    /// Everything up to here was told.
    told: Revision,
    bookmarks: Option<Interval>,
    end: Option<Pin<Box<Sleep>>>,
    shutdown: Shutdown,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if !self.waiting.is_empty() {
                // What belongs together goes out together.
                return Some(self.waiting.drain(..).flatten().collect());
            }
            let events = self.events.as_mut()?;
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return None,
                () = over(&mut self.end) => return None,
                event = events.next() => self.take(event.unwrap_or(Err(WatchError::Closed))),
                () = tick(&mut self.bookmarks) => {
                    let bookmark = self.view.bookmark(self.kind, self.told, false);
                    self.waiting.push_back(line("BOOKMARK", &bookmark));
                }
            }
        }
    }

    fn take(&mut self, event: Result<Event, WatchError>) {
        match event {
            Ok(Event::Progress(revision)) => self.told = revision,
            Ok(Event::Changes(changes)) => {
                for change in changes.iter() {
                    self.told = change.revision;
                    if let Err(status) = self.change(change) {
                        self.waiting.push_back(line("ERROR", &status.body()));
                        self.events = None;
                        return;
                    }
                }
            }
            Err(error) => self.fail(error),
        }
    }

    /// A selection sees an object come and go that for everybody else only changed.
    fn change(&mut self, change: &Change) -> Result<(), Status> {
        let Change { key, value, before, revision } = change;
        if self.select.is_everything() && matches!(self.view, View::Whole(None)) {
            let (kind_of_event, text) = match (before, value) {
                (None, Some(text)) => ("ADDED", text),
                (Some(_), Some(text)) => ("MODIFIED", text),
                (Some(last), None) => ("DELETED", last),
                (None, None) => return Ok(()),
            };
            if let Some(line) = verbatim::line(kind_of_event, text, *revision) {
                self.waiting.push_back(line);
                return Ok(());
            }
        }
        match self.selected(key, value.as_ref(), *revision)? {
            Some(object) => {
                // Whoever sees everything saw it before, whatever it was.
                let was_seen = match before {
                    Some(_) if self.select.is_everything() => true,
                    before => self.selected(key, before.as_ref(), *revision)?.is_some(),
                };
                self.tell(if was_seen { "MODIFIED" } else { "ADDED" }, object);
            }
            None => {
                if let Some(last) = self.selected(key, before.as_ref(), *revision)? {
                    self.tell("DELETED", last);
                }
            }
        }
        Ok(())
    }

    fn selected(
        &self,
        key: &Key,
        value: Option<&Bytes>,
        revision: Revision,
    ) -> Result<Option<Value>, Status> {
        let Some(value) = value else { return Ok(None) };
        let object = view::with_revision(decode_bytes(key, value)?, revision);
        Ok(self.select.matches(&object).then_some(object))
    }

    fn tell(&mut self, kind_of_event: &str, object: Value) {
        let mut object = self.view.one(self.kind, object, self.clock.now());
        if matches!(self.view, View::Table(_)) && !self.is_first {
            object["columnDefinitions"] = json!([]);
        }
        self.is_first = false;
        self.waiting.push_back(line(kind_of_event, &object));
    }

    fn fail(&mut self, error: WatchError) {
        self.events = None;
        // A closing server just ends its watches; clients resume where they were.
        if error != WatchError::Closed {
            self.waiting.push_back(line("ERROR", &Status::from(error).body()));
        }
    }
}

fn line(kind_of_event: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{kind_of_event}\",\"object\":{}}}\n", json::text(object)).into()
}

async fn over(end: &mut Option<Pin<Box<Sleep>>>) {
    match end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => {
            interval.tick().await;
        }
        None => std::future::pending().await,
    }
}
