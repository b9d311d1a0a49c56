//! Manifests that must be refused: each as it is written, and the whole complaint.

use super::*;

/// An environment up to its `spec`, whose last line is 5.
const ENV: &str = "apiVersion: hangar.dev/v1alpha1\nkind: Environment\nmetadata: {name: alice}\nspec:\n  templateRef: {name: node}\n";
/// A template up to its machine, whose last line is 8.
const TEMPLATE: &str = "apiVersion: hangar.dev/v1alpha1\nkind: Template\nmetadata: {name: node}\nspec:\n  regions: [ams]\n  machine:\n    image: hangar.dev/sample-app:1\n    stopTimeout: 5s\n";
/// A secret up to its data, whose last line is 3.
const KEYS: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n";

/// What follows a beginning, and what is complained about: `line: [document N: ]message`.
const BAD: &[(&str, &str, &str)] = &[
    // Fields that are there twice.
    (ENV, "  owner: a\n  owner: b\n", "7: `spec.owner` is there twice, first on line 6"),
    (
        ENV,
        "  env:\n    A: '1'\n    B: '2'\n    A: '3'\n",
        "9: `spec.env.A` is there twice, first on line 7",
    ),
    (ENV, "  env: {A: '1', 'A': '2'}\n", "6: `spec.env.A` is there twice, first on line 6"),
    (ENV, "  env: {A: '1', \"\\x41\": '2'}\n", "6: `spec.env.A` is there twice, first on line 6"),
    (ENV, "spec: {}\n", "6: `spec` is there twice, first on line 4"),
    (
        "",
        "kind: Secret\nmetadata:\n  labels: {team: a, team: b}\n",
        "3: `metadata.labels.team` is there twice, first on line 3",
    ),
    (KEYS, "data: {K: YQ==, K: Yg==}\n", "4: `data.K` is there twice, first on line 4"),
    (
        TEMPLATE,
        "  services:\n  - name: web\n    internalPort: 1\n    internalPort: 2\n",
        "12: `spec.services[0].internalPort` is there twice, first on line 11",
    ),
    (ENV, "  <<: {owner: a}\n  <<: {owner: b}\n", "7: `spec.<<` is there twice, first on line 6"),
    // Values that are not text where text must be.
    (
        ENV,
        "  env: {PORTS: 8080}\n",
        "6: spec.env.PORTS: it is a number and must be text: put it in quotes",
    ),
    (
        ENV,
        "  env: {RATE: 1.5}\n",
        "6: spec.env.RATE: it is a number and must be text: put it in quotes",
    ),
    (
        ENV,
        "  env: {MASK: 0x1F}\n",
        "6: spec.env.MASK: it is a number and must be text: put it in quotes",
    ),
    (
        ENV,
        "  env:\n    DEBUG: true\n",
        "7: spec.env.DEBUG: it is true or false and must be text: put it in quotes",
    ),
    (
        ENV,
        "  env: {X: ~}\n",
        "6: spec.env.X: it is null and must be text: put it in quotes, or leave it out",
    ),
    (
        ENV,
        "  env:\n    X:\n",
        "7: spec.env.X: it is null and must be text: put it in quotes, or leave it out",
    ),
    (ENV, "  env: {X: [a]}\n", "6: spec.env.X: it is a list and must be text"),
    (ENV, "  env: {X: {a: b}}\n", "6: spec.env.X: it is an object and must be text"),
    (
        TEMPLATE,
        "    env: {DEBUG: false}\n",
        "9: spec.machine.env.DEBUG: it is true or false and must be text: put it in quotes",
    ),
    (
        KEYS,
        "stringData: {PIN: 12345}\n",
        "4: stringData.PIN: it is a number and must be text: put it in quotes",
    ),
    (
        KEYS,
        "data: {PIN: 12345}\n",
        "4: data.PIN: it is a number and must be text: put it in quotes",
    ),
    (KEYS, "data: hunter2\n", "4: data: it is text and must be an object"),
    (
        "",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {year: 2026}}\n",
        "3: metadata.labels.year: it is a number and must be text: put it in quotes",
    ),
    (
        "",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: 123\n",
        "4: metadata.name: it is a number and must be text: put it in quotes",
    ),
    (
        "",
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ~\n",
        "4: metadata.name: it must be given",
    ),
    (
        "",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: 7}\n",
        "3: metadata.namespace: it is a number and must be text: put it in quotes",
    ),
    ("", "apiVersion: v1\nkind: true\n", "2: kind: must be there, and text"),
    (ENV, "  owner: 42\n", "6: spec.owner: it is a number and must be text: put it in quotes"),
    (
        TEMPLATE,
        "    guest: {memory: 1024}\n",
        "9: spec.machine.guest.memory: it is a number and must be text: put it in quotes",
    ),
    (
        TEMPLATE,
        "    guest: {cpus: '2'}\n",
        "9: spec.machine.guest.cpus: it is text and must be a whole number: write it without quotes",
    ),
    (
        TEMPLATE,
        "    guest: {cpus: .inf}\n",
        "9: a number that is infinite or too large: put it in quotes if it is text",
    ),
    (
        TEMPLATE,
        "    guest: {cpus: .nan}\n",
        "9: a number that is infinite or too large: put it in quotes if it is text",
    ),
    (
        ENV,
        "  owner: 123456789012345678901234567890\n",
        "6: a number that is infinite or too large: put it in quotes if it is text",
    ),
    // Control characters.
    (ENV, "  env: {X: \"a\\0b\"}\n", "6: spec.env.X: it has the control character U+0000"),
    (ENV, "  env: {X: \"\\r\"}\n", "6: spec.env.X: it has the control character U+000D"),
    (ENV, "  env: {X: \"\\x7f\"}\n", "6: spec.env.X: it has the control character U+007F"),
    (ENV, "  env: {X: \"\\N\"}\n", "6: spec.env.X: it has the control character U+0085"),
    (ENV, "  env: {X: \"\\x9b2J\"}\n", "6: spec.env.X: it has the control character U+009B"),
    (ENV, "  env: {\"X\\e\": a}\n", "6: spec.env.X : its name has the control character U+001B"),
    (ENV, "  owner: \"a\\nb\"\n", "6: spec.owner: it has the control character U+000A"),
    (
        ENV,
        "  hostnames: [alice, \"al\\tice\"]\n",
        "6: spec.hostnames[1]: it has the control character U+0009",
    ),
    (
        TEMPLATE,
        "    command: [sh, \"-c\", \"echo \\a\"]\n",
        "9: spec.machine.command[2]: it has the control character U+0007",
    ),
    (
        TEMPLATE,
        "    files: [{path: \"/a\\0\", content: \"b\\0\"}]\n",
        "9: spec.machine.files[0].path: it has the control character U+0000 & \
         9: spec.machine.files[0].content: it has the control character U+0000",
    ),
    (KEYS, "stringData: {K: \"a\\0\"}\n", "4: stringData.K: it has the control character U+0000"),
    (
        KEYS,
        "data: {K: AGE=}\n",
        "4: data.K: machines get it as a variable, so it must be UTF-8 without NUL",
    ),
    (
        KEYS,
        "data: {K: /w==}\n",
        "4: data.K: machines get it as a variable, so it must be UTF-8 without NUL",
    ),
    (
        "",
        "apiVersion: v1\nkind: \"Pod\\e[2J\"\n",
        "2: kind: `Pod [2J` is not a kind that can be applied: those are Namespace, ResourceQuota, Secret, ConfigMap, Template, WarmPool, Environment, Event, Lease, AccessToken",
    ),
    (ENV, "  owner: a\x07b\n", "6: the control character U+0007 is in it"),
    (ENV, "  owner: a\r  region: fra\r\n", "6: the control character U+000D is in it"),
    // What two readers understand in two ways.
    (
        ENV,
        "  owner: a\u{2028}  region: fra\n",
        "6: not YAML: mapping values are not allowed in this context",
    ),
    (ENV, "  owner: a # \u{85}  region: fra\n", "6: the control character U+0085 is in it"),
    (
        ENV,
        "  owner: \"a\u{2028}   b\"\n",
        "6: it can be read in two ways: write it more plainly, in quotes",
    ),
    (
        ENV,
        "# \u{2028}---\u{2028}kind: Secret\n",
        "6: document 2: it can be read in two ways: write it more plainly, in quotes",
    ),
    (
        ENV,
        "  env: {A: &x a, B: &x b, C: &y c, D: *x}\n",
        "6: the anchor `&x` is there twice: give them different names",
    ),
    (ENV, "  owner: !!binary YQ==\n", "6: the tag `!!binary` means nothing here"),
    (ENV, "  env: {? [A] : b}\n", "6: the key `{…}` is not text: put it in quotes"),
    (ENV, "  env: {A: &a B, *a : c}\n", "6: the key `*…` is not text: put it in quotes"),
    (
        ENV,
        "  env: {$serde_json::private::RawValue: '{}'}\n",
        "6: spec.env.$serde_json::private::RawValue: no field has such a name",
    ),
    // Later documents.
    (
        KEYS,
        "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a, name: b}\n",
        "7: document 2: `metadata.name` is there twice, first on line 7",
    ),
    (
        KEYS,
        "---\n- 1\n",
        "5: document 2: not an object: write `apiVersion`, `kind` and `metadata` at the left margin",
    ),
    (
        KEYS,
        "---\na: b: c\n",
        "5: document 2: not YAML: mapping values are not allowed in this context",
    ),
];

