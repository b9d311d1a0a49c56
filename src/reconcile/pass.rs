//! One pass for one environment: observe, plan, publish, execute, record. It takes a key and nothing else; why it runs is
//! nobody's business here. It must never decide anything.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use jiff::SignedDuration;
use tracing::Instrument as _;

use crate::api::{
    bay::FullRegion,
    core::Event,
    environment::{Phase, Reason},
    kind::Kind,
    meta::{ObjectRef, Resource as _},
};
use crate::chance::Chance;
use crate::clock::{Clock, Timestamp};
use crate::fly::Machines;
use crate::plan::{
    self, Level, Note, Plan,
    action::Action,
    machine, restored, stock,
    world::{Settings, World},
};
use crate::reconcile::{
    act::{Acted, Personalized},
    bind::{Bound, Reserved},
    breaker::{self, Breaker, Verdict},
    events,
    fleet::Fleet,
    holds,
    index::Index,
    informer::Informer,
    objects::Objects,
    observe::{Memo, Sources, observe},
    quota::Held,
    regions::Regions,
    rollout,
    steady::Steady,
    stock::StockRoom,
};
use crate::retry::{self, Retry};
use crate::store::{
    self,
    handle::{Store, Stored},
};
use crate::telemetry::{
    journal::{self, Journal, Line},
    metrics::Metrics,
};

/// Everything that passes share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) fly: Arc<dyn Machines>,
    pub(crate) spare_fly: Arc<dyn Machines>,
    pub(crate) org: String,
    pub(crate) settings: Settings,
    pub(crate) informer: Arc<Informer>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) chance: Arc<dyn Chance>,
    pub(crate) journal: Journal,
    pub(crate) metrics: Metrics,
    pub(crate) index: Arc<RwLock<Index>>,
    pub(crate) breaker: Mutex<Breaker<ObjectRef>>,
    pub(crate) regions: Mutex<Regions<ObjectRef>>,
    pub(crate) stock: Mutex<StockRoom>,
    /// Held while a bay is begun in a namespace with a quota, from the count to the commit.
    pub(crate) quota_turn: tokio::sync::Mutex<()>,
    pub(crate) steady: Mutex<Steady>,
    pub(crate) fleet: Mutex<Fleet>,
}

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// All is as it should be: when something happens, and then at the latest.
    Settled(Option<Duration>),
    /// At once: a call was made, and what follows from it must not wait behind what was not begun.
    GoOn,
    /// Something is waited for: then, at the latest.
    In(Duration),
    /// After a failure.
    Failed(Retry),
}

/// What is remembered between passes of a key, and lost at a restart without harm.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    pub(crate) memo: Memo,
    /// What was last said of the environment, so that it is said once.
    pub(crate) said: Option<Note>,
}

/// A pass under way.
pub(super) struct Pass<'a> {
    pub(super) shared: &'a Shared,
    pub(super) of: &'a ObjectRef,
    pub(super) remembered: Remembered,
}

impl Shared {
    /// Fly: what a pool's bay needs waits while somebody's environment needs a call of the same kind.
    pub(super) fn fly_for(&self, objects: &Objects) -> &dyn Machines {
        if objects.vacant.is_some() { &*self.spare_fly } else { &*self.fly }
    }

    /// Bays of pools. Never held across an await.
    pub(crate) fn stock(&self) -> MutexGuard<'_, StockRoom> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Environments of templates. Never held across an await.
    pub(crate) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Regions without room. Never held across an await.
    pub(crate) fn regions(&self) -> MutexGuard<'_, Regions<ObjectRef>> {
        self.regions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the clock is not to be relied on, if so.
    fn clock_was_set(&self) -> Option<String> {
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        steady.look(self.clock.now(), self.clock.monotonic())
    }

