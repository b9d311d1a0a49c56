//! What the backend knows, as data: apps, machines, volumes, and the indexes over them. It must never do IO.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{driver, hosts, machine::State, refusal::Refusal};

/// Events kept per machine; the API shows no more.
pub(super) const EVENTS_MAX: usize = 50;
/// Versions kept per machine, the current one included.
const VERSIONS_MAX: usize = 10;

/// A record's place on disk and in the set of what changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// App by name.
    App(String),
    /// App and machine.
    Machine(String, String),
    /// App and volume.
    Volume(String, String),
}

/// An app and what has no record of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct App {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) org: String,
    pub(super) network: String,
    pub(super) created_at: Timestamp,
    /// Deletion was accepted and goes on in the background.
    #[serde(default)]
    pub(super) deleting: bool,
    #[serde(default)]
    pub(super) secrets: BTreeMap<String, Secret>,
    #[serde(default)]
    pub(super) secrets_version: u64,
    #[serde(default)]
    pub(super) ips: Vec<Value>,
    #[serde(default)]
    pub(super) policies: BTreeMap<String, Value>,
    #[serde(skip)]
    pub(super) machines: BTreeSet<String>,
    #[serde(skip)]
    pub(super) volumes: BTreeSet<String>,
}

/// An app secret. Its value leaves this process only in a machine's environment.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Secret {
    pub(super) value: String,
    pub(super) digest: String,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// A version of a machine's configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Version {
    /// ULID.
    pub(super) version: String,
    pub(super) config: wire::MachineConfig,
}

/// Somebody's lease on a machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Lease {
    pub(super) nonce: String,
    pub(super) owner: String,
    pub(super) description: String,
    pub(super) expires_at: Timestamp,
    /// The machine's version when it was taken.
    pub(super) version: String,
}

/// A machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) id: String,
    pub(super) app: String,
    pub(super) name: String,
    pub(super) region: String,
    /// The hardware it is on: its volume's, if it has one.
    #[serde(default)]
    pub(super) host: String,
    pub(super) private_ip: String,
    pub(super) state: State,
    /// Oldest first; never empty, the last one is current.
    pub(super) versions: Vec<Version>,
    /// What the image reference was resolved to.
    #[serde(default)]
    pub(super) digest: String,
    /// Whether the program is to start once the image is prepared.
    pub(super) launch: bool,
    pub(super) cordoned: bool,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// A [`State::Draining`] machine counts as stopped from here on.
    pub(super) settles_at: Timestamp,
    #[serde(default)]
    pub(super) lease: Option<Lease>,
    /// Newest first.
    pub(super) events: VecDeque<wire::MachineEvent>,
    /// Results since the last start; they die with the process, as the run's do.
    #[serde(skip)]
    pub(super) checks: Vec<wire::CheckStatus>,
    /// Rises with every operation; what an older one reports is ignored.
    #[serde(skip)]
    pub(super) epoch: u64,
    /// One piece of work at a time.
    #[serde(skip)]
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// Its destruction was accepted while its host did not answer.
    #[serde(default)]
    pub(super) promised: bool,
    /// Whether the program has run at least once.
    #[serde(default)]
    pub(super) has_run: bool,
}

impl Machine {
    /// The current version.
    pub(super) fn current(&self) -> Option<&Version> {
        self.versions.last()
    }

    pub(super) fn version(&self) -> &str {
        self.current().map_or("", |it| &it.version)
    }

    /// Volume that it mounts.
    pub(super) fn volume(&self) -> Option<&str> {
        self.current()
            .and_then(|it| it.config.mounts.first())
            .map(|it| it.volume.as_str())
            .filter(|it| !it.is_empty())
    }

    /// Makes a version the current one.
    pub(super) fn push_version(&mut self, version: Version) {
        self.versions.push(version);
        if self.versions.len() > VERSIONS_MAX {
            self.versions.remove(0);
        }
    }

    /// Puts an event in front of the others.
    pub(super) fn push_event(&mut self, event: wire::MachineEvent) {
        self.events.push_front(event);
        self.events.truncate(EVENTS_MAX);
    }

    /// The lease, unless it has run out.
    pub(super) fn lease(&self, now: Timestamp) -> Option<&Lease> {
        self.lease.as_ref().filter(|it| it.expires_at > now)
    }

