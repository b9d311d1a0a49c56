//! Whom news of a bay, a pool or a template concerns: the keys that are looked at again because of it. It must never decide what
//! follows from it.

use crate::api::{
    bay::Bay,
    kind::Kind,
    meta::{ObjectRef, Resource as _},
    template::Template,
};
use crate::reconcile::{Loop, index::Index};
use crate::store::Revision;

impl Loop {
    /// A bay that no environment has is looked at when it is new, or is to go; its pool counts whatever changed of it.
    pub(super) fn hear_bay(
        &mut self,
        bay: &Bay,
        at: Revision,
        index: &mut Index,
    ) -> Vec<ObjectRef> {
        let key = bay.object_ref();
        let pool = self.shared.stock().put(bay, at);
        let mut keys: Vec<_> = pool.into_iter().collect();
        if bay.spec.stock.is_none() {
            return keys;
        }
        let environment = bay.spec.environment_ref.as_ref();
        match environment.filter(|_| !bay.is_deleting()) {
            Some(of) => {
                let of = ObjectRef::new(Kind::Environment, &key.namespace, &of.name);
                index.bound(bay.spec.app.clone(), of);
            }
            None => index.bound(bay.spec.app.clone(), key.clone()),
        }
        // It gets no other generation but by being bound, and none of the rest of its changes is anything to act on.
        let seen = (bay.metadata.generation << 1) | u64::from(bay.is_deleting());
        if self.generations.insert(key.clone(), seen) != Some(seen) {
            keys.push(key);
        }
        keys
    }

    /// Whoever is made from a template looks again when its specification changed; it is looked at itself whatever did, since a
    /// person's word is an annotation.
    pub(super) fn hear_template(&mut self, template: &Template, index: &Index) -> Vec<ObjectRef> {
        let (key, metadata) = (template.object_ref(), &template.metadata);
        let news = (metadata.uid.clone(), metadata.generation, template.status.for_new());
        let before = self.templates.insert(key.clone(), news.clone());
        let mut keys = vec![key.clone()];
        match before {
            Some(before) if before == news => {}
            Some(before) if (&before.0, before.1) == (&news.0, news.1) => {
                keys.extend(self.shared.stock().pools_of(&key.namespace, &key.name));
            }
            Some(_) | None => keys.extend(self.users(&key, index)),
        }
        keys
    }

    /// Environments and pools of a template.
    fn users(&self, template: &ObjectRef, index: &Index) -> Vec<ObjectRef> {
        let (namespace, name) = (&template.namespace, &template.name);
        let pools = self.shared.stock().pools_of(namespace, name);
        [index.users("template", namespace, name), pools].concat()
    }

    /// What is to be looked at when this is gone.
    pub(super) fn gone(&mut self, key: &ObjectRef, index: &mut Index) -> Vec<ObjectRef> {
        self.generations.remove(key);
        match key.kind {
            Kind::Bay => {
                self.forget(key);
                let Some((app, pool)) = self.shared.stock().remove(key) else { return Vec::new() };
                index.unbound(&app, key);
                pool.into_iter().collect()
            }
            Kind::WarmPool => {
                let mut stock = self.shared.stock();
                let left = stock.remove_pool(key);
                self.shared.metrics.pool_bays(stock.counted());
                left
            }
            Kind::Template => {
                self.templates.remove(key);
                [self.users(key, index), vec![key.clone()]].concat()
            }
            _ => {
                index.remove(key);
                self.forget(key);
                self.shared.fleet().remove(key).into_iter().collect()
            }
        }
    }
}
