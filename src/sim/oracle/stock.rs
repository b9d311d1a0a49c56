//! The rules about pools when all is quiet: each has as many bays as it should, each bay is whole, and what was to go is gone. It
//! must never count a bay that is bound.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    api::{
        bay::Bay,
        condition::holds,
        environment::{ConditionType, Environment},
        meta::Resource as _,
        pool::{PoolConditionType, WarmPool, WarmState},
        template::Template,
    },
    local::census::{Census, Machine},
    plan::{machine::PORT, stock},
    sim::oracle::facts::Facts,
};

impl Facts {
    /// Whether every pool has what it should, or says that a person is needed, and no bay is on its way out.
    pub(super) fn pools_are_settled(&self) -> bool {
        let settled = |pool: &WarmPool| {
            let conditions = &pool.status.conditions;
            pool.status.observed_generation == pool.metadata.generation
                && (holds(conditions, PoolConditionType::Full)
                    || holds(conditions, PoolConditionType::Stalled))
        };
        let going = |bay: &Bay| bay.spec.stock.is_some() && bay.is_deleting();
        self.claims.pools.values().all(settled) && !self.bays.values().any(going)
    }

    /// 27, 28: pools and their bays.
    pub(super) fn check_stock(&mut self) {
        for bay in self.bays.values().cloned().collect::<Vec<_>>() {
            let Some(made_as) = &bay.spec.stock else { continue };
            let name = &bay.metadata.name;
            if bay.is_deleting() {
                self.violation(format!("27: bay {name} is to go and is there"));
            } else if bay.spec.environment_ref.is_none() {
                let pool = |it: &WarmPool| it.metadata.uid == made_as.pool_uid;
                match self.claims.pools.values().find(|it| pool(it)).cloned() {
                    Some(pool) => self.check_waiting(&bay, &pool),
                    None => {
                        self.violation(format!("27: bay {name} has neither pool nor environment"))
                    }
                }
            }
        }
        for pool in self.claims.pools.values().cloned().collect::<Vec<_>>() {
            self.check_pool(&pool);
        }
    }

    /// An unbound bay is whole, rests as it should and is of the template as it is.
    fn check_waiting(&mut self, bay: &Bay, pool: &WarmPool) {
        let (name, of) = (&bay.metadata.name, &pool.metadata.name);
        if holds(&pool.status.conditions, PoolConditionType::Stalled) {
            return;
        }
        self.check_bay(&bay.spec.app, &format!("bay {name} of pool {of}"), bay.spec.volume);
        // What is suspended may lose its memory, and is stopped then; either rests.
        let should = match pool.spec.warm_state() {
            WarmState::Started => ["started"].as_slice(),
            WarmState::Suspended | WarmState::Stopped => &["suspended", "stopped"],
        };
        let states: Vec<_> = machines(&self.census, &bay.spec.app).map(|it| it.state).collect();
        if let Some(state) = states.into_iter().find(|it| !should.contains(it)) {
            self.violation(format!("28: bay {name} of pool {of} is {state}"));
        }
        let template = self.claims.templates.values();
        let template =
            template.into_iter().find(|it| it.metadata.name == pool.spec.template_ref.name);
        let made_from = bay.spec.stock.as_ref().map(|it| stock::made_from(&it.made_from));
        // A revision that fails is nobody's any more, until a person says so.
        let wanted = |it: &Template| match &it.status.stopped {
            Some(_) => it.status.for_new().hash,
            None => stock::made_from(&it.spec),
        };
        if template.is_some_and(|it| Some(wanted(it)) != made_from) {
            self.violation(format!("28: bay {name} of pool {of} is of an older template"));
        }
    }

