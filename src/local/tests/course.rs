//! One course through everything, again for every kind of fault: what differs from the course without faults.

use std::fmt::Write as _;

use expect_test::expect_file;
use http::Response;

use super::{
    near::{Near, request},
    *,
};
use crate::fly::transport::Failed;
use crate::local::faults::{Kind, Rule};

/// Lines shown of what differs.
const SHOWN: usize = 4;
const PATIENCE: Duration = Duration::from_secs(100);

/// What a caller hears, in a line.
fn heard(result: &Result<Response<bytes::Bytes>, Failed>) -> String {
    let answer = match result {
        Ok(answer) => answer,
        Err(failed) => {
            let head = failed.head.as_ref().map_or("no answer", |_| "half an answer");
            return head.to_owned();
        }
    };
    let mut line = answer.status().as_u16().to_string();
    if let Some(after) = answer.headers().get("retry-after") {
        write!(line, " after {}", after.to_str().unwrap()).unwrap();
    }
    let text = String::from_utf8_lossy(answer.body());
    match serde_json::from_str::<Value>(&text) {
        Ok(body) => write!(line, " {}", shown(&body)).unwrap(),
        Err(_) if text.starts_with(['{', '[']) => line.push_str(" not quite JSON"),
        Err(_) => write!(line, " {text}").unwrap(),
    }
    line.trim_end().to_owned()
}

/// What matters of a body.
fn shown(body: &Value) -> String {
    if let Value::Array(list) = body {
        return format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(", "));
    }
    let mut parts = Vec::new();
    for field in ["error", "message", "name", "state", "status", "region", "exit_code", "orbit"] {
        match &body[field] {
            Value::Null => {}
            Value::String(text) => parts.push(text.clone()),
            other => parts.push(format!("{field} {other}")),
        }
    }
    if body["host_status"] == "unreachable" {
        parts.push("unreachable".to_owned());
    }
    if body["incomplete_config"].is_object() {
        parts.push("half a configuration".to_owned());
    }
    for check in body["checks"].as_array().into_iter().flatten() {
        parts.push(check["status"].as_str().unwrap().to_owned());
    }
    if body["error_regions"].as_array().is_some_and(|it| !it.is_empty()) {
        parts.push(format!("failed {}", body["error_regions"]));
    }
    for list in ["apps", "machines", "volumes"] {
        if body[list].is_array() {
            parts.push(shown(&body[list]));
        }
    }
    parts.join(" ")
}

/// A course and its record.
struct Course {
    near: Near,
    lines: Vec<String>,
}

impl Course {
    async fn step(&mut self, what: &str, line: &str, body: Value) {
        let begun = tokio::time::Instant::now();
        let asked = request("http://fly", &self.line(line), &body);
        let result = self.near.transport.send(asked, PATIENCE).await;
        let took = begun.elapsed().as_secs();
        let took = if took == 0 { String::new() } else { format!(" ({took} s)") };
        // Ids hang on chance.
        let mut heard = heard(&result).replace('\0', "0");
        for (id, name) in self.ids() {
            heard = heard.replace(&id, &format!("<{name}>"));
        }
        self.lines.push(format!("{what}: {heard}{took}"));
    }

    /// Names of machines and volumes stand for their ids.
    fn line(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (id, name) in self.ids() {
            line = line.replace(&format!("<{name}>"), &id);
        }
        line.replace(['<', '>'], "")
    }

    fn ids(&self) -> Vec<(String, String)> {
        let census = self.near.backend.census();
        let volumes = census.volumes.into_values().filter(|it| it.destroy_at.is_none());
        let volumes = volumes.map(|it| (it.id, it.name));
        let machines = census.machines.into_values().map(|it| (it.id, it.name));
        machines.chain(volumes).collect()
    }

    async fn get(&mut self, what: &str, path: &str) {
        self.step(what, &format!("GET {path}"), Value::Null).await;
    }

    async fn lists(&mut self, when: &str) {
        for (what, path) in [
            ("apps", "/apps?org_slug=personal"),
            ("machines", "/apps/a/machines"),
            ("the organisation's machines", "/orgs/personal/machines"),
            ("volumes", "/apps/a/volumes"),
            ("the organisation's volumes", "/orgs/personal/volumes"),
        ] {
            self.get(&format!("{what}, {when}"), path).await;
        }
    }

    /// A call on the first machine, and what it is like some time later.
    async fn act(&mut self, what: &str, line: &str, body: Value) {
        self.step(what, line, body).await;
        sleep(30).await;
        self.get(&format!("the machine 30 s after: {what}"), ONE).await;
    }

