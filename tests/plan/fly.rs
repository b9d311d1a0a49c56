//! Fly, as far as a planner can tell: apps, volumes and machines that change with modelled time. Pure values. It must never
//! know what a plan wants.

use hangar::api::Timestamp;
use hangar::plan::{
    action::{Action, Outcome, Refusal, RefusalKind},
    machine::{BAY, EPOCH, INSTANCE, MachineSpec},
    world::{CheckState, MachineState, Mark, SeenApp, SeenMachine, SeenVolume},
};
use jiff::SignedDuration;

/// How long a machine is on its way between two states.
const SETTLE: SignedDuration = SignedDuration::from_secs(1);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Machine {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: MachineState,
    pub(crate) version: String,
    pub(crate) region: String,
    pub(crate) config: MachineSpec,
    pub(crate) check: CheckState,
    pub(crate) host_answers: bool,
    /// The state that comes next, and when.
    pub(crate) next: Option<(Timestamp, MachineState)>,
}

#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a script")]
pub(crate) struct Fly {
    pub(crate) app: Option<SeenApp>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) volumes: Vec<SeenVolume>,
    pub(crate) secrets_version: u64,
    /// Regions without room.
    pub(crate) full: Vec<String>,
    /// Whether programs serve, so that checks pass and readiness commands end with 0.
    pub(crate) serves: bool,
    /// Whether programs end as soon as they are started.
    pub(crate) exits: bool,
    /// Whether machines stay in the state that they pass through next.
    pub(crate) sticks: bool,
    /// Open connections into the machine.
    pub(crate) connections: u32,
    /// Whether apps are deleted as soon as it is ordered.
    pub(crate) deletes: bool,
    /// Volumes that some machine had.
    pub(crate) used: Vec<String>,
    /// Ids that no read shows yet, and until when.
    hidden: Vec<(String, Timestamp)>,
    made: u32,
}

impl Fly {
    pub(crate) fn new() -> Self {
        Self {
            app: None,
            machines: Vec::new(),
            volumes: Vec::new(),
            secrets_version: 0,
            full: Vec::new(),
            serves: true,
            exits: false,
            sticks: false,
            connections: 0,
            deletes: true,
            used: Vec::new(),
            hidden: Vec::new(),
            made: 0,
        }
    }

    fn number(&mut self) -> u32 {
        self.made += 1;
        self.made
    }

    pub(crate) fn machine(&self, id: &str) -> Option<&Machine> {
        self.machines.iter().find(|it| it.id == id)
    }

    /// How many things were made.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// What was made last is not shown before this time.
    pub(crate) fn hide_last(&mut self, until: Timestamp) {
        let number = self.made;
        self.hidden.push((format!("m{number}"), until));
        self.hidden.push((format!("vol_{number}"), until));
    }

    pub(crate) fn shows(&self, id: &str, now: Timestamp) -> bool {
        !self.hidden.iter().any(|(hidden, until)| hidden == id && now < *until)
    }

    /// How the volume is seen.
    pub(crate) fn volume(&self, volume: &SeenVolume) -> SeenVolume {
        let machine = self.machines.iter().find(|it| mounts(it, &volume.id));
        SeenVolume { attached_to: machine.map(|it| it.id.clone()), ..volume.clone() }
    }

    pub(crate) fn machine_mut(&mut self, id: &str) -> Option<&mut Machine> {
        self.machines.iter_mut().find(|it| it.id == id)
    }

