//! What there is at the end, by environment and pool, without ids and times, so that two walks can be compared. It must never say
//! whether that is right.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    api::{
        condition::Truth,
        environment::{ConditionType, Environment},
    },
    local::census::{Census, Machine},
    sim::oracle::{facts::Facts, stock::machines},
};

impl Facts {
    /// What there is, by environment and pool.
    pub(super) fn summary(&self, census: &Census) -> BTreeMap<String, String> {
        let environments = self.environments.values();
        let environments =
            environments.map(|it| (it.metadata.name.clone(), self.summary_of_one(it, census)));
        let pools = self.claims.pools.values();
        let pools = pools
            .map(|it| (format!("pool {}", it.metadata.name), self.summary_of_pool(it, census)));
        environments.chain(pools).collect()
    }

    fn summary_of_one(&self, environment: &Environment, census: &Census) -> String {
        let status = &environment.status;
        let app = status.bay.as_ref().map(|it| it.app.clone()).unwrap_or_default();
        let machines: Vec<_> = machines(census, &app)
            .map(|it| {
                let env = self.variables(it, &environment.metadata.uid);
                format!("{} {} {} {env:?}", it.region, it.state, it.image)
            })
            .collect();
        let volumes: Vec<_> = census
            .volumes
            .values()
            .filter(|it| it.app == app && it.destroy_at.is_none())
            .map(|it| format!("{} {} GiB", it.region, it.size_gib))
            .collect();
        // Where the bay comes from, a pool or not, is not what the environment is: what it adds is in its machine, or in the file.
        let conditions =
            status.conditions.iter().filter(|it| it.kind != ConditionType::Personalized);
        let conditions: Vec<_> = conditions
            .map(|it| {
                let in_file = it.kind == ConditionType::Updated && self.runs_as_stock(environment);
                let truth = if in_file { Truth::True } else { it.status };
                format!("{:?}={truth:?}", it.kind)
            })
            .collect();
        format!(
            "{:?} at {} of {}, {conditions:?}, {machines:?}, {volumes:?}",
            status.phase, status.observed_generation, environment.metadata.generation
        )
    }

    fn runs_as_stock(&self, environment: &Environment) -> bool {
        let bay = environment.status.bay.as_ref().and_then(|it| self.bays.get(&it.name));
        bay.and_then(|it| it.status.machine.as_ref()).is_some_and(|it| it.as_stock)
    }

    /// What a program sees: the file of its environment over the machine's variables.
    fn variables(&self, machine: &Machine, uid: &str) -> BTreeMap<String, String> {
        let mut env = machine.env.clone();
        if let Some(file) = self.file_in(&machine.id).filter(|it| it["uid"] == uid) {
            let over = file["env"].as_object().cloned().unwrap_or_default();
            let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
            env.extend(over.iter().map(|(key, value)| (key.clone(), text(value))));
        }
        env.retain(|key, _| !is_id(key));
        env
    }
}

/// Variables whose values are ids.
fn is_id(key: &str) -> bool {
    key.starts_with("HANGAR_") || key.starts_with("FLY_")
}