    /// The mass-change breaker. Never held across an await.
    pub(crate) fn breaker(&self) -> MutexGuard<'_, Breaker<ObjectRef>> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one pass.
    pub(crate) async fn pass(&self, of: &ObjectRef, remembered: Remembered) -> (Next, Remembered) {
        let span = tracing::info_span!("pass", object = %of);
        let began = self.clock.monotonic();
        let mut pass = Pass { shared: self, of, remembered };
        let run = async {
            match of.kind {
                Kind::WarmPool => Box::pin(self.pool_pass(of)).await,
                Kind::Template => Box::pin(self.template_pass(of)).await,
                _ => Box::pin(pass.run()).await,
            }
        };
        let ended = run.instrument(span).await;
        if ended.is_err() {
            // What was to be written with it was not.
            pass.remembered.said = None;
        }
        let (next, outcome) = match ended {
            Ok(Next::Failed(retry)) => (Next::Failed(retry), "failed"),
            Ok(next) => (next, "ok"),
            // Someone wrote meanwhile; what they wrote is read next time.
            Err(store::Error::Conflict { .. }) => (Next::In(Duration::from_millis(10)), "conflict"),
            Err(error) => {
                tracing::error!(object = %of, error = retry::chain(&error), "pass failed");
                (Next::Failed(error.retry()), "store")
            }
        };
        let kind = of.kind.info().plural;
        self.metrics.pass(kind, outcome, self.clock.monotonic().saturating_sub(began));
        (next, pass.remembered)
    }
}

impl<'a> Pass<'a> {
    async fn run(&mut self) -> Result<Next, store::Error> {
        let shared = self.shared;
        let Some(objects) = Objects::read(&shared.store, self.of).await? else {
            return Ok(Next::Settled(None));
        };
        let now = shared.clock.now();
        let deleting = objects.environment.value.is_deleting();
        if objects.unrecorded && !deleting {
            // What it is to be made from was changed just now.
            return Ok(Next::In(rollout::HEAR_WAIT));
        }
        let pooled = matches!(objects.vacant, Some(Some(_)));
        if pooled && !deleting && self.may_be_anothers(&objects) {
            return Ok(Next::Settled(None));
        }
        if objects.vacant == Some(None) && !deleting {
            objects.retire(&shared.store, now).await?;
            self.log("retire-bay", journal::Outcome::Ok, "its pool is gone");
            return Ok(Next::GoOn);
        }
        Box::pin(self.go(objects)).await
    }