    /// Refuses a caller who does not hold the lease.
    pub(super) fn check_lease(&self, nonce: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
        match self.lease(now) {
            Some(lease) if Some(lease.nonce.as_str()) != nonce => Err(Refusal::Leased {
                id: self.id.clone(),
                owner: lease.owner.clone(),
                until: whole_seconds(lease.expires_at),
            }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it counts for names, volumes and lists without `include_deleted`.
    pub(super) fn is_live(&self) -> bool {
        self.state != State::Destroyed
    }
}

/// RFC 3339 without a fraction.
pub(super) fn whole_seconds(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// Where a volume's first content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// A snapshot by id.
    Snapshot(String),
    /// Another volume by id.
    Volume(String),
}

/// A volume.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) app: String,
    pub(super) name: String,
    pub(super) region: String,
    /// The hardware it is on.
    #[serde(default)]
    pub(super) host: String,
    pub(super) size_gb: u32,
    pub(super) encrypted: bool,
    pub(super) snapshot_retention: u32,
    pub(super) auto_backup_enabled: bool,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    /// When it is really removed.
    #[serde(default)]
    pub(super) destroy_at: Option<Timestamp>,
    /// Set until the content is there.
    #[serde(default)]
    pub(super) filling_from: Option<Origin>,
    #[serde(default)]
    pub(super) snapshots: Vec<Snapshot>,
}

impl Volume {
    /// Fly's word.
    pub(super) fn state(&self) -> &'static str {
        match (&self.destroy_at, &self.filling_from) {
            (Some(_), _) => "pending_destroy",
            (None, Some(Origin::Snapshot(_))) => "restoring",
            (None, Some(Origin::Volume(_))) => "hydrating",
            (None, None) => "created",
        }
    }
}

/// A snapshot of a volume; it outlives a soft deletion.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Snapshot {
    pub(super) id: String,
    /// Copied completely.
    pub(super) done: bool,
    /// Made by the daily schedule.
    #[serde(default)]
    pub(super) scheduled: bool,
    pub(super) size: u64,
    pub(super) volume_gb: u32,
    pub(super) retention_days: u32,
    pub(super) created_at: Timestamp,
}

/// Everything.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    pub(super) apps: BTreeMap<String, App>,
    pub(super) machines: BTreeMap<String, Machine>,
    pub(super) volumes: BTreeMap<String, Volume>,
    /// Organisation, last change, machine: the order of the organisation's list.
    pub(super) machines_by_update: BTreeSet<(String, Timestamp, String)>,
    /// The same for volumes.
    pub(super) volumes_by_update: BTreeSet<(String, Timestamp, String)>,
    /// What the change under way has touched.
    pub(super) changed: Vec<Key>,
    /// What the disk does not have yet.
    pub(super) unsaved: BTreeSet<Key>,
    last_update: Timestamp,
}

impl World {
    /// An app that is not being deleted.
    pub(super) fn app(&self, name: &str) -> Result<&App, Refusal> {
        self.apps.get(name).filter(|it| !it.deleting).ok_or(Refusal::NotFound("app"))
    }

    /// The same, to change it.
    pub(super) fn app_mut(&mut self, name: &str) -> Result<&mut App, Refusal> {
        self.changed.push(Key::App(name.to_owned()));
        self.apps.get_mut(name).filter(|it| !it.deleting).ok_or(Refusal::NotFound("app"))
    }

    /// A machine of an app, gone ones included.
    pub(super) fn machine(&self, app: &str, id: &str) -> Result<&Machine, Refusal> {
        self.app(app)?;
        self.machines.get(id).filter(|it| it.app == app).ok_or(Refusal::NotFound("machine"))
    }

    /// A volume of an app.
    pub(super) fn volume(&self, app: &str, id: &str) -> Result<&Volume, Refusal> {
        self.app(app)?;
        self.volumes.get(id).filter(|it| it.app == app).ok_or(Refusal::NotFound("volume"))
    }

