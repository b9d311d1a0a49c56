//! Writing what an environment adds to its template into a machine that a pool made and that runs: the first time before it
//! is ready, and again when that changes. It must never restart one for that.

use jiff::SignedDuration;

use crate::api::{
    bay::{BayStatus, OrderKind},
    environment::{OperatingMode, Reason},
    template::TemplateSpec,
};
use crate::plan::{
    Binding, Step,
    action::{Action, PersonalFile},
    environment::{Here, waiting},
    stock,
    world::{MachineState, World},
};

/// So many failures in a row, and the bay is given up for another.
const FAILURES_MAX: u32 = 3;
/// How long after a failure it is tried again; doubled with every one that follows.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
const AGAIN_DOUBLINGS_MAX: u32 = 6;

/// A digest of what is written for the environment as it is now, and of which version of the machine it is in, where that takes
/// its root file system with it.
fn digest(world: &World, version: Option<&str>) -> String {
    let spec = &world.environment.spec;
    let secrets: Vec<_> = world
        .secrets
        .iter()
        .map(|(name, fact)| (name, fact.as_ref().map(|it| (&it.uid, it.generation))))
        .collect();
    let all = (&spec.env, &spec.owner, world.environment.hostnames(), secrets, version);
    // Strings and numbers always serialise; an empty digest would only cost a call.
    let bytes = serde_json::to_vec(&all).unwrap_or_default();
    blake3::hash(&bytes).to_hex().chars().take(16).collect()
}

impl Here<'_> {
    /// What is left to be written, if anything is.
    pub(super) fn personalize(&self, status: &mut BayStatus) -> Option<Step> {
        let made_from = &self.bay.spec.stock.as_ref()?.made_from;
        self.bay.spec.environment_ref.as_ref()?;
        if made_from.personalize.is_none() {
            return self.as_it_is(made_from, status);
        }
        let written = status.personalized.clone().unwrap_or_default();
        // Without a volume each start makes a new file system, without the file.
        let kept = self.bay.spec.volume;
        // Once the machine's own variables say it, a file that is still there must not say something older.
        let stays = kept && written.digest.is_some();
        let rule = made_from.personalize.as_ref().filter(|_| self.record.as_stock || stays)?;
        let digest = digest(self.world, (!kept).then_some(&self.seen.version));
        let started_since =
            !kept && written.tried_at.is_some_and(|at| self.record.state_since > Some(at));
        // What was written after an export is not known in a store that was made from it.
        let restored_at = self.world.settings.restored_at;
        let known = !started_since && restored_at.is_none_or(|it| written.tried_at > Some(it));
        if known && written.digest.as_ref() == Some(&digest) {
            if let Some(machine) = status.machine.as_mut().filter(|it| it.as_stock) {
                machine.generation = self.world.environment.metadata.generation;
            }
            return None;
        }
        let first = written.digest.is_none();
        let by_order = self.world.environment.spec.operating_mode() == OperatingMode::Asleep;
        if self.seen.state != MachineState::Started {
            // What rests is given its configuration before it wakes.
            if by_order || !first || !self.record.as_stock {
                return None;
            }
            let why = "the machine is started, so that what the environment adds can be written";
            return Some(self.wake(why));
        }
        if first && written.failures >= FAILURES_MAX {
            let said = status.failure.as_ref().map_or("", |it| it.message.as_str());
            let why = format!(
                "what the environment adds could not be written into bay {} ({said}): it is given up for another",
                self.bay.metadata.name
            );
            return Some(Step::Bind {
                to: Binding::GiveUp,
                reason: Reason::PersonalizeFailed,
                why,
            });
        }
        let doublings = written.failures.saturating_sub(1).min(AGAIN_DOUBLINGS_MAX);
        let pause = AGAIN * 2_i32.pow(doublings);
        let again = written.tried_at.filter(|_| written.failures > 0).map(|at| at + pause);
        if let Some(again) = again.filter(|at| self.now < *at) {
            let why = "writing what the environment adds failed; it is tried again".to_owned();
            return Some(waiting(Reason::Personalizing, why, Some(again)));
        }
        let action = Action::Personalize {
            app: self.bay.spec.app.clone(),
            id: self.seen.id.clone(),
            file: Box::new(PersonalFile {
                rule: rule.clone(),
                digest,
                generation: self.world.environment.metadata.generation,
            }),
        };
        Some(Step::Act {
            action,
            reason: Reason::Personalizing,
            why: match written.failures {
                0 => "what the environment adds is written into the running machine".to_owned(),
                _ => "what the environment adds is written once more, as it was not taken over"
                    .to_owned(),
            },
            fault: written.failures > 0,
        })
    }

    /// Nothing is written where the template has no file and the environment adds nothing to it: the machine is its own as it is. One
    /// that rested in the pool is started so; its own configuration would take a restart.
    fn as_it_is(&self, made_from: &TemplateSpec, status: &mut BayStatus) -> Option<Step> {
        if !self.record.as_stock || !stock::fits(&self.world.environment, made_from) {
            return None;
        }
        if let Some(machine) = &mut status.machine {
            machine.generation = self.world.environment.metadata.generation;
        }
        let by_order = self.world.environment.spec.operating_mode() == OperatingMode::Asleep;
        let rests = self.seen.state != MachineState::Started && !by_order;
        let since_before = self.record.state_since <= self.bay.spec.claimed_at;
        (rests && since_before).then(|| self.wake("the machine that waited in the pool is started"))
    }

    fn wake(&self, why: &str) -> Step {
        let ordered = self.ordered(OrderKind::Start);
        ordered.unwrap_or_else(|| self.start(Reason::Personalizing, why))
    }

    /// Whether the machine is as a pool made it, of the template as it is now, and what the environment adds was written into
    /// it: a restart would change nothing for anybody.
    pub(super) fn differs_in_person_only(&self) -> bool {
        let Some(made_as) = self.bay.spec.stock.as_ref().filter(|_| self.record.as_stock) else {
            return false;
        };
        stock::fits(&self.world.environment, &made_as.made_from)
            && self.world.made_from().is_some_and(|it| it == stock::made_from(&made_as.made_from))
    }
}
