//! The Machines API: wire types, errors, limits, and the calls that hangar makes. It must never know `api` or `plan`.

pub mod call;
pub mod decode;
mod error;
pub mod http;
pub mod limit;
pub mod observer;
mod said;
pub mod token;
pub mod transport;
pub mod wire;

use std::{fmt, time::Duration};

use futures::future::BoxFuture;

pub use self::error::{Error, Missing, Reason, Refusal, Scope};
pub use self::said::printable;
pub(crate) use self::said::without;
use self::wire::{
    App, CreateApp, CreateVolume, Exec, Executed, ExtendedVolume, Machine, MachineInput,
    OrgMachines, OrgVolumes, Region, SecretsUpdate, SecretsUpdated, Snapshot, Started, Stop,
    Volume, Waited,
};
use crate::clock::Timestamp;

/// What a call promises.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// What is asked of an organisation's list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrgQuery {
    /// Only what changed after this. Changes arrive late, so let windows overlap.
    pub updated_after: Option<Timestamp>,
    /// Where the last page ended; outranks `updated_after`.
    pub cursor: Option<String>,
    /// At most so many on a page, up to 1000.
    pub limit: Option<u32>,
    /// Destroyed ones too, for as long as Fly remembers them.
    pub include_deleted: bool,
    /// Without configurations.
    pub summary: bool,
}

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitFor<'a> {
    /// `started`, `stopped`, `suspended`, `destroyed`, `failed`, or `settled` for any state that lasts.
    pub state: &'a str,
    /// Only this version of the machine counts.
    pub version: Option<&'a str>,
    /// How long; Fly takes whole seconds from 1 to 60, so it is rounded up and kept in that range.
    pub timeout: Duration,
}

/// The calls that hangar makes. `Arc<dyn Machines>` is what everybody holds.
///
/// Every call is made once: repeating one is the caller's decision, by [`Error::retry`] and [`Error::ambiguous`].
/// Reads may be behind writes, and dropping the future of a change leaves its outcome open.
pub trait Machines: fmt::Debug + Send + Sync {
    /// Apps of the organisation; complete, there are no pages.
    fn list_apps<'a>(&'a self, org: &'a str) -> Answer<'a, Vec<App>>;
    /// One app. Missing right after its creation is no proof; [`Reason::ForeignApp`] means that somebody else has it.
    fn get_app<'a>(&'a self, app: &'a str) -> Answer<'a, App>;
    /// Makes an app. Not repeatable, but its name is unique on all of Fly: after [`Reason::NameTaken`] read it and see.
    fn create_app<'a>(&'a self, input: &'a CreateApp) -> Answer<'a, ()>;
    /// Deletes an app with its machines and volumes, running or not. Takes effect after the answer.
    fn delete_app<'a>(&'a self, app: &'a str) -> Answer<'a, ()>;
    /// Sets and unsets app secrets; machines see them at their next start or update.
    fn set_secrets<'a>(
        &'a self,
        app: &'a str,
        update: &'a SecretsUpdate,
    ) -> Answer<'a, SecretsUpdated>;

    /// Machines of an app that carry all of this metadata. An empty list is no proof that there are none.
    fn list_machines<'a>(
        &'a self,
        app: &'a str,
        metadata: &'a [(&'a str, &'a str)],
    ) -> Answer<'a, Vec<Machine>>;
    /// One machine. `destroyed` and [`Error::is_gone`] both mean gone, except right after its creation.
    fn get_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, Machine>;
    /// Makes a machine. Not repeatable without a unique name: then the second is [`Reason::MachineNameTaken`].
    fn create_machine<'a>(&'a self, app: &'a str, input: &'a MachineInput) -> Answer<'a, Machine>;
    /// Replaces a machine's whole configuration, and restarts it, or starts it unless `skip_launch`.
    fn update_machine<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        input: &'a MachineInput,
    ) -> Answer<'a, Machine>;
    /// Starts or resumes a machine. For seconds after a creation, update or stop it is [`Reason::StateRace`].
    fn start_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, Started>;
    /// Stops a machine; fine when it is stopped. Discards a suspended one's memory. Hangs while others hold its lease.
    fn stop_machine<'a>(&'a self, app: &'a str, id: &'a str, how: &'a Stop) -> Answer<'a, ()>;
    /// Suspends a machine. Its resume may be a cold boot all the same.
    fn suspend_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// Stops and starts a machine at the same version.
    fn restart_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// Destroys a machine, a running one only by `force`. On a dead host it is a promise. Its volume stays.
    fn destroy_machine<'a>(&'a self, app: &'a str, id: &'a str, force: bool) -> Answer<'a, ()>;
    /// Waits for a state. [`Error::is_gone`] is success when waiting for `destroyed`.
    fn wait_machine<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        wait: WaitFor<'a>,
    ) -> Answer<'a, Waited>;
    /// Runs a command in a started machine. Success says nothing about its exit code; over 30 s it is not reliable.
    fn exec<'a>(&'a self, app: &'a str, id: &'a str, command: &'a Exec) -> Answer<'a, Executed>;
    /// Writes one metadata key; makes no version and restarts nothing.
    fn put_metadata<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        key: &'a str,
        value: &'a str,
    ) -> Answer<'a, ()>;

    /// A page of the organisation's machines, oldest change first. Only `next_cursor` says whether it was the last one,
    /// and absence proves nothing about `error_regions`.
    fn org_machines<'a>(&'a self, org: &'a str, query: &'a OrgQuery) -> Answer<'a, OrgMachines>;
    /// A page of the organisation's volumes, alike.
    fn org_volumes<'a>(&'a self, org: &'a str, query: &'a OrgQuery) -> Answer<'a, OrgVolumes>;

    /// Volumes of an app; those being destroyed stay in it for a day ([`Volume::is_going`]).
    fn list_volumes<'a>(&'a self, app: &'a str) -> Answer<'a, Vec<Volume>>;
    /// One volume. It may answer for a volume that a machine's creation calls missing.
    fn get_volume<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, Volume>;
    /// Makes a volume. Not repeatable: names need not be unique, so list before doing it again.
    fn create_volume<'a>(&'a self, app: &'a str, input: &'a CreateVolume) -> Answer<'a, Volume>;
    /// Grows a volume; never shrinks it.
    fn extend_volume<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        size_gb: u32,
    ) -> Answer<'a, ExtendedVolume>;
    /// Deletes a volume, softly for a day. [`Reason::VolumeBound`] until its machine is really gone.
    fn delete_volume<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, ()>;
    /// Snapshots of a volume, also of one deleted not long ago.
    fn snapshots<'a>(&'a self, app: &'a str, volume: &'a str) -> Answer<'a, Vec<Snapshot>>;
    /// Starts a snapshot and does not say which: list afterwards. One at a time.
    fn create_snapshot<'a>(&'a self, app: &'a str, volume: &'a str) -> Answer<'a, ()>;

    /// Regions of the platform.
    fn regions(&self) -> Answer<'_, Vec<Region>>;
}

#[cfg(test)]
mod tests;
