//! Which bay of a pool each environment of a plan would claim, none of them twice, from what the server has recorded now. It must never
//! change anything.

use std::{cmp::Reverse, collections::BTreeMap};

use serde_json::Value;

use crate::{
    api::{
        bay::Bay,
        environment::Environment,
        kind::Kind,
        meta::{ObjectRef, Resource as _},
        pool::WarmPool,
        template::Template,
    },
    cli::forecast::recorded::recorded,
    client::{self, Client, Query},
    clock::Timestamp,
    plan::{
        stock::{self, Vacancy},
        world::{Seen, World},
    },
};

/// Pools, and what can be had of them.
#[derive(Debug, Default)]
pub(super) struct Stock {
    pools: Vec<WarmPool>,
    vacant: Vec<(Vacancy, Bay)>,
}

impl Stock {
    /// Reads what there is, and pools that would be made.
    ///
    /// # Errors
    /// The server's.
    pub(super) async fn read(
        client: &Client,
        changed: &BTreeMap<ObjectRef, Value>,
    ) -> Result<Self, client::Error> {
        let mut pools = client.list(Kind::WarmPool, None, &Query::default()).await?.items;
        let bays = client.list(Kind::Bay, None, &Query::default()).await?.items;
        let made = changed.iter().filter(|(object, _)| object.kind == Kind::WarmPool);
        let mut made: Vec<WarmPool> =
            made.filter_map(|(_, value)| serde_json::from_value(value.clone()).ok()).collect();
        made.retain(|it| pools.iter().all(|pool: &WarmPool| pool.object_ref() != it.object_ref()));
        pools.append(&mut made);
        Ok(Self::of(pools, bays))
    }

    fn of(pools: Vec<WarmPool>, mut bays: Vec<Bay>) -> Self {
        bays.retain(|it| it.spec.environment_ref.is_none() && !it.is_deleting());
        bays.sort_by_key(|it| Reverse(it.metadata.creation_timestamp));
        // Those that were begun before the store was restored are given to nobody: they are the oldest ones.
        for pool in &pools {
            for _ in 0..pool.status.doubtful {
                let of = |it: &Bay| {
                    it.spec.stock.as_ref().is_some_and(|it| it.pool_uid == pool.metadata.uid)
                };
                if let Some(oldest) = bays.iter().rposition(of) {
                    bays.remove(oldest);
                }
            }
        }
        let vacant = bays.into_iter().filter_map(|it| Some((Vacancy::of(&it)?, it)));
        let mut vacant: Vec<_> = vacant.collect();
        vacant.sort_by(|(a, _), (b, _)| (a.since, &a.name).cmp(&(b.since, &b.name)));
        Self { pools, vacant }
    }

    /// The bay that an environment would claim; no other is then told the same.
    pub(super) fn take(
        &mut self,
        environment: &Environment,
        template: &Template,
    ) -> Option<(Vacancy, Bay)> {
        let own = self.vacant.iter().filter(|(_, bay)| {
            let of = bay.spec.stock.as_ref().map(|it| &it.template);
            bay.metadata.namespace == environment.metadata.namespace
                && of == Some(&environment.spec.template_ref.name)
        });
        let vacancies = own.map(|(vacancy, _)| vacancy);
        let made_from = stock::made_from(&template.spec);
        let name = stock::choose(vacancies, environment, &made_from)?.name.clone();
        let at = self.vacant.iter().position(|(it, bay)| {
            it.name == name && bay.metadata.namespace == environment.metadata.namespace
        })?;
        Some(self.vacant.remove(at))
    }

    /// The uid and name of a pool of its template, which has none for it.
    pub(super) fn pool(&self, environment: &Environment) -> Option<(String, String)> {
        let own = self.pools.iter().find(|it| {
            it.metadata.namespace == environment.metadata.namespace
                && it.spec.template_ref == environment.spec.template_ref
        })?;
        Some((own.metadata.uid.clone(), own.metadata.name.clone()))
    }
}

