//! A machine's states and what may happen in each: one pure function. It must never do anything but answer.

use serde::{Deserialize, Serialize};

use crate::local::refusal::Refusal;

/// Fly's states, and one that Fly has without a word for it: [`State::Draining`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Known, image not prepared.
    Created,
    /// The program is being started.
    Starting,
    /// The program was started.
    Started,
    /// The program was asked to end.
    Stopping,
    /// Shown as `stopped`, but the host has not reaped the last run: a start is refused.
    Draining,
    /// Nothing runs.
    Stopped,
    /// Being frozen.
    Suspending,
    /// Frozen.
    Suspended,
    /// Ends and starts again.
    Restarting,
    /// Gets a new version.
    Replacing,
    /// Going.
    Destroying,
    /// Gone.
    Destroyed,
    /// Could not run.
    Failed,
    /// Could not even run once; destroyed by itself.
    LaunchFailed,
}

impl State {
    /// Fly's word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::Draining | Self::Stopped => "stopped",
            Self::Suspending => "suspending",
            Self::Suspended => "suspended",
            Self::Restarting => "restarting",
            Self::Replacing => "replacing",
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Failed => "failed",
            Self::LaunchFailed => "launch_failed",
        }
    }

    /// Whether nothing more will happen by itself, `settled` in a wait.
    pub(super) fn is_settled(self) -> bool {
        match self {
            Self::Started
            | Self::Stopped
            | Self::Draining
            | Self::Suspended
            | Self::Destroyed
            | Self::Failed => true,
            Self::Created
            | Self::Starting
            | Self::Stopping
            | Self::Suspending
            | Self::Restarting
            | Self::Replacing
            | Self::Destroying
            | Self::LaunchFailed => false,
        }
    }
}

/// What happens to a machine: the user's wishes, then what the host reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// `POST …/start`, or the proxy's wake.
    Start,
    /// `POST …/stop`.
    Stop,
    /// `POST …/suspend`.
    Suspend,
    /// `POST …/restart`.
    Restart,
    /// `POST …/{id}`.
    Update,
    /// `DELETE …/{id}`.
    Destroy {
        /// Kill it if it runs.
        force: bool,
    },
    /// The image is prepared and the machine was not to be launched.
    Prepared,
    /// The image is prepared and the machine is to be launched.
    Launch,
    /// The program runs.
    Started,
    /// The program could not be started.
    StartFailed,
    /// Its very first start failed for a reason of the host's.
    LaunchFailed,
    /// The program ended because it was asked to.
    Stopped,
    /// The program ended by itself, for good.
    Exited,
    /// The host reaped the last run.
    Settled,
    /// The program is frozen.
    Suspended,
    /// The program could not be frozen and runs on.
    SuspendFailed,
    /// Nothing is left of it.
    Gone,
}

/// The state after the event. A wish that is already fulfilled leaves the state as it is.
pub(super) fn step(state: State, event: Event) -> Result<State, Refusal> {
    match event {
        Event::Start => start(state),
        Event::Stop => stop(state),
        Event::Suspend => suspend(state),
        Event::Restart => restart(state),
        Event::Update => update(state),
        Event::Destroy { force } => destroy(state, force),
        Event::Prepared => from(state, &[State::Created, State::Replacing], State::Stopped, event),
        Event::Launch => from(state, &[State::Created, State::Replacing], State::Starting, event),
        Event::Started => from(state, &[State::Starting, State::Restarting], State::Started, event),
        Event::StartFailed => from(
            state,
            &[State::Created, State::Starting, State::Restarting, State::Replacing],
            State::Failed,
            event,
        ),
        Event::LaunchFailed => {
            from(state, &[State::Created, State::Starting], State::LaunchFailed, event)
        }
        Event::Stopped => from(state, &[State::Stopping], State::Draining, event),
        Event::Exited => from(state, &[State::Started, State::Suspended], State::Draining, event),
        Event::Settled => from(state, &[State::Draining], State::Stopped, event),
        Event::Suspended => from(state, &[State::Suspending], State::Suspended, event),
        Event::SuspendFailed => from(state, &[State::Suspending], State::Started, event),
        Event::Gone => from(state, &[State::Destroying], State::Destroyed, event),
    }
}

/// A report of the host's is only believed in the states in which it can come.
fn from(state: State, before: &[State], after: State, event: Event) -> Result<State, Refusal> {
    if before.contains(&state) { Ok(after) } else { Err(unable(report(event), state)) }
}

fn unable(verb: &'static str, state: State) -> Refusal {
    Refusal::Unable { verb, state: state.word() }
}

fn report(event: Event) -> &'static str {
    match event {
        Event::Start => "start",
        Event::Stop => "stop",
        Event::Suspend => "suspend",
        Event::Restart => "restart",
        Event::Update => "update",
        Event::Destroy { .. } => "destroy",
        Event::Prepared => "prepare",
        Event::Launch => "launch",
        Event::Started => "report started",
        Event::StartFailed => "report failed",
        Event::LaunchFailed => "report launch_failed",
        Event::Stopped => "report stopped",
        Event::Exited => "report exited",
        Event::Settled => "report settled",
        Event::Suspended => "report suspended",
        Event::SuspendFailed => "report not suspended",
        Event::Gone => "report destroyed",
    }
}

