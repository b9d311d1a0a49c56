//! What a warm pool needs: bays to begin and bays to let go, new ones before old ones. It must never choose a bay that is bound.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    condition::{self, Truth},
    pool::{
        PoolCondition, PoolConditionType, PoolFailures, PoolReason, WarmPool, WarmPoolSpec,
        WarmPoolStatus, WarmState,
    },
    template::{SleepDecider, Template},
};
use crate::plan::{
    autoscale::{self, Decision},
    machine,
    price::{Size, machine_monthly_microdollars, volume_monthly_microdollars},
    stock::{StockFact, made_from},
};

/// How long something may be wrong with an unbound bay before it is given up.
const TROUBLE_MAX: SignedDuration = SignedDuration::from_mins(1);
/// What counts as lately in a pool's status.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// So many failures in a row, and a person had better look.
const STALLED_AFTER: u32 = 3;
/// How long no bay is begun after one failed; doubled with every one that follows.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
const PAUSE_DOUBLINGS_MAX: u32 = 6;
/// How often it is looked whether a quota has room again: that is when any bay of the namespace goes.
const ROOM_LOOK: SignedDuration = SignedDuration::from_secs(10);

/// What one pass for a pool decides from.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolWorld {
    /// What is wanted.
    pub pool: WarmPool,
    /// What its bays are made from, if there is such a template.
    pub template: Option<Template>,
    /// Its bays, bound or not, and those that were made because it had none ready.
    pub bays: Vec<StockFact>,
    /// Why nothing may be made now, if so.
    pub no_creating: Option<String>,
    /// How many more bays its namespace's quota leaves, if there is one.
    pub room: Option<Room>,
}

/// How many more bays a quota leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// So many.
    pub left: usize,
    /// Why there may not be one more, once that is none.
    pub why: String,
}

/// What a pass for a pool does.
#[must_use]
#[derive(Debug, Clone, PartialEq)]
pub struct PoolPlan {
    /// What the pool's status becomes.
    pub status: WarmPoolStatus,
    /// How many bays are to be begun, now and later.
    pub lacks: usize,
    /// Bays to begin now: the region that each must be in, if any.
    pub make: Vec<Option<String>>,
    /// Bays that failed, by name: they are removed before any of this is published, so that each is counted once.
    pub failed: Vec<String>,
    /// Other bays to remove, by name; those of another pool or bound since are left alone by whoever does it.
    pub retire: Vec<String>,
    /// When to look again if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

/// Bays of a pool in one region, sorted by what becomes of them.
#[derive(Debug, Default)]
struct Shelf<'a> {
    wanted: usize,
    /// Of the template as it is, and not too old.
    ready: Vec<&'a StockFact>,
    coming: Vec<&'a StockFact>,
    /// Can be had, and are to be replaced.
    outdated: Vec<&'a StockFact>,
}

impl<'a> Shelf<'a> {
    fn lacks(&self) -> usize {
        self.wanted.saturating_sub(self.ready.len() + self.coming.len())
    }

    fn short(&self) -> usize {
        self.wanted.saturating_sub(self.ready.len() + self.outdated.len())
    }

    /// The newest that can be had and is not wanted here.
    fn take_spare(&mut self) -> Option<&'a StockFact> {
        if self.ready.len() > self.wanted {
            return self.ready.pop();
        }
        let is_spare = self.ready.len() + self.outdated.len() > self.wanted;
        if is_spare { self.outdated.pop() } else { None }
    }

    /// Bays that are not needed: those on their way first, then, while as many as are wanted can be had, the outdated and
    /// the oldest. Of the outdated so many more go as may be missing; they are taken off that.
    fn surplus(&self, may_miss: &mut usize) -> Vec<String> {
        let mut go: Vec<&StockFact> = Vec::new();
        let most = self.wanted.saturating_sub(self.ready.len());
        go.extend(self.coming.iter().skip(most));
        let spare = (self.ready.len() + self.outdated.len()).saturating_sub(self.wanted);
        go.extend(self.outdated.iter().chain(&self.ready).take(spare));
        let ahead = self.outdated.iter().skip(spare).take(*may_miss);
        *may_miss -= ahead.len();
        go.extend(ahead);
        go.into_iter().map(|it| it.name.clone()).collect()
    }
}

