//! One environment under the planner's care: modelled Fly, modelled store, modelled time, and the pass that joins them as
//! the reconciler does. It must never decide anything that the reconciler does not.

use std::collections::{BTreeMap, VecDeque};

use hangar::api::{
    Timestamp,
    bay::{Bay, FullRegion},
    environment::Environment,
    meta::Resource as _,
    template::Template,
};
use hangar::plan::{
    self, Plan,
    action::{self, Action, Outcome, RefusalKind},
    bay::{made, volume_name},
    environment::HEALTH_LOOK,
    machine::BAY,
    world::{SecretFact, Seen, SeenVolume, Settings, Sight, World},
};
use jiff::SignedDuration;

use crate::fly::{Fly, Machine, refused, seen};

const TEMPLATE: &str = "
apiVersion: hangar.dev/v1alpha1
kind: Template
metadata: {name: node, namespace: default, uid: t1, generation: 1}
spec:
  machine: {image: 'app@sha256:1', guest: {cpuKind: shared, cpus: 1, memory: 256Mi}}
  services: [{name: web, internalPort: 8080, port: 443}]
  regions: [ams, fra]
  readiness: {http: {path: /healthz, port: 8080}, timeout: 60s}
  sleep: {after: 1m, mode: Suspend}
";

const ENVIRONMENT: &str = "
apiVersion: hangar.dev/v1alpha1
kind: Environment
metadata: {name: alice, namespace: default, uid: e1, generation: 1}
spec: {templateRef: {name: node}}
";

/// What goes wrong with a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fault {
    /// Nothing does.
    Not,
    /// It has its effect, and its answer is this.
    After(RefusalKind),
    /// The same, and no read shows the effect for so long.
    Late(RefusalKind, SignedDuration),
    /// It has none, and its answer is this.
    Instead(RefusalKind),
    /// The controller ends before the call.
    CrashBefore,
    /// The controller ends after the call.
    CrashAfter,
    /// It is answered well and does nothing.
    Nothing,
}

