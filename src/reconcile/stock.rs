//! The bays of pools as the store's feed tells of them, so that a claim finds one without a search, and a pool counts its own
//! without reading others'. What it gives out is only a proposal: the store decides. It must never hold an object.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::Bay,
    environment::Environment,
    kind::Kind,
    meta::{ObjectRef, Resource as _},
    pool::WarmPool,
};
use crate::plan::stock::{self, StockFact, Vacancy};
use crate::store::Revision;

/// What was claimed or missed longer ago is not counted any more.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Namespace and name of a template.
type TemplateKey = (String, String);

#[derive(Debug)]
struct Known {
    app: String,
    fact: StockFact,
    template: TemplateKey,
    /// Whether it has its app.
    begun: bool,
}

/// The room.
#[derive(Debug, Default)]
pub(crate) struct StockRoom {
    /// In order, so that what is queued for all of them is queued alike in every run.
    bays: BTreeMap<ObjectRef, Known>,
    /// By the pool's uid.
    of_pool: HashMap<String, BTreeSet<ObjectRef>>,
    /// What was claimed or missed and is gone, by the pool's uid: it counts as long as if it were there.
    past: HashMap<String, Vec<StockFact>>,
    /// Since when each can be had, and its name: the order in which they are given out.
    vacancies: HashMap<TemplateKey, BTreeMap<(Timestamp, String), Vacancy>>,
    pools: BTreeMap<ObjectRef, (String, TemplateKey)>,
    /// How many bays of each pool are wanted, ready, on their way and failed, as it counted them last.
    counts: BTreeMap<ObjectRef, [u32; 4]>,
    heard: Revision,
    written: Revision,
    /// When the store was made from an export, if it was.
    restored_at: Option<Timestamp>,
}

impl StockRoom {
    /// An empty one.
    pub(crate) fn new(restored_at: Option<Timestamp>) -> Self {
        Self { restored_at, ..Self::default() }
    }

    /// Takes a pool in.
    pub(crate) fn put_pool(&mut self, pool: &WarmPool) {
        let key = pool.object_ref();
        let template = (key.namespace.clone(), pool.spec.template_ref.name.clone());
        self.pools.insert(key, (pool.metadata.uid.clone(), template));
    }

    /// Takes a pool out; what is left of its bays.
    pub(crate) fn remove_pool(&mut self, key: &ObjectRef) -> Vec<ObjectRef> {
        self.counts.remove(key);
        let Some((uid, _)) = self.pools.remove(key) else { return Vec::new() };
        self.past.remove(&uid);
        self.of_pool.get(&uid).into_iter().flatten().cloned().collect()
    }

    /// Takes in what a pool counted; the same of all pools together.
    pub(crate) fn count(&mut self, pool: &ObjectRef, counts: [u32; 4]) -> [u64; 4] {
        if self.pools.contains_key(pool) {
            self.counts.insert(pool.clone(), counts);
        }
        self.counted()
    }

    /// How many bays of all pools are wanted, ready, on their way and failed.
    pub(crate) fn counted(&self) -> [u64; 4] {
        self.counts.values().fold([0; 4], |mut sums, of| {
            for (sum, it) in sums.iter_mut().zip(of) {
                *sum += u64::from(*it);
            }
            sums
        })
    }

    /// Pools that are not in this list.
    pub(crate) fn pools_missing_from(&self, listed: &BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
        self.pools.keys().filter(|it| !listed.contains(*it)).cloned().collect()
    }

    /// Bays that are not in this list.
    pub(crate) fn bays_missing_from(&self, listed: &BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
        self.bays.keys().filter(|it| !listed.contains(*it)).cloned().collect()
    }

    /// Takes a bay in as it was at a revision; the pool that has something to decide because of that, if one has.
    pub(crate) fn put(&mut self, bay: &Bay, at: Revision) -> Option<ObjectRef> {
        self.heard = self.heard.max(at);
        let key = bay.object_ref();
        let before = self.take_out(&key).map(|it| it.fact);
        let Some(fact) = StockFact::of(bay, before.as_ref(), self.restored_at) else {
            return before.and_then(|it| self.pool_of_uid(&it.pool_uid));
        };
        let template = template_of(bay);
        if !fact.doubtful
            && let Some(vacancy) = Vacancy::with_digest(bay, || fact.made_from.clone())
        {
            let vacancies = self.vacancies.entry(template.clone()).or_default();
            vacancies.insert((vacancy.since, vacancy.name.clone()), vacancy);
        }
        self.of_pool.entry(fact.pool_uid.clone()).or_default().insert(key.clone());
        let is_news = before.as_ref() != Some(&fact);
        let pool = is_news.then(|| self.pool_of_uid(&fact.pool_uid)).flatten();
        let app = bay.spec.app.clone();
        let begun = bay.status.app_created;
        self.bays.insert(key, Known { app, fact, template, begun });
        pool
    }

