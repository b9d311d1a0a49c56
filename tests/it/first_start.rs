//! From an empty directory to pages that answer.

use std::path::Path;

use crate::harness::{Hangar, host};

#[tokio::test]
async fn from_nothing_to_a_page_that_counts_its_visits() {
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

    let page = hangar.http(&host("alice"), "/").await.text();
    assert!(page.contains("<h1>alice</h1>") && page.contains("hello from alice"), "{page}");
    assert!(!page.contains("not-a-real-key") && !page.contains("API_KEY"), "{page}");
    assert!(page.contains("look like secrets"), "{page}");
    assert_eq!(hangar.page("bob").await["environment"], "bob");
    assert_eq!(hangar.http("bobs-place.dev.localhost", "/").await.status, 200);
    assert_eq!(hangar.http("nobody.dev.localhost", "/").await.status, 404);
}
