//! What is recorded of a call: the intent before it, and what it came back with. It must never plan one.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{
        BayStatus, Failure, FullRegion, MachineStatus, Missing, MissingWhat, Order, OrderKind,
        Personalized, ReadySeen, SecretsStatus, VolumeStatus,
    },
    environment::SleepSignal,
};
use crate::plan::action::{Action, Outcome, Refusal, RefusalKind};

/// Full regions empty again within minutes to hours; asking sooner only costs calls.
pub const FULL_FOR: SignedDuration = SignedDuration::from_mins(10);
/// How long after it was ordered a create that was not answered may show.
pub(crate) const DOUBT_KEPT: SignedDuration = SignedDuration::from_hours(24);

/// How a call that writes what an environment adds ends when the program was not seen to take it over.
pub const NOT_TAKEN_OVER: i32 = 124;

/// What is recorded before the call, so that a crash after it is understood.
pub fn intend(status: &mut BayStatus, action: &Action, generation: u64, now: Timestamp) {
    let order = |kind, signal| Some(Order { kind, signal, at: now });
    match action {
        Action::CreateVolume { region, .. } => {
            // An order that was never answered, by Fly or by a process that lived to hear it.
            status.volume_doubts.retain(|at| now < *at + DOUBT_KEPT);
            status.volume_doubts.extend(status.volume_intended_at);
            status.volume_intended_at = Some(now);
            status.volume_absent_since = None;
            status.region = Some(region.clone());
        }
        Action::CreateMachine { name, region, epoch, spec, .. } => {
            status.region = Some(region.clone());
            status.epoch = *epoch;
            if let Some(mounts) = status.volume.as_mut().and_then(|it| it.mounts.as_mut()) {
                *mounts = mounts.saturating_add(1);
            }
            status.machine = Some(MachineStatus {
                name: name.clone(),
                config: Some(spec.digest()),
                generation,
                intended_at: Some(now),
                order: order(OrderKind::Start, None),
                ..MachineStatus::default()
            });
        }
        Action::DeleteApp { .. } => status.retired_at = Some(now),
        Action::StartMachine { .. } => {
            if let Some(machine) = &mut status.machine {
                machine.order = order(OrderKind::Start, None);
            }
        }
        Action::SleepMachine { signal, .. } => {
            if let Some(machine) = &mut status.machine {
                machine.order = order(OrderKind::Sleep, Some(*signal));
            }
        }
        Action::UpdateMachine { skip_launch: false, .. } => {
            if let Some(machine) = &mut status.machine {
                machine.order = order(OrderKind::Start, None);
            }
        }
        Action::DestroyMachine { id, .. } => {
            if let Some(machine) = &mut status.machine
                && machine.id.as_deref() == Some(id)
            {
                machine.destroying = true;
                machine.order = order(OrderKind::Destroy, None);
            }
        }
        Action::UpdateMachine { skip_launch: true, .. } => {
            // It sleeps on; the version that it wakes with has not served yet and must not be taken for broken.
            if let Some(machine) = &mut status.machine
                && machine.order.as_ref().is_none_or(|it| it.kind != OrderKind::Sleep)
            {
                machine.order = order(OrderKind::Sleep, Some(SleepSignal::External));
            }
        }
        Action::DeleteVolume { id, .. } => {
            if let Some(volume) = status.volume.as_mut().filter(|it| it.id == *id) {
                volume.discarded_at = Some(now);
            }
        }
        Action::CreateApp { .. }
        | Action::WriteMetadata { .. }
        | Action::WriteSecrets { .. }
        | Action::ExtendVolume { .. }
        | Action::Probe { .. }
        | Action::Personalize { .. }
        | Action::CountConnections { .. } => {}
    }
}

