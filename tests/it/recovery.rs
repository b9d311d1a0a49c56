//! A store that is lost, and one that is made from an export: nothing is destroyed on the strength of what is not known,
//! what there is at Fly is taken up, and a person's word ends it. And a disk that is full.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use http::Request;
use serde_json::Value;

use crate::apart::{Apart, free, gone, kill, replay, start};
use crate::harness::{PATIENCE, call, until};

fn environment(name: &str) -> String {
    format!(
        "{{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {{name: {name}}}, \
         spec: {{templateRef: {{name: kept}}, owner: a@example.com, access: Public}}}}"
    )
}

/// What the drill asks of the parts.
impl Apart {
    async fn apply_more(&self, manifest: &str) {
        fs::write(self.home.path().join("more.yaml"), manifest).unwrap();
        self.cli(&["apply", "-f", "more.yaml"]).await;
    }

    async fn object(&self, name: &str) -> Value {
        serde_json::from_str(&self.cli(&["get", name, "-o", "json"]).await).unwrap()
    }

    async fn ready(&self, name: &str) -> Value {
        until(&format!("{name} to be ready"), PATIENCE, async || {
            let object = self.object(&format!("environment/{name}")).await;
            if object["status"]["phase"] == "Ready" { Ok(object) } else { Err(object.to_string()) }
        })
        .await
    }

