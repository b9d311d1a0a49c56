//! The end of an environment: its app goes with everything in it, and is looked for until it is gone. It must never release
//! what may still be there.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{BayStatus, MissingWhat},
    environment::Reason,
};
use crate::plan::{
    Health, Step,
    action::Action,
    observe::{LATE_EFFECT, SECOND_LOOK},
    world::{MachineState, Sight, World},
};

/// How often the end is looked for.
const LOOK: SignedDuration = SignedDuration::from_secs(1);
/// The same, while it cannot be told or may not be ordered.
const LATE_LOOK: SignedDuration = SignedDuration::from_secs(10);
/// How long an app must be another's, with complete lists meanwhile, until it is believed that it never was ours.
const FOREIGN_FOR: SignedDuration = SignedDuration::from_secs(30);
/// How long an app's deletion may take before it is ordered again: a crash may have come before the call.
const DELETE_AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// The end of an environment: its app goes, with everything in it, and is then looked for until it is gone.
pub(crate) fn retire(world: &World, status: &BayStatus, now: Timestamp) -> Step {
    let Some(bay) = &world.bay else { return Step::Release };
    match &world.seen.app {
        // Reads lag behind writes: what was made goes by an order, though they do not show it.
        Sight::Absent if status.app_created && status.retired_at.is_none() => {
            order(world, &bay.spec.app, status, now)
        }
        Sight::Absent => {
            let since = status.missing.as_ref().filter(|it| it.what == MissingWhat::App);
            let since = since.map_or(now, |it| it.since);
            // One that was never seen may be made late by a call whose answer was lost.
            let apart = if status.app_created { SECOND_LOOK } else { LATE_EFFECT };
            if now < since + apart {
                let why = "the app is gone; it is looked for once more".to_owned();
                return wait(Reason::Deleting, why, Some(since + apart));
            }
            match left(world, since) {
                Some(why) => wait(Reason::Deleting, why, Some(now + LATE_LOOK)),
                None => Step::Release,
            }
        }
        // A read that is forbidden says little of an app that was ours: tokens lapse.
        Sight::Present(app) if !app.ours && status.app_created => Step::Wait {
            reason: Reason::Deleting,
            why: "the app was ours and now cannot be read: see whose it is, and whether the token still may".to_owned(),
            until: Some(now + LATE_LOOK),
            health: Health::Stalled,
        },
        Sight::Present(app) if !app.ours => {
            if is_anothers(world, status, now) {
                return Step::Release;
            }
            let why = "the app's name is perhaps another's; it is looked at again".to_owned();
            wait(Reason::Deleting, why, Some(now + LATE_LOOK))
        }
        Sight::Present(app) if app.network.as_ref().is_some_and(|it| *it != bay.spec.network) => {
            Step::Release
        }
        Sight::Present(_) => order(world, &bay.spec.app, status, now),
        Sight::Unasked | Sight::Unclear(_) => {
            wait(Reason::Deleting, "the app cannot be read".to_owned(), Some(now + LATE_LOOK))
        }
    }
}

/// Orders the app's deletion, unless that was done just now.
fn order(world: &World, app: &str, status: &BayStatus, now: Timestamp) -> Step {
    if status.retired_at.is_some_and(|at| now < at + DELETE_AGAIN) {
        return wait(Reason::Deleting, "the app is being deleted".to_owned(), Some(now + LOOK));
    }
    if let Some(why) = &world.no_destroying {
        return Step::Wait {
            reason: Reason::Held,
            why: format!("nothing is destroyed: {why}"),
            until: Some(now + LATE_LOOK),
            health: Health::Stalled,
        };
    }
    // An unbound bay is planned as an environment of its own.
    let is_unbound =
        world.bay.as_ref().is_some_and(|it| it.metadata.uid == world.environment.metadata.uid);
    let why = if is_unbound { "no environment has it" } else { "the environment was deleted" };
    Step::Act {
        action: Action::DeleteApp { app: app.to_owned() },
        reason: Reason::Deleting,
        why: why.to_owned(),
        fault: false,
    }
}

/// Whether an app under our name that was never seen to be ours is believed to be another's, so that nothing of ours is in it: a
/// token that is refused for a while reads as well, and the answer of our own create may have been lost.
pub(crate) fn is_anothers(world: &World, status: &BayStatus, now: Timestamp) -> bool {
    let since = status.app_foreign_since.unwrap_or(now);
    let listed = world.seen.complete_list_at.is_some_and(|at| at >= since);
    listed && now >= since + FOREIGN_FOR
}

fn wait(reason: Reason, why: String, until: Option<Timestamp>) -> Step {
    Step::Wait { reason, why, until, health: Health::Fine }
}

/// What Fly still has of an app that it does not show any more: a machine on a host that does not answer is destroyed when
/// that is back, and may run until then.
fn left(world: &World, since: Timestamp) -> Option<String> {
    if world.seen.complete_list_at.is_none_or(|at| at < since) {
        return Some("the app is gone; Fly's complete list is asked for once more".to_owned());
    }
    let machine = world.seen.others.iter().find(|it| it.state != MachineState::Destroyed);
    if let Some(machine) = machine {
        let word = machine.state.word();
        return Some(format!(
            "the app is gone, and Fly still lists machine {}, {word}",
            machine.id
        ));
    }
    let volume = world.seen.other_volumes.iter().find(|it| !it.going)?;
    Some(format!("the app is gone, and Fly still lists volume {}", volume.id))
}
