//! The work behind a transitional state: calls the driver, then reports what came of it. One piece of work per machine at a
//! time; what was superseded meanwhile reports to nobody. It must never decide what is allowed: the state machine does.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::fly::wire;
use crate::local::{
    Backend,
    driver::{self, Spec, Status},
    faults::Kind,
    lifecycle::Who,
    machine::{Event, State, step},
    spec,
    state::{exit_payload, later},
    view,
};
use crate::retry;
use crate::tasks;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// What a state needs done.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Prepare the image, then start if the machine was to be launched.
    Launch,
    /// Start or resume.
    Start,
    /// Ask the program to end.
    Stop(wire::Stop),
    /// Freeze.
    Suspend,
    /// Ask the program to end and start it again.
    Restart(wire::Stop),
    /// End the old version's run, then as [`Work::Launch`].
    Replace,
    /// Kill and remove.
    Destroy,
}

/// An entry of the machine's log that goes with a report.
type Entry = (&'static str, &'static str, Option<Value>);

impl Backend {
    /// Starts work on a machine, behind whatever is being done to it.
    pub(super) fn work(self: &Arc<Self>, id: &str, epoch: u64, work: Work) {
        let (backend, id) = (Arc::clone(self), id.to_owned());
        self.background(async move {
            let Some(turn) = backend.turn(&id) else { return };
            let _turn = turn.lock().await;
            if backend.epoch(&id) == Some(epoch) {
                Box::pin(backend.operate(&id, epoch, work)).await;
            }
        });
    }

    fn turn(&self, id: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        self.lock().machines.get(id).map(|it| Arc::clone(&it.turn))
    }

    pub(super) fn epoch(&self, id: &str) -> Option<u64> {
        self.lock().machines.get(id).map(|it| it.epoch)
    }

    async fn operate(self: &Arc<Self>, id: &str, epoch: u64, work: Work) {
        self.until_reachable(id).await;
        if self.epoch(id) != Some(epoch) {
            return;
        }
        match work {
            Work::Launch => self.launch(id, epoch).await,
            Work::Start => self.start_program(id, epoch).await,
            Work::Stop(how) => {
                if !self.hold(id, epoch, Kind::StuckStopping).await {
                    return;
                }
                let exit = self.end_program(id, epoch, how).await;
                let entry = ("exit", "stopped", exit);
                if self.report(id, epoch, Event::Stopped, Some(entry)).await.is_some() {
                    self.destroy_if_auto(id).await;
                }
            }
            Work::Suspend => self.suspend_program(id, epoch).await,
            Work::Restart(how) => {
                let exit = self.end_program(id, epoch, how).await;
                self.note(id, epoch, ("exit", "stopped", exit)).await;
                self.start_program(id, epoch).await;
            }
            Work::Replace => {
                if matches!(
                    self.driver.status(id).await,
                    Status::Running { .. } | Status::Frozen { .. }
                ) {
                    let exit = self.end_program(id, epoch, wire::Stop::default()).await;
                    self.note(id, epoch, ("exit", "stopped", exit)).await;
                }
                self.launch(id, epoch).await;
            }
            Work::Destroy => {
                if self.hold(id, epoch, Kind::StuckDestroying).await {
                    self.remove_program(id, epoch).await;
                }
            }
        }
    }

    /// Tells what happened, unless something newer is under way. Returns the new epoch.
    pub(super) async fn report(
        &self,
        id: &str,
        epoch: u64,
        event: Event,
        entry: Option<Entry>,
    ) -> Option<u64> {
        let reported = self
            .edit(|world, now| {
                let Some(machine) = world.machines.get(id).filter(|it| it.epoch == epoch) else {
                    return Ok(None);
                };
                let after = step(machine.state, event)?;
                Ok(world.edit_machine(id, now, |machine| {
                    if let Some((kind, status, payload)) = entry {
                        let words = (kind, status, "flyd");
                        machine.push_event(view::event(self.ids.ulid(), now, words, payload));
                    }
                    machine.enter(after, later(now, self.config.timings.settle))
                }))
            })
            .await;
        reported.unwrap_or_else(|refusal| {
            // Whoever closes the backend wants no news; a later process looks for itself.
            if !self.closed.asked() {
                tracing::warn!(machine = id, ?event, %refusal, "a report was not taken");
            }
            None
        })
    }

