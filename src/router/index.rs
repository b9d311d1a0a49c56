//! Joins environments, hostnames and bay keys, arriving in any order, into the table. It must never let a label show an
//! environment that does not hold it, nor an older machine of one that has a newer.
//!
//! A label is in the table exactly while its Hostname record is there. The record says who holds it, by uid; the holder
//! says where it leads. What is known of an environment's place is kept in the table under its labels and nowhere else,
//! or in `unheld` while no label of it is there: at a million environments each byte counts.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use hashbrown::HashTable;
use uuid::Uuid;

use crate::router::{
    activity::Seen,
    fact,
    packed::{Label, Packed},
    table::{Flag, Route, Table},
};

mod copy;
mod slots;

pub use self::{copy::Saved, slots::Slots};

/// Names of up to 36 characters, which a uuid is, are kept packed; longer ones beside.
type ShortName = Packed<6>;
/// Namespace and name of a bay, hashed to where a collision cannot be found.
type BayId = [u8; 16];

const NO_BAY: BayId = [0; 16];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Nothing but that a hostname names it.
    Named,
    /// It is there.
    Present,
    /// It was there.
    Deleted,
}

#[derive(Debug)]
struct Environment {
    uid: [u8; 16],
    bay: BayId,
    /// Empty when it stands in `odd`.
    name: ShortName,
    namespace: u32,
    epoch: u32,
    /// Labels in the table whose holder it is.
    held: u16,
    known: Known,
}

/// An environment whose labels are not just its name.
#[derive(Debug)]
struct Odd {
    name: Box<str>,
    labels: Box<[Label]>,
}

/// Which environment an activity is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: Uuid,
}

/// What the table was joined from.
#[derive(Debug)]
pub struct Index {
    table: Arc<Table>,
    seen: Arc<Seen>,
    environments: Vec<Environment>,
    /// Oldest first, so that a number rests before it means another environment.
    free: VecDeque<u32>,
    /// Those that cannot be found through the label that is their name: few.
    others: HashMap<Uuid, u32>,
    by_bay: HashTable<u32>,
    odd: HashMap<u32, Odd>,
    unheld: HashMap<u32, Route>,
    /// Keys of bays that no environment names.
    spare: HashMap<BayId, [u8; 16]>,
    namespaces: Namespaces,
    hasher: RandomState,
    /// Labels that changed since they were last taken, if anybody takes them.
    changed: Option<HashSet<Label>>,
}

#[derive(Debug, Default)]
struct Namespaces {
    names: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Namespaces {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let name: Arc<str> = name.into();
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Arc::clone(&name));
        self.numbers.insert(name, number);
        number
    }
}

impl Index {
    /// An index that fills this table.
    #[must_use]
    pub fn new(table: Arc<Table>, seen: Arc<Seen>) -> Self {
        Self {
            table,
            seen,
            environments: Vec::new(),
            free: VecDeque::new(),
            others: HashMap::new(),
            by_bay: HashTable::new(),
            odd: HashMap::new(),
            unheld: HashMap::new(),
            spare: HashMap::new(),
            namespaces: Namespaces::default(),
            hasher: RandomState::new(),
            changed: None,
        }
    }

    /// The table.
    #[must_use]
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The environment in a slot; `None` if it is not there any more.
    #[must_use]
    pub fn owner(&self, slot: u32) -> Option<Owner> {
        let environment = self.environments.get(slot as usize)?;
        (environment.known == Known::Present).then(|| Owner {
            namespace: Arc::clone(&self.namespaces.names[environment.namespace as usize]),
            name: self.name(slot),
            uid: Uuid::from_bytes(environment.uid),
        })
    }

