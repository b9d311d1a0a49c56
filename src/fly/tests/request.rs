//! Each call as the request that it becomes. It must never test what is done with the answer.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use serde_json::json;

use super::{Fly, TOKEN};
use crate::clock::System;
use crate::fly::{
    Machines as _, OrgQuery, Reason, WaitFor,
    http::{Config, Http, PUBLIC_URL},
    observer::Silent,
    token::Token,
    wire::{CreateApp, CreateVolume, Exec, MachineInput, SecretsUpdate, Stop},
};

/// Fits every answer that is read.
async fn fly() -> Fly {
    Fly::answering(&json!({
        "id": "1", "name": "n", "apps": [], "machines": [], "volumes": [], "Regions": []
    }))
    .await
}

fn name(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[tokio::test]
async fn a_call_about_an_app_is_the_request_that_fly_expects() {
    let fly = fly().await;
    let (app, it) = ("a", &fly.client);
    let new = CreateApp { name: "n".to_owned(), org_slug: "o".to_owned(), network: name("w") };
    let secrets =
        SecretsUpdate { values: [("K".to_owned(), name("v")), ("L".to_owned(), None)].into() };
    it.list_apps("o").await.unwrap();
    it.get_app(app).await.unwrap();
    it.create_app(&new).await.unwrap();
    it.delete_app(app).await.unwrap();
    it.set_secrets(app, &secrets).await.unwrap();
    it.regions().await.unwrap();
    expect![[r#"
        GET /v1/apps?org_slug=o
        GET /v1/apps/a
        POST /v1/apps {"name":"n","org_slug":"o","network":"w"}
        DELETE /v1/apps/a?force=true
        POST /v1/apps/a/secrets {"values":{"K":"v","L":null}}
        GET /v1/platform/regions"#]]
    .assert_eq(&fly.lines().join("\n"));
}

#[tokio::test]
async fn a_call_about_a_machine_is_the_request_that_fly_expects() {
    let fly = fly().await;
    let (app, id, it) = ("a", "m", &fly.client);
    let input = MachineInput { name: name("p"), region: name("ams"), ..Default::default() };
    let stop = Stop { signal: name("SIGTERM"), timeout: None };
    let exec = Exec { command: vec!["ls".to_owned()], timeout: Some(5), ..Default::default() };
    let wait = |version, millis| WaitFor {
        state: "started",
        version,
        timeout: Duration::from_millis(millis),
    };
    it.get_machine(app, id).await.unwrap();
    it.create_machine(app, &input).await.unwrap();
    it.update_machine(app, id, &input).await.unwrap();
    it.start_machine(app, id).await.unwrap();
    it.stop_machine(app, id, &stop).await.unwrap();
    it.suspend_machine(app, id).await.unwrap();
    it.restart_machine(app, id).await.unwrap();
    it.destroy_machine(app, id, false).await.unwrap();
    it.destroy_machine(app, id, true).await.unwrap();
    it.wait_machine(app, id, wait(None, 1)).await.unwrap();
    it.wait_machine(app, id, wait(Some("01V"), 90_000)).await.unwrap();
    it.exec(app, id, &exec).await.unwrap();
    it.put_metadata(app, id, "hangar_epoch", "2").await.unwrap();
    it.org_machines("o", &OrgQuery::default()).await.unwrap();
    expect![[r#"
        GET /v1/apps/a/machines/m
        POST /v1/apps/a/machines {"name":"p","region":"ams","config":{"image":""}}
        POST /v1/apps/a/machines/m {"name":"p","region":"ams","config":{"image":""}}
        POST /v1/apps/a/machines/m/start
        POST /v1/apps/a/machines/m/stop {"signal":"SIGTERM"}
        POST /v1/apps/a/machines/m/suspend
        POST /v1/apps/a/machines/m/restart
        DELETE /v1/apps/a/machines/m
        DELETE /v1/apps/a/machines/m?force=true
        GET /v1/apps/a/machines/m/wait?state=started&timeout=1
        GET /v1/apps/a/machines/m/wait?state=started&timeout=60&version=01V
        POST /v1/apps/a/machines/m/exec {"command":["ls"],"timeout":5}
        POST /v1/apps/a/machines/m/metadata/hangar_epoch {"value":"2"}
        GET /v1/orgs/o/machines"#]]
    .assert_eq(&fly.lines().join("\n"));
}

#[tokio::test]
async fn a_call_about_a_volume_is_the_request_that_fly_expects() {
    let fly = fly().await;
    let (app, it) = ("a", &fly.client);
    let new = CreateVolume { name: "d".to_owned(), region: "ams".to_owned(), ..Default::default() };
    let query = OrgQuery {
        updated_after: Some("2026-10-11T09:08:07Z".parse().unwrap()),
        cursor: name("c/1"),
        limit: Some(1_000),
        include_deleted: true,
        summary: true,
    };
    it.get_volume(app, "v").await.unwrap();
    it.create_volume(app, &new).await.unwrap();
    it.extend_volume(app, "v", 20).await.unwrap();
    it.delete_volume(app, "v").await.unwrap();
    it.create_snapshot(app, "v").await.unwrap();
    it.org_volumes("o", &query).await.unwrap();
    expect![[r#"
        GET /v1/apps/a/volumes/v
        POST /v1/apps/a/volumes {"name":"d","region":"ams"}
        PUT /v1/apps/a/volumes/v/extend {"size_gb":20}
        DELETE /v1/apps/a/volumes/v
        POST /v1/apps/a/volumes/v/snapshots
        GET /v1/orgs/o/volumes?updated_after=2026-10-11T09%3A08%3A07Z&cursor=c%2F1&limit=1000&include_deleted=true&summary=true"#]].assert_eq(&fly.lines().join("\n"));
}

#[tokio::test]
async fn lists_are_read_from_arrays() {
    let fly = Fly::answering(&json!([{ "id": "1", "name": "n" }])).await;
    let it = &fly.client;
    let metadata = [("hangar_bay", "b 1"), ("hangar_slot", "0")];
    assert_eq!(it.list_machines("a", &[]).await.unwrap()[0].name, "n");
    assert_eq!(it.list_machines("a", &metadata).await.unwrap().len(), 1);
    assert_eq!(it.list_volumes("a").await.unwrap()[0].id, "1");
    assert_eq!(it.snapshots("a", "v").await.unwrap()[0].id, "1");
    expect![[r#"
        GET /v1/apps/a/machines
        GET /v1/apps/a/machines?metadata.hangar_bay=b+1&metadata.hangar_slot=0
        GET /v1/apps/a/volumes
        GET /v1/apps/a/volumes/v/snapshots"#]]
    .assert_eq(&fly.lines().join("\n"));
}

#[tokio::test]
async fn a_request_says_who_asks_and_what_it_carries() {
    let fly = Fly::answering(&json!({ "id": "1", "name": "n" })).await;
    fly.client.get_app("a").await.unwrap();
    fly.client.create_machine("a", &MachineInput::default()).await.unwrap();
    let seen = fly.seen.lock().unwrap();
    for request in seen.iter() {
        assert_eq!(request.headers["authorization"], format!("FlyV1 {TOKEN}"));
        assert_eq!(request.headers["accept"], "application/json");
        let agent = request.headers["user-agent"].to_str().unwrap();
        assert_eq!(agent, concat!("hangar/", env!("CARGO_PKG_VERSION")));
    }
    assert!(!seen[0].headers.contains_key("content-type"));
    assert_eq!(seen[1].headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_name_cannot_leave_its_place_in_the_path() {
    let fly = Fly::answering(&json!({ "id": "1", "name": "n" })).await;
    fly.client.get_machine("a/b?c#d", "%2e%2e/é").await.unwrap();
    for id in ["", ".", ".."] {
        let error = fly.client.destroy_machine("a", id, true).await.unwrap_err();
        assert_eq!(error.reason, Reason::BadRequest);
    }
    assert_eq!(fly.lines(), ["GET /v1/apps/a%2Fb%3Fc%23d/machines/%252e%252e%2F%C3%A9"]);
}

#[tokio::test]
async fn a_base_url_may_have_a_path_and_nothing_else() {
    let open = |url: &str| {
        Http::new(Config::new(url, Token::new(TOKEN)), System::shared(), Arc::new(Silent))
    };
    for url in ["", "localhost:4280", "ftp://h", "http://u:p@h", "http://h?q", "http://h#f"] {
        let error = open(url).unwrap_err().to_string();
        assert!(!error.contains("u:p"), "{error}");
    }
    open("http://_api.internal:4280/").unwrap();
    let fly = Fly::answering(&json!({ "name": "n" })).await;
    fly.client.get_app("a").await.unwrap();
    let host = fly.seen.lock().unwrap()[0].headers["host"].to_str().unwrap().to_owned();
    open(&format!("http://{host}/fly/")).unwrap().get_app("a").await.unwrap();
    assert_eq!(fly.lines()[1], "GET /fly/v1/apps/a");
    let empty = Config::new(PUBLIC_URL, Token::new(" "));
    assert!(Http::new(empty, System::shared(), Arc::new(Silent)).is_err());
}
