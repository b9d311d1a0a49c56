//! A router's source in the process that has the store: its changes, as the feed wants them. It must never read an object.

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};

use crate::{
    router::feed::{Fed, Part, Source},
    store::{Follow, handle::Store},
};

/// Follows a store.
#[derive(Debug)]
pub struct FromStore(pub Store);

impl Source for FromStore {
    fn stream(self: Box<Self>) -> BoxStream<'static, Fed> {
        let store = self.0;
        let part = |part: Part, prefix: &str| {
            let changes = store.follow(prefix);
            changes.filter_map(move |change| async move { fed(part, change) }).boxed()
        };
        stream::select_all([
            part(Part::Environments, "environments/"),
            part(Part::Hostnames, "hostnames/"),
            part(Part::Secrets, "secrets/"),
        ])
        .boxed()
    }
}

fn fed(part: Part, change: Result<Follow, crate::store::Error>) -> Option<Fed> {
    match change {
        Ok(Follow::Init) => Some(Fed::Init(part)),
        Ok(Follow::InitApply(entry) | Follow::Apply(entry)) => Some(Fed::Apply(part, entry.value)),
        Ok(Follow::InitDone(_)) => Some(Fed::InitDone(part)),
        Ok(Follow::Delete(change)) => change.before.map(|before| Fed::Delete(part, before)),
        Err(error) => {
            tracing::error!(error = crate::retry::chain(&error), "an object could not be read");
            None
        }
    }
}
