//! The official Python client and kopf, in an environment of their own under the target directory, which is made once. It must
//! never install anything elsewhere.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};

use serde_json::Value;
use tokio::process::{Child, Command};

use crate::{
    files,
    pods::ground::Ground,
    server::{Hangar, PATIENCE, until},
};

const REQUIREMENTS: &str = include_str!("python/requirements.txt");
/// What a whole script may take.
const SCRIPT: Duration = Duration::from_secs(180);

/// The interpreter of the environment; nothing where it cannot be made, which it says.
static PYTHON: LazyLock<Option<PathBuf>> = LazyLock::new(|| match make() {
    Ok(python) => Some(python),
    Err(why) => {
        eprintln!("skipped: no Python environment with the Kubernetes clients: {why}");
        None
    }
});

fn make() -> Result<PathBuf, String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let (python, made) = (place.join("bin/python"), place.join("made-of"));
    if fs::read_to_string(&made).is_ok_and(|it| it == REQUIREMENTS) {
        return Ok(python);
    }
    let run = |program: &Path, arguments: &[&str]| {
        let output = std::process::Command::new(program).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    };
    run(Path::new("python3"), &["-m", "venv", "--clear", &place.to_string_lossy()])?;
    let list = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube/python/requirements.txt");
    run(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", list])?;
    fs::write(made, REQUIREMENTS).unwrap();
    Ok(python)
}

/// An interpreter that sees nothing of a person's own; what it says is in files of this name.
fn begin(python: &Path, home: &Path, name: &str, arguments: &[&str], server: &str) -> Child {
    let output = |kind| fs::File::create(home.join(format!("{name}.{kind}"))).unwrap();
    let mut command = Command::new(python);
    command.args(arguments).env_clear().env("HOME", home).env("SERVER", server);
    // Bytecode would be written beside the scripts.
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(home).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(output("out")).stderr(output("err"));
    command.spawn().unwrap()
}

fn said(home: &Path, name: &str) -> String {
    let read = |kind| fs::read_to_string(home.join(format!("{name}.{kind}"))).unwrap_or_default();
    read("out") + &read("err")
}

fn script(name: &str) -> String {
    format!("{}/tests/kube/python/{name}.py", env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script to its end, at which it says so.
async fn run(python: &Path, home: &Path, name: &str, server: &str) {
    let arguments = [&*script(name), server, &*home.to_string_lossy()];
    let mut child = begin(python, home, name, &arguments, server);
    let Ok(status) = tokio::time::timeout(SCRIPT, child.wait()).await else {
        panic!("{name} did not end within {SCRIPT:?}: {}", said(home, name));
    };
    assert!(status.unwrap().success(), "{}", said(home, name));
    assert_eq!(fs::read_to_string(home.join(format!("{name}.out"))).unwrap(), "all of it\n");
}

/// Has hangar's own client change something.
async fn tell(hangar: &Hangar, arguments: &[&str]) {
    files::write(hangar.home());
    let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
    command.args(arguments).env_clear().env("HANGAR_SERVER", &hangar.url);
    let output = command.current_dir(hangar.home()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

#[tokio::test]
async fn the_official_client_writes_reads_and_watches() {
    let Some(python) = &*PYTHON else { return };
    let hangar = Hangar::up().await;
    run(python, hangar.home(), "objects", &hangar.url).await;
}

#[tokio::test]
async fn the_official_client_runs_commands_and_reaches_ports() {
    let Some(python) = &*PYTHON else { return };
    let ground = Ground::up().await;
    run(python, ground.home.path(), "pods", &format!("http://{}", ground.api)).await;
}

#[tokio::test]
async fn an_operator_of_kopf_sees_changes_and_holds_the_end_back_until_it_is_done() {
    let Some(python) = &*PYTHON else { return };
    let hangar = Hangar::up().await;
    tell(&hangar, &["apply", "-f", "template.yaml", "-f", "demo.yaml"]).await;
    let arguments = ["-m", "kopf", "run", "--namespace", "default", &script("keeper")];
    let mut kopf = begin(python, hangar.home(), "keeper", &arguments, &hangar.url);
    let annotated = async |name: &str, value: &str| {
        until(&format!("{name}={value}"), async || {
            let demo = hangar.object("environments/demo").await.unwrap();
            let found = &demo["metadata"]["annotations"][format!("operator.example/{name}")];
            let is_there = found.as_str() == Some(value);
            is_there
                .then_some(())
                .ok_or_else(|| format!("{demo}\n{}", said(hangar.home(), "keeper")))
        })
        .await;
    };
    annotated("made-for", "a@example.com").await;
    tell(&hangar, &["apply", "-f", "demo-2.yaml"]).await;
    annotated("changed", "2").await;
    let demo = hangar.object("environments/demo").await.unwrap();
    let finalizers = demo["metadata"]["finalizers"].as_array().unwrap();
    let is_kopf = |it: &Value| it.as_str().is_some_and(|it| it.starts_with("kopf."));
    assert!(finalizers.iter().any(is_kopf), "{demo}");

    tell(&hangar, &["delete", "environment/demo", "--wait=false"]).await;
    until("the farewell, and the end", async || {
        let farewell = hangar.object("configmaps/farewell-demo").await;
        let demo = hangar.object("environments/demo").await;
        let is_over = farewell.is_some() && demo.is_none();
        is_over.then_some(()).ok_or_else(|| format!("{demo:?}\n{}", said(hangar.home(), "keeper")))
    })
    .await;
    kopf.kill().await.unwrap();
}
