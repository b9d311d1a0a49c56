//! Whether a machine that runs serves: not yet, not any more, or when to look at it again. It must never start or stop one.

use jiff::SignedDuration;

use crate::api::{Timestamp, environment::Reason};
use crate::plan::{
    Health, Step,
    action::Action,
    environment::{HEALTH_LOOK, Here, LATE_LOOK, LOOK, UNHEALTHY_MAX, waiting},
    machine,
    world::CheckState,
};

/// After so many ends a program that was never ready is not waited for any longer.
const CRASHES: u32 = 3;

impl Here<'_> {
    /// What once served, and does not any more for longer than a moment. It stays routed: it may serve in part.
    pub(super) fn unhealthy(&self) -> Option<Step> {
        let since = self.record.unhealthy_since.filter(|at| self.now >= *at + UNHEALTHY_MAX)?;
        let (reason, why) = match self.seen.check {
            CheckState::Crashing(ends) => {
                let times = if ends == 1 { "once".to_owned() } else { format!("{ends} times") };
                let why =
                    format!("the program ended by itself, {times} lately, and is started again");
                (Reason::MachineFailed, why)
            }
            CheckState::None | CheckState::Passing | CheckState::Failing => {
                (Reason::Unhealthy, "the readiness check, which passed before, fails".to_owned())
            }
        };
        Some(Step::Wait {
            reason,
            why: format!("{why}, since {since:.0}"),
            until: Some(self.now + LATE_LOOK),
            health: Health::Degraded,
        })
    }

    /// When what serves is looked at again: the list does not tell of its check.
    pub(super) fn look_at(&self) -> Option<Timestamp> {
        if self.record.unhealthy_since.is_some() {
            return Some(self.now + LATE_LOOK);
        }
        self.desired.check.as_ref().map(|_| self.now + HEALTH_LOOK)
    }

    pub(super) fn not_ready(&self) -> Step {
        let readiness = self.template.spec.readiness.as_ref();
        let timeout = machine::millis(readiness.and_then(|it| it.timeout.as_ref()), 60_000);
        let started = self.record.state_since.unwrap_or(self.now);
        let deadline =
            started + SignedDuration::from_millis(i64::try_from(timeout).unwrap_or(60_000));
        let late = self.now >= deadline;
        if let Some(exec) = readiness.and_then(|it| it.exec.as_ref())
            && self
                .record
                .probed_at
                .is_none_or(|at| self.now >= at + if late { LATE_LOOK } else { LOOK })
        {
            return Step::Act {
                action: Action::Probe {
                    app: self.bay.spec.app.clone(),
                    id: self.seen.id.clone(),
                    command: exec.command.clone(),
                    version: self.seen.version.clone(),
                },
                reason: if late { Reason::ReadinessTimeout } else { Reason::NotReadyYet },
                why: "the readiness command is run".to_owned(),
                fault: late,
            };
        }
        if let CheckState::Crashing(ends) = self.seen.check
            && (late || ends >= CRASHES)
        {
            let times = if ends == 1 { "once".to_owned() } else { format!("{ends} times") };
            return Step::Wait {
                reason: Reason::MachineFailed,
                why: format!(
                    "the program ended by itself, {times} lately, and is started again: check the template's image and command"
                ),
                until: Some(self.now + LATE_LOOK),
                health: Health::Degraded,
            };
        }
        if late {
            let why = format!(
                "the machine runs, and its readiness check has not passed within {} s",
                timeout / 1_000
            );
            return Step::Wait {
                reason: Reason::ReadinessTimeout,
                why,
                until: Some(self.now + LATE_LOOK),
                health: Health::Degraded,
            };
        }
        let why = "the machine runs; its readiness check has not passed yet".to_owned();
        waiting(Reason::NotReadyYet, why, Some(self.now + LOOK))
    }
}
