//! Whether an awake environment may sleep, and what keeps it awake. It must never decide how it sleeps.

use jiff::SignedDuration;

use crate::api::{Timestamp, bay::MachineStatus, environment::SleepSignal, template::Sleep};
use crate::plan::world::World;

/// Routers tell of requests every two seconds, so a request may be this much later than was told.
const TELLING: SignedDuration = SignedDuration::from_secs(3);
/// How long a count of connections is good for.
const COUNT_FRESH: SignedDuration = SignedDuration::from_secs(5);

/// Whether it may sleep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// This keeps it awake.
    Held {
        /// What.
        signal: SleepSignal,
        /// Since when.
        since: Timestamp,
        /// It sleeps then if nothing more happens.
        sleeps_at: Timestamp,
    },
    /// All else is quiet: open connections must be counted.
    Count,
    /// It may sleep.
    Sleep,
}

pub(crate) fn decide(
    world: &World,
    machine: &MachineStatus,
    rule: &Sleep,
    now: Timestamp,
) -> Verdict {
    let after = SignedDuration::try_from(rule.after.get()).unwrap_or(SignedDuration::MAX);
    let later = |at: Timestamp, by: SignedDuration| at.checked_add(by).unwrap_or(Timestamp::MAX);
    let counted = world.connections.filter(|(_, open)| *open > 0).map(|(at, _)| at);
    // Whoever waited for it to serve has not had it yet.
    let served = machine.ready.as_ref().map(|it| it.at);
    // A bay of a pool may have run for days when it was claimed.
    let claimed = world.bay.as_ref().and_then(|it| it.spec.claimed_at);
    let started = machine.state_since.max(served).max(claimed).unwrap_or(now);
    let signals = [
        (Some(started), SleepSignal::RecentStart, SignedDuration::ZERO),
        (world.last_request_at, SleepSignal::RecentRequest, TELLING),
        (counted, SleepSignal::OpenConnection, SignedDuration::ZERO),
    ];
    let last = signals
        .into_iter()
        .filter_map(|(at, signal, slack)| at.map(|at| (at, signal, slack)))
        .max_by_key(|(at, _, _)| *at);
    let Some((since, signal, slack)) = last else { return Verdict::Sleep };
    let sleeps_at = later(later(since, after), slack);
    if now < sleeps_at {
        return Verdict::Held { signal, since, sleeps_at };
    }
    match world.connections {
        Some((at, 0)) if now < later(at, COUNT_FRESH) => Verdict::Sleep,
        Some(_) | None => Verdict::Count,
    }
}