    /// Takes a bay out; its app, and the pool that it was of.
    pub(crate) fn remove(&mut self, key: &ObjectRef) -> Option<(String, Option<ObjectRef>)> {
        let Known { app, fact, .. } = self.take_out(key)?;
        let pool = self.pool_of_uid(&fact.pool_uid);
        if pool.is_some() && ended(&fact).is_some() {
            self.past.entry(fact.pool_uid.clone()).or_default().push(fact);
        }
        Some((app, pool))
    }

    fn take_out(&mut self, key: &ObjectRef) -> Option<Known> {
        let known = self.bays.remove(key)?;
        if let Some(vacancies) = self.vacancies.get_mut(&known.template)
            && let Some(since) = known.fact.available_since
        {
            vacancies.remove(&(since, key.name.clone()));
        }
        if let Some(own) = self.of_pool.get_mut(&known.fact.pool_uid) {
            own.remove(key);
        }
        Some(known)
    }

    /// Whether this bay is a pool's and unbound, so that there is something to remember of it between passes.
    pub(crate) fn knows(&self, key: &ObjectRef) -> bool {
        self.bays.get(key).is_some_and(|it| !it.fact.missed && it.fact.claimed_at.is_none())
    }

    /// Whether anything was made of it.
    pub(crate) fn is_begun(&self, key: &ObjectRef) -> bool {
        self.bays.get(key).is_none_or(|it| it.begun)
    }

    /// Whether it is being removed.
    pub(crate) fn is_going(&self, key: &ObjectRef) -> bool {
        self.bays.get(key).is_some_and(|it| it.fact.going)
    }

    /// The unbound bays of a pool.
    pub(crate) fn unbound_of(&self, uid: &str) -> Vec<ObjectRef> {
        let own = self.of_pool.get(uid).into_iter().flatten();
        own.filter(|it| self.knows(it)).cloned().collect()
    }

    /// Unbound bays and pools: whoever must look again when a hold changes.
    pub(crate) fn keys(&self) -> Vec<ObjectRef> {
        let unbound = self.bays.keys().filter(|it| self.knows(it));
        unbound.chain(self.pools.keys()).cloned().collect()
    }

    /// Pools of a template.
    pub(crate) fn pools_of(&self, namespace: &str, template: &str) -> Vec<ObjectRef> {
        let of = |it: &TemplateKey| it.0 == namespace && it.1 == template;
        self.pools.iter().filter(|(_, (_, it))| of(it)).map(|(key, _)| key.clone()).collect()
    }

    /// Uid and name of a pool of a template.
    pub(crate) fn pool_of(&self, namespace: &str, template: &str) -> Option<(String, String)> {
        let key = self.pools_of(namespace, template).into_iter().next()?;
        let (uid, _) = self.pools.get(&key)?;
        Some((uid.clone(), key.name))
    }

    fn pool_of_uid(&self, uid: &str) -> Option<ObjectRef> {
        self.pools.iter().find(|(_, (it, _))| it == uid).map(|(key, _)| key.clone())
    }

    /// Takes away the bay that an environment is to have which is made from what has this digest, so that no other is offered the same
    /// one.
    pub(crate) fn reserve(
        &mut self,
        environment: &Environment,
        made_from: &str,
    ) -> Option<Vacancy> {
        let of = environment.object_ref().namespace;
        let of = (of, environment.spec.template_ref.name.clone());
        let vacancies = self.vacancies.get_mut(&of)?;
        let chosen = stock::choose(vacancies.values(), environment, made_from)?;
        let place = (chosen.since, chosen.name.clone());
        vacancies.remove(&place)
    }

    /// Offers it again, unless more was heard of it.
    pub(crate) fn put_back(&mut self, namespace: &str, vacancy: Vacancy) {
        let key = ObjectRef::new(Kind::Bay, namespace, &vacancy.name);
        let Some(known) = self.bays.get(&key) else { return };
        if known.fact.available_since == Some(vacancy.since) && self.knows(&key) {
            let template = known.template.clone();
            let place = (vacancy.since, vacancy.name.clone());
            self.vacancies.entry(template).or_default().insert(place, vacancy);
        }
    }

    /// The bays of a pool; `None` while not all that was written for pools was heard of.
    pub(crate) fn of_pool(&mut self, uid: &str, now: Timestamp) -> Option<Vec<StockFact>> {
        if self.heard < self.written {
            return None;
        }
        let own: Vec<_> = self.of_pool.get(uid).into_iter().flatten().cloned().collect();
        let mut facts = Vec::with_capacity(own.len());
        for key in own {
            let Some(fact) = self.bays.get(&key).map(|it| it.fact.clone()) else { continue };
            if is_past(&fact, now) {
                self.take_out(&key);
            } else {
                facts.push(fact);
            }
        }
        if let Some(past) = self.past.get_mut(uid) {
            past.retain(|it| !is_past(it, now));
            facts.extend(past.iter().cloned());
        }
        Some(facts)
    }

