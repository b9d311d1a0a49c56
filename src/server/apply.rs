//! Server-side apply: a configuration becomes part of an object, or a new one, and its fields its manager's. It must never decide
//! how fields merge, which is `api::fields`'.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::api::{admit::ViolationReason, fields::Operation, kind::Kind};
use crate::server::{
    State,
    call::{Scope, Target, WriteOptions},
    draft, owners,
    status::Status,
    write::{self, ATTEMPTS_MAX, Written},
};

/// Applies a configuration; also says whether that made the object, where its caller may make it.
pub(super) async fn apply(
    state: &State,
    (target, making): (&Target, Result<(), Status>),
    options: &WriteOptions,
    configuration: Value,
) -> Result<(Written, bool), Status> {
    if !options.writer.is_named {
        return Err(Status::patch_option(
            "fieldManager",
            ViolationReason::Required,
            "Required value: is required for apply patch",
        ));
    }
    let mut options = options.clone();
    options.writer.operation = Operation::Apply;
    let object = &target.object;
    let configuration = configured(target, configuration)?;
    let mut turn = None;
    for _ in 0..ATTEMPTS_MAX {
        let Some(old) = write::current(&state.store, object).await? else {
            if target.status {
                return Err(Status::not_found(object));
            }
            making.clone()?;
            let namespace = object.kind.info().namespaced.then(|| object.namespace.clone());
            let scope = Scope { kind: object.kind, namespace, form: None };
            match write::create(state, &scope, &options, configuration.clone()).await {
                Ok(written) => return Ok((written, true)),
                Err(status) if status == Status::already_exists(object) => continue,
                Err(status) => return Err(status),
            }
        };
        let who = (target, &options.writer);
        let (merged, managers) = owners::merged(who, &old, &configuration);
        let mut draft = draft::replace(target, &old, merged, options.validation)?;
        let now = state.clock.now();
        owners::applied(&mut draft, who, (&old, &configuration), (managers, now))?;
        if let Some(written) = write::store(state, &old, draft, &options).await? {
            return Ok((written, false));
        }
        if turn.is_none() {
            turn = state.turns.take(object).await;
        }
    }
    Err(Status::modified(object))
}

/// A configuration of the path's object, without what cannot be applied there.
fn configured(target: &Target, configuration: Value) -> Result<Value, Status> {
    let kind = target.object.kind;
    let mut configuration = draft::of_path(&target.object, configuration)?;
    let owners = configuration.pointer("/metadata/managedFields");
    if owners.is_some_and(|it| !it.is_null() && it.as_array().is_none_or(|it| !it.is_empty())) {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let Some(fields) = configuration.as_object_mut() else { return Ok(configuration) };
    if target.status {
        fields
            .retain(|key, _| matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "status"));
    } else if kind.info().has_status {
        fields.shift_remove("status");
    }
    if kind == Kind::Secret {
        as_data(fields);
    }
    Ok(configuration)
}

/// Text is kept as `data`, so its owner has it there.
fn as_data(secret: &mut Map<String, Value>) {
    let is_text = |it: &Value| it.as_object().is_some_and(|it| it.values().all(Value::is_string));
    if !secret.get("stringData").is_some_and(is_text) {
        return;
    }
    let texts = secret.shift_remove("stringData");
    let data = secret.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if data.is_null() {
        *data = Value::Object(Map::new());
    }
    let (Some(Value::Object(texts)), Some(data)) = (texts, data.as_object_mut()) else { return };
    for (key, text) in texts {
        let value = text.as_str().unwrap_or_default();
        let value = base64::engine::general_purpose::STANDARD.encode(value);
        data.insert(key, Value::String(value));
    }
}
