//! What can be done about an environment: a closed list of calls, and what each may come back with. The executor makes no choices; what it would need to choose by is a field here.

use std::fmt;

use crate::api::{Timestamp, environment::SleepSignal, template::Personalize};
use crate::plan::machine::MachineSpec;

mod record;

pub(crate) use self::record::not_taken_over;
pub use self::record::{FULL_FOR, NOT_TAKEN_OVER, intend, record, saw_machine};

/// One call, with everything it needs. Its intent is recorded before it is made.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Create the app on its own network.
    CreateApp {
        /// App.
        app: String,
        /// Network.
        network: String,
    },
    /// Write the app's secrets: the bay's key and the values of the named secrets.
    WriteSecrets {
        /// App.
        app: String,
        /// Name, uid and generation of each secret that is written.
        sources: Vec<String>,
        /// Names of values that are no longer given.
        unset: Vec<String>,
        /// Names of values that are.
        names: Vec<String>,
    },
    /// Create the volume where its machine will fit.
    CreateVolume {
        /// App.
        app: String,
        /// Volume's name; looked for before a create is repeated.
        name: String,
        /// Region.
        region: String,
        /// Size.
        size_gib: u32,
        /// Days that daily snapshots are kept.
        retention_days: u32,
        /// What will mount it.
        spec: Box<MachineSpec>,
    },
    /// Grow the volume.
    ExtendVolume {
        /// App.
        app: String,
        /// Volume.
        id: String,
        /// New size.
        size_gib: u32,
    },
    /// Delete a volume by its id.
    DeleteVolume {
        /// App.
        app: String,
        /// Volume.
        id: String,
    },
    /// Create the machine, which starts it.
    CreateMachine {
        /// App.
        app: String,
        /// Name, from which a lost answer is found again.
        name: String,
        /// Region.
        region: String,
        /// Configuration.
        spec: Box<MachineSpec>,
        /// App secrets it must see at least.
        secrets_version: u64,
        /// Epoch.
        epoch: u64,
    },
    /// Replace the machine's configuration.
    UpdateMachine {
        /// App.
        app: String,
        /// Machine.
        id: String,
        /// Configuration.
        spec: Box<MachineSpec>,
        /// Version that is replaced; another one refuses.
        current_version: String,
        /// App secrets it must see at least.
        secrets_version: u64,
        /// Leave it asleep.
        skip_launch: bool,
        /// Generation of the environment.
        generation: u64,
        /// Epoch.
        epoch: u64,
    },
    /// Write one key of the machine's metadata, which restarts nothing.
    WriteMetadata {
        /// App.
        app: String,
        /// Machine.
        id: String,
        /// Key.
        key: String,
        /// Value.
        value: String,
    },
    /// Start the machine.
    StartMachine {
        /// App.
        app: String,
        /// Machine.
        id: String,
    },
    /// Suspend the machine, or stop it.
    SleepMachine {
        /// App.
        app: String,
        /// Machine.
        id: String,
        /// Keep its memory.
        suspend: bool,
        /// Why.
        signal: SleepSignal,
    },
    /// Destroy a machine by its id.
    DestroyMachine {
        /// App.
        app: String,
        /// Machine.
        id: String,
    },
    /// Run the readiness command.
    Probe {
        /// App.
        app: String,
        /// Machine.
        id: String,
        /// Command line.
        command: Vec<String>,
        /// Version that is probed.
        version: String,
    },
    /// Write what the environment adds to its template into a file in the machine, and run the template's command after it.
    Personalize {
        /// App.
        app: String,
        /// Machine.
        id: String,
        /// What is written.
        file: Box<PersonalFile>,
    },
    /// Count open connections into the machine.
    CountConnections {
        /// App.
        app: String,
        /// Machine.
        id: String,
        /// Ports that the services listen on.
        ports: Vec<u16>,
    },
    /// Delete the app with everything in it.
    DeleteApp {
        /// App.
        app: String,
    },
}

/// What an environment adds to its template, as far as it is no secret: where it goes, and what makes it another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonalFile {
    /// Where it goes, and what is run after it was written.
    pub rule: Personalize,
    /// Digest of the content.
    pub digest: String,
    /// Generation of the environment.
    pub generation: u64,
    /// When Fly last started the machine, by Fly's clock, where that is known.
    pub started_at: Option<Timestamp>,
}

/// What a call came back with.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done; nothing to remember beyond that.
    Done,
    /// Secrets were written.
    SecretsWritten {
        /// Fly's version.
        version: u64,
    },
    /// A volume.
    Volume {
        /// Fly's id.
        id: String,
        /// Region, as Fly answered it.
        region: String,
        /// Size.
        size_gib: u32,
    },
    /// A machine was created or changed.
    Machine {
        /// Fly's id.
        id: String,
        /// Version.
        version: String,
        /// Region, as Fly answered it.
        region: String,
        /// State.
        state: String,
    },
    /// A command ended with this code.
    Exit(i32),
    /// What an environment adds was not taken over: with what code that ended, and what was said of it.
    NotTakenOver {
        /// The code.
        code: i32,
        /// The end of its standard error; `None` where that may have a secret in it.
        said: Option<String>,
    },
    /// Connections counted.
    Connections(u32),
    /// It failed.
    Failed(Refusal),
}

