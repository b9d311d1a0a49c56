//! The kubectl binaries of this computer. It must never let one see a person's own configuration or cache.

use std::{
    collections::BTreeMap,
    ops::RangeBounds,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::server::{Hangar, PATIENCE};

/// The oldest version that is asked to work.
const OLDEST: u32 = 27;
/// What Debian 12 has.
const PACKAGED: u32 = 20;

/// Where programs are, and where the `kubectl` in them really is: some packages put one for each version there.
fn directories() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<_> = std::env::split_paths(&path).collect();
    let real = directories.iter().filter_map(|it| it.join("kubectl").canonicalize().ok());
    let beside: Vec<_> = real.filter_map(|it| it.parent().map(Path::to_owned)).collect();
    directories.extend(beside);
    directories
}

/// One version of kubectl.
#[derive(Debug, Clone)]
pub(crate) struct Kubectl {
    /// 33 for v1.33.
    pub(crate) minor: u32,
    pub(crate) path: PathBuf,
}

/// What a run left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Kubectl {
    /// Every version of this computer, the newest first. Where there is none, it says so.
    pub(crate) fn all() -> Vec<Self> {
        let found = Self::found(OLDEST..);
        if found.is_empty() {
            eprintln!("skipped: there is no kubectl 1.{OLDEST} or newer on this computer");
        }
        found
    }

    /// Those before that, the newest first, from what distributions still package on. They know less.
    pub(crate) fn older() -> Vec<Self> {
        Self::found(PACKAGED..OLDEST)
    }

    fn found(wanted: impl RangeBounds<u32>) -> Vec<Self> {
        let directories = directories();
        let mut found = BTreeMap::new();
        for entry in directories.iter().filter_map(|it| it.read_dir().ok()).flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let minor = name.strip_prefix("kubectl.1.").and_then(|it| it.parse().ok());
            if let Some(minor) = minor.filter(|it| wanted.contains(it)) {
                found.insert(minor, entry.path());
            }
        }
        if found.is_empty()
            && let Some(path) =
                directories.iter().map(|it| it.join("kubectl")).find(|it| it.exists())
            && let Some(minor) = minor_of(&path).filter(|it| wanted.contains(it))
        {
            found.insert(minor, path);
        }
        found.into_iter().rev().map(|(minor, path)| Self { minor, path }).collect()
    }

    /// The oldest and the newest of this computer from 1.28 on: SPDY is what the one speaks, WebSockets the other.
    pub(crate) fn ends() -> Vec<Self> {
        let mut found = Self::all();
        found.retain(|it| it.minor >= 28);
        found.reverse();
        if found.len() > 2 {
            found.drain(1..found.len() - 1);
        }
        found
    }

    fn command(&self, hangar: &Hangar) -> Command {
        let home = hangar.home().join(format!("kubectl-{}", self.minor));
        let mut command = Command::new(&self.path);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &home)
            .env("KUBECACHEDIR", home.join("cache"))
            .current_dir(hangar.home())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts it; words that name an environment variable (`EDITOR=…`) go before the verb.
    pub(crate) fn spawn(&self, hangar: &Hangar, line: &str) -> tokio::process::Child {
        let mut command = self.command(hangar);
        let mut words = line.split_whitespace().peekable();
        let is_variable = |word: &&str| word.starts_with("KUBE");
        while let Some((name, value)) = words.next_if(is_variable).and_then(|it| it.split_once('='))
        {
            command.env(name, value.replace('_', " "));
        }
        // After the verb, where completion takes it too.
        command.args(words.next()).args(["--server", &hangar.url]).args(words);
        tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap()
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, hangar: &Hangar, line: &str) -> Output {
        let running = self.spawn(hangar, line).wait_with_output();
        let Ok(output) = tokio::time::timeout(PATIENCE, running).await else {
            panic!("kubectl 1.{} {line} did not end within {PATIENCE:?}", self.minor);
        };
        let output = output.unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The version that a binary says it has.
fn minor_of(path: &Path) -> Option<u32> {
    let output = Command::new(path).args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let minor = version.pointer("/clientVersion/minor")?.as_str()?;
    minor.trim_end_matches('+').parse().ok()
}
