//! Why a call is refused, in Fly's own words. It must never know HTTP; `respond` gives each refusal its status.

/// A refused call. The display text is the `error` of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// The request makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No token, or a bad one.
    #[error("Authenticate: token validation error")]
    Unauthenticated,
    /// The app belongs to an organisation that the token cannot see.
    #[error("unauthorized")]
    Forbidden,
    /// `app`, `machine`, `volume`, `lease` …
    #[error("{0} not found")]
    NotFound(&'static str),
    /// No such path.
    #[error("404 page not found")]
    NoRoute,
    /// The wait ended first.
    #[error(
        "deadline_exceeded: machine failed to reach desired state, {wanted}, currently {current}"
    )]
    NotReached {
        /// State words, comma-separated.
        wanted: String,
        /// State word, or `replaced` for a version that is not current.
        current: &'static str,
    },
    /// A command inside a machine took too long.
    #[error("deadline_exceeded: {0}")]
    Deadline(&'static str),
    /// Somebody else has the lease.
    #[error("machine ID {id} lease currently held by {owner}, expires at {until}")]
    Leased {
        /// Machine.
        id: String,
        /// Holder.
        owner: String,
        /// RFC 3339.
        until: String,
    },
    /// The machine's name is used in this app.
    #[error(
        "already_exists: unique machine name violation, machine ID {id} already exists with name \"{name}\""
    )]
    NameViolation {
        /// The machine that has it.
        id: String,
        /// The name.
        name: String,
    },
    /// `current_version` is not the machine's.
    #[error("aborted: machine version mismatch, given {given}, current {current}")]
    StaleVersion {
        /// What the caller planned against.
        given: String,
        /// What there is.
        current: String,
    },
    /// Two updates at once.
    #[error("machine is replacing: concurrent update in progress")]
    Replacing,
    /// The state does not allow it.
    #[error("failed_precondition: unable to {verb} machine from current state: '{state}'")]
    Unable {
        /// What was asked for.
        verb: &'static str,
        /// State word.
        state: &'static str,
    },
    /// Start during an update.
    #[error("failed_precondition: machine getting replaced, refusing to start")]
    GettingReplaced,
    /// Start before the host has reaped the last run.
    #[error("failed_precondition: machine still active, refusing to start")]
    StillActive,
    /// Destroy of a running machine without force.
    #[error("failed_precondition: unable to destroy machine, not currently stopped")]
    NotStopped,
    /// Deletion of an attached volume.
    #[error("failed_precondition: volume is currently bound to machine: {0}")]
    VolumeBound(String),
    /// Mount of an attached volume.
    #[error("failed_precondition: volume already claimed by machine {0}")]
    VolumeClaimed(String),
    /// Two snapshots at once.
    #[error("failed_precondition: snapshot is already scheduled at {0}")]
    SnapshotScheduled(String),
    /// Any other precondition.
    #[error("failed_precondition: {0}")]
    Precondition(String),
    /// The body is over the limit.
    #[error("http: request body too large")]
    TooLarge,
    /// App names are global.
    #[error("Validation failed: Name has already been taken")]
    NameTaken,
    /// App name against the grammar.
    #[error("Validation failed: Name under 63 chars using numbers, lowercase letters and dashes")]
    BadAppName,
    /// Region list without a region that has room.
    #[error("could not find a candidate host")]
    NoHost,
    /// Any other conflict, for want of room most likely.
    #[error("{0}")]
    Conflict(&'static str),
    /// Mount of a volume whose host has no room.
    #[error("insufficient resources to create new machine with existing volume id '{0}'")]
    VolumeHostFull(String),
    /// Too many calls.
    #[error("rate limit exceeded")]
    RateLimited,
    /// This backend failed.
    #[error("unknown: {0}")]
    Internal(String),
}
