//! CustomResourceDefinitions: what the registry says of hangar's own kinds, in the form in which Kubernetes' tools look for kinds
//! that they do not know. They are made when they are asked for. It must never name a kind.

use std::{collections::BTreeMap, sync::LazyLock};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{
    GROUP,
    column::{Cell, Column},
    kind::{Info, Kind},
    meta::resource,
    openapi,
};

resource! {
    /// What one of hangar's own kinds is called and looks like. Read from hangar itself; nobody can write one.
    CustomResourceDefinition {
        /// Names, scope, and for each version schema, columns and subresources.
        #[serde(default)]
        spec: BTreeMap<String, Value>,
        /// That it is served.
        #[serde(default)]
        status: BTreeMap<String, Value>,
    }
}

/// Schemas of hangar's own kinds, which take a while to make.
static SCHEMAS: LazyLock<Vec<(Kind, Value)>> = LazyLock::new(|| {
    let own = Kind::ALL.into_iter().filter(|it| it.info().group == GROUP);
    own.map(|kind| (kind, openapi::structural(kind))).collect()
});

/// Every definition, as of a time.
#[must_use]
pub fn all(since: Timestamp) -> Vec<Value> {
    let own = Kind::ALL.into_iter().map(Kind::info).filter(|it| it.group == GROUP);
    own.map(|info| definition(info, since)).collect()
}

fn definition(info: &Info, since: Timestamp) -> Value {
    let name = info.qualified();
    let uid = blake3::hash(name.as_bytes());
    let uid = uid.as_bytes().first_chunk().copied().unwrap_or_default();
    let names = json!({
        "plural": info.plural,
        "singular": info.singular,
        "kind": info.kind_name,
        "listKind": format!("{}List", info.kind_name),
        "shortNames": info.short_names,
        "categories": info.categories,
    });
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": since,
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": name,
            "uid": uuid::Builder::from_custom_bytes(uid).into_uuid(),
            "generation": 1,
            "creationTimestamp": since,
        },
        "spec": {
            "group": info.group,
            "names": names,
            "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
            "conversion": {"strategy": "None"},
            "versions": [version(info)],
        },
        "status": {
            "acceptedNames": names,
            "storedVersions": [info.version],
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the kind is served"),
            ],
        },
    })
}

fn version(info: &Info) -> Value {
    let mut subresources = json!({});
    if info.has_status {
        subresources["status"] = json!({});
    }
    if info.has_scale() {
        subresources["scale"] = json!({
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
        });
    }
    let schema = SCHEMAS.iter().find(|(kind, _)| *kind == info.kind);
    let fields = info.selectable.iter().map(|it| json!({"jsonPath": format!(".{it}")}));
    json!({
        "name": info.version,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": schema.map(|(_, it)| it)},
        "subresources": subresources,
        "selectableFields": fields.collect::<Vec<_>>(),
        "additionalPrinterColumns": info.columns.iter().filter_map(column).collect::<Vec<_>>(),
    })
}

/// A column, where a path can say what is in it.
fn column(column: &Column) -> Option<Value> {
    let (kind, path) = match column.cell {
        Cell::Path(path) => ("string", format!(".{path}")),
        Cell::Age(path) => ("date", format!(".{path}")),
        Cell::Condition(of) => {
            ("string", format!(".status.conditions[?(@.type==\"{of}\")].status"))
        }
        Cell::Reason(of) => ("string", format!(".status.conditions[?(@.type==\"{of}\")].reason")),
        Cell::Count(_) | Cell::Share(..) | Cell::Of(_) => return None,
    };
    Some(json!({
        "name": column.name,
        "type": kind,
        "description": column.about,
        "priority": u8::from(column.wide),
        "jsonPath": path,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_hangars_own_has_one_with_a_schema() {
        let all = all(Timestamp::UNIX_EPOCH);
        assert!(all.len() > 5);
        for definition in all {
            let version = &definition["spec"]["versions"][0];
            let schema = &version["schema"]["openAPIV3Schema"];
            assert_eq!(schema["type"], "object", "{definition}");
            assert!(!schema.to_string().contains("$ref"));
            assert!(version["additionalPrinterColumns"].as_array().is_some_and(|it| it.len() > 1));
            let name = definition["spec"]["names"]["plural"].as_str().unwrap();
            assert_eq!(definition["metadata"]["name"], format!("{name}.hangar.dev"));
        }
    }
}