    /// Plans and acts. A claim, and what was written into a claimed machine, are on the way of whoever waits: they go to disk together
    /// with what follows from them, instead of each by itself.
    async fn go(&mut self, mut objects: Box<Objects>) -> Result<Next, store::Error> {
        let shared = self.shared;
        let (mut claimed, mut personalized): (Option<Reserved<'_>>, Option<Box<Personalized>>) =
            (None, None);
        let mut now = shared.clock.now();
        loop {
            let Decided { world, plan, vacancy, held } = self.decide(&objects, now).await?;
            objects.told.extend(self.say(&objects, &plan, now).await?);
            if let Some(binding) = plan.bind.clone() {
                match Box::pin(self.bind(objects, &world, binding)).await? {
                    Bound::Over(next) => return Ok(next),
                    Bound::Claims(claims) => objects = claims,
                }
                claimed = Some(vacancy);
                continue;
            }
            // Many passes wait for the disk at once.
            drop((world, vacancy, held));
            if plan.release {
                return Box::pin(self.release(objects, now)).await;
            }
            if plan.expire {
                objects.tell(&shared.store).await?;
                objects.expire(&shared.store, plan.status, now).await?;
                self.log("expire", journal::Outcome::Ok, &plan.note.message);
                return Ok(Next::GoOn);
            }
            let settled = matches!(plan.status.phase, Phase::Ready | Phase::Asleep);
            let published =
                objects.publish(&shared.store, plan.status.clone(), plan.bay.clone()).await;
            if let (Err(store::Error::Conflict { .. }), Some(done)) = (&published, personalized) {
                done.record(&shared.store).await?;
            }
            published?;
            if let Some(reserved) = claimed.take() {
                self.claimed(&objects, reserved);
            }
            let Some(action) = &plan.action else {
                let until = plan.wake_at.map(|at| in_time(at, now));
                return Ok(until.filter(|_| !settled).map_or(Next::Settled(until), Next::In));
            };
            match Box::pin(self.act(&mut objects, action, &plan.note)).await? {
                Acted::Over(next) => return Ok(next),
                Acted::Personalized(done) => personalized = Some(done),
            }
            now = shared.clock.now();
        }
    }

    /// What there is, and what is to be done about it.
    async fn decide(
        &mut self,
        objects: &Objects,
        now: Timestamp,
    ) -> Result<Decided<'a>, store::Error> {
        let shared = self.shared;
        let sources = Sources {
            fly: shared.fly_for(objects),
            informer: &shared.informer,
            settings: &shared.settings,
        };
        let memo = &mut self.remembered.memo;
        let mut world = observe(sources, objects, memo, fresh_name(&*shared.chance), now).await;
        memo.doubted = false;
        world.full_regions = self.full_regions(objects, now);
        world.clock_was_set = shared.clock_was_set();
        self.look_for_vacancy(objects, &mut world);
        let vacancy = Reserved { shared, of: self.of, vacancy: world.vacancy.clone() };
        let held = self.room_for_own_bay(objects, world.vacancy.is_some()).await?;
        world.no_bay = held.room.as_ref().filter(|it| it.left == 0).map(|it| it.why.clone());
        let mut plan = plan::plan(&world, now);
        self.asks_region(&plan, now);
        if let Some(why) = self.held(objects, &plan, now).await? {
            world.no_destroying = Some(why.clone());
            world.no_replacing = Some(why.clone());
            world.no_creating = Some(why);
            plan = plan::plan(&world, now);
        }
        if let Some(warm_state) = objects.vacant.flatten() {
            stock::judge(&mut plan, warm_state, now);
        }
        Ok(Decided { world, plan, vacancy, held })
    }

    /// Whether an unbound bay may have been claimed after the export that the store was made from: then it is left as it is.
    fn may_be_anothers(&self, objects: &Objects) -> bool {
        let made_at = objects.bay.as_ref().and_then(|it| it.value.metadata.creation_timestamp);
        restored::behind(&self.shared.settings, made_at).is_some()
    }

    /// Regions that had no room for others, where this one has yet to be placed.
    fn full_regions(&self, objects: &Objects, now: Timestamp) -> Vec<FullRegion> {
        let placed = objects.bay.as_ref().and_then(|it| it.value.status.machine.as_ref());
        if placed.is_some_and(|it| it.id.is_some()) {
            return Vec::new();
        }
        let Some(template) = &objects.template else { return Vec::new() };
        let size = machine::size(template);
        self.shared.regions().full(self.of, &size, now)
    }

    /// Others wait for what a creation says of its region, if that had no room.
    fn asks_region(&self, plan: &Plan, now: Timestamp) {
        if let Some((region, size)) = plan.action.as_ref().and_then(placed_in) {
            self.shared.regions().asks(self.of, region, &size, now);
        }
    }

