//! The join against a model that forgets nothing: whatever the order of events, the table says what the objects say.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    clock,
    router::{packed::App, table::Machine},
};

fn index() -> Index {
    let seen = Arc::new(Seen::new(clock::System::shared()));
    Index::new(Arc::new(Table::new()), seen)
}

fn uid(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number) + 1)
}

fn label(name: &str) -> Label {
    Label::of_name(name).unwrap()
}

const LABELS: [&str; 4] = ["env-0", "env-1", "two", "three"];

fn machine(epoch: u32) -> Machine {
    Machine::parse(format!("{epoch:014x}").as_bytes()).unwrap()
}

/// Environment `number` is called `env-<number / 2>`, so that two uids share a name; its app says its uid.
fn environment(
    number: u8,
    labels: &[usize],
    epoch: u32,
    bay: u8,
    public: bool,
) -> fact::Environment {
    fact::Environment {
        uid: uid(number),
        namespace: "default".to_owned(),
        name: format!("env-{}", number / 2),
        labels: labels.iter().map(|&it| label(LABELS[it])).collect(),
        public,
        asleep: false,
        broken: false,
        deleted: false,
        bay: Some(format!("bay-{bay}")),
        place: Some((App::exact(&format!("hgr-{number}")).unwrap(), machine(epoch))),
        epoch,
    }
}

fn hostname(number: u8, name: usize, released: bool) -> fact::Hostname {
    fact::Hostname {
        label: label(LABELS[name]),
        namespace: "default".to_owned(),
        environment: format!("env-{}", number / 2),
        uid: uid(number),
        released,
    }
}

#[derive(Debug, Clone)]
enum Event {
    Environment { number: u8, labels: Vec<usize>, epoch: u32, bay: u8, public: bool },
    EnvironmentGone(u8),
    Hostname { number: u8, name: usize, released: bool },
    HostnameGone(usize),
    Key { bay: u8, key: Option<u8> },
    Relist,
    Restart,
}

fn is_gone(route: Route) -> bool {
    [Flag::RELEASED, Flag::DELETED, Flag::UNLISTED].iter().any(|flag| route.has(*flag))
}

fn event() -> impl Strategy<Value = Event> {
    let labels = proptest::sample::subsequence(vec![0_usize, 1, 2, 3], 0..=3);
    prop_oneof![
        4 => (0..4_u8, labels, 0..4_u32, 0..3_u8, any::<bool>())
            .prop_map(|(number, labels, epoch, bay, public)| Event::Environment { number, labels, epoch, bay, public }),
        1 => (0..4_u8).prop_map(Event::EnvironmentGone),
        4 => (0..4_u8, 0..4_usize, any::<bool>()).prop_map(|(number, name, released)| Event::Hostname { number, name, released }),
        1 => (0..4_usize).prop_map(Event::HostnameGone),
        2 => (0..3_u8, proptest::option::of(0..3_u8)).prop_map(|(bay, key)| Event::Key { bay, key }),
        1 => Just(Event::Relist),
        1 => Just(Event::Restart),
    ]
}

/// The objects, each kept whole.
#[derive(Default)]
struct Model {
    environments: BTreeMap<u8, fact::Environment>,
    hostnames: BTreeMap<usize, fact::Hostname>,
    keys: BTreeMap<u8, u8>,
}

impl Model {
    /// App, machine and key that a label leads to, or `None`.
    fn leads(&self, name: usize) -> Option<(App, Machine, [u8; 16])> {
        let hostname = self.hostnames.get(&name).filter(|it| !it.released)?;
        let environment = self.environments.values().find(|it| it.uid == hostname.uid)?;
        if !environment.public || !environment.labels.contains(&hostname.label) {
            return None;
        }
        let bay = environment.bay.as_ref()?.trim_start_matches("bay-").parse().ok()?;
        let key = [*self.keys.get(&bay)?; 16];
        environment.place.map(|(app, machine)| (app, machine, key))
    }

    /// Whether a label must say that what was there is gone; either will do while its holder was never told of.
    fn gone(&self, name: usize) -> Option<bool> {
        let hostname = self.hostnames.get(&name)?;
        match self.environments.values().find(|it| it.uid == hostname.uid) {
            Some(environment) => {
                Some(hostname.released || !environment.labels.contains(&hostname.label))
            }
            None => hostname.released.then_some(true),
        }
    }

    /// Every label of an environment that was there and is not any more says so.
    fn says_gone(&self, index: &Index, uid: Uuid) {
        for hostname in self.hostnames.values().filter(|it| it.uid == uid) {
            assert!(is_gone(index.table.get(&hostname.label).unwrap()));
        }
    }

    fn apply(&mut self, index: &mut Index, event: Event) {
        match event {
            Event::Environment { number, labels, epoch, bay, public } => {
                let fact = environment(number, &labels, epoch, bay, public);
                index.apply_environment(&fact);
                if self.environments.get(&number).is_none_or(|it| it.epoch <= epoch) {
                    self.environments.insert(number, fact);
                }
            }
            Event::EnvironmentGone(number) => {
                index.delete_environment(uid(number), &format!("env-{}", number / 2));
                if self.environments.remove(&number).is_some() {
                    self.says_gone(index, uid(number));
                }
            }
            Event::Hostname { number, name, released } => {
                let fact = hostname(number, name, released);
                index.apply_hostname(&fact);
                self.hostnames.insert(name, fact);
            }
            Event::HostnameGone(name) => {
                index.delete_hostname(label(LABELS[name]));
                self.hostnames.remove(&name);
            }
            Event::Key { bay, key } => {
                index.apply_key("default", &format!("bay-{bay}"), key.map(|key| [key; 16]));
                match key {
                    Some(key) => self.keys.insert(bay, key),
                    None => self.keys.remove(&bay),
                };
            }
            Event::Relist => self.list(index),
            Event::Restart => {
                index.remember_changes();
                let mut fresh = self::index();
                for name in LABELS.map(label) {
                    if let Some(saved) = index.saved(name) {
                        fresh.restore(name, &saved);
                    }
                }
                *index = fresh;
                self.never_wrong(index);
                self.list(index);
            }
        }
    }

