//! What was seen of each claim and of each bay. It must never ask for anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    api::environment::{BayRef, ConditionType},
    cli::bench::seen::{Bay, Environment},
};

/// One claim. Times are of the clock, not since it was due.
#[derive(Debug, Clone, Default)]
pub(super) struct Claim {
    /// When it was to be made, whenever it was.
    pub(super) due: Duration,
    /// The API answered: it is on disk.
    pub(super) durable: Option<Duration>,
    /// It has a bay.
    pub(super) bound: Option<Duration>,
    /// The router sends requests to that.
    pub(super) routable: Option<Duration>,
    /// It is Ready.
    pub(super) ready: Option<Duration>,
    /// Its bay.
    pub(super) bay: Option<String>,
    /// Why nothing came of it.
    pub(super) failed: Option<String>,
}

impl Claim {
    fn is_over(&self) -> bool {
        self.failed.is_some() || (self.routable.is_some() && self.ready.is_some())
    }
}

#[derive(Debug, Default)]
struct BaySeen {
    /// A pool made it.
    of_stock: bool,
    /// It can be had.
    free: bool,
    /// Environments that it was seen with.
    holders: BTreeSet<String>,
}

/// The book.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) claims: Vec<Claim>,
    bays: BTreeMap<String, BaySeen>,
    /// Bays that can be had.
    pub(super) stock: usize,
    /// The fewest of these since the start.
    pub(super) smallest_stock: usize,
    /// When each bay that was not there at the start could be had.
    pub(super) refilled: Vec<Duration>,
}

impl Book {
    /// From now on it is counted.
    pub(super) fn start(&mut self) {
        self.smallest_stock = self.stock;
        self.refilled.clear();
    }

    /// Takes an environment in as it was seen. The bay that it is routed to, when that is new.
    pub(super) fn environment(
        &mut self,
        environment: &Environment,
        at: Duration,
    ) -> Option<(usize, BayRef)> {
        let index = index_of(&environment.metadata.name)?;
        let claim = self.claims.get_mut(index)?;
        let bay = environment.status.bay.as_ref()?;
        claim.bound.get_or_insert(at);
        claim.bay = Some(bay.name.clone());
        let holders = &mut self.bays.entry(bay.name.clone()).or_default().holders;
        holders.insert(environment.metadata.uid.clone());
        if environment.is(ConditionType::Ready) {
            claim.ready.get_or_insert(at);
        }
        (environment.is(ConditionType::Routed) && claim.routable.is_none())
            .then(|| (index, bay.clone()))
    }

    /// Takes a bay in as it was seen.
    pub(super) fn bay(&mut self, bay: &Bay, at: Duration) {
        let seen = self.bays.entry(bay.metadata.name.clone()).or_default();
        let holder = bay.spec.environment_ref.as_ref().map(|it| it.uid.clone());
        let is_going = bay.metadata.deletion_timestamp.is_some();
        let free = bay.status.available_since.is_some() && holder.is_none() && !is_going;
        seen.holders.extend(holder);
        seen.of_stock |= bay.spec.stock.is_some();
        if free && !seen.free {
            self.stock += 1;
            self.refilled.push(at);
        } else if !free && seen.free {
            self.stock -= 1;
            self.smallest_stock = self.smallest_stock.min(self.stock);
        }
        seen.free = free;
    }

    /// Takes in that a bay is gone.
    pub(super) fn bay_gone(&mut self, name: &str) {
        if let Some(seen) = self.bays.get_mut(name).filter(|it| it.free) {
            seen.free = false;
            self.stock -= 1;
            self.smallest_stock = self.smallest_stock.min(self.stock);
        }
    }

    /// How many claims were made and are not over.
    pub(super) fn open(&self) -> usize {
        self.claims.iter().filter(|it| !it.is_over()).count()
    }

    /// Whether the claim got a bay that was there before it.
    pub(super) fn is_hit(&self, claim: &Claim) -> bool {
        let bay = claim.bay.as_ref().and_then(|it| self.bays.get(it));
        bay.is_some_and(|it| it.of_stock)
    }

    /// Bays that more than one environment was ever seen with.
    pub(super) fn doubles(&self) -> usize {
        self.bays.values().filter(|it| it.holders.len() > 1).count()
    }
}

/// The name of a claim's environment.
pub(super) fn name_of(index: usize) -> String {
    format!("claim-{index:05}")
}

/// Which claim an environment is, by its name.
pub(super) fn index_of(name: &str) -> Option<usize> {
    name.strip_prefix("claim-")?.parse().ok()
}