#[test]
fn each_is_refused_whole_and_its_place_is_told() {
    for (before, rest, expected) in BAD {
        let told = |it: &str| {
            let (line, rest) = it.split_once(": ").unwrap();
            let document = if rest.starts_with("document ") { "" } else { "document 1: " };
            format!("f.yaml:{line}: {document}{rest}")
        };
        let expected: Vec<_> = expected.split(" & ").map(told).collect();
        let (items, complaints) = check(None, &format!("{before}{rest}"));
        assert_eq!((items, complaints), (Vec::new(), expected), "{rest}");
    }
}

#[test]
fn text_of_several_lines_is_taken_where_programs_read_it() {
    let text = format!(
        "{ENV}  env:\n    KEY: |\n      -----BEGIN\n      x\t\n---\n{TEMPLATE}    command: [sh, \"-c\", \"a\\n\\tb\"]\n    files:\n    - path: /a\n      content: \"b\\n\"\n---\n{KEYS}stringData: {{K: \"a\\nb\"}}\n"
    );
    let (items, complaints) = check(None, &text);
    assert_eq!(complaints, <[&str; 0]>::default());
    assert_eq!(items.len(), 3);
}

#[test]
fn what_is_too_large_is_refused_before_it_costs_anything() {
    #[track_caller]
    fn refused(text: impl AsRef<[u8]>, expected: &str) {
        let complaints = check_bytes(None, text.as_ref()).1;
        assert_eq!(complaints, [expected]);
    }
    let long = format!("{ENV}  env: {{A: {}}}\n", "a".repeat(256 * 1024));
    refused(&long, "f.yaml:1: document 1: the object has more than 256 KiB");
    let listed = format!("kind: List\nitems:\n- {}", long.trim_end().replace('\n', "\n  "));
    refused(listed, "f.yaml:3: document 1: the object has more than 256 KiB");
    let many = format!("{KEYS}---\n").repeat(80_000);
    refused(many, "f.yaml:1: document 1: the file has more than 4 MiB: split it");
    refused(b"a: 1\nb: \xff\n", "f.yaml:2: document 1: not UTF-8");
    refused(
        "\u{feff}a: 1".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
        "f.yaml:1: document 1: not UTF-8",
    );
    // Ten thousand aliases of something long: few words, gigabytes.
    let base = format!("base: &b {}\nmore: [", "x".repeat(100_000));
    refused(
        base + &"*b,".repeat(10_000) + "]\n",
        "f.yaml:2: document 1: its aliases stand for more than 1 MiB: write out what is meant",
    );
    refused("a: [".repeat(100_000), "f.yaml:1: document 1: deeper than 100 levels");
    // An object with as many fields as fit: each is looked up, not searched for.
    let wide: String = (0..30_000).map(|it| format!("f{it}: 1\n")).collect();
    refused(wide, "f.yaml:1: document 1: apiVersion: must be there, and text");
}
