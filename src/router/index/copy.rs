//! What of the join goes into a copy of the table elsewhere, and how it comes back. It must never put back what is older
//! than what is there.

use std::collections::HashSet;

use uuid::Uuid;

use crate::router::{
    index::{Index, Known},
    packed::Label,
    table::{Flag, Route},
};

/// A copy of the table elsewhere.
impl Index {
    /// From now on, remembers which labels change.
    pub fn remember_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// The same, and takes every label there is for changed.
    pub fn changed_from_the_start(&mut self) {
        let labels = self.table.labels();
        self.changed.get_or_insert_default().extend(labels);
    }

    /// Takes up to `max` labels that changed, each with what is to be saved of it.
    pub fn take_changes(&mut self, max: usize) -> Vec<(Label, Option<Saved>)> {
        let Some(changed) = &mut self.changed else { return Vec::new() };
        let labels: Vec<Label> = changed.iter().take(max).copied().collect();
        for label in &labels {
            changed.remove(label);
        }
        if changed.is_empty() {
            *changed = HashSet::new();
        }
        labels.into_iter().map(|label| (label, self.saved(label))).collect()
    }

    /// Puts labels back whose change could not be saved.
    pub fn changed_again(&mut self, labels: &[Label]) {
        for &label in labels {
            self.note(label);
        }
    }

    /// Says that everything saved was put back. The table may be served from if that was anything.
    pub fn restored(&mut self, count: usize) {
        if count > 0 {
            self.table.set_loaded();
        }
    }

    pub(super) fn saved(&self, label: Label) -> Option<Saved> {
        let route = self.table.get(&label)?;
        let environment = &self.environments[route.slot() as usize];
        Some(Saved {
            uid: Uuid::from_bytes(environment.uid),
            namespace: self.namespaces.names[environment.namespace as usize].to_string(),
            name: self.name(route.slot()),
            bay: environment.bay,
            epoch: environment.epoch,
            present: environment.known == Known::Present,
            route,
        })
    }

    /// Puts a saved label back. Meant for an empty table, before anything else is applied.
    pub fn restore(&mut self, label: Label, saved: &Saved) {
        if self.table.get(&label).is_some() {
            return;
        }
        let slot = self.slot_of(saved.uid, &saved.namespace, &saved.name);
        self.hold(slot);
        let mut labels = self.labels(slot);
        let environment = &mut self.environments[slot as usize];
        if saved.present {
            if environment.known != Known::Present {
                environment.known = Known::Present;
                labels.clear();
            }
            environment.epoch = environment.epoch.max(saved.epoch);
            if !saved.route.has(Flag::UNLISTED) {
                labels.push(label);
            }
            self.set_labels(slot, &saved.name, &labels);
            self.move_bay(slot, saved.bay, None);
        } else {
            self.name_label(slot, label);
        }
        self.table.insert(label, saved.route.in_slot(slot));
        self.keep_findable(slot);
    }
}

/// One label as it is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Uid of the holder.
    pub uid: Uuid,
    /// Namespace of the holder.
    pub namespace: String,
    /// Name of the holder.
    pub name: String,
    /// Its bay.
    pub bay: [u8; 16],
    /// Its epoch.
    pub epoch: u32,
    /// Whether the holder is there.
    pub present: bool,
    /// Where it leads; the slot in it means nothing.
    pub route: Route,
}
