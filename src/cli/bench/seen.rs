//! What the load test reads of the objects that it watches: no more than it notes, so that it takes as little as it can of the
//! processors that it shares with what it measures. It must never note anything itself.

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;

use crate::{
    api::{
        Timestamp,
        bay::EnvironmentRef,
        condition::Truth,
        environment::{BayRef, Condition, ConditionType},
    },
    client::Watched,
};

/// An environment to be made; nothing is read of it once it is made.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    #[serde(skip_deserializing)]
    pub(super) metadata: Value,
    #[serde(skip_deserializing)]
    pub(super) spec: Value,
}

/// Metadata.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    resource_version: Option<String>,
    pub(super) deletion_timestamp: Option<Timestamp>,
}

/// An environment.
#[derive(Debug, Deserialize)]
pub(super) struct Environment {
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) status: EnvironmentStatus,
}

/// What became of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EnvironmentStatus {
    pub(super) bay: Option<BayRef>,
    conditions: Vec<Condition>,
}

impl Environment {
    /// Whether one of its conditions is true.
    pub(super) fn is(&self, kind: ConditionType) -> bool {
        let holds = |it: &Condition| it.kind == kind && it.status == Truth::True;
        self.status.conditions.iter().any(holds)
    }
}

/// A bay.
#[derive(Debug, Deserialize)]
pub(super) struct Bay {
    pub(super) metadata: Metadata,
    pub(super) spec: BaySpec,
    #[serde(default)]
    pub(super) status: BayStatus,
}

/// Whose it is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BaySpec {
    pub(super) environment_ref: Option<EnvironmentRef>,
    pub(super) stock: Option<IgnoredAny>,
}

/// What became of it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BayStatus {
    pub(super) available_since: Option<Timestamp>,
}

impl Watched for Environment {
    fn revision(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}

impl Watched for Bay {
    fn revision(&self) -> Option<&str> {
        self.metadata.resource_version.as_deref()
    }
}
