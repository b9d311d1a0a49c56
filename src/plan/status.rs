//! An environment's status from what was planned: conditions with true reasons, the phase, the address. It must never claim
//! more than was seen.

use crate::api::{
    Timestamp,
    bay::{BayStatus, Personalized},
    condition::{self, Truth},
    environment::{
        BayRef, Condition, ConditionType, EnvironmentStatus, OperatingMode, Phase, Reason,
        SleepSignal, SleepStatus,
    },
    meta::Resource as _,
};
use crate::plan::{Health, Step, action::Action, environment::personalize, world::World};

/// One claim: type, truth, reason, sentence.
type Claim = (ConditionType, bool, Reason, String);

pub(crate) fn of(world: &World, bay: &BayStatus, step: &Step, now: Timestamp) -> EnvironmentStatus {
    let facts = Facts::new(world, bay, step);
    let mut status = world.environment.status.clone();
    for (kind, truth, reason, message) in facts.claims() {
        let observed = if kind == ConditionType::Ready && truth {
            facts.generation()
        } else {
            world.environment.metadata.generation
        };
        condition::set(
            &mut status.conditions,
            Condition {
                kind,
                status: if truth { Truth::True } else { Truth::False },
                reason,
                message,
                last_transition_time: now,
                observed_generation: observed,
            },
        );
    }
    if !facts.is_of_pool() {
        // It may have given one up that was.
        status.conditions.retain(|it| it.kind != ConditionType::Personalized);
    }
    status.phase = facts.phase();
    status.url = facts.has_service().then(|| {
        world.environment.hostnames().first().map(|it| world.settings.url(it)).unwrap_or_default()
    });
    status.bay = facts.bay_ref();
    status.sleep = facts.sleep();
    status.template = world.revision.clone().map(|mut it| {
        let serves = condition::holds(&status.conditions, ConditionType::Updated)
            && condition::holds(&status.conditions, ConditionType::Ready);
        it.looked = true;
        if serves {
            it.ready_at.get_or_insert(now);
        }
        it
    });
    status
}

/// That it serves, and in whose bay where a pool made it.
pub(super) fn serves(world: &World) -> String {
    let bay = world.bay.as_ref().filter(|it| it.spec.environment_ref.is_some());
    match bay.and_then(|it| Some((&it.metadata.name, it.spec.stock.as_ref()?))) {
        Some((bay, stock)) => format!("it serves, in bay {bay} of pool {}", stock.pool),
        None => "it serves".to_owned(),
    }
}

/// Whether calls were refused or failed so often that it is no passing trouble.
pub(super) fn keeps_failing(bay: &BayStatus) -> bool {
    bay.failure.as_ref().is_some_and(|it| it.count >= 3)
}

struct Facts<'a> {
    world: &'a World,
    bay: &'a BayStatus,
    step: &'a Step,
    /// Why it is not further, where it is not.
    reason: Reason,
    message: String,
}

impl<'a> Facts<'a> {
    fn new(world: &'a World, bay: &'a BayStatus, step: &'a Step) -> Self {
        let (reason, message) = match step {
            Step::Act { reason, why, .. }
            | Step::Wait { reason, why, .. }
            | Step::Bind { reason, why, .. } => (*reason, why.clone()),
            Step::Awake { .. } => (Reason::Serving, serves(world)),
            Step::Asleep { signal: SleepSignal::Ordered, .. } => {
                (Reason::Ordered, "it sleeps by order; requests do not wake it".to_owned())
            }
            Step::Asleep { signal: SleepSignal::External, .. } => (
                Reason::External,
                "something other than hangar stopped it; a request wakes it".to_owned(),
            ),
            Step::Asleep { .. } => (Reason::Idle, "it sleeps; a request wakes it".to_owned()),
            Step::Release => (Reason::Deleting, "nothing is left of it".to_owned()),
        };
        let message = match &bay.failure {
            Some(failure) if matches!(step, Step::Act { .. }) => {
                let times = match failure.count {
                    1 => "once".to_owned(),
                    count => format!("{count} times"),
                };
                format!("{message} (tried {times}; {}: {})", failure.action, failure.message)
            }
            Some(_) | None => message,
        };
        Self { world, bay, step, reason, message }
    }

