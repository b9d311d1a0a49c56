//! What a local backend is told: where it keeps things, whom it believes, how slow it is. It must never read the environment.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Settings of a [`super::Backend`].
#[derive(Debug, Clone)]
pub struct Config {
    /// State, volumes and snapshots.
    pub data_dir: PathBuf,
    /// Organisations that exist.
    pub orgs: Vec<String>,
    /// Regions that have room, the default first.
    pub regions: Vec<String>,
    /// Whose tokens are good.
    pub access: Access,
    /// How slow things are.
    pub timings: Timings,
    /// Whether Fly's published rate limits hold.
    pub rate_limits: bool,
    /// What is kept of a change when it is answered.
    pub keep: Keep,
    /// The driver starts nothing: checks pass without being made.
    pub no_run: bool,
}

impl Config {
    /// Settings for one organisation, `personal`, on this computer.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            orgs: vec!["personal".to_owned()],
            regions: ["ams", "fra", "iad"].map(str::to_owned).to_vec(),
            access: Access::AnyToken,
            timings: Timings::default(),
            rate_limits: true,
            keep: Keep::Synced,
            no_run: false,
        }
    }
}

/// What is kept of a change when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// All of it, whatever happens to the computer.
    Synced,
    /// All of it, while the computer runs.
    Unsynced,
    /// Nothing beyond this process's memory: no file is read or written, and volumes have no content.
    Nothing,
}

/// Whose tokens are good. There must always be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Any token may do anything.
    AnyToken,
    /// Each token may see these organisations.
    Tokens(BTreeMap<String, Vec<String>>),
}

/// How long Fly's slow steps take here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Preparing an image: a start is refused until then.
    pub prepare: Duration,
    /// After a stop, the time in which a start is refused because the machine is still active.
    pub settle: Duration,
    /// From `destroying` to gone.
    pub destroy: Duration,
    /// How long a destroyed machine can still be read by its id.
    pub destroyed_readable: Duration,
    /// How long it is in lists that include deleted machines.
    pub destroyed_listed: Duration,
    /// From the deletion of a volume to the removal of its content.
    pub volume_kept: Duration,
    /// Between two scheduled snapshots of a volume.
    pub snapshot_every: Duration,
    /// Between two rounds of tidying up.
    pub sweep: Duration,
    /// From a start to the first run of its checks.
    pub first_check: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Timings {
    fn default() -> Self {
        Self {
            prepare: Duration::from_millis(300),
            settle: Duration::from_millis(200),
            destroy: Duration::from_millis(200),
            destroyed_readable: Duration::from_secs(2),
            destroyed_listed: Duration::from_secs(60 * 60),
            volume_kept: DAY,
            snapshot_every: DAY,
            sweep: Duration::from_secs(30),
            first_check: Duration::from_millis(100),
        }
    }
}

impl Timings {
    /// As measured against Fly.
    #[must_use]
    pub fn as_on_fly() -> Self {
        Self {
            prepare: Duration::from_secs(9),
            settle: Duration::from_millis(400),
            destroy: Duration::from_secs(3),
            destroyed_readable: Duration::from_secs(30),
            destroyed_listed: 2 * DAY,
            first_check: Duration::from_secs(1),
            ..Self::default()
        }
    }
}