/// Whether it has no bay yet, and is to have one.
pub(super) fn is_unbound(environment: &Environment) -> bool {
    environment.status.bay.is_none() && !environment.is_deleting()
}

/// Offers it a bay of a pool, as the controller would; that bay, and what Fly would show of it.
pub(super) fn look_for_vacancy(
    world: &mut World,
    stock: &mut Stock,
    now: Timestamp,
) -> Option<(Bay, Seen)> {
    let environment = &world.environment;
    let may_have_one = is_unbound(environment) && environment.status.bays_given_up == 0;
    let template = world.template.as_ref().filter(|_| may_have_one)?;
    let Some((vacancy, bay)) = stock.take(&world.environment, template) else {
        world.empty_pool = stock.pool(&world.environment);
        return None;
    };
    world.vacancy = Some(vacancy);
    let seen = recorded(&bay, now);
    Some((bay, seen))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bay(name: &str, minute: u32, more: &Value) -> Bay {
        let at = format!("2026-01-01T12:{minute:02}:00Z");
        let mut bay = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Bay",
            "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": at},
            "spec": {"app": "a", "network": "a", "volume": false,
                     "stock": {"pool": "warm", "poolUid": "p", "template": "node",
                               "madeFrom": {"machine": {"image": "i:1"}, "regions": ["ams"]}}},
            "status": {"availableSince": at},
        });
        for (field, value) in more.as_object().unwrap() {
            bay[field].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        }
        serde_json::from_value(bay).unwrap()
    }

    fn objects(doubtful: u32) -> (WarmPool, Environment, Template) {
        let object = |kind: &str, name: &str, spec: Value| {
            json!({"apiVersion": "hangar.dev/v1alpha1", "kind": kind, "spec": spec,
                   "metadata": {"name": name, "namespace": "default", "uid": "p"}, "status": {}})
        };
        let of = json!({"templateRef": {"name": "node"}, "replicas": 1});
        let mut pool: WarmPool = serde_json::from_value(object("WarmPool", "warm", of)).unwrap();
        pool.status.doubtful = doubtful;
        let of = json!({"templateRef": {"name": "node"}});
        let environment = serde_json::from_value(object("Environment", "alice", of)).unwrap();
        let of = json!({"machine": {"image": "i:1"}, "regions": ["ams"]});
        (pool, environment, serde_json::from_value(object("Template", "node", of)).unwrap())
    }

    /// Whom so many environments would get.
    fn taken(doubtful: u32, bays: Vec<Bay>) -> Vec<String> {
        let (pool, environment, template) = objects(doubtful);
        let mut stock = Stock::of(vec![pool], bays);
        let mut taken = Vec::new();
        while let Some((vacancy, bay)) = stock.take(&environment, &template) {
            assert_eq!(vacancy.name, bay.metadata.name);
            taken.push(vacancy.name);
        }
        assert!(stock.pool(&environment).is_some_and(|(_, name)| name == "warm"));
        taken
    }

    #[test]
    fn each_bay_is_foretold_once_and_only_those_that_can_be_had() {
        let none = json!({});
        let bays = || {
            vec![
                bay("old", 1, &none),
                bay("new", 3, &none),
                bay("middle", 2, &none),
                bay("coming", 0, &json!({"status": {"availableSince": null}})),
                bay(
                    "going",
                    0,
                    &json!({"metadata": {"deletionTimestamp": "2026-01-01T13:00:00Z"}}),
                ),
                bay("had", 0, &json!({"spec": {"environmentRef": {"name": "bob", "uid": "b"}}})),
                bay("away", 9, &json!({"metadata": {"namespace": "other"}})),
            ]
        };
        assert_eq!(taken(0, bays()), ["old", "middle", "new"]);
        // Of four of the pool the two oldest, one of which is not ready, may be somebody's.
        assert_eq!(taken(2, bays()), ["middle", "new"]);
    }
}