/// Why what an environment adds was not taken over, where the call was answered.
pub(crate) fn not_taken_over(action: &Action, outcome: &Outcome) -> Option<String> {
    let (Action::Personalize { file, .. }, Outcome::NotTakenOver { code, said }) =
        (action, outcome)
    else {
        return None;
    };
    let why = match *code {
        NOT_TAKEN_OVER if file.rule.readiness.is_some() => {
            "the command of its readiness did not end with 0 in time".to_owned()
        }
        code => format!("it ended with {code}"),
    };
    Some(match said {
        Some(said) if said.is_empty() => why,
        Some(said) => format!("{why}, saying: {said}"),
        None => format!(
            "{why}; what it wrote to its standard error is not shown, since the environment has secrets"
        ),
    })
}

/// What is recorded after the call.
pub fn record(status: &mut BayStatus, action: &Action, outcome: &Outcome, now: Timestamp) {
    if let Outcome::Failed(refusal) = outcome {
        return record_refusal(status, action, refusal, now);
    }
    if let Some(said) = not_taken_over(action, outcome) {
        failed_to_personalize(status, now);
        return fail(status, action, said, now);
    }
    // A call that only asks says nothing about one that could not be made.
    if action.mutates() || status.failure.as_ref().is_some_and(|it| it.action == action.name()) {
        status.failure = None;
    }
    match (action, outcome) {
        (Action::CreateApp { .. }, _) => {
            status.app_created = true;
            status.app_contested = false;
        }
        // The order may have waited long for its turn.
        (Action::DeleteApp { .. }, _) => status.retired_at = Some(now),
        (Action::WriteSecrets { sources, names, .. }, Outcome::SecretsWritten { version }) => {
            status.secrets = Some(SecretsStatus {
                sources: sources.clone(),
                names: names.clone(),
                version: *version,
            });
        }
        (
            Action::CreateVolume { .. } | Action::ExtendVolume { .. },
            Outcome::Volume { id, region, size_gib },
        ) => got_volume(status, id, region, *size_gib),
        (
            Action::CreateMachine { .. } | Action::UpdateMachine { .. },
            Outcome::Machine { id, version, region, state },
        ) => {
            if let (Some(machine), Action::UpdateMachine { spec, generation, .. }) =
                (&mut status.machine, action)
            {
                machine.config = Some(spec.digest());
                machine.generation = *generation;
                machine.as_stock = false;
            }
            if !region.is_empty() {
                status.region = Some(region.clone());
            }
            saw_machine(status, id, version, state, now);
        }
        (Action::Probe { version, .. }, Outcome::Exit(0)) => {
            if let Some(machine) = &mut status.machine {
                machine.ready = Some(ReadySeen { version: version.clone(), at: now });
            }
        }
        (Action::Personalize { file, .. }, Outcome::Exit(_)) => {
            status.personalized = Some(Personalized {
                digest: Some(file.digest.clone()),
                generation: file.generation,
                started_at: file.started_at,
                failures: 0,
                tried_at: Some(now),
            });
        }
        (Action::Probe { .. }, Outcome::Exit(_)) => {
            if let Some(machine) = &mut status.machine {
                machine.probed_at = Some(now);
            }
        }
        // Whatever else there is to learn is seen by the next pass.
        (_, _) => {}
    }
}

fn got_volume(status: &mut BayStatus, id: &str, region: &str, size_gib: u32) {
    let region = if region.is_empty() {
        status.region.clone().unwrap_or_default()
    } else {
        region.to_owned()
    };
    status.region = Some(region.clone());
    status.volume_intended_at = None;
    status.volume_absent_since = None;
    let mounts = match &status.volume {
        Some(known) => known.mounts,
        None => Some(0),
    };
    let id = id.to_owned();
    status.volume = Some(VolumeStatus { id, region, size_gib, discarded_at: None, mounts });
}

/// Records what was seen of the bay's machine.
pub fn saw_machine(status: &mut BayStatus, id: &str, version: &str, state: &str, now: Timestamp) {
    let Some(machine) = &mut status.machine else { return };
    machine.id = Some(id.to_owned());
    // Another version in the same state has been started anew.
    if machine.state != state || machine.version.as_deref() != Some(version) {
        let woken = state == "started" && matches!(&*machine.state, "stopped" | "suspended");
        if woken && machine.order.as_ref().is_some_and(|it| it.kind == OrderKind::Sleep) {
            // A request woke it: the order to sleep is spent, and says nothing of how it stops next.
            machine.order = None;
        }
        state.clone_into(&mut machine.state);
        machine.version = Some(version.to_owned());
        machine.state_since = Some(now);
    }
}

