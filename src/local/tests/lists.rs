//! An app's list and the organisation's.

use super::*;

fn ids(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_apps_list_is_filtered_and_summarised() {
    let (fly, _dir) = fly().await;
    let input = |region: &str, metadata: Value| json!({"region": region, "config": {"image": "a", "metadata": metadata}});
    let one = fly.machine("started", input("ams", json!({"k": "1", "l": "x"}))).await;
    let two = fly.machine("started", input("fra", json!({"k": "1"}))).await;
    fly.on(&two, "stop").await.good();
    fly.reach(&two, "stopped").await;
    let found = async |query: &str| {
        let mut found = ids(&fly.get(&format!("/apps/a/machines?{query}")).await.good());
        found.sort();
        found
    };
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    assert_eq!(found("metadata.k=1").await, both);
    assert_eq!(found("metadata.k=1&metadata.l=x").await, [one]);
    assert_eq!(found("region=fra").await, found("state=stopped").await);
    assert_eq!(found("state=stopped").await, [two]);
    assert_eq!(found("state=started,stopped").await, both);
    let summary = fly.get("/apps/a/machines?summary=true").await.good();
    assert!(summary[0].get("config").is_none() && summary[0].get("host_status").is_none());
}

#[tokio::test]
async fn the_organisations_list_is_oldest_change_first_and_paged() {
    let (fly, _dir) = fly().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(fly.machine("started", small()).await);
    }
    fly.on(&made[0], "cordon").await.good();
    made.rotate_left(1);
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let path = format!("/orgs/personal/machines?limit=2&cursor={cursor}");
        let page = fly.get(&path).await.good();
        assert_eq!(page["error_regions"], json!([]));
        seen.extend(ids(&page["machines"]));
        pages += 1;
        cursor = page["next_cursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!((seen, pages), (made.clone(), 3));
    assert_eq!(fly.get("/orgs/personal/machines?cursor=x").await.status, 400);
    assert_eq!(fly.get("/orgs/nobody/machines").await.status, 404);
}

#[tokio::test]
async fn changes_after_a_time_include_the_destroyed_when_asked_for() {
    let (fly, _dir) = fly().await;
    let id = fly.machine("started", small()).await;
    fly.machine("started", small()).await;
    let first = fly.get("/orgs/personal/machines").await.good();
    let after = first["last_updated_at"].as_str().unwrap();
    let path = format!("/orgs/personal/machines?updated_after={after}");
    assert_eq!(fly.get(&path).await.good()["machines"], json!([]));
    fly.call(&format!("DELETE /apps/a/machines/{id}?force=true"), Value::Null).await.good();
    fly.backend.until_gone(&id).await;
    assert_eq!(fly.get(&path).await.good()["machines"], json!([]));
    let all = fly.get(&format!("{path}&include_deleted=true")).await.good();
    let gone = &all["machines"][0];
    assert_eq!((&gone["id"], &gone["state"]), (&json!(id), &json!("destroyed")));
    assert_eq!((&gone["app_name"], &gone["config"]["image"]), (&json!("a"), &json!("app")));
}