/// Why a call failed, as far as the plan cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What sort of failure.
    pub kind: RefusalKind,
    /// What Fly said, for people.
    pub message: String,
}

/// What sort of failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusalKind {
    /// The app's name is taken, perhaps by ourselves.
    NameTaken,
    /// The machine's name is taken by this machine.
    MachineNameTaken(Option<String>),
    /// No room in the region or for the volume.
    NoCapacity,
    /// What it was about is not there.
    Gone,
    /// The machine has another version than expected, or is being changed.
    Changed,
    /// Not possible in this state; in a moment it is.
    TooEarly,
    /// The outcome is unknown: it may have happened.
    Ambiguous,
    /// Anything else.
    Other,
}

impl Action {
    /// Its name, for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateApp { .. } => "create-app",
            Self::WriteSecrets { .. } => "write-secrets",
            Self::CreateVolume { .. } => "create-volume",
            Self::ExtendVolume { .. } => "extend-volume",
            Self::DeleteVolume { .. } => "delete-volume",
            Self::CreateMachine { .. } => "create-machine",
            Self::UpdateMachine { .. } => "update-machine",
            Self::WriteMetadata { .. } => "write-metadata",
            Self::StartMachine { .. } => "start-machine",
            Self::SleepMachine { suspend: true, .. } => "suspend-machine",
            Self::SleepMachine { suspend: false, .. } => "stop-machine",
            Self::DestroyMachine { .. } => "destroy-machine",
            Self::Probe { .. } => "probe",
            Self::Personalize { .. } => "personalize",
            Self::CountConnections { .. } => "count-connections",
            Self::DeleteApp { .. } => "delete-app",
        }
    }

    /// Whether users notice: their program ends.
    #[must_use]
    pub fn restarts(&self) -> bool {
        matches!(self, Self::UpdateMachine { skip_launch: false, .. })
    }

    /// What of the users' data it may destroy.
    #[must_use]
    pub fn risk(&self) -> Option<&'static str> {
        match self {
            Self::DeleteApp { .. } | Self::DeleteVolume { .. } => {
                Some("destroys the volume and everything on it")
            }
            Self::DestroyMachine { .. } => Some("destroys what is not on the volume"),
            Self::CreateApp { .. }
            | Self::WriteSecrets { .. }
            | Self::CreateVolume { .. }
            | Self::ExtendVolume { .. }
            | Self::CreateMachine { .. }
            | Self::UpdateMachine { .. }
            | Self::WriteMetadata { .. }
            | Self::StartMachine { .. }
            | Self::SleepMachine { .. }
            | Self::Probe { .. }
            | Self::Personalize { .. }
            | Self::CountConnections { .. } => None,
        }
    }

    /// Whether the list of machines may for a while show what was before it. A file in a machine is nothing that the list has, but what a
    /// command did to the program there may show in its checks.
    #[must_use]
    pub fn shows_in_list(&self) -> bool {
        match self {
            Self::Personalize { file, .. } => file.rule.exec.is_some(),
            other => other.mutates(),
        }
    }

    /// Whether it changes anything at Fly.
    #[must_use]
    pub fn mutates(&self) -> bool {
        !matches!(self, Self::Probe { .. } | Self::CountConnections { .. })
    }
}

/// One line of `hangar plan` and of the log.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateApp { app, network } => write!(f, "app {app} on network {network}"),
            Self::WriteSecrets { app, names, .. } => {
                write!(f, "{} secrets of app {app}", names.len())
            }
            Self::CreateVolume { name, region, size_gib, .. } => {
                write!(f, "volume {name} of {size_gib} GiB in {region}")
            }
            Self::ExtendVolume { id, size_gib, .. } => write!(f, "volume {id} to {size_gib} GiB"),
            Self::DeleteVolume { id, .. } => write!(f, "volume {id}"),
            Self::CreateMachine { name, region, spec, .. } => {
                write!(f, "machine {name} of {} in {region}", spec.image)
            }
            Self::UpdateMachine { id, skip_launch, .. } => {
                write!(f, "machine {id}{}", if *skip_launch { ", left asleep" } else { "" })
            }
            Self::WriteMetadata { id, key, .. } => write!(f, "machine {id}: {key}"),
            Self::StartMachine { id, .. }
            | Self::SleepMachine { id, .. }
            | Self::DestroyMachine { id, .. }
            | Self::CountConnections { id, .. } => write!(f, "machine {id}"),
            Self::Probe { id, command, .. } => {
                write!(f, "machine {id}: {}", command.first().map_or("", String::as_str))
            }
            Self::Personalize { id, file, .. } => write!(f, "machine {id}: {}", file.rule.file),
            Self::DeleteApp { app } => write!(f, "app {app}"),
        }
    }
}
