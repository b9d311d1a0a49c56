//! The verb matrix: what kubectl is told, how it must end, and what must then be so. Rows follow one another on one server:
//! what a row makes, later rows use. Checks look at objects and data, never at sentences.

use serde_json::Value;

use crate::{files, kubectl::Kubectl, server::Hangar};

/// One thing that kubectl is told to do.
pub(crate) struct Row {
    /// Which versions do it.
    who: Who,
    line: &'static str,
    code: i32,
    then: Then,
}

/// Which versions run a row.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Who {
    /// All of them.
    Each,
    /// The newest, which runs the whole matrix.
    Newest,
    /// All from this minor version on, which has learnt it.
    Since(u32),
}

/// What is so after a row.
pub(crate) enum Then {
    /// Nothing that could be seen.
    Done,
    /// These words are in what was printed.
    Prints(&'static [&'static str]),
    /// At this pointer in this object is this JSON.
    Is(&'static str, &'static str, &'static str),
    /// In this object nothing is at this pointer.
    Lacks(&'static str, &'static str),
    /// The object is there.
    There(&'static str),
    /// It is not.
    Gone(&'static str),
}

use Then::{Done, Gone, Is, Lacks, Prints, There};
use Who::{Each, Newest, Since};

pub(crate) const fn row(who: Who, line: &'static str, code: i32, then: Then) -> Row {
    Row { who, line, code, then }
}

const ROWS: &[Row] = &[
    // What there is.
    row(Each, "version -o json", 0, Prints(&["serverVersion"])),
    row(Each, "api-versions", 0, Prints(&["hangar.dev/v1alpha1", "v1"])),
    row(
        Each,
        "api-resources",
        0,
        Prints(&["environments", "hangar.dev/v1alpha1", "tmpl", "Secret"]),
    ),
    row(
        Newest,
        "api-resources --categories=hangar --verbs=list -o name",
        0,
        Prints(&["bays.hangar.dev"]),
    ),
    row(Since(27), "explain env", 0, Prints(&["KIND", "Environment", "spec"])),
    row(Since(27), "explain env.spec --recursive", 0, Prints(&["templateRef", "operatingMode"])),
    row(Newest, "explain template.spec.machine.guest", 0, Prints(&["memory"])),
    row(Newest, "explain secret.data", 0, Prints(&["data"])),
    row(Newest, "explain env.spec.nothing", 1, Done),
    // Apply.
    row(Each, "apply -f template.yaml", 0, There("templates/node")),
    row(Each, "apply -f demo.yaml", 0, Is("environments/demo", "/metadata/generation", "1")),
    row(Each, "apply -f demo.yaml", 0, Is("environments/demo", "/metadata/generation", "1")),
    row(Each, "apply -f demo-2.yaml", 0, Is("environments/demo", "/spec/env/A", "\"2\"")),
    row(Each, "apply -f demo.yaml", 0, Lacks("environments/demo", "/spec/env")),
    row(Each, "apply -f wrong.yaml", 1, Gone("environments/wrong")),
    row(Newest, "apply -f invalid.yaml", 1, Gone("environments/invalid")),
    row(
        Since(27),
        "apply -f warned.yaml --validate=warn",
        0,
        Lacks("environments/warned", "/spec/regoin"),
    ),
    row(
        Since(27),
        "apply -f ignored.yaml --validate=ignore",
        0,
        Lacks("environments/ignored", "/spec/regoin"),
    ),
    row(Since(27), "apply -f dry.yaml --dry-run=server", 0, Gone("environments/dry")),
    row(Newest, "apply -f dry.yaml --dry-run=client", 0, Gone("environments/dry")),
    row(Newest, "apply -f elsewhere.yaml", 1, Done),
    row(Newest, "apply view-last-applied env demo", 0, Prints(&["templateRef"])),
    row(Newest, "apply set-last-applied -f demo-2.yaml", 0, Done),
    row(Newest, "apply -f demo.yaml", 0, Lacks("environments/demo", "/spec/env")),
    row(Newest, "apply -k built", 0, There("environments/built-k")),
    row(Newest, "apply -f pruned.yaml -f kept.yaml", 0, There("environments/pruned")),
    row(
        Newest,
        "apply -f kept.yaml --prune -l prune=yes --prune-allowlist=hangar.dev/v1alpha1/Environment",
        0,
        There("environments/kept"),
    ),
    row(Newest, "wait --for=delete env/pruned --timeout=60s", 0, Gone("environments/pruned")),
    // Diff.
    row(Since(27), "diff -f demo.yaml", 0, Done),
    row(Since(27), "diff -f demo-2.yaml", 1, Prints(&["A:"])),
    row(Newest, "diff -f dry.yaml", 1, Prints(&["dry"])),
    // Create, replace, edit.
    row(Each, "create -f made.yaml --save-config", 0, There("environments/made")),
    row(Each, "create -f made.yaml", 1, There("environments/made")),
    row(Newest, "create -f drawn.yaml -o name", 0, Prints(&["environment.hangar.dev/drawn-"])),
    // What the controller still writes of its status would make another write come too late.
    row(Each, "wait --for=condition=Ready env/made --timeout=60s", 0, Done),
    row(Each, "replace -f again.yaml", 0, Is("environments/made", "/spec/env/AGAIN", "\"yes\"")),
    row(
        Newest,
        "replace --force -f made.yaml",
        0,
        Is("environments/made", "/metadata/generation", "1"),
    ),
    row(
        Each,
        "KUBE_EDITOR=sed_-i_s/a@example.com/b@example.com/ edit env made",
        0,
        Is("environments/made", "/spec/owner", "\"b@example.com\""),
    ),
    // Patches.
    row(
        Each,
        "patch env demo --type=merge -p {\"spec\":{\"env\":{\"B\":\"1\"}}}",
        0,
        Is("environments/demo", "/spec/env/B", "\"1\""),
    ),
    row(
        Newest,
        "patch env demo --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/env\"}]",
        0,
        Lacks("environments/demo", "/spec/env"),
    ),
    row(
        Newest,
        "patch env demo --type=json -p [{\"op\":\"remove\",\"path\":\"/spec/env\"}]",
        1,
        Done,
    ),
    row(
        Newest,
        "patch env demo -p {\"spec\":{\"env\":{\"B\":\"1\"}}}",
        1,
        Lacks("environments/demo", "/spec/env"),
    ),
    row(
        Newest,
        "patch env demo --type=merge -p {\"spec\":{\"owner\":\"x\"}} --dry-run=server",
        0,
        Is("environments/demo", "/spec/owner", "\"a@example.com\""),
    ),
    row(
        Each,
        "label env demo step=one",
        0,
        Is("environments/demo", "/metadata/labels/step", "\"one\""),
    ),
    row(
        Newest,
        "label env demo step=two",
        1,
        Is("environments/demo", "/metadata/labels/step", "\"one\""),
    ),
    row(
        Newest,
        "label env demo step=two --overwrite",
        0,
        Is("environments/demo", "/metadata/labels/step", "\"two\""),
    ),
    row(
        Newest,
        "label env -l team=a step-",
        0,
        Lacks("environments/demo", "/metadata/labels/step"),
    ),
    row(
        Each,
        "annotate env --all note=text",
        0,
        Is("environments/made", "/metadata/annotations/note", "\"text\""),
    ),
    // Scale.
    row(Each, "apply -f pool.yaml", 0, There("warmpools/stock")),
    row(Each, "scale warmpool stock --replicas=2", 0, Is("warmpools/stock", "/spec/replicas", "2")),
    row(
        Newest,
        "scale warmpool stock --current-replicas=7 --replicas=3",
        1,
        Is("warmpools/stock", "/spec/replicas", "2"),
    ),
    row(
        Newest,
        "scale warmpool stock --current-replicas=2 --replicas=0",
        0,
        Is("warmpools/stock", "/spec/replicas", "0"),
    ),
    row(
        Newest,
        "get warmpool stock --subresource=scale -o jsonpath={.spec.replicas}",
        0,
        Prints(&["0"]),
    ),
    // Wait.
    row(
        Each,
        "wait --for=condition=Ready env/demo --timeout=60s",
        0,
        Is("environments/demo", "/status/bay/region", "\"ams\""),
    ),
    row(Since(27), "wait --for=jsonpath={.status.bay.region}=ams env/made --timeout=60s", 0, Done),
    row(Newest, "wait --for=condition=Ready env/demo --timeout=1s -l team=b", 1, Done),
    row(Since(31), "wait --for=create env/demo --timeout=60s", 0, Done),
    // Get.
    row(Each, "get env", 0, Prints(&["NAME", "PHASE", "demo", "made"])),
    row(Newest, "get env demo -o wide", 0, Prints(&["OWNER", "a@example.com"])),
    row(Newest, "get env -A", 0, Prints(&["NAMESPACE", "default"])),
    row(Newest, "get env -l team=a -o name", 0, Prints(&["environment.hangar.dev/demo"])),
    row(Newest, "get env --show-labels", 0, Prints(&["team=a"])),
    row(Newest, "get env --sort-by=.metadata.name", 0, Prints(&["demo"])),
    row(Newest, "get env --chunk-size=1", 0, Prints(&["demo", "made"])),
    row(Newest, "get env --field-selector metadata.name=demo -o name", 0, Prints(&["demo"])),
    row(Newest, "get env --field-selector spec.nothing=demo", 1, Done),
    row(Each, "get env demo -o yaml", 0, Prints(&["kind: Environment", "owner: a@example.com"])),
    row(Newest, "get env demo -o json", 0, Prints(&["\"kind\": \"Environment\""])),
    row(Each, "get env demo -o jsonpath={.spec.owner}", 0, Prints(&["a@example.com"])),
    row(Newest, "get env demo -o go-template={{.spec.owner}}", 0, Prints(&["a@example.com"])),
    row(Newest, "get env -o custom-columns=O:.spec.owner", 0, Prints(&["a@example.com"])),
    row(
        Newest,
        "get env demo --subresource=status -o jsonpath={.status.bay.region}",
        0,
        Prints(&["ams"]),
    ),
    row(Each, "get env nothing", 1, Done),
    row(Newest, "get env nothing --ignore-not-found", 0, Done),
    row(Newest, "get nothing", 1, Done),
    row(
        Each,
        "get hangar",
        0,
        Prints(&["environment.hangar.dev/demo", "template.hangar.dev/node"]),
    ),
    row(Newest, "get all", 0, Prints(&["environment.hangar.dev/demo"])),
    row(Newest, "get -f demo.yaml -o name", 0, Prints(&["demo"])),
    row(Newest, "get --raw /version", 0, Prints(&["gitVersion"])),
    row(Newest, "__complete get env d", 0, Prints(&["demo"])),
    row(Each, "describe env demo", 0, Prints(&["demo", "a@example.com", "Events:"])),
    row(Newest, "describe template", 0, Prints(&["node"])),
    // Events.
    row(Each, "get events", 0, Prints(&["Normal"])),
    row(Since(27), "events --for env/demo", 0, Prints(&["demo"])),
    row(
        Newest,
        "get events.v1.events.k8s.io -o jsonpath={.items[*].regarding.name}",
        0,
        Prints(&["demo"]),
    ),
    // Who may do what.
    row(Each, "auth can-i create environments.hangar.dev", 0, Prints(&["yes"])),
    row(Each, "auth can-i create bays.hangar.dev", 1, Prints(&["no"])),
    row(
        Newest,
        "auth can-i update warmpools.hangar.dev --subresource=scale -n team-a",
        0,
        Prints(&["yes"]),
    ),
    row(Newest, "auth can-i * *", 0, Prints(&["yes"])),
    row(Newest, "auth can-i get /version", 0, Prints(&["yes"])),
    row(Each, "auth can-i --list", 0, Prints(&["environments.hangar.dev", "deletecollection"])),
    row(Since(28), "auth whoami -o jsonpath={.status.userInfo.username}", 0, Prints(&["system:"])),
    // Kubernetes' own kinds.
    row(Each, "create ns team-a", 0, There("namespaces/team-a")),
    row(Each, "apply -f template.yaml -n team-a", 0, There("team-a/templates/node")),
    row(Each, "apply -f team.yaml", 0, There("team-a/environments/inside")),
    row(Each, "get env -n team-a", 0, Prints(&["inside"])),
    row(Newest, "describe ns team-a", 0, Prints(&["team-a", "Active"])),
    row(
        Each,
        "create secret generic keys --from-literal=K=v",
        0,
        Is("secrets/keys", "/data/K", "\"dg==\""),
    ),
    row(
        Each,
        "create configmap settings --from-literal=K=v --from-file=made.yaml",
        0,
        Is("configmaps/settings", "/data/K", "\"v\""),
    ),
    row(Each, "apply -f settings.yaml", 0, Is("configmaps/applied", "/data/a", "\"1\"")),
    row(Each, "apply -f settings-2.yaml", 0, Is("configmaps/applied", "/data", "{\"b\":\"2\"}")),
    row(
        Newest,
        "patch cm settings -p {\"data\":{\"K\":\"w\"}}",
        0,
        Is("configmaps/settings", "/data/K", "\"w\""),
    ),
    row(Newest, "get cm settings", 0, Prints(&["settings", "2"])),
    row(Newest, "describe cm settings", 0, Prints(&["made.yaml"])),
    row(
        Newest,
        "create quota few --hard=count/environments.hangar.dev=9 -n team-a",
        0,
        There("team-a/resourcequotas/few"),
    ),
    row(
        Each,
        "apply -f lease.yaml",
        0,
        Is("leases/lead", "/spec/renewTime", "\"2026-01-02T03:04:05.000006Z\""),
    ),
    row(Newest, "get leases", 0, Prints(&["lead", "me"])),
    row(Each, "get crd -o name", 0, Prints(&["environments.hangar.dev"])),
    row(
        Newest,
        "get crd environments.hangar.dev -o jsonpath={.spec.versions[0].schema.openAPIV3Schema.type}",
        0,
        Prints(&["object"]),
    ),
    row(Newest, "delete crd environments.hangar.dev", 1, Done),
    // Delete. More environments at once would make hangar hold back.
    row(
        Newest,
        "delete env demo --dry-run=server",
        0,
        Lacks("environments/demo", "/metadata/deletionTimestamp"),
    ),
    row(Each, "delete env demo", 0, Gone("environments/demo")),
    row(Each, "delete env demo", 1, Done),
    row(Newest, "delete env demo --ignore-not-found", 0, Done),
    row(Newest, "delete env made --now", 0, Gone("environments/made")),
    row(Newest, "delete warmpool stock --cascade=foreground", 0, Gone("warmpools/stock")),
    row(Newest, "delete secret keys --cascade=orphan", 0, Gone("secrets/keys")),
    row(Newest, "delete env -l team=nobody", 0, There("environments/warned")),
    row(Newest, "delete quota --all -n team-a", 0, Gone("team-a/resourcequotas/few")),
    row(Each, "delete cm settings", 0, Gone("configmaps/settings")),
    row(Each, "delete ns team-a", 0, Gone("team-a/environments/inside")),
    row(Newest, "delete ns default", 1, There("namespaces/default")),
];

#[tokio::test]
async fn every_verb_does_what_it_does_on_kubernetes() {
    walk(ROWS, &Kubectl::all(), true).await;
}

#[tokio::test]
async fn older_versions_do_the_same() {
    walk(ROWS, Kubectl::all().get(1..).unwrap_or_default(), false).await;
}

#[tokio::test]
async fn what_distributions_package_does_what_it_knows() {
    walk(ROWS, &Kubectl::older(), false).await;
}

/// Walks these rows with the first, whole where it is the newest, or with all of the others.
pub(crate) async fn walk(rows: &[Row], kubectls: &[Kubectl], is_newest: bool) {
    let mut wrong = Vec::new();
    for kubectl in kubectls.iter().take(if is_newest { 1 } else { usize::MAX }) {
        let hangar = Hangar::up().await;
        files::write(hangar.home());
        let mut count = 0;
        for row in rows {
            let has = match row.who {
                Each => true,
                Newest => is_newest,
                Since(minor) => kubectl.minor >= minor,
            };
            if !has {
                continue;
            }
            count += 1;
            if let Err(why) = run(&hangar, kubectl, row).await {
                wrong.push(format!("kubectl 1.{} {}: {why}", kubectl.minor, row.line));
            }
        }
        eprintln!("kubectl 1.{}: {count} rows", kubectl.minor);
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// Runs a row and looks at what it left.
async fn run(hangar: &Hangar, kubectl: &Kubectl, row: &Row) -> Result<(), String> {
    let output = kubectl.run(hangar, row.line).await;
    let said = format!("{}{}", output.stdout, output.stderr);
    if output.code != row.code {
        return Err(format!("ended with {} and not {}: {said}", output.code, row.code));
    }
    let is_so = match row.then {
        Done => Ok(()),
        Prints(words) => match words.iter().find(|word| !output.stdout.contains(**word)) {
            Some(word) => Err(format!("`{word}` is not in it")),
            None => Ok(()),
        },
        Is(object, pointer, expected) => {
            let expected: Value = serde_json::from_str(expected).unwrap();
            let found = hangar.object(object).await.unwrap_or_default();
            let found = found.pointer(pointer).cloned().unwrap_or_default();
            if found == expected { Ok(()) } else { Err(format!("{pointer} is {found}")) }
        }
        Lacks(object, pointer) => match hangar.object(object).await {
            Some(found) if found.pointer(pointer).is_none() => Ok(()),
            found => Err(format!("{pointer} is there, or nothing is: {found:?}")),
        },
        There(object) => {
            hangar.object(object).await.map(drop).ok_or_else(|| "it is not there".to_owned())
        }
        Gone(object) => match hangar.object(object).await {
            None => Ok(()),
            Some(found) => Err(format!("it is there: {found}")),
        },
    };
    is_so.map_err(|why| format!("{why}; it said: {said}"))
}
