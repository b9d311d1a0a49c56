//! What users and the proxy wish of a machine that exists: lease, state machine, event, answer. The work itself is
//! `operate`'s; nothing here waits for a program.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{
    Backend,
    call::MachineCall,
    faults::Look,
    machine::{Event, State, step},
    operate::Work,
    refusal::Refusal,
    respond::Reply,
    state::{Lease, Machine, World, later},
    view,
};

const STOP_TIMEOUT_MAX: Duration = Duration::from_secs(5 * 60);
const SUSPEND_MEMORY_MAX_MB: u32 = 2_048;

/// Who wishes something, as events name them.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// A caller of the API, perhaps with a lease's nonce.
    User(Option<String>),
    /// Fly Proxy's part; it holds no lease.
    Proxy,
    /// The host itself, which asks no lease.
    Host,
}

impl Who {
    pub(super) fn source(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Proxy => "proxy",
            Self::Host => "flyd",
        }
    }

    pub(super) fn check(&self, machine: &Machine, now: Timestamp) -> Result<(), Refusal> {
        match self {
            Self::User(nonce) => machine.check_lease(nonce.as_deref(), now),
            Self::Proxy => machine.check_lease(None, now),
            Self::Host => Ok(()),
        }
    }
}

impl Backend {
    pub(super) async fn machine_call(
        self: &Arc<Self>,
        (app, id): (&str, &str),
        nonce: Option<&str>,
        call: MachineCall,
        look: &Look,
    ) -> Result<Reply, Refusal> {
        if !matches!(call, MachineCall::Get { .. }) {
            // Everything below may then take the id for the app's.
            self.seen(&self.lock(), app, id)?;
        }
        let who = Who::User(nonce.map(str::to_owned));
        match call {
            MachineCall::Get { leases } => {
                let view = self.view(look);
                self.get_machine(&view, self.seen(&view, app, id)?, leases)
            }
            MachineCall::Update(input) => self.update_machine(id, who, *input).await,
            MachineCall::Destroy { force } => self.destroy(id, nonce, force).await,
            MachineCall::Start => self.start(id, who).await,
            MachineCall::Stop(how) => self.stop(id, nonce, how).await,
            MachineCall::Suspend => self.suspend(id, who).await,
            MachineCall::Restart(how) => {
                check_stop(&how)?;
                self.begin(id, Event::Restart, who, how).await?;
                Reply::ok()
            }
            MachineCall::Wait(wait) => self.wait(app, id, &wait).await,
            MachineCall::Signal(body) => self.signal(id, &body).await,
            MachineCall::Exec(input) => self.exec(id, input).await,
            MachineCall::Processes { sort_by, descending } => {
                self.processes(id, &sort_by, descending).await
            }
            MachineCall::Events { limit } => self.events(id, limit),
            MachineCall::Versions => self.versions(id),
            MachineCall::Metadata => self.metadata(id),
            MachineCall::PutMetadata(update) => self.write_metadata(id, update, true).await,
            MachineCall::PatchMetadata(update) => self.write_metadata(id, update, false).await,
            MachineCall::MetadataValue { key } => self.metadata_value(id, &key),
            MachineCall::SetMetadata { key, value } => {
                self.set_metadata(id, key, Some(value)).await
            }
            MachineCall::DeleteMetadata { key } => self.set_metadata(id, key, None).await,
            MachineCall::GetLease => self.get_lease(id),
            MachineCall::TakeLease(request) => self.take_lease(id, nonce, request).await,
            MachineCall::ReleaseLease => self.release_lease(id, nonce).await,
            MachineCall::Cordon(cordoned) => self.cordon(id, who, cordoned).await,
        }
    }

