//! What an environment needs next: binding, updates, starting, being ready, sleep, and its end. It must never decide how a
//! bay's parts are made.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BayStatus, MachineStatus, OrderKind, Personalized, ReadySeen},
    environment::{OperatingMode, Reason, SleepSignal},
    pod,
    rollout::{EnvironmentRevision, RevisionRef},
    template::{SleepDecider, SleepMode, Template, UpdateStrategy},
};
use crate::plan::{
    Binding, Health, Step,
    action::Action,
    bay,
    machine::{self, MachineSpec},
    sleep::{self, Verdict},
    transit,
    world::{MachineState, SeenMachine, Sight, World},
};

pub(super) mod personalize;
mod ready;

/// How often a machine that is not ready yet is looked at.
const LOOK: SignedDuration = SignedDuration::from_secs(1);
/// The same, once it is late.
const LATE_LOOK: SignedDuration = SignedDuration::from_secs(10);
/// How long a machine that ended before it was ever ready is left before it is started again.
const START_AGAIN: SignedDuration = SignedDuration::from_secs(15);
/// How long an order to start or to sleep may take to be seen before it is given again.
const ORDER_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// How long the check of what once served may fail before it is said that it does not serve.
const UNHEALTHY_MAX: SignedDuration = SignedDuration::from_secs(30);
/// How often the check of what serves is looked at, though nothing tells that it changed.
pub const HEALTH_LOOK: SignedDuration = SignedDuration::from_mins(5);
/// How long after a start a machine that could not even be launched is started again.
const LAUNCH_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// What is said of a machine that ended, besides why.
pub(crate) const STARTED_AGAIN: &str = "; it is started again";

pub(crate) fn step(world: &World, status: &mut BayStatus, now: Timestamp) -> Step {
    let Some(template) = &world.template else {
        let name = &world.environment.spec.template_ref.name;
        return lacking(status, Reason::TemplateMissing, format!("template {name} does not exist"));
    };
    if let Some((name, _)) = world.secrets.iter().find(|(_, fact)| fact.is_none()) {
        return lacking(status, Reason::SecretMissing, format!("secret {name} does not exist"));
    }
    let Some(bay) = &world.bay else { return bind(world, now) };
    if let Some(step) = bay::provision(world, bay, status, template, now) {
        return step;
    }
    let Some(record) = status.machine.clone() else {
        return waiting(
            Reason::CreatingMachine,
            "the machine is made".to_owned(),
            Some(now + LOOK),
        );
    };
    let seen = match &world.seen.machine {
        Sight::Present(seen) => seen,
        Sight::Unclear(why) => {
            return Step::Wait {
                reason: Reason::ViewIncomplete,
                why: format!("the machine cannot be read: {why}"),
                until: Some(now + LATE_LOOK),
                health: Health::Degraded,
            };
        }
        Sight::Absent | Sight::Unasked => {
            let why = "Fly does not show the machine yet".to_owned();
            return waiting(Reason::ViewIncomplete, why, Some(now + LOOK));
        }
    };
    if let Some(step) = transit::transit(world, bay, status, seen, now) {
        return step;
    }
    if pod::ordered_reset(&world.environment).is_some_and(|(it, _)| it == seen.id) {
        return transit::reset(bay, seen);
    }
    let desired = machine::desired(&world.environment, template, bay, status, status.epoch);
    let here = Here { world, bay, template, record: &record, seen, desired, now };
    let mode = world.environment.spec.operating_mode();
    if mode == OperatingMode::Asleep && seen.state == MachineState::Started {
        // Sleep first: a change costs no restart then.
        return here.sleep_by_order();
    }
    let fails_again =
        |it: &BayStatus| it.personalized.as_ref().is_some_and(Personalized::fails_again);
    let update = here.update(status);
    let again = match here.personalize(status) {
        Some(step) if !fails_again(status) => return step,
        // A change of its machine may mend that, and it need not keep it awake.
        step => step,
    };
    let pending = match update {
        Update::None => match here.metadata() {
            Some(step) => return step,
            None => false,
        },
        Update::Later => false,
        Update::Pending => true,
        Update::Step(step) => return step,
    };
    let step = match mode {
        OperatingMode::Asleep => here.asleep(SleepSignal::Ordered),
        OperatingMode::Running | OperatingMode::Auto => here.awake_or_asleep(status, pending),
    };
    again.filter(|_| !goes_before(&step)).unwrap_or(step)
}

