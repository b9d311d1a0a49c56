//! The core kinds that hangar keeps as Kubernetes has them: Namespace, Secret, ConfigMap, Event. It must never add fields of its own.

use std::{collections::BTreeMap, fmt};

use base64::Engine as _;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{meta::resource, micro_time::MicroTime};

resource! {
    /// A tenant.
    Namespace {
        /// Empty.
        #[serde(default)]
        spec: BTreeMap<String, Value>,
        /// Active or Terminating.
        #[serde(default)]
        status: NamespaceStatus,
    }
}

/// State of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceStatus {
    /// Active or Terminating.
    #[serde(default)]
    pub phase: NamespacePhase,
}

/// State of a namespace in one word.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacePhase {
    /// In use.
    #[default]
    Active,
    /// Being deleted with all that is in it.
    Terminating,
}

/// Type of the secrets that hold a bay's key, made by hangar.
pub const BAY_KEY_TYPE: &str = "hangar.dev/bay-key";

/// Values that nobody should read over a shoulder; encrypted where they are stored.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Group and version of this kind.
    pub api_version: String,
    /// This kind's name.
    pub kind: String,
    /// Identity, version and labels.
    #[serde(default)]
    pub metadata: crate::api::meta::Metadata,
    /// Values in base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Values as text; moved into `data` at admission and never shown.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, String>,
    /// `Opaque` unless said. Immutable.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// Refuse every change of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
}

impl crate::api::meta::Resource for Secret {
    const KIND: crate::api::kind::Kind = crate::api::kind::Kind::Secret;
    fn metadata(&self) -> &crate::api::meta::Metadata {
        &self.metadata
    }
    fn metadata_mut(&mut self) -> &mut crate::api::meta::Metadata {
        &mut self.metadata
    }
}

impl Secret {
    /// A value as bytes; `None` when there is none or it is not base64.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        base64::engine::general_purpose::STANDARD.decode(self.data.get(key)?).ok()
    }
}

/// Shows names, never values.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("metadata", &self.metadata)
            .field("keys", &self.data.keys())
            .field("type", &self.type_)
            .finish_non_exhaustive()
    }
}

resource! {
    /// Values that everybody may read. Machines do not get them: what they should have is in templates, environments and secrets.
    ConfigMap {
        /// Values as text.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        data: BTreeMap<String, String>,
        /// Values in base64.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        binary_data: BTreeMap<String, String>,
        /// Refuse every change of the data.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        immutable: Option<bool>,
    }
}

resource! {
    /// Something that happened to an object. Kept for an hour.
    #[serde(default)]
    Event {
        /// What it happened to.
        involved_object: InvolvedObject,
        /// Why, for programs.
        reason: String,
        /// What, for people.
        message: String,
        /// Normal or Warning.
        #[serde(rename = "type")]
        type_: EventType,
        /// When it first happened.
        #[schemars(with = "Option<String>")]
        first_timestamp: Option<Timestamp>,
        /// When it last happened.
        #[schemars(with = "Option<String>")]
        last_timestamp: Option<Timestamp>,
        /// How often.
        count: u32,
        /// Who says so.
        source: EventSource,
        /// Who says so, in newer Kubernetes.
        reporting_component: String,
        /// Which of them.
        reporting_instance: String,
        /// When it happened, in newer Kubernetes.
        #[serde(skip_serializing_if = "Option::is_none")]
        event_time: Option<MicroTime>,
        /// That it went on happening.
        #[serde(skip_serializing_if = "Option::is_none")]
        series: Option<EventSeries>,
        /// What was done.
        #[serde(skip_serializing_if = "String::is_empty")]
        action: String,
        /// Another object that had to do with it.
        #[serde(skip_serializing_if = "Option::is_none")]
        related: Option<InvolvedObject>,
    }
}

impl Default for Event {
    fn default() -> Self {
        Self {
            api_version: "v1".to_owned(),
            kind: "Event".to_owned(),
            metadata: crate::api::meta::Metadata::default(),
            involved_object: InvolvedObject::default(),
            reason: String::new(),
            message: String::new(),
            type_: EventType::Normal,
            first_timestamp: None,
            last_timestamp: None,
            count: 1,
            source: EventSource::default(),
            reporting_component: String::new(),
            reporting_instance: String::new(),
            event_time: None,
            series: None,
            action: String::new(),
            related: None,
        }
    }
}

/// What an event happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InvolvedObject {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Its version then.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Which part of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

/// How often something happened again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EventSeries {
    /// How often.
    pub count: u32,
    /// When it last did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_observed_time: Option<MicroTime>,
}

/// Whether somebody should care.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventType {
    /// As it should be.
    #[default]
    Normal,
    /// Not as it should be.
    Warning,
}

/// Who says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EventSource {
    /// Component.
    pub component: String,
    /// Where that runs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
}
