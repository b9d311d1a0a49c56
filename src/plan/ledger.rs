//! The leak ledger: what Fly's complete lists show of hangar's, against what the store accounts for. Pure: lists and bays in,
//! entries out. It must never decide what is done about an entry.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::{Bay, BayPhase},
    orphan::{
        Evidence, MadeBy, OrphanMachine, OrphanPhase, OrphanStatus, OrphanVolume, OrphanWhat, Side,
    },
};
use crate::plan::{
    bay::{network_name, volume_name},
    machine::{BAY, ENVIRONMENT, EPOCH, INSTANCE},
    observe::SECOND_LOOK,
    price::{Size, machine_monthly_microdollars, volume_monthly_microdollars},
};

/// What is younger may be a creation under way, here or in a process that was killed.
pub const GRACE: SignedDuration = SignedDuration::from_mins(10);
/// More things of other installations than this are not written down: they are not ours to look after.
const OTHERS_MAX: usize = 500;

/// What Fly's complete lists show.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// Machines that are not destroyed.
    pub machines: Vec<ListedMachine>,
    /// Volumes that are not being destroyed.
    pub volumes: Vec<ListedVolume>,
    /// Apps, if they were listed.
    pub apps: Option<Vec<ListedApp>>,
    /// When the older of the lists of machines and volumes began.
    pub at: Timestamp,
    /// When the list of apps began.
    pub apps_at: Timestamp,
}

/// A machine, as listed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListedMachine {
    /// App.
    pub app: String,
    /// Fly's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// State.
    pub state: String,
    /// Size, where the list tells.
    pub size: Option<Size>,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Those of its metadata that are hangar's.
    pub metadata: BTreeMap<String, String>,
}

/// A volume, as listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedVolume {
    /// App.
    pub app: String,
    /// Fly's id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Size.
    pub size_gib: u32,
    /// When it was made.
    pub created_at: Option<Timestamp>,
}

/// An app, as listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedApp {
    /// Name.
    pub name: String,
    /// Private network.
    pub network: Option<String>,
}

/// Entries by their names.
pub type Entries = BTreeMap<String, OrphanStatus>;

/// What does not match in these lists, by the name that its entry has. One sighting proves little: see [`fold`].
#[must_use]
pub fn survey(listing: &Listing, bays: &[Bay], instance: &str) -> Entries {
    let survey = Survey::new(listing, bays, instance);
    let mut found = survey.unaccounted_apps();
    found.extend(survey.unaccounted_machines());
    found.extend(survey.unaccounted_volumes());
    found.extend(survey.lost());
    let others: Vec<_> = found
        .iter()
        .filter(|(_, it)| it.made_by == MadeBy::Another)
        .map(|(name, _)| name.clone())
        .skip(OTHERS_MAX)
        .collect();
    for name in others {
        found.remove(&name);
    }
    found
}

struct Survey<'a> {
    listing: &'a Listing,
    instance: &'a str,
    accounts: BTreeMap<&'a str, &'a Bay>,
    /// What is in each app.
    inside: BTreeMap<&'a str, Inside<'a>>,
}

#[derive(Debug, Clone, Default)]
struct Inside<'a> {
    machines: Vec<&'a ListedMachine>,
    volumes: Vec<&'a ListedVolume>,
}

impl<'a> Survey<'a> {
    fn new(listing: &'a Listing, bays: &'a [Bay], instance: &'a str) -> Self {
        let mut inside: BTreeMap<&str, Inside<'_>> = BTreeMap::new();
        for machine in &listing.machines {
            inside.entry(&machine.app).or_default().machines.push(machine);
        }
        for volume in &listing.volumes {
            inside.entry(&volume.app).or_default().volumes.push(volume);
        }
        let accounts = bays.iter().map(|it| (it.spec.app.as_str(), it)).collect();
        Self { listing, instance, accounts, inside }
    }

    /// Apps of hangar's that no bay names, with all that is in them.
    fn unaccounted_apps(&self) -> Entries {
        let Listing { machines, apps, .. } = self.listing;
        let networks: BTreeMap<_, _> = apps
            .iter()
            .flatten()
            .map(|it| (it.name.as_str(), it.network.as_deref().unwrap_or_default()))
            .collect();
        let marked = machines.iter().filter(|it| it.metadata.contains_key(INSTANCE));
        let named = networks
            .iter()
            .filter(|(app, network)| app.starts_with("hgr-") && network.starts_with("hgr-"));
        let mut names: BTreeSet<&str> = named.map(|(app, _)| *app).collect();
        names.extend(marked.map(|it| it.app.as_str()));
        names.retain(|it| !self.accounts.contains_key(it));
        let entry = |app: &str| (format!("app-{app}"), self.app(app, networks.get(app).copied()));
        names.into_iter().map(entry).collect()
    }

