//! Which kinds there are, as Kubernetes clients ask for it. All of it is read from the registry; it must never name a kind.

use serde_json::{Value, json};

use crate::api::{
    API_VERSION, GROUP, VERSION,
    kind::{Info, Kind},
};
use crate::server::call::{Discovery, METRICS_GROUP};

/// The Kubernetes version whose behaviour is followed; clients warn about any other form.
const KUBERNETES: &str = "v1.33.0";

/// Group and version of what pods use.
pub(super) const METRICS_VERSION: &str = "metrics.k8s.io/v1beta1";

/// A page of discovery.
pub(super) fn page(discovery: Discovery) -> Value {
    match discovery {
        Discovery::CoreVersions => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        Discovery::Groups => {
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(), metrics()]})
        }
        Discovery::Group => {
            let mut page = json!({"kind": "APIGroup", "apiVersion": "v1"});
            if let (Some(page), Value::Object(group)) = (page.as_object_mut(), group()) {
                page.extend(group);
            }
            page
        }
        Discovery::MetricsGroup => {
            let mut page = metrics();
            page["kind"] = json!("APIGroup");
            page["apiVersion"] = json!("v1");
            page
        }
        Discovery::MetricsResources => json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": METRICS_VERSION,
            "resources": [{
                "name": "pods",
                "singularName": "",
                "namespaced": true,
                "kind": "PodMetrics",
                "verbs": ["get", "list"],
            }],
        }),
        Discovery::CoreResources => resources("", "v1"),
        Discovery::Resources => resources(GROUP, API_VERSION),
    }
}

/// The group of what pods use.
fn metrics() -> Value {
    let version = json!({"groupVersion": METRICS_VERSION, "version": "v1beta1"});
    json!({"name": METRICS_GROUP, "versions": [version], "preferredVersion": version})
}

fn group() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

fn resources(group: &str, group_version: &str) -> Value {
    let mut resources = Vec::new();
    for info in Kind::ALL.into_iter().map(Kind::info).filter(|info| info.group == group) {
        resources.push(json!({
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.kind_name,
            "verbs": verbs(info),
            "shortNames": info.short_names,
            "categories": info.categories,
        }));
        if info.has_status {
            let verbs: &[&str] = if info.writable { &["get", "patch", "update"] } else { &["get"] };
            resources.push(json!({
                "name": format!("{}/status", info.plural),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": info.kind_name,
                "verbs": verbs,
            }));
        }
        for stream in info.streams() {
            let verbs: &[&str] = if *stream == "log" { &["get"] } else { &["create", "get"] };
            resources.push(json!({
                "name": format!("{}/{stream}", info.plural),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": info.kind_name,
                "verbs": verbs,
            }));
        }
        if info.has_scale() {
            resources.push(json!({
                "name": format!("{}/scale", info.plural),
                "singularName": "",
                "namespaced": info.namespaced,
                "group": "autoscaling",
                "version": "v1",
                "kind": "Scale",
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version,
        "resources": resources,
    })
}

fn verbs(info: &Info) -> &'static [&'static str] {
    if info.writable {
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    } else if info.deletable {
        &["delete", "deletecollection", "get", "list", "watch"]
    } else {
        &["get", "list", "watch"]
    }
}

/// What `kubectl version` shows.
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "33",
        "gitVersion": format!("{KUBERNETES}+hangar.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}
