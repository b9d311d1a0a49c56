//! Hostname: which environment holds a label under the router's domain, and for how long a freed one is kept from others.
//! Controller-owned. It must never hold routes; those follow from the environment.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    condition::Truth,
    environment::Environment,
    kind::Kind,
    meta::{Metadata, resource},
};

resource! {
    /// A label under the router's domain. It is made with the environment that holds it, in one transaction, so that two
    /// environments can never hold the same one.
    Hostname {
        /// Who holds it.
        spec: HostnameSpec,
        /// Whether it is held or was freed.
        #[serde(default)]
        status: HostnameStatus,
    }
}

/// Who holds a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostnameSpec {
    /// Namespace of the environment.
    pub namespace: String,
    /// Name of the environment.
    pub environment: String,
    /// Uid of the environment.
    pub uid: String,
    /// Owner of the environment, for whom a freed label stays free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Whether a label is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HostnameStatus {
    /// When the environment gave it up; absent while it is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub released_at: Option<Timestamp>,
}

/// How long a freed label is kept from other owners: bookmarks, cookies and webhooks of the old one still point at it.
pub const QUARANTINE_DAYS: i64 = 30;

/// The record of an environment that holds a label.
#[must_use]
pub fn held(label: &str, environment: &Environment) -> Hostname {
    Hostname {
        api_version: Kind::Hostname.info().api_version(),
        kind: Kind::Hostname.info().kind_name.to_owned(),
        metadata: Metadata { name: label.to_owned(), ..Metadata::default() },
        spec: HostnameSpec {
            namespace: environment.metadata.namespace.clone().unwrap_or_default(),
            environment: environment.metadata.name.clone(),
            uid: environment.metadata.uid.clone(),
            owner: environment.spec.owner.clone(),
        },
        status: HostnameStatus::default(),
    }
}

/// Whether this environment may take the label whose record is `current`.
///
/// # Errors
/// A sentence that says who has it, without naming another namespace's environment.
pub fn may_take(
    current: &Hostname,
    environment: &Environment,
    now: Timestamp,
) -> Result<(), String> {
    let label = &current.metadata.name;
    if current.spec.uid == environment.metadata.uid {
        return Ok(());
    }
    let Some(released_at) = current.status.released_at else {
        return Err(format!("the hostname `{label}` is held by another environment"));
    };
    let free_at = released_at + jiff::SignedDuration::from_hours(24 * QUARANTINE_DAYS);
    let same_owner = current.spec.owner == environment.spec.owner
        && Some(&current.spec.namespace) == environment.metadata.namespace.as_ref();
    if same_owner || now >= free_at {
        return Ok(());
    }
    Err(format!(
        "the hostname `{label}` was another owner's until {released_at:.0} and is kept free until {free_at:.0}"
    ))
}

impl Hostname {
    /// Held is True, freed is False.
    #[must_use]
    pub fn is_held(&self) -> Truth {
        if self.status.released_at.is_none() { Truth::True } else { Truth::False }
    }
}
