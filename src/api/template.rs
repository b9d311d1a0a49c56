//! Template: what environments are made from. Types and the rules between its own fields; it must never look at an
//! environment.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    meta::resource,
    quantity::{Bytes, Span, TimeOfDay},
    rollout::{IntOrPercent, TemplateStatus},
};

resource! {
    /// What environments are made from: image, size, volume, services, readiness, sleep and update rules.
    Template {
        /// The specification.
        spec: TemplateSpec,
        /// How far the newest revision has come, written by hangar.
        #[serde(default)]
        status: TemplateStatus,
    }
}

/// Specification of a template.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSpec {
    /// What runs, and on what.
    pub machine: Machine,
    /// A volume that outlives every machine. Fly allows one per machine. It can be neither added nor removed later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Ports that the router reaches; requests go to the first.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub services: Vec<Service>,
    /// Regions in order of preference, walked on capacity errors.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub regions: Vec<String>,
    /// The private network of each environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// How it is seen that an environment serves. By default a TCP connect to the first service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<Readiness>,
    /// How what an environment adds to its template reaches a program that runs already, in a bay of a warm pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personalize: Option<Personalize>,
    /// When an idle environment sleeps. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep: Option<Sleep>,
    /// How a change reaches environments that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
}

/// What runs, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// Image; a digest is best, a tag is accepted with a warning.
    pub image: String,
    /// CPU and memory. By default one shared CPU with 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// Replaces the image's command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
    /// Replaces the image's entrypoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub entrypoint: Vec<String>,
    /// Environment variables; an environment's own come over these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files written before the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<File>,
    /// When the program is started again. By default always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// How long the program may take to end before it is killed; at most 5m. By default 5s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Span>,
}

/// CPU and memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guest {
    /// shared or performance.
    #[serde(default)]
    pub cpu_kind: CpuKind,
    /// 1, 2, 4, 6 or 8; performance also 10, 12, 14, 16.
    #[serde(default = "one")]
    pub cpus: u32,
    /// A multiple of 256Mi, performance of 2Gi, within what the CPUs allow.
    #[serde(default = "default_memory")]
    pub memory: Bytes,
}

impl Default for Guest {
    fn default() -> Self {
        Self { cpu_kind: CpuKind::Shared, cpus: 1, memory: default_memory() }
    }
}

fn one() -> u32 {
    1
}

#[expect(clippy::expect_used, reason = "a constant")]
fn default_memory() -> Bytes {
    Bytes::parse("256Mi").expect("a size")
}

/// Kind of CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CpuKind {
    /// Shared with others.
    #[default]
    Shared,
    /// One's own.
    Performance,
}

/// A file written before the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct File {
    /// Absolute path in the machine.
    pub path: String,
    /// Its text.
    pub content: String,
    /// Permission bits in octal, such as "0644".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// When the program is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Restart {
    /// Always, OnFailure or No.
    pub policy: RestartPolicy,
    /// For OnFailure: how often within five minutes. By default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// When the program is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestartPolicy {
    /// After any end.
    Always,
    /// After an end with an error.
    OnFailure,
    /// Never.
    No,
}

/// The volume of each environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Absolute path in the machine.
    pub mount_path: String,
    /// Size; whole GiB, rounded up, at most 500Gi. It can grow and never shrink.
    pub size: Bytes,
    /// How long Fly keeps its daily snapshots: 1d to 60d. By default 5d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<Span>,
}

/// A port that the router reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Name, unique in the template.
    pub name: String,
    /// Port that the program listens on.
    pub internal_port: u16,
    /// Port outside. By default 443.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// The private network of each environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// Always true: each environment has a network of its own.
    pub isolated: bool,
}

/// How it is seen that an environment serves: exactly one of http, tcp and exec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// A GET that must be answered 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpReadiness>,
    /// A connect that must succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpReadiness>,
    /// A command that must exit with 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Command>,
    /// How long it may take from the start. By default 60s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A GET that must be answered 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpReadiness {
    /// Absolute path.
    pub path: String,
    /// Port that the program listens on.
    pub port: u16,
}

/// A connect that must succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpReadiness {
    /// Port that the program listens on.
    pub port: u16,
}

