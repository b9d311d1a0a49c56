//! The scale subresource: what whatever scales in Kubernetes reads and writes.

use super::*;

const POOLS: &str = "/apis/hangar.dev/v1alpha1/namespaces/default/warmpools";

async fn with_pool(replicas: Value) -> Api {
    let api = Api::start().await;
    let pool = json!({
        "apiVersion": "hangar.dev/v1alpha1", "kind": "WarmPool", "metadata": {"name": "node"},
        "spec": {"templateRef": {"name": "node"}, "replicas": replicas},
    });
    let reply = api.post(POOLS, &pool).await;
    assert_eq!(reply.code, 201, "{}", reply.body);
    api
}

fn scale() -> String {
    format!("{POOLS}/node/scale")
}

#[tokio::test]
async fn a_pool_is_scaled_by_what_scales_in_kubernetes() {
    let api = with_pool(json!(2)).await;
    let read = api.get(&scale()).await.body;
    assert_eq!((text(&read, "/kind"), text(&read, "/apiVersion")), ("Scale", "autoscaling/v1"));
    assert_eq!(read["spec"], json!({"replicas": 2}));
    assert_eq!(read["status"], json!({"replicas": 0, "selector": "hangar.dev/pool=node"}));

    let patched = api.patch(&scale(), &json!({"spec": {"replicas": 5}})).await;
    assert_eq!((patched.code, &patched.body["spec"]), (200, &json!({"replicas": 5})));
    let steps = json!([{"op": "replace", "path": "/spec/replicas", "value": 6}]);
    assert_eq!(api.patch(&scale(), &steps).await.body["spec"]["replicas"], 6);

    // Whoever read it before that writes nothing.
    let put = format!("PUT {}", scale());
    assert_eq!(api.call(&put, Some(&read)).await.code, 409);
    let mut fresh = api.get(&scale()).await.body;
    fresh["spec"]["replicas"] = json!(0);
    assert_eq!(api.call(&put, Some(&fresh)).await.code, 200);
    let pool = api.get(&format!("{POOLS}/node")).await.body;
    assert_eq!(
        (&pool["spec"]["replicas"], &pool["metadata"]["generation"]),
        (&json!(0), &json!(4))
    );
    assert_eq!(pool["spec"]["warmState"], "Started", "all else stays");

    let dry_run = format!("{}?dryRun=All", scale());
    assert_eq!(api.patch(&dry_run, &json!({"spec": {"replicas": 9}})).await.code, 200);
    assert_eq!(api.get(&scale()).await.body["spec"]["replicas"], 0);
}

#[tokio::test]
async fn what_is_no_scale_of_it_is_refused() {
    let api = with_pool(json!(2)).await;
    for (body, code) in [
        (json!({"spec": {"replicas": -1}}), 422),
        (json!({"spec": {"replicas": "3"}}), 422),
        (json!({"spec": {"replicas": null}}), 422),
        (json!({"spec": {"replicas": 1001}}), 422),
        (json!({"kind": "WarmPool"}), 400),
        (json!({"metadata": {"name": "other"}}), 400),
        (json!({"metadata": {"uid": "other"}}), 409),
    ] {
        assert_eq!(api.patch(&scale(), &body).await.code, code, "{body}");
    }
    assert_eq!(api.call(&format!("PUT {}", scale()), Some(&json!({}))).await.code, 422);
    assert_eq!(api.get(&format!("{POOLS}/none/scale")).await.code, 404);
    assert_eq!(api.delete(&scale()).await.code, 405);
    assert_eq!(api.get(&format!("{ENVS}/alice/scale")).await.code, 404);
}

#[tokio::test]
async fn a_number_for_all_is_refused_where_there_is_one_for_each_region() {
    let api = with_pool(json!({"ams": 3, "fra": 1})).await;
    assert_eq!(api.get(&scale()).await.body["spec"]["replicas"], 4);
    let reply = api.patch(&scale(), &json!({"spec": {"replicas": 2}})).await;
    assert_eq!(reply.code, 422);
    let message = text(&reply.body, "/message");
    assert!(message.contains("spec.replicas: it has a number for each region"), "{message}");
    assert!(message.contains("hangar scale pool/node --replicas ams=N,fra=N"), "{message}");
}

#[tokio::test]
async fn a_number_is_refused_where_the_pool_follows_its_claims() {
    let api = with_pool(json!(2)).await;
    let follows = json!({"spec": {"autoscale": {"min": 1, "max": 9}}});
    assert_eq!(api.patch(&format!("{POOLS}/node"), &follows).await.code, 200);
    let reply = api.patch(&scale(), &json!({"spec": {"replicas": 3}})).await;
    let message = text(&reply.body, "/message");
    assert!(reply.code == 422 && message.contains("spec.autoscale.min"), "{message}");
}

#[tokio::test]
async fn discovery_lists_it() {
    let api = Api::start().await;
    let list = api.get("/apis/hangar.dev/v1alpha1").await.body["resources"].take();
    let found = list.as_array().unwrap().iter().find(|it| it["name"] == "warmpools/scale").unwrap();
    assert_eq!(
        found,
        &json!({
            "name": "warmpools/scale", "singularName": "", "namespaced": true, "group": "autoscaling", "version": "v1",
            "kind": "Scale", "verbs": ["get", "patch", "update"],
        })
    );
}

#[tokio::test]
async fn a_whole_scale_without_a_number_means_none() {
    let api = with_pool(json!(2)).await;
    // Written by Kubernetes' own type, which leaves a zero out, by a client that does not say what it sends.
    let mut now = api.get(&scale()).await.body;
    now["spec"] = json!({});
    let put = api.send(api.request(&format!("PUT {}", scale())).body(now.to_string())).await;
    assert_eq!((put.code, &put.body["spec"]["replicas"]), (200, &json!(0)), "{}", put.body);
}
