//! The one call of a pass: made, written down, recorded in the bay. It must never choose it.

use std::time::Duration;

use crate::api::bay::{Bay, BayStatus};
use crate::clock::Timestamp;
use crate::fly;
use crate::plan::{
    Note,
    action::{self, Action, Outcome, RefusalKind},
};
use crate::reconcile::{
    execute::{SecretValues, Values, execute},
    informer::VolumeRow,
    objects::Objects,
    pass::{Next, Pass, placed_in},
    personal::Personal,
    translate,
};
use crate::retry::{self, Retry};
use crate::store::{
    self, Precondition,
    handle::{Store, Stored},
};
use crate::telemetry::journal::{self, Line};

/// A refusal that says something of the region, and not only of a host or a volume.
const REGION_FULL: fly::Reason = fly::Reason::Capacity { scope: fly::Scope::Region };

impl Pass<'_> {
    /// Makes the call, and records what came of it.
    pub(super) async fn act(
        &mut self,
        objects: &mut Objects,
        action: &Action,
        note: &Note,
    ) -> Result<Acted, store::Error> {
        let shared = self.shared;
        let Some(values) = self.values(objects, action).await? else {
            return Ok(Acted::Over(Next::Failed(Retry::Never)));
        };
        let began = shared.clock.monotonic();
        let result = execute(shared.fly_for(objects), &shared.org, action, &values).await;
        let took = shared.clock.monotonic().saturating_sub(began);
        let now = shared.clock.now();
        self.learn_region(action, &result, now);
        let memo = &mut self.remembered.memo;
        if action.shows_in_list() {
            memo.acted_at = Some(now);
        }
        let (outcome, next) = match &result {
            Ok(outcome) => (outcome.clone(), Next::GoOn),
            Err(error) => {
                let refusal = translate::refusal(error);
                let next = after(action, &refusal.kind, error.retry());
                // The list may show for a while what is gone, or what was before.
                memo.doubted |= matches!(refusal.kind, RefusalKind::Gone | RefusalKind::Changed);
                (Outcome::Failed(refusal), next)
            }
        };
        if let (Action::DestroyMachine { app, id }, Outcome::Done) = (action, &outcome) {
            // The list tells of it a while later; until then it would be destroyed again and again.
            shared.informer.learn(app, id, None);
        }
        if let (Action::DeleteVolume { app, id }, Outcome::Done) = (action, &outcome) {
            shared.informer.forget_volume(app, id);
        }
        if let (Action::CreateVolume { app, name, .. }, Outcome::Volume { id, region, size_gib }) =
            (action, &outcome)
        {
            shared.informer.learn_volume(id, VolumeRow::new(app, name, region, *size_gib));
        }
        if let Outcome::Connections(open) = outcome {
            memo.connections = Some((now, open));
        }
        shared.metrics.action(action.name(), result.as_ref().map_or_else(|it| it.kind(), |_| "ok"));
        let line = match (&result, action::not_taken_over(action, &outcome)) {
            (Ok(_), None) => self.line(
                action.name(),
                journal::Outcome::Ok,
                format!("{action}: {}", note.message),
            ),
            (Ok(_), Some(why)) => {
                self.line(action.name(), journal::Outcome::Failed, format!("{action}: {why}"))
            }
            (Err(error), _) => Line {
                request_id: error.request_id().map(str::to_owned),
                ..self.line(
                    action.name(),
                    journal::Outcome::Failed,
                    format!("{action}: {}", retry::chain(error)),
                )
            },
        };
        let duration_ms = Some(journal::milliseconds(took));
        shared.journal.record(Line { duration_ms, ..line });
        let is_written =
            matches!((action, &outcome), (Action::Personalize { .. }, Outcome::Exit(0)));
        let done = Done { action: action.clone(), outcome, at: now };
        if is_written && let Some(stored) = objects.learn(|status| done.record(status)) {
            return Ok(Acted::Personalized(Box::new(Personalized { stored, done })));
        }
        if let Some(bay) = &objects.bay {
            record(&shared.store, bay.clone(), &done).await?;
        }
        Ok(Acted::Over(next))
    }

    /// The users' values that an action writes, and that may be in no error; `None` when one that it needs is not there.
    async fn values(
        &self,
        objects: &Objects,
        action: &Action,
    ) -> Result<Option<Values>, store::Error> {
        let bay_key = objects.bay_key(&self.shared.store).await?;
        if bay_key.is_none() && matches!(action, Action::WriteSecrets { .. }) {
            let message = "the bay's key is missing from the store";
            self.log(action.name(), journal::Outcome::Refused, message);
            return Ok(None);
        }
        let secrets = SecretValues::gather(objects, bay_key.as_deref());
        let personal =
            matches!(action, Action::Personalize { .. }).then(|| Personal::gather(objects));
        Ok(Some(Values { secrets, personal }))
    }

    /// What a creation says of its region, for all environments of its size.
    fn learn_region(&self, action: &Action, result: &Result<Outcome, fly::Error>, now: Timestamp) {
        let Some((region, size)) = placed_in(action) else { return };
        let mut regions = self.shared.regions();
        match result {
            Ok(_) => regions.made(region, &size),
            Err(error) if error.reason == REGION_FULL => {
                regions.refused(region, &size, now + action::FULL_FOR);
            }
            Err(_) => {}
        }
    }
}

