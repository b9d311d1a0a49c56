//! hangar's own command line beside kubectl, on one server: where both have a verb, they print the same and end the same. Where
//! they do not, it is on purpose, and the row says why. It must never ask for what only one of them has.

use std::process::Stdio;

use serde_json::Value;

use crate::{
    files,
    kubectl::{Kubectl, Output},
    server::{Hangar, PATIENCE},
};

/// One thing that both are told.
struct Row {
    /// What kubectl does before each of the two, so that both find the same.
    first: &'static str,
    line: &'static str,
    /// kubectl's exit code.
    code: i32,
    how: How,
}

/// How far both agree.
enum How {
    /// In the exit code and in what they print.
    Same,
    /// Also in the error or the note, to which hangar may add what is missing, and hints.
    Says,
    /// In the exit code and in the data that they print; how its text is quoted is not the same.
    Data,
    /// In the exit code; what they print differs for this reason.
    Prints(&'static str),
    /// In neither: hangar ends with this code for this reason.
    Ends(i32, &'static str),
}

use How::{Data, Ends, Prints, Same, Says};

const fn row(line: &'static str, code: i32, how: How) -> Row {
    Row { first: "", line, code, how }
}

const fn after(first: &'static str, line: &'static str, code: i32, how: How) -> Row {
    Row { first, line, code, how }
}

const ORDER: &str =
    "hangar applies what others need first, and deletes it last, whatever order a file has";
const OFFLINE: &str = "hangar's client dry run asks no server, so it does not know what is there";
const BARE: &str = "kubectl's --dry-run without a word is deprecated; hangar's is the server's";
const FILLED: &str = "a list whose entries the server has filled in is no change to hangar, and one to kubectl every time";
const USAGE: &str =
    "hangar ends with 2 where a command cannot be understood, so that scripts see it";
const PAGE: &str = "hangar's pages have what an environment waits for";
const WHOLE: &str = "hangar describes only what is named whole";

const ROWS: &[Row] = &[
    // Get: tables.
    row("get env", 0, Same),
    row("get env demo", 0, Same),
    row("get env/demo", 0, Same),
    row("get environments.hangar.dev demo", 0, Same),
    row("get environments.v1alpha1.hangar.dev/demo", 0, Same),
    row("get env -o wide", 0, Same),
    row("get env -A", 0, Same),
    row("get env -A -o wide", 0, Same),
    row("get env --no-headers", 0, Same),
    row("get env -l team=a", 0, Same),
    row("get env -l team,team!=b", 0, Same),
    row("get env --field-selector metadata.name=demo", 0, Same),
    row("get env,templates", 0, Same),
    row("get env,orphans", 0, Same),
    row("get env,ns -A", 0, Same),
    row("get ns,env -A", 0, Same),
    row("get hangar -A", 0, Same),
    row("get env/demo template/node", 0, Same),
    row("get all", 0, Same),
    row("get hangar", 0, Same),
    row("get ns", 0, Same),
    row("get pods", 0, Same),
    row("get secrets,cm", 0, Same),
    row("get crd", 0, Same),
    row("get events", 0, Same),
    // Get: names and data.
    row("get env -o name", 0, Same),
    row("get env/demo template/node secret/opaque -o name", 0, Same),
    row("get hangar -o name", 0, Same),
    row("get env demo -o json", 0, Same),
    row("get env -o json", 0, Same),
    row("get env,template -o json", 0, Same),
    row("get env demo -o json --show-managed-fields", 0, Same),
    row("get env -n empty -o json", 0, Same),
    row("get env demo -o yaml", 0, Data),
    row("get env -n empty -o yaml", 0, Data),
    // Get: nothing, and what there is not.
    row("get env -l team=nobody", 0, Says),
    row("get env -l team=nobody -A", 0, Says),
    row("get env -n empty", 0, Says),
    row("get env -n empty -o name", 0, Says),
    row("get orphans", 0, Says),
    row("get orphans,env -n empty", 0, Says),
    row("get env nothing", 1, Says),
    row("get env demo nothing", 1, Says),
    row("get env/demo template/nothing", 1, Says),
    row("get env demo nothing -o name", 1, Says),
    row("get env demo nothing -o json", 1, Says),
    row("get env nothing --ignore-not-found", 0, Says),
    row("get env demo nothing --ignore-not-found -o name", 0, Says),
    row("get env -n empty --ignore-not-found", 0, Says),
    row("get nothing", 1, Says),
    row("get nothing/demo", 1, Says),
    row("get env,nothing", 1, Says),
    row("get env.example.com demo", 1, Same),
    row("get env demo -A", 1, Says),
    row("get env demo -l team=a", 1, Says),
    row("get env -l ==", 1, Same),
    row("get env --field-selector spec.nothing=a", 1, Same),
    row("get env,template -w", 1, Same),
    row("get", 1, Ends(2, USAGE)),
    row("get env -o nothing", 1, Ends(2, USAGE)),
    row("get env demo template/node", 1, Ends(2, USAGE)),
    // Apply: whoever applied before, it is not a change.
    row("apply -f demo.yaml", 0, Same),
    row("apply -f pool-empty.yaml", 0, Same),
    row("apply -f template.yaml", 0, Prints(FILLED)),
    after("apply -f demo-2.yaml", "apply -f demo.yaml", 0, Same),
    after("apply -f demo-2.yaml", "apply -f demo.yaml --dry-run=server", 0, Same),
    after("apply -f demo-2.yaml", "apply -f demo.yaml --dry-run=none", 0, Same),
    row("apply -f demo.yaml --dry-run=server", 0, Same),
    after("delete env made --ignore-not-found", "apply -f made.yaml", 0, Same),
    after("apply -f odd.yaml", "apply -f odd.yaml", 0, Same),
    row("get cm odd -o json", 0, Same),
    row("apply -f dry.yaml --dry-run=server", 0, Same),
    row("apply -f dry.yaml --dry-run=client", 0, Prints(OFFLINE)),
    row("apply -f dry.yaml --dry-run", 0, Prints(BARE)),
    row("apply -f demo.yaml -f template.yaml", 0, Prints(ORDER)),
    row("apply -f demo.yaml -f wrong.yaml", 1, Same),
    row("apply -f invalid.yaml", 1, Same),
    row("apply -f elsewhere.yaml", 1, Same),
    row("apply -f missing.yaml", 1, Same),
    row("apply", 1, Ends(2, USAGE)),
    // Scale.
    row("scale warmpool stock --replicas=0", 0, Same),
    row("scale pool/stock --replicas=0", 0, Same),
    row("scale pool/stock --replicas=1 --dry-run=server", 0, Same),
    row("scale pool/stock --replicas=1 --dry-run=client", 0, Same),
    row("scale pool/nothing --replicas=1", 1, Same),
    row("scale env/demo --replicas=1", 1, Same),
    row("scale pool/stock", 1, Ends(2, USAGE)),
    // Wait.
    row("wait env/demo --for=condition=Ready --timeout=60s", 0, Same),
    row("wait env demo --for=condition=ready=true --timeout=60s", 0, Same),
    row("wait env -l team=a --for=condition=Ready --timeout=60s", 0, Same),
    row("wait env --all --for=condition=Ready --timeout=60s", 0, Same),
    row("wait env/demo --for=jsonpath={.spec.owner}=a@example.com --timeout=60s", 0, Same),
    row("wait env/demo --for=jsonpath={.spec.owner} --timeout=60s", 0, Same),
    row("wait env/demo --for=create --timeout=60s", 0, Same),
    row("wait env/nothing --for=delete --timeout=60s", 0, Says),
    row("wait env -l team=nobody --for=delete --timeout=60s", 0, Says),
    row("wait env/demo --for=condition=Nothing --timeout=1s", 1, Says),
    row("wait env/demo --for=condition=Ready=False --timeout=1s", 1, Says),
    row("wait env/demo --for=condition=Nothing --timeout=0", 1, Says),
    row("wait env/demo --for=delete --timeout=1s", 1, Says),
    row("wait env/demo --for=jsonpath={.spec.owner}=b --timeout=1s", 1, Says),
    row("wait env/nothing --for=create --timeout=1s", 1, Says),
    row("wait env/nothing --for=condition=Ready --timeout=1s", 1, Says),
    row("wait env/demo env/nothing --for=condition=Ready --timeout=60s", 1, Says),
    row("wait env -l team=nobody --for=condition=Ready --timeout=1s", 1, Says),
    row("wait nothing/demo --for=condition=Ready --timeout=1s", 1, Says),
    row("wait env/demo", 1, Ends(2, USAGE)),
    row("wait env --for=condition=Ready", 1, Ends(2, USAGE)),
    // Events.
    row("events --for env/demo", 0, Same),
    row("events -A", 0, Same),
    row("events --for env/nothing", 0, Says),
    row("events -n empty", 0, Says),
    row("events --for nothing/demo", 1, Same),
    // Describe.
    row("describe env demo", 0, Prints(PAGE)),
    row("describe env", 0, Prints(PAGE)),
    row("describe env -l team=a", 0, Prints(PAGE)),
    row("describe env -l team=nobody", 0, Says),
    row("describe env nothing", 1, Says),
    row("describe nothing demo", 1, Says),
    row("describe env de", 0, Ends(1, WHOLE)),
    // Delete.
    row("delete env demo --dry-run=server", 0, Same),
    row("delete env demo --dry-run=client", 0, Same),
    row("delete env demo --dry-run", 0, Prints(BARE)),
    after("create cm gone", "delete cm gone", 0, Same),
    after("create cm gone", "delete cm/gone --wait=false", 0, Same),
    after("create cm gone", "delete cm gone nothing", 1, Says),
    after("apply -f settings.yaml", "delete -f settings.yaml", 0, Same),
    after(
        "apply -f settings.yaml -f lease.yaml",
        "delete -f settings.yaml -f lease.yaml",
        0,
        Prints(ORDER),
    ),
    row("delete -f settings.yaml", 1, Same),
    row("delete -f settings.yaml --ignore-not-found", 0, Same),
    row("delete cm nothing", 1, Says),
    row("delete cm nothing --ignore-not-found", 0, Says),
    row("delete cm -l team=nobody", 0, Same),
    row("delete cm,secrets --all -n empty", 0, Same),
    after("create cm gone -n empty", "delete cm --all -n empty", 0, Same),
    row("delete bay nothing", 1, Says),
    row("delete ns default", 1, Says),
    row("delete nothing demo", 1, Says),
    row("delete env demo -l team=a", 1, Says),
    row("delete env", 1, Ends(2, USAGE)),
    after("apply -f made.yaml", "delete env made", 0, Same),
];

/// What is there at first.
const GROUND: &[&str] = &[
    "apply -f template.yaml",
    "apply -f pool-empty.yaml",
    "apply -f demo.yaml",
    "apply -f opaque.yaml",
    "create ns empty",
    "wait --for=condition=Ready env/demo --timeout=60s",
];

#[tokio::test]
async fn both_programs_say_the_same_and_end_the_same() {
    let Some(kubectl) = Kubectl::all().into_iter().next() else { return };
    let hangar = Hangar::up().await;
    files::write(hangar.home());
    for line in GROUND {
        let output = kubectl.run(&hangar, line).await;
        assert_eq!(output.code, 0, "{line}: {output:?}");
    }
    let mut wrong = Vec::new();
    for row in ROWS {
        let mine = turn(&hangar, &kubectl, row, true).await;
        let theirs = turn(&hangar, &kubectl, row, false).await;
        if let Err(why) = judge(row, &mine, &theirs) {
            wrong.push(format!("{}: {why}\n  hangar  {mine:?}\n  kubectl {theirs:?}", row.line));
        }
    }
    eprintln!("kubectl 1.{}: {} rows", kubectl.minor, ROWS.len());
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// One program's turn at a row.
async fn turn(hangar: &Hangar, kubectl: &Kubectl, row: &Row, is_ours: bool) -> Output {
    if !row.first.is_empty() {
        let output = kubectl.run(hangar, row.first).await;
        assert_eq!(output.code, 0, "before {}: {}: {output:?}", row.line, row.first);
    }
    if is_ours { run(hangar, row.line).await } else { kubectl.run(hangar, row.line).await }
}

/// Runs hangar's command line to its end.
async fn run(hangar: &Hangar, line: &str) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_hangar"));
    command.env_clear().env("HANGAR_SERVER", &hangar.url).current_dir(hangar.home());
    command.args(line.split_whitespace()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("hangar {line} did not end")).unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn judge(row: &Row, mine: &Output, theirs: &Output) -> Result<(), String> {
    let (code, reason) = match row.how {
        Ends(code, reason) => (code, reason),
        Prints(reason) => (row.code, reason),
        Same | Says | Data => (row.code, ""),
    };
    if (mine.code, theirs.code) != (code, row.code) {
        return Err(format!("hangar is to end with {code}, kubectl with {}", row.code));
    }
    let is_events = row.line.starts_with("events");
    let prints_same = shown(&mine.stdout, is_events) == shown(&theirs.stdout, is_events);
    match row.how {
        Same | Says if !prints_same => Err("they do not print the same".to_owned()),
        Says if !says_same(&mine.stderr, &theirs.stderr) => {
            Err("they do not say the same".to_owned())
        }
        Data if data(&mine.stdout) != data(&theirs.stdout) => Err("the data differs".to_owned()),
        Prints(_) if prints_same => {
            Err(format!("they print the same, so this is not true: {reason}"))
        }
        Ends(..) if code == row.code => {
            Err(format!("they end the same, so this is not true: {reason}"))
        }
        Same | Says | Data | Prints(_) | Ends(..) => Ok(()),
    }
}

fn data(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// Each of kubectl's lines begins one of hangar's, in the same order.
fn says_same(mine: &str, theirs: &str) -> bool {
    let said: Vec<_> = theirs.lines().filter(|it| !is_logged(it)).collect();
    let mut lines = mine.lines();
    let has_all = said.iter().all(|line| lines.any(|it| it.starts_with(*line)));
    has_all && (said.is_empty() == mine.is_empty())
}

/// `W1128 …` is from kubectl's libraries, about a watch that time cut short.
fn is_logged(line: &str) -> bool {
    let (level, day) = line.split_at_checked(1).unwrap_or_default();
    "IWE".contains(level)
        && day.split(' ').next().is_some_and(|it| it.len() == 4 && it.parse::<u16>().is_ok())
}

/// What is printed, without the ages, which go on between two turns. They are in the first column of events, so that their
/// width is everybody's there.
fn shown(text: &str, is_events: bool) -> Vec<String> {
    let line = |line: &str| {
        let mut words = Vec::new();
        let mut is_after_age = is_events;
        for word in line.split(' ') {
            if is_after_age && word.is_empty() {
                continue;
            }
            let is_age = is_age(word.trim_matches(['(', ')']));
            is_after_age = is_events || is_age;
            words.push(if is_age { "AGE" } else { word });
        }
        words.join(" ")
    };
    // kubectl from 1.34 on also says where it deleted.
    text.replace(" from default namespace", "")
        .replace(" from empty namespace", "")
        .lines()
        .map(line)
        .collect()
}

/// `5s`, `2m10s`, `3d`.
fn is_age(word: &str) -> bool {
    word.starts_with(|it: char| it.is_ascii_digit())
        && word.ends_with(['s', 'm', 'h', 'd', 'y'])
        && word.chars().all(|it| it.is_ascii_digit() || "smhdy".contains(it))
}
