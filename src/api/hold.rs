//! Hold: something that hangar does not do until a person says so. Controller-owned, deleted by users. Types only; it must
//! never know who looks at holds.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    kind::Kind,
    meta::{Metadata, resource},
};

resource! {
    /// Something that hangar does not do until a person says so. hangar makes it when its own records may be wrong; deleting
    /// it, which is what `hangar resume` does, ends it.
    Hold {
        /// What is held back, and why.
        spec: HoldSpec,
    }
}

/// What is held back, and why. Since when is `metadata.creationTimestamp`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HoldSpec {
    /// What is held back.
    pub what: Held,
    /// Why, for programs.
    pub reason: HoldReason,
    /// Why, for people.
    pub message: String,
}

/// What a hold keeps hangar from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Held {
    /// Destroying anything at Fly. Everything else goes on.
    Destroying,
    /// Destroying anything at Fly, and making anything in the place of what is gone.
    Replacing,
    /// Destroying and making anything at Fly. What is there runs on, is started, put to sleep and changed in place.
    Making,
}

/// Why there is a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HoldReason {
    /// The store was empty, in a data directory whose store was not always empty.
    OpenedEmpty,
    /// The store was new, and Fly had machines of another installation.
    OtherInstance,
    /// The store was made from an export, and may not know what was done after that.
    Restored,
    /// Too many environments would have lost something at Fly within a minute.
    MassChange,
    /// Too many environments missed something at Fly since the same minute. Ends by itself when it is seen again.
    MassAbsence,
}

impl Held {
    /// What it means that this is lifted.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Destroying => "hangar destroys again what is deleted, superseded or stuck",
            Self::Replacing => "hangar destroys and replaces again, at once what waited for this",
            Self::Making => {
                "hangar makes, replaces and destroys again, at once what waited for this"
            }
        }
    }
}

impl HoldReason {
    /// The hold's name: there is one for each reason at most.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenedEmpty => "opened-empty",
            Self::OtherInstance => "other-instance",
            Self::Restored => "restored",
            Self::MassChange => "mass-change",
            Self::MassAbsence => "mass-absence",
        }
    }

    /// What is held back for it.
    #[must_use]
    pub fn what(self) -> Held {
        match self {
            Self::OpenedEmpty | Self::OtherInstance | Self::Restored => Held::Destroying,
            Self::MassChange => Held::Replacing,
            Self::MassAbsence => Held::Making,
        }
    }
}

impl Hold {
    /// A hold for this reason, with a uid that the caller drew.
    #[must_use]
    pub fn because(reason: HoldReason, message: &str, uid: String, now: Timestamp) -> Self {
        let info = Kind::Hold.info();
        Self {
            api_version: info.api_version(),
            kind: info.kind_name.to_owned(),
            metadata: Metadata {
                name: reason.name().to_owned(),
                uid,
                generation: 1,
                // Whole seconds, as Kubernetes has them.
                creation_timestamp: Timestamp::from_second(now.as_second()).ok(),
                ..Metadata::default()
            },
            spec: HoldSpec { what: reason.what(), reason, message: message.to_owned() },
        }
    }
}
