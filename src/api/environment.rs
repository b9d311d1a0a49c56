//! Environment: what a user gets. Types, conditions and reasons; it must never know how one is provided.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    condition,
    meta::{NameRef, resource},
    quantity::Span,
    rollout::EnvironmentRevision,
};

resource! {
    /// What a user gets: a name, an owner, a URL, their data. It outlives any machine.
    Environment {
        /// What is wanted.
        spec: EnvironmentSpec,
        /// What is, written by hangar.
        #[serde(default)]
        status: EnvironmentStatus,
    }
}

/// What is wanted of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSpec {
    /// The template it is made from. Immutable.
    pub template_ref: NameRef,
    /// Whose it is; a hostname that was freed is kept from other owners for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Preferred region, tried before the template's. Immutable; the status says where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Labels under the router's domain. By default the environment's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<String>,
    /// Who may reach it. By default Private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// By default Auto.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operating_mode: Option<OperatingMode>,
    /// Environment variables, over the template's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Secrets whose every key becomes an environment variable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub secrets: Vec<NameRef>,
    /// What happens to its data when it is deleted. By default Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime: Option<Lifetime>,
}

/// When an environment ends by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lifetime {
    /// So long after it was made it is deleted, as `hangar delete` would; at least 1m. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<Span>,
}

/// Who may reach an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Access {
    /// Only those who are let in. Signing in does not exist yet, so the router answers 403.
    Private,
    /// Everybody who knows the address.
    Public,
}

/// Whether an environment sleeps and wakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OperatingMode {
    /// Sleeps when idle, wakes on request.
    Auto,
    /// Never sleeps; a stopped machine is started again.
    Running,
    /// Put to sleep by order; requests do not wake it.
    Asleep,
}

/// What happens to the data of a deleted environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It is destroyed.
    Delete,
}

/// What is, as hangar last saw it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentStatus {
    /// The conditions in one word, for people.
    pub phase: Phase,
    /// The generation this status is about.
    pub observed_generation: u64,
    /// What is true and what is waited for.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Where it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The bay it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bay: Option<BayRef>,
    /// Why it is awake or asleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep: Option<SleepStatus>,
    /// When it is deleted, if it has a lifetime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
    /// The revision of its template that it is kept at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<EnvironmentRevision>,
    /// Bays of pools that were given up because what it adds to its template could not be written into them; after one, a bay is
    /// made for it.
    #[serde(skip_serializing_if = "is_zero")]
    pub bays_given_up: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// The bay that an environment is bound to, with what the router needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BayRef {
    /// Bay's name.
    pub name: String,
    /// App at Fly.
    pub app: String,
    /// Region, as Fly answered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Machine that serves; absent while there is none that may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Rises with every machine that replaces another.
    pub epoch: u64,
}

/// Why an environment is awake or asleep.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SleepStatus {
    /// What keeps it awake, or what put it to sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<SleepSignal>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub since: Option<Timestamp>,
    /// When it will sleep if nothing more happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub sleeps_at: Option<Timestamp>,
}

/// A signal that keeps an environment awake or says why it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SleepSignal {
    /// It was started not long ago.
    RecentStart,
    /// A request came through a router not long ago.
    RecentRequest,
    /// A connection into the machine is open.
    OpenConnection,
    /// `operatingMode: Running`.
    AlwaysRunning,
    /// The template has no sleep rule.
    NoSleepRule,
    /// Fly Proxy decides.
    FlyProxy,
    /// Every signal was quiet for `sleep.after`.
    Idle,
    /// `operatingMode: Asleep`.
    Ordered,
    /// Something other than hangar stopped it.
    External,
}

/// The conditions in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Nothing was done yet.
    #[default]
    Pending,
    /// App, volume or machine are being made.
    Provisioning,
    /// The machine starts or is not ready yet.
    Starting,
    /// It serves.
    Ready,
    /// It sleeps and wakes on request (or by order does not).
    Asleep,
    /// It should serve and does not; hangar is on it.
    Degraded,
    /// It needs a person.
    Stalled,
    /// It is being deleted.
    Deleting,
}

/// A condition of an environment.
pub type Condition = condition::Condition<ConditionType, Reason>;

