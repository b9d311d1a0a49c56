//! Lease: who leads among several, in Kubernetes' shape, for its clients' leader election. hangar itself has no use for one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{meta::resource, micro_time::MicroTime};

resource! {
    /// Who of several leads, and until when. For programs that elect a leader through the API; hangar's own parts do not.
    Lease {
        /// The claim.
        #[serde(default)]
        spec: LeaseSpec,
    }
}

/// A claim to lead.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// How long others wait after `renewTime` before they take over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<u32>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<MicroTime>,
    /// When the holder last said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<MicroTime>,
    /// How often the holder changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<u32>,
    /// How a holder is picked, where that is coordinated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// Who should lead instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_holder: Option<String>,
}
