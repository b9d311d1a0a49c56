//! A template's status from what was planned: counts, and conditions with true reasons. It must never change what is planned.

use crate::api::{
    Timestamp,
    condition::{self, Truth},
    rollout::{Progress, TemplateCondition, TemplateConditionType, TemplateReason},
    template::UpdateStrategy,
};
use crate::plan::rollout::{Move, Rollout, Why, number, rests};

impl Rollout<'_> {
    /// How it stands when the moves are made.
    pub(super) fn count(&mut self, moves: &[Move], now: Timestamp) {
        let newest = self.status.hash.clone();
        let moved = |to_newest: bool| {
            let counts =
                |it: &&Move| it.from.hash != it.to.hash && (it.to.hash == newest) == to_newest;
            moves.iter().filter(counts).count()
        };
        let turns = moves.iter().filter(|it| matches!(it.why, Why::Told | Why::Turn)).count();
        let has = self.kept().filter(|(_, at)| at.hash == newest).count();
        let unseen = self.kept().filter(|(fact, at)| {
            let changed = at.hash == newest && at.from.is_some() && at.ready_at.is_none();
            changed && !rests(fact) && !fact.unmade
        });
        let unseen = unseen.count();
        let progress = Progress {
            environments: number(self.kept().count()),
            updated: number((has + moved(true)).saturating_sub(moved(false))),
            unavailable: number(self.unproven().len() + turns),
        };
        let complete = progress.updated == progress.environments && unseen == 0 && turns == 0;
        // Counts that change with every environment that comes and goes would be written all the time.
        self.status.progress = (!complete).then_some(progress);
        self.conditions(now);
    }

    fn conditions(&mut self, now: Timestamp) {
        use TemplateConditionType as C;
        let (complete, stopped) = (self.status.progress.is_none(), self.status.is_stopped());
        let (reason, why) = self.reason();
        let goes_on =
            matches!(reason, TemplateReason::RollingOut | TemplateReason::WaitingForSleep);
        let failing = self.status.stopped.as_ref().filter(|_| stopped).map_or_else(
            || (TemplateReason::AsDeclared, String::new()),
            |it| {
                let why = format!("revision {} fails: {}", it.revision, it.message);
                (TemplateReason::RevisionFailing, why)
            },
        );
        let generation = self.status.observed_generation;
        for (kind, truth, (reason, message)) in [
            (C::Complete, complete, (reason, why.clone())),
            (C::Progressing, goes_on, (reason, why)),
            (C::Stalled, stopped, failing),
        ] {
            let condition = TemplateCondition {
                kind,
                status: if truth { Truth::True } else { Truth::False },
                reason,
                message,
                last_transition_time: now,
                observed_generation: generation,
            };
            condition::set(&mut self.status.conditions, condition);
        }
    }

    /// How far it is, and why no further.
    fn reason(&self) -> (TemplateReason, String) {
        let (status, name) = (&self.status, &self.world.template.metadata.name);
        let revision = status.revision;
        let Some(progress) = status.progress else {
            let why = format!("every environment has revision {revision}");
            return (TemplateReason::AsDeclared, why);
        };
        let counted = format!(
            "{} of {} environments have revision {revision}",
            progress.updated, progress.environments
        );
        if let Some(stopped) = status.stopped.as_ref().filter(|_| status.is_stopped()) {
            let why = format!(
                "{counted}; it goes no further, since {}; `hangar rollout undo template/{name}` goes back, `hangar rollout \
                 resume template/{name}` tries again",
                stopped.message
            );
            return (TemplateReason::RevisionFailing, why);
        }
        if self.update.paused {
            let why = format!("{counted}; paused until `hangar rollout resume template/{name}`");
            return (TemplateReason::Paused, why);
        }
        if !self.flows() {
            let why = format!(
                "{counted}; the others follow at `hangar rollout resume template/{name}`, one of them at `hangar rollout \
                 resume env/NAME`"
            );
            return (TemplateReason::AwaitingOrder, why);
        }
        if progress.unavailable == 0 && self.update.strategy == UpdateStrategy::WhenAsleep {
            let window = self.update.window.as_ref();
            let or = window.map_or_else(String::new, |it| format!(", or by turns {it}"));
            let why = format!("{counted}; the others follow when they sleep{or}");
            return (TemplateReason::WaitingForSleep, why);
        }
        let waits_for = match self.unproven().first() {
            Some(first) => match &first.trouble {
                Some(trouble) => format!("; {} does not serve yet: {trouble}", first.name),
                None => format!("; {} does not serve yet", first.name),
            },
            None => String::new(),
        };
        (TemplateReason::RollingOut, format!("{counted}, {} at a time{waits_for}", self.limit))
    }
}
