//! Apps, tokens, secrets, addresses, regions, and the forms that all answers share.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn app_names_are_global_and_follow_a_grammar() {
    let (fly, _dir) = fly().await;
    let taken = fly.call("POST /apps", json!({"app_name": "a", "org_slug": "personal"})).await;
    taken.refused(422, "Validation failed: Name has already been taken");
    assert_eq!(taken.body["status"], "name_taken");
    fly.call("POST /apps", json!({"name": "No_Way", "org_slug": "personal"})).await.refused(
        422,
        "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes",
    );
    fly.call("POST /apps", json!({"name": "b"}))
        .await
        .refused(400, "authorization: request doesn't contain org_slug");
}

#[tokio::test]
async fn an_app_tells_its_network_and_its_counts() {
    let (fly, _dir) = fly().await;
    fly.machine("started", small()).await;
    let app = fly.get("/apps/a").await.good();
    assert_eq!((&app["network"], &app["machine_count"]), (&json!("net-a"), &json!(1)));
    let list = fly.get("/apps?org_slug=personal").await.good();
    assert_eq!((&list["total_apps"], &list["apps"][0]["name"]), (&json!(1), &json!("a")));
    fly.get("/apps/nobody").await.refused(404, "app not found");
}

#[tokio::test]
async fn deleting_an_app_takes_machines_and_volumes_along() {
    let (fly, dir) = fly().await;
    let machine = fly.machine("started", small()).await;
    let volume = json!({"name": "data", "region": "ams"});
    let volume = fly.call("POST /apps/a/volumes", volume).await.good();
    assert_eq!(fly.call("DELETE /apps/a?force=true", Value::Null).await.status, 202);
    fly.get("/apps/a").await.refused(404, "app not found");
    fly.backend.until_gone(&machine).await;
    let content = dir.path().join("volumes").join(volume["id"].as_str().unwrap());
    while content.exists() || dir.path().join("apps/a").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fly.app("a").await;
}

#[tokio::test]
async fn a_token_is_needed_in_one_of_two_schemes() {
    let (fly, _dir) = fly().await;
    let status = async |header: Option<&str>| {
        let mut request = fly.client.get(format!("{}/v1/apps/a", fly.base));
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let response = request.send().await.unwrap();
        let id = response.headers()["fly-request-id"].to_str().unwrap().to_owned();
        assert!(id.len() == 32 && id.ends_with("-local"), "{id}");
        (response.status().as_u16(), response.text().await.unwrap())
    };
    assert_eq!(status(Some("Bearer x")).await.0, 200);
    assert_eq!(status(Some("FlyV1 fm2_a,fm2_b")).await.0, 200);
    for bad in [None, Some("Basic x"), Some("Bearer ")] {
        let (code, body) = status(bad).await;
        assert_eq!(code, 401);
        assert!(body.contains("Authenticate: token validation error"), "{body}");
    }
}

#[tokio::test]
async fn an_app_of_another_organisation_is_forbidden_and_not_missing() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = [("t", "theirs"), ("o", "personal")];
    let tokens = tokens.map(|(token, org)| (token.to_owned(), vec![org.to_owned()]));
    let orgs = ["personal", "theirs"].map(str::to_owned).to_vec();
    let access = Access::Tokens(BTreeMap::from(tokens));
    let fly = Fly::open(Config { access, orgs, ..config(dir.path()) }, Arc::default()).await;
    let url = format!("{}/v1/apps", fly.base);
    let input = json!({"name": "a", "org_slug": "personal"});
    let made = fly.client.post(url).bearer_auth("o").json(&input).send().await.unwrap();
    assert_eq!(made.status(), 201);
    fly.get("/apps/a").await.refused(403, "unauthorized");
    fly.get("/apps/b").await.refused(404, "app not found");
}

#[tokio::test]
async fn secrets_have_versions_and_answer_only_digests() {
    let (fly, _dir) = fly().await;
    let set = json!({"values": {"K": "hidden-value", "L": "2"}});
    let first = fly.call("POST /apps/a/secrets", set).await.good();
    assert_eq!(first["version"], 1);
    let one = fly.call("POST /apps/a/secrets/M", json!({"value": "3"})).await;
    assert_eq!((one.status, &one.body["version"]), (201, &json!(2)));
    fly.call("POST /apps/a/secrets", json!({"values": {"L": null}})).await.good();
    let list = fly.get("/apps/a/secrets?show_secrets=true").await.good();
    let names: Vec<_> =
        list["secrets"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["K", "M"]);
    assert!(!list.to_string().contains("hidden-value"));
    let old = json!({"config": {"image": "app"}, "min_secrets_version": 9});
    assert_eq!(fly.create(old).await.status, 412);
}

#[tokio::test]
async fn addresses_and_policies_are_stored() {
    let (fly, _dir) = fly().await;
    let ip = fly.call("POST /apps/a/ip_assignments", json!({"type": "private_v6"})).await.good();
    let ip = ip["ip"].as_str().unwrap();
    assert_eq!(fly.get("/apps/a/ip_assignments").await.good()["ips"][0]["ip"], ip);
    let path = format!("DELETE /apps/a/ip_assignments/{ip}");
    assert_eq!(fly.call(&path, Value::Null).await.status, 204);
    let policy = json!({"name": "p", "selector": {"all": true}, "rules": []});
    let policy = fly.call("POST /apps/a/network_policies", policy).await.good();
    assert_eq!(fly.get("/apps/a/network_policies/").await.good(), json!([policy]));
    let path = format!("DELETE /apps/a/network_policies/{}", policy["id"].as_str().unwrap());
    assert_eq!(fly.call(&path, Value::Null).await.status, 204);
}

#[tokio::test]
async fn regions_answer_with_capitals() {
    let (fly, _dir) = fly().await;
    let regions = fly.get("/platform/regions").await.good();
    assert_eq!(
        (&regions["Nearest"], &regions["Regions"][0]["code"]),
        (&json!("ams"), &json!("ams"))
    );
    let placed = fly.call("POST /platform/placements", json!({"org_slug": "personal"})).await;
    assert_eq!(placed.good()["Regions"][0]["Region"], "ams");
}

#[tokio::test]
async fn requests_are_counted_by_template() {
    let (fly, _dir) = fly().await;
    fly.get("/apps/a/machines/nobody").await.refused(404, "machine not found");
    fly.get("/what/is/this").await;
    let text = fly.client.get(format!("{}/metrics", fly.base)).send().await.unwrap();
    let text = text.text().await.unwrap();
    for line in [
        r#"hangar_local_requests_total{method="POST",route="/v1/apps",status="201"} 1"#,
        r#"hangar_local_requests_total{method="GET",route="/v1/apps/{app}/machines/{id}",status="404"} 1"#,
        r#"hangar_local_requests_total{method="GET",route="unknown",status="404"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_refused() {
    let (fly, _dir) = fly().await;
    let big = json!({"config": {"image": "x".repeat(1024 * 1024)}});
    assert_eq!(fly.create(big).await.status, 413);
}

#[tokio::test]
async fn too_many_calls_are_answered_429() {
    let dir = tempfile::tempdir().unwrap();
    let fly = Fly::open(Config { rate_limits: true, ..config(dir.path()) }, Arc::default()).await;
    fly.app("a").await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(fly.get("/apps/a/machines").await);
    }
    assert_eq!(answers.iter().map(|it| it.status).collect::<Vec<_>>(), [200, 200, 200, 429]);
    answers[3].refused(429, "rate limit exceeded");
}
