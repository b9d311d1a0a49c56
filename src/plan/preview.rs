//! The whole course of an environment, computed without doing any of it: plan, imagine the call's success, record it, plan
//! again. What `hangar plan` shows. It must never be used to decide what is really done.

use crate::api::{
    Timestamp,
    bay::Bay,
    environment::{EnvironmentStatus, Reason},
};
use crate::plan::{
    Binding, Level, Note,
    action::{self, Action, Outcome},
    bay,
    machine::MachineSpec,
    plan,
    rollout::at_revision,
    stock,
    world::{CheckState, MachineState, Mark, Seen, SeenApp, SeenMachine, SeenVolume, Sight, World},
};

/// More passes than any course takes; a course that is longer is shown as far as this.
const PASSES_MAX: usize = 50;

/// One call of the course.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// The call.
    pub action: Action,
    /// Why it is made.
    pub note: Note,
}

/// What would be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Course {
    /// The bay that it is bound to, where it has none, and why.
    pub bound: Option<(Binding, Note)>,
    /// The calls, in order.
    pub stages: Vec<Stage>,
    /// The status at the end.
    pub status: EnvironmentStatus,
    /// Why it ends there.
    pub note: Note,
}

/// The calls that would be made, and why it ends where it ends. `vacant` is the bay that is the world's vacancy, and what Fly shows
/// of it.
#[must_use]
pub fn course(mut world: World, mut vacant: Option<(Bay, Seen)>, now: Timestamp) -> Course {
    let mut stages = Vec::new();
    let mut bound = None;
    let mut now = now;
    let mut note = Note { reason: Reason::Unknown, message: String::new(), level: Level::Quiet };
    for _ in 0..PASSES_MAX {
        let plan = plan(&world, now);
        note = plan.note;
        world.environment.status = plan.status;
        if let (Some(bay), Some(status)) = (&mut world.bay, plan.bay) {
            bay.status = status;
        }
        if let Some(binding) = plan.bind {
            match (&binding, vacant.take()) {
                (Binding::New, _) => world.bay = Some(bay::made(&world)),
                (Binding::Claim(_), Some(it)) => claim(&mut world, it, now),
                (Binding::Claim(_) | Binding::GiveUp, _) => break,
            }
            bound = Some((binding, note.clone()));
        } else if let Some(action) = plan.action {
            imagine(&mut world, &action, now);
            stages.push(Stage { action, note: note.clone() });
        } else if plan.release || is_settled(&world, plan.wake_at) {
            break;
        } else if let Some(wake_at) = plan.wake_at {
            now = wake_at.max(now);
            world.seen.complete_list_at = Some(now);
        }
    }
    Course { bound, stages, status: world.environment.status, note }
}

/// The world after a bay of a pool was claimed.
fn claim(world: &mut World, (mut bay, seen): (Bay, Seen), now: Timestamp) {
    stock::claim(&mut bay, &mut world.environment, world.revision.as_ref(), now);
    if let (Some(template), Some(stock)) = (world.template.take(), &bay.spec.stock) {
        world.template = Some(at_revision(template, &stock.made_from));
    }
    (world.vacancy, world.bay, world.seen) = (None, Some(bay), seen);
}

fn is_settled(world: &World, wake_at: Option<Timestamp>) -> bool {
    use crate::api::environment::Phase;
    wake_at.is_none()
        || matches!(
            world.environment.status.phase,
            Phase::Ready | Phase::Asleep | Phase::Stalled | Phase::Degraded
        )
}

/// The world after a call that did what it should.
fn imagine(world: &mut World, action: &Action, now: Timestamp) {
    let outcome = match action {
        Action::WriteSecrets { .. } => Outcome::SecretsWritten {
            version: world
                .bay
                .as_ref()
                .and_then(|it| it.status.secrets.as_ref())
                .map_or(1, |it| it.version + 1),
        },
        Action::CreateVolume { region, size_gib, .. } => {
            Outcome::Volume { id: "(new)".to_owned(), region: region.clone(), size_gib: *size_gib }
        }
        Action::ExtendVolume { id, size_gib, .. } => {
            Outcome::Volume { id: id.clone(), region: String::new(), size_gib: *size_gib }
        }
        Action::CreateMachine { region, spec, epoch, name, .. } => {
            see(world, "(new)", name, MachineState::Started, (spec, *epoch));
            Outcome::Machine {
                id: "(new)".to_owned(),
                version: "(new)".to_owned(),
                region: region.clone(),
                state: "started".to_owned(),
            }
        }
        Action::UpdateMachine { id, spec, skip_launch, epoch, .. } => {
            let state = if *skip_launch { MachineState::Stopped } else { MachineState::Started };
            let word = state.word().to_owned();
            see(world, id, "", state, (spec, *epoch));
            let (version, region) = ("(new)".to_owned(), String::new());
            Outcome::Machine { id: id.clone(), version, region, state: word }
        }
        Action::StartMachine { .. }
        | Action::SleepMachine { .. }
        | Action::WriteMetadata { .. }
        | Action::DestroyMachine { .. } => {
            move_machine(world, action);
            Outcome::Done
        }
        Action::Probe { .. } | Action::Personalize { .. } => Outcome::Exit(0),
        Action::CountConnections { .. } => {
            world.connections = Some((now, 0));
            Outcome::Connections(0)
        }
        Action::DeleteApp { .. } => {
            world.seen.app = Sight::Absent;
            Outcome::Done
        }
        Action::DeleteVolume { .. } => {
            world.seen.volume = Sight::Absent;
            Outcome::Done
        }
        Action::CreateApp { network, .. } => {
            world.seen.app = Sight::Present(SeenApp { network: Some(network.clone()), ours: true });
            Outcome::Done
        }
    };
    world.seen.complete_list_at = Some(now);
    if let Some(bay) = &mut world.bay {
        action::record(&mut bay.status, action, &outcome, now);
        if let Some(volume) = &bay.status.volume {
            world.seen.volume = Sight::Present(SeenVolume {
                id: volume.id.clone(),
                region: volume.region.clone(),
                name: String::new(),
                size_gib: volume.size_gib,
                attached_to: None,
                going: false,
                created_at: None,
            });
        }
    }
}

fn move_machine(world: &mut World, action: &Action) {
    if let Action::DestroyMachine { id, .. } = action {
        world.seen.others.retain(|it| it.id != *id);
        if matches!(&world.seen.machine, Sight::Present(it) if it.id == *id) {
            world.seen.machine = Sight::Absent;
        }
        return;
    }
    let Sight::Present(machine) = &mut world.seen.machine else { return };
    machine.check = CheckState::Passing;
    machine.state = match action {
        Action::SleepMachine { suspend: true, .. } => MachineState::Suspended,
        Action::SleepMachine { suspend: false, .. } => MachineState::Stopped,
        _ => MachineState::Started,
    };
}

fn see(
    world: &mut World,
    id: &str,
    name: &str,
    state: MachineState,
    (spec, epoch): (&MachineSpec, u64),
) {
    world.seen.machine = Sight::Present(SeenMachine {
        id: id.to_owned(),
        name: name.to_owned(),
        state,
        version: "(new)".to_owned(),
        region: String::new(),
        config: Some(spec.clone()),
        check: CheckState::Passing,
        launch_error: None,
        started_at: None,
        host_answers: true,
        metadata: Some(spec.metadata.clone()),
        mark: world.bay.as_ref().map(|bay| Mark {
            instance: bay.spec.instance.clone(),
            bay: bay.metadata.uid.clone(),
            epoch,
        }),
    });
}
