//! What faults do before a call has its effect: they refuse it in Fly's words, or do something to what it is about. It must
//! never touch an answer.

use std::{sync::Arc, time::Duration};

use crate::chance;
use crate::fly::wire;
use crate::local::{
    Backend,
    call::{AppCall, Call, MachineCall, VolumeCall},
    faults::{Kind, Rule, Stage, Subject, reach},
    leases,
    refusal::Refusal,
    state::{Lease, later},
};

const LEASE: Duration = Duration::from_secs(2 * 60);
const DELETION: Duration = Duration::from_secs(3 * 60);
/// What is left of a machine's id in a claim that outlived it.
const NOBODY: &str = "\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

impl Backend {
    /// Refuses a call, or does something to what it is about, or neither.
    pub(in crate::local) async fn befall(
        self: &Arc<Self>,
        call: &Call,
        subject: impl FnOnce() -> Subject,
    ) -> Result<(), Refusal> {
        if !self.faults.any() {
            return Ok(());
        }
        let subject = subject();
        if subject.app().is_some_and(|it| self.faults.is_foreign(it, self.clock.monotonic())) {
            let creates = matches!(call, Call::CreateApp(_));
            return Err(if creates { Refusal::NameTaken } else { Refusal::Forbidden });
        }
        if let Some(refusal) = needs_host(call)
            && self.host_is_down(&subject)
        {
            return Err(refusal);
        }
        let alters = |kind| matches!(kind, Kind::LeaseHeld | Kind::MachineNameSquatted);
        let route = subject.route();
        let possible = |kind: Kind| {
            kind.stage() == Stage::Call
                && reach::befalls(kind, route)
                && about_volume(kind, route).is_none_or(|it| it == subject.has_volume())
        };
        for rule in self.all_faults(|kind| possible(kind) && alters(kind), &subject) {
            self.alter(&rule, call).await;
        }
        let refuses = |kind| possible(kind) && !alters(kind) && kind != Kind::AppDeleteSlow;
        let Some(rule) = self.fault(refuses, &subject) else { return Ok(()) };
        Err(self.refusal(&rule, call, &subject))
    }

    /// What is done to what the call is about. It is not the caller who would hear of its failure.
    async fn alter(self: &Arc<Self>, rule: &Rule, call: &Call) {
        let altered = match call {
            Call::Machine { id, .. } => self.lease_out(id, rule.takes.unwrap_or(LEASE)).await,
            Call::App { app, call: AppCall::CreateMachine(input) } => {
                let stranger = wire::MachineInput {
                    name: input.name.clone(),
                    region: input.region.clone(),
                    config: wire::MachineConfig {
                        image: input.config.image.clone(),
                        ..wire::MachineConfig::default()
                    },
                    ..wire::MachineInput::default()
                };
                Box::pin(self.create_machine(app, stranger)).await.map(|_| ())
            }
            _ => Ok(()),
        };
        if let Err(refusal) = altered {
            tracing::info!(%refusal, "a fault on purpose had nothing to befall");
        }
    }

    /// Gives a machine's lease to somebody else, unless somebody has it.
    async fn lease_out(&self, id: &str, takes: Duration) -> Result<(), Refusal> {
        let nonce = self.ids.opaque();
        self.edit(|world, now| {
            let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
            if machine.is_live() && machine.lease(now).is_none() {
                let lease = Lease {
                    nonce,
                    owner: leases::STRANGER.to_owned(),
                    description: "deploy".to_owned(),
                    expires_at: later(now, takes),
                    version: machine.version().to_owned(),
                };
                world.edit_machine(id, now, |it| it.lease = Some(lease));
            }
            Ok(())
        })
        .await
    }