    /// Takes an environment as it is now. Returns its slot.
    pub fn apply_environment(&mut self, fact: &fact::Environment) -> u32 {
        let slot = self.slot_of(fact.uid, &fact.namespace, &fact.name);
        let before = self.route(slot);
        let environment = &self.environments[slot as usize];
        let known = environment.known;
        // An older object than the one known, which cannot be believed but for a deletion.
        if known == Known::Present && fact.epoch < environment.epoch {
            if fact.deleted {
                let labels = self.labels(slot);
                self.settle(slot, before.with(Flag::DELETED, true), &labels);
            }
            return slot;
        }
        let labels = self.labels(slot);
        let namespace = self.namespaces.number(&fact.namespace);
        let environment = &mut self.environments[slot as usize];
        environment.known = Known::Present;
        environment.epoch = fact.epoch;
        environment.namespace = namespace;
        self.set_labels(slot, &fact.name, &fact.labels);
        let bay = fact.bay.as_ref().map_or(NO_BAY, |bay| bay_id(&fact.namespace, bay));
        let key = self.move_bay(slot, bay, before.key());
        let mut route = Route::new(slot);
        if let Some((app, machine)) = fact.place {
            route = route.to(app, machine);
        }
        let deleted = fact.deleted || (known == Known::Present && before.has(Flag::DELETED));
        let route = route
            .keyed(key)
            .with(Flag::PUBLIC, fact.public)
            .with(Flag::ASLEEP, fact.asleep)
            .with(Flag::BROKEN, fact.broken)
            .with(Flag::DELETED, deleted);
        self.settle(slot, route, &labels);
        slot
    }

    /// Takes it that an environment is not there any more.
    pub fn delete_environment(&mut self, uid: Uuid, name: &str) {
        if let Some(slot) = self.find(uid, name) {
            self.delete_slot(slot);
        }
    }

    fn delete_slot(&mut self, slot: u32) {
        if self.environments[slot as usize].known == Known::Deleted {
            return;
        }
        let route = self.route(slot);
        self.move_bay(slot, NO_BAY, route.key());
        let labels = self.labels(slot);
        self.environments[slot as usize].known = Known::Deleted;
        let route = self.route(slot);
        self.settle(slot, route, &labels);
        self.release(slot);
    }

    /// Takes a hostname as it is now.
    pub fn apply_hostname(&mut self, fact: &fact::Hostname) {
        let slot = self.slot_of(fact.uid, &fact.namespace, &fact.environment);
        let previous = self.table.get(&fact.label).map(|route| route.slot());
        let route = self.route(slot);
        let left = previous.filter(|&previous| previous != slot).map(|it| (it, self.route(it)));
        if previous != Some(slot) {
            self.hold(slot);
        }
        self.name_label(slot, fact.label);
        self.write(
            fact.label,
            self.shown(slot, fact.label, route).with(Flag::RELEASED, fact.released),
        );
        self.keep_findable(slot);
        self.settle(slot, route, &[]);
        if let Some((left, route)) = left {
            self.leave(left, route, fact.label);
        }
    }

    /// Takes it that a hostname is not there any more.
    pub fn delete_hostname(&mut self, label: Label) {
        let Some(slot) = self.table.get(&label).map(|route| route.slot()) else { return };
        let route = self.route(slot);
        self.table.remove(&label);
        self.note(label);
        self.leave(slot, route, label);
    }

    /// Takes a bay's key as it is now, or that there is none.
    pub fn apply_key(&mut self, namespace: &str, bay: &str, key: Option<[u8; 16]>) -> Vec<u32> {
        let bay = bay_id(namespace, bay);
        let slots = self.slots_of_bay(bay);
        for &slot in &slots {
            let route = self.route(slot).keyed(key);
            self.settle(slot, route, &[]);
        }
        match key {
            Some(key) if slots.is_empty() => drop(self.spare.insert(bay, key)),
            Some(_) | None => drop(self.spare.remove(&bay)),
        }
        slots
    }
}

/// Lists: what a complete list did not name is not there.
impl Index {
    /// Deletes every environment whose slot is not in the list, also those that are only named by a hostname.
    pub fn keep_environments(&mut self, listed: &Slots) {
        for slot in 0..u32::try_from(self.environments.len()).unwrap_or(u32::MAX) {
            if !listed.contains(slot) {
                self.delete_slot(slot);
            }
        }
    }

    /// Deletes every label that is not in the list.
    pub fn keep_hostnames(&mut self, listed: &HashSet<Label>) {
        for label in self.table.labels() {
            if !listed.contains(&label) {
                self.delete_hostname(label);
            }
        }
    }

    /// Takes the key from every environment whose slot is not in the list.
    pub fn keep_keys(&mut self, listed: &Slots) {
        for slot in 0..u32::try_from(self.environments.len()).unwrap_or(u32::MAX) {
            let route = self.route(slot);
            if route.has(Flag::KEY) && !listed.contains(slot) {
                self.settle(slot, route.keyed(None), &[]);
            }
        }
    }

    /// Forgets the keys that no environment names, before they are listed again.
    pub fn forget_spare_keys(&mut self) {
        self.spare.clear();
    }

