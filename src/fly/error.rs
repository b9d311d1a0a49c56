//! What went wrong in a call to Fly, as one closed list of reasons. It must never carry a secret, and never be built from a
//! status number alone where Fly gives one number several meanings.

use std::{borrow::Cow, fmt, time::Duration};

use http::StatusCode;

use crate::clock::Timestamp;
use crate::fly::{
    call::Call,
    said::{self, HIDE_CHARS_MIN, Said},
};
use crate::retry::Retry;

/// A call that failed: which one, on what, why, and what Fly said.
#[derive(Debug)]
pub struct Error {
    /// Why, typed.
    pub reason: Reason,
    details: Box<Details>,
}

#[derive(Debug)]
struct Details {
    call: Call,
    status: Option<StatusCode>,
    request_id: Option<String>,
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The app of the call does not exist (or, right after its creation, is not seen yet).
    AppNotFound,
    /// The machine, volume or lease that the path names does not exist (or is not seen yet).
    NotFound {
        /// What is missing.
        what: Missing,
    },
    /// A creation names a volume that is gone, even if reading it still answers.
    VolumeNotFound,
    /// The app exists in an organisation that the token cannot see.
    ForeignApp,
    /// The token does not allow this.
    Forbidden,
    /// The token is not valid. For a moment after an app's creation this is also said about that app.
    Unauthenticated,
    /// The app's name is taken, by us or by anybody: app names are global.
    NameTaken,
    /// The app's name is not one.
    NameInvalid,
    /// A machine of this name exists in the app; adopt it.
    MachineNameTaken {
        /// Its id, where the answer has it.
        id: Option<String>,
    },
    /// Somebody holds the machine's lease.
    LeaseHeld {
        /// When it ends, where the answer says.
        until: Option<Timestamp>,
    },
    /// The machine is not at the version that the change was planned for: read it again, plan again.
    VersionMismatch,
    /// Another update is under way.
    ConcurrentUpdate,
    /// No room.
    Capacity {
        /// Where.
        scope: Scope,
    },
    /// Too early to start: still prepared, being replaced, or not yet reaped. It passes within seconds.
    StateRace,
    /// The machine must be stopped first, or the destruction forced.
    StillRunning,
    /// The volume is attached, or its machine is not quite gone.
    VolumeBound {
        /// The machine.
        machine: Option<String>,
    },
    /// The volume was claimed by another machine.
    VolumeClaimed {
        /// The machine; missing when the claim outlived it.
        machine: Option<String>,
    },
    /// A snapshot of the volume is under way.
    SnapshotRunning,
    /// The app secrets that the call asks for have not arrived where the machine is.
    SecretsBehind,
    /// The organisation has as many machines as it may have.
    MachineLimit,
    /// The organisation must pay first.
    PaymentNeeded,
    /// Too many calls.
    RateLimited {
        /// When to come back, where the answer says.
        after: Option<Duration>,
    },
    /// Fly's API could not reach the host in time: the effect may have happened.
    DeadlineExceeded,
    /// The machine did not reach the state in time; only of `wait_machine`.
    WaitTimeout {
        /// The state it was in, where the answer says; `replaced` means that the version waited for is superseded.
        currently: Option<String>,
    },
    /// The registry does not know the image (yet: a push takes a moment to be seen).
    ManifestUnknown,
    /// The request is wrong.
    BadRequest,
    /// A 409 that is none of the above.
    Conflict,
    /// A 412 that is none of the above.
    Precondition,
    /// Any other answer that is neither success nor a failure of the platform.
    Refused,
    /// The platform failed (5xx).
    Server,
    /// No answer, or only a part of one.
    Transport {
        /// Whether the call may have had its effect all the same.
        ambiguous: bool,
    },
    /// A success whose body is not what it should be.
    Decode {
        /// Where in the body, without its content.
        at: String,
    },
}

/// What a 404 is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The machine in the path.
    Machine,
    /// The volume in the path.
    Volume,
    /// The machine's lease.
    Lease,
    /// Not Fly's own 404, or one about nothing in the path: it proves nothing.
    Unclear,
}

