//! The store's changes as news for the loop: environments, bays, pools and templates, and the secrets, doubts and holds that
//! concern them. It must never know what follows from them.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::api::{
    bay::Bay,
    environment::Environment,
    kind::Kind,
    meta::{ObjectRef, Resource},
    pool::WarmPool,
    template::Template,
};
use crate::store::{
    self, Follow, Revision,
    handle::{Store, decode_bytes},
};
use crate::tasks::Shutdown;

/// Something that may concern an object that has passes.
#[derive(Debug)]
pub(crate) enum News {
    /// An environment as it was at a revision.
    Environment(Box<Environment>, Revision),
    /// A template as it is now.
    Template(Box<Template>),
    /// A bay as it was at a revision.
    Bay(Box<Bay>, Revision),
    /// A pool as it is now.
    Pool(Box<WarmPool>),
    /// One of these that is gone.
    Gone(ObjectRef),
    /// All of a kind that there were at a revision have been told.
    Listed(Kind, BTreeSet<ObjectRef>, Revision),
    /// A secret changed.
    Secret {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A router could not reach an environment.
    Doubt(ObjectRef),
    /// A hold was raised or lifted.
    Holds,
}

/// Tells news until shutdown.
///
/// # Errors
/// When the store fails.
pub(crate) async fn run(
    store: Store,
    news: mpsc::UnboundedSender<News>,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let environments =
        objects(&store, &news, |it: Environment, at| News::Environment(Box::new(it), at));
    let bays = objects(&store, &news, |it: Bay, at| News::Bay(Box::new(it), at));
    let pools = objects(&store, &news, |it: WarmPool, _| News::Pool(Box::new(it)));
    let templates = objects(&store, &news, |it: Template, _| News::Template(Box::new(it)));
    let secrets = secrets(&store, &news);
    let doubts = doubts(&store, &news);
    let holds = holds(&store, &news);
    tokio::select! {
        biased;
        () = shutdown.wait() => Ok(()),
        ended = environments => ended,
        ended = bays => ended,
        ended = pools => ended,
        ended = templates => ended,
        ended = secrets => ended,
        ended = doubts => ended,
        ended = holds => ended,
    }
}

fn closed() -> anyhow::Result<()> {
    Err(anyhow::Error::new(store::Error::Closed))
}

async fn objects<T: Resource>(
    store: &Store,
    news: &mpsc::UnboundedSender<News>,
    tell: impl Fn(T, Revision) -> News,
) -> anyhow::Result<()> {
    let mut changes = store.follow(&format!("{}/", T::KIND.info().plural));
    let mut listed = BTreeSet::new();
    while let Some(change) = changes.next().await {
        let told = match change? {
            Follow::Init => {
                listed.clear();
                continue;
            }
            Follow::InitApply(entry) => {
                let object: T = decode_bytes(&entry.key, &entry.value)?;
                listed.insert(object.object_ref());
                tell(object, entry.revision)
            }
            Follow::InitDone(at) => News::Listed(T::KIND, std::mem::take(&mut listed), at),
            Follow::Apply(entry) => tell(decode_bytes(&entry.key, &entry.value)?, entry.revision),
            Follow::Delete(change) => match ObjectRef::from_store_key(change.key.as_str()) {
                Some(key) => News::Gone(key),
                None => continue,
            },
        };
        if news.send(told).is_err() {
            return Ok(());
        }
    }
    closed()
}

async fn secrets(store: &Store, news: &mpsc::UnboundedSender<News>) -> anyhow::Result<()> {
    let mut changes = store.follow(&format!("{}/", Kind::Secret.info().plural));
    while let Some(change) = changes.next().await {
        let key = match change? {
            Follow::Apply(entry) => entry.key,
            Follow::Delete(change) => change.key,
            // A list after a gap may hide a change of any of them.
            Follow::InitApply(entry) => entry.key,
            Follow::Init | Follow::InitDone(_) => continue,
        };
        let Some(object) = ObjectRef::from_store_key(key.as_str()) else { continue };
        let told = News::Secret { namespace: object.namespace, name: object.name };
        if news.send(told).is_err() {
            return Ok(());
        }
    }
    closed()
}

async fn doubts(store: &Store, news: &mpsc::UnboundedSender<News>) -> anyhow::Result<()> {
    let mut changes = store.follow("nudges/");
    while let Some(change) = changes.next().await {
        let key = match change? {
            Follow::Apply(entry) | Follow::InitApply(entry) => entry.key,
            Follow::Init | Follow::InitDone(_) | Follow::Delete(_) => continue,
        };
        let Some(key) = doubted(key.as_str()) else { continue };
        if news.send(News::Doubt(key)).is_err() {
            return Ok(());
        }
    }
    closed()
}

async fn holds(store: &Store, news: &mpsc::UnboundedSender<News>) -> anyhow::Result<()> {
    let mut changes = store.follow(&format!("{}/", Kind::Hold.info().plural));
    while let Some(change) = changes.next().await {
        match change? {
            // A list after a gap may hide that one was lifted.
            Follow::Apply(_) | Follow::Delete(_) | Follow::InitDone(_) => {}
            Follow::Init | Follow::InitApply(_) => continue,
        }
        if news.send(News::Holds).is_err() {
            return Ok(());
        }
    }
    closed()
}

/// The environment that a nudge is about.
fn doubted(key: &str) -> Option<ObjectRef> {
    let mut parts = key.splitn(3, '/').skip(1);
    Some(ObjectRef::new(Kind::Environment, parts.next()?, parts.next()?))
}