    /// Why what is planned is not done, if too much of the kind is going on; a hold is raised where a person must say so.
    async fn held(
        &self,
        objects: &Objects,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Option<String>, store::Error> {
        let shared = self.shared;
        if objects.vacant.is_some() {
            // Nobody's data is in it, and its pool makes another; what is held back is held back for it too.
            return Ok(None);
        }
        let pass = breaker::Pass {
            impact: plan.impact,
            absence: plan.absence,
            ordered: objects.environment.value.is_deleting() || plan.expire,
            held: plan.note.reason == Reason::Held,
            settled: matches!(plan.status.phase, Phase::Ready | Phase::Asleep),
        };
        let monotonic = shared.clock.monotonic();
        let verdict = {
            let mut breaker = shared.breaker();
            breaker.holds(&objects.held.reasons, objects.held.at, monotonic);
            breaker.ask(self.of, pass, monotonic)
        };
        let (reason, why) = match verdict {
            Verdict::Go => return Ok(None),
            Verdict::Wait(why) => return Ok(Some(why)),
            Verdict::Hold(reason, why) => (reason, why),
        };
        let raised = holds::raise(&shared.store, reason, &why, (now, &*shared.chance)).await?;
        shared.breaker().raised(reason, raised, monotonic);
        self.log("hold", journal::Outcome::Refused, &why);
        Ok(Some(holds::said(&why)))
    }

    /// Says what was decided where it was not said before: as a line of the log, and as the event that is returned where people should
    /// see it.
    async fn say(
        &mut self,
        objects: &Objects,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Option<Stored<Event>>, store::Error> {
        let note = &plan.note;
        if self.remembered.said.as_ref() == Some(note) {
            return Ok(None);
        }
        self.remembered.said = Some(note.clone());
        let serves = note.reason == Reason::Serving;
        if plan.action.is_none() && plan.bind.is_none() {
            let outcome = match note.level {
                Level::Warning => journal::Outcome::Refused,
                Level::Quiet | Level::Normal if serves || plan.wake_at.is_none() => {
                    journal::Outcome::Ok
                }
                Level::Quiet | Level::Normal => journal::Outcome::Waiting,
            };
            self.log("plan", outcome, &note.message);
        }
        let environment = &objects.environment.value;
        let acts = plan.action.as_ref().is_some_and(Action::mutates);
        // After a restart everything serves as it did before, which is no event.
        let serves_now = serves && environment.status.phase != plan.status.phase;
        // Of a pool's bays there are many, made all alike.
        let binds = plan.bind.is_some() && note.level != Level::Quiet;
        let tells = (acts || serves_now || binds || plan.expire) && objects.vacant.is_none();
        if tells || note.level == Level::Warning {
            let about = (self.of, environment.metadata.uid.as_str());
            let drawn = (now, &*self.shared.chance);
            return events::next(&self.shared.store, about, note, drawn).await.map(Some);
        }
        Ok(None)
    }

    pub(super) fn line(&self, action: &str, outcome: journal::Outcome, message: String) -> Line {
        Line {
            at: self.shared.clock.now(),
            object: self.of.to_string(),
            action: action.to_owned(),
            outcome,
            duration_ms: None,
            message,
            request_id: None,
        }
    }

    pub(super) fn log(&self, action: &str, outcome: journal::Outcome, message: &str) {
        self.shared.journal.record(self.line(action, outcome, message.to_owned()));
    }
}

/// What one look comes to.
struct Decided<'a> {
    world: Box<World>,
    plan: Plan,
    /// The bay that it may claim.
    vacancy: Reserved<'a>,
    /// The room for one of its own.
    held: Held<'a>,
}

/// Where a creation needs room, and for which size.
pub(super) fn placed_in(action: &Action) -> Option<(&str, String)> {
    match action {
        Action::CreateVolume { region, spec, .. } | Action::CreateMachine { region, spec, .. } => {
            Some((region, spec.size()))
        }
        _ => None,
    }
}

pub(super) fn in_time(at: Timestamp, now: Timestamp) -> Duration {
    let until = at.duration_since(now).max(SignedDuration::ZERO);
    Duration::try_from(until).unwrap_or_default()
}

/// Ten letters and digits: a name for a bay, in case one has to be made.
pub(super) fn fresh_name(chance: &dyn Chance) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 10];
    chance.fill(&mut bytes);
    bytes
        .iter()
        .map(|byte| char::from(ALPHABET.get(usize::from(byte % 32)).copied().unwrap_or(b'a')))
        .collect()
}
