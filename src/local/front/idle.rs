//! Autostop: puts machines to sleep that nobody asks anything. It must never stop one that has a request or a tunnel.
//!
//! As at Fly: a round every few minutes, at most one machine per app and region in each, whether or not a request could
//! start it again. Load limits are left out; here a machine has load or it has none.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crate::{
    local::{
        fleet::{Fleet, Target},
        front::activity::Activity,
    },
    tasks::Shutdown,
};

/// Runs a round every `interval` until shutdown.
pub(super) async fn run(
    fleet: &dyn Fleet,
    activity: &Activity,
    interval: Duration,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let mut known = HashSet::new();
    loop {
        tokio::select! {
            () = shutdown.wait() => return Ok(()),
            () = tokio::time::sleep(interval) => {}
        }
        known = round(fleet, activity, &known).await;
    }
}

/// One round. Takes the machines that ran in the round before, so that nobody's fresh start is undone at once, and returns
/// those that run now.
async fn round(fleet: &dyn Fleet, activity: &Activity, known: &HashSet<String>) -> HashSet<String> {
    let mut groups: BTreeMap<(String, String), Vec<Target>> = BTreeMap::new();
    for target in fleet.autostopped().into_iter().filter(runs) {
        groups.entry((target.app.clone(), target.region.clone())).or_default().push(target);
    }
    let mut running = HashSet::new();
    for ((app, region), targets) in groups {
        running.extend(targets.iter().map(|target| target.id.clone()));
        let awake = fleet.targets(&app).iter().filter(|it| it.region == region && runs(it)).count();
        let idle = targets.iter().find(|target| {
            known.contains(&target.id)
                && awake > usize::try_from(target.min_machines_running).unwrap_or(usize::MAX)
                && activity.is_idle(&target.id)
        });
        let Some(target) = idle else { continue };
        // A request may have come since; then it is for the next round.
        let Some(_retiring) = activity.retire(&target.id) else { continue };
        tracing::info!(app, machine = target.id, how = ?target.autostop, "idle: put to sleep");
        fleet.idle(&target.id, target.autostop).await;
    }
    activity.next_round();
    running
}

/// Cordoned machines are out of the proxy's hands.
fn runs(target: &Target) -> bool {
    target.state == "started" && !target.cordoned
}
