//! The source behind the store of this process. It must never tell more of the store than routes follow from.

use futures::{StreamExt as _, future, stream::BoxStream};

use crate::{
    api::kind::Kind,
    retry,
    router::feed::{Fed, Part, Source, in_order},
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
        in_order(Part::ALL.map(|part| {
            let kind = match part {
                Part::Environments => Kind::Environment,
                Part::Hostnames => Kind::Hostname,
                Part::Secrets => Kind::Secret,
            };
            let told = move |item| {
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
            };
            self.0.follow(&format!("{}/", kind.info().plural)).filter_map(told).boxed()
        }))
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

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        clock,
        router::{activity::Seen, feed::Feed, packed::Label, table::Flag},
        store::{Key, Precondition, crypt::Cipher, memory::Memory},
        tasks,
    };

    const UID: &str = "00000000-1111-4222-8333-000000000001";

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "waited too long until {what}");
    }

    #[tokio::test]
    async fn what_is_committed_is_routed() {
        let store =
            Store::new(Arc::new(Memory::new()), Cipher::ephemeral().unwrap(), &["secrets/"]);
        let feed = Feed::new(Arc::new(Seen::new(clock::System::shared())));
        let table = feed.table();
        let (trigger, shutdown) = tasks::shutdown();
        let source = Box::new(Local::new(store.clone()));
        let (ended, end) = tokio::sync::oneshot::channel();
        tasks::detached(async move { drop(ended.send(feed.run(source, None, shutdown).await)) });
        until("the table is ready", || table.ready()).await;
        let label = Label::of_name("alice").unwrap();
        let environment = serde_json::json!({"metadata": {"name": "alice", "namespace": "default", "uid": UID}, "spec": {"access": "Public"},
            "status": {"bay": {"name": "bay-1", "app": "hgr-1", "machine": "00000000000001", "epoch": 1}}});
        let hostname = serde_json::json!({"metadata": {"name": "alice"}, "spec": {"namespace": "default", "environment": "alice", "uid": UID}});
        let secret = serde_json::json!({"metadata": {"name": "bay-1", "namespace": "default"}, "type": "hangar.dev/bay-key", "data": {"key": "AAECAwQFBgcICQoLDA0ODw=="}});
        let written = store
            .txn()
            .put(&Key::new("environments/default/alice"), Precondition::Absent, &environment)
            .put(&Key::new("hostnames//alice"), Precondition::Absent, &hostname)
            .put(&Key::new("secrets/default/bay-1"), Precondition::Absent, &secret);
        written.commit().await.unwrap();
        until("the route is there with its key", || {
            table.get(&label).is_some_and(|it| it.key().is_some())
        })
        .await;
        let gone = store.txn().delete(&Key::new("environments/default/alice"), Precondition::Any);
        gone.commit().await.unwrap();
        until("the deletion is seen", || table.get(&label).is_some_and(|it| it.has(Flag::DELETED)))
            .await;
        trigger.shut_down();
        end.await.unwrap().unwrap();
    }
}
