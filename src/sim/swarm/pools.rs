//! What a drawn course has of pools, and what people do to them. It must never draw anything for a seed that has none.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sim::{
    swarm::{IMAGES, Swarm},
    universe::{Universe, pool, template},
};

/// Templates of which there is a pool each, of the same name.
const POOLED: [&str; 2] = ["warm", "bare"];

/// Whether a seed has pools: three in ten have, since a walk with them takes twice as long, and what goes wrong without them is to be
/// tried too.
pub(super) fn has_pools(seed: u64) -> bool {
    seed % 4 == 3 || seed.is_multiple_of(16)
}

/// Makes the templates and a pool of each.
pub(super) async fn begin(universe: &mut Universe) -> anyhow::Result<BTreeMap<String, Value>> {
    let mut pools = BTreeMap::new();
    let warm = json!({"personalize": {"file": "/data/hangar/env.json"}});
    let bare = json!({
        "personalize": {"file": "/run/env.json", "exec": {"command": ["kill", "-HUP", "1"]}},
        "volume": null, "sleep": {"after": "2m", "mode": "Stop"}, "update": {"strategy": "Rolling"}});
    for (name, spec) in POOLED.into_iter().zip([warm, bare]) {
        universe.apply(&template(name, &spec)).await?;
        let replicas = match universe.draw(3) {
            0 => json!({"ams": 1, "fra": 1}),
            _ => json!(1 + universe.draw(3)),
        };
        let spec = json!({"replicas": replicas, "warmState": state(universe)});
        let object = pool(name, name, &spec);
        universe.apply(&object).await?;
        pools.insert(name.to_owned(), object);
    }
    Ok(pools)
}

fn state(universe: &Universe) -> &'static str {
    match universe.draw(4) {
        0 => "Suspended",
        1 => "Stopped",
        _ => "Started",
    }
}

impl Swarm {
    /// Somebody does something to a pool or its template, or many environments come at once.
    pub(super) async fn pool_event(&mut self) -> anyhow::Result<()> {
        let name = self.pick(&POOLED).to_owned();
        match self.universe.draw(8) {
            0 | 1 => {
                let replicas = self.universe.draw(5);
                self.change_pool(&name, &json!({"replicas": replicas})).await
            }
            2 => {
                let state = state(&self.universe);
                self.change_pool(&name, &json!({"warmState": state})).await
            }
            3 | 4 => {
                let image = self.pick(&IMAGES).repeat(64);
                let image = format!("registry.fly.io/app@sha256:{image}");
                let spec = json!({"machine": {"image": image}});
                self.universe.change_template(&name, &spec).await
            }
            5 if !self.scope.day_after => {
                // Bays that are replaced for ever would be written for ever.
                let age = json!({"maxAge": self.pick(&["10m", "1h"])});
                self.change_pool(&name, &age).await
            }
            6 => {
                self.pools.remove(&name);
                self.universe.remove_pool(&name).await
            }
            _ => {
                for _ in 0..3 {
                    self.declare_of(&name).await?;
                }
                Ok(())
            }
        }
    }

    /// Changes a pool, or makes it again.
    async fn change_pool(&mut self, name: &str, change: &Value) -> anyhow::Result<()> {
        let fresh = || pool(name, name, &json!({"replicas": 2}));
        let object = self.pools.entry(name.to_owned()).or_insert_with(fresh);
        json_patch::merge(&mut object["spec"], change);
        let object = object.clone();
        self.universe.apply(&object).await
    }

    /// 9: every pool has what it should.
    pub(super) fn check_pools(&self) -> anyhow::Result<()> {
        let summary = self.universe.report().summary;
        for name in self.pools.keys() {
            let is = summary.get(&format!("pool {name}")).map_or("missing", String::as_str);
            anyhow::ensure!(is.contains("Full=True"), "9: pool {name} ends as {is}");
        }
        Ok(())
    }
}
