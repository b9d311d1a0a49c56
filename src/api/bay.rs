//! Bay: one provisioned place on Fly. Types only; controller-owned, users read it. It must never know the environment's
//! own wishes.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    environment::{Environment, Reason},
    meta::resource,
    rollout::RevisionRef,
    template::TemplateSpec,
};

resource! {
    /// One provisioned place on Fly: an app on its own network, its volume, its machine. hangar makes and removes bays.
    Bay {
        /// Names that are fixed when the bay is made.
        spec: BaySpec,
        /// What is there.
        #[serde(default)]
        status: BayStatus,
    }
}

/// Names that are fixed when the bay is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaySpec {
    /// The installation that made it; everything of it at Fly carries this.
    #[serde(default)]
    pub instance: String,
    /// The environment it is bound to; absent while it waits in a pool. Once set it never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_ref: Option<EnvironmentRef>,
    /// When it was bound, where a pool made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub claimed_at: Option<Timestamp>,
    /// The pool that made it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stock: Option<Box<Stock>>,
    /// The uid of a pool that had no bay ready when this one was made for its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed_pool: Option<String>,
    /// App's name at Fly.
    pub app: String,
    /// Private network's name at Fly.
    pub network: String,
    /// Whether it has a volume.
    pub volume: bool,
}

/// What a pool made a bay as.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stock {
    /// Pool's name, in the bay's namespace.
    pub pool: String,
    /// Pool's uid.
    pub pool_uid: String,
    /// Template's name.
    pub template: String,
    /// The template as it was: an unbound bay is not changed, but replaced.
    pub made_from: TemplateSpec,
    /// Region that it must be in; absent is any of the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// An environment by uid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentRef {
    /// Name, in the bay's namespace.
    pub name: String,
    /// Uid.
    pub uid: String,
}

impl EnvironmentRef {
    /// That names this environment.
    #[must_use]
    pub fn of(environment: &Environment) -> Self {
        let metadata = &environment.metadata;
        Self { name: metadata.name.clone(), uid: metadata.uid.clone() }
    }
}

/// What is there of a bay. An intent is written before the call that carries it out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BayStatus {
    /// In one word.
    pub phase: BayPhase,
    /// Whether the app was seen, and on the right network.
    pub app_created: bool,
    /// Whether a create of the app was answered with its name being taken, so that it must be looked at first.
    pub app_contested: bool,
    /// Region that the bay is in, as Fly answered it, or is being tried in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Regions that had no room, and when to try them again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub full_regions: Vec<FullRegion>,
    /// Which secrets were last written to the app, and the version Fly gave them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<SecretsStatus>,
    /// The volume, once its id is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeStatus>,
    /// When a volume's create was ordered, until its id is known or it is known not to have happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub volume_intended_at: Option<Timestamp>,
    /// When it was first looked for in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub volume_absent_since: Option<Timestamp>,
    /// When volumes' creates were ordered that were never answered: one of them may show later than it was waited for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub volume_doubts: Vec<Timestamp>,
    /// A volume that showed later than it was waited for, and is not the bay's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stray: Option<Stray>,
    /// Rises with every machine that replaces another; 0 before the first.
    pub epoch: u64,
    /// The machine of this epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineStatus>,
    /// The revision of the template that the machine was made, or last changed, by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<RevisionRef>,
    /// When something that the bay should have was first seen missing; believed only at a second look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// Since when the app could not be read because it is another organisation's, or because the token was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub app_foreign_since: Option<Timestamp>,
    /// When the app's deletion was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub retired_at: Option<Timestamp>,
    /// Calls that failed in a row, and the last one's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Since when it waits to be claimed, seen ready and at rest in the state it should wait in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub available_since: Option<Timestamp>,
    /// What is wrong with it while it is unbound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// What was last written into its running machine for its environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personalized: Option<Personalized>,
}

/// What is wrong with an unbound bay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// Since when.
    #[schemars(with = "String")]
    pub since: Timestamp,
}

