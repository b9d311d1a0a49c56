//! One machine of a process driver, and what a test asks of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use hangar::local::{
    driver::{Driver, Error, Executed, Restart, Spec, Status},
    process::Process,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far more than anything takes; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const PORT: u16 = 8080;

/// A driver over a directory of its own, and one machine. Whatever is left of it when the test ends fails the test.
pub(crate) struct Machine {
    pub(crate) home: tempfile::TempDir,
    pub(crate) driver: Process,
    pub(crate) spec: Spec,
}

impl Machine {
    pub(crate) fn new(image: &str, argv: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let driver = driver(home.path());
        let spec = Spec {
            id: "m1".to_owned(),
            image: image.to_owned(),
            argv: argv.iter().map(|it| (*it).to_owned()).collect(),
            env: BTreeMap::new(),
            volume: None,
            files: Vec::new(),
            ports: vec![PORT],
            restart: Restart::No,
            stop_signal: "SIGINT".to_owned(),
            stop_timeout: PATIENCE,
        };
        Self { home, driver, spec }
    }

    /// A machine that runs a shell script.
    pub(crate) fn script(script: &str) -> Self {
        Self::new("hangar.dev/host", &["/bin/sh", "-c", script])
    }

    /// A machine made from an image, as the Machines API makes it.
    pub(crate) async fn of_image(reference: &str) -> Self {
        let mut machine = Self::new(reference, &[]);
        let image = machine.driver.image(reference).await.unwrap();
        machine.spec.argv = image.entrypoint;
        machine.spec.env = image.env;
        machine
    }

    pub(crate) async fn start(&self) {
        self.driver.start(&self.spec).await.unwrap();
    }

    pub(crate) async fn stop(&self) {
        self.driver.stop("m1", None, None).await.unwrap();
    }

    pub(crate) async fn status(&self) -> Status {
        self.driver.status("m1").await
    }

    pub(crate) async fn exec(&self, argv: &[&str], stdin: &[u8]) -> Result<Executed, Error> {
        let argv: Vec<String> = argv.iter().map(|it| (*it).to_owned()).collect();
        self.driver.exec("m1", &argv, stdin, PATIENCE).await
    }

    pub(crate) async fn logs(&self) -> Vec<String> {
        let lines = self.driver.logs("m1", 1_000).await.unwrap();
        lines.into_iter().map(|line| line.text).collect()
    }

    pub(crate) async fn logged(&self, text: &str) {
        eventually(async || self.logs().await.iter().any(|line| line == text)).await;
    }

    /// `GET path`, once.
    pub(crate) async fn try_get(&self, path: &str) -> Result<String, Error> {
        let mut stream = self.driver.dial("m1", PORT).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let _cut = stream.read_to_string(&mut answer).await;
        }
        Ok(answer)
    }

    /// `GET path`, once the machine listens.
    pub(crate) async fn get(&self, path: &str) -> String {
        eventually(async || self.try_get("/healthz").await.is_ok_and(|it| it.contains("HTTP/1.1")))
            .await;
        self.try_get(path).await.unwrap()
    }

    pub(crate) async fn visits_since_start(&self) -> u64 {
        let answer = self.get("/?format=json").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body.get("visits_since_start").unwrap().as_u64().unwrap()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap().join("machines/m1/root")
    }

    /// Processes of the machine, its shim included, wherever they hide; zombies too.
    pub(crate) fn left(&self) -> Vec<String> {
        let home = self.home.path().canonicalize().unwrap().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let process = entry.unwrap().path();
            let read = |name| fs::read(process.join(name)).unwrap_or_default();
            let text = [read("cmdline"), read("environ")].concat();
            if String::from_utf8_lossy(&text).contains(&home) {
                found.push(String::from_utf8_lossy(&read("stat")).into_owned());
            }
        }
        found
    }

    /// Removes the machine and sees that nothing of it is left.
    pub(crate) async fn end(self) {
        self.driver.remove("m1").await.unwrap();
        assert_eq!(self.status().await, Status::Absent);
        assert!(!self.root().exists());
        assert_eq!(self.left(), Vec::<String>::new());
        let zombies =
            || children_of_this_test().into_iter().filter(|it| it.contains(") Z ")).count();
        eventually(async || zombies() == 0).await;
    }
}

impl Drop for Machine {
    /// A failed test leaves nothing behind either.
    fn drop(&mut self) {
        for stat in self.left() {
            kill(stat.split(' ').next().unwrap().parse().unwrap());
        }
    }
}

pub(crate) fn driver(home: &Path) -> Process {
    Process::new(&home.join("machines"), Path::new(env!("CARGO_BIN_EXE_hangar"))).unwrap()
}

pub(crate) fn children_of_this_test() -> Vec<String> {
    let parent = format!(" {} ", std::process::id());
    let stats = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = fs::read_to_string(entry.unwrap().path().join("stat")).ok()?;
        let (_, after_name) = stat.rsplit_once(')')?;
        after_name.get(2..)?.starts_with(&parent).then_some(stat)
    });
    stats.collect()
}

pub(crate) async fn eventually(condition: impl AsyncFn() -> bool) {
    let looks = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looks).await.unwrap();
}

pub(crate) fn shim_pid(machine: &Machine) -> i32 {
    let text = fs::read_to_string(machine.root().with_file_name("shim.pid")).unwrap();
    text.split_once(' ').unwrap().0.parse().unwrap()
}

pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

pub(crate) fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|it| !it.contains(") Z "))
}