    fn app(&self, app: &str, network: Option<&str>) -> OrphanStatus {
        let Inside { machines, volumes } = self.inside.get(app).cloned().unwrap_or_default();
        let own_volume = app.strip_prefix("hgr-").map(|it| format!("bay_{it}"));
        let mut makers: Vec<_> = machines.iter().map(|it| self.maker(it)).collect();
        // Nothing in an app of hangar's has another name; what has one was put there by others.
        if volumes.iter().any(|it| Some(&it.name) != own_volume.as_ref()) {
            makers.push(MadeBy::Unknown);
        }
        let network_maker = network.and_then(|it| self.network_maker(app, it));
        makers.extend(network_maker);
        let newest = machines.iter().max_by_key(|it| epoch(it));
        let uid = newest.and_then(|it| it.metadata.get(BAY));
        let one_bay = machines.iter().all(|it| it.metadata.get(BAY) == uid);
        let marks = match (network_maker.is_some(), machines.len()) {
            (true, 0) => "its network has an installation's mark".to_owned(),
            (true, many) => {
                format!("its network and {many} machines in it have an installation's mark")
            }
            (false, 0) => "its name and network are such as hangar gives".to_owned(),
            (false, many) => format!("{many} machines in it have hangar's metadata"),
        };
        let listed_at = if machines.is_empty() && volumes.is_empty() {
            self.listing.apps_at
        } else {
            self.listing.at
        };
        let created = machines.iter().map(|it| it.created_at);
        let created_at = created.chain(volumes.iter().map(|it| it.created_at)).flatten().max();
        OrphanStatus {
            side: Side::Unaccounted,
            what: OrphanWhat::App,
            app: app.to_owned(),
            id: app.to_owned(),
            made_by: agreed(&makers),
            environment: newest.and_then(|it| it.metadata.get(ENVIRONMENT)).cloned(),
            bay_uid: uid.filter(|_| one_bay).cloned(),
            evidence: Evidence {
                first_seen_at: Some(listed_at),
                created_at,
                message: format!("Fly's lists have it and no bay names it; {marks}"),
                ..Evidence::default()
            },
            machines: machines.iter().map(|it| machine(it)).collect(),
            volumes: volumes.iter().map(|it| volume(it)).collect(),
            monthly_cost_microdollars: machines.iter().map(|it| machine_cost(it)).sum::<u64>()
                + volumes.iter().map(|it| volume_monthly_microdollars(it.size_gib)).sum::<u64>(),
            ..OrphanStatus::default()
        }
    }

    /// Machines in bays' apps that the bays do not record.
    fn unaccounted_machines(&self) -> Entries {
        let strange = self.listing.machines.iter().filter_map(|it| {
            let bay = self.accounts.get(it.app.as_str())?;
            let record = bay.status.machine.as_ref();
            let known = record.is_some_and(|own| {
                own.id.as_ref() == Some(&it.id) || own.id.is_none() && own.name == it.name
            });
            (!known).then_some((*bay, it))
        });
        let entry = |(bay, it): (&Bay, &ListedMachine)| {
            let uid = it.metadata.get(BAY);
            let maker = self.maker(it);
            let foreign_bay = maker == MadeBy::This && uid != Some(&bay.metadata.uid);
            let status = OrphanStatus {
                side: Side::Unaccounted,
                what: OrphanWhat::Machine,
                app: it.app.clone(),
                id: it.id.clone(),
                made_by: if foreign_bay { MadeBy::Unknown } else { maker },
                environment: it.metadata.get(ENVIRONMENT).cloned(),
                bay_uid: uid.cloned(),
                evidence: Evidence {
                    first_seen_at: Some(self.listing.at),
                    created_at: it.created_at,
                    message: format!(
                        "Fly's list of machines has it, and {} records another one",
                        bay.metadata.name
                    ),
                    ..Evidence::default()
                },
                machines: vec![machine(it)],
                monthly_cost_microdollars: machine_cost(it),
                ..OrphanStatus::default()
            };
            (format!("machine-{}", it.id), status)
        };
        strange.map(entry).collect()
    }