    fn health(&self) -> Health {
        match self.step {
            Step::Wait { health, .. } => *health,
            Step::Act { fault, .. } if *fault || self.keeps_failing() => Health::Degraded,
            Step::Act { .. }
            | Step::Bind { .. }
            | Step::Awake { .. }
            | Step::Asleep { .. }
            | Step::Release => Health::Fine,
        }
    }

    fn keeps_failing(&self) -> bool {
        keeps_failing(self.bay)
    }

    fn deleting(&self) -> bool {
        self.world.environment.is_deleting()
    }

    fn has_service(&self) -> bool {
        self.world.template.as_ref().is_none_or(|it| !it.spec.services.is_empty())
    }

    /// Whether the version that runs (or sleeps) now was seen serving.
    fn seen_serving(&self) -> bool {
        self.bay.machine.as_ref().is_some_and(|it| {
            it.ready.as_ref().is_some_and(|ready| Some(&ready.version) == it.version.as_ref())
        })
    }

    /// The generation that is, or was last, seen serving.
    fn generation(&self) -> u64 {
        self.bay.machine.as_ref().map_or(0, |it| it.generation)
    }

    fn asleep(&self) -> bool {
        matches!(self.step, Step::Asleep { .. })
    }

    /// Counting connections is no change in what the environment is, and going to sleep is none before it sleeps. While what it adds is
    /// written once more it serves, by what was written before.
    fn awake(&self) -> bool {
        match self.step {
            Step::Awake { .. } => true,
            Step::Wait { reason: Reason::Idle, .. }
            | Step::Act {
                action: Action::CountConnections { .. } | Action::SleepMachine { .. },
                ..
            } => self.is_its_own(),
            Step::Act { action: Action::Personalize { .. }, fault: false, .. } => {
                let serves = self.seen_serving() && self.is_healthy();
                serves && personalize::is_there(self.world, self.bay)
            }
            Step::Act { .. }
            | Step::Wait { .. }
            | Step::Bind { .. }
            | Step::Asleep { .. }
            | Step::Release => false,
        }
    }

    /// Whether the machine is no longer just any of a pool's, where an environment has it.
    fn is_its_own(&self) -> bool {
        let bound = self.world.bay.as_ref().and_then(|it| it.spec.environment_ref.as_ref());
        bound.is_none() || self.reached()
    }

    /// Whether the check of what it serves passes, as far as it has one.
    fn is_healthy(&self) -> bool {
        self.bay.machine.as_ref().is_some_and(|it| it.unhealthy_since.is_none())
    }

    fn pending(&self) -> bool {
        matches!(self.step, Step::Awake { pending: true, .. })
    }

    fn claims(&self) -> Vec<Claim> {
        use ConditionType as C;
        let because = |kind, truth| (kind, truth, self.reason, self.message.clone());
        let fine = |kind, message: &str| (kind, true, Reason::AsDeclared, message.to_owned());
        let bound = self.world.bay.is_some();
        let machine = self.bay.machine.as_ref().filter(|it| it.id.is_some());
        let provisioned = bound && machine.is_some() && self.bay.missing.is_none();
        let settled = self.awake() || self.asleep();
        let mut claims = vec![
            if bound { fine(C::Bound, "it has a bay") } else { because(C::Bound, false) },
            if provisioned {
                fine(C::Provisioned, "app, volume and machine exist")
            } else {
                because(C::Provisioned, false)
            },
            self.updated(settled, provisioned),
            self.routed(),
            self.ready(settled),
            if self.asleep() {
                because(C::Asleep, true)
            } else {
                (C::Asleep, false, Reason::Awake, "it does not sleep".to_owned())
            },
            if self.health() == Health::Degraded && !self.deleting() {
                let (kind, truth, reason, message) = because(C::Degraded, true);
                let fault = matches!(self.step, Step::Wait { .. } | Step::Act { fault: true, .. });
                (kind, truth, if fault { reason } else { Reason::CallFailed }, message)
            } else {
                (C::Degraded, false, Reason::AsDeclared, String::new())
            },
            if self.health() == Health::Stalled {
                because(C::Stalled, true)
            } else {
                (C::Stalled, false, Reason::AsDeclared, String::new())
            },
        ];
        claims.extend(self.personalized());
        claims.extend(self.observed());
        claims
    }