    /// Revisions of a template that its unbound bays were made from.
    pub(crate) fn revisions(&self, template: &ObjectRef) -> BTreeSet<u64> {
        let of =
            |it: &&Known| (&it.template.0, &it.template.1) == (&template.namespace, &template.name);
        let unbound = self.bays.values().filter(of).filter(|it| it.fact.claimed_at.is_none());
        unbound.filter_map(|it| it.fact.revision).collect()
    }

    /// Bays were written at this revision.
    pub(crate) fn wrote(&mut self, at: Revision) {
        self.written = self.written.max(at);
    }

    /// A list that is true at this revision was heard.
    pub(crate) fn listed(&mut self, at: Revision) {
        self.heard = self.heard.max(at);
    }
}

/// When it was claimed or missed.
fn ended(fact: &StockFact) -> Option<Timestamp> {
    if fact.missed { Some(fact.made_at) } else { fact.claimed_at }
}

fn is_past(fact: &StockFact, now: Timestamp) -> bool {
    ended(fact).is_some_and(|at| now >= at + KEPT)
}

/// The template that a pool's bay is of; a bay that stands for a miss is of none.
fn template_of(bay: &Bay) -> TemplateKey {
    let namespace = bay.metadata.namespace.clone().unwrap_or_default();
    (namespace, bay.spec.stock.as_ref().map(|it| it.template.clone()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_counts_for_an_hour_however_short_its_environments_life_was() {
        let at = |minutes: i64| Timestamp::from_second(1_800_000_000 + minutes * 60).unwrap();
        let metadata =
            |name: &str, uid: &str| json!({"name": name, "namespace": "default", "uid": uid});
        let pool = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "WarmPool", "metadata": metadata("warm", "p"),
            "spec": {"templateRef": {"name": "node"}, "replicas": 1},
        });
        let pool: WarmPool = serde_json::from_value(pool).unwrap();
        let bay = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Bay", "metadata": metadata("bay-a", "b"),
            "spec": {"app": "hgr-a", "network": "hgr-a", "volume": false, "claimedAt": at(0),
                     "environmentRef": {"name": "alice", "uid": "e"},
                     "stock": {"pool": "warm", "poolUid": "p", "template": "node",
                               "madeFrom": {"machine": {"image": "i:1"}, "regions": ["ams"]}}},
        });
        let bay: Bay = serde_json::from_value(bay).unwrap();
        let mut room = StockRoom::new(None);
        room.put_pool(&pool);
        room.put(&bay, Revision(1));
        let (app, told) = room.remove(&bay.object_ref()).unwrap();
        assert_eq!((app.as_str(), told), ("hgr-a", Some(pool.object_ref())));
        let mut counted = |minutes| room.of_pool("p", at(minutes)).unwrap().len();
        assert_eq!((counted(59), counted(60)), (1, 0));
    }

    #[test]
    fn a_claim_gets_the_bay_that_waited_longest_of_its_own_revision_and_region() {
        let mut room = StockRoom::new(None);
        let made_from = |image: &str| json!({"machine": {"image": image}, "regions": ["ams"]});
        for (name, second, region, image) in [
            ("late", 2, "ams", "i:2"),
            ("old", 0, "ams", "i:1"),
            ("early", 1, "ams", "i:2"),
            ("far", 0, "fra", "i:2"),
        ] {
            let bay = json!({
                "apiVersion": "hangar.dev/v1alpha1", "kind": "Bay",
                "metadata": {"name": name, "namespace": "default", "uid": name},
                "spec": {"app": name, "network": name, "volume": false,
                         "stock": {"pool": "warm", "poolUid": "p", "template": "node",
                                   "madeFrom": made_from(image)}},
                "status": {"region": region, "availableSince": Timestamp::from_second(second).unwrap()},
            });
            room.put(&serde_json::from_value(bay).unwrap(), Revision(1));
        }
        let environment: Environment = serde_json::from_value(json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": "alice", "namespace": "default"},
            "spec": {"templateRef": {"name": "node"}, "region": "ams"},
        }))
        .unwrap();
        let own = stock::made_from(&serde_json::from_value(made_from("i:2")).unwrap());
        let mut given = |region: Option<&str>| {
            let mut environment = environment.clone();
            environment.spec.region = region.map(str::to_owned);
            let given = std::iter::from_fn(|| room.reserve(&environment, &own));
            let given: Vec<_> = given.collect();
            let names: Vec<_> = given.iter().map(|it| it.name.clone()).collect();
            given.into_iter().for_each(|it| room.put_back("default", it));
            names
        };
        assert_eq!(given(Some("ams")), ["early", "late", "far", "old"]);
        // The template lists ams alone.
        assert_eq!(given(None), ["early", "late", "far", "old"]);
        assert_eq!(given(Some("fra")), ["far", "early", "late", "old"]);
    }
}
