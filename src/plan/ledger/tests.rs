//! The ledger over small fleets: what is found, when it is believed, and when it goes again.

use super::*;
use crate::api::{
    bay::{BaySpec, BayStatus, EnvironmentRef, MachineStatus, VolumeStatus},
    meta::Metadata,
};

const INSTANCE_ID: &str = "0123456789abcdef";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// The bay of an app, with a machine and a volume.
fn bay(name: &str) -> Bay {
    Bay {
        api_version: String::new(),
        kind: String::new(),
        metadata: Metadata {
            name: format!("bay-{name}"),
            namespace: Some("default".to_owned()),
            uid: format!("uid-{name}"),
            ..Metadata::default()
        },
        spec: BaySpec {
            instance: INSTANCE_ID.to_owned(),
            environment_ref: Some(EnvironmentRef { name: name.to_owned(), uid: String::new() }),
            claimed_at: None,
            stock: None,
            missed_pool: None,
            app: format!("hgr-{name}"),
            network: network_name(&format!("hgr-{name}"), INSTANCE_ID),
            volume: true,
        },
        status: BayStatus {
            app_created: true,
            epoch: 1,
            machine: Some(MachineStatus {
                name: format!("bay-{name}-1"),
                id: Some(format!("m-{name}")),
                ..MachineStatus::default()
            }),
            volume: Some(VolumeStatus { id: format!("vol_{name}"), ..VolumeStatus::default() }),
            ..BayStatus::default()
        },
    }
}

/// What Fly lists of that bay.
fn listing(names: &[&str]) -> Listing {
    let mut listing =
        Listing { at: at(0), apps_at: at(0), apps: Some(Vec::new()), ..Listing::default() };
    for name in names {
        listing.machines.push(machine_of(name, &format!("m-{name}"), INSTANCE_ID));
        listing.volumes.push(volume_of(name, &format!("vol_{name}")));
        listing.apps.as_mut().unwrap().push(app_of(name, INSTANCE_ID));
    }
    listing
}

fn machine_of(name: &str, id: &str, instance: &str) -> ListedMachine {
    let metadata = [
        (INSTANCE, instance.to_owned()),
        (BAY, format!("uid-{name}")),
        (EPOCH, "1".to_owned()),
        (ENVIRONMENT, format!("env/{name}")),
    ];
    ListedMachine {
        app: format!("hgr-{name}"),
        id: id.to_owned(),
        name: format!("bay-{name}-1"),
        region: "ams".to_owned(),
        state: "started".to_owned(),
        size: Some(Size { performance: false, cpus: 1, memory_mib: 256 }),
        metadata: metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        ..ListedMachine::default()
    }
}

fn volume_of(name: &str, id: &str) -> ListedVolume {
    ListedVolume {
        app: format!("hgr-{name}"),
        id: id.to_owned(),
        name: format!("bay_{name}"),
        region: "ams".to_owned(),
        size_gib: 10,
        ..ListedVolume::default()
    }
}

fn app_of(name: &str, instance: &str) -> ListedApp {
    let app = format!("hgr-{name}");
    ListedApp { network: Some(network_name(&app, instance)), name: app }
}

fn surveyed(listing: &Listing, bays: &[Bay]) -> Vec<(String, MadeBy)> {
    let found = survey(listing, bays, INSTANCE_ID);
    found.into_iter().map(|(name, it)| (name, it.made_by)).collect()
}

#[test]
fn what_is_accounted_for_is_no_orphan() {
    assert_eq!(surveyed(&listing(&["a", "b"]), &[bay("a"), bay("b")]), []);
    let mut creating = bay("a");
    creating.status.machine.as_mut().unwrap().id = None;
    creating.status.volume = None;
    creating.status.volume_intended_at = Some(at(0));
    assert_eq!(
        surveyed(&listing(&["a"]), &[creating]),
        [],
        "creations under way are known by name"
    );
    let mut others = listing(&[]);
    others.apps = Some(vec![ListedApp { name: "shop".to_owned(), network: None }]);
    others.machines.push(ListedMachine { app: "shop".to_owned(), ..ListedMachine::default() });
    assert_eq!(surveyed(&others, &[]), [], "what is not hangar's is none of its business");
}

