//! What a manifest's text may look like, and where its fields are found.

use super::*;

const STREAM: &str = "\
# A comment first.
---
apiVersion: v1
kind: Namespace
metadata:
  name: team-a
---
# nothing here
---
apiVersion: hangar.dev/v1alpha1
kind: Template
metadata: {name: node, labels: {example.com/team: a}}
spec:
  machine:
    image: x:1
    guest:
      cpus: 1
      memory:
        5Mi
  services:
  - name: web
    internalPort: 8080
  - {name: debug,
     internalPort: 9000}
  regions: [ams,
            fra]
";

#[track_caller]
fn lines(text: &str, document: usize, expected: &[(&str, usize)]) {
    let documents = parse(text).unwrap();
    for (path, line) in expected {
        assert_eq!(documents[document].line_of(path), *line, "{path}");
    }
}

#[track_caller]
fn refused(text: &str, document: usize, line: usize, message: &str) {
    let error = parse(text).unwrap_err();
    assert_eq!((error.document, error.line), (document, line), "{error}");
    assert!(error.to_string().contains(message), "{error}");
}

#[test]
fn a_stream_is_read_document_by_document_and_empty_ones_are_passed_over() {
    let documents = parse(STREAM).unwrap();
    let found: Vec<_> = documents
        .iter()
        .map(|it| (it.index, it.line, it.value["kind"].as_str().unwrap()))
        .collect();
    assert_eq!(found, [(1, 3, "Namespace"), (3, 10, "Template")]);
    assert_eq!(documents[1].value["spec"]["services"][1]["internalPort"], 9000);
}

#[test]
fn fields_are_found_in_block_and_flow_style() {
    lines(
        STREAM,
        1,
        &[
            ("metadata.name", 12),
            ("metadata.labels.example.com/team", 12),
            ("spec", 13),
            ("spec.machine.guest.memory", 18),
            ("spec.services[0].internalPort", 22),
            ("spec.services.1.internalPort", 24),
            ("spec.regions[1]", 26),
        ],
    );
}

#[test]
fn a_field_that_is_not_there_is_found_at_its_nearest_parent() {
    lines(
        STREAM,
        1,
        &[
            ("spec.machine.guest.cpuKind", 16),
            ("spec.services[7].name", 20),
            ("spec.volume.size", 13),
            ("nothing", 10),
            ("", 10),
        ],
    );
}

#[test]
fn json_is_read_like_yaml() {
    let text =
        "{\n  \"kind\": \"Namespace\",\n  \"metadata\": {\n    \"name\": \"a/\\u00e4\"\n  }\n}\n";
    lines(text, 0, &[("metadata.name", 4)]);
    assert_eq!(parse(text).unwrap()[0].value["metadata"]["name"], "a/ä");
}

#[test]
fn the_items_of_a_list_are_documents() {
    let text =
        "kind: List\napiVersion: v1\nitems:\n- kind: A\n  metadata:\n    name: x\n- kind: B\n";
    let documents = parse(text).unwrap();
    assert_eq!(documents.len(), 2);
    lines(text, 0, &[("", 4), ("metadata.name", 6)]);
    lines(text, 1, &[("kind", 7)]);
}

#[test]
fn a_key_that_is_there_twice_is_refused_with_both_lines() {
    refused("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n", 1, 5, "`b.c` is there twice, first on line 3");
    refused("a: 1\n---\n{x: 1, 'x': 2}\n", 2, 3, "`x` is there twice");
}

#[test]
fn keys_that_are_not_text_are_refused() {
    refused("spec:\n  env:\n    1: x\n", 1, 3, "the key `1` is not text");
    refused("true: x\n", 1, 1, "the key `true`");
    refused("? [a]\n: b\n", 1, 1, "not text");
    assert_eq!(parse("\"1\": x\n").unwrap()[0].value["1"], "x");
    assert_eq!(parse("on: yes\n").unwrap()[0].value["on"], "yes");
}

#[test]
fn text_that_is_not_yaml_is_refused_with_its_line() {
    refused("a: 1\n---\nb:\n - c\n d\n", 2, 6, "not YAML");
    refused("a: [1, 2\n", 1, 2, "not YAML");
    refused("a: 1\n---\n- b\n", 2, 3, "not an object");
    refused("just text\n", 1, 1, "not an object");
    refused("a: !secret x\n", 1, 1, "the tag `!secret`");
}

#[test]
fn aliases_work_and_are_bounded() {
    let text = "base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nsame: *b\n";
    let value = &parse(text).unwrap()[0].value;
    assert_eq!(value["use"], serde_json::json!({"y": 3, "x": 1}));
    assert_eq!(value["same"], value["base"]);
    let text = "é: &u 1\r\n\r\nß: [*u, &a-1 !!str 2, !!map &o {}, *a-1]\r\n";
    let value = &parse(text).unwrap()[0].value;
    assert_eq!(value["ß"], serde_json::json!([1, "2", {}, "2"]));

    let mut bomb = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x]".to_owned()];
    for level in 1..12 {
        let under = vec![format!("*a{}", level - 1); 9];
        bomb.push(format!("a{level}: &a{level} [{}]", under.join(", ")));
    }
    let bomb = bomb.join("\n");
    refused(&bomb, 1, 6, "its aliases stand for more than 1 MiB");
}

#[test]
fn depth_is_bounded_too() {
    let deep = format!("a: {}{}\n", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&deep).is_err());
    refused(&"- ".repeat(100_000), 1, 1, "deeper than 100 levels");
    let deep: String = (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    assert!(parse(&deep).is_err());
}

#[test]
fn an_object_says_which_kind_it_is() {
    let kind = |api_version: &str, kind: &str| {
        kind_of(&serde_json::json!({"apiVersion": api_version, "kind": kind}))
            .map_err(|it| format!("{}: {}", it.field, it.message))
    };
    assert_eq!(kind("hangar.dev/v1alpha1", "Environment"), Ok(Kind::Environment));
    assert_eq!(
        kind("hangar.dev/v1", "Environment").unwrap_err(),
        "apiVersion: `hangar.dev/v1` has no Environment: write hangar.dev/v1alpha1"
    );
    assert!(kind("v1", "Pod").unwrap_err().starts_with("kind: `Pod` is not a kind"));
    assert!(kind("", "Pod").unwrap_err().starts_with("apiVersion: must be there"));
}
