//! The environments of each template as the store's feed tells of them, so that a template's pass reads none. It must never hold
//! an object.

use std::collections::{BTreeMap, HashMap};

use crate::api::{
    environment::Environment,
    kind::Kind,
    meta::{ObjectRef, Resource as _},
};
use crate::plan::rollout::FleetFact;
use crate::store::Revision;

/// The fleet.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    /// In order, so that turns are given alike in every run.
    of_template: HashMap<ObjectRef, BTreeMap<String, FleetFact>>,
    template_of: HashMap<ObjectRef, ObjectRef>,
    heard: Revision,
    written: Revision,
}

impl Fleet {
    /// Takes an environment in as it was at a revision of the store; the template that has something to decide because of that.
    pub(crate) fn put(&mut self, environment: &Environment, at: Revision) -> Option<ObjectRef> {
        self.heard = self.heard.max(at);
        let key = environment.object_ref();
        let template =
            ObjectRef::new(Kind::Template, &key.namespace, &environment.spec.template_ref.name);
        let fact = FleetFact::of(environment);
        let before = self.take_out(&key).map(|(_, it)| it);
        let is_news = before != fact;
        if let Some(fact) = fact {
            self.of_template.entry(template.clone()).or_default().insert(key.name.clone(), fact);
            self.template_of.insert(key, template.clone());
        }
        is_news.then_some(template)
    }

    /// Takes an environment out; the template that it was of.
    pub(crate) fn remove(&mut self, key: &ObjectRef) -> Option<ObjectRef> {
        self.take_out(key).map(|(template, _)| template)
    }

    fn take_out(&mut self, key: &ObjectRef) -> Option<(ObjectRef, FleetFact)> {
        let template = self.template_of.remove(key)?;
        let of = self.of_template.get_mut(&template)?;
        let fact = of.remove(&key.name)?;
        if of.is_empty() {
            self.of_template.remove(&template);
        }
        Some((template, fact))
    }

    /// The environments of a template; `None` while not all that was written for templates was heard of.
    pub(crate) fn of(&self, template: &ObjectRef) -> Option<Vec<FleetFact>> {
        if self.heard < self.written {
            return None;
        }
        Some(
            self.of_template
                .get(template)
                .into_iter()
                .flat_map(BTreeMap::values)
                .cloned()
                .collect(),
        )
    }

    /// An environment was written at this revision of the store.
    pub(crate) fn wrote(&mut self, at: Revision) {
        self.written = self.written.max(at);
    }

    /// A list that is true at this revision of the store was heard.
    pub(crate) fn listed(&mut self, at: Revision) {
        self.heard = self.heard.max(at);
    }
}