/// What was written into a running machine for its environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Personalized {
    /// A digest of what was written; absent while nothing was written whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Generation of the environment.
    pub generation: u64,
    /// When Fly had last started the machine, by Fly's clock, where that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// How often writing it failed since it last went well.
    pub failures: u32,
    /// When it was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub tried_at: Option<Timestamp>,
}

impl Personalized {
    /// Whether what was written once could not be written again since.
    #[must_use]
    pub fn fails_again(&self) -> bool {
        self.digest.is_some() && self.failures > 0
    }
}

/// A bay in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum BayPhase {
    /// Something of it is still to be made.
    #[default]
    Provisioning,
    /// It waits to be claimed.
    Available,
    /// All of it is there.
    Provisioned,
    /// It is being removed.
    Retiring,
}

/// A region that had no room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FullRegion {
    /// Region.
    pub region: String,
    /// Not before this.
    #[schemars(with = "String")]
    pub retry_at: Timestamp,
    /// The size that did not fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
}

/// App secrets as they were last written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretsStatus {
    /// Name, uid and generation of each secret; nothing of their values.
    pub sources: Vec<String>,
    /// Names that were set, so that one that goes away can be unset.
    #[serde(default)]
    pub names: Vec<String>,
    /// Fly's version, for `min_secrets_version`.
    pub version: u64,
}

/// The volume of a bay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeStatus {
    /// Fly's id.
    pub id: String,
    /// Region, as Fly answered it.
    pub region: String,
    /// Size.
    pub size_gib: u32,
    /// When its deletion was ordered, because no machine ever had it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub discarded_at: Option<Timestamp>,
    /// How many creates of machines named it that were not refused for certain; 0 means that no machine ever had it, and
    /// absent that it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mounts: Option<u32>,
}

/// A volume that a create made whose answer was lost, and that showed when another one had been made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stray {
    /// Fly's id.
    pub id: String,
    /// When it was first seen.
    #[schemars(with = "String")]
    pub since: Timestamp,
}

/// The machine of a bay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MachineStatus {
    /// Name, from which a create whose answer was lost is found again.
    pub name: String,
    /// Fly's id; absent while its create has not been answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Fly's version of the configuration last written by hangar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Digest of that configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Generation of the environment that it was made for.
    pub generation: u64,
    /// When its create was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub intended_at: Option<Timestamp>,
    /// When it was first looked for in vain after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub absent_since: Option<Timestamp>,
    /// State, as last seen.
    pub state: String,
    /// Since when hangar has seen this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub state_since: Option<Timestamp>,
    /// Version and start that were last seen passing the readiness check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadySeen>,
    /// When the readiness command was last run and failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub probed_at: Option<Timestamp>,
    /// Since when its host does not answer, as far as it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub unreachable_since: Option<Timestamp>,
    /// Since when its check does not pass any more, as far as it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub unhealthy_since: Option<Timestamp>,
    /// The order last given: what an end of the program means depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Whether its destruction was ordered.
    pub destroying: bool,
    /// Whether it runs as the pool made it: what its environment adds is in the personalize file only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub as_stock: bool,
}

/// When the readiness check was seen passing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadySeen {
    /// Of which version.
    pub version: String,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// What hangar last ordered of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Start or sleep.
    pub kind: OrderKind,
    /// Why.
    pub signal: Option<crate::api::environment::SleepSignal>,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// An order to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OrderKind {
    /// Be started.
    Start,
    /// Be suspended or stopped.
    Sleep,
    /// Be destroyed.
    Destroy,
}

/// Something that was not there at a first look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Missing {
    /// App, volume or machine.
    pub what: MissingWhat,
    /// When it was first seen missing.
    #[schemars(with = "String")]
    pub since: Timestamp,
}

/// What can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MissingWhat {
    /// The app, and all in it.
    App,
    /// The volume.
    Volume,
    /// The machine.
    Machine,
}

/// Calls that failed in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// How many.
    pub count: u32,
    /// What the last one was about.
    pub action: String,
    /// What Fly said.
    pub message: String,
    /// When the first of them failed.
    #[schemars(with = "String")]
    pub since: Timestamp,
}