/// The bays of a pool in each region; in one that asks for no regions they are all together.
type Shelves<'a> = BTreeMap<Option<&'a str>, Shelf<'a>>;

/// Bays that a region has too many of stand in where bays can be had too few, until what belongs there is ready: an environment gets one
/// of another region before it gets none.
fn lend(shelves: &mut Shelves<'_>) {
    loop {
        let short = shelves.iter().filter(|(_, it)| it.short() > 0);
        let Some(to) = short.max_by_key(|(_, it)| it.short()).map(|(region, _)| *region) else {
            return;
        };
        let Some(spare) = shelves.values_mut().find_map(Shelf::take_spare) else { return };
        if let Some(shelf) = shelves.get_mut(&to) {
            shelf.outdated.push(spare);
        }
    }
}

/// Plans one pass for a pool. Total: it never fails and never panics.
pub fn plan(world: &PoolWorld, now: Timestamp) -> PoolPlan {
    let (spec, old) = (&world.pool.spec, &world.pool.status);
    let uid = &world.pool.metadata.uid;
    let runs = spec.warm_state() == WarmState::Started;
    let mut count = Count { status: old.clone(), runs, retire: Vec::new(), wake_at: Vec::new() };
    count.status.observed_generation = world.pool.metadata.generation;
    count.lately(world, now);
    let template = world.template.as_ref();
    let current = template.map(|it| made_from(&it.spec));
    let scaled = autoscale::of_pool(&world.pool, &world.bays, now);
    let mut shelves = count.shelves(spec, scaled.as_ref());
    let of = |it: &&StockFact| it.pool_uid == *uid && !it.missed && it.claimed_at.is_none();
    count.cost(template, world.bays.iter().filter(of));
    let mut own: Vec<_> = world.bays.iter().filter(of).filter(|it| !it.going).collect();
    count.status.doubtful = number(own.iter().filter(|it| it.doubtful).count());
    own.retain(|it| !it.doubtful);
    own.sort_by_key(|it| (it.made_at, &it.name));
    let anywhere = shelves.contains_key(&None);
    let mut failed = Vec::new();
    for fact in &own {
        if let Some(trouble) = fact.fault() {
            if now >= trouble.since + TROUBLE_MAX {
                failed.push(*fact);
                continue;
            }
            count.wake_at.push(trouble.since + TROUBLE_MAX);
        }
        // Where it is counts, and not how it was asked for; nothing is wanted of a region that is asked for no more.
        let region = fact.wanted_region.as_deref().or(fact.region.as_deref());
        let shelf = shelves.entry(region.filter(|_| !anywhere)).or_default();
        let is_current = current.as_ref().is_none_or(|it| *it == fact.made_from);
        let ends_at = ends_at(&world.pool, fact).filter(|_| is_current);
        count.wake_at.extend(ends_at);
        let is_old = ends_at.is_some_and(|it| now >= it);
        match (fact.available_since.is_some(), is_current && !is_old) {
            (true, true) => shelf.ready.push(fact),
            (true, false) => shelf.outdated.push(fact),
            (false, true) => shelf.coming.push(fact),
            // Nothing can be had of it yet, and nothing need be.
            (false, false) => count.retire.push(fact.name.clone()),
        }
    }
    lend(&mut shelves);
    count.failures(&failed, &own, current.as_deref(), now);
    count.totals(&shelves, failed.len() + failing(world));
    let stop = stop(world, &count.status, now);
    let mut may_miss = may_miss(spec, stop.as_ref(), &shelves);
    count.retire.extend(shelves.values().flat_map(|it| it.surplus(&mut may_miss)));
    let make = match stop {
        None => count.make(world, &shelves, now),
        Some(_) => Vec::new(),
    };
    let full = stop.as_ref().is_some_and(|it| it.reason == PoolReason::QuotaExceeded);
    let lacks: usize = shelves.values().map(Shelf::lacks).sum();
    if full && lacks > 0 {
        count.wake_at.push(now + ROOM_LOOK);
    }
    count.conditions(world, stop, (&make, lacks, &shelves), now);
    count.scaling(world, scaled, now);
    let wake_at = count.wake_at.into_iter().filter(|at| *at > now).min();
    let failed = failed.into_iter().map(|it| it.name.clone()).collect();
    PoolPlan { status: count.status, lacks, make, failed, retire: count.retire, wake_at }
}