/// What it is made from is not there. A machine that it has already goes on as it is, and nobody looks after it.
fn lacking(status: &BayStatus, reason: Reason, why: String) -> Step {
    let health = if status.machine.is_some() { Health::Degraded } else { Health::Fine };
    Step::Wait { reason, why, until: None, health }
}

/// A machine was found that the store does not know any more. It is looked at before anything is done about it.
pub(crate) fn adopted(id: &str, now: Timestamp) -> Step {
    let why = format!("machine {id} is of a later epoch than is recorded and is taken over");
    waiting(Reason::ViewIncomplete, why, Some(now + LOOK))
}

/// A first bay is made; another one never, since the data is in the first.
fn bind(world: &World, now: Timestamp) -> Step {
    let adopt = |orphan: &str| {
        let name = &world.environment.metadata.name;
        format!(
            "`hangar orphans --adopt {orphan} --to env/{name}` gives it back, `hangar orphans --delete {orphan}` destroys it"
        )
    };
    let why = match (&world.environment.status.bay, &world.orphan) {
        (None, None) => return first_bay(world, now),
        (None, Some(orphan)) => {
            format!("something at Fly was made for an environment of this name: {}", adopt(orphan))
        }
        (Some(lost), Some(orphan)) => {
            format!(
                "{} is not in the store, and its app is an orphan: {}",
                lost.name,
                adopt(orphan)
            )
        }
        (Some(lost), None) => {
            format!("{} is not in the store: what it held at Fly is in app {}", lost.name, lost.app)
        }
    };
    let until = Some(now + LATE_LOOK);
    Step::Wait { reason: Reason::BayPending, why, until, health: Health::Stalled }
}

/// One of a pool's if there is one ready, or else one of its own making.
fn first_bay(world: &World, now: Timestamp) -> Step {
    if let Some(vacancy) = &world.vacancy {
        let why = vacancy.claimed_by(world.made_from().as_deref());
        let to = Binding::Claim(vacancy.clone());
        return Step::Bind { to, reason: Reason::BayPending, why };
    }
    if let Some(exceeded) = &world.no_bay {
        return Step::Wait {
            reason: Reason::QuotaExceeded,
            why: format!("no bay can be made for it: {exceeded}"),
            until: Some(now + LATE_LOOK),
            health: Health::Degraded,
        };
    }
    let (reason, why) = match (&world.empty_pool, world.missed_pool()) {
        (_, Some((_, pool))) => {
            (Reason::PoolEmpty, format!("pool {pool} has no bay ready, so one is made"))
        }
        (Some((_, pool)), None) => {
            let why = format!(
                "a bay is made: what it adds to its template could not reach one of pool {pool}, which runs already, since the template has no `personalize`"
            );
            (Reason::PoolUnfit, why)
        }
        (None, None) => {
            let given_up = world.environment.status.bays_given_up > 0;
            let why = if given_up {
                "a bay of its own is made, in place of the one that was given up"
            } else {
                "a bay is made"
            };
            (Reason::BayPending, why.to_owned())
        }
    };
    Step::Bind { to: Binding::New, reason, why }
}

fn waiting(reason: Reason, why: String, until: Option<Timestamp>) -> Step {
    Step::Wait { reason, why, until, health: Health::Fine }
}

/// Whether this is done before what could not be written is tried again: it is on its way to sleep, or is looked whether it serves.
fn goes_before(step: &Step) -> bool {
    match step {
        Step::Act { action, .. } => matches!(
            action,
            Action::CountConnections { .. } | Action::SleepMachine { .. } | Action::Probe { .. }
        ),
        Step::Wait { reason, .. } => *reason == Reason::Idle,
        _ => false,
    }
}

/// An environment whose machine is settled in some state.
struct Here<'a> {
    world: &'a World,
    bay: &'a Bay,
    template: &'a Template,
    record: &'a MachineStatus,
    seen: &'a SeenMachine,
    desired: MachineSpec,
    now: Timestamp,
}

