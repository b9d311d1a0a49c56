//! One pass for a pool: count, plan, begin bays, let bays go, publish. What becomes of each bay is its own pass's business. It
//! must never touch a bay that is bound.

use std::time::Duration;

use crate::api::{
    bay::Bay,
    condition,
    core::EventType,
    kind::Kind,
    meta::{ObjectRef, Resource as _},
    pool::{PoolConditionType, PoolReason, WarmPool},
    rollout::RevisionRef,
    template::Template,
};
use crate::clock::Timestamp;
use crate::plan::{
    pool::{self, PoolPlan, PoolWorld},
    stock::{self, StockFact},
};
use crate::reconcile::{
    events, holds,
    objects::{key, key_of, with_events},
    pass::{Next, Shared, fresh_name, in_time},
    rollout::for_new,
};
use crate::store::{self, Precondition, handle::Stored};
use crate::telemetry::journal::{Line, Outcome};

/// How long a pass waits for what an earlier one wrote to come back by the feed.
const HEAR_WAIT: Duration = Duration::from_millis(5);

impl Shared {
    /// Runs one pass for a pool.
    pub(super) async fn pool_pass(&self, of: &ObjectRef) -> Result<Next, store::Error> {
        let Some(pool) = self.store.get::<WarmPool>(&key_for(of)).await? else {
            return Ok(Next::Settled(None));
        };
        let now = self.clock.now();
        let Some(bays) = self.stock().of_pool(&pool.value.metadata.uid, now) else {
            return Ok(Next::In(HEAR_WAIT));
        };
        let name = &pool.value.spec.template_ref.name;
        let template =
            self.store.get::<Template>(&key(Kind::Template, &of.namespace, name)).await?;
        let held = self.bay_room(&of.namespace).await?;
        let made_from = match &template {
            Some(it) => for_new(&self.store, &it.value).await?,
            None => None,
        };
        if template.is_some() && made_from.is_none() {
            return Ok(Next::In(HEAR_WAIT));
        }
        let (template, revision) = made_from.unzip();
        let world = PoolWorld {
            pool: pool.value.clone(),
            template,
            bays,
            no_creating: holds::holding(&self.store).await?.creating,
            room: held.room.clone(),
        };
        let plan = pool::plan(&world, now);
        let wake = plan.wake_at.map(|at| in_time(at, now));
        let fact = |name: &String| world.bays.iter().find(|it| it.name == *name);
        for fact in plan.failed.iter().filter_map(fact) {
            if !self.let_go(of, &world, fact, now).await? {
                return Ok(Next::In(HEAR_WAIT));
            }
        }
        self.publish_pool(pool, &plan, now).await?;
        if let Some(made_from) = world.template.as_ref().zip(revision.as_ref()) {
            self.begin(&world.pool, made_from, &plan.make, now).await?;
        }
        drop(held);
        for fact in plan.retire.iter().filter_map(fact) {
            self.let_go(of, &world, fact, now).await?;
        }
        Ok(Next::Settled(wake))
    }

    async fn publish_pool(
        &self,
        mut pool: Stored<WarmPool>,
        plan: &PoolPlan,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        let of = pool.value.object_ref();
        let status = &plan.status;
        let sums = self.stock().count(
            &of,
            [status.desired_replicas, status.ready, status.provisioning, status.failed],
        );
        self.metrics.pool_bays(sums);
        if pool.value.status == *status {
            return Ok(());
        }
        let before = condition::get(&pool.value.status.conditions, PoolConditionType::Full);
        let full = condition::get(&status.conditions, PoolConditionType::Full);
        let about = (&of, pool.value.metadata.uid.as_str());
        let drawn = (now, &*self.chance);
        let told = events::turned(&self.store, about, (before, full), worth, drawn).await?;
        pool.value.status = status.clone();
        let at = Precondition::At(pool.revision);
        let txn = self.store.txn().put(&pool.key, at, &pool.value);
        with_events(txn, told.as_slice()).commit().await?;
        Ok(())
    }

