//! What the rules are checked against: what the store held and Fly had at each step, and what was done. It must never hold
//! a rule about calls, objects or routes: their files do.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;

use crate::api::{bay::Bay, environment::Environment, hostname::Hostname};
use crate::clock::Timestamp;
use crate::local::census::{Census, Machine};
use crate::router::table::Table;
use crate::sim::oracle::claims::Claims;
use crate::sim::oracle::shown::Shown;

/// A thing that was made, changed or destroyed: the environment's name, and what.
pub(crate) type Count = (String, &'static str);

/// What is deleted by order is kept for a day; Fly keeps longer what it left behind itself.
const KEPT_BY_ORDER_MAX: jiff::SignedDuration = jiff::SignedDuration::from_hours(48);

/// Everything seen so far.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(super) census: Census,
    pub(super) environments: BTreeMap<String, Environment>,
    pub(super) bays: BTreeMap<String, Bay>,
    pub(super) hostnames: BTreeMap<String, Hostname>,
    /// Every bay there ever was, by app: its environment's uid and name, or, until it is bound, its own uid and its pool.
    pub(super) apps: BTreeMap<String, (String, String)>,
    /// Bay's uid and epoch by machine id, for machines that ever were.
    pub(super) machines: BTreeMap<String, (String, u64)>,
    /// Machine and version that were seen serving.
    pub(super) served: BTreeSet<(String, String)>,
    /// Volumes that a machine ever had: there may be data on them.
    pub(super) used: BTreeSet<String>,
    /// Machines that a bay had, and those of them that it said were out of reach or to go, or that all answers said were gone when
    /// their successor was written down.
    pub(super) had: BTreeSet<String>,
    pub(super) given_up: BTreeSet<String>,
    /// What is durable, by key.
    pub(super) stored: BTreeMap<String, Bytes>,
    /// What Fly's answers showed.
    pub(super) shown: Shown,
    /// When something of hangar's was last made in an app: app and what.
    pub(super) made: BTreeMap<Count, Timestamp>,
    /// Apps that lost something within the last minute of this life, and when.
    pub(super) lost: BTreeMap<String, Timestamp>,
    /// Holds there are, and whether a person lifted one.
    pub(super) holds: BTreeSet<String>,
    pub(super) lifted: bool,
    /// When each call was refused.
    pub(super) refused: BTreeMap<String, Vec<Timestamp>>,
    /// Volumes that Fly left behind when it moved a machine to another host.
    pub(super) moved: BTreeSet<String>,
    /// Calls under way that make something: app and path.
    pub(super) creating: BTreeMap<String, u64>,
    /// When a complete list of machines was last answered.
    pub(super) listed_at: Option<Timestamp>,
    /// Apps that something else than hangar meddled with.
    pub(super) excused: BTreeSet<String>,
    /// When the deletion of an environment with this uid became durable.
    pub(super) deleted_at: BTreeMap<String, Timestamp>,
    /// When a label got its holder, by label, and a bay its epoch, by name.
    pub(super) changed_at: BTreeMap<String, Timestamp>,
    /// Apps of bays that were given up.
    pub(super) given_up_apps: BTreeSet<String>,
    pub(super) claims: Claims,
    pub(super) canaries: Vec<String>,
    pub(super) table: Option<Arc<Table>>,
    pub(super) counts: BTreeMap<Count, u64>,
    pub(super) calls: BTreeMap<&'static str, u64>,
    /// Calls that were sent and did not come back.
    pub(super) under_way: u64,
    pub(super) writes: u64,
    /// Of these, how many were about which environment.
    pub(super) writes_by: BTreeMap<String, u64>,
    pub(super) commits: u64,
    pub(super) rate_limited: u64,
    pub(super) now: Timestamp,
    pub(super) violations: Vec<String>,
    /// How many of them were told.
    pub(super) told: usize,
}