    /// 28: as many as are wanted can be had, in each region.
    fn check_pool(&mut self, pool: &WarmPool) {
        if holds(&pool.status.conditions, PoolConditionType::Stalled) {
            return;
        }
        let wanted = pool.spec.wanted();
        // Where no region is asked for, it does not matter how a bay was once asked for; else it is where it is.
        let anywhere = wanted.contains_key(&None);
        let wanted = wanted.into_iter().map(|(region, count)| (region, u64::from(count)));
        let wanted: BTreeMap<_, _> = wanted.filter(|(_, count)| *count > 0).collect();
        let mut ready: BTreeMap<Option<&str>, u64> = BTreeMap::new();
        let waits =
            |bay: &Bay| bay.spec.environment_ref.is_none() && bay.status.available_since.is_some();
        for bay in self.bays.values().filter(|it| waits(it)) {
            let made_as = bay.spec.stock.as_ref().filter(|it| it.pool_uid == pool.metadata.uid);
            if let Some(made_as) = made_as {
                let region = made_as.region.as_deref().or(bay.status.region.as_deref());
                *ready.entry(region.filter(|_| !anywhere)).or_default() += 1;
            }
        }
        let name = &pool.metadata.name;
        let what = format!("28: pool {name} has {ready:?} of {wanted:?}");
        let said = format!("28: pool {name} says {} of {:?}", pool.status.ready, pool.spec.total());
        let (counts, says) = (ready == wanted, pool.status.ready == pool.spec.total());
        if !counts {
            self.violation(what);
        }
        if !says {
            self.violation(said);
        }
    }

    /// 29: what an environment adds is in its machine: in its own variables, or else in the file.
    pub(super) fn check_person(&mut self, environment: &Environment, bay: &Bay) {
        let Some(record) = &bay.status.machine else { return };
        let machine = record.id.as_ref().and_then(|it| self.census.machines.get(it));
        if machine.is_none_or(|it| it.state != "started") {
            // What rests is given its own configuration before it wakes.
            return;
        }
        let made_from = bay.spec.stock.as_ref().map(|it| &it.made_from);
        let Some(made_from) = made_from.filter(|it| it.personalize.is_some()) else { return };
        let name = &environment.metadata.name;
        let file = record.id.as_ref().and_then(|it| self.file_in(it)).unwrap_or_default();
        if file.is_null() && !record.as_stock {
            // Its own variables are all there is.
            return;
        }
        let has = |field: &str, value: Value| file.get(field) == Some(&value);
        let spec = &environment.spec;
        let env = file.get("env").and_then(Value::as_object).cloned().unwrap_or_default();
        let mut variables = match machine.filter(|_| !record.as_stock) {
            // The file is over them, and must not say what was so before.
            Some(own) if holds(&environment.status.conditions, ConditionType::Updated) => {
                own.env.clone()
            }
            Some(_) => BTreeMap::new(),
            None => made_from.machine.env.clone(),
        };
        variables.remove(PORT);
        variables.extend(spec.env.clone());
        let variables =
            variables.iter().all(|(key, value)| env.get(key) == Some(&Value::from(value.as_str())));
        let same = has("uid", environment.metadata.uid.as_str().into())
            && has("owner", spec.owner.clone().into())
            && has("hostnames", environment.hostnames().into())
            && variables;
        if !same {
            self.violation(format!(
                "29: the file in the machine of {name} is not as declared: {file}"
            ));
        }
    }

    /// What there is of a pool, without ids and times.
    pub(super) fn summary_of_pool(&self, pool: &WarmPool, census: &Census) -> String {
        let own = |bay: &&Bay| {
            bay.spec.environment_ref.is_none()
                && bay.spec.stock.as_ref().is_some_and(|it| it.pool_uid == pool.metadata.uid)
        };
        let apps = self.bays.values().filter(own).map(|it| &it.spec.app);
        let mut machines: Vec<_> = apps
            .flat_map(|app| machines(census, app))
            .map(|it| format!("{} {} {}", it.region, it.state, it.image))
            .collect();
        machines.sort();
        let conditions = pool.status.conditions.iter();
        let conditions: Vec<_> =
            conditions.map(|it| format!("{:?}={:?}", it.kind, it.status)).collect();
        format!(
            "{} of {} ready, {conditions:?}, {machines:?}",
            pool.status.ready,
            pool.spec.total()
        )
    }
}

/// The machines of an app that are there.
pub(super) fn machines<'a>(census: &'a Census, app: &'a str) -> impl Iterator<Item = &'a Machine> {
    census.machines.values().filter(move |it| it.app == app && it.destroyed_at.is_none())
}
