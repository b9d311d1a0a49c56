//! Lists: selectors, pages of one moment, tables.

use serde_json::{Value, json};

use super::{Api, ENVS, NAMESPACES, env, revision, text};

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items.iter().map(|it| text(it, "/metadata/name").to_owned()).collect()
}

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let api = Api::start().await;
    for (name, team) in [("a", "x"), ("b", "y"), ("c", "x")] {
        let mut body = env(name);
        body["metadata"]["labels"] = json!({"team": team});
        assert_eq!(api.post(ENVS, &body).await.code, 201);
    }
    let check = async |query: &str, expected: &[&str]| {
        assert_eq!(names(&api.get(&format!("{ENVS}?{query}")).await.body), expected, "{query}");
    };
    check("labelSelector=team%3Dx", &["a", "c"]).await;
    check("labelSelector=team+in+(x,y),!old", &["a", "b", "c"]).await;
    check("fieldSelector=metadata.name%3Db", &["b"]).await;
    check("fieldSelector=metadata.name!%3Db,status.phase%3DPending", &["a", "c"]).await;
    let wrong = api.get(&format!("{ENVS}?fieldSelector=spec.colour%3Dred")).await;
    assert_eq!(
        (wrong.code, text(&wrong.body, "/message")),
        (400, "field label not supported: spec.colour")
    );
}

#[tokio::test]
async fn a_list_is_of_one_namespace_or_of_all() {
    let api = Api::start().await;
    api.post(NAMESPACES, &json!({"metadata": {"name": "team-a"}})).await;
    api.env("a").await;
    assert_eq!(api.post(&ENVS.replace("default", "team-a"), &env("b")).await.code, 201);
    assert_eq!(names(&api.get(ENVS).await.body), ["a"]);
    let all = api.get("/apis/hangar.dev/v1alpha1/environments").await.body;
    assert_eq!(names(&all), ["a", "b"]);
    assert_eq!(text(&all, "/kind"), "EnvironmentList");
    assert_eq!(text(&all, "/items/0/kind"), "Environment");
}

#[tokio::test]
async fn pages_are_of_one_moment_while_others_write() {
    let api = Api::start().await;
    for number in 0..10 {
        api.env(&format!("e{number}")).await;
    }
    let first = api.get(&format!("{ENVS}?limit=4")).await.body;
    assert_eq!(names(&first), ["e0", "e1", "e2", "e3"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 6);
    api.env("e35").await;
    api.delete(&format!("{ENVS}/e7")).await;
    api.finish(&format!("{ENVS}/e7")).await;
    let next = async |page: &Value| {
        let token = text(page, "/metadata/continue").to_owned();
        api.get(&format!("{ENVS}?limit=4&continue={token}")).await.body
    };
    let second = next(&first).await;
    let third = next(&second).await;
    assert_eq!(names(&second), ["e4", "e5", "e6", "e7"]);
    assert_eq!(names(&third), ["e8", "e9"]);
    assert_eq!(third["metadata"].get("continue"), None);
    assert_eq!(revision(&first), revision(&third));
}

#[tokio::test]
async fn a_page_that_is_asked_for_too_late_is_gone() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.env(name).await;
    }
    let first = api.get(&format!("{ENVS}?limit=1")).await.body;
    api.env("d").await;
    api.clock.advance(std::time::Duration::from_secs(600));
    let token = text(&first, "/metadata/continue");
    let late = api.get(&format!("{ENVS}?limit=1&continue={token}")).await;
    assert_eq!((late.code, text(&late.body, "/reason")), (410, "Expired"));
    let wrong = api.get(&format!("{ENVS}?continue=@")).await;
    assert_eq!(wrong.code, 400);
    assert_eq!(api.get(&format!("{ENVS}?resourceVersion=99999")).await.code, 410);
    assert_eq!(api.get(&format!("{ENVS}?resourceVersion=1")).await.code, 200);
}

#[tokio::test]
async fn a_table_has_the_kinds_columns_and_the_objects_metadata() {
    let api = Api::start().await;
    api.env("alice").await;
    api.clock.advance(std::time::Duration::from_secs(25));
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let get = async |path: &str| {
        api.send(api.request(&format!("GET {path}")).header("accept", accept)).await.body
    };
    let table = get(ENVS).await;
    assert_eq!((text(&table, "/kind"), text(&table, "/apiVersion")), ("Table", "meta.k8s.io/v1"));
    let columns: Vec<_> = table["columnDefinitions"].as_array().unwrap().iter().collect();
    let phase = columns.iter().position(|it| it["name"] == "Phase").unwrap();
    let age = columns.iter().position(|it| it["name"] == "Age").unwrap();
    let wide = columns.iter().find(|it| it["name"] == "Owner").unwrap();
    assert_eq!(wide["priority"], 1);
    let cells = &table["rows"][0]["cells"];
    assert_eq!(
        (&cells[0], &cells[phase], &cells[age]),
        (&json!("alice"), &json!("Pending"), &json!("25s"))
    );
    assert_eq!(text(&table, "/rows/0/object/kind"), "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"].get("spec"), None);
    let whole = get(&format!("{ENVS}?includeObject=Object")).await;
    assert_eq!(text(&whole, "/rows/0/object/spec/templateRef/name"), "node");
    let one = get(&format!("{ENVS}/alice")).await;
    assert_eq!(one["rows"].as_array().map(Vec::len), Some(1));
}
