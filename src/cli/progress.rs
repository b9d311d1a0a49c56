//! How far the environments of `hangar up -f` are: looks and follows until each of them serves, sleeps or is deleted. It must
//! never print; whoever waits does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    api::{column::at_path, kind::Kind, meta::ObjectRef},
    cli::{
        table,
        wait::{Goal, Verdict},
    },
    client::{Client, Error, List, Query, WatchEvent},
};

/// Time between attempts to follow.
const PAUSE: Duration = Duration::from_millis(200);

/// News of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct News {
    /// Which.
    pub(super) object: ObjectRef,
    /// Where it stands, for people.
    pub(super) word: String,
    /// How it stands.
    pub(super) stands: Stands,
}

/// How an environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    /// It serves, sleeps, or is deleted: nothing more is told of it.
    Done,
    /// On its way.
    Open,
    /// Degraded or stalled: somebody may have to mend it, and will want to see why.
    InTrouble,
}

/// Which environments are not done, and what was said of each last.
#[derive(Debug)]
struct Open {
    said: BTreeMap<ObjectRef, String>,
    tell: UnboundedSender<News>,
}

impl Open {
    fn say(&mut self, object: ObjectRef, word: String, stands: Stands) {
        let Some(said) = self.said.get_mut(&object) else { return };
        let is_new = *said != word;
        if is_new {
            said.clone_from(&word);
        }
        if stands == Stands::Done {
            self.said.remove(&object);
        }
        if is_new {
            // Whoever waited has gone.
            let _unheard = self.tell.send(News { object, word, stands });
        }
    }

    fn judge(&mut self, object: &Value) {
        let (word, stands) = match Goal::Settled.judge(Some(object)) {
            Verdict::Met(word) => (word, Stands::Done),
            Verdict::NotYet(reason) if is_degraded(object) => (reason, Stands::InTrouble),
            Verdict::NotYet(reason) => (reason, Stands::Open),
            // A person may mend it while this waits.
            Verdict::Failed(reason) => (format!("stuck: {reason}"), Stands::InTrouble),
        };
        self.say(reference(object), word, stands);
    }

    fn deleted(&mut self, object: ObjectRef) {
        self.say(object, "deleted".to_owned(), Stands::Done);
    }

    /// What a list does not have was deleted while nobody looked.
    fn look(&mut self, list: &List<Value>) {
        list.items.iter().for_each(|object| self.judge(object));
        let there: BTreeSet<_> = list.items.iter().map(reference).collect();
        let gone: Vec<_> = self.said.keys().filter(|it| !there.contains(*it)).cloned().collect();
        gone.into_iter().for_each(|object| self.deleted(object));
    }
}

fn is_degraded(object: &Value) -> bool {
    let conditions = at_path(object, "status.conditions").and_then(Value::as_array);
    let is = |it: &Value| it["type"] == "Degraded" && it["status"] == "True";
    conditions.is_some_and(|it| it.iter().any(is))
}

fn reference(object: &Value) -> ObjectRef {
    let text = |path| table::plain(at_path(object, path).unwrap_or_default());
    ObjectRef::new(Kind::Environment, &text("metadata.namespace"), &text("metadata.name"))
}

/// Tells how far each environment is, and returns when none is left that something will come of.
pub(super) async fn follow(
    client: &Client,
    wanted: &[ObjectRef],
    tell: UnboundedSender<News>,
) -> Result<(), Error> {
    let said = wanted.iter().map(|it| (it.clone(), String::new())).collect();
    let mut open = Open { said, tell };
    while !open.said.is_empty() {
        let list = client.list(Kind::Environment, None, &Query::default()).await?;
        open.look(&list);
        if open.said.is_empty() {
            break;
        }
        let after = Some(list.metadata.resource_version.as_str());
        let query = Query::default();
        let mut changes = client.watch::<Value>(Kind::Environment, None, &query, after).await?;
        while !open.said.is_empty() {
            match changes.next().await {
                Ok(Some(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    open.judge(&object);
                }
                Ok(Some(WatchEvent::Deleted(object))) => open.deleted(reference(&object)),
                Ok(Some(WatchEvent::Bookmark(_))) => {}
                Ok(None) | Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    break;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::mpsc;

    use super::*;
    use crate::client::ListMeta;

    #[test]
    fn an_environment_that_is_gone_from_a_list_is_waited_for_no_longer() {
        let (tell, mut told) = mpsc::unbounded_channel();
        let named = |name: &str| ObjectRef::new(Kind::Environment, "default", name);
        let said = ["alice", "bob"].map(|it| (named(it), String::new())).into();
        let mut open = Open { said, tell };
        let alice = json!({"metadata": {"namespace": "default", "name": "alice"}});
        open.look(&List { metadata: ListMeta::default(), items: vec![alice] });
        assert_eq!(open.said.keys().collect::<Vec<_>>(), [&named("alice")]);
        let news: Vec<_> = std::iter::from_fn(|| told.try_recv().ok())
            .map(|it| (it.object.name, it.stands))
            .collect();
        assert_eq!(news, [("alice".to_owned(), Stands::Open), ("bob".to_owned(), Stands::Done)]);
    }
}
