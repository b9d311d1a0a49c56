//! Reaching a machine: choose, wake, connect, and again until time or attempts run out. It must never send a request.

use std::{fmt, time::Duration};

use crate::local::{
    driver::Stream,
    fleet::{Fleet, Target},
    front::{
        activity::{Activity, Busy},
        choice::{Choice, Wanted, choose},
        replay::Instance,
    },
};
use crate::retry;

/// How long to try when the replay does not say.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts after which even a long timeout ends, as Fly's page of error codes has it.
const ATTEMPTS_MAX: u32 = 90;
/// Pauses between attempts: short at first, because most programs listen within a few milliseconds of their start.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A machine with a connection to its service.
pub(super) struct Reached {
    pub(super) target: Target,
    pub(super) stream: Box<dyn Stream>,
    /// Keeps the machine from being put to sleep.
    pub(super) busy: Busy,
    /// The preferred machine, if another one was taken.
    pub(super) missed: Option<String>,
}

/// Why no machine was reached.
#[derive(Debug, thiserror::Error)]
pub(super) struct Unreached {
    pub(super) reason: Reason,
    /// Whether the last thing that happened was a refused connection.
    pub(super) refused: bool,
    /// What happened last.
    last: Option<String>,
}

/// Fly's words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    Timeout,
    RetriesExhausted,
    NoCandidate,
}

impl Reason {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::RetriesExhausted => "retries_exhausted",
            Self::NoCandidate => "no_candidate",
        }
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.word())?;
        match &self.last {
            Some(last) => write!(f, " ({last})"),
            None => Ok(()),
        }
    }
}

/// What happened in the attempts so far.
#[derive(Default)]
struct Story {
    last: Option<String>,
    refused: bool,
}

impl Story {
    fn of(error: &dyn std::error::Error, refused: bool) -> Self {
        Self { last: Some(retry::chain(error)), refused }
    }
}

/// Looks for a machine until it has a connection or `limit` is over.
pub(super) async fn reach(
    fleet: &dyn Fleet,
    activity: &Activity,
    wanted: &Wanted,
    limit: Duration,
) -> Result<Reached, Unreached> {
    let mut story = Story::default();
    let attempts = attempts(fleet, activity, wanted, &mut story);
    let reason = match tokio::time::timeout(limit, attempts).await {
        Ok(Ok(reached)) => return Ok(reached),
        Ok(Err(reason)) => reason,
        Err(_) => Reason::Timeout,
    };
    Err(Unreached { reason, refused: story.refused, last: story.last })
}

async fn attempts(
    fleet: &dyn Fleet,
    activity: &Activity,
    wanted: &Wanted,
    story: &mut Story,
) -> Result<Reached, Reason> {
    let mut pause = PAUSE_MIN;
    for _ in 0..ATTEMPTS_MAX {
        match choose(wanted, &candidates(fleet, wanted), |id| activity.load(id)) {
            Choice::Nothing => return Err(Reason::NoCandidate),
            Choice::Later => {}
            Choice::Wake(target) => {
                // Counted from here, so that the machine is not put to sleep as soon as it is awake.
                let busy = activity.enter(&target.id);
                match fleet.wake(&target.id).await {
                    Ok(()) if busy.is_some() => continue,
                    Ok(()) => {}
                    Err(error) => *story = Story::of(&error, false),
                }
            }
            Choice::Dial(target) => {
                if let Some(busy) = activity.enter(&target.id) {
                    match fleet.dial(&target.id, target.internal_port).await {
                        Ok(stream) => {
                            let missed = missed(wanted, &target);
                            return Ok(Reached { target, stream, busy, missed });
                        }
                        Err(error) => *story = Story::of(&error, true),
                    }
                }
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
    Err(Reason::RetriesExhausted)
}

fn candidates(fleet: &dyn Fleet, wanted: &Wanted) -> Vec<Target> {
    match (&wanted.instance, &wanted.app) {
        (Some(Instance::Exactly(id)), _) => fleet.target(id).into_iter().collect(),
        (_, Some(app)) => fleet.targets(app),
        (_, None) => Vec::new(),
    }
}

fn missed(wanted: &Wanted, taken: &Target) -> Option<String> {
    match &wanted.instance {
        Some(Instance::Prefer(id)) if *id != taken.id => Some(id.clone()),
        Some(Instance::Prefer(_) | Instance::Exactly(_)) | None => None,
    }
}
