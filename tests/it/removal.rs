//! The end of an environment.

use std::time::Duration;

use crate::harness::{Hangar, host, until};
use crate::manifest;

#[tokio::test]
async fn a_deleted_environment_answers_410_and_leaves_nothing_at_fly() {
    let both = manifest::one("alice") + &manifest::environment("bob", "workspace", "");
    let hangar = Hangar::up(&both).await;
    let bob = hangar.page("bob").await;
    assert_eq!(hangar.http(&host("alice"), "/").await.status, 200);

    assert_eq!(
        hangar.run("delete env alice --wait=false").await,
        "environment.hangar.dev \"alice\" deleted\n"
    );
    until("410 for a deleted environment", Duration::from_secs(2), async || {
        let answer = hangar.http(&host("alice"), "/").await;
        if answer.status == 410 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    hangar.run("wait env/alice --for=delete --timeout=60s").await;
    assert_eq!(hangar.run("get env,bays -o name").await.lines().count(), 2);

    let fly = hangar.fly();
    let kept = hangar.object("environment/bob").await["status"]["bay"]["app"].take();
    assert_eq!(fly.apps().await.iter().map(|it| it["name"].clone()).collect::<Vec<_>>(), [kept]);
    assert_eq!((fly.machines().await.len(), fly.volumes().await.len()), (1, 1));
    assert_eq!(hangar.http(&host("alice"), "/").await.status, 410);
    let again = hangar.page("bob").await;
    assert_eq!((&again["machine"], &again["visits_since_start"]), (&bob["machine"], &2.into()));
}

#[tokio::test]
async fn delete_waits_until_nothing_is_left() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    assert_eq!(
        hangar.run("delete env alice --wait").await,
        "environment.hangar.dev \"alice\" deleted\n"
    );
    let fly = hangar.fly();
    assert!(fly.apps().await.is_empty() && fly.machines().await.is_empty());
    assert!(fly.volumes().await.is_empty());
    assert_eq!(hangar.cli(&["delete", "env", "alice"]).await.code, 1);
    hangar.run("delete env alice --ignore-not-found").await;
}

#[tokio::test]
async fn an_environment_whose_app_is_gone_already_is_deleted_all_the_same() {
    let hangar = Hangar::up(&manifest::one("alice")).await;
    let app = hangar.object("environment/alice").await["status"]["bay"]["app"].take();
    hangar.fly().delete(&format!("/v1/apps/{}?force=true", app.as_str().unwrap())).await;
    hangar.run("delete env alice").await;
    assert!(hangar.fly().apps().await.is_empty());
    assert_eq!(hangar.run("get env,bays -o name").await, "");
}
