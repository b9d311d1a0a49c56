//! Holds over the API: read by everybody, made by hangar, ended by deleting them.

use super::Api;
use crate::api::{
    hold::{Hold, HoldReason},
    meta::Resource as _,
};
use crate::store::{Key, Precondition};

const HOLDS: &str = "/apis/hangar.dev/v1alpha1/holds";

#[tokio::test]
async fn a_hold_is_listed_and_deleted_and_nothing_else() {
    let api = Api::start().await;
    let now = api.parts.clock.now();
    let hold = Hold::because(HoldReason::Restored, "it was restored", "u1".to_owned(), now);
    let key = Key::new(&hold.object_ref().store_key());
    api.store.txn().put(&key, Precondition::Absent, &hold).commit().await.unwrap();

    let list = api.get(HOLDS).await.body;
    assert_eq!(list["items"][0]["spec"]["message"], "it was restored");
    assert_eq!(list["items"][0]["metadata"]["creationTimestamp"], "2026-09-01T12:00:00Z");
    let body = serde_json::to_value(&hold).unwrap();
    for request in [format!("POST {HOLDS}"), format!("PUT {HOLDS}/restored")] {
        let refused = api.call(&request, Some(&body)).await;
        assert_eq!(refused.code, 403, "{request}: {}", refused.body);
        let why = refused.body["message"].as_str().unwrap();
        assert!(why.contains("holds are made and changed by hangar alone"), "{why}");
    }
    let dry = api.call(&format!("DELETE {HOLDS}/restored?dryRun=All"), None).await;
    assert_eq!((dry.code, api.get(HOLDS).await.body["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!(api.call(&format!("DELETE {HOLDS}/restored"), None).await.code, 200);
    assert_eq!(api.get(&format!("{HOLDS}/restored")).await.code, 404);

    let bays = "/apis/hangar.dev/v1alpha1/namespaces/default/bays/b";
    assert_eq!(
        api.call(&format!("DELETE {bays}"), None).await.code,
        403,
        "a bay is hangar's alone"
    );
}