    /// Whether a pool made its bay.
    fn is_of_pool(&self) -> bool {
        self.world.bay.as_ref().is_some_and(|it| it.spec.stock.is_some())
    }

    /// That what it adds reached a bay that a pool made.
    fn personalized(&self) -> Option<Claim> {
        let kind = ConditionType::Personalized;
        self.is_of_pool().then(|| {
            if self.reached() {
                let why = "what it adds to its template reached the machine";
                (kind, true, Reason::AsDeclared, why.to_owned())
            } else {
                (kind, false, self.reason, self.message.clone())
            }
        })
    }

    /// Whether the machine is the environment's, and no longer just any of the pool's.
    fn reached(&self) -> bool {
        let as_stock = self.bay.machine.as_ref().is_some_and(|it| it.as_stock);
        let written = self.bay.personalized.as_ref().is_some_and(|it| it.digest.is_some());
        let stock = self.world.bay.as_ref().and_then(|it| it.spec.stock.as_ref());
        // Such a bay is for whoever adds nothing.
        let plain = stock.is_some_and(|it| it.made_from.personalize.is_none());
        !as_stock || written || plain
    }

    /// Whether it has a file, and what belongs there now could not be written.
    fn lacks_its_file(&self) -> bool {
        let in_file = self.bay.machine.as_ref().is_some_and(|it| it.as_stock)
            || self.world.bay.as_ref().is_some_and(|it| it.spec.volume);
        in_file && self.bay.personalized.as_ref().is_some_and(Personalized::fails_again)
    }

    /// That Fly could not be asked for a while, and that it can be again.
    fn observed(&self) -> Option<Claim> {
        let kind = ConditionType::Observed;
        let before = condition::get(&self.world.environment.status.conditions, kind);
        match (self.world.unheard_since, before) {
            (Some(since), _) => {
                let why = format!(
                    "Fly could not be asked since {since:.0}: what is said here was so then, as far as it hangs on Fly"
                );
                Some((kind, false, Reason::FlyUnreachable, why))
            }
            (None, Some(_)) => {
                Some((kind, true, Reason::AsDeclared, "Fly can be asked".to_owned()))
            }
            (None, None) => None,
        }
    }

    fn updated(&self, settled: bool, provisioned: bool) -> Claim {
        let kind = ConditionType::Updated;
        let before = condition::get(&self.world.environment.status.conditions, kind);
        let is_told = matches!(self.reason, Reason::Personalizing | Reason::PersonalizeFailed);
        if self.lacks_its_file() && !self.asleep() && !is_told {
            let why = "what the environment adds could not be written yet".to_owned();
            return (kind, false, Reason::PersonalizeFailed, why);
        }
        if self.pending() {
            let why = "a change waits until it sleeps; put it to sleep to make it now".to_owned();
            return (kind, false, Reason::WaitingForSleep, why);
        }
        let (looked, changes) = match self.step {
            Step::Awake { .. } | Step::Asleep { .. } => (true, false),
            // A start or a probe comes after the look at the configuration.
            Step::Act { .. } | Step::Wait { .. } => match self.reason {
                Reason::NotReadyYet
                | Reason::ReadinessTimeout
                | Reason::Unhealthy
                | Reason::MachineFailed => (true, false),
                Reason::Starting
                | Reason::MachineStopped
                | Reason::Idle
                | Reason::Ordered
                | Reason::Held
                | Reason::HostUnreachable
                | Reason::ViewIncomplete
                | Reason::Unknown => (false, false),
                _ => (false, true),
            },
            Step::Bind { .. } | Step::Release => (false, true),
        };
        if looked && (settled || provisioned) {
            let own = match self.bay.machine.as_ref().is_some_and(|it| it.as_stock) {
                true => "; its own metadata and variables follow at its next sleep or change",
                false => "",
            };
            let why = format!("the machine runs what is declared{own}");
            return (kind, true, Reason::AsDeclared, why);
        }
        match before {
            // What was so stays so until it is seen otherwise.
            Some(old) if !changes && (old.status == Truth::True || settled) => {
                (kind, old.status == Truth::True, old.reason, old.message.clone())
            }
            Some(_) | None => (kind, false, self.reason, self.message.clone()),
        }
    }