enum Update {
    None,
    /// Only what is its own differs, which its file has: it follows at the next sleep, and nothing of what is declared is missing until then.
    Later,
    /// It waits for the next sleep.
    Pending,
    Step(Step),
}

impl Here<'_> {
    /// Whether the configuration is as declared, and what to do when it is not.
    fn update(&self, status: &mut BayStatus) -> Update {
        let digest = self.desired.digest();
        if self.seen.config.as_ref() == Some(&self.desired) {
            if let Some(machine) = &mut status.machine {
                machine.as_stock &= self.bay.spec.environment_ref.is_none();
                machine.version = Some(self.seen.version.clone());
                machine.config = Some(digest);
                machine.generation = self.world.environment.metadata.generation;
            }
            status.template = self.revision().or_else(|| status.template.take());
            return Update::None;
        }
        let foreign = self.record.version.as_ref() != Some(&self.seen.version);
        if foreign {
            let Some(config) = &self.seen.config else {
                let why =
                    "the machine has a version that hangar did not write; it is read".to_owned();
                return Update::Step(waiting(Reason::MachineChanged, why, Some(self.now + LOOK)));
            };
            let what = self.difference(config);
            let why = format!(
                "the machine was changed by something other than hangar ({what}) and is changed back"
            );
            return Update::Step(self.replace_config(Reason::MachineChanged, why, true));
        }
        if self.record.config.as_ref() == Some(&digest) {
            if let Some(machine) = &mut status.machine {
                machine.generation = self.world.environment.metadata.generation;
            }
            status.template = self.revision().or_else(|| status.template.take());
            return Update::None;
        }
        let runs = self.seen.state == MachineState::Started;
        match self.differs_in_person_only() {
            true if runs => return Update::Later,
            false if self.must_wait() => return Update::Pending,
            true | false => {}
        }
        let why = "the machine's configuration is not as declared".to_owned();
        Update::Step(self.replace_config(Reason::Updating, why, false))
    }

    /// What hangar finds its machines by, where something else changed it.
    fn metadata(&self) -> Option<Step> {
        let has = self.seen.metadata.as_ref()?;
        let (key, value) =
            self.desired.metadata.iter().find(|(key, it)| has.get(*key) != Some(it))?;
        Some(Step::Act {
            action: Action::WriteMetadata {
                app: self.bay.spec.app.clone(),
                id: self.seen.id.clone(),
                key: key.clone(),
                value: value.clone(),
            },
            reason: Reason::MachineChanged,
            why: format!(
                "the machine's metadata {key} was changed by something other than hangar and is changed back"
            ),
            fault: true,
        })
    }

    /// The revision that it is kept at.
    fn revision(&self) -> Option<RevisionRef> {
        self.world.revision.as_ref().map(EnvironmentRevision::to_ref)
    }

    /// Whether a restart must wait: there will be a sleep, or a turn, and someone may be using it until then.
    fn must_wait(&self) -> bool {
        let ready = self.record.ready.as_ref().is_some_and(|it| it.version == self.seen.version);
        let serves = self.seen.state == MachineState::Started && ready;
        // The machine has what an older revision says: whose turn it is, is not decided here.
        if let Some(revision) = self.world.other_revision(self.bay.status.template.as_ref()) {
            return serves && !revision.at_once;
        }
        let strategy = self.template.spec.update.as_ref().map(|it| it.strategy);
        strategy != Some(UpdateStrategy::Rolling)
            && serves
            && self.world.environment.spec.operating_mode() == OperatingMode::Auto
            && self.template.spec.sleep.is_some()
    }

    fn difference(&self, config: &MachineSpec) -> String {
        let (is, should) = (serde_json::to_value(config), serde_json::to_value(&self.desired));
        let (Ok(serde_json::Value::Object(is)), Ok(serde_json::Value::Object(should))) =
            (is, should)
        else {
            return String::new();
        };
        let names: Vec<_> = should
            .iter()
            .filter(|(name, value)| is.get(*name) != Some(value))
            .map(|(name, _)| name.as_str())
            .collect();
        names.join(", ")
    }

    fn replace_config(&self, reason: Reason, why: String, fault: bool) -> Step {
        let awake = match self.world.environment.spec.operating_mode() {
            OperatingMode::Running => true,
            OperatingMode::Asleep => false,
            OperatingMode::Auto => !self.sleeps(),
        };
        let action = Action::UpdateMachine {
            app: self.bay.spec.app.clone(),
            id: self.seen.id.clone(),
            spec: Box::new(self.desired.clone()),
            current_version: self.seen.version.clone(),
            secrets_version: self.bay.status.secrets.as_ref().map_or(0, |it| it.version),
            skip_launch: !awake,
            generation: self.world.environment.metadata.generation,
            epoch: self.bay.status.epoch,
        };
        Step::Act { action, reason, why, fault }
    }

    /// Whether it was put to sleep, or stopped after it had served; also where what it was changed to in its sleep cannot be launched.
    fn sleeps(&self) -> bool {
        let slept = self.record.order.as_ref().is_some_and(|it| it.kind == OrderKind::Sleep);
        match self.seen.state {
            MachineState::Stopped | MachineState::Suspended => slept || self.served(),
            MachineState::Failed => slept,
            _ => false,
        }
    }

    /// Whether the version that it has was seen serving.
    fn served(&self) -> bool {
        let ready = self.record.ready.as_ref().map(|it| &it.version);
        ready.is_some() && ready == self.record.version.as_ref()
    }

    fn start(&self, reason: Reason, why: &str) -> Step {
        let (app, id) = (self.bay.spec.app.clone(), self.seen.id.clone());
        let action = Action::StartMachine { app, id };
        Step::Act { action, reason, why: why.to_owned(), fault: reason == Reason::MachineStopped }
    }

    fn sleep(&self, signal: SleepSignal, reason: Reason, why: &str) -> Step {
        let mode = self.template.spec.sleep.as_ref().and_then(|it| it.mode);
        let small = self.desired.memory_mib <= 2048;
        let action = Action::SleepMachine {
            app: self.bay.spec.app.clone(),
            id: self.seen.id.clone(),
            suspend: small && mode.unwrap_or(SleepMode::Suspend) == SleepMode::Suspend,
            signal,
        };
        Step::Act { action, reason, why: why.to_owned(), fault: false }
    }

    fn asleep(&self, signal: SleepSignal) -> Step {
        Step::Asleep { signal, since: self.record.state_since }
    }

    fn sleep_by_order(&self) -> Step {
        let why = "the environment is to be asleep";
        self.ordered(OrderKind::Sleep)
            .unwrap_or_else(|| self.sleep(SleepSignal::Ordered, Reason::Ordered, why))
    }

    /// An order of this kind that was given a moment ago and cannot be seen yet: it is not given again at once.
    fn ordered(&self, kind: OrderKind) -> Option<Step> {
        let order = self.record.order.as_ref().filter(|it| it.kind == kind)?;
        let followed = self.record.state_since.is_some_and(|it| it > order.at);
        let (reason, why) = match kind {
            OrderKind::Start => (Reason::Starting, "the machine was ordered to start"),
            OrderKind::Sleep => (Reason::Idle, "the machine was ordered to sleep"),
            OrderKind::Destroy => (Reason::MachineLost, "the machine was ordered to go"),
        };
        let again = order.at + ORDER_AGAIN;
        (!followed && self.now < again).then(|| waiting(reason, why.to_owned(), Some(again)))
    }

    fn awake_or_asleep(&self, status: &mut BayStatus, pending: bool) -> Step {
        match self.seen.state {
            MachineState::Started => self.started(status, pending),
            MachineState::Failed => self.failed(),
            _ => self.stopped(),
        }
    }

    fn failed(&self) -> Step {
        let why = match &self.seen.launch_error {
            Some(error) => format!("the machine could not be launched: {error}"),
            None => "the machine could not be launched: check the template's image and command"
                .to_owned(),
        };
        let started_at = self.record.order.as_ref().map(|it| it.at).max(self.record.state_since);
        let again = started_at.unwrap_or(self.now) + LAUNCH_AGAIN;
        if self.now >= again {
            return self.start(Reason::MachineFailed, &why);
        }
        self.ended(&why, again)
    }

    fn stopped(&self) -> Step {
        if let Some(step) = self.ordered(OrderKind::Start) {
            return step;
        }
        let running = self.world.environment.spec.operating_mode() == OperatingMode::Running;
        let order = self.record.order.as_ref();
        if let Some(order) = order.filter(|it| it.kind == OrderKind::Sleep) {
            if running {
                return self.start(Reason::Starting, "the environment is to be running");
            }
            if self.record.ready.is_none() {
                // It has no address yet, so no request could wake it.
                return self.start(Reason::Starting, "it was put to sleep before it ever served");
            }
            return self.asleep(match order.signal {
                // The order does not stand any more; it sleeps on until a request comes.
                Some(SleepSignal::Ordered) | None => SleepSignal::Idle,
                Some(other) => other,
            });
        }
        if self.served() {
            if !running {
                let stopped_at = self.record.state_since.unwrap_or(self.now);
                if self.record.unhealthy_since.is_some() && self.now < stopped_at + UNHEALTHY_MAX {
                    // Fly starts a program that ended again, or not; until that shows it is not called asleep.
                    return self.ended("the program ended by itself", self.now + LATE_LOOK);
                }
                return self.asleep(SleepSignal::External);
            }
            let again = order.map_or(self.now, |it| it.at + START_AGAIN);
            if self.now < again {
                return self.ended("the machine ended soon after its start", again);
            }
            let why = "the machine was stopped by something other than hangar and is started";
            return self.start(Reason::MachineStopped, why);
        }
        let again = self.record.state_since.unwrap_or(self.now) + START_AGAIN;
        if self.now >= again {
            return self.start(Reason::MachineFailed, "the machine ended before it was ever ready");
        }
        self.ended("the machine ended before it was ever ready", again)
    }

    fn ended(&self, why: &str, again: Timestamp) -> Step {
        Step::Wait {
            reason: Reason::MachineFailed,
            why: format!("{why}{STARTED_AGAIN}"),
            until: Some(again),
            health: Health::Degraded,
        }
    }

    fn started(&self, status: &mut BayStatus, pending: bool) -> Step {
        let version = &self.seen.version;
        let ready = status.machine.as_ref().and_then(|it| it.ready.as_ref());
        if ready.is_none_or(|it| it.version != *version) {
            if self.template.spec.readiness.is_some() {
                return self.not_ready();
            }
            if let Some(machine) = &mut status.machine {
                machine.ready = Some(ReadySeen { version: version.clone(), at: self.now });
            }
        }
        if let Some(step) = self.unhealthy() {
            return step;
        }
        let look_at = self.look_at();
        let awake = |signal| Step::Awake {
            signal,
            since: self.record.state_since,
            sleeps_at: None,
            pending,
            look_at,
        };
        if self.world.environment.spec.operating_mode() == OperatingMode::Running {
            return awake(SleepSignal::AlwaysRunning);
        }
        let Some(rule) = &self.template.spec.sleep else {
            return awake(SleepSignal::NoSleepRule);
        };
        if rule.decided_by == Some(SleepDecider::FlyProxy) {
            return awake(SleepSignal::FlyProxy);
        }
        match sleep::decide(self.world, self.record, rule, self.now) {
            Verdict::Held { signal, since, sleeps_at } => {
                let (since, sleeps_at) = (Some(since), Some(sleeps_at));
                Step::Awake { signal, since, sleeps_at, pending, look_at }
            }
            Verdict::Count => Step::Act {
                action: Action::CountConnections {
                    app: self.bay.spec.app.clone(),
                    id: self.seen.id.clone(),
                    ports: self.desired.services.iter().map(|it| it.internal_port).collect(),
                },
                reason: Reason::Idle,
                why: "all else is quiet; open connections are counted".to_owned(),
                fault: false,
            },
            Verdict::Sleep => {
                if let Some(step) = self.ordered(OrderKind::Sleep) {
                    return step;
                }
                let why = format!("nothing happened for {}", rule.after.as_str());
                self.sleep(SleepSignal::Idle, Reason::Idle, &why)
            }
        }
    }
}
