//! The rules about what the store holds: nothing goes backwards, a bay has one environment for ever, no data is forgotten,
//! Ready was seen. It must never read the store: it is told each commit.

use serde::de::DeserializeOwned;

use crate::{
    api::{
        bay::Bay,
        condition::holds,
        environment::{ConditionType, Environment},
        hostname::Hostname,
        meta::Resource as _,
        pool::WarmPool,
        template::Template,
    },
    sim::oracle::facts::Facts,
    store::Op,
};

impl Facts {
    /// What a store holds after a step.
    pub(super) fn store(&mut self, key: &str, op: &Op) {
        match op {
            Op::Put(value) => drop(self.stored.insert(key.to_owned(), value.clone())),
            Op::Delete => drop(self.stored.remove(key)),
            Op::Check => {}
        }
    }

    /// One step of a commit.
    pub(super) fn object(&mut self, key: &str, op: &Op) {
        let value = match op {
            Op::Put(value) => Some(value),
            Op::Delete => None,
            Op::Check => return,
        };
        if !key.starts_with("secrets/")
            && let Some(value) = value
        {
            self.check_text(&format!("the stored object {key}"), &String::from_utf8_lossy(value));
        }
        let kind = key.split('/').next().unwrap_or_default();
        match (kind, value) {
            ("environments", Some(value)) => {
                if let Some(environment) = self.read::<Environment>(key, value) {
                    self.environment(key, environment);
                }
            }
            ("environments", None) => self.environment_gone(key),
            ("bays", Some(value)) => {
                if let Some(bay) = self.read::<Bay>(key, value) {
                    self.bay(key, bay);
                }
            }
            ("bays", None) => self.bay_gone(key),
            ("templates", Some(value)) => {
                if let Some(template) = self.read::<Template>(key, value) {
                    self.claims.templates.insert(key.to_owned(), template);
                }
            }
            ("templates", None) => drop(self.claims.templates.remove(key)),
            ("warmpools", Some(value)) => {
                if let Some(pool) = self.read::<WarmPool>(key, value) {
                    self.claims.pools.insert(key.to_owned(), pool);
                }
            }
            ("warmpools", None) => drop(self.claims.pools.remove(key)),
            ("holds", Some(_)) => drop(self.holds.insert(key.to_owned())),
            ("holds", None) => self.lifted |= self.holds.remove(key),
            ("hostnames", Some(value)) => {
                if let Some(hostname) = self.read::<Hostname>(key, value) {
                    self.hostname(hostname);
                }
            }
            (_, _) => {}
        }
    }

    fn read<T: DeserializeOwned>(&mut self, key: &str, value: &[u8]) -> Option<T> {
        match serde_json::from_slice(value) {
            Ok(object) => Some(object),
            Err(error) => {
                self.violation(format!("15: {key} cannot be read: {error}"));
                None
            }
        }
    }

    fn hostname(&mut self, new: Hostname) {
        let label = new.metadata.name.clone();
        if self.hostnames.get(&label).is_none_or(|old| old.spec.uid != new.spec.uid) {
            self.changed_at.insert(label.clone(), self.now);
        }
        self.hostnames.insert(label, new);
    }

    fn environment(&mut self, key: &str, new: Environment) {
        let name = &new.metadata.name;
        let (generation, observed) = (new.metadata.generation, new.status.observed_generation);
        if observed > generation {
            self.violation(format!("14: {name} observed generation {observed} of {generation}"));
        }
        let old = self.environments.get(key).filter(|it| it.metadata.uid == new.metadata.uid);
        if let Some(old) = old {
            let before = (old.metadata.generation, old.status.observed_generation);
            // Epochs are of one bay: where another has taken the app's name, the next bay begins anew.
            let bay = |it: &Environment| it.status.bay.as_ref().map(|it| it.name.clone());
            let epoch = |it: &Environment| it.status.bay.as_ref().map_or(0, |it| it.epoch);
            if generation < before.0 || observed < before.1 {
                self.violation(format!(
                    "14: {name} went back from generation {before:?} to {:?}",
                    (generation, observed)
                ));
            } else if bay(&new) == bay(old) && epoch(&new) < epoch(old) {
                self.violation(format!("14: the epoch of {name} went back"));
            }
        }
        if new.is_deleting() {
            self.deleted_at.entry(new.metadata.uid.clone()).or_insert(self.now);
        }
        self.ready(&new);
        self.claimed(&new);
        self.environments.insert(key.to_owned(), new);
    }

