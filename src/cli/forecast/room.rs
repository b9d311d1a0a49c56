//! What quotas leave while a plan is carried out: each object that it would make takes a place, so that the one too many is foretold. It
//! must never decide who comes first.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    api::{
        column::at_path,
        kind::Kind,
        meta::{ObjectRef, Resource as _},
        quota::{COUNTED, Limit, ResourceQuota},
    },
    client::{self, Client, Query},
    plan::pool::Room,
};

/// Quotas, and what there is of what they count, what was foretold included.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    quotas: Vec<ResourceQuota>,
    /// By namespace and kind.
    used: BTreeMap<(String, &'static str), u64>,
}

impl Rooms {
    /// Reads what there is, with the quotas of the plan.
    ///
    /// # Errors
    /// The server's.
    pub(super) async fn read(
        client: &Client,
        changed: &BTreeMap<ObjectRef, Value>,
    ) -> Result<Self, client::Error> {
        let query = Query::default();
        let list = client.list::<ResourceQuota>(Kind::ResourceQuota, None, &query).await?;
        let mut quotas: BTreeMap<_, _> =
            list.items.into_iter().map(|it| (it.object_ref(), it)).collect();
        let new = changed.iter().filter(|(object, _)| object.kind == Kind::ResourceQuota);
        quotas.extend(new.filter_map(|(object, value)| {
            Some((object.clone(), serde_json::from_value(value.clone()).ok()?))
        }));
        let quotas: Vec<_> = quotas.into_values().collect();
        let mut used: BTreeMap<_, u64> = BTreeMap::new();
        for kind in COUNTED.into_iter().filter(|_| !quotas.is_empty()) {
            for it in client.list::<Value>(kind, None, &query).await?.items {
                let namespace = at_path(&it, "metadata.namespace").and_then(Value::as_str);
                let of = (namespace.unwrap_or_default().to_owned(), kind.info().plural);
                *used.entry(of).or_default() += 1;
            }
        }
        Ok(Self { quotas, used })
    }

    /// What is left in a namespace for objects of a kind; `None` without a quota.
    pub(super) fn left(&self, namespace: &str, kind: Kind) -> Option<Room> {
        let own =
            || self.quotas.iter().filter(|it| it.metadata.namespace.as_deref() == Some(namespace));
        let limit = Limit::tightest(own(), kind)?;
        let used = self.used.get(&(namespace.to_owned(), kind.info().plural));
        let used = used.copied().unwrap_or(0);
        let left = usize::try_from(limit.left(used)).unwrap_or(usize::MAX);
        Some(Room { left, why: limit.exceeded(used) })
    }

    /// Takes a place for one more; why there is none, if so.
    pub(super) fn take(&mut self, namespace: &str, kind: Kind) -> Result<(), String> {
        if let Some(full) = self.left(namespace, kind).filter(|it| it.left == 0) {
            return Err(full.why);
        }
        *self.used.entry((namespace.to_owned(), kind.info().plural)).or_default() += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_object_of_a_plan_takes_a_place_in_its_own_namespace() {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": "team"},
            "spec": {"hard": {"count/environments.hangar.dev": "3"}},
        });
        let quotas = vec![serde_json::from_value(quota).unwrap()];
        let used = BTreeMap::from([(("team".to_owned(), "environments"), 1)]);
        let mut rooms = Rooms { quotas, used };
        let mut take = || rooms.take("team", Kind::Environment);
        assert_eq!((take(), take()), (Ok(()), Ok(())));
        let why = take().unwrap_err();
        assert!(why.starts_with("exceeded quota: small") && why.contains("=3, limited"), "{why}");
        assert_eq!(rooms.take("team", Kind::Bay), Ok(()), "no quota is about bays");
        assert_eq!(rooms.take("other", Kind::Environment), Ok(()));
    }
}