    async fn holds(&self) -> Vec<String> {
        let list: Value =
            serde_json::from_str(&self.cli(&["get", "holds", "-o", "json"]).await).unwrap();
        let names = list["items"].as_array().unwrap().iter();
        names.map(|it| it["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Everything that there is at Fly, by id.
    async fn at_fly(&self) -> BTreeSet<String> {
        let fly = self.fly();
        let apps = fly.apps().await.into_iter().map(|it| it["name"].clone());
        let machines = fly.machines().await.into_iter().map(|it| it["id"].clone());
        let volumes = fly.volumes().await.into_iter().map(|it| it["id"].clone());
        apps.chain(machines).chain(volumes).map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("serve")
    }

    fn lose_the_store(&mut self) {
        self.kill_server();
        fs::remove_dir_all(self.data().join("store")).unwrap();
    }

    /// Deletes an environment, and waits until it is said that it waits for a person.
    async fn delete_in_vain(&self, name: &str, because: &str) {
        self.cli(&["delete", "environment", name, "--wait=false"]).await;
        until("to be told why nothing is destroyed", PATIENCE, async || {
            let told = self.cli(&["describe", "environment", name]).await;
            let says = told.contains("nothing is destroyed") && told.contains("`hangar resume`");
            if says && told.contains(because) { Ok(()) } else { Err(told) }
        })
        .await;
    }
}

/// What happened to the environments since the export: another machine, other configurations, another environment.
async fn go_on(apart: &Apart) {
    let machine = apart.object("environment/alice").await["status"]["bay"].take();
    let text = |field: &str| machine[field].as_str().unwrap().to_owned();
    let path = format!("/v1/apps/{}/machines/{}?force=true", text("app"), text("machine"));
    apart.fly().delete(&path).await;
    until("another machine", PATIENCE, async || {
        let page = apart.page().await;
        if page["machine"] != text("machine").as_str() { Ok(()) } else { Err(page.to_string()) }
    })
    .await;
    for greeting in ["changed", "hello"] {
        apart.apply(greeting).await;
        until("the change", PATIENCE, async || {
            let page = apart.page().await;
            if page["env"]["GREETING"] == greeting { Ok(()) } else { Err(page.to_string()) }
        })
        .await;
    }
    apart.apply_more(&environment("carol")).await;
    apart.ready("carol").await;
    apart.ready("alice").await;
}

fn number(object: &Value, path: &str) -> u64 {
    let value = object.pointer(path).unwrap();
    value.as_u64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_lost_store_destroys_nothing_and_an_export_brings_everything_back() {
    let mut apart = Apart::new().await;
    assert!(apart.holds().await.is_empty(), "a first start needs nobody's word");
    apart.apply_more(&environment("bob")).await;
    apart.ready("bob").await;
    let export = apart.cli(&["backup"]).await.trim().to_owned();
    go_on(&apart).await;
    let visits = number(&apart.page().await, "/visits");
    let before = apart.object("environment/alice").await;
    let there = apart.at_fly().await;

    // The store is lost: whatever it is told to do, nothing is destroyed.
    apart.lose_the_store();
    apart.start_server().await;
    // The second is known once Fly was listed, which may be after the server answers.
    until("the holds of an empty store", PATIENCE, async || {
        let holds = apart.holds().await;
        if holds == ["opened-empty", "other-instance"] { Ok(()) } else { Err(format!("{holds:?}")) }
    })
    .await;
    apart.apply("hello").await;
    apart.apply_more(&environment("dave")).await;
    apart.ready("dave").await;
    apart.delete_in_vain("dave", "the store was empty, and installation").await;
    let there_too = apart.at_fly().await;
    assert!(there.is_subset(&there_too) && there_too.len() > there.len(), "{there_too:?}");

    // The export brings it back, and what was done after it is found at Fly.
    apart.lose_the_store();
    let data = apart.data();
    let from = ["--from", &export, "--data-dir", data.to_str().unwrap()];
    let counted = apart.cli(&[&["restore-store", "--dry-run"][..], &from].concat()).await;
    assert!(counted.lines().any(|it| it.split_whitespace().eq(["2", "environments"])), "{counted}");
    assert!(!data.join("store").exists());
    apart.cli(&[&["restore-store"][..], &from].concat()).await;
    let calls = apart.fly().mutating_calls().await;
    apart.start_server().await;
    // The export says Ready of an older machine; the one that took its place is found at Fly.
    until("the bay and machine that there were", PATIENCE, async || {
        let bay = apart.object("environment/alice").await["status"]["bay"].clone();
        if bay == before["status"]["bay"] { Ok(()) } else { Err(bay.to_string()) }
    })
    .await;
    let (alice, bob) = (apart.ready("alice").await, apart.ready("bob").await);
    assert!(number(&apart.page().await, "/visits") > visits);
    assert_eq!(apart.at_fly().await, there_too);
    assert_eq!(apart.fly().mutating_calls().await, calls, "there was nothing to do");

    // Nothing that a client has seen goes backwards.
    for path in ["/metadata/generation", "/metadata/resourceVersion", "/status/observedGeneration"]
    {
        assert!(number(&alice, path) > number(&before, path), "{path}");
    }
    let seen = number(&before, "/metadata/resourceVersion");
    let path = format!("/apis/hangar.dev/v1alpha1/environments?watch=true&resourceVersion={seen}");
    let watch = Request::builder().uri(path).header("host", &apart.api);
    let watch = call(&apart.api, watch, Vec::new()).await.text();
    assert!(watch.contains("\"type\":\"ERROR\"") && watch.contains("410"), "{watch}");

    // Until a person says so nothing is destroyed; then everything is as always.
    apart.delete_in_vain("bob", "the store was made at").await;
    assert_eq!(apart.at_fly().await, there_too);
    let told = apart.cli(&["resume", "--dry-run"]).await;
    assert!(
        told.starts_with("hold.hangar.dev/restored would be lifted: hangar destroys again"),
        "{told}"
    );
    assert_eq!(apart.holds().await, ["restored"]);
    apart.cli(&["resume"]).await;
    // An app, a machine, a volume. What this store does not know of is left alone.
    let left = until("bob to go", PATIENCE, async || {
        let left = apart.at_fly().await;
        if left.len() == there_too.len() - 3 { Ok(left) } else { Err(format!("{left:?}")) }
    })
    .await;
    assert!(!left.contains(bob["status"]["bay"]["app"].as_str().unwrap()));
    assert!(apart.holds().await.is_empty());
    apart.phase("Ready").await;
}

#[tokio::test]
async fn a_router_of_its_own_takes_back_what_a_restore_takes_back() {
    let mut apart = Apart::new().await;
    let listen = free().await;
    apart.start_router(&listen).await;
    let before = replay(&listen, "").await;
    let export = apart.cli(&["backup"]).await.trim().to_owned();
    let data = apart.data();
    let restore = ["restore-store", "--from", &export, "--data-dir", data.to_str().unwrap()];
    for _ in 0..2 {
        apart.lose_the_store();
        apart.cli(&restore).await;
        apart.start_server().await;
        assert_eq!(replay(&listen, "").await, before);
        // What is restored is held back, so that the machine is there for the next one too.
        apart.delete_in_vain("alice", "the store was made at").await;
        gone(&listen).await;
    }
}

#[tokio::test]
async fn a_stopped_server_is_exported_too_and_a_store_that_is_there_is_not_touched() {
    let mut apart = Apart::new().await;
    let data = apart.data();
    let data = data.to_str().unwrap();
    let busy = apart.refused(&["backup", "--data-dir", data]).await;
    assert!(busy.contains("another process has") && busy.contains("hint: "), "{busy}");
    apart.kill_server();
    let export = apart.cli(&["backup", "--data-dir", data]).await.trim().to_owned();
    assert!(Path::new(&export).starts_with(apart.data().join("backups")), "{export}");
    let refused = apart.refused(&["restore-store", "--from", &export, "--data-dir", data]).await;
    assert!(refused.contains("there is a store in") && refused.contains("hint: "), "{refused}");

    // Another secret key, and an export that is not whole, are found out before anything is made.
    let other = apart.home.path().join("other");
    fs::create_dir(&other).unwrap();
    let into = ["--data-dir", other.to_str().unwrap()];
    fs::write(other.join("secret.key"), [7; 32]).unwrap();
    let mut mode = fs::metadata(other.join("secret.key")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o600);
    fs::set_permissions(other.join("secret.key"), mode).unwrap();
    let refused = [&["restore-store", "--from", &export][..], &into].concat();
    let refused = apart.refused(&refused).await;
    assert!(refused.contains("cannot be read with this secret key"), "{refused}");
    let cut = apart.home.path().join("cut.jsonl");
    let whole = fs::read(&export).unwrap();
    fs::write(&cut, &whole[..whole.len() - 100]).unwrap();
    let refused = [&["restore-store", "--from", cut.to_str().unwrap()][..], &into].concat();
    let refused = apart.refused(&refused).await;
    assert!(refused.contains("it is cut short"), "{refused}");
    assert!(!other.join("store").exists());
    apart.start_server().await;
    apart.phase("Ready").await;
}

/// A file system of a few megabytes at a directory; `None`, with a printed reason, where mounting is not permitted.
struct Mount(PathBuf);

impl Mount {
    fn new(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=32m", "none"])
            .arg(&at)
            .stderr(std::process::Stdio::null())
            .status();
        if mount.is_ok_and(|it| it.success()) {
            return Some(Self(at));
        }
        eprintln!("skipped: mounting is not permitted");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _tried = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_hangar_and_the_room_that_was_kept_brings_it_back() {
    let home = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(home.path().join("up")) else { return };
    let free = ["--listen", "--fly-listen", "--front-listen", "--router-listen"];
    let arguments: Vec<_> =
        free.iter().flat_map(|it| [*it, "127.0.0.1:0"]).chain(["--no-run"]).collect();
    let mut up = start(home.path(), "up", &arguments, &[]).await;
    let secret = async |number: usize| {
        let ready: Value =
            serde_json::from_slice(&fs::read(home.path().join("up.ready")).unwrap()).unwrap();
        let api = ready["api"].as_str().unwrap();
        let name = format!("s{number}");
        let data = "x".repeat(20_000);
        let body = serde_json::json!({"metadata": {"name": name}, "stringData": {"x": data}});
        let client = hangar::client::Client::new(&format!("http://{api}"), None).unwrap();
        client.create(hangar::api::kind::Kind::Secret, "default", &body, false).await
    };
    secret(0).await.unwrap();
    // Somebody else takes all that is left.
    let mut other = fs::File::create(mount.0.join("other")).unwrap();
    while other.write_all(&[1; 4096]).is_ok() {}
    let mut acknowledged = 1;
    while secret(acknowledged).await.is_ok() {
        acknowledged += 1;
    }
    let status = until("the end of hangar", PATIENCE, async || {
        up.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
    })
    .await;
    let said = || fs::read_to_string(home.path().join("up.err")).unwrap();
    assert_eq!(status.code(), Some(1), "{}", said());
    assert!(said().contains("No space left on device"), "{}", said());

    let refused = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(["up", "--data-dir"])
        .arg(&mount.0)
        .args(&arguments)
        .env_clear()
        .output()
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{told}");
    assert!(told.contains("No space left on device") && told.contains("ballast"), "{told}");
    fs::remove_file(mount.0.join("ballast")).unwrap();
    let up = start(home.path(), "up", &arguments, &[]).await;
    for number in 0..acknowledged {
        let there = secret(number).await.unwrap_err();
        assert!(there.to_string().contains("already exists"), "secret {number}: {there}");
    }
    kill(up);
    crate::harness::kill_all(home.path());
}