    /// Writes new bays; their own passes make them.
    async fn begin(
        &self,
        pool: &WarmPool,
        (template, revision): (&Template, &RevisionRef),
        regions: &[Option<String>],
        now: Timestamp,
    ) -> Result<(), store::Error> {
        if regions.is_empty() {
            return Ok(());
        }
        let namespace = pool.metadata.namespace.clone().unwrap_or_default();
        let mut txn = self.store.txn();
        let mut begun = Vec::new();
        for region in regions {
            let made_as = stock::stock(pool, template, region.clone());
            let fresh = fresh_name(&*self.chance);
            let made_as = (made_as, revision.clone());
            let mut bay = stock::made(pool, made_as, &self.settings.instance, &fresh);
            let secret = key_of(&mut bay, now, &*self.chance);
            let name = &bay.metadata.name;
            txn = txn.put(&key(Kind::Bay, &namespace, name), Precondition::Absent, &bay).put(
                &key(Kind::Secret, &namespace, name),
                Precondition::Absent,
                &secret,
            );
            begun.push((name.clone(), region.clone()));
        }
        let revision = txn.commit().await?;
        self.stock().wrote(revision);
        for (name, region) in begun {
            let place = region.map(|it| format!(" in {it}")).unwrap_or_default();
            self.log_pool(pool, "begin-bay", format!("{name}{place}"), now);
        }
        Ok(())
    }

    /// Asks for a bay's removal, if it is still the pool's and unbound, and as far from being had as when that was decided: what
    /// became ready since is counted first. Whether it was asked for.
    async fn let_go(
        &self,
        of: &ObjectRef,
        world: &PoolWorld,
        fact: &StockFact,
        now: Timestamp,
    ) -> Result<bool, store::Error> {
        let (name, pool) = (fact.name.as_str(), &world.pool);
        let found = self.store.get::<Bay>(&key(Kind::Bay, &of.namespace, name)).await?;
        let Some(mut bay) = found else { return Ok(false) };
        let stock = bay.value.spec.stock.as_ref();
        let own = stock.is_some_and(|it| it.pool_uid == pool.metadata.uid);
        if !own || bay.value.spec.environment_ref.is_some() || bay.value.is_deleting() {
            return Ok(false);
        }
        let status = &bay.value.status;
        if status.available_since != fact.available_since
            || status.trouble.is_some() != fact.trouble.is_some()
        {
            return Ok(false);
        }
        bay.value.metadata.deletion_timestamp = Some(now);
        let at = Precondition::At(bay.revision);
        match self.store.txn().put(&bay.key, at, &bay.value).commit().await {
            Ok(revision) => {
                self.stock().wrote(revision);
                let trouble = bay.value.status.trouble.map(|it| it.message);
                let why = trouble.unwrap_or_else(|| pool::why_removed(world, fact, now).to_owned());
                self.log_pool(pool, "retire-bay", format!("{name}: {why}"), now);
                Ok(true)
            }
            // It was claimed, or learned something: the next pass counts again.
            Err(store::Error::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn log_pool(&self, pool: &WarmPool, action: &str, message: String, at: Timestamp) {
        self.journal.record(Line {
            at,
            object: pool.object_ref().to_string(),
            action: action.to_owned(),
            outcome: Outcome::Ok,
            duration_ms: None,
            message,
            request_id: None,
        });
    }
}

/// What of a pool's being full or not is worth an event: not that a claim left a gap which is filled again.
fn worth(reason: PoolReason) -> Option<EventType> {
    match reason {
        PoolReason::RollingOut | PoolReason::Renewing => Some(EventType::Normal),
        reason if reason.stops() => Some(EventType::Warning),
        _ => None,
    }
}

fn key_for(of: &ObjectRef) -> store::Key {
    key(of.kind, &of.namespace, &of.name)
}