    /// Volumes in bays' apps that the bays do not record.
    fn unaccounted_volumes(&self) -> Entries {
        let strange = self.listing.volumes.iter().filter_map(|it| {
            let bay = self.accounts.get(it.app.as_str())?;
            let own = volume_name(bay) == it.name;
            let known = match &bay.status.volume {
                Some(record) => record.id == it.id,
                None => own && bay.status.volume_intended_at.is_some(),
            };
            (!known).then_some((*bay, it, own))
        });
        let entry = |(bay, it, own): (&Bay, &ListedVolume, bool)| {
            let status = OrphanStatus {
                side: Side::Unaccounted,
                what: OrphanWhat::Volume,
                app: it.app.clone(),
                id: it.id.clone(),
                // Volumes have no metadata: the name, in an app of ours, is the mark.
                made_by: if own { MadeBy::This } else { MadeBy::Unknown },
                environment: environment_of(bay),
                bay_uid: Some(bay.metadata.uid.clone()),
                evidence: Evidence {
                    first_seen_at: Some(self.listing.at),
                    created_at: it.created_at,
                    message: format!(
                        "Fly's list of volumes has it under the name {}, and {} records another one or none",
                        it.name, bay.metadata.name
                    ),
                    ..Evidence::default()
                },
                volumes: vec![volume(it)],
                monthly_cost_microdollars: volume_monthly_microdollars(it.size_gib),
                ..OrphanStatus::default()
            };
            (entry_name("volume", &it.id), status)
        };
        strange.map(entry).collect()
    }

    /// What bays record and the lists do not have.
    fn lost(&self) -> Entries {
        let Listing { apps, at, apps_at, .. } = self.listing;
        let apps: Option<BTreeSet<&str>> =
            apps.as_ref().map(|it| it.iter().map(|app| app.name.as_str()).collect());
        let nothing = Inside::default();
        let mut found = Entries::new();
        let live = |it: &&&Bay| it.status.phase != BayPhase::Retiring && it.status.app_created;
        for bay in self.accounts.values().filter(live) {
            let app = bay.spec.app.as_str();
            let status = &bay.status;
            let inside = self.inside.get(app);
            if apps.as_ref().is_some_and(|it| inside.is_none() && !it.contains(app)) {
                found.insert(format!("lost-app-{app}"), lost(bay, OrphanWhat::App, app, *apps_at));
            }
            let Inside { machines, volumes } = inside.unwrap_or(&nothing);
            let machine = status.machine.as_ref().filter(|it| !it.destroying);
            if let Some(id) = machine.and_then(|it| it.id.as_ref())
                && !machines.iter().any(|it| it.id == *id)
            {
                let name = format!("lost-machine-{id}");
                found.insert(name, lost(bay, OrphanWhat::Machine, id, *at));
            }
            if let Some(volume) = status.volume.as_ref().filter(|it| it.discarded_at.is_none())
                && !volumes.iter().any(|it| it.id == volume.id)
            {
                let name = entry_name("lost-volume", &volume.id);
                found.insert(name, lost(bay, OrphanWhat::Volume, &volume.id, *at));
            }
        }
        found
    }

    fn maker(&self, machine: &ListedMachine) -> MadeBy {
        match machine.metadata.get(INSTANCE) {
            Some(instance) if instance == self.instance => MadeBy::This,
            Some(_) => MadeBy::Another,
            None => MadeBy::Unknown,
        }
    }

    /// Who made an app, as its network says; older ones do not say.
    fn network_maker(&self, app: &str, network: &str) -> Option<MadeBy> {
        if network == network_name(app, self.instance) {
            return Some(MadeBy::This);
        }
        network.strip_prefix(app)?.strip_prefix('-').map(|_| MadeBy::Another)
    }
}

/// What all marks together say: one of another installation outranks all, and nothing unmarked may be among ours.
fn agreed(makers: &[MadeBy]) -> MadeBy {
    if makers.contains(&MadeBy::Another) {
        MadeBy::Another
    } else if makers.is_empty() || makers.contains(&MadeBy::Unknown) {
        MadeBy::Unknown
    } else {
        MadeBy::This
    }
}

