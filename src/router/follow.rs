//! The source behind the store of this process. It must never tell more of the store than routes follow from.

use futures::{
    StreamExt as _, future,
    stream::{self, BoxStream},
};

use crate::{
    api::kind::Kind,
    retry,
    router::feed::{Fed, Part, Source},
    store::{Follow, handle::Store},
};

/// The store of this process.
#[derive(Debug)]
pub struct Local(Store);

impl Local {
    /// A source of this store's objects. It ends when the store is closed.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self(store)
    }
}

impl Source for Local {
    fn stream(self: Box<Self>) -> BoxStream<'static, Fed> {
        let parts = [
            (Part::Environments, Kind::Environment),
            (Part::Hostnames, Kind::Hostname),
            (Part::Secrets, Kind::Secret),
        ];
        let follow = |(part, kind): (Part, Kind)| {
            let prefix = format!("{}/", kind.info().plural);
            let told = self.0.follow(&prefix).filter_map(move |item| {
                future::ready(match item {
                    Ok(follow) => fed(part, follow),
                    Err(error) => {
                        tracing::warn!(
                            ?part,
                            error = retry::chain(&error),
                            "an object was passed over"
                        );
                        None
                    }
                })
            });
            // One part's end is the store's.
            told.map(Some).chain(stream::iter([None]))
        };
        stream::select_all(parts.map(follow))
            .take_while(|fed| future::ready(fed.is_some()))
            .filter_map(future::ready)
            .boxed()
    }
}

fn fed(part: Part, follow: Follow) -> Option<Fed> {
    match follow {
        Follow::Init => Some(Fed::Init(part)),
        Follow::InitApply(entry) | Follow::Apply(entry) => Some(Fed::Apply(part, entry.value)),
        Follow::InitDone(_) => Some(Fed::InitDone(part)),
        Follow::Delete(change) => change.before.map(|before| Fed::Delete(part, before)),
    }
}
