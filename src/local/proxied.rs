//! What the proxy front may see and do of the machines. It must never carry HTTP.

use std::{io, sync::Arc, time::Duration};

use futures::future::BoxFuture;

use crate::fly::wire::{self, Autostop};
use crate::local::{
    Backend,
    driver::{self, Stream},
    fleet::{Fleet, Target, WakeError},
    lifecycle::Who,
    machine::{Event, State},
    refusal::Refusal,
    state::{Machine, World},
};

/// Fly Proxy gives up after a number of attempts, too.
const WAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// A refusal that time heals is asked again this soon, when no bell rings before.
const WAKE_RETRY: Duration = Duration::from_millis(50);

/// A machine with a service, as the front sees it.
fn shown(world: &World, machine: &Machine) -> Option<Target> {
    let app = world.apps.get(&machine.app).filter(|it| !it.deleting)?;
    let config = &machine.current()?.config;
    let speaks_http = |it: &&wire::Service| {
        it.ports.iter().any(|port| port.handlers.iter().any(|handler| handler == "http"))
    };
    let service = config.services.iter().find(speaks_http).or_else(|| config.services.first())?;
    machine.is_live().then(|| Target {
        app: app.name.clone(),
        network: app.network.clone(),
        id: machine.id.clone(),
        state: machine.state.word().to_owned(),
        region: machine.region.clone(),
        internal_port: service.internal_port,
        autostart: service.autostart.unwrap_or(true),
        autostop: service.autostop.unwrap_or_default(),
        min_machines_running: service.min_machines_running.unwrap_or(0),
        cordoned: machine.cordoned,
    })
}

impl Backend {
    async fn wake_patiently(self: &Arc<Self>, id: &str) -> Result<(), Refusal> {
        loop {
            let mut rung = std::pin::pin!(self.bell(id).notified());
            rung.as_mut().enable();
            if self.is_unreachable(id) {
                return Err(Refusal::Deadline("no answer from the host"));
            }
            let state = {
                let world = self.lock();
                world.machines.get(id).map(|it| it.state).ok_or(Refusal::NotFound("machine"))?
            };
            match state {
                State::Started => return Ok(()),
                // They end in `started` by themselves, or in a state that says why not.
                State::Starting | State::Restarting => rung.await,
                State::Created
                | State::Stopping
                | State::Draining
                | State::Stopped
                | State::Suspending
                | State::Suspended
                | State::Replacing => {
                    let begun = self.begin(id, Event::Start, Who::Proxy, wire::Stop::default());
                    match begun.await {
                        Ok(_) => {}
                        Err(
                            Refusal::StillActive
                            | Refusal::GettingReplaced
                            | Refusal::Unable { .. },
                        ) => {
                            // Settling rings no bell.
                            let _rang = tokio::time::timeout(WAKE_RETRY, rung).await;
                        }
                        Err(refusal) => return Err(refusal),
                    }
                }
                State::Destroying | State::Destroyed | State::Failed | State::LaunchFailed => {
                    return Err(Refusal::Unable { verb: "start", state: state.word() });
                }
            }
        }
    }
}

impl Fleet for Backend {
    fn has_app(&self, app: &str) -> bool {
        self.lock().app(app).is_ok()
    }

    fn targets(&self, app: &str) -> Vec<Target> {
        let world = self.lock();
        let Ok(app) = world.app(app) else { return Vec::new() };
        let machines = app.machines.iter().filter_map(|id| world.machines.get(id));
        machines.filter_map(|it| shown(&world, it)).collect()
    }

    fn target(&self, id: &str) -> Option<Target> {
        let world = self.lock();
        world.machines.get(id).and_then(|it| shown(&world, it))
    }

    fn autostopped(&self) -> Vec<Target> {
        let world = self.lock();
        let targets = world.machines.values().filter_map(|it| shown(&world, it));
        targets.filter(|it| it.autostop != Autostop::Off).collect()
    }

    fn wake<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), WakeError>> {
        Box::pin(async move {
            let Some(me) = self.me.upgrade() else {
                return Err(WakeError { id: id.to_owned(), why: "shutting down".to_owned() });
            };
            let why = match tokio::time::timeout(WAKE_TIMEOUT, me.wake_patiently(id)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(refusal)) => refusal.to_string(),
                Err(_) => "it took too long".to_owned(),
            };
            Err(WakeError { id: id.to_owned(), why })
        })
    }

    fn idle<'a>(&'a self, id: &'a str, how: Autostop) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let wish = match how {
                Autostop::Off => return,
                Autostop::Stop => Event::Stop,
                Autostop::Suspend => Event::Suspend,
            };
            let Some(me) = self.me.upgrade() else { return };
            if self.is_unreachable(id) {
                return;
            }
            if let Err(refusal) = me.begin(id, wish, Who::Proxy, wire::Stop::default()).await {
                tracing::debug!(machine = id, %refusal, "an idle machine stays up");
            }
        })
    }

    fn dial<'a>(
        &'a self,
        id: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Stream>, driver::Error>> {
        if self.is_unreachable(id) {
            let id = id.to_owned();
            let source = io::Error::new(io::ErrorKind::HostUnreachable, "no answer from the host");
            return Box::pin(async { Err(driver::Error::Io { id, doing: "dial", source }) });
        }
        self.driver.dial(id, port)
    }
}
