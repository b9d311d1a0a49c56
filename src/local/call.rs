//! Everything that can be asked, as closed enums. It must never know paths or HTTP.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::fly::wire;

/// Everything that can be asked.
#[derive(Debug)]
pub(super) enum Call {
    ListApps { org: String },
    CreateApp(wire::CreateApp),
    App { app: String, call: AppCall },
    Machine { app: String, id: String, nonce: Option<String>, call: MachineCall },
    Volume { app: String, id: String, call: VolumeCall },
    OrgMachines { org: String, page: Page },
    OrgVolumes { org: String, page: Page },
    Regions,
    Placements(Value),
}

/// What can be asked of an app.
#[derive(Debug)]
pub(super) enum AppCall {
    Get,
    Delete,
    ListMachines(Filter),
    CreateMachine(Box<wire::MachineInput>),
    ListVolumes,
    CreateVolume(Box<wire::CreateVolume>),
    ListSecrets { min_version: Option<u64> },
    UpdateSecrets(wire::SecretsUpdate),
    GetSecret { name: String, min_version: Option<u64> },
    SetSecret { name: String, value: String },
    DeleteSecret { name: String },
    ListIps,
    AssignIp(Value),
    ReleaseIp { ip: String },
    ListPolicies,
    PutPolicy(Value),
    DeletePolicy { id: String },
}

/// What can be asked of a machine.
#[derive(Debug)]
pub(super) enum MachineCall {
    Get { leases: bool },
    Update(Box<wire::MachineInput>),
    Destroy { force: bool },
    Start,
    Stop(wire::Stop),
    Suspend,
    Restart(wire::Stop),
    Signal(Value),
    Wait(Wait),
    Exec(wire::Exec),
    Processes { sort_by: String, descending: bool },
    Events { limit: Option<usize> },
    Versions,
    Metadata,
    PutMetadata(MetadataUpdate),
    PatchMetadata(MetadataUpdate),
    MetadataValue { key: String },
    SetMetadata { key: String, value: String },
    DeleteMetadata { key: String },
    GetLease,
    TakeLease(LeaseRequest),
    ReleaseLease,
    Cordon(bool),
}

/// What can be asked of a volume.
#[derive(Debug)]
pub(super) enum VolumeCall {
    Get,
    Update(VolumeUpdate),
    Extend(wire::ExtendVolume),
    Destroy,
    ListSnapshots,
    CreateSnapshot,
}

/// Which machines of an app.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) include_deleted: bool,
    pub(super) summary: bool,
    pub(super) leases: bool,
    pub(super) regions: Vec<String>,
    pub(super) states: Vec<String>,
    /// All of them.
    pub(super) metadata: BTreeMap<String, String>,
}

/// Which part of an organisation's list.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) filter: Filter,
    pub(super) updated_after: String,
    pub(super) cursor: String,
    pub(super) limit: Option<usize>,
}

/// `GET …/wait`.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) states: Vec<String>,
    pub(super) version: Option<String>,
    pub(super) from_event: Option<String>,
    pub(super) timeout: Duration,
}

/// `PUT` and `PATCH …/metadata`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MetadataUpdate {
    pub(super) metadata: BTreeMap<String, Option<String>>,
    pub(super) machine_version: Option<String>,
}

/// `POST …/lease`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct LeaseRequest {
    pub(super) description: String,
    pub(super) ttl: Option<u64>,
}

/// `PUT …/volumes/{id}`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct VolumeUpdate {
    pub(super) auto_backup_enabled: Option<bool>,
    pub(super) snapshot_retention: Option<u32>,
}
