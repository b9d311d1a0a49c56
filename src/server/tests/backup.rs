//! Exports over the API.

use serde_json::json;

use super::Api;
use crate::store::{Key, backup};

#[tokio::test]
async fn an_export_is_written_where_the_server_keeps_them() {
    let api = Api::start().await;
    api.env("alice").await;
    let made = api.call("POST /backups", None).await;
    assert_eq!(made.code, 200, "{}", made.body);
    let file = api.dir.path().join("2026-09-01T12-00-00Z.jsonl");
    assert_eq!(made.body["file"], json!(file));
    let export = backup::read(&file).unwrap();
    assert_eq!(made.body["entries"], json!(export.entries.len()));
    assert!(export.entries.iter().any(|it| it.key == Key::new("environments/default/alice")));
}
