//! Writing what an environment adds to its template into a machine that a pool made and that runs: the first time before it
//! is ready, and again when that changes. It must never restart one for that.

use jiff::SignedDuration;

use crate::api::{
    bay::{BayStatus, OrderKind, Personalized},
    environment::{OperatingMode, Reason},
    template::{Personalize, TemplateSpec},
};
use crate::plan::{
    Binding, Health, Step,
    action::{Action, PersonalFile},
    environment::Here,
    machine, stock,
    world::{MachineState, Sight, World},
};

/// So many failures in a row, and the bay is given up for another.
const FAILURES_MAX: u32 = 3;
/// How long after a failure it is tried again; doubled with every one that follows.
const AGAIN: SignedDuration = SignedDuration::from_secs(1);
const AGAIN_DOUBLINGS_MAX: u32 = 6;

/// Whether the file that was written is in the machine: not where its root file system, which it was in, was made anew since, nor
/// where the store was made from an older export, which says nothing of it.
pub(in crate::plan) fn is_there(world: &World, status: &BayStatus) -> bool {
    let Some(written) = status.personalized.as_ref().filter(|it| it.digest.is_some()) else {
        return false;
    };
    let seen = match &world.seen.machine {
        Sight::Present(seen) => seen.started_at,
        Sight::Absent | Sight::Unasked | Sight::Unclear(_) => None,
    };
    // Two times of Fly's are compared where there are two: its clock is another.
    let started = seen > written.started_at.or(written.tried_at)
        || status.machine.as_ref().and_then(|it| it.state_since) > written.tried_at;
    let is_kept = world.bay.as_ref().is_some_and(|it| it.spec.volume);
    let lasts = is_kept || (written.failures == 0 && !started);
    lasts && world.settings.restored_at.is_none_or(|it| written.tried_at > Some(it))
}

impl Here<'_> {
    /// A digest of what is written for the environment as it is now, where, and into which version of the machine, if that takes its
    /// root file system with it.
    fn digest(&self, rule: &Personalize, epoch: u64, version: Option<&str>) -> String {
        let environment = &self.world.environment;
        let env = machine::personal_env(environment, self.template, epoch);
        let secrets: Vec<_> = self
            .world
            .secrets
            .iter()
            .map(|(name, fact)| (name, fact.as_ref().map(|it| (&it.uid, it.generation))))
            .collect();
        let whose = (&environment.spec.owner, environment.hostnames());
        let all = (env, whose, secrets, &rule.file, version);
        // Strings and numbers always serialise; an empty digest would only cost a call.
        let bytes = serde_json::to_vec(&all).unwrap_or_default();
        blake3::hash(&bytes).to_hex().chars().take(16).collect()
    }

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
        let rule = match self.record.as_stock {
            true => made_from.personalize.as_ref()?,
            // Once the machine's own variables say it, a file that is still there must not say something older.
            false if kept && written.digest.is_some() => self.template.spec.personalize.as_ref()?,
            false => return None,
        };
        let digest = self.digest(rule, status.epoch, (!kept).then_some(&self.seen.version));
        let is_there = is_there(self.world, status);
        if is_there && written.failures == 0 && written.digest.as_ref() == Some(&digest) {
            if let Some(machine) = status.machine.as_mut().filter(|it| it.as_stock) {
                machine.generation = self.world.environment.metadata.generation;
            }
            return None;
        }
        // What another revision says is written once the machine has that.
        if is_there && self.world.other_revision(status.template.as_ref()).is_some() {
            return None;
        }
        let step = self.write((rule, digest), &written, status)?;
        if let Some(machine) = &mut status.machine {
            // Whatever its own configuration has, what is declared has not reached it whole.
            machine.generation = self.record.generation;
        }
        Some(step)
    }

    /// Writes it, again and again until it is taken over, or, where it never was, gives the bay up.
    fn write(
        &self,
        (rule, digest): (&Personalize, String),
        written: &Personalized,
        status: &BayStatus,
    ) -> Option<Step> {
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
        let (reason, health) = match (first, written.failures) {
            (true, _) => (Reason::Personalizing, Health::Fine),
            (false, ..FAILURES_MAX) => (Reason::Personalizing, Health::Degraded),
            (false, _) => (Reason::PersonalizeFailed, Health::Degraded),
        };
        let doublings = written.failures.saturating_sub(1).min(AGAIN_DOUBLINGS_MAX);
        let pause = AGAIN * 2_i32.pow(doublings);
        let again = written.tried_at.filter(|_| written.failures > 0).map(|at| at + pause);
        if let Some(again) = again.filter(|at| self.now < *at) {
            let said = status.failure.as_ref().map(|it| format!(": {}", it.message));
            let said = said.unwrap_or_default();
            let why = format!("writing what the environment adds failed and is tried again{said}");
            return Some(Step::Wait { reason, why, until: Some(again), health });
        }
        let action = Action::Personalize {
            app: self.bay.spec.app.clone(),
            id: self.seen.id.clone(),
            file: Box::new(PersonalFile {
                rule: rule.clone(),
                digest,
                generation: self.world.environment.metadata.generation,
                started_at: self.seen.started_at,
            }),
        };
        Some(Step::Act {
            action,
            reason,
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

#[cfg(test)]
mod tests;
