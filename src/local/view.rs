//! A machine as the API shows it. It must never change one.

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{
    hosts, image,
    refusal::Refusal,
    state::{Lease, Machine, Volume, World, whole_seconds},
};

/// Events shown with a machine.
const EVENTS_SHOWN: usize = 20;

/// A machine in full, or its `summary`.
pub(super) fn machine(machine: &Machine, summary: bool) -> wire::Machine {
    let config = machine.current().map(|it| &it.config);
    wire::Machine {
        id: machine.id.clone(),
        name: machine.name.clone(),
        state: machine.state.word().to_owned(),
        region: machine.region.clone(),
        instance_id: machine.version().to_owned(),
        private_ip: machine.private_ip.clone(),
        config: config.filter(|_| !summary).cloned(),
        incomplete_config: None,
        image_ref: config.map(|it| image::parse(&it.image, &machine.digest)),
        created_at: machine.created_at.to_string(),
        updated_at: machine.updated_at.to_string(),
        events: if summary {
            Vec::new()
        } else {
            machine.events.iter().take(EVENTS_SHOWN).cloned().collect()
        },
        checks: if summary { Vec::new() } else { machine.checks.clone() },
        host_status: (!summary).then(|| "ok".to_owned()),
        cordoned: machine.cordoned,
        nonce: None,
    }
}

/// The same as JSON, with what is Fly's way of writing it.
pub(super) fn machine_json(shown: &wire::Machine, lease: Option<&Lease>) -> Result<Value, Refusal> {
    let mut value =
        serde_json::to_value(shown).map_err(|error| Refusal::Internal(error.to_string()))?;
    // Both names are in use.
    value["version"] = value["instance_id"].clone();
    if let Some(config) = value.get_mut("config") {
        answer_autostop(config);
    }
    if let Some(lease) = lease {
        value["lease"] = json!({
            "owner": lease.owner,
            "description": lease.description,
            "expires_at": lease.expires_at.as_second(),
        });
    }
    Ok(value)
}

/// Answers say `autostop` with booleans where they can.
pub(super) fn answer_autostop(config: &mut Value) {
    let services = config.get_mut("services").and_then(Value::as_array_mut);
    for service in services.into_iter().flatten() {
        match service.get("autostop").and_then(Value::as_str) {
            Some("off") => service["autostop"] = Value::Bool(false),
            Some("stop") => service["autostop"] = Value::Bool(true),
            Some(_) | None => {}
        }
    }
}

/// A machine in the organisation's list.
pub(super) fn org_machine(machine: &Machine, summary: bool) -> wire::OrgMachine {
    let config = machine.current().filter(|_| !summary).map(|it| wire::OverviewConfig {
        guest: it.config.guest.clone(),
        image: it.config.image.clone(),
        metadata: it.config.metadata.clone(),
    });
    wire::OrgMachine {
        id: machine.id.clone(),
        app_name: machine.app.clone(),
        name: machine.name.clone(),
        state: machine.state.word().to_owned(),
        region: machine.region.clone(),
        version: machine.version().to_owned(),
        private_ip: machine.private_ip.clone(),
        config,
        created_at: machine.created_at.to_string(),
        updated_at: machine.updated_at.to_string(),
    }
}

/// A volume.
pub(super) fn volume(world: &World, volume: &Volume) -> wire::Volume {
    wire::Volume {
        id: volume.id.clone(),
        name: volume.name.clone(),
        state: volume.state().to_owned(),
        size_gb: volume.size_gb,
        region: volume.region.clone(),
        zone: hosts::zone(&volume.host),
        encrypted: volume.encrypted,
        attached_machine_id: world.holder(volume).map(|it| it.id.clone()),
        snapshot_retention: volume.snapshot_retention,
        auto_backup_enabled: volume.auto_backup_enabled,
        created_at: volume.created_at.to_string(),
        host_status: Some("ok".to_owned()),
        app_name: None,
        updated_at: None,
        bytes_used: 0,
    }
}

/// A lease inside Fly's envelope.
pub(super) fn lease(lease: &Lease) -> Value {
    json!({"status": "success", "data": wire::Lease {
        nonce: lease.nonce.clone(),
        expires_at: lease.expires_at.as_second(),
        owner: lease.owner.clone(),
        description: lease.description.clone(),
        version: lease.version.clone(),
    }})
}

/// An event that happens now.
pub(super) fn event(
    id: String,
    now: Timestamp,
    (kind, status, source): (&str, &str, &str),
    request: Option<Value>,
) -> wire::MachineEvent {
    wire::MachineEvent {
        id,
        kind: kind.to_owned(),
        status: status.to_owned(),
        source: source.to_owned(),
        timestamp: now.as_millisecond(),
        request,
    }
}

/// A snapshot.
pub(super) fn snapshot(snapshot: &crate::local::state::Snapshot) -> wire::Snapshot {
    wire::Snapshot {
        id: snapshot.id.clone(),
        status: if snapshot.done { "created" } else { "running" }.to_owned(),
        size: snapshot.size,
        volume_size: u64::from(snapshot.volume_gb) << 30,
        digest: String::new(),
        retention_days: Some(snapshot.retention_days),
        created_at: whole_seconds(snapshot.created_at),
    }
}

/// Everything of a map, for `GET …/metadata`.
pub(super) fn metadata(machine: &Machine) -> Map<String, Value> {
    let all = machine.current().map(|it| it.config.metadata.iter()).into_iter().flatten();
    all.map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect()
}