    /// Brings everything up to this time.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        let (serves, exits) = (self.serves, self.exits);
        for machine in &mut self.machines {
            while let Some((at, state)) = machine.next.take_if(|(at, _)| *at <= now) {
                machine.state = state;
                if machine.state == MachineState::Started && exits {
                    machine.next = Some((at + SETTLE, MachineState::Stopped));
                }
            }
            let checked = machine.state == MachineState::Started && machine.config.check.is_some();
            machine.check = match (checked, serves) {
                (false, _) => CheckState::None,
                (true, true) => CheckState::Passing,
                (true, false) => CheckState::Failing,
            };
        }
        self.machines.retain(|it| it.state != MachineState::Destroyed);
    }

    fn go(&mut self, id: &str, through: MachineState, to: MachineState, now: Timestamp) {
        let sticks = std::mem::take(&mut self.sticks);
        if let Some(machine) = self.machine_mut(id) {
            machine.state = through;
            machine.next = (!sticks).then(|| (now + SETTLE, to));
        }
    }

    /// What the call does and answers.
    pub(crate) fn apply(&mut self, action: &Action, now: Timestamp) -> Outcome {
        self.settle(now);
        if let Action::CreateApp { network, .. } = action {
            if self.app.is_some() {
                return refused(RefusalKind::NameTaken, "name has already been taken");
            }
            self.app = Some(SeenApp { network: Some(network.clone()), ours: true });
            return Outcome::Done;
        }
        if !self.app.as_ref().is_some_and(|it| it.ours) {
            return refused(RefusalKind::Gone, "could not find app");
        }
        match action {
            Action::WriteSecrets { .. } => {
                self.secrets_version += 1;
                Outcome::SecretsWritten { version: self.secrets_version }
            }
            Action::DeleteApp { .. } => {
                if self.deletes {
                    self.app = None;
                    self.machines.clear();
                    self.volumes.clear();
                }
                Outcome::Done
            }
            Action::CreateVolume { .. }
            | Action::ExtendVolume { .. }
            | Action::DeleteVolume { .. } => self.on_volume(action, now),
            _ => self.on_machine(action, now),
        }
    }

    fn on_volume(&mut self, action: &Action, now: Timestamp) -> Outcome {
        let seen = match action {
            Action::CreateVolume { name, region, size_gib, .. } => {
                if self.full.contains(region) {
                    return refused(RefusalKind::NoCapacity, &format!("no capacity in {region}"));
                }
                let id = format!("vol_{}", self.number());
                let (region, size_gib) = (region.clone(), *size_gib);
                let name = name.clone();
                let seen = SeenVolume {
                    id,
                    region,
                    name,
                    size_gib,
                    attached_to: None,
                    going: false,
                    created_at: Some(now),
                };
                self.volumes.push(seen.clone());
                seen
            }
            Action::ExtendVolume { id, size_gib, .. } => {
                let Some(volume) = self.volumes.iter_mut().find(|it| it.id == *id) else {
                    return refused(RefusalKind::Gone, "volume not found");
                };
                volume.size_gib = *size_gib;
                volume.clone()
            }
            Action::DeleteVolume { id, .. } => {
                if let Some(it) = self.machines.iter().find(|it| mounts(it, id)) {
                    let bound = format!("volume is currently bound to machine: {}", it.id);
                    return refused(RefusalKind::TooEarly, &bound);
                }
                self.volumes.retain(|it| it.id != *id);
                return Outcome::Done;
            }
            _ => return Outcome::Done,
        };
        Outcome::Volume { id: seen.id, region: seen.region, size_gib: seen.size_gib }
    }

    fn create(&mut self, action: &Action, now: Timestamp) -> Outcome {
        let Action::CreateMachine { name, region, spec, .. } = action else { return Outcome::Done };
        if let Some(old) = self.machines.iter().find(|it| it.name == *name) {
            let kind = RefusalKind::MachineNameTaken(Some(old.id.clone()));
            return refused(kind, "unique machine name violation");
        }
        if self.full.contains(region) {
            return refused(
                RefusalKind::NoCapacity,
                &format!("insufficient resources in {region}"),
            );
        }
        if let Some((id, _)) = &spec.volume
            && !self.volumes.iter().any(|it| it.id == *id && !it.going)
        {
            return refused(RefusalKind::Gone, "volume not found");
        }
        if let Some((id, _)) = &spec.volume
            && self.machines.iter().any(|it| mounts(it, id))
        {
            return refused(RefusalKind::Other, "volume already claimed by a machine");
        }
        let number = self.number();
        self.used.extend(spec.volume.as_ref().map(|(id, _)| id.clone()));
        self.machines.push(Machine {
            id: format!("m{number}"),
            name: name.clone(),
            state: MachineState::Created,
            version: format!("v{number}"),
            region: region.clone(),
            config: (**spec).clone(),
            check: CheckState::None,
            host_answers: true,
            next: None,
        });
        let id = format!("m{number}");
        self.go(&id, MachineState::Moving("starting"), MachineState::Started, now);
        self.answer(&id)
    }

    fn answer(&self, id: &str) -> Outcome {
        let Some(machine) = self.machine(id) else { return Outcome::Done };
        Outcome::Machine {
            id: machine.id.clone(),
            version: machine.version.clone(),
            region: machine.region.clone(),
            state: machine.state.word().to_owned(),
        }
    }

    fn on_machine(&mut self, action: &Action, now: Timestamp) -> Outcome {
        let id = match action {
            Action::UpdateMachine { id, .. }
            | Action::StartMachine { id, .. }
            | Action::SleepMachine { id, .. }
            | Action::DestroyMachine { id, .. }
            | Action::WriteMetadata { id, .. }
            | Action::Probe { id, .. }
            | Action::CountConnections { id, .. } => id.clone(),
            _ => return self.create(action, now),
        };
        let Some(machine) = self.machine(&id) else {
            return refused(RefusalKind::Gone, "machine not found");
        };
        let started = machine.state == MachineState::Started;
        match action {
            Action::UpdateMachine { spec, current_version, skip_launch, .. } => {
                if machine.version != *current_version {
                    return refused(RefusalKind::Changed, "machine version does not match");
                }
                if self.full.contains(&machine.region)
                    && spec.memory_mib > machine.config.memory_mib
                {
                    return refused(RefusalKind::NoCapacity, "insufficient memory on the host");
                }
                let version = format!("v{}", self.number());
                if let Some(machine) = self.machine_mut(&id) {
                    machine.config = (**spec).clone();
                    machine.version = version;
                }
                let to = if *skip_launch { MachineState::Stopped } else { MachineState::Started };
                self.go(&id, MachineState::Moving("replacing"), to, now);
                self.answer(&id)
            }
            Action::StartMachine { .. } => {
                if self.full.contains(&machine.region) {
                    return refused(RefusalKind::NoCapacity, "insufficient resources to start");
                }
                if !started {
                    let through = MachineState::Moving("starting");
                    self.go(&id, through, MachineState::Started, now);
                }
                Outcome::Done
            }
            Action::SleepMachine { suspend, .. } => {
                let (through, to) = if *suspend {
                    (MachineState::Moving("suspending"), MachineState::Suspended)
                } else {
                    (MachineState::Moving("stopping"), MachineState::Stopped)
                };
                self.go(&id, through, to, now);
                Outcome::Done
            }
            Action::DestroyMachine { .. } => {
                self.go(&id, MachineState::Destroying, MachineState::Destroyed, now);
                Outcome::Done
            }
            Action::WriteMetadata { key, value, .. } => {
                if let Some(machine) = self.machine_mut(&id) {
                    machine.config.metadata.insert(key.clone(), value.clone());
                }
                Outcome::Done
            }
            Action::Probe { .. } if started => Outcome::Exit(i32::from(!self.serves)),
            Action::CountConnections { .. } if started => Outcome::Connections(self.connections),
            _ => refused(RefusalKind::TooEarly, "the machine is not started"),
        }
    }
}

fn mounts(machine: &Machine, volume: &str) -> bool {
    machine.config.volume.as_ref().is_some_and(|(id, _)| id == volume)
}

/// How the machine is seen; the list tells neither configuration nor checks.
pub(crate) fn seen(machine: &Machine, listed: bool) -> SeenMachine {
    let metadata = &machine.config.metadata;
    let mark = || {
        Some(Mark {
            instance: metadata.get(INSTANCE)?.clone(),
            bay: metadata.get(BAY)?.clone(),
            epoch: metadata.get(EPOCH)?.parse().ok()?,
        })
    };
    SeenMachine {
        id: machine.id.clone(),
        name: machine.name.clone(),
        state: machine.state.clone(),
        version: machine.version.clone(),
        region: machine.region.clone(),
        config: (!listed && machine.host_answers).then(|| machine.config.clone()),
        check: if listed { CheckState::None } else { machine.check },
        launch_error: None,
        started_at: None,
        host_answers: listed || machine.host_answers,
        metadata: (listed || machine.host_answers).then(|| metadata.clone()),
        mark: mark(),
    }
}

pub(crate) fn refused(kind: RefusalKind, message: &str) -> Outcome {
    Outcome::Failed(Refusal { kind, message: message.to_owned() })
}
