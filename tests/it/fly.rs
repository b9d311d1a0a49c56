//! The local Machines API, behind hangar's back. It must never go through hangar's own client.

use http::{Method, Request};
use serde_json::Value;

use crate::harness::{Answer, call};

/// A raw client of the local Machines API.
#[derive(Debug, Clone)]
pub(crate) struct Fly {
    pub(crate) address: String,
}

impl Fly {
    pub(crate) async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("authorization", "Bearer test")
            .header("content-type", "application/json");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        call(&self.address, request, body).await
    }

    /// `GET`, which must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call(Method::GET, path, &Value::Null).await;
        assert!(answer.status.is_success(), "GET {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// `POST`, which must succeed.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.call(Method::POST, path, body).await;
        assert!(answer.status.is_success(), "POST {path}: {} {}", answer.status, answer.text());
        answer.json()
    }

    /// `DELETE`, which must succeed.
    pub(crate) async fn delete(&self, path: &str) {
        let answer = self.call(Method::DELETE, path, &Value::Null).await;
        assert!(answer.status.is_success(), "DELETE {path}: {} {}", answer.status, answer.text());
    }

    /// All apps.
    pub(crate) async fn apps(&self) -> Vec<Value> {
        items(&self.get("/v1/apps?org_slug=personal").await["apps"], |_| true)
    }

    /// All machines that are not destroyed.
    pub(crate) async fn machines(&self) -> Vec<Value> {
        let list = self.get("/v1/orgs/personal/machines").await;
        items(&list["machines"], |state| state != "destroyed" && state != "destroying")
    }

    /// All volumes that are not given up; Fly keeps those for a day.
    pub(crate) async fn volumes(&self) -> Vec<Value> {
        let list = self.get("/v1/orgs/personal/volumes").await;
        items(&list["volumes"], |state| state != "destroyed" && state != "pending_destroy")
    }

    /// How many requests that may change something were answered. `exec` is left out: hangar counts connections by it.
    pub(crate) async fn mutating_calls(&self) -> u64 {
        let answer = self.call(Method::GET, "/metrics", &Value::Null).await;
        let counters = answer.text();
        let counters = counters.lines().filter(|it| it.starts_with("hangar_local_requests_total{"));
        counters
            .filter(|it| !it.contains("method=\"GET\"") && !it.contains("/exec\""))
            .map(|it| it.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    }
}

fn items(list: &Value, keep: impl Fn(&str) -> bool) -> Vec<Value> {
    let list = list.as_array().unwrap_or_else(|| panic!("not a list: {list}")).iter();
    list.filter(|it| keep(it["state"].as_str().unwrap_or_default())).cloned().collect()
}
