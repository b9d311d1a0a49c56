//! The planner's input: what is wanted, what is recorded and what Fly shows, in our own words. Values only; it must never
//! hold a way to ask for more.

use std::{borrow::Cow, collections::BTreeMap};

use crate::api::{
    Timestamp,
    bay::{Bay, FullRegion},
    environment::Environment,
    rollout::{EnvironmentRevision, RevisionRef},
    template::Template,
};
use crate::plan::{
    machine::MachineSpec,
    stock::{self, Vacancy},
};

/// Everything that one pass for one environment decides from.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// What holds for all environments.
    pub settings: Settings,
    /// What is wanted.
    pub environment: Environment,
    /// What it is made from, if there is such a template, as it was at the revision that the environment is kept at.
    pub template: Option<Template>,
    /// That revision.
    pub revision: Option<EnvironmentRevision>,
    /// The secrets it names, by name; `None` for one that does not exist.
    pub secrets: BTreeMap<String, Option<SecretFact>>,
    /// The bay it is bound to, as recorded.
    pub bay: Option<Bay>,
    /// A bay of a pool that it may have, where it has none.
    pub vacancy: Option<Vacancy>,
    /// The uid and name of a pool of its template, where it got none of that.
    pub empty_pool: Option<(String, String)>,
    /// Why no bay may be made for it, where it has none, if so.
    pub no_bay: Option<String>,
    /// An orphan that was made for it, where it has no bay: what is in that is perhaps its data.
    pub orphan: Option<String>,
    /// What Fly shows of the bay.
    pub seen: Seen,
    /// The last request that a router told of.
    pub last_request_at: Option<Timestamp>,
    /// Open connections into the machine, and when they were counted, if they were.
    pub connections: Option<(Timestamp, u32)>,
    /// Name for a bay, if one has to be made now. Drawn by the caller.
    pub fresh_name: String,
    /// Regions that had no room for other environments of the same size.
    pub full_regions: Vec<FullRegion>,
    /// Since when Fly could not be asked, where that is longer than a moment.
    pub unheard_since: Option<Timestamp>,
    /// Why nobody's time may be taken to be over, if so: the clock was set a moment ago.
    pub clock_was_set: Option<String>,
    /// Why nothing may be destroyed now, if so.
    pub no_destroying: Option<String>,
    /// Why nothing may be made in the place of what is gone, if so.
    pub no_replacing: Option<String>,
    /// Why nothing may be made now, if so.
    pub no_creating: Option<String>,
}

impl World {
    /// The digest of what it is made from, which its revision has.
    pub(crate) fn made_from(&self) -> Option<Cow<'_, str>> {
        let template = self.template.as_ref()?;
        Some(match &self.revision {
            Some(revision) => Cow::Borrowed(&revision.hash),
            None => Cow::Owned(stock::made_from(&template.spec)),
        })
    }

    /// The revision that it is kept at, where its machine has another.
    pub(crate) fn other_revision(&self, has: Option<&RevisionRef>) -> Option<&EnvironmentRevision> {
        self.revision.as_ref().filter(|it| has.is_some_and(|has| has.hash != it.hash))
    }

    /// The uid and name of the pool that should have had a bay for it.
    #[must_use]
    pub fn missed_pool(&self) -> Option<&(String, String)> {
        let fits = |it: &Template| stock::fits(&self.environment, &it.spec);
        self.empty_pool.as_ref().filter(|_| self.template.as_ref().is_none_or(fits))
    }
}

/// What holds for all environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// This installation's id, which everything it makes at Fly carries.
    pub instance: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Domain under which environments answer.
    pub domain: String,
    /// Port, where it is not the scheme's own.
    pub port: Option<u16>,
    /// When the store was last made from an export, if it was.
    pub restored_at: Option<Timestamp>,
}

impl Settings {
    /// Where a label answers.
    #[must_use]
    pub fn url(&self, label: &str) -> String {
        match self.port {
            Some(port) => format!("{}://{label}.{}:{port}/", self.scheme, self.domain),
            None => format!("{}://{label}.{}/", self.scheme, self.domain),
        }
    }
}

/// What the plan needs to know of a secret: nothing of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFact {
    /// Uid.
    pub uid: String,
    /// Rises with every change of its values.
    pub generation: u64,
    /// Names of its values.
    pub keys: Vec<String>,
}