    fn routed(&self) -> Claim {
        let kind = ConditionType::Routed;
        if !self.has_service() {
            return (
                kind,
                false,
                Reason::NoService,
                "the template has no service to route to".to_owned(),
            );
        }
        match self.bay_ref().and_then(|it| it.machine) {
            Some(machine) => {
                (kind, true, Reason::AsDeclared, format!("requests go to machine {machine}"))
            }
            None => (kind, false, self.reason, self.message.clone()),
        }
    }

    fn ready(&self, settled: bool) -> Claim {
        let kind = ConditionType::Ready;
        if self.deleting() || !settled {
            return (kind, false, self.reason, self.message.clone());
        }
        if self.world.environment.spec.operating_mode() == OperatingMode::Asleep {
            return (kind, false, Reason::Ordered, self.message.clone());
        }
        if !self.seen_serving() {
            let message = "it was changed while it slept and was not seen serving since".to_owned();
            return (kind, false, Reason::NotReadyYet, message);
        }
        (kind, true, self.reason_when_ready(), self.message.clone())
    }

    fn reason_when_ready(&self) -> Reason {
        if self.awake() { Reason::Serving } else { self.reason }
    }

    fn phase(&self) -> Phase {
        if self.deleting() {
            return Phase::Deleting;
        }
        match self.health() {
            Health::Stalled => Phase::Stalled,
            Health::Degraded => Phase::Degraded,
            Health::Fine if self.asleep() => Phase::Asleep,
            Health::Fine if self.awake() => Phase::Ready,
            Health::Fine if self.bay.machine.as_ref().is_some_and(|it| it.id.is_some()) => {
                Phase::Starting
            }
            Health::Fine if self.world.bay.is_some() => Phase::Provisioning,
            Health::Fine => Phase::Pending,
        }
    }

    /// A machine is named, and so routed to, once it was seen serving at this epoch and until it is known to be gone: what
    /// Fly did not show once may serve all the same.
    fn bay_ref(&self) -> Option<BayRef> {
        let Some(bay) = &self.world.bay else {
            // What a bay that is not in the store held must not be forgotten.
            let last = self.world.environment.status.bay.clone();
            return last.map(|it| BayRef { machine: None, ..it });
        };
        let machine = self
            .bay
            .machine
            .as_ref()
            .filter(|it| it.ready.is_some() && !it.destroying)
            .filter(|_| self.reached() && self.health() != Health::Stalled)
            .and_then(|it| it.id.clone());
        Some(BayRef {
            name: bay.metadata.name.clone(),
            app: bay.spec.app.clone(),
            region: self.bay.region.clone(),
            machine,
            epoch: self.bay.epoch,
        })
    }

    fn sleep(&self) -> Option<SleepStatus> {
        match self.step {
            Step::Awake { signal, since, sleeps_at, .. } => {
                Some(SleepStatus { signal: Some(*signal), since: *since, sleeps_at: *sleeps_at })
            }
            Step::Asleep { signal, since } => {
                Some(SleepStatus { signal: Some(*signal), since: *since, sleeps_at: None })
            }
            Step::Act { .. } if self.awake() => self.world.environment.status.sleep.clone(),
            Step::Act { .. } | Step::Wait { .. } | Step::Bind { .. } | Step::Release => None,
        }
    }
}