    /// Adds to the machine's log without a change of state.
    pub(super) async fn note(&self, id: &str, epoch: u64, (kind, status, payload): Entry) {
        let noted = self
            .edit(|world, now| {
                if world.machines.get(id).is_some_and(|it| it.epoch == epoch) {
                    let words = (kind, status, "flyd");
                    let event = view::event(self.ids.ulid(), now, words, payload);
                    world.edit_machine(id, now, |machine| machine.push_event(event));
                }
                Ok(())
            })
            .await;
        if let Err(refusal) = noted {
            tracing::warn!(machine = id, %refusal, "an event was not noted");
        }
    }

    /// Waits, unless something newer comes up meanwhile.
    pub(super) async fn pause(&self, id: &str, epoch: u64, time: Duration) -> bool {
        let mut over = std::pin::pin!(tokio::time::sleep(time));
        loop {
            let mut rung = std::pin::pin!(self.bell(id).notified());
            rung.as_mut().enable();
            if self.epoch(id) != Some(epoch) {
                return false;
            }
            tokio::select! {
                biased;
                () = over.as_mut() => return self.epoch(id) == Some(epoch),
                () = rung => {}
            }
        }
    }

    async fn launch(self: &Arc<Self>, id: &str, epoch: u64) {
        let wanted = self.lock().machines.get(id).map(|it| {
            let image = it.current().map(|it| it.config.image.clone()).unwrap_or_default();
            (image, it.launch, it.state == State::Replacing)
        });
        let Some((reference, launch, replacing)) = wanted else { return };
        let stuck = if replacing { Kind::StuckReplacing } else { Kind::StuckCreated };
        if !self.hold(id, epoch, stuck).await {
            return;
        }
        let stays = replacing && self.machine_fault(id, Kind::ReplacedButStopped).is_some();
        let image = match self.driver.image(&reference).await {
            Ok(image) => image,
            Err(error) => return self.fail(id, epoch, &error).await,
        };
        if !self.pause(id, epoch, self.config.timings.prepare + image.prepare).await {
            return;
        }
        if let Some(machine) = self.lock().machines.get_mut(id) {
            // Written with the report that follows.
            machine.digest = image.digest;
        }
        if launch && !stays {
            if let Some(epoch) = self.report(id, epoch, Event::Launch, None).await {
                self.start_program(id, epoch).await;
            }
        } else {
            self.report(id, epoch, Event::Prepared, None).await;
        }
    }

    async fn start_program(self: &Arc<Self>, id: &str, epoch: u64) {
        if !self.hold(id, epoch, Kind::StuckStarting).await || !self.volume_filled(id, epoch).await
        {
            return;
        }
        let started = match self.driver.status(id).await {
            Status::Running { .. } => Ok(()),
            Status::Frozen { .. } => self.driver.resume(id).await,
            Status::Exited(_) | Status::Absent => self.start_cold(id).await,
        };
        let started = match started {
            // The memory is lost, then; Fly starts cold too.
            Err(driver::Error::NotRunning { .. }) => self.start_cold(id).await,
            other => other,
        };
        match started {
            Ok(()) => {
                let entry = ("start", "started", None);
                if let Some(epoch) = self.report(id, epoch, Event::Started, Some(entry)).await {
                    self.watch_over(id, epoch);
                }
            }
            Err(error) => self.fail(id, epoch, &error).await,
        }
    }

    async fn start_cold(&self, id: &str) -> Result<(), driver::Error> {
        let reference = self
            .lock()
            .machines
            .get(id)
            .and_then(|it| it.current().map(|it| it.config.image.clone()))
            .unwrap_or_default();
        let image = self.driver.image(&reference).await?;
        let spec = spec::build(&self.lock(), id, &image, |volume| self.disk.volume(volume));
        let Some(spec) = spec else {
            return Err(driver::Error::NotRunning { id: id.to_owned() });
        };
        self.start_whole(spec).await
    }

    /// A start that was begun goes on to its end even if the work that wanted it does not: half of one is a program that
    /// nobody knows of. None begins once the backend closes.
    async fn start_whole(&self, spec: Spec) -> Result<(), driver::Error> {
        let under_way = Arc::clone(&self.starts).read_owned().await;
        if self.closed.asked() {
            // Background work ends here; a later process does it again.
            return std::future::pending().await;
        }
        let (id, driver) = (spec.id.clone(), Arc::clone(&self.driver));
        let (done, result) = tokio::sync::oneshot::channel();
        tasks::detached(async move {
            let started = driver.start(&spec).await;
            drop(under_way);
            // Sending fails if the work ended meanwhile.
            let _unheard = done.send(started);
        });
        result.await.unwrap_or(Err(driver::Error::NotRunning { id }))
    }

