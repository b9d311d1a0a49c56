//! Orders about orphans: who may be ordered about, and what is written.

use serde_json::json;

use super::*;
use crate::api::{
    kind::Kind,
    meta::{Metadata, ObjectRef},
    orphan::{MadeBy, OrderState, Orphan, OrphanMachine, OrphanPhase, OrphanStatus},
};
use crate::store::{Key, Precondition};

const ORPHANS: &str = "/apis/hangar.dev/v1alpha1/orphans";

/// Writes an orphan as the controller does.
async fn orphan(api: &Api, name: &str, change: impl FnOnce(&mut OrphanStatus)) {
    let machine = OrphanMachine {
        id: "m1".to_owned(),
        bay_uid: Some("b1".to_owned()),
        epoch: Some(1),
        ..OrphanMachine::default()
    };
    let mut status = OrphanStatus {
        app: "hgr-abc".to_owned(),
        id: "hgr-abc".to_owned(),
        phase: OrphanPhase::Confirmed,
        made_by: MadeBy::This,
        environment: Some("env/alice".to_owned()),
        bay_uid: Some("b1".to_owned()),
        machines: vec![machine],
        ..OrphanStatus::default()
    };
    change(&mut status);
    let info = Kind::Orphan.info();
    let orphan = Orphan {
        api_version: info.api_version(),
        kind: info.kind_name.to_owned(),
        metadata: Metadata { name: name.to_owned(), uid: "o1".to_owned(), ..Metadata::default() },
        status,
    };
    let key = Key::new(&ObjectRef::new(Kind::Orphan, "", name).store_key());
    api.store.txn().put(&key, Precondition::Absent, &orphan).commit().await.unwrap();
}

#[tokio::test]
async fn an_order_is_written_once_and_only_into_what_may_be_ordered_about() {
    let api = Api::start().await;
    orphan(&api, "app-hgr-abc", |_| {}).await;
    orphan(&api, "app-hgr-xyz", |it| it.made_by = MadeBy::Another).await;
    orphan(&api, "app-hgr-new", |it| it.phase = OrphanPhase::Pending).await;
    let order = async |name: &str, body| api.post(&format!("{ORPHANS}/{name}/order"), &body).await;
    let delete = json!({"verb": "Delete"});
    assert_eq!(order("app-hgr-none", delete.clone()).await.code, 404);
    for name in ["app-hgr-xyz", "app-hgr-new"] {
        let reply = order(name, delete.clone()).await;
        assert_eq!((reply.code, text(&reply.body, "/reason")), (403, "Forbidden"), "{name}");
    }
    assert_eq!(order("app-hgr-abc", json!({"verb": "Burn"})).await.code, 400);
    assert_eq!(order("app-hgr-abc", json!({"verb": "Delete", "uid": "o2"})).await.code, 409);
    let path = format!("{ORPHANS}/app-hgr-abc/order?dryRun=All");
    assert_eq!(api.post(&path, &delete).await.code, 200);
    let read = api.get(&format!("{ORPHANS}/app-hgr-abc")).await.body;
    assert!(read["status"]["order"].is_null(), "a dry run writes nothing");
    let reply = order("app-hgr-abc", json!({"verb": "Delete", "uid": "o1"})).await;
    assert_eq!(reply.code, 200, "{}", reply.body);
    assert_eq!(text(&reply.body, "/status/order/orderedAt"), "2026-09-01T12:00:00.5Z");
    assert_eq!(order("app-hgr-abc", delete).await.code, 409, "one at a time");
}

#[tokio::test]
async fn an_adoption_needs_an_environment_that_it_was_made_for_and_that_has_no_bay() {
    let api = Api::start().await;
    orphan(&api, "app-hgr-abc", |_| {}).await;
    let adopt = async |name: &str| {
        let to = json!({"namespace": "default", "name": name});
        let body = json!({"verb": "Adopt", "to": to});
        api.post(&format!("{ORPHANS}/app-hgr-abc/order"), &body).await.code
    };
    assert_eq!(adopt("alice").await, 404);
    api.env("bob").await;
    assert_eq!(adopt("bob").await, 403, "its machine was made for alice");
    api.env("alice").await;
    assert_eq!(adopt("alice").await, 200);
}

#[tokio::test]
async fn orphans_are_read_like_any_other_kind_and_written_by_nobody() {
    let api = Api::start().await;
    orphan(&api, "app-hgr-abc", |it| {
        it.order =
            Some(crate::api::orphan::Order { state: OrderState::Refused, ..Default::default() });
    })
    .await;
    assert_eq!(api.get(ORPHANS).await.body["items"].as_array().unwrap().len(), 1);
    assert_eq!(api.delete(&format!("{ORPHANS}/app-hgr-abc")).await.code, 403);
    assert_eq!(api.post(ORPHANS, &json!({"metadata": {"name": "x"}})).await.code, 403);
    let status = format!("{ORPHANS}/app-hgr-abc/status");
    assert_eq!(api.patch(&status, &json!({"status": {"madeBy": "This"}})).await.code, 403);
}
