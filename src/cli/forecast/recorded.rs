//! What the plan would see if everything were as the server has recorded it. It must never ask anybody.

use crate::{
    api::{bay::Bay, core::Secret},
    clock::Timestamp,
    plan::world::{
        CheckState, MachineState, Mark, SecretFact, Seen, SeenApp, SeenMachine, SeenVolume, Sight,
    },
};

/// What it needs to know of a secret.
pub(super) fn fact(secret: &Secret) -> SecretFact {
    SecretFact {
        uid: secret.metadata.uid.clone(),
        generation: secret.metadata.generation,
        keys: secret.data.keys().cloned().collect(),
    }
}

/// What Fly would show if it were as recorded.
pub(super) fn recorded(bay: &Bay, now: Timestamp) -> Seen {
    let status = &bay.status;
    let app = if status.app_created {
        Sight::Present(SeenApp { network: Some(bay.spec.network.clone()), ours: true })
    } else {
        Sight::Absent
    };
    let volume = status.volume.as_ref().map_or(Sight::Absent, |it| {
        Sight::Present(SeenVolume {
            id: it.id.clone(),
            region: it.region.clone(),
            name: String::new(),
            size_gib: it.size_gib,
            attached_to: None,
            going: false,
            created_at: None,
        })
    });
    let machine = status.machine.as_ref().and_then(|it| {
        let version = it.version.clone().unwrap_or_default();
        let ready = it.ready.as_ref().is_some_and(|ready| ready.version == version);
        Some(SeenMachine {
            id: it.id.clone()?,
            name: it.name.clone(),
            state: MachineState::parse(&it.state),
            region: status.region.clone().unwrap_or_default(),
            config: None,
            check: if ready { CheckState::Passing } else { CheckState::None },
            launch_error: None,
            started_at: None,
            host_answers: true,
            metadata: None,
            mark: Some(Mark {
                instance: bay.spec.instance.clone(),
                bay: bay.metadata.uid.clone(),
                epoch: status.epoch,
            }),
            version,
        })
    });
    Seen {
        app,
        volume,
        machine: machine.map_or(Sight::Absent, Sight::Present),
        others: Vec::new(),
        other_volumes: Vec::new(),
        moved_volume: None,
        complete_list_at: Some(now),
        ..Seen::default()
    }
}