/// What can be claimed of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionType {
    /// It has a bay.
    Bound,
    /// The bay's app, volume and machine exist.
    Provisioned,
    /// The machine runs the declared configuration.
    Updated,
    /// What it adds to its template reached the machine, which a pool made. Absent where none did.
    Personalized,
    /// The router sends its hostnames to its machine.
    Routed,
    /// It was seen serving at this generation.
    Ready,
    /// It sleeps.
    Asleep,
    /// It should serve and does not.
    Degraded,
    /// hangar cannot go on without a person.
    Stalled,
    /// Fly could be asked lately. Absent while that was always so.
    Observed,
    /// Its lifetime is over and it is deleted for that; False while something keeps it. Absent before.
    Expired,
}

/// Why a condition of an environment is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Reason {
    /// All is as declared.
    AsDeclared,
    /// It serves.
    Serving,
    /// The named template does not exist.
    TemplateMissing,
    /// A named secret does not exist.
    SecretMissing,
    /// The bay was not made yet.
    BayPending,
    /// A pool had no bay ready, so one is made.
    PoolEmpty,
    /// What it adds could not reach a bay of the pool, so one is made.
    PoolUnfit,
    /// Its namespace's quota has no room for a bay of its own; it gets one when another goes.
    QuotaExceeded,
    /// What the environment adds to its template is being written into a bay that a pool made.
    Personalizing,
    /// That failed again and again: a bay that it was never written into is given up for another.
    PersonalizeFailed,
    /// The app is being made.
    CreatingApp,
    /// App secrets are being written.
    WritingSecrets,
    /// The volume is being made.
    CreatingVolume,
    /// The machine is being made.
    CreatingMachine,
    /// The machine starts.
    Starting,
    /// The machine runs and has not passed its readiness check yet.
    NotReadyYet,
    /// The machine did not pass its readiness check in time.
    ReadinessTimeout,
    /// The readiness check, which once passed, does not pass any more.
    Unhealthy,
    /// The machine is being changed.
    Updating,
    /// A change waits for the next sleep.
    WaitingForSleep,
    /// The machine was gone and is being replaced.
    MachineLost,
    /// The machine is made anew, as a person ordered.
    Reset,
    /// The machine was stopped by something other than hangar and is being started.
    MachineStopped,
    /// The machine was changed by something other than hangar and is being changed back.
    MachineChanged,
    /// The machine's image or program does not start.
    MachineFailed,
    /// The app was gone and is being made again.
    AppLost,
    /// The volume is gone; an empty one is never put in its place.
    VolumeMissing,
    /// The app's name belongs to someone else.
    NameTaken,
    /// No region has room.
    NoCapacity,
    /// A state lasted longer than it may.
    DeadlineExceeded,
    /// Fly refused or failed a call; it is tried again.
    CallFailed,
    /// The host of the machine does not answer.
    HostUnreachable,
    /// Fly's view is incomplete, so nothing is concluded from what is missing.
    ViewIncomplete,
    /// It waits for a person's word, or for a complete view of Fly, before anything is made or destroyed.
    Held,
    /// Fly cannot be asked: what is said of the environment was so when it last could.
    FlyUnreachable,
    /// Idle for long enough.
    Idle,
    /// By order.
    Ordered,
    /// Stopped by something other than hangar, and may be.
    External,
    /// It does not sleep.
    Awake,
    /// It has no service to route to.
    NoService,
    /// Its lifetime is over.
    Expired,
    /// Deletion was asked for.
    Deleting,
    /// Nothing is known yet.
    Unknown,
}

impl EnvironmentSpec {
    /// Access, with its default.
    #[must_use]
    pub fn access(&self) -> Access {
        self.access.unwrap_or(Access::Private)
    }

    /// Operating mode, with its default.
    #[must_use]
    pub fn operating_mode(&self) -> OperatingMode {
        self.operating_mode.unwrap_or(OperatingMode::Auto)
    }
}

impl Environment {
    /// Labels under the router's domain.
    #[must_use]
    pub fn hostnames(&self) -> Vec<&str> {
        if self.spec.hostnames.is_empty() {
            vec![&self.metadata.name]
        } else {
            self.spec.hostnames.iter().map(String::as_str).collect()
        }
    }
}
