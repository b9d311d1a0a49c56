//! What can be opened in a pod: its log, commands, its ports. Each goes to the one machine that the pod is of, asked for anew
//! every time; what is open is closed when that is not so any more. It must never be reached past the guard of every request.

mod command;
mod forward;
mod framed;
mod log;
mod metrics;
mod negotiate;
mod query;
mod socket;
pub(in crate::server) mod spdy;

use std::{sync::Arc, time::Duration};

use http::{Response, request::Parts as Head};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::negotiate::Work;
pub(super) use self::{
    metrics::usage,
    query::{Open, read},
};
use crate::api::{
    activity::{Report, SeenRequest},
    environment::Environment,
    meta::ObjectRef,
    pod::{Need, Place, Pod},
};
use crate::clock::Clock;
use crate::net::Body;
use crate::server::{
    State, activity, derived,
    reach::{Reach, Refusal},
    status::Status,
};
use crate::store::handle::Store;
use crate::tasks::Shutdown;

/// Commands, forwarded connections' carriers and followed logs at once, of all callers.
pub(super) const OPEN_MAX: usize = 256;
/// How often an open stream is counted as a use of its environment, and asked whether it may stay open.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(10) };
/// How often a silent connection is tried, so that one whose caller vanished ends.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Bytes that are carried at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// What a stream needs for as long as it is open.
struct Desk {
    pod: ObjectRef,
    place: Place,
    store: Store,
    clock: Arc<dyn Clock>,
    reach: Arc<dyn Reach>,
    shutdown: Shutdown,
    /// Its place among all that are open.
    _permit: OwnedSemaphorePermit,
}

/// Opens something in a pod.
pub(super) async fn open(
    state: &State,
    head: &Head,
    (pod, open): (ObjectRef, Open),
    shutdown: Shutdown,
) -> Result<Response<Body>, Status> {
    let need = if matches!(open, Open::Log(_)) { Need::Machine } else { Need::Running };
    let (environment, place) = place(&state.store, &pod, need).await?;
    let desk = Desk {
        pod,
        place,
        store: state.store.clone(),
        clock: Arc::clone(&state.clock),
        reach: Arc::clone(&state.reach),
        shutdown,
        _permit: permit(&state.streams)?,
    };
    match open {
        Open::Log(wanted) => log::answer(desk, wanted).await,
        Open::Command(wanted) => negotiate::command(desk, environment, head, (Work::Run, wanted)),
        Open::Attach(wanted) => negotiate::command(desk, environment, head, (Work::Attach, wanted)),
        Open::Ports(ports) => negotiate::ports(desk, environment, head, ports),
    }
}

fn permit(streams: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Status> {
    Arc::clone(streams).try_acquire_owned().map_err(|_| {
        Status::too_many(format!("{OPEN_MAX} streams are open already; close one and try again"))
    })
}

async fn place(store: &Store, pod: &ObjectRef, need: Need) -> Result<(Environment, Place), Status> {
    let (environment, bay) = derived::behind(store, pod).await?;
    let place = Pod::place(&environment, &bay, need).map_err(Status::bad_request)?;
    Ok((environment, place))
}

impl Desk {
    /// Returns when the stream must not stay open: the process ends, or the machine is not the pod's any more. Until then the
    /// environment counts as used, so that it is not put to sleep under somebody's hands.
    async fn while_it_may(&self, environment: &Environment) {
        let mut shutdown = self.shutdown.clone();
        let looks = async {
            loop {
                self.used(environment).await;
                tokio::time::sleep(LOOK_EVERY).await;
                let now = place(&self.store, &self.pod, Need::Running).await;
                // A store that cannot be asked closes nothing.
                let gone = match now {
                    Ok((_, place)) => place != self.place,
                    Err(status) => !status.code.is_server_error(),
                };
                if gone {
                    return;
                }
            }
        };
        tokio::select! {
            () = shutdown.wait() => {}
            () = looks => {}
        }
    }

    async fn used(&self, environment: &Environment) {
        let now = self.clock.now();
        let seen = SeenRequest {
            namespace: self.pod.namespace.clone(),
            name: self.pod.name.clone(),
            uid: environment.metadata.uid.clone(),
            at_ms: now.as_millisecond(),
        };
        let report = Report { requests: vec![seen], nudges: Vec::new() };
        if let Err(error) = activity::record_activity(&self.store, report, now).await {
            tracing::warn!(%error, "a stream's use of its environment was not recorded");
        }
    }
}

/// A refusal as an answer, while one can still be given.
fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Never(why) | Refusal::NotNow(why) => Status::bad_request(why.clone()),
        Refusal::Failed(why) => Status::internal(why.clone()),
    }
}

/// Ticks when a connection is to be tried.
fn pings() -> tokio::time::Interval {
    let mut pings = tokio::time::interval(PING_EVERY);
    // The first one would be now.
    pings.reset();
    pings
}
