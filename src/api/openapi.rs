//! OpenAPI v3 of what is offered: a document for each group and version, with the kinds' schemas from their types and the
//! operations that clients look for. It must never say anything of a field that the types do not, nor name a kind.

use serde_json::{Map, Value, json};

use crate::api::{
    kind::{Form, Kind},
    offer::{self, Behind, Offer},
    schema,
};

/// Where `metadata` is described; clients know it by this name.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The document of a group and version.
#[must_use]
pub fn document(group: &str, version: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for offer in offer::of(group, version) {
        let Behind::Kind(kind, form) = offer.behind else { continue };
        let name = name(offer);
        let (object, metadata) = described(kind, form);
        schemas.insert(METADATA.to_owned(), metadata);
        schemas.insert(name.clone(), with_kind(object, offer));
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        for (path, item) in operations(offer, &schema) {
            paths.insert(path, item);
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "hangar", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// A kind's schema as a CustomResourceDefinition has it: `metadata` is only said to be there.
#[must_use]
pub fn structural(kind: Kind) -> Value {
    let (mut object, _) = described(kind, None);
    object["properties"]["metadata"] = json!({"type": "object"});
    object
}

/// The same with `metadata`.
#[must_use]
pub fn whole(kind: Kind) -> Value {
    let (mut object, metadata) = described(kind, None);
    object["properties"]["metadata"] = metadata;
    object
}

/// `dev.hangar.v1alpha1.Environment`; Kubernetes' own kinds have the names that they have there.
fn name(offer: &Offer) -> String {
    let group = match offer.group.strip_suffix(".k8s.io") {
        Some(group) => format!("io.k8s.api.{group}"),
        None if offer.group.is_empty() => "io.k8s.api.core".to_owned(),
        None => offer.group.split('.').rev().collect::<Vec<_>>().join("."),
    };
    format!("{group}.{}.{}", offer.version, offer.kind_name)
}

/// An object's schema and its metadata's, without references.
fn described(kind: Kind, form: Option<&Form>) -> (Value, Value) {
    let schema = schema::of(kind);
    let mut object = plain(&schema, &schema["$defs"]);
    for key in ["$schema", "$defs", "title"] {
        object.as_object_mut().map(|it| it.shift_remove(key));
    }
    for key in ["apiVersion", "kind"] {
        let about = schema.pointer(&format!("/properties/{key}/description"));
        object["properties"][key] = json!({"type": "string", "description": about});
    }
    if let Some(form) = form {
        object["properties"] = form.show(object["properties"].take());
    }
    let metadata = object["properties"]["metadata"].take();
    let about = metadata.get("description").cloned().unwrap_or_default();
    let reference = json!({"$ref": format!("#/components/schemas/{METADATA}")});
    object["properties"]["metadata"] = json!({"description": about, "allOf": [reference]});
    (object, metadata)
}

fn with_kind(mut schema: Value, offer: &Offer) -> Value {
    schema["x-kubernetes-group-version-kind"] = json!([kind_of(offer)]);
    schema
}

fn kind_of(offer: &Offer) -> Value {
    json!({"group": offer.group, "version": offer.version, "kind": offer.kind_name})
}

/// Paths and what can be done there, of a resource.
fn operations(offer: &Offer, schema: &Value) -> Vec<(String, Value)> {
    let base = if offer.group.is_empty() { "/api" } else { "/apis" };
    let base = format!("{base}/{}", offer.api_version());
    let mut all = format!("{base}/{}", offer.plural);
    let namespaces = "/namespaces/{namespace}";
    let mut paths = Vec::new();
    if offer.namespaced {
        let list = [("get", "list", "")].into_iter().collect::<Vec<_>>();
        paths.push((all, path_item(offer, schema, &list)));
        all = format!("{base}{namespaces}/{}", offer.plural);
    }
    let many = [("get", "list", ""), ("post", "create", "application/json")];
    paths.push((all.clone(), path_item(offer, schema, &many)));
    let one = [
        ("get", "get", ""),
        ("put", "update", "application/json"),
        // No strategic patches: clients would make them of the schema, and hangar's own kinds refuse them.
        (
            "patch",
            "patch",
            "application/merge-patch+json application/json-patch+json application/apply-patch+yaml",
        ),
        ("delete", "delete", ""),
    ];
    paths.push((format!("{all}/{{name}}"), path_item(offer, schema, &one)));
    paths
}

/// The operations among these (method, verb, media types of the body) that the resource has.
fn path_item(offer: &Offer, schema: &Value, operations: &[(&str, &str, &str)]) -> Value {
    let mut item = Map::new();
    for (method, verb, media) in operations {
        if !offer.verbs.contains(verb) {
            continue;
        }
        let mut operation = json!({
            "x-kubernetes-action": verb,
            "x-kubernetes-group-version-kind": kind_of(offer),
            "responses": {"200": {
                "description": "OK",
                "content": {"application/json": {"schema": schema}},
            }},
        });
        if !media.is_empty() {
            let parameter = |name: &str, about: &str| json!({"name": name, "in": "query", "description": about, "schema": {"type": "string"}});
            operation["parameters"] = json!([
                parameter("dryRun", "`All`: do everything but the write"),
                parameter("fieldManager", "Who writes"),
                parameter(
                    "fieldValidation",
                    "What becomes of fields that the kind does not have or that are there twice: Strict, Warn, Ignore",
                ),
            ]);
            let content = media.split(' ').map(|it| (it.to_owned(), json!({"schema": schema})));
            operation["requestBody"] = json!({"content": content.collect::<Map<_, _>>()});
        }
        item.insert((*method).to_owned(), operation);
    }
    Value::Object(item)
}

/// A schema of JSON Schema 2020-12 in OpenAPI 3.0's words, with every reference written out.
fn plain(schema: &Value, defs: &Value) -> Value {
    let Value::Object(fields) = schema else { return anything() };
    if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
        let target = &defs[reference.rsplit('/').next().unwrap_or_default()];
        return described_by(plain(target, defs), fields);
    }
    if let Some(any) = fields.get("anyOf").and_then(Value::as_array) {
        let is_null = |it: &&Value| it.get("type").is_some_and(|it| it == "null");
        let others: Vec<_> = any.iter().filter(|it| !is_null(it)).collect();
        let mut one = match others.as_slice() {
            [one] => plain(one, defs),
            // A number or text, a number or a map: whatever it is, it is kept.
            _ => anything(),
        };
        if others.len() < any.len() {
            one["nullable"] = json!(true);
        }
        return described_by(one, fields);
    }
    if let Some(constants) = constants(fields) {
        return described_by(json!({"type": "string", "enum": constants}), fields);
    }
    let mut plain_fields = Map::new();
    for (key, value) in fields {
        let value = match key.as_str() {
            "properties" => {
                let fields = value.as_object().into_iter().flatten();
                Value::Object(fields.map(|(key, it)| (key.clone(), plain(it, defs))).collect())
            }
            "items" => plain(value, defs),
            "additionalProperties" if value.is_object() => plain(value, defs),
            "type" if value.is_array() => {
                let types: Vec<_> = value.as_array().into_iter().flatten().collect();
                if types.iter().any(|it| *it == "null") {
                    plain_fields.insert("nullable".to_owned(), json!(true));
                }
                let mut others = types.into_iter().filter(|it| *it != "null");
                match (others.next(), others.next()) {
                    (Some(one), None) => one.clone(),
                    _ => return described_by(anything(), fields),
                }
            }
            "type"
            | "description"
            | "default"
            | "format"
            | "required"
            | "enum"
            | "pattern"
            | "nullable"
            | "minimum"
            | "maximum"
            | "minLength"
            | "maxLength"
            | "minItems"
            | "maxItems"
            | "x-kubernetes-list-type"
            | "x-kubernetes-list-map-keys"
            | "x-kubernetes-map-type" => value.clone(),
            _ => continue,
        };
        plain_fields.insert(key.clone(), value);
    }
    if plain_fields.contains_key("properties") || plain_fields.contains_key("type") {
        // Rust's `uint32` and the like are no formats here.
        let known = ["int32", "int64", "float", "double", "byte", "date-time"];
        if plain_fields.get("format").is_some_and(|it| !known.iter().any(|known| it == known)) {
            plain_fields.shift_remove("format");
        }
        return Value::Object(plain_fields);
    }
    described_by(anything(), fields)
}

fn anything() -> Value {
    json!({"x-kubernetes-preserve-unknown-fields": true})
}

/// What a field says of itself goes before what its type says.
fn described_by(mut schema: Value, fields: &Map<String, Value>) -> Value {
    for key in ["description", "default"] {
        if let Some(value) = fields.get(key) {
            schema[key] = value.clone();
        }
    }
    schema
}

/// The values of an enum, each of which may have a description.
fn constants(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    if let Some(one) = fields.get("const") {
        return Some(vec![one]);
    }
    let list = fields.get("oneOf")?.as_array()?;
    let values = list.iter().map(|it| match it.get("const") {
        Some(one) => Some(vec![one]),
        None => it.get("enum")?.as_array().map(|it| it.iter().collect()),
    });
    Some(values.collect::<Option<Vec<_>>>()?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every offer of a kind, with the document that it is in.
    fn offers() -> Vec<(&'static Offer, Kind, Option<&'static Form>, std::rc::Rc<Value>)> {
        let mut found = Vec::new();
        for group in offer::groups() {
            for version in group.versions {
                let document = std::rc::Rc::new(document(group.name, version));
                for offer in offer::of(group.name, version) {
                    if let Behind::Kind(kind, form) = offer.behind {
                        found.push((offer, kind, form, std::rc::Rc::clone(&document)));
                    }
                }
            }
        }
        assert!(found.len() >= Kind::ALL.len());
        found
    }

    #[test]
    fn every_kind_is_described_with_its_fields_and_without_references() {
        for (offer, kind, form, document) in offers() {
            let schema = &document["components"]["schemas"][name(offer)];
            assert_eq!(schema["x-kubernetes-group-version-kind"], json!([kind_of(offer)]));
            assert!(schema["description"].is_string(), "{}", offer.qualified());
            let of_type = schema::of(kind);
            for (field, _) in of_type["properties"].as_object().unwrap() {
                let here = form.and_then(|it| it.names.iter().find(|(own, _)| own == field));
                let here = here.map_or(field.as_str(), |(_, other)| other);
                assert!(schema["properties"].get(here).is_some(), "{}.{here}", offer.qualified());
            }
            let text = schema.to_string();
            assert_eq!(text.matches("$ref").count(), 1, "{}: only metadata's", offer.qualified());
            assert!(!text.contains("\"const\"") && !text.contains("\"null\""), "{text}");
        }
    }

    #[test]
    fn a_patch_says_that_fields_are_validated() {
        for (offer, _, _, document) in offers() {
            let paths = document["paths"].as_object().unwrap();
            let patches = paths.values().filter_map(|it| it.get("patch"));
            let of_kind =
                patches.filter(|it| it["x-kubernetes-group-version-kind"] == kind_of(offer));
            let validated =
                of_kind.filter(|it| it["parameters"].to_string().contains("fieldValidation"));
            let expected = usize::from(offer.verbs.contains(&"patch"));
            assert_eq!(validated.count(), expected, "{}", offer.qualified());
        }
    }
}
