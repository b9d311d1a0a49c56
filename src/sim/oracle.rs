//! The rules that must hold after every step, whatever happens. It must never change what it looks at.

mod calls;
mod claims;
mod facts;
mod objects;
mod routes;
mod shown;
mod stock;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::Request;

use crate::{
    api::environment::{Environment, Phase},
    clock::{Clock, Timestamp},
    local::{Backend, norun::NoRun},
    router::table::Table,
    sim::{
        chronicle::Chronicle,
        oracle::facts::Facts,
        wire::{Exchange, Listener},
    },
    store::{Entry, Txn},
};

pub(crate) use facts::Count;

/// Watches a course.
pub(crate) struct Oracle {
    fly: Arc<Backend>,
    driver: Arc<NoRun>,
    clock: Arc<dyn Clock>,
    chronicle: Arc<Chronicle>,
    facts: Mutex<Facts>,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}

impl Oracle {
    pub(crate) fn new(
        (fly, driver): (Arc<Backend>, Arc<NoRun>),
        clock: Arc<dyn Clock>,
        chronicle: Arc<Chronicle>,
        canaries: Vec<String>,
    ) -> Arc<Self> {
        let facts = Mutex::new(Facts::new(canaries));
        Arc::new(Self { fly, driver, clock, chronicle, facts })
    }

    /// The router's table of the life that begins, or none at its end, with which its calls end too.
    pub(crate) fn routes(&self, table: Option<Arc<Table>>) {
        let mut facts = self.facts();
        facts.table = table;
        facts.under_way = 0;
        facts.creating.clear();
        // What it counted is forgotten with it.
        facts.lost.clear();
    }

    /// Whether no environment is on its way somewhere, and no pool.
    pub(crate) fn is_settled(&self) -> bool {
        let settled = |it: &Environment| {
            matches!(it.status.phase, Phase::Ready | Phase::Asleep | Phase::Stalled)
        };
        let facts = self.facts();
        facts.environments.values().all(settled) && facts.pools_are_settled()
    }

    /// Whether a call is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.facts().under_way > 0
    }

    /// Something else than hangar destroys data: that is not hangar's doing. Gives whose data it was.
    pub(crate) fn excuse(&self, app: &str) -> Option<String> {
        let mut facts = self.facts();
        facts.excused.insert(app.to_owned());
        facts.apps.get(app).map(|(_, name)| name.clone())
    }

    /// Apps that were made for an environment of this name.
    pub(crate) fn apps_of(&self, environment: &str) -> Vec<String> {
        let facts = self.facts();
        let apps = facts.apps.iter().filter(|(_, (_, name))| name == environment);
        apps.map(|(app, _)| app.clone()).collect()
    }

    /// The environment that an app was made for.
    pub(crate) fn whose(&self, app: &str) -> Option<String> {
        self.facts().apps.get(app).map(|(_, name)| name.clone())
    }

    /// A commit became durable.
    pub(crate) fn committed(&self, txn: &Txn) {
        let now = self.clock.now();
        let mut facts = self.facts();
        facts.commits += 1;
        self.see(&mut facts, now);
        // An environment's status is judged with the bay that the same commit writes.
        let (bays, others): (Vec<_>, Vec<_>) =
            txn.steps.iter().partition(|(key, _, _)| key.as_str().starts_with("bays/"));
        for (key, _, op) in bays.into_iter().chain(others) {
            facts.store(key.as_str(), op);
            facts.object(key.as_str(), op);
        }
        facts.check_routes(now);
        self.speak(&mut facts);
    }

    /// 15: what was acknowledged is there after a crash, and nothing else.
    pub(crate) fn kept(&self, all: &[Entry]) {
        let mut facts = self.facts();
        let there: BTreeMap<_, _> =
            all.iter().map(|it| (it.key.as_str().to_owned(), it.value.clone())).collect();
        if let Some(key) = difference(&facts.stored, &there) {
            facts.violation(format!("15: after a crash {key} is not as it was acknowledged"));
        }
        self.speak(&mut facts);
    }

    /// Looks without an occasion.
    pub(crate) fn look(&self) {
        let now = self.clock.now();
        let mut facts = self.facts();
        self.see(&mut facts, now);
        facts.check_routes(now);
        self.speak(&mut facts);
    }

    /// What is wrong at the end, when nothing goes on any more.
    pub(crate) fn rest(&self) {
        let now = self.clock.now();
        let mut facts = self.facts();
        self.see(&mut facts, now);
        facts.check_routes(now);
        facts.check_rest();
        facts.check_stock();
        self.speak(&mut facts);
    }

    /// A text that others may read must hold no secret.
    pub(crate) fn read(&self, whose: &str, text: &str) {
        self.facts().check_text(whose, text);
    }

    /// What was found wrong so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.facts().violations.clone()
    }

    /// What was done to what.
    pub(crate) fn counts(&self) -> BTreeMap<Count, u64> {
        self.facts().counts.clone()
    }

    /// How many calls changed something, how many commits there were, how many calls were refused for their number.
    pub(crate) fn totals(&self) -> (u64, u64, u64) {
        let facts = self.facts();
        (facts.writes, facts.commits, facts.rate_limited)
    }

    /// How many calls changed something of which environment.
    pub(crate) fn writes_by(&self) -> BTreeMap<String, u64> {
        self.facts().writes_by.clone()
    }

    /// How often each call was made.
    pub(crate) fn calls(&self) -> BTreeMap<&'static str, u64> {
        self.facts().calls.clone()
    }

    /// The state of everything, without ids and times.
    pub(crate) fn summary(&self) -> BTreeMap<String, String> {
        let census = self.fly.census();
        self.facts().summary(&census)
    }

    /// Takes in what Fly has now, and what is in its machines.
    fn see(&self, facts: &mut Facts, now: Timestamp) {
        facts.see(self.fly.census(), now);
        facts.look_into(self.driver.given());
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// New violations go into the chronicle, where what led to them stands.
    fn speak(&self, facts: &mut Facts) {
        let now = self.clock.now();
        for violation in &facts.violations[facts.told..] {
            self.chronicle.tell(now, format_args!("VIOLATION {violation}"));
        }
        facts.told = facts.violations.len();
    }
}

/// A key under which two stores do not hold the same.
fn difference(one: &BTreeMap<String, Bytes>, other: &BTreeMap<String, Bytes>) -> Option<String> {
    let mut keys = one.keys().chain(other.keys());
    keys.find(|it| one.get(*it) != other.get(*it)).cloned()
}

impl Listener for Oracle {
    fn before(&self, what: &str, request: &Request<Bytes>) {
        let now = self.clock.now();
        let mut facts = self.facts();
        facts.under_way += 1;
        facts.number(request);
        if request.method() == http::Method::GET {
            return;
        }
        self.see(&mut facts, now);
        facts.call(what, request, now);
        self.speak(&mut facts);
    }

    fn after(&self, exchange: &Exchange<'_>) {
        let now = self.clock.now();
        let changes = exchange.request.method() != http::Method::GET;
        if changes {
            let status =
                exchange.status().map_or_else(|| "no answer".to_owned(), |it| it.to_string());
            self.chronicle.tell(now, format_args!("call {} -> {status}", exchange.what));
        }
        let mut facts = self.facts();
        facts.under_way = facts.under_way.saturating_sub(1);
        facts.called(exchange, now);
        if changes {
            self.see(&mut facts, now);
            self.speak(&mut facts);
        }
    }
}
