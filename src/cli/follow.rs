//! A watch that outlives its connection: it goes on from the last revision seen. It must never show a change twice unless
//! the server forgot where we were, which it says.

use std::time::Duration;

use crate::{
    api::kind::Kind,
    cli::printer::Printer,
    client::{Client, Error, Lines, Query, WatchEvent, Watched},
    retry::{self, Retry},
};

/// Time between attempts to reach a server that is away.
const PAUSE: Duration = Duration::from_secs(1);

/// The changes of a kind's objects, without end.
pub(super) struct Follow<'a, T> {
    client: &'a Client,
    kind: Kind,
    namespace: Option<&'a str>,
    query: &'a Query,
    after: Option<String>,
    changes: Option<Lines<WatchEvent<T>>>,
    is_away: bool,
}

impl<'a, T: Watched> Follow<'a, T> {
    /// Follows from a revision on.
    pub(super) fn new(
        client: &'a Client,
        kind: Kind,
        namespace: Option<&'a str>,
        query: &'a Query,
        after: &str,
    ) -> Self {
        let after = Some(after.to_owned()).filter(|it| !it.is_empty());
        Self { client, kind, namespace, query, after, changes: None, is_away: false }
    }

    /// The next change; bookmarks are only remembered.
    ///
    /// # Errors
    /// What waiting would not mend.
    pub(super) async fn next(&mut self, printer: &mut Printer) -> Result<WatchEvent<T>, Error> {
        loop {
            match self.step().await {
                Ok(Some(WatchEvent::Bookmark(revision))) => self.after = Some(revision),
                Ok(Some(change)) => {
                    if let WatchEvent::Added(object)
                    | WatchEvent::Modified(object)
                    | WatchEvent::Deleted(object) = &change
                        && let Some(revision) = object.revision()
                    {
                        self.after = Some(revision.to_owned());
                    }
                    return Ok(change);
                }
                Ok(None) => {
                    self.changes = None;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.is_expired() => {
                    printer.note(
                        "the server no longer knows what was seen: everything is shown again",
                    );
                    (self.after, self.changes) = (None, None);
                }
                Err(error) if error.retry() != Retry::Never => {
                    if !self.is_away {
                        printer.note(format_args!("{}; trying again", retry::chain(&error)));
                    }
                    (self.is_away, self.changes) = (true, None);
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn step(&mut self) -> Result<Option<WatchEvent<T>>, Error> {
        if let Some(changes) = &mut self.changes {
            return changes.next().await;
        }
        let after = self.after.as_deref();
        let changes = self.client.watch(self.kind, self.namespace, self.query, after).await?;
        self.is_away = false;
        self.changes.insert(changes).next().await
    }
}