fn lost(bay: &Bay, what: OrphanWhat, id: &str, at: Timestamp) -> OrphanStatus {
    OrphanStatus {
        side: Side::Lost,
        what,
        app: bay.spec.app.clone(),
        id: id.to_owned(),
        made_by: MadeBy::This,
        environment: environment_of(bay),
        bay_uid: Some(bay.metadata.uid.clone()),
        evidence: Evidence {
            first_seen_at: Some(at),
            message: format!(
                "{} records it, and Fly's complete lists do not have it",
                bay.metadata.name
            ),
            ..Evidence::default()
        },
        ..OrphanStatus::default()
    }
}

/// `env/alice`, as marks have it.
fn environment_of(bay: &Bay) -> Option<String> {
    use crate::api::{kind::Kind, meta::ObjectRef};
    let namespace = bay.metadata.namespace.as_deref().unwrap_or_default();
    let of = bay.spec.environment_ref.as_ref()?;
    Some(ObjectRef::new(Kind::Environment, namespace, &of.name).to_string())
}

/// An entry's name: ids have letters that names may not have.
fn entry_name(what: &str, id: &str) -> String {
    format!("{what}-{}", id.to_ascii_lowercase().replace('_', "-"))
}

fn epoch(machine: &ListedMachine) -> Option<u64> {
    machine.metadata.get(EPOCH).and_then(|it| it.parse().ok())
}

fn machine(listed: &ListedMachine) -> OrphanMachine {
    OrphanMachine {
        id: listed.id.clone(),
        name: listed.name.clone(),
        region: listed.region.clone(),
        state: listed.state.clone(),
        bay_uid: listed.metadata.get(BAY).cloned(),
        epoch: epoch(listed),
    }
}

fn volume(listed: &ListedVolume) -> OrphanVolume {
    OrphanVolume {
        id: listed.id.clone(),
        name: listed.name.clone(),
        region: listed.region.clone(),
        size_gib: listed.size_gib,
    }
}

fn machine_cost(listed: &ListedMachine) -> u64 {
    let is_running =
        !matches!(listed.state.as_str(), "created" | "stopped" | "suspended" | "failed");
    machine_monthly_microdollars(listed.size.unwrap_or_default(), &listed.region, is_running)
}

/// What becomes of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries as they are to be, where they differ.
    pub put: Entries,
    /// Names of entries that are to go.
    pub remove: Vec<String>,
    /// Names of entries of what is lost that are old enough to be looked for by id.
    pub confirm: Vec<String>,
}

/// Takes a survey into the ledger. What is new is only suspected: it becomes an entry when a second complete list, apart in
/// time, shows it so.
pub fn fold(
    before: &Entries,
    suspects: &mut BTreeMap<String, Timestamp>,
    found: Entries,
    now: Timestamp,
) -> Changes {
    suspects.retain(|name, _| found.contains_key(name));
    let mut changes = Changes {
        remove: before
            .iter()
            .filter(|(name, old)| {
                let ordered = old.order.as_ref().is_some_and(|it| it.is_open());
                !found.contains_key(*name) && !ordered
            })
            .map(|(name, _)| name.clone())
            .collect(),
        ..Changes::default()
    };
    for (name, mut entry) in found {
        let seen_at = entry.evidence.first_seen_at.unwrap_or(now);
        let old = before.get(&name);
        let first = match old {
            Some(old) => old.evidence.first_seen_at.unwrap_or(seen_at),
            None => *suspects.entry(name.clone()).or_insert(seen_at),
        };
        if old.is_none() && seen_at < first + SECOND_LOOK {
            continue;
        }
        suspects.remove(&name);
        entry.evidence.first_seen_at = Some(first);
        entry.evidence.confirmed_at =
            old.map_or(Some(seen_at), |it| it.evidence.confirmed_at.or(Some(seen_at)));
        entry.order = old.and_then(|it| it.order.clone());
        let settled = now >= entry.evidence.created_at.unwrap_or(first) + GRACE;
        let read = old.is_some_and(|it| it.phase == OrphanPhase::Confirmed);
        match (settled, entry.side) {
            (true, Side::Lost) if !read => changes.confirm.push(name.clone()),
            (true, _) => entry.phase = OrphanPhase::Confirmed,
            (false, _) => {}
        }
        if old != Some(&entry) {
            changes.put.insert(name, entry);
        }
    }
    changes
}

#[cfg(test)]
mod tests;