/// How what an environment adds to its template reaches a program that runs already: a file is written into the machine, whole
/// or not at all, readable by its owner only. docs/pools.md has its format. It needs a shell in the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Personalize {
    /// Absolute path of the file; on the volume, where there is one.
    pub file: String,
    /// A command that is run when the file was written, and must exit with 0 within 10 s: the environment is not ready before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Command>,
    /// How it is seen that the program took over what was written: the environment is not ready before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readiness: Option<PersonalReadiness>,
}

/// How it is seen that a program took over what was written into its machine. It is asked in the call that writes, so it can only be
/// a command: Fly's own checks go by an interval of their own, and cannot tell before from after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonalReadiness {
    /// A command that is run after `personalize.exec`, again and again until it exits with 0.
    pub exec: Command,
    /// How long that may take; whole seconds, 1s to 20s, since Fly ends a call after 30 s. By default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

/// A command that must exit with 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Command {
    /// The command line.
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub command: Vec<String>,
}

/// When an idle environment sleeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sleep {
    /// How long every signal must have been quiet; at least 5s.
    pub after: Span,
    /// Suspend keeps memory and needs at most 2Gi; Stop does not. By default Suspend where it is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SleepMode>,
    /// Who decides. By default Hangar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<SleepDecider>,
}

/// What sleeping is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SleepMode {
    /// Memory is kept and waking takes a few hundred milliseconds.
    Suspend,
    /// The program ends and is started again.
    Stop,
}

/// Who puts an environment to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SleepDecider {
    /// hangar, which can say why.
    Hangar,
    /// Fly Proxy's autostop, which cannot.
    FlyProxy,
}

/// How a change reaches environments that exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Update {
    /// When an environment that serves is restarted for a change. One that sleeps is changed at once, whatever this says.
    pub strategy: UpdateStrategy,
    /// How many environments may be changed at a time, or not serve because of the change, those that sleep left out: a number,
    /// or a share in per cent. At least 1. By default 10%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrPercent>,
    /// With WhenAsleep: hours of the day in which environments that serve are changed too, by turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<UpdateWindow>,
    /// Whether environments stay as they are for now: revisions are recorded, and new environments get the newest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// Hours of every day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UpdateWindow {
    /// When it begins: hours and minutes in UTC, such as "02:30".
    pub start: TimeOfDay,
    /// How long it lasts, also past midnight; 10m to 23h.
    pub duration: Span,
}

impl UpdateWindow {
    /// Whether it is open, and when that changes next.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> (bool, Timestamp) {
        const DAY_S: i64 = 24 * 3600;
        let start_s = i64::from(self.start.minutes()) * 60;
        let length_s = i64::try_from(self.duration.get().as_secs()).unwrap_or(DAY_S);
        let since_s = (now.as_second() - start_s).rem_euclid(DAY_S);
        let is_open = since_s < length_s;
        let left_s = if is_open { length_s } else { DAY_S } - since_s;
        (is_open, Timestamp::from_second(now.as_second() + left_s).unwrap_or(Timestamp::MAX))
    }
}

impl fmt::Display for UpdateWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} UTC for {}", self.start, self.duration.as_str())
    }
}

impl Update {
    /// With every default.
    #[must_use]
    pub fn by(strategy: UpdateStrategy) -> Self {
        Self { strategy, max_unavailable: None, window: None, paused: false }
    }

    /// How many of so many environments may be changed at a time.
    #[must_use]
    pub fn limit(&self, total: u32) -> u32 {
        let share = self.max_unavailable.as_ref().map_or(Some(total / 10), |it| it.of(total));
        share.unwrap_or(0).max(1)
    }
}

/// When a change that restarts a machine is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateStrategy {
    /// At the next sleep, or in the window. Those that never sleep (operatingMode Running, or no sleep rule), and those that do not serve, are
    /// changed by turns.
    WhenAsleep,
    /// By turns, at most `maxUnavailable` at a time.
    Rolling,
    /// Not before a person says so: `hangar rollout resume template/NAME` for all, by turns; `hangar rollout resume env/NAME`
    /// for one.
    Manual,
}