impl Facts {
    pub(super) fn new(canaries: Vec<String>) -> Self {
        Self { canaries, ..Self::default() }
    }

    /// A rule is broken. Each way is told once.
    pub(super) fn violation(&mut self, what: String) {
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }

    pub(super) fn check_text(&mut self, whose: &str, text: &str) {
        if let Some(canary) = self.canaries.iter().find(|it| text.contains(it.as_str())) {
            let what = format!("19: a secret value ({}…) is in {whose}", &canary[..4]);
            self.violation(what);
        }
    }

    /// The environment that an app was made for.
    pub(super) fn owner(&self, app: &str) -> String {
        self.apps.get(app).map_or_else(|| format!("app {app}"), |(_, name)| name.clone())
    }

    fn count(&mut self, app: &str, what: &'static str) {
        *self.counts.entry((self.owner(app), what)).or_default() += 1;
    }

    /// Takes in what Fly has now, and counts what is different.
    pub(super) fn see(&mut self, mut census: Census, now: Timestamp) {
        self.now = now;
        census.machines.retain(|_, it| it.destroyed_at.is_none());
        let before = std::mem::replace(&mut self.census, census);
        let census = self.census.clone();
        for (name, app) in &census.apps {
            if !before.apps.contains_key(name) {
                self.count(name, "app made");
            }
            if !app.ips.is_empty() {
                self.violation(format!("20: app {name} has a public address"));
            }
        }
        for name in before.apps.keys().filter(|it| !census.apps.contains_key(*it)) {
            self.count(name, "app gone");
        }
        for (id, machine) in &census.machines {
            self.machine(id, before.machines.get(id), machine);
        }
        self.used.extend(census.machines.values().filter_map(|it| it.volume.clone()));
        for (id, machine) in &before.machines {
            if !census.machines.contains_key(id) {
                self.count(&machine.app, "machine gone");
            }
        }
        for (id, volume) in &census.volumes {
            let old = before.volumes.get(id);
            if old.is_none() {
                self.count(&volume.app, "volume made");
                self.made.insert((volume.app.clone(), "volume"), now);
            }
            let Some(at) = volume.destroy_at else { continue };
            if old.is_some_and(|it| it.destroy_at.is_some()) {
                continue;
            }
            if at > now + KEPT_BY_ORDER_MAX {
                self.moved.insert(id.clone());
            } else {
                self.lost_volume(id, &volume.app);
            }
        }
        for (id, volume) in &before.volumes {
            if volume.destroy_at.is_none() && !census.volumes.contains_key(id) {
                self.lost_volume(id, &volume.app);
            }
        }
    }

    fn machine(&mut self, id: &str, old: Option<&Machine>, machine: &Machine) {
        match old {
            None => {
                self.count(&machine.app, "machine made");
                if machine.metadata.contains_key("hangar_bay") {
                    self.made.insert((machine.app.clone(), "machine"), self.now);
                }
            }
            Some(old) if old.version != machine.version => {
                self.count(&machine.app, "machine updated");
            }
            Some(_) => {}
        }
        let word = |key: &str| machine.metadata.get(key).cloned().unwrap_or_default();
        let epoch = word("hangar_epoch").parse().unwrap_or_default();
        self.machines.insert(id.to_owned(), (word("hangar_bay"), epoch));
        if machine.state == "started" && machine.checks_pass != Some(false) {
            self.served.insert((id.to_owned(), machine.version.clone()));
        }
    }

    /// 3: data goes only with its environment.
    fn lost_volume(&mut self, id: &str, app: &str) {
        self.count(app, "volume gone");
        let deleted = self.apps.get(app).is_some_and(|(uid, _)| self.deleted_at.contains_key(uid));
        let excused = self.excused.contains(app) || self.given_up_apps.contains(app);
        if self.used.contains(id) && !deleted && !excused {
            let owner = self.owner(app);
            self.violation(format!("3: volume {id} of {owner} was destroyed"));
        }
    }
}
