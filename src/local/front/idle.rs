//! Autostop: puts machines to sleep that nobody asks anything. It must never stop one that has a request or a tunnel.
//!
//! As at Fly: a round every few minutes, at most one machine per app and region in each, whether or not a request could
//! start it again. Load limits are left out; here a machine has load or it has none.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures::StreamExt;

use crate::local::{
    fleet::{Fleet, Target},
    front::activity::Activity,
};
use crate::tasks::Shutdown;

/// Machines put to sleep at the same time; each may take its whole stop timeout.
const AT_ONCE: usize = 16;

/// Runs a round every `interval` until shutdown, which it does not keep waiting for a machine's end.
pub(super) async fn run(
    fleet: &dyn Fleet,
    activity: &Activity,
    interval: Duration,
    mut shutdown: Shutdown,
) -> anyhow::Result<()> {
    let rounds = async {
        let mut known = HashSet::new();
        loop {
            tokio::time::sleep(interval).await;
            known = round(fleet, activity, &known).await;
        }
    };
    tokio::select! {
        () = shutdown.wait() => Ok(()),
        () = rounds => Ok(()),
    }
}

/// One round. Takes only machines that ran in the round before, so that nobody's fresh start is undone at once, and
/// returns those that run now.
async fn round(fleet: &dyn Fleet, activity: &Activity, known: &HashSet<String>) -> HashSet<String> {
    let mut groups: BTreeMap<(String, String), Vec<Target>> = BTreeMap::new();
    for target in fleet.autostopped().into_iter().filter(runs) {
        groups.entry((target.app.clone(), target.region.clone())).or_default().push(target);
    }
    let running = groups.values().flatten().map(|target| target.id.clone()).collect();
    let idle: Vec<_> = groups
        .into_iter()
        .filter_map(|((app, region), targets)| {
            let in_region = |target: &&Target| target.region == region && runs(target);
            let awake = fleet.targets(&app).iter().filter(in_region).count();
            targets.into_iter().find_map(|target| {
                let spare =
                    awake > usize::try_from(target.min_machines_running).unwrap_or(usize::MAX);
                // From here on requests wait, so none meets a machine on its way down.
                let retiring = (spare && known.contains(&target.id))
                    .then(|| activity.retire(&target.id))
                    .flatten()?;
                Some((target, retiring))
            })
        })
        .collect();
    futures::stream::iter(idle)
        .for_each_concurrent(AT_ONCE, |(target, _retiring)| async move {
            tracing::info!(app = target.app, machine = target.id, "idle: put to sleep");
            fleet.idle(&target.id, target.autostop).await;
        })
        .await;
    activity.next_round();
    running
}

/// Cordoned machines are out of the proxy's hands.
fn runs(target: &Target) -> bool {
    target.state == "started" && !target.cordoned
}