#[test]
fn an_app_without_a_bay_is_one_orphan_with_all_in_it_and_its_cost() {
    let found = survey(&listing(&["a"]), &[], INSTANCE_ID);
    let (name, it) = found.first_key_value().unwrap();
    assert_eq!((name.as_str(), found.len()), ("app-hgr-a", 1));
    assert_eq!((it.made_by, it.what, it.side), (MadeBy::This, OrphanWhat::App, Side::Unaccounted));
    assert_eq!((it.machines.len(), it.volumes.len()), (1, 1));
    assert_eq!(it.environment.as_deref(), Some("env/a"));
    assert_eq!(it.monthly_cost_microdollars, 1_500_000 + 1_944_000 * 1_038 / 1_000);
}

#[test]
fn only_what_every_mark_calls_ours_is_ours() {
    let made_by = |change: fn(&mut Listing)| {
        let mut listing = listing(&["a"]);
        change(&mut listing);
        surveyed(&listing, &[])[0].1
    };
    assert_eq!(made_by(|it| it.apps = None), MadeBy::This, "its machine says so");
    assert_eq!(made_by(|it| it.machines.clear()), MadeBy::This, "its network says so");
    assert_eq!(made_by(|it| it.machines[0].metadata.clear()), MadeBy::Unknown);
    assert_eq!(made_by(|it| it.volumes[0].name = "photos".to_owned()), MadeBy::Unknown);
    assert_eq!(made_by(|it| it.machines[0] = machine_of("a", "m", "other")), MadeBy::Another);
    assert_eq!(made_by(|it| it.apps = Some(vec![app_of("a", "other")])), MadeBy::Another);
    let plain = |it: &mut Listing| {
        it.machines.clear();
        it.apps.as_mut().unwrap()[0].network = Some("hgr-a".to_owned());
    };
    assert_eq!(made_by(plain), MadeBy::Unknown, "older networks have no mark");
}

#[test]
fn what_a_bay_does_not_record_in_its_own_app_is_an_orphan_of_its_own() {
    let mut more = listing(&["a"]);
    more.machines.push(machine_of("a", "m-late", INSTANCE_ID));
    more.machines.push(ListedMachine {
        app: "hgr-a".to_owned(),
        id: "m-strange".to_owned(),
        ..ListedMachine::default()
    });
    more.volumes.push(volume_of("a", "vol_late"));
    more.volumes.push(ListedVolume { name: "photos".to_owned(), ..volume_of("a", "vol_photos") });
    assert_eq!(
        surveyed(&more, &[bay("a")]),
        [
            ("machine-m-late".to_owned(), MadeBy::This),
            ("machine-m-strange".to_owned(), MadeBy::Unknown),
            ("volume-vol-late".to_owned(), MadeBy::This),
            ("volume-vol-photos".to_owned(), MadeBy::Unknown),
        ]
    );
}

#[test]
fn what_is_recorded_and_not_listed_is_lost() {
    let nothing = listing(&[]);
    let names = |listing: &Listing, bay| {
        let found = surveyed(listing, &[bay]);
        found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&nothing, bay("a")),
        ["lost-app-hgr-a", "lost-machine-m-a", "lost-volume-vol-a"]
    );
    let unlisted = Listing { apps: None, ..nothing.clone() };
    assert_eq!(names(&unlisted, bay("a")), ["lost-machine-m-a", "lost-volume-vol-a"]);
    let mut deleting = bay("a");
    deleting.status.phase = BayPhase::Retiring;
    assert!(names(&nothing, deleting).is_empty());
}