/// What Fly shows of a bay.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Seen {
    /// The app.
    pub app: Sight<SeenApp>,
    /// The volume: the recorded one, or one of the bay's name when a create's answer was lost.
    pub volume: Sight<SeenVolume>,
    /// The machine: the recorded one, or one of the intended name when a create's answer was lost.
    pub machine: Sight<SeenMachine>,
    /// Other machines in the app.
    pub others: Vec<SeenMachine>,
    /// Other volumes in the app that have the name of the bay's, where a create was once not answered.
    pub other_volumes: Vec<SeenVolume>,
    /// The volume that the machine mounts, where that is another one than the recorded one, which is gone.
    pub moved_volume: Option<SeenVolume>,
    /// When a complete list of the organisation's machines (no region missing) was last begun.
    pub complete_list_at: Option<Timestamp>,
    /// Since when the recorded machine was in no list; `None` while the last one has it.
    pub machine_unlisted_since: Option<Timestamp>,
    /// The same for the recorded volume.
    pub volume_unlisted_since: Option<Timestamp>,
}

/// What was seen of one thing.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Sight<T> {
    /// Nobody looked, since nothing hangs on it now.
    #[default]
    Unasked,
    /// It is there.
    Present(T),
    /// A read by its id said that it is not there.
    Absent,
    /// The read failed or cannot be trusted.
    Unclear(String),
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenApp {
    /// Its private network, where Fly tells.
    pub network: Option<String>,
    /// Whether it is in our organisation; another's cannot be read.
    pub ours: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenVolume {
    /// Fly's id.
    pub id: String,
    /// Region; empty where Fly left it out.
    pub region: String,
    /// Name.
    pub name: String,
    /// Size.
    pub size_gib: u32,
    /// The machine that has it, where that is known.
    pub attached_to: Option<String>,
    /// Whether it is being, or has been, destroyed.
    pub going: bool,
    /// When it was made, where that is told.
    pub created_at: Option<Timestamp>,
}

/// A machine.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenMachine {
    /// Fly's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// State.
    pub state: MachineState,
    /// Version of its configuration.
    pub version: String,
    /// Region.
    pub region: String,
    /// Its configuration, where it was asked for and the host answers.
    pub config: Option<MachineSpec>,
    /// State of the readiness check, where it was asked for.
    pub check: CheckState,
    /// Fly's words on why it could not be launched, where they were asked for.
    pub launch_error: Option<String>,
    /// When it was last started, by whomever, where that was asked for.
    pub started_at: Option<Timestamp>,
    /// Whether its host answers.
    pub host_answers: bool,
    /// Those of its metadata that are hangar's, where they were told.
    pub metadata: Option<BTreeMap<String, String>>,
    /// The bay and epoch in its metadata.
    pub mark: Option<Mark>,
}

/// What hangar writes into each machine's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Installation.
    pub instance: String,
    /// Bay's uid.
    pub bay: String,
    /// Epoch.
    pub epoch: u64,
}

/// State of the readiness check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CheckState {
    /// Not asked for, or no result yet: never taken for passing.
    #[default]
    None,
    /// Passing.
    Passing,
    /// Warning or critical.
    Failing,
    /// Not passing, and the program has ended by itself this many times since the machine got its configuration.
    Crashing(u32),
}

/// Fly's machine states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineState {
    /// Not started yet.
    Created,
    /// Running.
    Started,
    /// Not running.
    Stopped,
    /// Not running, memory kept.
    Suspended,
    /// Could not be launched.
    Failed,
    /// On its way between two states; the word is Fly's.
    Moving(&'static str),
    /// Being destroyed.
    Destroying,
    /// Gone.
    Destroyed,
    /// A word that hangar does not know: nothing is done on account of it.
    Other(String),
}

impl MachineState {
    /// The state for Fly's word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "created" => Self::Created,
            "started" => Self::Started,
            "stopped" => Self::Stopped,
            "suspended" => Self::Suspended,
            "failed" => Self::Failed,
            "creating" => Self::Moving("creating"),
            "starting" => Self::Moving("starting"),
            "stopping" => Self::Moving("stopping"),
            "restarting" => Self::Moving("restarting"),
            "suspending" => Self::Moving("suspending"),
            "launch_failed" => Self::Moving("launch_failed"),
            "updating" => Self::Moving("updating"),
            "replacing" => Self::Moving("replacing"),
            "destroying" => Self::Destroying,
            "destroyed" | "migrated" | "replaced" => Self::Destroyed,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Fly's word.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Created => "created",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
            Self::Moving(word) => word,
            Self::Destroying => "destroying",
            Self::Destroyed => "destroyed",
            Self::Other(word) => word,
        }
    }
}
