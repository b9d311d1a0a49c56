//! What there really is, whatever calls would show: for whoever checks hangar or this backend. It must never be asked on the
//! way to an answer.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::local::Backend;

/// Everything, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Census {
    /// By name.
    pub apps: BTreeMap<String, App>,
    /// By id; destroyed ones are left out.
    pub machines: BTreeMap<String, Machine>,
    /// By id; those being destroyed are in it.
    pub volumes: BTreeMap<String, Volume>,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// Organisation.
    pub org: String,
    /// Private network.
    pub network: String,
    /// How many public addresses it has.
    pub ips: usize,
    /// Its deletion goes on.
    pub deleting: bool,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// App.
    pub app: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Fly's word.
    pub state: &'static str,
    /// Version.
    pub version: String,
    /// Image.
    pub image: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Metadata.
    pub metadata: BTreeMap<String, String>,
    /// Volume that it mounts.
    pub volume: Option<String>,
    /// Whether all its checks pass; `None` without a result.
    pub passing: Option<bool>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// App.
    pub app: String,
    /// Region.
    pub region: String,
    /// Size.
    pub size_gib: u32,
    /// Fly's word.
    pub state: &'static str,
    /// When it goes for good.
    pub destroy_at: Option<Timestamp>,
}

impl Backend {
    /// Everything there is.
    #[must_use]
    pub fn census(&self) -> Census {
        let world = self.lock();
        let mut census = Census::default();
        for (name, app) in &world.apps {
            let app = App {
                org: app.org.clone(),
                network: app.network.clone(),
                ips: app.ips.len(),
                deleting: app.deleting,
            };
            census.apps.insert(name.clone(), app);
        }
        for (id, machine) in world.machines.iter().filter(|(_, it)| it.is_live()) {
            let Some(current) = machine.current() else { continue };
            let passing = |it: &crate::fly::wire::CheckStatus| it.status == "passing";
            let machine = Machine {
                app: machine.app.clone(),
                name: machine.name.clone(),
                region: machine.region.clone(),
                state: machine.state.word(),
                version: current.version.clone(),
                image: current.config.image.clone(),
                env: current.config.env.clone(),
                metadata: current.config.metadata.clone(),
                volume: machine.volume().map(str::to_owned),
                passing: (!machine.checks.is_empty()).then(|| machine.checks.iter().all(passing)),
            };
            census.machines.insert(id.clone(), machine);
        }
        for (id, volume) in &world.volumes {
            let volume = Volume {
                app: volume.app.clone(),
                region: volume.region.clone(),
                size_gib: volume.size_gb,
                state: volume.state(),
                destroy_at: volume.destroy_at,
            };
            census.volumes.insert(id.clone(), volume);
        }
        census
    }
}
