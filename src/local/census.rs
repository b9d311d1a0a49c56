//! What truly exists, for whoever checks afterwards that nothing was lost or left over. It must never go through the API, nor
//! through the faults that bend what the API shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::local::{
    Backend, checks,
    faults::Outlook,
    state::{self, World},
};

/// Everything there is at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// By name.
    pub apps: BTreeMap<String, App>,
    /// By id; destroyed ones too, for as long as the API could list them.
    pub machines: BTreeMap<String, Machine>,
    /// By id; deleted ones too, until their content is removed.
    pub volumes: BTreeMap<String, Volume>,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Name.
    pub name: String,
    /// Organisation.
    pub org: String,
    /// Private network.
    pub network: String,
    /// Addresses assigned to it.
    pub ips: Vec<String>,
    /// Its deletion was accepted and goes on.
    pub deleting: bool,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Id.
    pub id: String,
    /// App.
    pub app: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// The hardware it is on.
    pub host: String,
    /// Fly's word for its state.
    pub state: &'static str,
    /// Version of its configuration, which Fly also calls its instance.
    pub version: String,
    /// Image of that version.
    pub image: String,
    /// Environment variables of that version.
    pub env: BTreeMap<String, String>,
    /// Metadata of that version.
    pub metadata: BTreeMap<String, String>,
    /// The volume that it mounts.
    pub volume: Option<String>,
    /// Whether all of its checks pass; `None` without any.
    pub checks_pass: Option<bool>,
    /// Its destruction was accepted while its host did not answer, and has not happened.
    pub promised: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was gone.
    pub destroyed_at: Option<Timestamp>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Id.
    pub id: String,
    /// App.
    pub app: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// The hardware it is on.
    pub host: String,
    /// Fly's word for its state.
    pub state: &'static str,
    /// Size.
    pub size_gib: u32,
    /// The machine that mounts it.
    pub attached: Option<String>,
    /// When its content is removed, if it was deleted.
    pub destroy_at: Option<Timestamp>,
}

impl Backend {
    /// Counts everything.
    #[must_use]
    pub fn census(&self) -> Census {
        let outlook = self.uncounted_outlook();
        let world = self.lock();
        let going = self.faults.going();
        let apps = world.apps.values().map(|it| (it.name.clone(), app(it, &going)));
        let machine = |it| machine(it, &outlook, &world);
        let machines = world.machines.values().map(|it| (it.id.clone(), machine(it)));
        let volumes = world.volumes.values().map(|it| (it.id.clone(), volume(&world, it)));
        Census { apps: apps.collect(), machines: machines.collect(), volumes: volumes.collect() }
    }
}

fn app(app: &state::App, going: &BTreeSet<String>) -> App {
    let ips = app.ips.iter().filter_map(|it| it.get("ip")?.as_str()).map(str::to_owned);
    App {
        name: app.name.clone(),
        org: app.org.clone(),
        network: app.network.clone(),
        ips: ips.collect(),
        deleting: app.deleting || going.contains(&app.name),
    }
}

fn machine(machine: &state::Machine, outlook: &Outlook<'_>, world: &World) -> Machine {
    let config = machine.current().map(|it| &it.config);
    let wanted = config.map(checks::of).unwrap_or_default();
    let mut checks = machine.checks.clone();
    outlook.checks(&mut checks, machine, world);
    let passes =
        |name: &str| checks.iter().any(|it| it.name == name && it.status == checks::PASSING);
    Machine {
        id: machine.id.clone(),
        app: machine.app.clone(),
        name: machine.name.clone(),
        region: machine.region.clone(),
        host: machine.host.clone(),
        state: machine.state.word(),
        version: machine.version().to_owned(),
        image: config.map(|it| it.image.clone()).unwrap_or_default(),
        env: config.map(|it| it.env.clone()).unwrap_or_default(),
        metadata: config.map(|it| it.metadata.clone()).unwrap_or_default(),
        volume: machine.volume().map(str::to_owned),
        checks_pass: (!wanted.is_empty()).then(|| wanted.iter().all(|it| passes(&it.name))),
        promised: machine.promised && machine.is_live(),
        created_at: machine.created_at,
        destroyed_at: (!machine.is_live()).then_some(machine.updated_at),
    }
}

fn volume(world: &World, volume: &state::Volume) -> Volume {
    Volume {
        id: volume.id.clone(),
        app: volume.app.clone(),
        name: volume.name.clone(),
        region: volume.region.clone(),
        host: volume.host.clone(),
        state: volume.state(),
        size_gib: volume.size_gb,
        attached: world.holder(volume).map(|it| it.id.clone()),
        destroy_at: volume.destroy_at,
    }
}
