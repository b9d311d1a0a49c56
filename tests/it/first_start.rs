//! From an empty directory to pages that answer.

use std::path::Path;

use futures::{SinkExt as _, StreamExt as _};
use http::Method;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Hangar, PATIENCE, eventually, host};
use crate::manifest;

#[tokio::test]
async fn from_nothing_to_pages_that_count_their_visits() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let hangar = Hangar::up_with(&manifests).await;
    let table = hangar.run("get env").await;
    assert_eq!(table.matches("Ready").count(), 2, "{table}");

    let first = hangar.page("alice").await;
    let second = hangar.page("alice").await;
    assert_eq!(first["environment"], "alice");
    assert_eq!(first["env"]["GREETING"], "hello from alice");
    assert_eq!(second["visits"].as_u64(), first["visits"].as_u64().map(|it| it + 1));
    let alice = hangar.object("environment/alice").await;
    assert_eq!(first["machine"], alice["status"]["bay"]["machine"]);

    let page = hangar.http(&host("alice"), "/").await;
    assert!(!page.headers.contains_key("fly-replay"), "{page:?}");
    let page = page.text();
    assert!(page.contains("<h1>alice</h1>") && page.contains("hello from alice"), "{page}");
    assert!(!page.contains("not-a-real-key") && !page.contains("API_KEY"), "{page}");
    assert!(page.contains("look like secrets"), "{page}");
    assert_eq!(hangar.page("bob").await["environment"], "bob");
    assert_eq!(hangar.http("bobs-place.dev.localhost", "/").await.status, 200);
    assert_eq!(hangar.http("nobody.dev.localhost", "/").await.status, 404);
    assert_eq!(hangar.http("example.com", "/").await.status, 421);
}

#[tokio::test]
async fn bodies_and_web_sockets_reach_the_machine_unchanged() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    let alice = host("alice");
    let body: Vec<u8> =
        (0..900_000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let uploaded = hangar.send(Method::POST, &alice, "/upload", body.clone()).await.json();
    assert_eq!(uploaded["bytes"], body.len());
    assert_eq!(uploaded["blake3"], blake3::hash(&body).to_hex().as_str());
    let echoed = hangar.send(Method::POST, &alice, "/echo", body.clone()).await;
    assert!(echoed.body == body, "the echo differs");

    let mut socket = hangar.web_socket(&alice).await;
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    let bytes = Message::binary(vec![7; 70_000]);
    socket.send(bytes.clone()).await.unwrap();
    assert!(socket.next().await.unwrap().unwrap() == bytes);
}

#[tokio::test]
async fn an_unchanged_directory_applied_again_changes_nothing() {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let hangar = Hangar::up_with(&manifests).await;
    let (machines, before) = (hangar.fly().machines().await, hangar.mutating_calls().await);
    assert!(before > 0);
    let applied = hangar.cli(&["apply", "-f", manifests.to_str().unwrap()]).await.good();
    assert_eq!(applied.lines().count(), 5, "{applied}");
    assert!(applied.lines().all(|it| it.ends_with(" unchanged")), "{applied}");
    // A time that something may not happen in.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(hangar.mutating_calls().await, before);
    assert_eq!(hangar.fly().machines().await, machines);
}

#[tokio::test]
async fn an_environment_in_trouble_is_shown_with_the_log_until_it_is_deleted() {
    let broken = manifest::template("broken", "hangar.test/unpullable", "")
        + &manifest::environment("mallory", "broken", "");
    let mut hangar = Hangar::begin_with(&(manifest::one("alice") + &broken));
    hangar.listening().await;
    eventually("the log", PATIENCE, async || {
        let said = hangar.said();
        said.contains("environment.hangar.dev/mallory is waited for: ")
            && said.contains(" env/alice  plan ")
    })
    .await;
    hangar.phase("alice", "Ready").await;
    assert!(!hangar.is_ready(), "{}", hangar.said());
    hangar.run("delete env mallory").await;
    hangar.ready().await;
    hangar.page("alice").await;
}

#[tokio::test]
async fn manifests_with_mistakes_start_nothing() {
    let mut hangar = Hangar::begin_with(&manifest::one("alice").replace("ams", "mars"));
    assert_eq!(hangar.ended().await.code(), Some(1));
    let said = hangar.said();
    assert!(said.contains("spec.regions[0]") && !said.contains("API "), "{said}");
    assert!(!hangar.data().exists());
    let mut hangar = Hangar::begin_with("# nothing yet\n");
    assert_eq!(hangar.ended().await.code(), Some(1));
    assert!(hangar.said().contains("error: no objects passed to apply"), "{}", hangar.said());
}
