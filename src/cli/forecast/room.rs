//! What quotas leave while a plan is carried out: each object that it would make takes a place, so that the one too many is foretold. It
//! must never decide who comes first.

use std::collections::BTreeMap;

use crate::{
    api::{
        kind::Kind,
        quota::{Limit, ResourceQuota, resource_name},
    },
    client::{self, Client, Query},
    plan::pool::Room,
};

/// Quotas, and what was foretold to take places since they were counted.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    quotas: Vec<ResourceQuota>,
    taken: BTreeMap<(String, &'static str), u64>,
}

impl Rooms {
    /// Reads what there is.
    ///
    /// # Errors
    /// The server's.
    pub(super) async fn read(client: &Client) -> Result<Self, client::Error> {
        let list = client.list::<ResourceQuota>(Kind::ResourceQuota, None, &Query::default()).await;
        Ok(Self { quotas: list?.items, taken: BTreeMap::new() })
    }

    /// What is left in a namespace for objects of a kind; `None` without a quota.
    pub(super) fn left(&self, namespace: &str, kind: Kind) -> Option<Room> {
        let own =
            || self.quotas.iter().filter(|it| it.metadata.namespace.as_deref() == Some(namespace));
        let limit = Limit::tightest(own(), kind)?;
        let resource = resource_name(kind);
        let counted = own().filter_map(|it| it.status.used.get(&resource)).map(|it| it.0).max();
        let taken = self.taken.get(&(namespace.to_owned(), kind.info().plural));
        let used = counted.unwrap_or(0) + taken.copied().unwrap_or(0);
        let left = usize::try_from(limit.left(used)).unwrap_or(usize::MAX);
        Some(Room { left, why: limit.exceeded(used) })
    }

    /// Takes a place for one more; why there is none, if so.
    pub(super) fn take(&mut self, namespace: &str, kind: Kind) -> Result<(), String> {
        if let Some(full) = self.left(namespace, kind).filter(|it| it.left == 0) {
            return Err(full.why);
        }
        *self.taken.entry((namespace.to_owned(), kind.info().plural)).or_default() += 1;
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
            "status": {"used": {"count/environments.hangar.dev": "1"}},
        });
        let quotas = vec![serde_json::from_value(quota).unwrap()];
        let mut rooms = Rooms { quotas, ..Rooms::default() };
        let mut take = || rooms.take("team", Kind::Environment);
        assert_eq!((take(), take()), (Ok(()), Ok(())));
        let why = take().unwrap_err();
        assert!(why.starts_with("exceeded quota: small") && why.contains("=3, limited"), "{why}");
        assert_eq!(rooms.take("team", Kind::Bay), Ok(()), "no quota is about bays");
        assert_eq!(rooms.take("other", Kind::Environment), Ok(()));
    }
}