/// What is wrong with bays that are on their way: a fault, for which they are given up if it stays, or what only holds them up.
fn hindered(shelves: &Shelves<'_>) -> String {
    let coming = shelves.values().flat_map(|it| &it.coming);
    let (faults, held): (Vec<&StockFact>, Vec<&StockFact>) =
        coming.copied().filter(|it| it.trouble.is_some()).partition(|it| it.fault().is_some());
    let said =
        [("with a fault", faults), ("held up", held)].into_iter().filter_map(|(how, all)| {
            let last = all.last()?.trouble.as_ref()?;
            Some(format!("{} of them {how}: {}", all.len(), last.message))
        });
    let said: Vec<_> = said.collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
}

/// Bays that failed and are still being removed.
fn failing(world: &PoolWorld) -> usize {
    let uid = &world.pool.metadata.uid;
    let own = world.bays.iter().filter(|it| it.pool_uid == *uid && !it.missed);
    own.filter(|it| it.going && it.claimed_at.is_none() && it.fault().is_some()).count()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// When a bay is too old for its pool.
fn ends_at(pool: &WarmPool, fact: &StockFact) -> Option<Timestamp> {
    let max_age = pool.spec.max_age.as_ref()?;
    let max_age = SignedDuration::try_from(max_age.get()).unwrap_or(SignedDuration::MAX);
    fact.made_at.checked_add(max_age).ok()
}

/// Why a bay that did not fail is removed.
#[must_use]
pub fn why_removed(world: &PoolWorld, fact: &StockFact, now: Timestamp) -> &'static str {
    let is_current = world.template.as_ref().is_none_or(|it| made_from(&it.spec) == fact.made_from);
    if !is_current {
        "its template has another revision now"
    } else if ends_at(&world.pool, fact).is_some_and(|it| now >= it) {
        "it is older than the pool's `maxAge`"
    } else {
        "there are more than are wanted"
    }
}

/// Why no bay is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stop {
    reason: PoolReason,
    why: String,
    stalled: bool,
}

fn stop(world: &PoolWorld, status: &WarmPoolStatus, now: Timestamp) -> Option<Stop> {
    let name = &world.pool.spec.template_ref.name;
    let stalled = |reason, why| Some(Stop { reason, why, stalled: true });
    let Some(template) = &world.template else {
        return stalled(PoolReason::TemplateMissing, format!("template {name} does not exist"));
    };
    let sleep = template.spec.sleep.as_ref();
    if sleep.is_some_and(|it| it.decided_by == Some(SleepDecider::FlyProxy)) {
        let why = format!(
            "template {name} has `sleep.decidedBy: FlyProxy`, which would take an update, and so a restart, at each claim"
        );
        return stalled(PoolReason::TemplateUnfit, why);
    }
    let stopped = |reason, why| Some(Stop { reason, why, stalled: false });
    if let Some(why) = &world.no_creating {
        return stopped(PoolReason::Held, why.clone());
    }
    if let Some(full) = world.room.as_ref().filter(|it| it.left == 0) {
        return stopped(PoolReason::QuotaExceeded, format!("no bay is begun: {}", full.why));
    }
    let pause = status.failures.as_ref().filter(|it| now < it.paused_until);
    // Not where the clock was set back since.
    let failures = pause.filter(|it| now >= it.failed_at)?;
    let bays = if failures.count == 1 { "a bay" } else { "bays" };
    let why = format!(
        "{bays} failed ({} in a row); the next is begun at {:.0}: {}",
        failures.count, failures.paused_until, failures.message
    );
    stopped(PoolReason::Paused, why)
}

