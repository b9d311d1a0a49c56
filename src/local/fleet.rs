//! What the proxy front may ask of the machines behind it: the seam between Fly Proxy's part and the Machines API's part.
//! It must never carry HTTP.

use std::fmt;

use futures::future::BoxFuture;

use crate::fly::wire::Autostop;
use crate::local::driver::{self, Stream};

/// A machine as the front sees it, with the one service that answers HTTP (handlers `http`, else the first service).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// App.
    pub app: String,
    /// The app's private network.
    pub network: String,
    /// Machine id.
    pub id: String,
    /// Fly's state word.
    pub state: String,
    /// Region.
    pub region: String,
    /// Port inside the machine.
    pub internal_port: u16,
    /// Whether a request starts it.
    pub autostart: bool,
    /// Whether idleness stops it, and how.
    pub autostop: Autostop,
    /// Never stop below this many in the primary region.
    pub min_machines_running: u32,
    /// Out of routing.
    pub cordoned: bool,
}

/// Why a machine could not be woken.
#[derive(Debug, thiserror::Error)]
#[error("machine {id} did not start: {why}")]
pub struct WakeError {
    /// The machine.
    pub id: String,
    /// What the Machines API would have said.
    pub why: String,
}

/// The machines, behind the front.
pub trait Fleet: fmt::Debug + Send + Sync {
    /// Whether the app exists.
    fn has_app(&self, app: &str) -> bool;
    /// Machines of an app that have a service, destroyed ones left out.
    fn targets(&self, app: &str) -> Vec<Target>;
    /// The machine with this id, whatever its app.
    fn target(&self, id: &str) -> Option<Target>;
    /// Every machine with a service whose autostop is on, for the idle loop.
    fn autostopped(&self) -> Vec<Target>;
    /// Starts or resumes a machine as Fly Proxy does (its events have source `proxy`) and returns when it is `started`.
    fn wake<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), WakeError>>;
    /// Stops or suspends a machine as Fly Proxy does; refusals are ignored, the next round tries again.
    fn idle<'a>(&'a self, id: &'a str, how: Autostop) -> BoxFuture<'a, ()>;
    /// Connects to a started machine's port.
    fn dial<'a>(
        &'a self,
        id: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<Box<dyn Stream>, driver::Error>>;
}
