//! Unit tests: the forms, and cases that Kubernetes documents.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Conflict, Element, Manager, Managers, Operation, Set, Shape, merge, walk};
use crate::api::kind::Kind;

fn who(name: &str, operation: Operation) -> Manager {
    Manager {
        name: name.to_owned(),
        operation,
        api_version: "hangar.dev/v1alpha1".to_owned(),
        subresource: String::new(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn shape() -> &'static Shape {
    Shape::of(Kind::Template)
}

fn template(services: Value) -> Value {
    json!({
        "apiVersion": "hangar.dev/v1alpha1", "kind": "Template",
        "metadata": {"name": "node", "labels": {"a": "1"}},
        "spec": {"machine": {"image": "x:1"}, "services": services, "regions": ["ams", "fra"]},
    })
}

#[test]
fn what_is_applied_is_written_as_kubernetes_writes_it() {
    let object = template(json!([{"name": "web", "internalPort": 80}]));
    let mut managers = Managers::default();
    let (me, nothing) = (who("me", Operation::Apply), json!({}));
    managers.apply(shape(), (&me, at(0)), (&object, false), (&nothing, &object)).unwrap();
    assert_eq!(
        managers.list(),
        json!([{
            "manager": "me", "operation": "Apply", "apiVersion": "hangar.dev/v1alpha1",
            "time": "1970-01-01T00:00:00Z", "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {"f:a": {}}},
                "f:spec": {
                    "f:machine": {"f:image": {}},
                    "f:regions": {},
                    "f:services": {
                        "k:{\"name\":\"web\"}": {".": {}, "f:name": {}, "f:internalPort": {}},
                    },
                },
            },
        }])
    );
    assert_eq!(Managers::read(&managers.list()), Some(managers));
}

#[test]
fn sets_are_items_by_value_and_paths_are_shown_as_kubernetes_shows_them() {
    let environment = json!({"spec": {"hostnames": ["a", "b"], "secrets": [{"name": "s"}]}});
    let set = walk::applied(Shape::of(Kind::Environment), &environment);
    assert_eq!(
        set.to_fields(),
        json!({"f:spec": {
            "f:hostnames": {"v:\"a\"": {}, "v:\"b\"": {}},
            "f:secrets": {"k:{\"name\":\"s\"}": {".": {}, "f:name": {}}},
        }})
    );
    assert_eq!(
        set.paths(),
        [
            ".spec.hostnames[=\"a\"]",
            ".spec.hostnames[=\"b\"]",
            ".spec.secrets[name=\"s\"]",
            ".spec.secrets[name=\"s\"].name",
        ]
    );
}

#[test]
fn a_form_that_is_none_is_told() {
    for fields in [json!({"x:a": {}}), json!({"f:a": 1}), json!([]), json!({"k:1": {}})] {
        assert_eq!(Set::from_fields(&fields), None, "{fields}");
    }
    let others = json!({"f:a": {"i:0": {}, "v:1": {}, "k:{\"b\":1,\"a\":\"x\"}": {".": {}}}});
    let set = Set::from_fields(&others).unwrap();
    let a = set.get(&Element::field("a")).unwrap();
    assert!(!a.is_member && a.below.get(&Element::Index(0)).is_some());
    // Keys of a key have one order.
    assert!(a.below.get(&Element::Key("{\"a\":\"x\",\"b\":1}".to_owned())).is_some());
}

#[test]
fn an_item_of_a_list_is_merged_into_its_fellow_and_others_keep_their_places() {
    let before = json!([
        {"name": "a", "internalPort": 1}, {"name": "b", "internalPort": 2, "port": 9},
        {"name": "c", "internalPort": 3},
    ]);
    let applied = json!([
        {"name": "new", "internalPort": 4}, {"name": "b", "internalPort": 5},
    ]);
    let merged = merge::merge(shape(), &template(before), &template(applied));
    assert_eq!(
        merged["spec"]["services"],
        json!([
            {"name": "a", "internalPort": 1}, {"name": "new", "internalPort": 4},
            {"name": "b", "internalPort": 5, "port": 9}, {"name": "c", "internalPort": 3},
        ])
    );
    // Regions are in order of preference: the list is one value.
    let mut applied = template(json!([]));
    applied["spec"]["regions"] = json!(["iad"]);
    let merged = merge::merge(shape(), &template(json!([])), &applied);
    assert_eq!(merged["spec"]["regions"], json!(["iad"]));
}

#[test]
fn whoever_changes_a_field_of_anothers_is_in_conflict_until_it_takes_it() {
    let old = template(json!([{"name": "web", "internalPort": 80}]));
    let mut managers = Managers::default();
    let creator = who("kubectl-create", Operation::Update);
    managers.update(shape(), (&creator, at(0)), (&json!({}), &old));
    let applied = json!({"spec": {"services": [{"name": "web", "internalPort": 81}]}});
    let me = who("me", Operation::Apply);
    let new = managers.merged(shape(), &me, &old, &applied);
    let apply = |managers: &mut Managers, force| {
        managers.apply(shape(), (&me, at(1)), (&applied, force), (&old, &new))
    };
    let field = ".spec.services[name=\"web\"].internalPort";
    assert_eq!(
        apply(&mut managers, false),
        Err(vec![Conflict {
            manager: "\"kubectl-create\" using hangar.dev/v1alpha1".to_owned(),
            field: field.to_owned(),
        }])
    );
    apply(&mut managers, true).unwrap();
    let has = |name, operation| managers.fields(name, operation).iter().any(|it| it == field);
    assert!(has("me", Operation::Apply) && !has("kubectl-create", Operation::Update));
}

#[test]
fn an_object_goes_with_what_nobody_owns_in_it_but_metadata_loses_only_what_was_applied() {
    let me = who("me", Operation::Apply);
    let first = json!({
        "metadata": {"labels": {"mine": "1"}, "finalizers": ["x/mine"]},
        "spec": {"sleep": {"after": "5m"}, "machine": {"image": "x:1"}},
    });
    let mut old = first.clone();
    old["metadata"]["labels"]["other"] = json!("2");
    old["metadata"]["finalizers"] = json!(["x/mine", "x/other"]);
    old["spec"]["sleep"]["mode"] = json!("Stop");
    let mut managers = Managers::default();
    managers.apply(shape(), (&me, at(0)), (&first, false), (&json!({}), &old)).unwrap();
    let second = json!({"spec": {"machine": {"image": "x:1"}}});
    let merged = managers.merged(shape(), &me, &old, &second);
    assert_eq!(
        merged,
        json!({
            "metadata": {"labels": {"other": "2"}, "finalizers": ["x/other"]},
            "spec": {"machine": {"image": "x:1"}},
        })
    );
}

#[test]
fn applying_the_same_again_changes_no_time() {
    let object = template(json!([]));
    let me = who("me", Operation::Apply);
    let mut managers = Managers::default();
    managers.apply(shape(), (&me, at(0)), (&object, false), (&json!({}), &object)).unwrap();
    let before = managers.list();
    managers.apply(shape(), (&me, at(9)), (&object, false), (&object, &object)).unwrap();
    assert_eq!(managers.list(), before);
}

#[test]
fn many_updaters_are_kept_as_few_and_nothing_of_theirs_is_lost() {
    let mut managers = Managers::default();
    let mut object = json!({"metadata": {"labels": {}}});
    for number in 0..30 {
        let mut new = object.clone();
        new["metadata"]["labels"][format!("l{number}")] = json!("x");
        let writer = who(&format!("w{number}"), Operation::Update);
        managers.update(shape(), (&writer, at(number)), (&object, &new));
        object = new;
    }
    let list = managers.list();
    assert_eq!(list.as_array().unwrap().len(), 10);
    for number in 0..30 {
        let label = format!("\"f:l{number}\":");
        assert_eq!(list.to_string().matches(&label).count(), 1, "{label}");
    }
}
