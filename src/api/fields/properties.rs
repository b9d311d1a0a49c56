//! What must be so of any configurations that any managers apply in any order, as properties of drawn ones.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Conflict, Manager, Managers, Operation, Shape};
use crate::api::kind::Kind;

const KIND: Kind = Kind::Environment;

/// One of a few values of one of a few fields, so that configurations meet.
fn configuration() -> impl Strategy<Value = Value> {
    let texts = proptest::collection::btree_map("[a-c]", "[12]", 0..3);
    let names = proptest::collection::btree_set("[a-c]", 0..3);
    let secrets = proptest::collection::btree_set("[a-c]", 0..3);
    let owner = proptest::option::of("[xy]");
    let lifetime = proptest::option::of("[12]h");
    (texts.clone(), texts, names, secrets, owner, lifetime).prop_map(
        |(labels, env, hostnames, secrets, owner, lifetime)| {
            let mut spec = Map::new();
            let secrets: Vec<_> = secrets.iter().map(|it| json!({"name": it})).collect();
            spec.insert("env".to_owned(), json!(env));
            spec.insert("hostnames".to_owned(), json!(hostnames));
            spec.insert("secrets".to_owned(), json!(secrets));
            spec.insert("owner".to_owned(), json!(owner));
            if let Some(lifetime) = lifetime {
                spec.insert("lifetime".to_owned(), json!({"expiresAfter": lifetime}));
            }
            spec.retain(|_, value| !is_empty(value));
            let mut object = json!({"metadata": {"labels": labels}, "spec": spec});
            if is_empty(&object["metadata"]["labels"]) {
                object["metadata"] = json!({});
            }
            object
        },
    )
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty)
}

/// One object and its managers.
#[derive(Debug, Clone)]
struct World {
    object: Value,
    managers: Managers,
}

impl World {
    fn new() -> Self {
        Self { object: json!({"metadata": {}, "spec": {}}), managers: Managers::default() }
    }

    fn apply(
        &mut self,
        name: &str,
        configuration: &Value,
        force: bool,
    ) -> Result<(), Vec<Conflict>> {
        let (shape, who) = (Shape::of(KIND), manager(name, Operation::Apply));
        let mut new = self.managers.merged(shape, &who, &self.object, configuration);
        tidied(&mut new);
        let (when, objects) = ((&who, Timestamp::UNIX_EPOCH), (&self.object, &new));
        self.managers.apply(shape, when, (configuration, force), objects)?;
        self.object = new;
        Ok(())
    }

    fn update(&mut self, name: &str, new: Value) {
        let who = manager(name, Operation::Update);
        let who = (&who, Timestamp::UNIX_EPOCH);
        self.managers.update(Shape::of(KIND), who, (&self.object, &new));
        self.object = new;
    }

    fn owners(&self, path: &str) -> usize {
        let list = self.managers.list();
        let entries = list.as_array().unwrap().iter();
        let sets = entries.map(|it| super::Set::from_fields(&it["fieldsV1"]).unwrap());
        sets.filter(|set| set.paths().iter().any(|it| it == path)).count()
    }
}

fn manager(name: &str, operation: Operation) -> Manager {
    Manager {
        name: name.to_owned(),
        operation,
        api_version: "hangar.dev/v1alpha1".to_owned(),
        subresource: String::new(),
    }
}

/// As admission stores it: what is empty is left out, but for the two that are always there.
fn tidied(object: &mut Value) {
    for part in ["metadata", "spec"] {
        let fields = object.as_object_mut().unwrap();
        let part = fields.entry(part).or_insert_with(|| json!({}));
        part.as_object_mut().unwrap().retain(|_, value| !is_empty(value));
    }
}

/// Every leaf with its value, lists without their order.
fn leaves(object: &Value) -> Vec<(String, Value)> {
    fn walk(path: &str, value: &Value, all: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, it)| walk(&format!("{path}.{key}"), it, all));
            }
            Value::Array(items) => {
                items.iter().for_each(|it| all.push((format!("{path}[{it}]"), it.clone())));
            }
            leaf => all.push((path.to_owned(), leaf.clone())),
        }
    }
    let mut all = Vec::new();
    walk("", object, &mut all);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn has(object: &Value, leaf: &(String, Value)) -> bool {
    leaves(object).contains(leaf)
}

fn mentions(object: &Value, path: &str) -> bool {
    leaves(object).iter().any(|(it, _)| it == path)
}

proptest! {
    #[test]
    fn an_apply_is_idempotent(before in configuration(), a in configuration()) {
        let mut world = World::new();
        world.update("someone", before);
        world.apply("a", &a, true).unwrap();
        let (object, managers) = (world.object.clone(), world.managers.list());
        world.apply("a", &a, false).unwrap();
        prop_assert_eq!(&world.object, &object);
        prop_assert_eq!(world.managers.list(), managers);
        for leaf in leaves(&a) {
            prop_assert!(has(&world.object, &leaf), "{:?}", leaf);
        }
    }

    #[test]
    fn what_one_owns_alone_and_drops_is_gone_and_what_two_own_stays(
        a in configuration(), b in configuration(), then in configuration(),
    ) {
        let mut world = World::new();
        world.apply("a", &a, false).unwrap();
        if world.apply("b", &b, false).is_err() {
            return Ok(());
        }
        if world.apply("a", &then, false).is_err() {
            return Ok(());
        }
        for leaf in leaves(&a).iter().filter(|it| !mentions(&then, &it.0)) {
            prop_assert_eq!(has(&world.object, leaf), has(&b, leaf), "{:?}", leaf);
        }
    }

    #[test]
    fn without_conflicts_the_order_of_two_appliers_does_not_matter(
        a in configuration(), b in configuration(),
    ) {
        let (mut one, mut other) = (World::new(), World::new());
        one.apply("a", &a, false).unwrap();
        other.apply("b", &b, false).unwrap();
        let (first, second) = (one.apply("b", &b, false), other.apply("a", &a, false));
        prop_assert_eq!(first.is_ok(), second.is_ok());
        if first.is_ok() {
            prop_assert_eq!(leaves(&one.object), leaves(&other.object));
            prop_assert_eq!(one.managers.list(), other.managers.list());
        }
    }

    #[test]
    fn force_leaves_one_owner_of_what_was_in_conflict(
        a in configuration(), b in configuration(),
    ) {
        let mut world = World::new();
        world.update("a", a);
        let Err(conflicts) = world.clone().apply("b", &b, false) else { return Ok(()) };
        world.apply("b", &b, true).unwrap();
        for conflict in conflicts {
            prop_assert_eq!(world.owners(&conflict.field), 1, "{}", conflict.field);
        }
    }

    #[test]
    fn nothing_is_lost_that_nobody_mentioned(
        before in configuration(), a in configuration(), then in configuration(),
    ) {
        let mut world = World::new();
        world.update("someone", before.clone());
        world.apply("a", &a, true).unwrap();
        world.apply("a", &then, true).unwrap();
        let silent = |it: &&(String, Value)| !mentions(&a, &it.0) && !mentions(&then, &it.0);
        for leaf in leaves(&before).iter().filter(silent) {
            prop_assert!(has(&world.object, leaf), "{:?}", leaf);
        }
    }

    #[test]
    fn owners_are_read_as_they_were_written(before in configuration(), a in configuration()) {
        let mut world = World::new();
        world.update("someone", before);
        world.apply("a", &a, true).unwrap();
        let list = world.managers.list();
        prop_assert_eq!(Managers::read(&list).unwrap().list(), list);
    }
}
