//! The world as it was: a copy from when it began to be kept, and every change since. Kept only while a rule wants to look
//! back. It must never look forward.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::local::state::{App, Key, Machine, Volume, World};

/// How far back a rule may look.
pub(super) const KEPT: Duration = Duration::from_secs(60 * 60);
/// Changes kept at most, whatever their age.
const CHANGES_MAX: usize = 100_000;
/// Reads kept of each list; a rule can look no more of them back.
pub(super) const READS_MAX: usize = 10;

/// A record after a change; none if it is gone.
#[derive(Debug, Clone)]
enum Change {
    App(String, Option<App>),
    Machine(String, Option<Box<Machine>>),
    Volume(String, Option<Volume>),
}

impl Change {
    fn of(key: &Key, world: &World) -> Self {
        match key {
            Key::App(name) => Self::App(name.clone(), world.apps.get(name).cloned()),
            Key::Machine(_, id) => {
                Self::Machine(id.clone(), world.machines.get(id).cloned().map(Box::new))
            }
            Key::Volume(_, id) => Self::Volume(id.clone(), world.volumes.get(id).cloned()),
        }
    }

    /// An app that goes takes nothing along, so it must go last.
    fn turn(&self) -> u8 {
        match self {
            Self::App(_, Some(_)) => 0,
            Self::Machine(..) | Self::Volume(..) => 1,
            Self::App(_, None) => 2,
        }
    }

    fn apply(&self, world: &mut World) {
        match self {
            Self::App(_, Some(app)) => put_app(world, app),
            Self::App(name, None) => {
                world.apps.remove(name);
            }
            Self::Machine(id, machine) => {
                world.remove_machine(id);
                if let Some(machine) = machine {
                    world.insert_machine(Machine::clone(machine));
                }
            }
            Self::Volume(id, volume) => {
                world.remove_volume(id);
                if let Some(volume) = volume {
                    world.insert_volume(volume.clone());
                }
            }
        }
        world.changed.clear();
    }
}

/// What is in it comes by changes of its own.
pub(super) fn put_app(world: &mut World, app: &App) {
    let (machines, volumes) =
        world.apps.remove(&app.name).map(|it| (it.machines, it.volumes)).unwrap_or_default();
    world.apps.insert(app.name.clone(), App { machines, volumes, ..app.clone() });
}

/// What is kept.
#[derive(Debug)]
pub(super) struct History {
    base: World,
    changes: VecDeque<(Duration, Change)>,
    /// Changes that are in `base` already.
    folded: usize,
    /// For each list, how many changes there were at its last reads, newest first.
    reads: BTreeMap<String, VecDeque<usize>>,
}

impl History {
    /// Begins with the world as it is.
    pub(super) fn since(now: &World) -> Self {
        Self { base: now.clone(), changes: VecDeque::new(), folded: 0, reads: BTreeMap::new() }
    }

    /// Takes what was changed.
    pub(super) fn remember<'a>(
        &mut self,
        world: &World,
        keys: impl IntoIterator<Item = &'a Key>,
        now: Duration,
    ) {
        let mut changes: Vec<_> = keys.into_iter().map(|it| Change::of(it, world)).collect();
        changes.sort_by_key(Change::turn);
        self.changes.extend(changes.into_iter().map(|it| (now, it)));
        let oldest = now.saturating_sub(KEPT);
        while self.changes.len() > CHANGES_MAX
            || self.changes.front().is_some_and(|it| it.0 < oldest)
        {
            if let Some((_, change)) = self.changes.pop_front() {
                change.apply(&mut self.base);
                self.folded += 1;
            }
        }
    }

    /// Notes that a list was read now.
    pub(super) fn note_read(&mut self, list: &str) {
        let position = self.folded + self.changes.len();
        let reads = self.reads.entry(list.to_owned()).or_default();
        reads.push_front(position);
        reads.truncate(READS_MAX);
    }

    /// As it was at a time, or as early as is known. `None` is before all time.
    pub(super) fn at(&self, time: Option<Duration>) -> World {
        self.after(self.changes.partition_point(|it| Some(it.0) <= time))
    }

    /// As a list showed it so many reads ago, or as early as is known.
    pub(super) fn reads_ago(&self, list: &str, reads: usize) -> World {
        let read = self.reads.get(list).and_then(|it| it.get(reads.saturating_sub(1)));
        self.after(read.map_or(0, |it| it.saturating_sub(self.folded)))
    }

    fn after(&self, changes: usize) -> World {
        let mut world = self.base.clone();
        for (_, change) in self.changes.iter().take(changes) {
            change.apply(&mut world);
        }
        world
    }

    /// Puts back, as it last was, what has gone since a time.
    pub(super) fn put_back(&self, world: &mut World, since: Option<Duration>) {
        let past = self.at(since);
        let mut apps = past.apps.clone();
        let mut machines: BTreeMap<_, _> =
            past.machines.into_iter().filter(|(_, it)| stays(it)).collect();
        let mut volumes: BTreeMap<_, _> =
            past.volumes.into_iter().filter(|(_, it)| it.destroy_at.is_none()).collect();
        for (_, change) in self.changes.iter().filter(|it| Some(it.0) > since) {
            match change {
                Change::App(name, Some(app)) if !app.deleting => {
                    apps.insert(name.clone(), app.clone());
                }
                Change::Machine(id, Some(machine)) if stays(machine) => {
                    machines.insert(id.clone(), Machine::clone(machine));
                }
                Change::Volume(id, Some(volume)) if volume.destroy_at.is_none() => {
                    volumes.insert(id.clone(), volume.clone());
                }
                Change::App(..) | Change::Machine(..) | Change::Volume(..) => {}
            }
        }
        for app in apps.values() {
            if world.apps.get(&app.name).is_none_or(|it| it.deleting) {
                put_app(world, app);
            }
        }
        for (id, machine) in machines {
            if !world.machines.get(&id).is_some_and(stays) {
                Change::Machine(id, Some(Box::new(machine))).apply(world);
            }
        }
        for (id, volume) in volumes {
            if world.volumes.get(&id).is_none_or(|it| it.destroy_at.is_some()) {
                Change::Volume(id, Some(volume)).apply(world);
            }
        }
    }
}

fn stays(machine: &Machine) -> bool {
    use crate::local::machine::State;
    !matches!(machine.state, State::Destroying | State::Destroyed)
}