    /// Refuses what nobody can see: another app's machine, one that was destroyed a while ago.
    fn seen<'a>(&self, world: &'a World, app: &str, id: &str) -> Result<&'a Machine, Refusal> {
        let machine = world.machine(app, id)?;
        let until = later(machine.updated_at, self.config.timings.destroyed_readable);
        if machine.is_live() || self.now() < until {
            Ok(machine)
        } else {
            Err(Refusal::NotFound("machine"))
        }
    }

    /// Puts a machine into the state that a wish leads to and starts the work. Returns the state before.
    pub(super) async fn begin(
        self: &Arc<Self>,
        id: &str,
        wish: Event,
        who: Who,
        how: wire::Stop,
    ) -> Result<State, Refusal> {
        let (backend, id) = (Arc::clone(self), id.to_owned());
        self.whole(async move { backend.begin_now(&id, wish, &who, how).await }).await
    }

    async fn begin_now(
        self: &Arc<Self>,
        id: &str,
        wish: Event,
        who: &Who,
        how: wire::Stop,
    ) -> Result<State, Refusal> {
        let (before, epoch) = self
            .edit(|world, now| {
                let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
                who.check(machine, now)?;
                let before = machine.state_at(now);
                let after = step(before, wish)?;
                if after == before {
                    return Ok((before, None));
                }
                let words = (noun(wish), after.word(), who.source());
                let event = view::event(self.ids.ulid(), now, words, None);
                let epoch = world.edit_machine(id, now, |machine| {
                    machine.push_event(event);
                    machine.launch = wish == Event::Start || wish == Event::Restart;
                    machine.enter(after, later(now, self.config.timings.settle))
                });
                Ok((before, epoch))
            })
            .await?;
        let work = match wish {
            Event::Start => Work::Start,
            Event::Stop => Work::Stop(how),
            Event::Suspend => Work::Suspend,
            Event::Restart => Work::Restart(how),
            Event::Destroy { .. } => Work::Destroy,
            // The rest are reports, or have a way of their own.
            Event::Update
            | Event::Prepared
            | Event::Launch
            | Event::Started
            | Event::StartFailed
            | Event::LaunchFailed
            | Event::Stopped
            | Event::Exited
            | Event::Settled
            | Event::Suspended
            | Event::SuspendFailed
            | Event::Gone => return Ok(before),
        };
        if let Some(epoch) = epoch {
            self.work(id, epoch, work);
        }
        Ok(before)
    }

    pub(super) async fn start(self: &Arc<Self>, id: &str, who: Who) -> Result<Reply, Refusal> {
        let before = self.begin(id, Event::Start, who, wire::Stop::default()).await?;
        Reply::json(&wire::Started {
            previous_state: before.word().to_owned(),
            migrated: false,
            new_host: String::new(),
        })
    }

    async fn stop(
        self: &Arc<Self>,
        id: &str,
        nonce: Option<&str>,
        how: wire::Stop,
    ) -> Result<Reply, Refusal> {
        check_stop(&how)?;
        self.begin_patiently(id, Event::Stop, nonce, how).await?;
        Reply::ok()
    }

    async fn destroy(
        self: &Arc<Self>,
        id: &str,
        nonce: Option<&str>,
        force: bool,
    ) -> Result<Reply, Refusal> {
        if self.is_unreachable(id) {
            self.promise(id).await?;
            return Reply::ok();
        }
        let wish = Event::Destroy { force };
        self.begin_patiently(id, wish, nonce, wire::Stop::default()).await?;
        Reply::ok()
    }

    /// Fly does not refuse a stop or a destroy for somebody's lease: it waits until the lease has run out.
    async fn begin_patiently(
        self: &Arc<Self>,
        id: &str,
        wish: Event,
        nonce: Option<&str>,
        how: wire::Stop,
    ) -> Result<State, Refusal> {
        let who = Who::User(nonce.map(str::to_owned));
        loop {
            let mut rung = std::pin::pin!(self.bell(id).notified());
            rung.as_mut().enable();
            match self.begin(id, wish, who.clone(), how.clone()).await {
                Err(Refusal::Leased { .. }) => {}
                settled => return settled,
            }
            let left = {
                let world = self.lock();
                let now = self.now();
                let lease = world.machines.get(id).and_then(|it| it.lease(now));
                lease.map_or(Duration::ZERO, |it| until(it, now))
            };
            tokio::select! {
                biased;
                () = rung => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    async fn suspend(self: &Arc<Self>, id: &str, who: Who) -> Result<Reply, Refusal> {
        {
            let world = self.lock();
            let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
            check_suspendable(machine)?;
        }
        self.begin(id, Event::Suspend, who, wire::Stop::default()).await?;
        Reply::ok()
    }

    async fn cordon(&self, id: &str, who: Who, cordoned: bool) -> Result<Reply, Refusal> {
        self.edit(|world, now| {
            let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
            who.check(machine, now)?;
            if machine.cordoned != cordoned {
                world.edit_machine(id, now, |it| it.cordoned = cordoned);
            }
            Ok(())
        })
        .await?;
        Reply::ok()
    }
}

impl Machine {
    /// The state, with the time that heals [`State::Draining`] taken into account.
    pub(super) fn state_at(&self, now: Timestamp) -> State {
        if now >= self.settles_at {
            step(self.state, Event::Settled).unwrap_or(self.state)
        } else {
            self.state
        }
    }

    /// Enters a state; returns the epoch that reports about it must name.
    pub(super) fn enter(&mut self, state: State, settles_at: Timestamp) -> u64 {
        self.state = state;
        self.settles_at = settles_at;
        self.epoch += 1;
        self.checks.clear();
        if state == State::Started {
            self.has_run = true;
        }
        if state == State::Destroyed {
            self.lease = None;
        }
        self.epoch
    }
}

fn noun(wish: Event) -> &'static str {
    match wish {
        Event::Start | Event::Started | Event::StartFailed => "start",
        Event::Stop => "stop",
        Event::Suspend | Event::Suspended | Event::SuspendFailed => "suspend",
        Event::Restart => "restart",
        Event::Update => "update",
        Event::Destroy { .. } | Event::Gone => "destroy",
        Event::Prepared | Event::Launch | Event::LaunchFailed => "launch",
        Event::Stopped | Event::Exited | Event::Settled => "exit",
    }
}

fn until(lease: &Lease, now: Timestamp) -> Duration {
    Duration::try_from(lease.expires_at.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// Bounds of a stop request and of a configuration's `stop_config`.
pub(super) fn check_stop(how: &wire::Stop) -> Result<(), Refusal> {
    if how.timeout.is_some_and(|it| it.0 > STOP_TIMEOUT_MAX) {
        return Err(Refusal::Invalid(
            "invalid stop_config.timeout, cannot exceed 5 minutes".to_owned(),
        ));
    }
    const SIGNALS: [&str; 7] =
        ["SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM"];
    match &how.signal {
        Some(signal) if !signal.is_empty() && !SIGNALS.contains(&signal.as_str()) => {
            Err(Refusal::Invalid(format!("invalid_argument: unsupported signal {signal}")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_suspendable(machine: &Machine) -> Result<(), Refusal> {
    let Some(config) = machine.current().map(|it| &it.config) else { return Ok(()) };
    let refuse =
        |why: &str| Err(Refusal::Precondition(format!("machine cannot be suspended: {why}")));
    if config.guest.as_ref().is_some_and(|it| it.memory_mb > SUSPEND_MEMORY_MAX_MB) {
        return refuse("memory must not exceed 2048 MB");
    }
    let swap = config.init.as_ref().and_then(|it| it.other.get("swap_size_mb"));
    if swap.and_then(serde_json::Value::as_u64).is_some_and(|it| it > 0) {
        return refuse("swap must not be configured");
    }
    if config.other.get("schedule").is_some_and(|it| !it.is_null() && *it != json!("")) {
        return refuse("it must not have a schedule");
    }
    Ok(())
}