#[test]
fn it_takes_two_lists_apart_in_time_and_age_to_be_believed() {
    let (mut before, mut suspects) = (Entries::new(), BTreeMap::new());
    let mut look = |second: i64, names: &[&str]| {
        let mut listing = listing(names);
        (listing.at, listing.apps_at) = (at(second), at(second));
        let found = survey(&listing, &[], INSTANCE_ID);
        let changes = fold(&before, &mut suspects, found, at(second));
        for name in &changes.remove {
            before.remove(name);
        }
        before.extend(changes.put.clone());
        let phases: Vec<_> = before.values().map(|it| it.phase).collect();
        (phases, !changes.put.is_empty())
    };
    assert_eq!(look(0, &["a"]), (vec![], false));
    assert_eq!(look(1, &["a"]), (vec![], false), "two lists that are too close");
    assert_eq!(look(10, &["a"]), (vec![OrphanPhase::Pending], true));
    assert_eq!(look(20, &["a"]), (vec![OrphanPhase::Pending], false), "nothing new to write");
    assert_eq!(look(600, &["a"]), (vec![OrphanPhase::Confirmed], true));
    assert_eq!(look(610, &["a"]), (vec![OrphanPhase::Confirmed], false));
    assert_eq!(look(620, &[]), (vec![], false), "it is gone");
    assert_eq!(look(630, &["a"]), (vec![], false), "and would begin anew");
}

#[test]
fn a_list_that_lacks_it_once_clears_the_suspicion() {
    let mut suspects = BTreeMap::new();
    let mut entries = |second: i64, names: &[&str]| {
        let mut listing = listing(names);
        listing.at = at(second);
        let found = survey(&listing, &[], INSTANCE_ID);
        fold(&Entries::new(), &mut suspects, found, at(second)).put.len()
    };
    assert_eq!([entries(0, &["a"]), entries(10, &[]), entries(20, &["a"])], [0, 0, 0]);
}

#[test]
fn what_is_lost_is_looked_for_by_id_before_it_is_confirmed() {
    let mut suspects = BTreeMap::new();
    let mut before = Entries::new();
    let mut look = |second: i64, read: bool| {
        let mut nothing = listing(&[]);
        (nothing.at, nothing.apps) = (at(second), None);
        let mut bay = bay("a");
        bay.status.machine = None;
        for entry in before.values_mut().filter(|_| read) {
            entry.phase = OrphanPhase::Confirmed;
        }
        let found = survey(&nothing, &[bay], INSTANCE_ID);
        let changes = fold(&before, &mut suspects, found, at(second));
        before.extend(changes.put);
        (before.values().map(|it| it.phase).collect::<Vec<_>>(), changes.confirm.len())
    };
    assert_eq!(look(0, false), (vec![], 0));
    assert_eq!(look(10, false), (vec![OrphanPhase::Pending], 0));
    assert_eq!(look(700, false), (vec![OrphanPhase::Pending], 1));
    assert_eq!(look(710, true), (vec![OrphanPhase::Confirmed], 0));
}

#[test]
fn an_order_outlives_the_lists_until_it_is_done() {
    let mut entry = survey(&listing(&["a"]), &[], INSTANCE_ID).remove("app-hgr-a").unwrap();
    entry.order = Some(crate::api::orphan::Order::default());
    let before = Entries::from([("app-hgr-a".to_owned(), entry)]);
    let mut suspects = BTreeMap::new();
    let gone = fold(&before, &mut suspects, Entries::new(), at(900));
    assert_eq!(gone, Changes::default());
    let still = fold(&before, &mut suspects, survey(&listing(&["a"]), &[], INSTANCE_ID), at(900));
    assert!(still.put.values().all(|it| it.order.is_some()));
}

#[test]
fn things_of_others_do_not_fill_the_ledger() {
    let mut many = listing(&["a"]);
    for number in 0..2_000 {
        let name = format!("x{number}");
        many.machines.push(machine_of(&name, &format!("m-{name}"), "other"));
    }
    let found = survey(&many, &[], INSTANCE_ID);
    assert_eq!(found.len(), OTHERS_MAX + 1);
    assert!(found.contains_key("app-hgr-a"));
}