    /// Changes a machine, if it is there, and moves it to the end of the organisation's list.
    pub(super) fn edit_machine<T>(
        &mut self,
        id: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Machine) -> T,
    ) -> Option<T> {
        let at = self.next_update(now);
        let machine = self.machines.get_mut(id)?;
        let org = self.apps.get(&machine.app).map(|it| it.org.clone()).unwrap_or_default();
        self.machines_by_update.remove(&(org.clone(), machine.updated_at, id.to_owned()));
        let result = change(machine);
        machine.updated_at = at;
        self.machines_by_update.insert((org, at, id.to_owned()));
        self.changed.push(Key::Machine(machine.app.clone(), id.to_owned()));
        Some(result)
    }

    /// Changes a volume, if it is there.
    pub(super) fn edit_volume<T>(
        &mut self,
        id: &str,
        now: Timestamp,
        change: impl FnOnce(&mut Volume) -> T,
    ) -> Option<T> {
        let at = self.next_update(now);
        let volume = self.volumes.get_mut(id)?;
        let org = self.apps.get(&volume.app).map(|it| it.org.clone()).unwrap_or_default();
        self.volumes_by_update.remove(&(org.clone(), volume.updated_at, id.to_owned()));
        let result = change(volume);
        volume.updated_at = at;
        self.volumes_by_update.insert((org, at, id.to_owned()));
        self.changed.push(Key::Volume(volume.app.clone(), id.to_owned()));
        Some(result)
    }

    /// Puts a new or loaded machine in, with its indexes.
    pub(super) fn insert_machine(&mut self, mut machine: Machine) {
        let Some(app) = self.apps.get_mut(&machine.app) else { return };
        if machine.host.is_empty() {
            // A record from before there were hosts.
            machine.host = hosts::first(&machine.region, machine.volume().unwrap_or(&machine.id));
        }
        app.machines.insert(machine.id.clone());
        self.last_update = self.last_update.max(machine.updated_at);
        let place = (app.org.clone(), machine.updated_at, machine.id.clone());
        self.machines_by_update.insert(place);
        self.machines.insert(machine.id.clone(), machine);
    }

    /// Puts a new or loaded volume in, with its indexes.
    pub(super) fn insert_volume(&mut self, mut volume: Volume) {
        let Some(app) = self.apps.get_mut(&volume.app) else { return };
        if volume.host.is_empty() {
            volume.host = hosts::first(&volume.region, &volume.id);
        }
        app.volumes.insert(volume.id.clone());
        self.last_update = self.last_update.max(volume.updated_at);
        let place = (app.org.clone(), volume.updated_at, volume.id.clone());
        self.volumes_by_update.insert(place);
        self.volumes.insert(volume.id.clone(), volume);
    }

    /// Forgets a machine.
    pub(super) fn remove_machine(&mut self, id: &str) {
        let Some(machine) = self.machines.remove(id) else { return };
        if let Some(app) = self.apps.get_mut(&machine.app) {
            app.machines.remove(id);
            let place = (app.org.clone(), machine.updated_at, id.to_owned());
            self.machines_by_update.remove(&place);
        }
        self.changed.push(Key::Machine(machine.app, id.to_owned()));
    }

    /// Forgets a volume.
    pub(super) fn remove_volume(&mut self, id: &str) {
        let Some(volume) = self.volumes.remove(id) else { return };
        if let Some(app) = self.apps.get_mut(&volume.app) {
            app.volumes.remove(id);
            let place = (app.org.clone(), volume.updated_at, id.to_owned());
            self.volumes_by_update.remove(&place);
        }
        self.changed.push(Key::Volume(volume.app, id.to_owned()));
    }

    /// The machine that holds a volume: its own configuration says so, and nothing else does.
    pub(super) fn holder(&self, volume: &Volume) -> Option<&Machine> {
        self.apps
            .get(&volume.app)?
            .machines
            .iter()
            .filter_map(|id| self.machines.get(id))
            .find(|it| it.is_live() && it.volume() == Some(&volume.id))
    }

    /// Times of changes differ, so that a cursor over them skips and repeats nothing.
    pub(super) fn next_update(&mut self, now: Timestamp) -> Timestamp {
        let after = self
            .last_update
            .checked_add(jiff::SignedDuration::from_nanos(1))
            .unwrap_or(self.last_update);
        self.last_update = now.max(after);
        self.last_update
    }
}

/// `now` and a time to go.
pub(super) fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// The payload of an `exit` event.
pub(super) fn exit_payload(exit: &driver::Exit, restarting: bool) -> Value {
    serde_json::json!({
        "exit_event": {
            "exit_code": exit.code.unwrap_or_else(|| exit.signal.map_or(0, |it| 128 + it)),
            "guest_exit_code": exit.code.unwrap_or(0),
            "guest_signal": exit.signal.unwrap_or(-1),
            "signal": exit.signal.unwrap_or(-1),
            "oom_killed": false,
            "requested_stop": exit.requested,
            "restarting": restarting,
            "exited_at": Timestamp::from_millisecond(exit.at_ms).unwrap_or_default().to_string(),
        },
        "restart_count": exit.restarts,
    })
}
