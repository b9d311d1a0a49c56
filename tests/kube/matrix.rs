//! The verb matrix: what kubectl is told, how it must end, and what must then be so. Rows follow one another on one server:
//! what a row makes, later rows use. Checks look at objects and data, never at sentences.

use serde_json::Value;

use crate::{files, kubectl::Kubectl, server::Hangar};

/// One thing that kubectl is told to do.
struct Row {
    /// Which versions do it.
    who: Who,
    line: &'static str,
    code: i32,
    then: Then,
}

/// Which versions run a row.
#[derive(Clone, Copy, PartialEq)]
enum Who {
    /// All of them.
    Each,
    /// The newest, which runs the whole matrix.
    Newest,
    /// All from this minor version on, which has learnt it.
    Since(u32),
}

/// What is so after a row.
enum Then {
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

const fn row(who: Who, line: &'static str, code: i32, then: Then) -> Row {
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
    row(Each, "get ns", 0, Prints(&["NAME", "STATUS", "default", "Active"])),
    row(Newest, "get ns default -o jsonpath={.status.phase}", 0, Prints(&["Active"])),
    row(
        Newest,
        "get ns --field-selector metadata.name=default -o name",
        0,
        Prints(&["namespace/default"]),
    ),
    row(Each, "get env nothing", 1, Done),
    row(Newest, "get env nothing --ignore-not-found", 0, Done),
    row(Newest, "get nothing", 1, Done),
    row(Newest, "get --raw /version", 0, Prints(&["gitVersion"])),
    row(Since(28), "get ns --chunk-size=1 -o name", 0, Prints(&["namespace/default"])),
    // Writes.
    row(
        Each,
        "label ns default step=one",
        0,
        Is("namespaces/default", "/metadata/labels/step", "\"one\""),
    ),
    row(
        Newest,
        "label ns default step=two",
        1,
        Is("namespaces/default", "/metadata/labels/step", "\"one\""),
    ),
    row(Each, "label ns default step-", 0, Lacks("namespaces/default", "/metadata/labels/step")),
    row(Newest, "create -f template.yaml --validate=false", 0, There("templates/node")),
    row(Newest, "delete template node", 0, Gone("templates/node")),
    row(Newest, "delete ns default", 1, There("namespaces/default")),
];

#[tokio::test]
async fn every_verb_does_what_it_does_on_kubernetes() {
    let mut wrong = Vec::new();
    for (place, kubectl) in Kubectl::all().iter().enumerate() {
        let hangar = Hangar::up().await;
        files::write(hangar.home());
        let mut count = 0;
        for row in ROWS {
            let has = match row.who {
                Each => true,
                Newest => place == 0,
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