    async fn first_half(&mut self) {
        let app = json!({"name": "a", "org_slug": "personal"});
        self.step("create app", "POST /apps", app).await;
        self.get("the app", "/apps/a").await;
        let volume = json!({"name": "data", "region": "ams,fra", "size_gb": 1});
        self.step("create volume", "POST /apps/a/volumes", volume).await;
        let mounts = json!([{"volume": self.line("<data>"), "path": "/data"}]);
        let checks = json!({"up": {"type": "tcp", "port": 80}});
        let config = json!({"image": "app", "mounts": mounts, "checks": checks});
        let input = json!({"name": "one", "config": config});
        self.act("create machine", "POST /apps/a/machines", input).await;
        self.get("the volume", "/apps/a/volumes/<data>").await;
        self.lists("at first").await;
        let run = json!({"command": ["true"]});
        self.step("run a command", &format!("POST {ONE}/exec"), run).await;
        let snapshots = "/apps/a/volumes/<data>/snapshots";
        self.step("take a snapshot", &format!("POST {snapshots}"), Value::Null).await;
        sleep(5).await;
        self.get("the snapshots", snapshots).await;
        let size = json!({"size_gb": 2});
        self.step("grow the volume", "PUT /apps/a/volumes/<data>/extend", size).await;
        let config = json!({"image": "app", "env": {"A": "b"}, "mounts": mounts, "checks": checks});
        self.act("update", &format!("POST {ONE}"), json!({"config": config})).await;
        self.act("restart", &format!("POST {ONE}/restart"), Value::Null).await;
        self.act("stop", &format!("POST {ONE}/stop"), Value::Null).await;
        self.act("start", &format!("POST {ONE}/start"), Value::Null).await;
    }

    async fn second_half(&mut self) {
        let two = json!({"name": "two", "region": "ams,fra", "config": {"image": "app"}});
        self.step("create another machine", "POST /apps/a/machines", two).await;
        sleep(10).await;
        let destroy = |name: &str| format!("DELETE /apps/a/machines/<{name}>?force=true");
        self.step("destroy the other machine", &destroy("two"), Value::Null).await;
        sleep(30).await;
        self.lists("with one machine gone").await;
        self.act("destroy", &destroy("one"), Value::Null).await;
        self.step("delete the volume", "DELETE /apps/a/volumes/<data>", Value::Null).await;
        self.step("delete the app", "DELETE /apps/a", Value::Null).await;
        sleep(30).await;
        self.get("the app", "/apps/a").await;
        let census = self.near.backend.census();
        let left: Vec<_> = census.apps.keys().collect();
        self.lines.push(format!("in the end there are {left:?}"));
    }
}

/// The first machine.
const ONE: &str = "/apps/a/machines/<one>";

async fn sleep(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// The record of a course, and how often its fault came true.
async fn course(rule: Option<Rule>) -> (Vec<String>, u64) {
    let near = Near::open().await;
    let kind = rule.as_ref().map(|it| it.kind);
    if let Some(rule) = rule {
        near.fault(rule);
    }
    let mut course = Course { near, lines: Vec::new() };
    course.first_half().await;
    course.second_half().await;
    let fired = kind.map_or(0, |it| course.near.fired(it));
    (std::mem::take(&mut course.lines), fired)
}

/// A rule of this kind that the course meets.
fn rule(kind: Kind) -> Rule {
    let seconds = |it| Some(Duration::from_secs(it));
    let rule = Rule::new(kind);
    match kind {
        Kind::ListOneRegion => Rule { regions: Some(vec!["fra".to_owned()]), ..rule },
        Kind::ErrorRegions | Kind::RegionFull => {
            Rule { regions: Some(vec!["ams".to_owned()]), ..rule }
        }
        Kind::HostUnreachable => Rule { from: seconds(20), lasts: seconds(60), ..rule },
        Kind::Crash => Rule { from: seconds(10), every: seconds(60), ..rule },
        Kind::Migration => Rule { from: seconds(32), ..rule },
        _ => rule,
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_fault_can_be_seen_and_is_counted() {
    let (good, _) = course(None).await;
    let mut table = format!("without faults\n    {}\n", good.join("\n    "));
    for kind in Kind::ALL {
        let (bad, fired) = course(Some(rule(*kind))).await;
        assert_eq!(good.len(), bad.len());
        let different = good.iter().zip(&bad).filter(|(good, bad)| good != bad);
        let different: Vec<_> = different.map(|(_, bad)| bad.as_str()).collect();
        assert!(!different.is_empty(), "{} shows nowhere", kind.name());
        assert!(fired > 0, "{} was not counted", kind.name());
        let more = different.len().saturating_sub(SHOWN);
        writeln!(table, "{}", kind.name()).unwrap();
        for line in different.iter().take(SHOWN) {
            writeln!(table, "    {line}").unwrap();
        }
        if more > 0 {
            writeln!(table, "    and {more} more").unwrap();
        }
    }
    expect_file!["course.txt"].assert_eq(&table);
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_course() {
    for kind in [Kind::Storm408, Kind::StartRace, Kind::Migration] {
        let often = || Rule { per_mille: Some(300), ..rule(kind) };
        assert_eq!(course(Some(often())).await, course(Some(often())).await, "{}", kind.name());
    }
}
