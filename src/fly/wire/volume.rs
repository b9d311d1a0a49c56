//! Volumes and snapshots on the wire. It must never hold logic beyond what their fields mean.

use serde::{Deserialize, Serialize};

use super::{config::Guest, null_is_default};

/// `POST /v1/apps/{app}/volumes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateVolume {
    /// Lower-case letters, digits, underscores, at most 30; need not be unique.
    pub name: String,
    /// One region.
    pub region: String,
    /// 1 to 500; 3 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u32>,
    /// True unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// 1 to 60 days, 5 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Daily snapshots; true unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
    /// Other host than the app's other volumes of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_unique_zone: Option<bool>,
    /// Restore from this snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Fork this volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_volume_id: Option<String>,
    /// Size of the machine that will mount it, for placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<Guest>,
    /// Image of the machine that will mount it, for placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_image: Option<String>,
}

/// A volume, in an app's list, the organisation's list or alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// `vol_…`.
    pub id: String,
    /// Name.
    pub name: String,
    /// `created`, `pending_destroy` …; see [`Volume::is_going`].
    pub state: String,
    /// Size.
    pub size_gb: u32,
    /// Region; has been seen missing.
    pub region: String,
    /// Hardware host.
    pub zone: String,
    /// True unless said at creation.
    pub encrypted: bool,
    /// Machine that has it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_machine_id: Option<String>,
    /// Days.
    pub snapshot_retention: u32,
    /// Daily snapshots.
    pub auto_backup_enabled: bool,
    /// RFC 3339.
    pub created_at: String,
    /// `ok`, `unknown`, `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_status: Option<String>,
    /// In the organisation's list only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// In the organisation's list only; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Used bytes, where the host tells.
    pub bytes_used: u64,
}

impl Volume {
    /// Whether it is being, or has been, destroyed: soft deletion keeps it readable for a day.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(
            self.state.as_str(),
            "scheduling_destroy"
                | "pending_destroy"
                | "fork_cleanup"
                | "waiting_for_detach"
                | "destroying"
                | "destroyed"
        )
    }
}

/// `GET /v1/orgs/{org}/volumes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrgVolumes {
    /// Oldest update first.
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
    /// Empty at the end.
    #[serde(deserialize_with = "null_is_default")]
    pub next_cursor: String,
    /// RFC 3339.
    pub last_updated_at: String,
    /// Last volume of the page.
    pub last_volume_id: String,
}

/// `PUT …/extend`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtendVolume {
    /// New size; never smaller.
    pub size_gb: u32,
}

/// Answer to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtendedVolume {
    /// The volume.
    pub volume: Volume,
    /// Whether its machine must restart to see it.
    pub needs_restart: bool,
}

/// A snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// `vs_…`.
    pub id: String,
    /// `waiting`, `pending`, `running`, `created`.
    pub status: String,
    /// Stored bytes.
    pub size: u64,
    /// Bytes of the volume.
    pub volume_size: u64,
    /// Content digest.
    pub digest: String,
    /// Days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// RFC 3339.
    pub created_at: String,
}