/// Where there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In the region: try another one.
    Region,
    /// On the machine's host: a machine without a volume can be made anew elsewhere.
    Host,
    /// On the volume's host: the volume must be forked or restored elsewhere.
    Volume,
    /// By the platform's policy for now.
    Governor,
}

/// An answer other than success, as HTTP gave it.
#[derive(Debug, Clone, Copy)]
pub struct Refusal<'a> {
    /// Status.
    pub status: StatusCode,
    /// `fly-request-id`.
    pub request_id: Option<&'a str>,
    /// `retry-after`.
    pub after: Option<Duration>,
    /// Body in any of its forms.
    pub body: &'a [u8],
    /// Texts that must not appear in the error.
    pub hide: &'a [&'a str],
}

impl Error {
    /// An error without an answer of Fly's: for stand-ins of [`crate::fly::Machines`].
    #[must_use]
    pub fn new(call: Call, reason: Reason) -> Self {
        let details =
            Details { call, status: None, request_id: None, text: String::new(), source: None };
        Self { reason, details: Box::new(details) }
    }

    /// The error that an answer means.
    #[must_use]
    pub fn refused(call: Call, refusal: Refusal<'_>) -> Self {
        let said = Said::read(refusal.body, refusal.hide);
        let reason = said.reason(call.route, refusal.status, refusal.after);
        let mut error = Self::new(call, reason);
        error.details.status = Some(refusal.status);
        error.details.request_id = refusal.request_id.map(str::to_owned);
        error.details.text = said::without_words(said.text, refusal.hide);
        error
    }

    /// The request or its answer was lost. What was never sent has no effect.
    pub(crate) fn lost(
        call: Call,
        sent: bool,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> Self {
        let ambiguous = sent && call.route.changes();
        let mut error = Self::new(call, Reason::Transport { ambiguous });
        error.details.source = Some(source);
        error
    }

    /// The same with our own words about what is wrong.
    pub(crate) fn saying(mut self, text: &str) -> Self {
        text.clone_into(&mut self.details.text);
        self
    }

    /// The same, with what the head of the answer said.
    pub(crate) fn answered(mut self, status: StatusCode, request_id: Option<&str>) -> Self {
        self.details.status = Some(status);
        self.details.request_id = request_id.map(str::to_owned);
        self
    }

    /// What was tried.
    #[must_use]
    pub fn call(&self) -> &Call {
        &self.details.call
    }

    /// HTTP status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.details.status
    }

    /// Fly's id of the request, which its support asks for.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.details.request_id.as_deref()
    }

    /// What Fly said, cleaned and cut.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        said::cut(&self.details.text)
    }

    /// The same without these texts, which Fly may know although the call did not send them. The shortest stay: they are too
    /// common in any text.
    #[must_use]
    pub fn hiding<'a>(mut self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter().filter(|it| it.len() >= HIDE_CHARS_MIN);
        let secrets: Vec<_> = secrets.collect();
        self.details.text = said::without(&self.details.text, &secrets);
        self
    }

    /// Whether the same call may succeed later, unchanged.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.reason.retry()
    }

    /// A bounded name for metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.reason.kind()
    }

    /// Whether the effect may have happened although the call failed. Look before calling again.
    #[must_use]
    pub fn ambiguous(&self) -> bool {
        let failed = self.details.status.is_some_and(|status| status.is_server_error());
        let open = matches!(
            self.reason,
            Reason::DeadlineExceeded
                | Reason::Server
                | Reason::Decode { .. }
                | Reason::Transport { ambiguous: true }
        );
        let open = open || failed && self.reason == Reason::ManifestUnknown;
        open && self.details.call.route.changes()
    }

    /// Whether Fly says that what the path names does not exist. While waiting for `destroyed` this is success; anywhere
    /// else it may be a read that is behind, so confirm it before acting on it.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self.reason,
            Reason::AppNotFound | Reason::NotFound { what: Missing::Machine | Missing::Volume }
        )
    }
}