fn record_refusal(status: &mut BayStatus, action: &Action, refusal: &Refusal, now: Timestamp) {
    if let (Action::Probe { .. }, Some(machine)) = (action, &mut status.machine) {
        machine.probed_at = Some(now);
    }
    match (action, &refusal.kind) {
        (Action::CreateApp { .. }, RefusalKind::NameTaken) => status.app_contested = true,
        (
            Action::CreateVolume { region, spec, .. } | Action::CreateMachine { region, spec, .. },
            RefusalKind::NoCapacity,
        ) => {
            let (retry_at, size) = (now + FULL_FOR, Some(spec.size()));
            status.full_regions.retain(|it| it.region != *region && it.retry_at > now);
            status.full_regions.push(FullRegion { region: region.clone(), retry_at, size });
        }
        (_, _) => {}
    }
    match (action, &refusal.kind) {
        // A definite refusal: nothing was created.
        (Action::CreateVolume { .. }, kind) if *kind != RefusalKind::Ambiguous => {
            status.volume_intended_at = None;
        }
        // There is one of that name: it is looked for by its marks, and is ours if it has them.
        (Action::CreateMachine { .. }, RefusalKind::MachineNameTaken(_)) => {
            if let Some(machine) = &mut status.machine {
                machine.absent_since = None;
            }
        }
        (Action::CreateMachine { .. }, kind) if *kind != RefusalKind::Ambiguous => {
            if let Some(machine) = &mut status.machine {
                machine.intended_at = None;
            }
            if let Some(mounts) = status.volume.as_mut().and_then(|it| it.mounts.as_mut()) {
                *mounts = mounts.saturating_sub(1);
            }
        }
        // One that is gone was deleted by an order whose answer was lost.
        (Action::DeleteVolume { id, .. }, kind)
            if !matches!(kind, RefusalKind::Ambiguous | RefusalKind::Gone) =>
        {
            if let Some(volume) = status.volume.as_mut().filter(|it| it.id == *id) {
                volume.discarded_at = None;
            }
        }
        (Action::DestroyMachine { id, .. }, kind) if *kind != RefusalKind::Ambiguous => {
            if let Some(machine) = &mut status.machine
                && machine.id.as_deref() == Some(id)
            {
                machine.destroying = false;
            }
        }
        // It is not there: whether it is gone, the next looks tell.
        (Action::DeleteApp { .. }, RefusalKind::Gone) => return,
        (Action::DeleteApp { .. }, kind) if *kind != RefusalKind::Ambiguous => {
            status.retired_at = None;
        }
        (_, _) => {}
    }
    let in_app = matches!(
        action,
        Action::WriteSecrets { .. } | Action::CreateVolume { .. } | Action::CreateMachine { .. }
    );
    if in_app && refusal.kind == RefusalKind::Gone {
        // Perhaps the app: it is looked for before more is tried in it.
        status.missing.get_or_insert(Missing { what: MissingWhat::App, since: now });
    }
    if matches!(refusal.kind, RefusalKind::TooEarly) {
        return;
    }
    if let Action::Personalize { .. } = action {
        failed_to_personalize(status, now);
    }
    fail(status, action, refusal.message.clone(), now);
}

fn failed_to_personalize(status: &mut BayStatus, now: Timestamp) {
    let written = status.personalized.get_or_insert_default();
    written.failures = written.failures.saturating_add(1);
    written.tried_at = Some(now);
}

fn fail(status: &mut BayStatus, action: &Action, message: String, now: Timestamp) {
    let (count, since) = status.failure.as_ref().map_or((0, now), |it| (it.count, it.since));
    status.failure = Some(Failure {
        count: count.saturating_add(1),
        action: action.name().to_owned(),
        message,
        since,
    });
}
