//! Which objects files give, and what of a file is refused, with its place.

mod bad;

use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Only {
    #[command(flatten)]
    connection: Connection,
}

#[track_caller]
fn check(namespace: Option<&str>, text: &str) -> (Vec<String>, Vec<String>) {
    check_bytes(namespace, text.as_bytes())
}

#[track_caller]
fn check_bytes(namespace: Option<&str>, text: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut words = vec!["x"];
    words.extend(namespace.into_iter().flat_map(|it| ["-n", it]));
    let connection = Only::try_parse_from(words).unwrap().connection;
    let texts = vec![("f.yaml".to_owned(), text.to_vec())];
    let bundle = bundle(texts, &connection, Purpose::Declare);
    (
        bundle.items.iter().map(|it| it.object.store_key()).collect(),
        bundle.complaints.iter().map(ToString::to_string).collect(),
    )
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n";
const NAMESPACE: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team-a}\n";

#[test]
fn objects_come_in_the_registrys_order_and_in_the_right_namespace() {
    let (items, complaints) = check(None, &format!("{SECRET}{NAMESPACE}"));
    assert_eq!(items, ["namespaces//team-a", "secrets/default/keys"]);
    assert_eq!(complaints, <[&str; 0]>::default());
    assert_eq!(check(Some("team-a"), SECRET).0, ["secrets/team-a/keys"]);
}

#[test]
fn anything_wrong_refuses_the_whole_file() {
    let wrong = format!("{SECRET}---\napiVersion: v1\nkind: Pod\n---\nkind: Secret\n");
    let (items, complaints) = check(None, &wrong);
    assert_eq!(items, <[&str; 0]>::default());
    assert_eq!(complaints.len(), 2);
    assert!(complaints[0].starts_with("f.yaml:6: document 2: kind: `Pod` is not a kind"));
    assert_eq!(complaints[1], "f.yaml:8: document 3: apiVersion: must be there, and text");
}

#[test]
fn an_object_twice_is_refused() {
    let (items, complaints) = check(None, &format!("{SECRET}---\n{SECRET}"));
    assert_eq!(items, <[&str; 0]>::default());
    let expected = "f.yaml:7: document 2: metadata.name: secret/keys is already in f.yaml:1";
    assert_eq!(complaints, [expected]);
}

#[test]
fn another_namespace_than_asked_for_is_refused() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: keys\n  namespace: b\n";
    let expected =
        "f.yaml:5: document 1: metadata.namespace: `b` is not the namespace `a` that -n asks for";
    assert_eq!(check(Some("a"), text).1, [expected]);
    assert_eq!(check(None, text).0, ["secrets/b/keys"]);
}

#[test]
fn what_hangar_makes_itself_cannot_be_applied() {
    let text = "apiVersion: hangar.dev/v1alpha1\nkind: Bay\nmetadata: {name: x}\n";
    let expected = "f.yaml:2: document 1: kind: a Bay is made by hangar and cannot be applied";
    assert_eq!(check(None, text).1, [expected]);
}
