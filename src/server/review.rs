//! Answers to callers' questions about themselves. It must never decide what may be done; `may` does.

use serde_json::{Value, json};

use crate::api::{access_token::PATHS, kind::Kind, offer, review::Review};
use crate::server::{
    may::{Caller, Thing, may},
    status::Status,
};

/// Paths that everybody who is let in may read, as rules name them.
const OPEN: &[&str] = &[
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
];

/// The question with its answer.
pub(super) fn answer(
    (review, version): (Review, &str),
    question: Value,
    caller: &Caller,
) -> Result<Value, Status> {
    let info = review.info();
    let api_version = offer::api_version(info.group, version);
    for (key, expected) in [("apiVersion", api_version.as_str()), ("kind", info.kind_name)] {
        if question.get(key).is_some_and(|it| *it != expected) {
            return Err(Status::bad_request(format!(
                "the `{key}` of the object is not `{expected}`, which the path asks for"
            )));
        }
    }
    let spec = question.get("spec").cloned().unwrap_or_else(|| json!({}));
    let status = match review {
        Review::Access => access(&spec, caller)?,
        Review::Rules => rules(&spec, caller),
        Review::Myself => {
            json!({"userInfo": {"username": caller.name(), "groups": caller.groups()}})
        }
    };
    let mut answer = json!({
        "kind": info.kind_name,
        "apiVersion": api_version,
        "metadata": {"creationTimestamp": null},
    });
    if review != Review::Myself {
        answer["spec"] = spec;
    }
    answer["status"] = status;
    Ok(answer)
}

fn access(spec: &Value, caller: &Caller) -> Result<Value, Status> {
    let of_resource = spec.get("resourceAttributes").filter(|it| it.is_object());
    let of_path = spec.get("nonResourceAttributes").filter(|it| it.is_object());
    let (attributes, is_path) = match (of_resource, of_path) {
        (Some(attributes), None) => (attributes, false),
        (None, Some(attributes)) => (attributes, true),
        _ => {
            return Err(Status::unprocessable(
                "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    let text = |key: &str| attributes.get(key).and_then(Value::as_str).unwrap_or_default();
    let thing = if is_path {
        Thing::Path(text("path"))
    } else {
        Thing::Resource { group: text("group"), name: text("resource"), part: text("subresource") }
    };
    // A namespace is in itself.
    let is_namespace = !is_path && text("resource") == Kind::Namespace.info().plural;
    let own = Some(text("name")).filter(|it| is_namespace && !it.is_empty());
    let namespace = own.or_else(|| Some(text("namespace")).filter(|it| !it.is_empty()));
    Ok(match may(caller, text("verb"), thing, namespace) {
        Ok(()) => json!({"allowed": true}),
        Err(reason) => json!({"allowed": false, "reason": reason}),
    })
}

fn rules(spec: &Value, caller: &Caller) -> Value {
    let namespace = spec.get("namespace").and_then(Value::as_str);
    let mut rules = Vec::new();
    for offer in offer::all() {
        let of_parts = offer.parts.iter().map(|it| (it.name, it.verbs));
        for (part, verbs) in std::iter::once(("", offer.verbs)).chain(of_parts) {
            let thing = Thing::Resource { group: offer.group, name: offer.plural, part };
            let verbs: Vec<_> =
                verbs.iter().filter(|verb| may(caller, verb, thing, namespace).is_ok()).collect();
            let resource = match part {
                "" => offer.plural.to_owned(),
                part => format!("{}/{part}", offer.plural),
            };
            let rule = json!({"verbs": verbs, "apiGroups": [offer.group], "resources": [resource]});
            if !verbs.is_empty() && !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    let mut of_paths = vec![json!({"verbs": ["get"], "nonResourceURLs": OPEN})];
    let named =
        PATHS.iter().filter(|(verb, path)| may(caller, verb, Thing::Path(path), None).is_ok());
    of_paths.extend(named.map(|(verb, path)| json!({"verbs": [verb], "nonResourceURLs": [path]})));
    json!({
        "resourceRules": rules,
        "nonResourceRules": of_paths,
        "incomplete": false,
    })
}
