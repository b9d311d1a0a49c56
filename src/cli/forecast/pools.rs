//! What a change of a pool, or of its template, comes to for its unbound bays, from the plan that the controller runs for pools. It must
//! never change anything.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    api::{
        bay::Bay,
        condition::{self, Truth},
        kind::Kind,
        meta::{ObjectRef, Resource as _},
        pool::{PoolConditionType, PoolReason, WarmPool, WarmState},
        template::Template,
    },
    cli::forecast::{Then, room::Rooms, turns},
    client::{self, Client, Query},
    clock::Timestamp,
    plan::{
        pool::{PoolPlan, PoolWorld, plan},
        stock::StockFact,
    },
};

/// Unbound bays that come and go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Bays {
    /// That are begun, now or as room is made for them.
    pub(crate) made: usize,
    /// That go.
    pub(crate) removed: usize,
}

/// What becomes of a pool.
pub(super) struct PoolForecast {
    /// Its bays.
    pub(super) bays: Bays,
    /// Sentences about that.
    pub(super) notes: Vec<String>,
}

/// What becomes of each pool that changes, or whose template does.
///
/// # Errors
/// The server's.
pub(super) async fn pools(
    client: &Client,
    then: &Then,
    rooms: &Rooms,
    now: Timestamp,
) -> Result<Vec<(ObjectRef, PoolForecast)>, client::Error> {
    let changes = |kind: Kind| then.changed.keys().any(|it| it.kind == kind);
    if !changes(Kind::WarmPool) && !changes(Kind::Template) {
        return Ok(Vec::new());
    }
    let query = Query::default();
    let before: Vec<WarmPool> = client.list(Kind::WarmPool, None, &query).await?.items;
    let before: BTreeMap<_, _> = before.into_iter().map(|it| (it.object_ref(), it)).collect();
    let bays: Vec<Bay> = client.list(Kind::Bay, None, &query).await?.items;
    let named = then.changed.keys().filter(|it| it.kind == Kind::WarmPool);
    let all: BTreeSet<_> = before.keys().chain(named).cloned().collect();
    let mut found = Vec::new();
    for object in all {
        let Some(pool) = then.get::<WarmPool>(client, &object).await? else { continue };
        let name = &pool.spec.template_ref.name;
        let template = ObjectRef::new(Kind::Template, &object.namespace, name);
        let concerned = [&object, &template].into_iter().any(|it| then.changed.contains_key(it));
        if !concerned {
            continue;
        }
        let is_changed = then.changed.contains_key(&template);
        let template = match then.get::<Template>(client, &template).await? {
            Some(it) if !is_changed => Some(turns::kept_at(client, it, None).await?),
            found => found,
        };
        let world = PoolWorld {
            bays: facts(&bays, &pool),
            template,
            no_creating: then.held.creating.clone(),
            room: rooms.left(&object.namespace, Kind::Bay),
            pool,
        };
        let rests = before.get(&object).map(|it| it.spec.warm_state());
        found.push((object, of(&world, rests, now)));
    }
    Ok(found)
}

/// What the controller knows of a pool's bays.
fn facts(bays: &[Bay], pool: &WarmPool) -> Vec<StockFact> {
    let near = bays.iter().filter(|it| it.metadata.namespace == pool.metadata.namespace);
    let own = near.filter_map(|it| StockFact::of(it, None, None));
    let mut own: Vec<_> = own.filter(|it| it.pool_uid == pool.metadata.uid).collect();
    own.sort_by_key(|it| it.made_at);
    // Those that were begun before the store was restored are the oldest ones.
    let unbound = own.iter_mut().filter(|it| !it.missed && it.claimed_at.is_none() && !it.going);
    let doubtful = usize::try_from(pool.status.doubtful).unwrap_or(usize::MAX);
    unbound.take(doubtful).for_each(|it| it.doubtful = true);
    own
}

fn of(world: &PoolWorld, before: Option<WarmState>, now: Timestamp) -> PoolForecast {
    let PoolPlan { status, lacks, .. } = plan(world, now);
    let unbound = world.bays.iter().filter(|it| !it.missed && it.claimed_at.is_none() && !it.going);
    let there = unbound.filter(|it| !it.doubtful).count();
    let wanted = usize::try_from(status.desired_replicas).unwrap_or(usize::MAX);
    let bays = Bays { made: lacks, removed: (there + lacks).saturating_sub(wanted) };
    let spec = &world.pool.spec;
    let mut notes = Vec::new();
    let most = spec.max_in_flight();
    let ahead = spec.max_unavailable(status.desired_replicas).min(most);
    match (bays.made, bays.removed) {
        (0, 0) => {}
        (0, removed) => notes.push(format!("bays that go: {removed}")),
        (made, 0) => notes.push(format!("bays that are made: {made}, {most} at a time")),
        (made, removed) => {
            let order = match ahead {
                0 => "new ones before old ones".to_owned(),
                ahead => format!("at most {ahead} of the old ones before the new ones are ready"),
            };
            notes.push(format!(
                "bays that are made: {made}, {most} at a time; that go: {removed}, {order}"
            ));
        }
    }
    let state = spec.warm_state();
    if before
        .is_some_and(|it| it != state && (it == WarmState::Started || state == WarmState::Started))
        && there > bays.removed
    {
        let what = if state == WarmState::Started { "started" } else { "put to rest" };
        let left = there - bays.removed;
        notes.push(format!("bays that are {what}, and cannot be had meanwhile: {left}"));
    }
    // Why none is begun, if so.
    let full = condition::get(&status.conditions, PoolConditionType::Full);
    let stop = full.filter(|it| it.status == Truth::False && bays.made > 0);
    let stop = stop.filter(|it| it.reason.stops());
    // Those that go first make room.
    let makes_room = bays.removed > 0 && ahead > 0;
    let stop = stop.filter(|it| it.reason != PoolReason::QuotaExceeded || !makes_room);
    notes.extend(stop.map(|it| it.message.clone()));
    PoolForecast { bays, notes }
}