    /// Gives back the room that a list took while it waited for another.
    pub fn shrink(&mut self) {
        self.others.shrink_to_fit();
        self.odd.shrink_to_fit();
        self.unheld.shrink_to_fit();
        self.spare.shrink_to_fit();
    }

    /// Whether the key of an environment is known.
    #[must_use]
    pub fn has_key(&self, slot: u32) -> bool {
        self.route(slot).has(Flag::KEY)
    }
}

/// Environments and their slots.
impl Index {
    /// The environment with this uid, which has this name: found through the label of that name in the table, where
    /// nearly all are, or among the others. An index by uid would cost another ten bytes for each.
    fn find(&self, uid: Uuid, name: &str) -> Option<u32> {
        let named = Label::of_name(name).and_then(|label| self.table.get(&label));
        named
            .map(|route| route.slot())
            .filter(|&slot| self.environments[slot as usize].uid == uid.into_bytes())
            .or_else(|| self.others.get(&uid).copied())
    }

    /// Keeps an environment findable after the holder of a label changed.
    fn keep_findable(&mut self, slot: u32) {
        let uid = Uuid::from_bytes(self.environments[slot as usize].uid);
        let named = Label::of_name(&self.name(slot)).and_then(|label| self.table.get(&label));
        if named.is_some_and(|route| route.slot() == slot) {
            self.others.remove(&uid);
        } else {
            self.others.insert(uid, slot);
        }
    }