    fn refusal(&self, rule: &Arc<Rule>, call: &Call, subject: &Subject) -> Refusal {
        let creates = matches!(call, Call::App { .. });
        match rule.kind {
            Kind::AppNameTaken => {
                self.faults.book().take_name(rule, subject.app().unwrap_or_default());
                Refusal::NameTaken
            }
            Kind::HostFull if creates => Refusal::Conflict(
                "aborted: insufficient resources available to fulfill request: insufficient memory \
                 available to fulfill request",
            ),
            Kind::HostFull => Refusal::Conflict(
                "aborted: could not reserve resource for machine: insufficient memory available to \
                 fulfill request on the current host",
            ),
            Kind::HostDisabled => {
                Refusal::Conflict("deploys to this host are temporarily disabled")
            }
            Kind::VolumeHostFull if creates => Refusal::VolumeHostFull(mounted(call)),
            // Fly's text for this is not known; it is the one that it has for hosts.
            Kind::VolumeHostFull => {
                Refusal::Conflict("aborted: insufficient resources available to fulfill request")
            }
            Kind::VolumeNotFound => Refusal::Invalid("volume not found".to_owned()),
            Kind::VolumeClaimLingers if creates => Refusal::VolumeClaimed(NOBODY.to_owned()),
            Kind::VolumeClaimLingers => Refusal::VolumeBound(NOBODY.to_owned()),
            Kind::ManifestUnknown => {
                Refusal::Invalid("MANIFEST_UNKNOWN: manifest unknown".to_owned())
            }
            Kind::StartRace => match chance::below(&*self.faults.chance, 3) {
                0 => Refusal::Unable { verb: "start", state: "created" },
                1 => Refusal::GettingReplaced,
                _ => Refusal::StillActive,
            },
            other => Refusal::Internal(format!("{} refuses nothing", other.name())),
        }
    }

    /// How long the deletion of an app is put off, if it is.
    pub(in crate::local) fn deletion_delay(&self, app: &str) -> Option<Duration> {
        if !self.faults.any() {
            return None;
        }
        let rule = self.fault(|it| it == Kind::AppDeleteSlow, &Subject::deletion(app))?;
        Some(rule.takes.unwrap_or(DELETION))
    }
}

/// What a call is refused with when its host does not answer; `None` for those that need no host.
fn needs_host(call: &Call) -> Option<Refusal> {
    const NO_ANSWER: Refusal = Refusal::Deadline("no answer from the host");
    match call {
        Call::App { call: AppCall::CreateMachine(_), .. } => {
            Some(Refusal::VolumeHostFull(mounted(call)))
        }
        Call::App { call: AppCall::CreateVolume(_), .. } => Some(NO_ANSWER),
        Call::Machine { call, .. } => match call {
            MachineCall::Get { .. }
            | MachineCall::Wait(_)
            | MachineCall::Events { .. }
            | MachineCall::Versions
            | MachineCall::Metadata
            | MachineCall::MetadataValue { .. }
            | MachineCall::GetLease
            // Only promised.
            | MachineCall::Destroy { .. } => None,
            _ => Some(NO_ANSWER),
        },
        Call::Volume { call, .. } => match call {
            VolumeCall::Get | VolumeCall::ListSnapshots | VolumeCall::Destroy => None,
            VolumeCall::Update(_) | VolumeCall::Extend(_) | VolumeCall::CreateSnapshot => {
                Some(NO_ANSWER)
            }
        },
        _ => None,
    }
}

/// The volume that a new machine is to mount.
fn mounted(call: &Call) -> String {
    match call {
        Call::App { call: AppCall::CreateMachine(input), .. } => {
            input.config.mounts.first().map(|it| it.volume.clone()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Whether a kind befalls such a call only with a volume, or only without one.
fn about_volume(kind: Kind, route: Option<&str>) -> Option<bool> {
    if route != Some("create_machine") {
        return None;
    }
    match kind {
        Kind::VolumeHostFull | Kind::VolumeNotFound | Kind::VolumeClaimLingers => Some(true),
        Kind::HostFull => Some(false),
        _ => None,
    }
}
