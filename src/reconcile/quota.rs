//! Room for bays: how many more of them the quotas of a namespace leave. Bays are begun by this process alone, so it is enough that
//! they are begun one after the other where there is a quota. It must never count by a list.

use tokio::sync::MutexGuard;

use crate::api::{
    kind::Kind,
    quota::{Limit, ResourceQuota},
};
use crate::plan::pool::Room;
use crate::reconcile::{
    objects::Objects,
    pass::{Pass, Shared},
};
use crate::store;

/// Room for bays in a namespace. While it is held, nobody else begins one where there is a quota.
#[derive(Debug, Default)]
pub(super) struct Held<'a> {
    _only: Option<MutexGuard<'a, ()>>,
    /// `None` without a quota.
    pub(super) room: Option<Room>,
}

impl Shared {
    /// What room there is.
    pub(super) async fn bay_room(&self, namespace: &str) -> Result<Held<'_>, store::Error> {
        if self.bay_limit(namespace).await?.is_none() {
            return Ok(Held::default());
        }
        let only = self.quota_turn.lock().await;
        let used = self.store.count(&format!("{}/{namespace}", Kind::Bay.info().plural)).await?;
        let room = self.bay_limit(namespace).await?.map(|limit| Room {
            left: usize::try_from(limit.left(used)).unwrap_or(usize::MAX),
            why: limit.exceeded(used),
        });
        Ok(Held { _only: Some(only), room })
    }

    async fn bay_limit(&self, namespace: &str) -> Result<Option<Limit>, store::Error> {
        let prefix = format!("{}/{namespace}/", Kind::ResourceQuota.info().plural);
        let (quotas, _) = self.store.list::<ResourceQuota>(&prefix).await?;
        Ok(Limit::tightest(quotas.iter().map(|it| &it.value), Kind::Bay))
    }
}

impl<'a> Pass<'a> {
    /// The room for a bay of an environment's own making, where it may be about to get one.
    pub(super) async fn room_for_own_bay(
        &self,
        objects: &Objects,
        has_vacancy: bool,
    ) -> Result<Held<'a>, store::Error> {
        let environment = &objects.environment.value;
        if objects.bay.is_some() || environment.status.bay.is_some() || has_vacancy {
            return Ok(Held::default());
        }
        self.shared.bay_room(&self.of.namespace).await
    }
}