    fn slot_of(&mut self, uid: Uuid, namespace: &str, name: &str) -> u32 {
        if let Some(slot) = self.find(uid, name) {
            return slot;
        }
        let environment = Environment {
            uid: uid.into_bytes(),
            bay: NO_BAY,
            name: ShortName::EMPTY,
            namespace: self.namespaces.number(namespace),
            epoch: 0,
            held: 0,
            known: Known::Named,
        };
        let slot = match self.free.pop_front() {
            Some(slot) => {
                self.environments[slot as usize] = environment;
                slot
            }
            None => {
                self.environments.push(environment);
                u32::try_from(self.environments.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.seen.reserve(slot);
        self.others.insert(uid, slot);
        // Until the environment is seen it is taken to have just its name for a label.
        let label: Vec<Label> = Label::of_name(name).into_iter().collect();
        self.set_labels(slot, name, &label);
        slot
    }

    /// Forgets an environment that is not there and holds nothing.
    fn release(&mut self, slot: u32) {
        let environment = &self.environments[slot as usize];
        if environment.held > 0 || environment.known == Known::Present {
            return;
        }
        self.others.remove(&Uuid::from_bytes(environment.uid));
        // A free number must not be deleted once more by the next list.
        self.environments[slot as usize].known = Known::Deleted;
        self.odd.remove(&slot);
        self.unheld.remove(&slot);
        self.seen.forget(slot);
        self.free.push_back(slot);
    }

    fn hold(&mut self, slot: u32) {
        let held = &mut self.environments[slot as usize].held;
        *held = held.saturating_add(1);
    }

    fn name(&self, slot: u32) -> String {
        match self.odd.get(&slot) {
            Some(odd) => odd.name.to_string(),
            None => self.environments[slot as usize].name.to_string(),
        }
    }

    /// The labels an environment lists; of one that was not seen yet, those it is named by.
    fn labels(&self, slot: u32) -> Vec<Label> {
        match self.odd.get(&slot) {
            Some(odd) => odd.labels.to_vec(),
            None => Label::of_name(&self.name(slot)).into_iter().collect(),
        }
    }

    fn set_labels(&mut self, slot: u32, name: &str, labels: &[Label]) {
        let own = Label::of_name(name);
        let environment = &mut self.environments[slot as usize];
        match ShortName::exact(name) {
            Some(short) if own.as_slice() == labels => {
                environment.name = short;
                self.odd.remove(&slot);
            }
            Some(_) | None => {
                environment.name = ShortName::EMPTY;
                self.odd.insert(slot, Odd { name: name.into(), labels: labels.into() });
            }
        }
    }

    /// Remembers a label by which an environment is named that was not seen.
    fn name_label(&mut self, slot: u32, label: Label) {
        if self.environments[slot as usize].known == Known::Present {
            return;
        }
        let mut labels = self.labels(slot);
        if !labels.contains(&label) {
            labels.push(label);
            let name = self.name(slot);
            self.set_labels(slot, &name, &labels);
        }
    }

    fn slots_of_bay(&self, bay: BayId) -> Vec<u32> {
        let hash = self.hasher.hash_one(bay);
        let found = self.by_bay.iter_hash(hash).copied();
        found.filter(|&slot| self.environments[slot as usize].bay == bay).collect()
    }

    /// Binds an environment to another bay and returns that one's key, if it is known.
    fn move_bay(&mut self, slot: u32, bay: BayId, key: Option<[u8; 16]>) -> Option<[u8; 16]> {
        let before = self.environments[slot as usize].bay;
        if before == bay {
            return key;
        }
        if before != NO_BAY {
            let hash = self.hasher.hash_one(before);
            if let Ok(found) = self.by_bay.find_entry(hash, |&other| other == slot) {
                found.remove();
            }
            if let Some(key) = key
                && self.slots_of_bay(before).is_empty()
            {
                self.spare.insert(before, key);
            }
        }
        self.environments[slot as usize].bay = bay;
        if bay == NO_BAY {
            return None;
        }
        let sharing = self.slots_of_bay(bay).first().and_then(|&other| self.route(other).key());
        let Self { environments, by_bay, hasher, .. } = self;
        by_bay.insert_unique(hasher.hash_one(bay), slot, |&slot| {
            hasher.hash_one(environments[slot as usize].bay)
        });
        self.spare.remove(&bay).or(sharing)
    }
}

/// Environments and the table.
impl Index {
    /// Where an environment's labels lead, without what belongs to one label.
    fn route(&self, slot: u32) -> Route {
        match self.environments[slot as usize].known {
            // Provisioning is all that can be said of it.
            Known::Named => return Route::new(slot).with(Flag::PUBLIC, true),
            Known::Deleted => return Route::new(slot).with(Flag::DELETED, true),
            Known::Present => {}
        }
        if let Some(route) = self.unheld.get(&slot) {
            return *route;
        }
        let shown = |label: &Label| self.table.get(label).filter(|route| route.slot() == slot);
        let route = self.labels(slot).iter().find_map(shown).unwrap_or_else(|| Route::new(slot));
        route.with(Flag::RELEASED, false)
    }

    /// What a label shows of its holder.
    fn shown(&self, slot: u32, label: Label, route: Route) -> Route {
        if self.environments[slot as usize].known == Known::Deleted
            || self.labels(slot).contains(&label)
        {
            route
        } else {
            Route::new(slot).with(Flag::UNLISTED, true)
        }
    }

    /// Writes an environment's route to the labels that it lists and holds, and to those it held `before`.
    fn settle(&mut self, slot: u32, route: Route, before: &[Label]) {
        let labels = self.labels(slot);
        let mut held = false;
        for &label in before.iter().filter(|label| !labels.contains(label)).chain(&labels) {
            let Some(current) = self.table.get(&label).filter(|it| it.slot() == slot) else {
                continue;
            };
            held |= labels.contains(&label);
            let released = current.has(Flag::RELEASED);
            self.write(label, self.shown(slot, label, route).with(Flag::RELEASED, released));
        }
        if held || self.environments[slot as usize].known != Known::Present {
            self.unheld.remove(&slot);
        } else {
            self.unheld.insert(slot, route);
        }
    }

    /// Takes a label from its holder, whose route is not lost with it.
    fn leave(&mut self, slot: u32, route: Route, label: Label) {
        let environment = &mut self.environments[slot as usize];
        environment.held = environment.held.saturating_sub(1);
        let known = environment.known;
        self.keep_findable(slot);
        if known != Known::Present {
            let labels: Vec<Label> =
                self.labels(slot).into_iter().filter(|it| *it != label).collect();
            let name = self.name(slot);
            self.set_labels(slot, &name, &labels);
        }
        self.settle(slot, route, &[]);
        self.release(slot);
    }

    fn write(&mut self, label: Label, route: Route) {
        if self.table.get(&label) != Some(route) {
            self.table.insert(label, route);
            self.note(label);
        }
    }

    fn note(&mut self, label: Label) {
        if let Some(changed) = &mut self.changed {
            changed.insert(label);
        }
    }
}

fn bay_id(namespace: &str, bay: &str) -> BayId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(namespace.as_bytes()).update(b"/").update(bay.as_bytes());
    let mut id = NO_BAY;
    hasher.finalize_xof().fill(&mut id);
    id
}

#[cfg(test)]
mod tests;