    /// A volume may be mounted while a copy into it goes on; a program may not see it then.
    async fn volume_filled(&self, id: &str, epoch: u64) -> bool {
        loop {
            let filling = {
                let world = self.lock();
                let volume = world.machines.get(id).and_then(|it| it.volume());
                volume
                    .filter(|it| world.volumes.get(*it).is_some_and(|it| it.filling_from.is_some()))
                    .map(str::to_owned)
            };
            let Some(volume) = filling else { return true };
            let mut rung = std::pin::pin!(self.bell(&volume).notified());
            rung.as_mut().enable();
            if self.epoch(id) != Some(epoch) {
                return false;
            }
            // The bell may have rung just before; the second look is cheap.
            let _rang = tokio::time::timeout(RETRY_FIRST, rung).await;
        }
    }

    async fn fail(self: &Arc<Self>, id: &str, epoch: u64, error: &driver::Error) {
        let text = retry::chain(error);
        tracing::warn!(machine = id, error = %text, "a machine did not start");
        let has_run = self.lock().machines.get(id).is_some_and(|it| it.has_run);
        let payload = Some(json!({"error": text}));
        let never_will = matches!(error, driver::Error::Io { .. }) && !has_run;
        let replacing = self.lock().machines.get(id).is_some_and(|it| it.state == State::Replacing);
        if never_will && !replacing {
            let entry = ("launch", "launch_failed", payload);
            if self.report(id, epoch, Event::LaunchFailed, Some(entry)).await.is_some() {
                let wish = Event::Destroy { force: false };
                // Refused only if somebody was faster.
                let _faster =
                    Box::pin(self.begin(id, wish, Who::Host, wire::Stop::default())).await;
            }
        } else {
            let entry = ("launch", "failed", payload);
            self.report(id, epoch, Event::StartFailed, Some(entry)).await;
        }
    }

    /// Ends the program for certain; returns the payload of its exit event.
    async fn end_program(&self, id: &str, epoch: u64, how: wire::Stop) -> Option<Value> {
        let signal = how.signal.filter(|it| !it.is_empty());
        let timeout = how.timeout.map(|it| it.0);
        let mut delay = RETRY_FIRST;
        loop {
            match self.driver.stop(id, signal.as_deref(), timeout).await {
                Ok(()) | Err(driver::Error::NotRunning { .. }) => break,
                Err(error) => {
                    tracing::warn!(machine = id, error = %retry::chain(&error), "stop failed");
                }
            }
            if !self.pause(id, epoch, delay).await {
                break;
            }
            delay = (delay * 2).min(RETRY_MAX);
        }
        match self.driver.status(id).await {
            Status::Exited(exit) => Some(exit_payload(&exit, false)),
            Status::Running { .. } | Status::Frozen { .. } | Status::Absent => None,
        }
    }

    async fn suspend_program(self: &Arc<Self>, id: &str, epoch: u64) {
        let reported = match self.driver.suspend(id).await {
            Ok(()) => {
                let entry = ("suspend", "suspended", None);
                self.report(id, epoch, Event::Suspended, Some(entry)).await
            }
            Err(error) => {
                let text = retry::chain(&error);
                let entry = ("suspend", "failed", Some(json!({"error": text})));
                self.report(id, epoch, Event::SuspendFailed, Some(entry)).await
            }
        };
        if let Some(epoch) = reported {
            self.watch_over(id, epoch);
        }
    }

    async fn remove_program(&self, id: &str, epoch: u64) {
        let mut delay = RETRY_FIRST;
        while let Err(error) = self.driver.remove(id).await {
            tracing::warn!(machine = id, error = %retry::chain(&error), "remove failed");
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_MAX);
        }
        tokio::time::sleep(self.config.timings.destroy).await;
        self.report(id, epoch, Event::Gone, Some(("destroy", "destroyed", None))).await;
    }

    /// `auto_destroy` machines go with their program.
    pub(super) async fn destroy_if_auto(self: &Arc<Self>, id: &str) {
        let auto = {
            let world = self.lock();
            let machine = world.machines.get(id);
            machine.and_then(|it| it.current()).is_some_and(|it| it.config.auto_destroy)
        };
        if auto {
            let wish = Event::Destroy { force: true };
            // Refused only if somebody was faster.
            let _faster = Box::pin(self.begin(id, wish, Who::Host, wire::Stop::default())).await;
        }
    }

    /// Returns when a machine is destroyed or forgotten.
    pub(super) async fn until_gone(&self, id: &str) {
        loop {
            let mut rung = std::pin::pin!(self.bell(id).notified());
            rung.as_mut().enable();
            if self.lock().machines.get(id).is_none_or(|it| !it.is_live()) {
                return;
            }
            rung.await;
        }
    }
}
