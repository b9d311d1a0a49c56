//! The store's changes as news for the loop: environments, and the templates, secrets and doubts that concern them. It must
//! never know what follows from them.

use std::collections::HashSet;

use futures::StreamExt as _;
use tokio::sync::mpsc;

use crate::api::{environment::Environment, kind::Kind, meta::ObjectRef};
use crate::reconcile::objects::EnvKey;
use crate::store::{
    self, Entry, Follow,
    handle::{Store, decode_bytes},
};
use crate::tasks::Shutdown;

/// Something that may concern an environment.
#[derive(Debug)]
pub(crate) enum News {
    /// An environment as it is now.
    Environment(Box<Environment>),
    /// An environment that is gone.
    EnvironmentGone(EnvKey),
    /// Every environment there is has been told.
    Listed(HashSet<EnvKey>),
    /// A template or secret changed.
    Used {
        /// `template` or `secret`.
        kind: &'static str,
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A router could not reach an environment.
    Doubt(EnvKey),
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
    let environments = environments(&store, &news);
    let templates = used(&store, "template", Kind::Template, &news);
    let secrets = used(&store, "secret", Kind::Secret, &news);
    let doubts = doubts(&store, &news);
    let holds = holds(&store, &news);
    tokio::select! {
        biased;
        () = shutdown.wait() => Ok(()),
        ended = environments => ended,
        ended = templates => ended,
        ended = secrets => ended,
        ended = doubts => ended,
        ended = holds => ended,
    }
}

fn closed() -> anyhow::Result<()> {
    Err(anyhow::Error::new(store::Error::Closed))
}

async fn environments(store: &Store, news: &mpsc::UnboundedSender<News>) -> anyhow::Result<()> {
    let mut changes = store.follow("environments/");
    let mut listed = HashSet::new();
    while let Some(change) = changes.next().await {
        let told = match change? {
            Follow::Init => {
                listed.clear();
                continue;
            }
            Follow::InitApply(entry) => {
                let environment = environment(&entry)?;
                listed.insert(EnvKey::of(&environment));
                News::Environment(environment)
            }
            Follow::InitDone(_) => News::Listed(std::mem::take(&mut listed)),
            Follow::Apply(entry) => News::Environment(environment(&entry)?),
            Follow::Delete(change) => match env_key(change.key.as_str()) {
                Some(key) => News::EnvironmentGone(key),
                None => continue,
            },
        };
        if news.send(told).is_err() {
            return Ok(());
        }
    }
    closed()
}

fn environment(entry: &Entry) -> Result<Box<Environment>, store::Error> {
    decode_bytes(&entry.key, &entry.value).map(Box::new)
}

async fn used(
    store: &Store,
    word: &'static str,
    kind: Kind,
    news: &mpsc::UnboundedSender<News>,
) -> anyhow::Result<()> {
    let mut changes = store.follow(&format!("{}/", kind.info().plural));
    while let Some(change) = changes.next().await {
        let key = match change? {
            Follow::Apply(entry) => entry.key,
            Follow::Delete(change) => change.key,
            // A list after a gap may hide a change of any of them.
            Follow::InitApply(entry) => entry.key,
            Follow::Init | Follow::InitDone(_) => continue,
        };
        let Some(object) = ObjectRef::from_store_key(key.as_str()) else { continue };
        let told = News::Used { kind: word, namespace: object.namespace, name: object.name };
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
        let Some(key) = env_key(key.as_str()) else { continue };
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

fn env_key(key: &str) -> Option<EnvKey> {
    let mut parts = key.splitn(3, '/').skip(1);
    Some(EnvKey { namespace: parts.next()?.to_owned(), name: parts.next()?.to_owned() })
}
