//! Which resources there are, as Kubernetes clients ask for it. All of it is read from what the API offers; it must never name
//! a kind.

use http::HeaderValue;
use serde_json::{Value, json};

use crate::api::offer::{self, Group, Offer, Part};
use crate::server::call::Discovery;

/// The Kubernetes version whose behaviour is followed; clients warn about any other form.
const KUBERNETES: &str = "v1.33.0";

/// A form of the pages that list everything at once, and what their media type says: without these parameters clients read
/// them as the short form.
const AGGREGATED: [(&str, &str); 2] = [
    ("v2", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
    ("v2beta1", "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"),
];

/// A page of discovery and its media type.
pub(super) fn page(discovery: Discovery, accept: Option<&str>) -> (Value, HeaderValue) {
    let aggregated = accept.unwrap_or_default().split(',').find_map(form);
    let of_core = match discovery {
        Discovery::CoreVersions => true,
        Discovery::Groups => false,
        Discovery::Group(_) | Discovery::Resources(..) => {
            return (short(discovery), HeaderValue::from_static("application/json"));
        }
    };
    match aggregated.flatten() {
        Some((version, media)) => (aggregate(of_core, version), HeaderValue::from_static(media)),
        None => (short(discovery), HeaderValue::from_static("application/json")),
    }
}

/// The form that a range of an `Accept` header asks for: `Some(None)` is the short one, `None` none that hangar has.
fn form(range: &str) -> Option<Option<(&'static str, &'static str)>> {
    let mut parts = range.split(';').map(str::trim);
    if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
        return None;
    }
    let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
    let parameter = |key| parameters.iter().find(|(it, _)| *it == key).map(|(_, it)| *it);
    match (parameter("as"), parameter("g")) {
        (None, _) => Some(None),
        (Some("APIGroupDiscoveryList"), Some("apidiscovery.k8s.io")) => {
            AGGREGATED.into_iter().find(|(it, _)| parameter("v") == Some(*it)).map(Some)
        }
        (Some(_), _) => None,
    }
}

fn short(discovery: Discovery) -> Value {
    match discovery {
        Discovery::CoreVersions => {
            json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
        }
        Discovery::Groups => {
            let groups = offer::groups();
            let groups: Vec<_> =
                groups.iter().filter(|it| !it.name.is_empty()).map(group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        Discovery::Group(name) => {
            let mut page = json!({"kind": "APIGroup", "apiVersion": "v1"});
            let found = offer::groups().into_iter().find(|it| it.name == name);
            let group = found.as_ref().map(group);
            if let (Some(page), Some(Value::Object(group))) = (page.as_object_mut(), group) {
                page.extend(group);
            }
            page
        }
        Discovery::Resources(group, version) => {
            let mut resources = Vec::new();
            for offer in offer::of(group, version) {
                resources.push(resource(offer));
                resources.extend(offer.parts.iter().map(|part| subresource(offer, part)));
            }
            json!({
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": offer::api_version(group, version),
                "resources": resources,
            })
        }
    }
}

fn group(group: &Group) -> Value {
    let version = |version: &&str| json!({"groupVersion": offer::api_version(group.name, version), "version": version});
    let versions: Vec<_> = group.versions.iter().map(version).collect();
    json!({"name": group.name, "versions": versions, "preferredVersion": versions.first()})
}

fn resource(offer: &Offer) -> Value {
    json!({
        "name": offer.plural,
        "singularName": offer.singular,
        "namespaced": offer.namespaced,
        "kind": offer.kind_name,
        "verbs": offer.verbs,
        "shortNames": offer.short_names,
        "categories": offer.categories,
    })
}

fn subresource(offer: &Offer, part: &Part) -> Value {
    let mut resource = json!({
        "name": format!("{}/{}", offer.plural, part.name),
        "singularName": "",
        "namespaced": offer.namespaced,
        "kind": part.kind_name,
        "verbs": part.verbs,
    });
    if part.group != offer.group {
        resource["group"] = json!(part.group);
        resource["version"] = json!(part.version);
    }
    resource
}

/// Everything of the core, or of all other groups, on one page.
fn aggregate(of_core: bool, version: &str) -> Value {
    let groups = offer::groups();
    let groups = groups.iter().filter(|it| it.name.is_empty() == of_core);
    let items: Vec<_> = groups
        .map(|group| {
            let versions = group.versions.iter().map(|version| {
                let resources = offer::of(group.name, version).map(aggregated);
                json!({
                    "version": version,
                    "resources": resources.collect::<Vec<_>>(),
                    "freshness": "Current",
                })
            });
            let metadata =
                if group.name.is_empty() { json!({}) } else { json!({"name": group.name}) };
            json!({"metadata": metadata, "versions": versions.collect::<Vec<_>>()})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated(offer: &'static Offer) -> Value {
    let kind = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let parts = offer.parts.iter().map(|part| {
        json!({
            "subresource": part.name,
            "responseKind": kind(part.group, part.version, part.kind_name),
            "verbs": part.verbs,
        })
    });
    let mut resource = json!({
        "resource": offer.plural,
        "responseKind": kind(offer.group, offer.version, offer.kind_name),
        "scope": if offer.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": offer.singular,
        "verbs": offer.verbs,
    });
    for (key, names) in [("shortNames", offer.short_names), ("categories", offer.categories)] {
        if !names.is_empty() {
            resource[key] = json!(names);
        }
    }
    if !offer.parts.is_empty() {
        resource["subresources"] = Value::Array(parts.collect());
    }
    resource
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_asked_for_and_there_is_answered() {
        let check = |accept: &str, media: &str| {
            let (page, found) = page(Discovery::Groups, Some(accept));
            assert_eq!(found, media, "{accept}");
            page["apiVersion"].as_str().unwrap_or_default().to_owned()
        };
        let [v2, v2beta1] = AGGREGATED.map(|(_, media)| media);
        assert_eq!(
            check(&format!("{v2},{v2beta1},application/json"), v2),
            "apidiscovery.k8s.io/v2"
        );
        assert_eq!(
            check(&format!("{v2beta1},application/json"), v2beta1),
            "apidiscovery.k8s.io/v2beta1"
        );
        assert_eq!(check(&v2.replace("=v2;", "=v3;"), "application/json"), "v1");
        assert_eq!(check(&v2.replace(";as=", ";profile=nopeer;as="), v2), "apidiscovery.k8s.io/v2");
        assert_eq!(check("application/json", "application/json"), "v1");
        assert_eq!(check(&format!("application/json,{v2}"), "application/json"), "v1");
        assert_eq!(check("application/vnd.kubernetes.protobuf", "application/json"), "v1");
    }

    #[test]
    fn both_forms_tell_the_same_resources() {
        let everything = [aggregate(true, "v2"), aggregate(false, "v2")];
        for offer in offer::all() {
            let short = short(Discovery::Resources(offer.group, offer.version));
            let names: Vec<_> =
                short["resources"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
            assert!(names.contains(&&json!(offer.plural)), "{}", offer.qualified());
            let groups = everything.iter().flat_map(|it| it["items"].as_array().unwrap());
            let versions = groups.flat_map(|it| it["versions"].as_array().unwrap());
            let mut resources = versions.flat_map(|it| it["resources"].as_array().unwrap());
            assert!(resources.any(|it| *it == aggregated(offer)), "{}", offer.qualified());
        }
    }
}