    /// 16: Ready is said of what was seen serving only.
    fn ready(&mut self, environment: &Environment) {
        let ready = holds(&environment.status.conditions, ConditionType::Ready);
        if !ready || environment.is_deleting() {
            return;
        }
        let name = &environment.metadata.name;
        let Some(bay) = &environment.status.bay else {
            return self.violation(format!("16: {name} is Ready without a bay"));
        };
        let machine = self.bays.get(&bay.name).and_then(|it| it.status.machine.as_ref());
        let told = machine.and_then(|it| Some((it.id.clone()?, it.version.clone()?)));
        let Some(told) = told else {
            return self.violation(format!("16: {name} is Ready without a machine"));
        };
        if !self.served.contains(&told) {
            let (id, version) = told;
            self.violation(format!(
                "16: {name} is Ready, and machine {id} never served at version {version}"
            ));
        }
    }

    fn environment_gone(&mut self, key: &str) {
        let Some(old) = self.environments.remove(key) else { return };
        let (uid, name) = (&old.metadata.uid, &old.metadata.name);
        let left = self.apps.iter().filter(|(_, (of, _))| of == uid);
        // One that is being deleted can no longer be read, and goes by itself.
        let stays = |app: &str| self.census.apps.get(app).is_some_and(|it| !it.deleting);
        let left: Vec<_> = left.filter(|(app, _)| stays(app)).map(|it| it.0).collect();
        let alone = |it: &String| self.excused.contains(it) || self.given_up_apps.contains(it);
        let left: Vec<_> = left.into_iter().filter(|it| !alone(it)).collect();
        if !left.is_empty() {
            let what = format!("1: {name} was forgotten while Fly still has {left:?}");
            self.violation(what);
        }
    }

    fn bay(&mut self, key: &str, new: Bay) {
        let name = new.metadata.name.clone();
        let pool = new.spec.stock.as_ref().map(|it| format!("pool {}", it.pool));
        let unbound = (new.metadata.uid.clone(), pool.unwrap_or_else(|| name.clone()));
        let owner = new.spec.environment_ref.as_ref().map_or_else(
            // Until it is bound it is its own.
            || unbound.clone(),
            |of| (of.uid.clone(), of.name.clone()),
        );
        let old = self.bays.get(&name).cloned();
        self.claim(old.as_ref(), &new);
        match self.apps.get(&new.spec.app) {
            Some(before) if *before == unbound => {
                self.apps.insert(new.spec.app.clone(), owner);
            }
            Some(before) if *before != owner => {
                let what = format!("5: bay {name} was bound to {before:?} and is to {owner:?}");
                self.violation(what);
            }
            Some(_) => {}
            None => {
                self.apps.insert(new.spec.app.clone(), owner);
            }
        }
        if let Some(old) = old {
            if new.status.epoch < old.status.epoch {
                self.violation(format!("14: the epoch of bay {name} went back"));
            }
            let machine = |it: &Bay| it.status.machine.as_ref().and_then(|it| it.id.clone());
            // Shown to be gone when its successor was written down; that it shows after all undoes no order.
            let replaced = machine(&old).filter(|_| new.status.epoch > old.status.epoch);
            self.given_up.extend(replaced.filter(|it| self.shown.is_proven_absent(it)));
            let volume = |it: &Bay| it.status.volume.as_ref().map(|it| it.id.clone());
            let kept = |it: &String| self.used.contains(it) && !self.moved.contains(it);
            if volume(&old).as_ref().is_some_and(kept) && volume(&old) != volume(&new) {
                let what = format!(
                    "3: bay {name} had volume {:?} and has {:?}",
                    volume(&old),
                    volume(&new)
                );
                self.violation(what);
            }
        }
        if let Some(machine) = &new.status.machine
            && let Some(id) = &machine.id
        {
            self.had.insert(id.clone());
            if machine.destroying || machine.unreachable_since.is_some() {
                self.given_up.insert(id.clone());
            }
        }
        if self.bays.get(&name).is_none_or(|old| old.status.epoch != new.status.epoch) {
            self.changed_at.insert(name.clone(), self.now);
        }
        debug_assert!(key.ends_with(&name), "bays are stored under their names");
        self.bays.insert(name, new);
    }

    fn bay_gone(&mut self, key: &str) {
        let name = key.rsplit('/').next().unwrap_or_default();
        self.bays.remove(name);
    }
}