    fn list(&mut self, index: &mut Index) {
        let mut slots = Slots::default();
        self.environments.values().for_each(|it| slots.insert(index.apply_environment(it)));
        index.keep_environments(&slots);
        for fact in self.hostnames.values() {
            index.apply_hostname(fact);
        }
        index.keep_hostnames(&self.hostnames.values().map(|it| it.label).collect());
        index.forget_spare_keys();
        let mut slots = Slots::default();
        for (bay, key) in &self.keys {
            index
                .apply_key("default", &format!("bay-{bay}"), Some([*key; 16]))
                .into_iter()
                .for_each(|slot| slots.insert(slot));
        }
        index.keep_keys(&slots);
    }

    /// What must hold even on an old table: a label never leads to an environment that does not hold it.
    fn never_wrong(&self, index: &Index) {
        for (position, name) in LABELS.iter().enumerate() {
            if let Some(route) = index.table.get(&label(name))
                && let Some(hostname) = self.hostnames.get(&position)
            {
                assert_eq!(
                    index.environments[route.slot() as usize].uid,
                    hostname.uid.into_bytes()
                );
            }
        }
    }

    fn check(&self, index: &Index) {
        for (position, name) in LABELS.iter().enumerate() {
            let route = index.table.get(&label(name));
            assert_eq!(
                route.is_some(),
                self.hostnames.contains_key(&position),
                "{name} is there with its hostname"
            );
            let Some(route) = route else { continue };
            let gone = is_gone(route);
            assert_eq!(self.gone(position).unwrap_or(gone), gone, "{name} gone {route:?}");
            let serves = !gone && route.has(Flag::PUBLIC) && route.has(Flag::MACHINE);
            let leads =
                route.key().filter(|_| serves).map(|key| (route.app(), route.machine(), key));
            assert_eq!(leads, self.leads(position), "{name} leads {route:?}");
        }
        self.never_wrong(index);
        let used = index.environments.len() - index.free.len();
        let slots = (0..u32::try_from(index.environments.len()).unwrap())
            .filter(|it| !index.free.contains(it));
        for slot in slots {
            let uid = Uuid::from_bytes(index.environments[slot as usize].uid);
            assert_eq!(index.find(uid, &index.name(slot)), Some(slot));
        }
        let wanted: BTreeSet<_> = self
            .environments
            .values()
            .map(|it| it.uid)
            .chain(self.hostnames.values().map(|it| it.uid))
            .collect();
        assert_eq!(used, wanted.len(), "no environment is forgotten or kept for ever");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn whatever_the_order_of_events_the_table_says_what_the_objects_say(events in proptest::collection::vec(event(), 0..40)) {
        let (mut model, mut index) = (Model::default(), index());
        for event in events {
            model.apply(&mut index, event);
            model.check(&index);
        }
    }
}

/// Its label said that it was deleted for as long as it was not listed; a copy of the table took that for the environment's
/// own word, and it stayed gone.
#[test]
fn an_environment_that_comes_back_is_not_gone_after_a_restart() {
    let unlisted =
        || Event::Environment { number: 2, labels: vec![], epoch: 0, bay: 0, public: false };
    let events = [
        unlisted(),
        Event::Hostname { number: 2, name: 0, released: false },
        Event::EnvironmentGone(2),
        Event::Relist,
        unlisted(),
        Event::Restart,
        Event::Environment { number: 2, labels: vec![0], epoch: 0, bay: 0, public: false },
    ];
    let (mut model, mut index) = (Model::default(), index());
    for event in events {
        model.apply(&mut index, event);
        model.check(&index);
    }
}

#[test]
fn a_deletion_is_believed_even_of_an_older_object() {
    let mut index = index();
    index.apply_hostname(&hostname(0, 0, false));
    index.apply_environment(&environment(0, &[0], 5, 0, true));
    index.apply_environment(&fact::Environment {
        deleted: true,
        ..environment(0, &[0], 4, 0, true)
    });
    assert!(index.table.get(&label("env-0")).unwrap().has(Flag::DELETED));
    index.apply_environment(&environment(0, &[0], 6, 0, true));
    assert!(
        index.table.get(&label("env-0")).unwrap().has(Flag::DELETED),
        "a deletion is not taken back"
    );
}

#[test]
fn an_owner_is_named_while_it_is_there() {
    let mut index = index();
    let slot = index.apply_environment(&environment(0, &[0], 1, 0, true));
    let owner = index.owner(slot).unwrap();
    assert_eq!((&*owner.namespace, owner.name.as_str(), owner.uid), ("default", "env-0", uid(0)));
    let long = "n".repeat(63);
    let slot = index.apply_environment(&fact::Environment {
        name: long.clone(),
        ..environment(2, &[2], 1, 1, true)
    });
    assert_eq!(index.owner(slot).unwrap().name, long);
    index.delete_environment(uid(2), &long);
    assert_eq!(index.owner(slot), None);
}