impl Reason {
    /// See [`Error::retry`].
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::RateLimited { after } => Retry::After(after.unwrap_or(Duration::from_secs(1))),
            Self::LeaseHeld { .. }
            | Self::ConcurrentUpdate
            | Self::Capacity { scope: Scope::Region | Scope::Host | Scope::Governor }
            | Self::StateRace
            | Self::VolumeBound { .. }
            | Self::VolumeClaimed { .. }
            | Self::SnapshotRunning
            | Self::SecretsBehind
            | Self::MachineLimit
            | Self::DeadlineExceeded
            | Self::WaitTimeout { .. }
            | Self::ManifestUnknown
            | Self::Conflict
            | Self::Precondition
            | Self::Server
            | Self::Transport { .. }
            | Self::Decode { .. } => Retry::Backoff,
            Self::AppNotFound
            | Self::NotFound { .. }
            | Self::VolumeNotFound
            | Self::ForeignApp
            | Self::Forbidden
            | Self::Unauthenticated
            | Self::NameTaken
            | Self::NameInvalid
            | Self::MachineNameTaken { .. }
            | Self::VersionMismatch
            | Self::Capacity { scope: Scope::Volume }
            | Self::StillRunning
            | Self::PaymentNeeded
            | Self::BadRequest
            | Self::Refused => Retry::Never,
        }
    }

    /// See [`Error::kind`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AppNotFound => "app_not_found",
            Self::NotFound { .. } => "not_found",
            Self::VolumeNotFound => "volume_not_found",
            Self::ForeignApp => "foreign_app",
            Self::Forbidden => "forbidden",
            Self::Unauthenticated => "unauthenticated",
            Self::NameTaken => "name_taken",
            Self::NameInvalid => "name_invalid",
            Self::MachineNameTaken { .. } => "machine_name_taken",
            Self::LeaseHeld { .. } => "lease_held",
            Self::VersionMismatch => "version_mismatch",
            Self::ConcurrentUpdate => "concurrent_update",
            Self::Capacity { scope: Scope::Region } => "capacity_region",
            Self::Capacity { scope: Scope::Host } => "capacity_host",
            Self::Capacity { scope: Scope::Volume } => "capacity_volume",
            Self::Capacity { scope: Scope::Governor } => "capacity_governor",
            Self::StateRace => "state_race",
            Self::StillRunning => "still_running",
            Self::VolumeBound { .. } => "volume_bound",
            Self::VolumeClaimed { .. } => "volume_claimed",
            Self::SnapshotRunning => "snapshot_running",
            Self::SecretsBehind => "secrets_behind",
            Self::MachineLimit => "machine_limit",
            Self::PaymentNeeded => "payment_needed",
            Self::RateLimited { .. } => "rate_limited",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::WaitTimeout { .. } => "wait_timeout",
            Self::ManifestUnknown => "manifest_unknown",
            Self::BadRequest => "bad_request",
            Self::Conflict => "conflict",
            Self::Precondition => "precondition",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Transport { .. } => "transport",
            Self::Decode { .. } => "decode",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { call, status, request_id, text: _, source: _ } = &*self.details;
        let text = self.text();
        write!(f, "cannot {call}: ")?;
        match (&self.reason, status) {
            (Reason::Transport { ambiguous: true }, _) => {
                f.write_str("no answer, and it may have happened all the same")?;
            }
            (Reason::Transport { ambiguous: false }, _) => f.write_str("no answer")?,
            (Reason::Decode { at }, _) => write!(f, "the answer cannot be read at {at}")?,
            (_, Some(status)) if text.is_empty() => write!(f, "Fly answered {status}")?,
            (_, Some(status)) => write!(f, "Fly answered {}: {text}", status.as_u16())?,
            (reason, None) if text.is_empty() => f.write_str(reason.kind())?,
            (_, None) => f.write_str(&text)?,
        }
        match request_id {
            Some(id) => write!(f, " (request {id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.details.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests;
