//! Keeps watch: programs that end by themselves, machines that a restart of this process or of the computer left in some
//! state, deletions that are due, scheduled snapshots. It must never answer a call.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt as _, stream};

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{
    Backend,
    driver::{self, Status},
    lifecycle::Who,
    machine::{Event, State},
    operate::Work,
    state::{exit_payload, later},
};
use crate::tasks::Shutdown;

/// A look at the machine without news; the driver tells changes at once.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Machines that are looked at or stopped at once.
const AT_ONCE: usize = 16;

impl Backend {
    /// Brings machines back, then supervises until shutdown.
    ///
    /// # Errors
    /// Never at present.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) -> anyhow::Result<()> {
        self.resume_all().await;
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return Ok(()),
                () = tokio::time::sleep(self.config.timings.sweep) => self.sweep().await,
            }
        }
    }

    /// Adopts machines whose program still runs, starts those that ran before a stop of this process or of the computer,
    /// and goes on with whatever was under way. Does so once; [`Backend::run`] calls it.
    pub async fn resume_all(self: &Arc<Self>) {
        if self.resumed.swap(true, Ordering::SeqCst) {
            return;
        }
        let (machines, volumes, apps) = {
            let world = self.lock();
            let machines: Vec<_> = world
                .machines
                .values()
                .filter(|it| it.is_live())
                .map(|it| (it.id.clone(), it.state, it.epoch))
                .collect();
            let volumes = world.volumes.values().filter(|it| it.filling_from.is_some());
            let apps = world.apps.values().filter(|it| it.deleting);
            (
                machines,
                volumes.map(|it| it.id.clone()).collect::<Vec<_>>(),
                apps.map(|it| it.name.clone()).collect::<Vec<_>>(),
            )
        };
        for volume in volumes {
            self.fill(volume);
        }
        self.finish_snapshots();
        self.keep_promises();
        stream::iter(machines)
            .for_each_concurrent(AT_ONCE, |(id, state, epoch)| async move {
                self.bring_back(&id, state, epoch).await;
            })
            .await;
        for app in apps {
            self.finish_deletion(app);
        }
    }

    async fn bring_back(self: &Arc<Self>, id: &str, state: State, epoch: u64) {
        match state {
            State::Created => self.work(id, epoch, Work::Launch),
            State::Starting => self.work(id, epoch, Work::Start),
            State::Started => self.bring_back_started(id, epoch).await,
            State::Stopping => self.work(id, epoch, Work::Stop(wire::Stop::default())),
            State::Suspending => self.work(id, epoch, Work::Suspend),
            State::Suspended => self.watch_over(id, epoch),
            State::Restarting => self.work(id, epoch, Work::Restart(wire::Stop::default())),
            State::Replacing => self.work(id, epoch, Work::Replace),
            State::Destroying => self.work(id, epoch, Work::Destroy),
            State::LaunchFailed => {
                let wish = Event::Destroy { force: false };
                // Refused only if somebody was faster.
                let _faster = self.begin(id, wish, Who::Host, wire::Stop::default()).await;
            }
            State::Draining | State::Stopped | State::Failed | State::Destroyed => {}
        }
    }

    /// A program that ended by itself stays ended; one that went with its computer, or was stopped with this process, is
    /// started again.
    async fn bring_back_started(self: &Arc<Self>, id: &str, epoch: u64) {
        match self.driver.status(id).await {
            Status::Running { .. } => self.watch_over(id, epoch),
            Status::Exited(exit) if !exit.requested => {
                let entry = ("exit", "stopped", Some(exit_payload(&exit, false)));
                self.report(id, epoch, Event::Exited, Some(entry)).await;
                self.destroy_if_auto(id).await;
            }
            Status::Frozen { .. } if self.driver.resume(id).await.is_ok() => {
                self.watch_over(id, epoch);
            }
            Status::Frozen { .. } | Status::Exited(_) | Status::Absent => {
                // `restarting` ends in `started` by the same way as a start.
                let begun = self.begin(id, Event::Restart, Who::Host, wire::Stop::default()).await;
                if let Err(refusal) = begun {
                    tracing::warn!(machine = id, %refusal, "a machine was not brought back");
                }
            }
        }
    }

    /// Watches the program of a machine that was just started or suspended, and runs its checks.
    pub(super) fn watch_over(self: &Arc<Self>, id: &str, epoch: u64) {
        self.run_checks(id, epoch);
        let (backend, id) = (Arc::clone(self), id.to_owned());
        self.background(async move { backend.watch(&id, epoch).await });
    }

    async fn watch(self: &Arc<Self>, id: &str, epoch: u64) {
        let mut known = self.driver.status(id).await;
        loop {
            if self.epoch(id) != Some(epoch) {
                return;
            }
            match &known {
                Status::Running { .. } | Status::Frozen { .. } => {}
                Status::Exited(exit) => {
                    let entry = ("exit", "stopped", Some(exit_payload(exit, false)));
                    return self.ended(id, epoch, entry).await;
                }
                Status::Absent => return self.vanished(id, epoch).await,
            }
            let new = self.driver.changed(id, &known, LOOK_EVERY).await;
            if let (Status::Running { restarts, .. }, Status::Running { restarts: before, .. }) =
                (&new, &known)
                && restarts > before
            {
                let payload = serde_json::json!({
                    "exit_event": {"restarting": true, "requested_stop": false},
                    "restart_count": restarts,
                });
                self.note(id, epoch, ("exit", "stopped", Some(payload))).await;
                self.note(id, epoch, ("start", "started", None)).await;
            }
            known = new;
        }
    }

    async fn ended(
        self: &Arc<Self>,
        id: &str,
        epoch: u64,
        entry: (&'static str, &'static str, Option<serde_json::Value>),
    ) {
        if self.report(id, epoch, Event::Exited, Some(entry)).await.is_some() {
            self.destroy_if_auto(id).await;
        }
    }

    /// Nobody knows how it ended. A suspended machine needs no program to stay suspended: it will start cold.
    async fn vanished(self: &Arc<Self>, id: &str, epoch: u64) {
        let suspended = self.lock().machines.get(id).is_some_and(|it| it.state == State::Suspended);
        if !suspended {
            self.ended(id, epoch, ("exit", "stopped", None)).await;
        }
    }

    /// Stops every machine's program for a clean end of this process. The machines' states stay: those that were started
    /// will be started by the next [`Backend::run`]. No change is taken from here on, and no program started.
    pub async fn stop_all(&self) {
        self.close();
        // A program whose start was under way is there to be stopped only when that start is through.
        let _no_starts = self.starts.write().await;
        let ids: Vec<_> = {
            let world = self.lock();
            world.machines.values().filter(|it| it.is_live()).map(|it| it.id.clone()).collect()
        };
        stream::iter(ids)
            .for_each_concurrent(AT_ONCE, |id| async move {
                match self.driver.stop(&id, None, None).await {
                    Ok(()) | Err(driver::Error::NotRunning { .. }) => {}
                    Err(error) => {
                        let error = crate::retry::chain(&error);
                        tracing::warn!(machine = id, error, "a machine was left running");
                    }
                }
            })
            .await;
    }

    /// One round of what is due.
    async fn sweep(self: &Arc<Self>) {
        let now = self.now();
        let timings = self.config.timings;
        let (machines, volumes): (Vec<_>, Vec<_>) = {
            let world = self.lock();
            let forgotten = |at: Timestamp| later(at, timings.destroyed_listed) <= now;
            let machines =
                world.machines.values().filter(|it| !it.is_live() && forgotten(it.updated_at));
            let volumes =
                world.volumes.values().filter(|it| it.destroy_at.is_some_and(|at| at <= now));
            (machines.map(|it| it.id.clone()).collect(), volumes.map(|it| it.id.clone()).collect())
        };
        let purged = self
            .edit(|world, _| {
                for id in &machines {
                    world.remove_machine(id);
                }
                Ok(())
            })
            .await;
        if let Err(refusal) = purged {
            tracing::warn!(%refusal, "destroyed machines were not forgotten");
        }
        for id in volumes {
            if let Err(refusal) = self.erase_volume(&id).await {
                tracing::warn!(volume = id, %refusal, "a volume was not erased");
            }
        }
        self.snapshot_what_is_due(now).await;
    }
}