/// What an action comes to.
pub(super) enum Acted {
    /// The pass is over.
    Over(Next),
    /// What the environment adds was written, and what follows from that goes to disk with it.
    Personalized(Box<Personalized>),
}

/// A call and what came of it.
struct Done {
    action: Action,
    outcome: Outcome,
    at: Timestamp,
}

impl Done {
    fn record(&self, status: &mut BayStatus) {
        action::record(status, &self.action, &self.outcome, self.at);
    }
}

/// What was written into a machine and is not recorded yet.
pub(super) struct Personalized {
    /// The bay as the store had it.
    stored: Stored<Bay>,
    done: Done,
}

impl Personalized {
    /// Records it by itself, where what was to go with it was overtaken.
    pub(super) async fn record(self, store: &Store) -> Result<(), store::Error> {
        record(store, self.stored, &self.done).await
    }
}

/// Writes what a call came back with into a bay, on top of whatever it is by now: an id must not get lost.
async fn record(store: &Store, bay: Stored<Bay>, done: &Done) -> Result<(), store::Error> {
    let mut current = bay;
    for _ in 0..8 {
        let before = current.value.status.clone();
        done.record(&mut current.value.status);
        if current.value.status == before {
            return Ok(());
        }
        let at = Precondition::At(current.revision);
        match store.txn().put(&current.key, at, &current.value).commit().await {
            Ok(_) => return Ok(()),
            Err(store::Error::Conflict { .. }) => match store.get::<Bay>(&current.key).await? {
                Some(now) => current = now,
                None => return Ok(()),
            },
            Err(error) => return Err(error),
        }
    }
    Err(store::Error::Conflict { key: current.key, current: Some(current.revision) })
}

/// When to go on after a failed call.
fn after(action: &Action, kind: &RefusalKind, retry: Retry) -> Next {
    match (action, kind) {
        // Something else is planned at once: another region, a look at the machine that has the name.
        (
            Action::CreateVolume { .. } | Action::CreateMachine { .. },
            RefusalKind::NoCapacity | RefusalKind::MachineNameTaken(_),
        ) => Next::In(Duration::ZERO),
        // In a moment it may go, or it stays as it is: a full host, a name that is nobody's and refused all the same.
        (
            _,
            RefusalKind::TooEarly
            | RefusalKind::Changed
            | RefusalKind::NoCapacity
            | RefusalKind::NameTaken,
        ) => Next::Failed(Retry::Backoff),
        (_, _) => Next::Failed(retry),
    }
}