fn start(state: State) -> Result<State, Refusal> {
    match state {
        State::Stopped | State::Suspending | State::Suspended | State::Failed => {
            Ok(State::Starting)
        }
        State::Starting | State::Started => Ok(state),
        State::Draining => Err(Refusal::StillActive),
        State::Replacing => Err(Refusal::GettingReplaced),
        State::Created
        | State::Stopping
        | State::Restarting
        | State::Destroying
        | State::Destroyed
        | State::LaunchFailed => Err(unable("start", state)),
    }
}

fn stop(state: State) -> Result<State, Refusal> {
    match state {
        State::Starting
        | State::Started
        | State::Restarting
        | State::Suspending
        | State::Suspended => Ok(State::Stopping),
        State::Stopping | State::Draining | State::Stopped | State::Failed => Ok(state),
        State::Created
        | State::Replacing
        | State::Destroying
        | State::Destroyed
        | State::LaunchFailed => Err(unable("stop", state)),
    }
}

fn suspend(state: State) -> Result<State, Refusal> {
    match state {
        State::Started => Ok(State::Suspending),
        State::Suspending | State::Suspended => Ok(state),
        State::Created
        | State::Starting
        | State::Stopping
        | State::Draining
        | State::Stopped
        | State::Restarting
        | State::Replacing
        | State::Destroying
        | State::Destroyed
        | State::Failed
        | State::LaunchFailed => Err(unable("suspend", state)),
    }
}

fn restart(state: State) -> Result<State, Refusal> {
    match state {
        State::Started | State::Restarting => Ok(State::Restarting),
        State::Created
        | State::Starting
        | State::Stopping
        | State::Draining
        | State::Stopped
        | State::Suspending
        | State::Suspended
        | State::Replacing
        | State::Destroying
        | State::Destroyed
        | State::Failed
        | State::LaunchFailed => Err(unable("restart", state)),
    }
}

fn update(state: State) -> Result<State, Refusal> {
    match state {
        State::Created
        | State::Starting
        | State::Started
        | State::Draining
        | State::Stopped
        | State::Suspended
        | State::Failed => Ok(State::Replacing),
        State::Replacing => Err(Refusal::Replacing),
        State::Stopping
        | State::Suspending
        | State::Restarting
        | State::Destroying
        | State::Destroyed
        | State::LaunchFailed => Err(unable("update", state)),
    }
}

fn destroy(state: State, force: bool) -> Result<State, Refusal> {
    match state {
        State::Draining
        | State::Stopped
        | State::Suspended
        | State::Failed
        | State::LaunchFailed => Ok(State::Destroying),
        State::Destroying | State::Destroyed => Ok(state),
        State::Created
        | State::Starting
        | State::Started
        | State::Stopping
        | State::Suspending
        | State::Restarting
        | State::Replacing => {
            if force {
                Ok(State::Destroying)
            } else {
                Err(Refusal::NotStopped)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect_file;

    use super::*;

    const STATES: [State; 14] = [
        State::Created,
        State::Starting,
        State::Started,
        State::Stopping,
        State::Draining,
        State::Stopped,
        State::Suspending,
        State::Suspended,
        State::Restarting,
        State::Replacing,
        State::Destroying,
        State::Destroyed,
        State::Failed,
        State::LaunchFailed,
    ];
    const EVENTS: [Event; 18] = [
        Event::Start,
        Event::Stop,
        Event::Suspend,
        Event::Restart,
        Event::Update,
        Event::Destroy { force: false },
        Event::Destroy { force: true },
        Event::Prepared,
        Event::Launch,
        Event::Started,
        Event::StartFailed,
        Event::LaunchFailed,
        Event::Stopped,
        Event::Exited,
        Event::Settled,
        Event::Suspended,
        Event::SuspendFailed,
        Event::Gone,
    ];

    #[test]
    fn every_state_says_what_every_event_does_to_it() {
        let mut table = String::new();
        for state in STATES {
            let _ = writeln!(table, "{state:?} ({})", state.word());
            for event in EVENTS {
                let after = match step(state, event) {
                    Ok(after) if after == state => "stays".to_owned(),
                    Ok(after) => format!("-> {after:?}"),
                    Err(refusal) => format!("refused: {refusal}"),
                };
                let _ = writeln!(table, "    {:<26} {after}", format!("{event:?}"));
            }
        }
        expect_file!["machine/table.txt"].assert_eq(&table);
    }

    #[test]
    fn nothing_leaves_destroyed() {
        for event in EVENTS {
            if let Ok(after) = step(State::Destroyed, event) {
                assert_eq!(after, State::Destroyed, "{event:?}");
            }
        }
    }
}
