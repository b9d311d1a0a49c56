//! Server-side apply by kubectl, as rows of the matrix: objects made and changed, managers that meet, and the way there from
//! client-side apply.

use crate::{
    kubectl::Kubectl,
    matrix::{
        Row,
        Then::{Done, Gone, Is, Lacks, Prints, There},
        Who::{Each, Newest},
        row, walk,
    },
};

const APPLIED: &str = "environments/applied";
const OWNER: &str = "/spec/owner";

const ROWS: &[Row] = &[
    row(Each, "apply -f template.yaml --server-side", 0, There("templates/node")),
    // Make, and again.
    row(Each, "apply -f applied.yaml --server-side --dry-run=server", 0, Gone(APPLIED)),
    row(Newest, "diff -f applied.yaml --server-side", 1, Prints(&["applied"])),
    row(Each, "apply -f applied.yaml --server-side", 0, Is(APPLIED, "/spec/env/A", "\"1\"")),
    row(Each, "apply -f applied.yaml --server-side", 0, Is(APPLIED, "/metadata/generation", "1")),
    row(Each, "diff -f applied.yaml --server-side", 0, Done),
    row(Each, "diff -f applied-2.yaml --server-side", 1, Prints(&["B:"])),
    row(Each, "apply -f wrong.yaml --server-side", 1, Gone("environments/wrong")),
    // Drop and add fields.
    row(
        Each,
        "apply -f applied-2.yaml --server-side",
        0,
        Is(APPLIED, "/spec/env", "{\"B\":\"2\"}"),
    ),
    row(Each, "get env applied -o name", 0, Prints(&["applied"])),
    row(Newest, "apply -f applied-2.yaml --server-side", 0, Lacks(APPLIED, "/metadata/labels")),
    // A second manager beside the first.
    row(
        Each,
        "apply -f other.yaml --server-side --field-manager=other",
        0,
        Is(APPLIED, "/spec/env", "{\"B\":\"2\",\"C\":\"3\"}"),
    ),
    row(
        Each,
        "apply -f applied.yaml --server-side",
        0,
        Is(APPLIED, "/spec/hostnames", "[\"one\",\"two\"]"),
    ),
    row(Each, "get env applied -o yaml", 0, Prints(&["two"])),
    row(
        Each,
        "get env applied -o yaml --show-managed-fields",
        0,
        Prints(&["manager: other", "operation: Apply", "f:env", "v:\"two\""]),
    ),
    // One against another.
    row(
        Each,
        "apply -f against.yaml --server-side --field-manager=against",
        1,
        Is(APPLIED, OWNER, "\"a@example.com\""),
    ),
    row(
        Each,
        "diff -f against.yaml --server-side --field-manager=against --force-conflicts",
        1,
        Prints(&["c@example.com"]),
    ),
    row(
        Each,
        "apply -f against.yaml --server-side --field-manager=against --force-conflicts",
        0,
        Is(APPLIED, OWNER, "\"c@example.com\""),
    ),
    row(Each, "apply -f applied.yaml --server-side", 1, Is(APPLIED, OWNER, "\"c@example.com\"")),
    row(
        Each,
        "apply -f applied.yaml --server-side --force-conflicts",
        0,
        Is(APPLIED, OWNER, "\"a@example.com\""),
    ),
    // Other writes make owners too.
    row(Each, "label env applied team=b --overwrite", 0, Done),
    row(
        Each,
        "apply -f applied.yaml --server-side",
        1,
        Is(APPLIED, "/metadata/labels/team", "\"b\""),
    ),
    // From client-side apply: what it owned is the server-side manager's afterwards, and goes when that drops it.
    row(Each, "apply -f demo-2.yaml", 0, Is("environments/demo", "/spec/env/A", "\"2\"")),
    row(
        Each,
        "apply -f demo-2.yaml --server-side",
        0,
        Is("environments/demo", "/spec/env/A", "\"2\""),
    ),
    row(Each, "apply -f demo.yaml --server-side", 0, Lacks("environments/demo", "/spec/env")),
    row(
        Each,
        "get env demo -o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields",
        0,
        Prints(&["kubectl"]),
    ),
    row(Newest, "apply -f demo-2.yaml", 0, Is("environments/demo", "/spec/env/A", "\"2\"")),
    // Kubernetes' own kinds.
    row(
        Each,
        "apply -f settings.yaml --server-side",
        0,
        Is("configmaps/applied", "/data", "{\"a\":\"1\"}"),
    ),
    row(
        Each,
        "apply -f settings-2.yaml --server-side",
        0,
        Is("configmaps/applied", "/data", "{\"b\":\"2\"}"),
    ),
    row(
        Each,
        "apply -f opaque.yaml --server-side",
        0,
        Is("secrets/opaque", "/data/K", "\"aGlkZGVu\""),
    ),
    row(Newest, "apply -f lease.yaml --server-side", 0, There("leases/lead")),
];

#[tokio::test]
async fn server_side_apply_does_what_it_does_on_kubernetes() {
    walk(ROWS, &Kubectl::all(), true).await;
}

#[tokio::test]
async fn older_versions_apply_the_same() {
    walk(ROWS, Kubectl::all().get(1..).unwrap_or_default(), false).await;
}