/// What one pass did.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) world: World,
    pub(crate) plan: Plan,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) fault: Option<Fault>,
    /// When to pass again if nothing happens.
    pub(crate) next: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(crate) struct Model {
    pub(crate) now: Timestamp,
    pub(crate) environment: Environment,
    pub(crate) template: Option<Template>,
    pub(crate) secrets: BTreeMap<String, Option<SecretFact>>,
    pub(crate) bay: Option<Bay>,
    /// An orphan that was made for the environment.
    pub(crate) orphan: Option<String>,
    pub(crate) fly: Fly,
    pub(crate) last_request_at: Option<Timestamp>,
    pub(crate) connections: Option<(Timestamp, u32)>,
    pub(crate) no_destroying: Option<String>,
    pub(crate) unheard_since: Option<Timestamp>,
    /// Regions that had no room for others.
    pub(crate) full_regions: Vec<FullRegion>,
    /// When the machine was last read by itself.
    read_at: Option<Timestamp>,
    /// Why everything is held back, and whether that goes for what is new too.
    pub(crate) hold: Option<String>,
    pub(crate) hold_creates: bool,
    /// When the list was last complete; `None` while it is at every look.
    pub(crate) complete_at: Option<Timestamp>,
    /// What cannot be read: app, volume, machine.
    pub(crate) unclear: Vec<String>,
    /// Faults of the next calls of a name; `*` is any.
    pub(crate) faults: VecDeque<(String, Fault)>,
    pub(crate) released: bool,
    pub(crate) restored_at: Option<Timestamp>,
    exported: Option<Box<Self>>,
    bays: u32,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            environment: serde_yaml::from_str(ENVIRONMENT).unwrap(),
            template: Some(serde_yaml::from_str(TEMPLATE).unwrap()),
            secrets: BTreeMap::new(),
            bay: None,
            orphan: None,
            fly: Fly::new(),
            last_request_at: None,
            connections: None,
            no_destroying: None,
            unheard_since: None,
            full_regions: Vec::new(),
            read_at: None,
            hold: None,
            hold_creates: false,
            complete_at: None,
            unclear: Vec::new(),
            faults: VecDeque::new(),
            released: false,
            restored_at: None,
            exported: None,
            bays: 0,
        }
    }

    pub(crate) fn world(&mut self) -> World {
        self.fly.settle(self.now);
        let seen = self.seen();
        if matches!(&seen.machine, Sight::Present(it) if it.config.is_some()) {
            self.read_at = Some(self.now);
        }
        World {
            settings: Settings {
                instance: "i1".to_owned(),
                scheme: "https".to_owned(),
                domain: "dev.example.com".to_owned(),
                port: None,
                restored_at: self.restored_at,
            },
            environment: self.environment.clone(),
            template: self.template.clone(),
            revision: None,
            secrets: self.secrets.clone(),
            bay: self.bay.clone(),
            vacancy: None,
            empty_pool: None,
            no_bay: None,
            orphan: self.orphan.clone(),
            seen,
            last_request_at: self.last_request_at,
            connections: self.connections,
            fresh_name: format!("fresh{}", self.bays + 1),
            clock_was_set: None,
            no_destroying: self.no_destroying.clone().or_else(|| self.hold.clone()),
            full_regions: self.full_regions.clone(),
            unheard_since: self.unheard_since,
            no_replacing: self.hold.clone(),
            no_creating: self.hold.clone().filter(|_| self.hold_creates),
        }
    }

    /// Keeps what the store holds now.
    pub(crate) fn export(&mut self) {
        self.exported = Some(Box::new(self.clone()));
    }

    /// Makes the store what it was at the export, and nothing be destroyed.
    pub(crate) fn restore(&mut self) {
        let Some(old) = self.exported.take() else { return };
        (self.environment, self.bay) = (old.environment, old.bay);
        (self.template, self.secrets, self.released) = (old.template, old.secrets, false);
        self.environment.metadata.generation = hangar::api::restored::floor(self.now);
        (self.connections, self.last_request_at) = (None, None);
        self.restored_at = Some(self.now);
        self.no_destroying = Some("the store was restored".to_owned());
        self.faults.clear();
    }

    fn look<T>(&self, what: &str, found: Option<T>) -> Sight<T> {
        if self.unclear.iter().any(|it| it == what) {
            return Sight::Unclear("503 from Fly".to_owned());
        }
        found.map_or(Sight::Absent, Sight::Present)
    }

    /// Looks at what the reconciler looks at.
    fn seen(&self) -> Seen {
        let complete_list_at = Some(self.complete_at.unwrap_or(self.now));
        let mut seen = Seen { complete_list_at, ..Seen::default() };
        let Some(bay) = &self.bay else { return seen };
        let status = &bay.status;
        let app = || self.look("app", self.fly.app.clone());
        if self.environment.is_deleting() {
            seen.app = app();
            if seen.app == Sight::Absent {
                seen.others = self.machines().map(|it| self::seen(it, true)).collect();
                seen.other_volumes = self.volumes().collect();
            }
            return seen;
        }
        if status.app_contested || (!status.app_created && status.failure.is_some()) {
            seen.app = app();
        }
        if !status.app_created {
            return seen;
        }
        seen.machine = self.machine_sight(bay);
        let asked = status.volume.is_some() || status.volume_intended_at.is_some();
        if bay.spec.volume && (asked || self.is_behind(bay)) {
            let found = self.volumes().find(|it| match &status.volume {
                Some(volume) => it.id == volume.id,
                None => it.name == volume_name(bay),
            });
            seen.volume = self.look("volume", found);
        }
        if let Some(volume) = &status.volume {
            let own = |it: &SeenVolume| it.name == volume_name(bay) && it.id != volume.id;
            seen.other_volumes = self.volumes().filter(own).collect();
        }
        seen.moved_volume = self.moved(bay);
        seen.others = self
            .machines()
            .filter(|it| !matches!(&seen.machine, Sight::Present(own) if own.id == it.id))
            .map(|it| self::seen(it, true))
            .collect();
        if seen.machine == Sight::Absent || seen.volume == Sight::Absent || status.missing.is_some()
        {
            seen.app = app();
        }
        seen
    }

    /// The volume that the machine mounts, where the recorded one is gone.
    fn moved(&self, bay: &Bay) -> Option<SeenVolume> {
        let record = bay.status.volume.as_ref()?;
        let id = bay.status.machine.as_ref()?.id.as_ref()?;
        let machine = self.machines().find(|it| it.id == *id)?;
        let (mounted, _) = machine.config.volume.as_ref()?;
        let gone = !self.volumes().any(|it| it.id == record.id && !it.going);
        self.volumes().find(|it| gone && it.id == *mounted && *mounted != record.id)
    }

    /// Machines that reads show.
    fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.fly.machines.iter().filter(|it| self.fly.shows(&it.id, self.now))
    }

    /// Volumes that reads show.
    fn volumes(&self) -> impl Iterator<Item = SeenVolume> {
        let shown = self.fly.volumes.iter().filter(|it| self.fly.shows(&it.id, self.now));
        shown.map(|it| self.fly.volume(it))
    }

    fn machine_sight(&self, bay: &Bay) -> Sight<hangar::plan::world::SeenMachine> {
        let Some(record) = &bay.status.machine else {
            if !self.is_behind(bay) {
                return Sight::Unasked;
            }
            let found = self.machines().map(|it| seen(it, false));
            let epoch = |it: &hangar::plan::world::SeenMachine| it.mark.as_ref().map(|it| it.epoch);
            let found = found.filter(|it| epoch(it) >= Some(bay.status.epoch)).max_by_key(epoch);
            return self.look("machine", found);
        };
        let Some(id) = &record.id else {
            if record.intended_at.is_none() {
                return Sight::Unasked;
            }
            let marked = |it: &Machine| it.config.metadata.get(BAY) == Some(&bay.metadata.uid);
            let found = self.machines().find(|it| it.name == record.name && marked(it));
            return self.look("machine", found.map(|it| seen(it, false)));
        };
        let found = self.machines().find(|it| it.id == *id);
        let known = record.unhealthy_since.is_none()
            && record.unreachable_since.is_none()
            && self.read_at.is_some_and(|at| self.now < at + HEALTH_LOOK)
            && self.moved(bay).is_none();
        let settled = found.is_some_and(|machine| {
            let ready = record.ready.as_ref().is_some_and(|it| it.version == machine.version);
            record.version.as_ref() == Some(&machine.version)
                && (known || machine.state.word() != "started")
                && machine.host_answers
                && (machine.state.word() != "started" || ready)
        });
        self.look("machine", found.map(|it| seen(it, settled)))
    }

    fn is_behind(&self, bay: &Bay) -> bool {
        let made_at = bay.metadata.creation_timestamp;
        self.restored_at.is_some_and(|at| made_at.is_none_or(|made| made <= at))
    }

    /// One pass.
    pub(crate) fn pass(&mut self) -> Passed {
        let world = self.world();
        let plan = plan::plan(&world, self.now);
        let mut passed =
            Passed { world, next: plan.wake_at, plan: plan.clone(), outcome: None, fault: None };
        self.environment.status = plan.status;
        if plan.bind.is_some() {
            self.bays += 1;
            if self.bay.is_some() {
                // Nobody has the next name.
                self.fly.app = None;
            }
            let mut bay = made(&passed.world);
            bay.metadata.uid = format!("b{}", self.bays);
            self.bay = Some(bay);
            return passed;
        }
        if plan.release {
            self.bay = None;
            self.released = true;
            return passed;
        }
        if let (Some(bay), Some(status)) = (&mut self.bay, plan.bay) {
            bay.status = status;
        }
        if let Some(action) = &plan.action {
            self.act(action, &mut passed);
        }
        passed
    }

    fn fault(&mut self, action: &Action) -> Option<Fault> {
        let at = self.faults.iter().position(|(name, _)| name == action.name() || name == "*")?;
        self.faults.remove(at).map(|(_, fault)| fault)
    }

    fn act(&mut self, action: &Action, passed: &mut Passed) {
        let fault = self.fault(action);
        passed.fault.clone_from(&fault);
        let outcome = match fault {
            None | Some(Fault::Not) => self.fly.apply(action, self.now),
            Some(Fault::After(kind)) => {
                let _ = self.fly.apply(action, self.now);
                refused(kind, "injected")
            }
            Some(Fault::Late(kind, span)) => {
                let made = self.fly.made();
                let _ = self.fly.apply(action, self.now);
                if self.fly.made() > made {
                    self.fly.hide_last(self.now + span);
                }
                refused(kind, "injected")
            }
            Some(Fault::Instead(kind)) => refused(kind, "injected"),
            Some(Fault::Nothing) => match action {
                Action::StartMachine { .. }
                | Action::SleepMachine { .. }
                | Action::DestroyMachine { .. }
                | Action::DeleteApp { .. } => Outcome::Done,
                _ => self.fly.apply(action, self.now),
            },
            Some(Fault::CrashBefore) => return,
            Some(Fault::CrashAfter) => {
                let _ = self.fly.apply(action, self.now);
                return;
            }
        };
        if let Outcome::Connections(open) = outcome {
            self.connections = Some((self.now, open));
        }
        let wait = match &outcome {
            Outcome::Failed(refusal) => match (action, &refusal.kind) {
                (_, RefusalKind::TooEarly | RefusalKind::Changed) => {
                    SignedDuration::from_millis(500)
                }
                (
                    Action::CreateVolume { .. } | Action::CreateMachine { .. },
                    RefusalKind::NoCapacity | RefusalKind::MachineNameTaken(_),
                ) => SignedDuration::ZERO,
                _ => SignedDuration::from_secs(1),
            },
            _ => SignedDuration::ZERO,
        };
        passed.next = Some(self.now + wait);
        if let Some(bay) = &mut self.bay {
            action::record(&mut bay.status, action, &outcome, self.now);
        }
        passed.outcome = Some(outcome);
    }
}
