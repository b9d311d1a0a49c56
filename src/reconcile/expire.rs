//! The deletion of an environment whose time is over: marked as the server marks one that a person deletes, with its hostnames freed.
//! It must never decide that it is over.

use crate::api::{Timestamp, environment::EnvironmentStatus};
use crate::reconcile::objects::{Objects, free_hostnames};
use crate::store::{Error, Precondition, handle::Store};

impl Objects {
    /// Asks for its deletion, unless it was changed since it was read.
    pub(crate) async fn expire(
        self: Box<Self>,
        store: &Store,
        status: EnvironmentStatus,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut environment = self.environment.value;
        environment.status = status;
        let txn = free_hostnames(store, store.txn(), &environment, now).await?;
        let metadata = &mut environment.metadata;
        // Kubernetes' timestamps have whole seconds.
        let second = Timestamp::from_second(now.as_second()).unwrap_or(now);
        metadata.deletion_timestamp.get_or_insert(second);
        metadata.deletion_grace_period_seconds.get_or_insert(0);
        let at = Precondition::At(self.environment.revision);
        txn.put(&self.environment.key, at, &environment).commit().await?;
        Ok(())
    }
}