/// How many more bays may be missing because their replacements are not ready; those that are missing already count, whatever for.
fn may_miss(spec: &WarmPoolSpec, stop: Option<&Stop>, shelves: &Shelves<'_>) -> usize {
    // Where no replacement would be begun nothing goes ahead of it; a quota has room once something is gone.
    if stop.is_some_and(|it| it.reason != PoolReason::QuotaExceeded) {
        return 0;
    }
    let wanted: usize = shelves.values().map(|it| it.wanted).sum();
    let short: usize = shelves.values().map(Shelf::short).sum();
    let most = spec.max_unavailable(number(wanted)).min(spec.max_in_flight());
    usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(short)
}

/// The new status as it is counted, and what else comes of counting.
struct Count {
    status: WarmPoolStatus,
    /// Whether unbound bays run.
    runs: bool,
    retire: Vec<String>,
    wake_at: Vec<Timestamp>,
}

impl Count {
    /// Empty shelves for what is wanted.
    fn shelves<'a>(&mut self, spec: &'a WarmPoolSpec, scaled: Option<&Decision>) -> Shelves<'a> {
        let wanted = match scaled {
            Some(it) => BTreeMap::from([(None, it.status.desired)]),
            None => spec.wanted(),
        };
        self.status.desired_replicas = wanted.values().fold(0, |sum, it| sum.saturating_add(*it));
        let shelf = |wanted| Shelf {
            wanted: usize::try_from(wanted).unwrap_or(usize::MAX),
            ..Shelf::default()
        };
        wanted.into_iter().map(|(region, wanted)| (region, shelf(wanted))).collect()
    }

    /// What following the claims came to, and why.
    fn scaling(&mut self, world: &PoolWorld, scaled: Option<Decision>, now: Timestamp) {
        let kind = PoolConditionType::ScalingLimited;
        let Some(Decision { status, limited: reason, message, wake_at }) = scaled else {
            self.status.autoscale = None;
            self.status.conditions.retain(|it| it.kind != kind);
            return;
        };
        self.status.autoscale = Some(status);
        self.wake_at.push(wake_at);
        let is_limited = reason != PoolReason::DesiredWithinRange;
        let condition = PoolCondition {
            kind,
            status: if is_limited { Truth::True } else { Truth::False },
            reason,
            message,
            last_transition_time: now,
            observed_generation: world.pool.metadata.generation,
        };
        condition::set(&mut self.status.conditions, condition);
    }

    /// Claims of the last hour.
    fn lately(&mut self, world: &PoolWorld, now: Timestamp) {
        let uid = &world.pool.metadata.uid;
        let (mut hits, mut misses) = (0_u32, 0_u32);
        let mut first: Option<Timestamp> = None;
        for fact in world.bays.iter().filter(|it| it.pool_uid == *uid) {
            let at = if fact.missed { Some(fact.made_at) } else { fact.claimed_at };
            let Some(at) = at.filter(|at| now < *at + HOUR) else { continue };
            *(if fact.missed { &mut misses } else { &mut hits }) += 1;
            first = Some(first.map_or(at, |it| it.min(at)));
        }
        self.wake_at.extend(first.map(|at| at + HOUR));
        self.status.claimed_last_hour = hits;
        self.status.missed_last_hour = misses;
        let all = hits.saturating_add(misses);
        self.status.hit_rate_percent = hits.saturating_mul(100).checked_div(all);
    }

    fn failures(
        &mut self,
        failed: &[&StockFact],
        own: &[&StockFact],
        current: Option<&str>,
        now: Timestamp,
    ) {
        // What is made from another template may do better.
        let of_this = |made_from: &str| current.is_none_or(|it| it == made_from);
        let last = self.status.failures.take().filter(|it| of_this(&it.made_from));
        // One that got ready since says that what is wrong is wrong no more.
        let last = last.filter(|last| {
            let since = last.failed_at;
            !own.iter().any(|it| it.available_since.is_some_and(|at| at > since))
        });
        let failed: Vec<_> = failed.iter().filter(|it| of_this(&it.made_from)).collect();
        let Some((fact, trouble)) = failed.last().and_then(|it| Some((it, it.fault()?))) else {
            self.wake_at.extend(last.as_ref().map(|it| it.paused_until));
            self.status.failures = last;
            return;
        };
        let more = u32::try_from(failed.len()).unwrap_or(u32::MAX);
        let count = last.map_or(0, |it| it.count).saturating_add(more);
        let doublings = count.saturating_sub(1).min(PAUSE_DOUBLINGS_MAX);
        let paused_until = now + PAUSE * 2_i32.pow(doublings);
        self.wake_at.push(paused_until);
        let (made_from, message) = (fact.made_from.clone(), trouble.message.clone());
        let failed_at = now;
        self.status.failures =
            Some(PoolFailures { count, made_from, message, failed_at, paused_until });
    }

    fn totals(&mut self, shelves: &Shelves<'_>, failed: usize) {
        let sum = |of: fn(&Shelf<'_>) -> usize| number(shelves.values().map(of).sum());
        let fresh = sum(|it| it.ready.len());
        let status = &mut self.status;
        status.outdated = sum(|it| it.outdated.len());
        status.ready = fresh + status.outdated;
        status.provisioning = sum(|it| it.coming.len());
        status.failed = number(failed);
        status.replicas = status.ready + status.provisioning;
        let ready = shelves.values().flat_map(|it| it.ready.iter().chain(&it.outdated));
        status.oldest_ready_at = ready.filter_map(|it| it.available_since).min();
    }

    /// What is running, or rests, of the stock, in a day; what is to go costs until it is gone.
    fn cost<'a>(
        &mut self,
        template: Option<&Template>,
        unbound: impl Iterator<Item = &'a StockFact>,
    ) {
        let Some(template) = template else { return };
        let guest = template.spec.machine.guest.clone().unwrap_or_default();
        let size = Size {
            performance: machine::size(template).starts_with("performance"),
            cpus: guest.cpus,
            memory_mib: u32::try_from(guest.memory.mib()).unwrap_or(u32::MAX),
        };
        let gib = template.spec.volume.as_ref().map_or(0, |it| it.size.gib());
        let volume = volume_monthly_microdollars(u32::try_from(gib).unwrap_or(u32::MAX));
        let runs = self.runs;
        let monthly: u64 = unbound
            .map(|it| {
                let region = it.region.as_deref().unwrap_or_default();
                let starts = it.available_since.is_none();
                volume + machine_monthly_microdollars(size, region, runs || starts)
            })
            .sum();
        self.status.cost_per_day_microdollars = monthly / 30;
    }

    /// Bays to begin, region by region in turn, as far as the bounds allow.
    fn make(
        &mut self,
        world: &PoolWorld,
        shelves: &Shelves<'_>,
        now: Timestamp,
    ) -> Vec<Option<String>> {
        let spec = &world.pool.spec;
        // What waits for room takes nobody's place, and other regions go first.
        let waits = |it: &&StockFact| it.waits_for_room();
        let coming = shelves.values().flat_map(|it| &it.coming).filter(|it| !waits(it)).count();
        let at_once = usize::try_from(spec.max_in_flight()).unwrap_or(usize::MAX);
        // Where what failed cannot be removed, as under a hold, it must not become more and more.
        let mut room = at_once.saturating_sub(coming + failing(world));
        if let Some(refill) = &spec.refill {
            let begun: Vec<_> = world
                .bays
                .iter()
                .filter(|it| !it.missed && it.pool_uid == world.pool.metadata.uid)
                .map(|it| it.made_at)
                // Not those that were made before the clock was set back.
                .filter(|at| now < *at + MINUTE && now >= *at)
                .collect();
            let most = usize::try_from(refill.max_per_minute).unwrap_or(usize::MAX);
            room = room.min(most.saturating_sub(begun.len()));
            self.wake_at.extend(begun.into_iter().min().map(|at| at + MINUTE));
        }
        if let Some(quota) = &world.room {
            room = room.min(quota.left);
        }
        let has_room = |shelf: &Shelf<'_>| !shelf.coming.iter().any(waits);
        let mut lacking: Vec<_> = shelves
            .iter()
            .filter(|(_, shelf)| shelf.lacks() > 0)
            .map(|(region, shelf)| (*region, has_room(shelf), shelf.lacks()))
            .collect();
        let mut make = Vec::new();
        while make.len() < room {
            let most = lacking.iter_mut().max_by_key(|(_, has_room, lacks)| (*has_room, *lacks));
            let Some((region, _, lacks)) = most else { break };
            *lacks -= 1;
            make.push(region.map(str::to_owned));
            lacking.retain(|(_, _, lacks)| *lacks > 0);
        }
        make
    }

    /// What is said of the bays that are begun, or why none is.
    fn more(&self, world: &PoolWorld, make: &[Option<String>], lacks: usize) -> String {
        let spec = &world.pool.spec;
        let under_way = self.status.provisioning.saturating_add(self.status.failed);
        let paced = lacks > 0 && under_way < spec.max_in_flight();
        match &spec.refill {
            _ if !make.is_empty() => "; more are begun".to_owned(),
            Some(refill) if paced => {
                format!("; no more than {} are begun in a minute", refill.max_per_minute)
            }
            Some(_) | None => String::new(),
        }
    }

    fn conditions(
        &mut self,
        world: &PoolWorld,
        stop: Option<Stop>,
        (make, lacks, shelves): (&[Option<String>], usize, &Shelves<'_>),
        now: Timestamp,
    ) {
        use PoolConditionType as C;
        let status = &self.status;
        let (wanted, ready) = (status.desired_replicas, status.ready);
        let failed = match status.failed {
            0 => String::new(),
            failed => format!(", {failed} failed and are being removed"),
        };
        let hindered = hindered(shelves);
        let coming = status.provisioning;
        let counted =
            format!("{ready} of {wanted} are ready, {coming} on their way{hindered}{failed}");
        let is_full = lacks == 0 && status.provisioning == 0 && status.outdated == 0;
        let renewing = shelves.values().flat_map(|it| &it.outdated).any(|it| {
            world.template.as_ref().is_some_and(|now| made_from(&now.spec) == it.made_from)
        });
        let full = match &stop {
            Some(stop) if !is_full || stop.stalled => (false, stop.reason, stop.why.clone()),
            Some(_) | None if is_full && self.retire.is_empty() => {
                (true, PoolReason::AsDeclared, counted.clone())
            }
            Some(_) | None if is_full => (true, PoolReason::ScalingDown, counted.clone()),
            Some(_) | None if status.outdated > 0 => {
                let reason = if renewing { PoolReason::Renewing } else { PoolReason::RollingOut };
                let why = format!("{counted}; {} of the ready are to be replaced", status.outdated);
                (false, reason, why)
            }
            Some(_) | None => {
                let more = self.more(world, make, lacks);
                (false, PoolReason::Refilling, format!("{counted}{more}"))
            }
        };
        let available = match (ready, wanted) {
            (0, 0) => (false, PoolReason::ScaledToZero, "no bay is wanted".to_owned()),
            (0, _) => {
                let why =
                    "none is ready: an environment that is made now gets a bay of its own making";
                (false, PoolReason::Empty, why.to_owned())
            }
            (_, _) => (true, PoolReason::AsDeclared, counted),
        };
        let keeps_failing = status.failures.as_ref().filter(|it| it.count >= STALLED_AFTER);
        let stalled = match (stop.filter(|it| it.stalled), keeps_failing.filter(|_| !is_full)) {
            (Some(stop), _) => (true, stop.reason, stop.why),
            (None, Some(it)) => {
                let why =
                    format!("{} bays failed in a row; the last one: {}", it.count, it.message);
                (true, PoolReason::Paused, why)
            }
            (None, None) => (false, PoolReason::AsDeclared, String::new()),
        };
        for (kind, (truth, reason, message)) in
            [(C::Full, full), (C::Available, available), (C::Stalled, stalled)]
        {
            let status = if truth { Truth::True } else { Truth::False };
            let condition = PoolCondition {
                kind,
                status,
                reason,
                message,
                last_transition_time: now,
                observed_generation: world.pool.metadata.generation,
            };
            condition::set(&mut self.status.conditions, condition);
        }
    }
}

#[cfg(test)]
mod tests;
