//! What a request's object becomes before it is stored: the server's own fields restored, defaults filled, rules checked.
//! Pure; it must never read another object, nor hold a rule about a kind's fields, which are `api::admit`'s.

use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Map, Value, json};

use crate::api::{
    self,
    admit::{self, Admitted, Violation, ViolationReason},
    environment::EnvironmentStatus,
    kind::Kind,
    meta::{Metadata, ObjectRef},
};
use crate::server::{
    call::{FieldValidation, Scope, Target},
    status::{self, Status},
};
use crate::store::Revision;

/// A stored object as JSON, and its last change.
#[derive(Debug, Clone)]
pub(super) struct Current {
    /// As it is stored.
    pub(super) object: Value,
    /// Its last change.
    pub(super) revision: Revision,
}

/// An object that may be written.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    /// Which.
    pub(super) target: ObjectRef,
    /// As it will be stored.
    pub(super) object: Value,
    /// Remarks for the caller.
    pub(super) warnings: Vec<String>,
}

/// Metadata that only the server writes. `resourceVersion` is never stored: it is the entry's revision.
const SERVER_OWNED: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// A new object. `random` makes its uid and, where asked for, its name.
pub(super) fn create(
    scope: &Scope,
    body: Value,
    (random, now): (uuid::Uuid, Timestamp),
    validation: FieldValidation,
) -> Result<Draft, Status> {
    let kind = scope.kind;
    let mut object = envelope(kind, body)?;
    let metadata = metadata_mut(&mut object)?;
    if text(metadata, "resourceVersion").is_some_and(|it| !it.is_empty()) {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    if text(metadata, "name").is_none_or(str::is_empty)
        && let Some(prefix) = text(metadata, "generateName").filter(|it| !it.is_empty())
    {
        let name = Value::String(generated(prefix, random));
        metadata.insert("name".to_owned(), name);
    }
    let name = text(metadata, "name").unwrap_or_default().to_owned();
    let target = ObjectRef::new(kind, scope.namespace.as_deref().unwrap_or_default(), &name);
    place(metadata, &target)?;
    let mut truth = Map::new();
    truth.insert("uid".to_owned(), json!(random.to_string()));
    truth.insert("creationTimestamp".to_owned(), json!(seconds(now)));
    if has_generation(kind) {
        truth.insert("generation".to_owned(), json!(1));
    }
    own(metadata, &truth);
    keep_finalizer(metadata, kind, false);
    if kind == Kind::Namespace {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        }
    }
    set_status(&mut object, kind, first_status(kind));
    let admitted = admit(&target, object, None, validation)?;
    if !is_key(&name) {
        return Err(Status::invalid_field(
            &target,
            "metadata.name",
            ViolationReason::Required,
            "name or generateName is required, of letters, digits, dashes and dots",
        ));
    }
    Ok(Draft { target, object: admitted.object, warnings: admitted.warnings })
}

/// A body that is the path's object, with its version, kind, name and namespace.
pub(super) fn of_path(target: &ObjectRef, body: Value) -> Result<Value, Status> {
    let mut object = envelope(target.kind, body)?;
    place(metadata_mut(&mut object)?, target)?;
    Ok(object)
}

/// An object in the place of another; only its status where the target says so.
pub(super) fn replace(
    target: &Target,
    old: &Current,
    new: Value,
    validation: FieldValidation,
) -> Result<Draft, Status> {
    let kind = target.object.kind;
    let mut object = envelope(kind, new)?;
    let truth = old.object.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    let metadata = metadata_mut(&mut object)?;
    check_versions(&target.object, metadata, &truth, old.revision)?;
    let object = if target.status {
        let mut changed = old.object.clone();
        set_status(&mut changed, kind, object.get("status").cloned());
        changed
    } else {
        place(metadata, &target.object)?;
        own(metadata, &truth);
        let deleting = truth.contains_key("deletionTimestamp");
        keep_finalizer(metadata, kind, deleting);
        if deleting {
            no_new_finalizer(&target.object, metadata, &truth)?;
        }
        set_status(&mut object, kind, old.object.get("status").cloned());
        object
    };
    let Admitted { mut object, warnings, .. } =
        admit(&target.object, object, Some(&old.object), validation)?;
    if has_generation(kind) && !admit::same_spec(&old.object, &object) {
        let generation = object.pointer("/metadata/generation").and_then(Value::as_u64);
        let metadata = metadata_mut(&mut object)?;
        metadata.insert("generation".to_owned(), json!(generation.unwrap_or(0) + 1));
    }
    Ok(Draft { target: target.object.clone(), object, warnings })
}

/// Kubernetes gives Secrets no generation. Here machines are given what is in them, and the controller tells by the
/// generation whether that changed.
fn has_generation(kind: Kind) -> bool {
    kind.info().group == api::GROUP || kind == Kind::Secret
}

/// The same object with its deletion asked for.
pub(super) fn deleting(kind: Kind, mut object: Value, now: Timestamp) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.entry("deletionTimestamp").or_insert_with(|| json!(seconds(now)));
        metadata.entry("deletionGracePeriodSeconds").or_insert_with(|| json!(0));
    }
    if kind == Kind::Namespace {
        object["status"] = json!({"phase": "Terminating"});
    }
    object
}

/// The name of an object; empty where it has none yet.
pub(super) fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

/// Metadata of a stored object, typed.
pub(super) fn metadata(object: &Value) -> Metadata {
    // What is stored was typed at admission; anything else has no metadata that could be acted on.
    object
        .get("metadata")
        .and_then(|metadata| Metadata::deserialize(metadata).ok())
        .unwrap_or_default()
}

fn admit(
    target: &ObjectRef,
    object: Value,
    old: Option<&Value>,
    validation: FieldValidation,
) -> Result<Admitted, Status> {
    let refused = |violations: Vec<Violation>| Status::invalid(target, &violations);
    if validation == FieldValidation::Strict {
        return admit::admit(target.kind, object, old).map_err(refused);
    }
    let is_refused = |it: &Violation| {
        it.reason != ViolationReason::Unknown
            || validation == FieldValidation::Unsaid && !it.field.starts_with("status.")
    };
    let mut admitted = admit::admit_known(target.kind, object, old).map_err(|mut violations| {
        violations.retain(is_refused);
        refused(violations)
    })?;
    if admitted.unknown.iter().any(is_refused) {
        return Err(refused(admitted.unknown));
    }
    if validation != FieldValidation::Ignore {
        let unknown = admitted.unknown.iter().map(|it| format!("unknown field \"{}\"", it.field));
        admitted.warnings.extend(unknown);
    }
    Ok(admitted)
}

/// `apiVersion` and `kind` must be the path's; absent, they are filled in, in front.
fn envelope(kind: Kind, body: Value) -> Result<Value, Status> {
    let Value::Object(mut fields) = body else {
        return Err(Status::bad_request("the body is not an object"));
    };
    let info = kind.info();
    let mut object = Map::new();
    for (key, expected) in [("apiVersion", info.api_version()), ("kind", info.kind_name.to_owned())]
    {
        match fields.shift_remove(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text == expected => {}
            Some(_) => {
                return Err(Status::bad_request(format!(
                    "the `{key}` of the object is not `{expected}`, which the path asks for"
                )));
            }
        }
        object.insert(key.to_owned(), Value::String(expected));
    }
    object.extend(fields);
    Ok(Value::Object(object))
}

fn metadata_mut(object: &mut Value) -> Result<&mut Map<String, Value>, Status> {
    let fields = object.as_object_mut();
    let metadata = fields.map(|it| it.entry("metadata").or_insert_with(|| json!({})));
    match metadata {
        Some(Value::Object(metadata)) => Ok(metadata),
        Some(_) | None => Err(Status::bad_request("`metadata` is not an object")),
    }
}

fn text<'a>(metadata: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(Value::as_str)
}

/// Name and namespace must be the path's; absent, they are filled in.
fn place(metadata: &mut Map<String, Value>, target: &ObjectRef) -> Result<(), Status> {
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    for (key, expected) in [("name", Some(target.name.as_str())), ("namespace", namespace)] {
        let given = metadata.get(key).filter(|it| !it.is_null() && *it != "");
        if given.is_some() && given.and_then(Value::as_str) != expected {
            return Err(Status::bad_request(format!(
                "the {key} of the object does not match the {key} on the URL"
            )));
        }
        match expected {
            Some(text) => metadata.insert(key.to_owned(), json!(text)),
            None => metadata.shift_remove(key),
        };
    }
    Ok(())
}

fn own(metadata: &mut Map<String, Value>, truth: &Map<String, Value>) {
    for key in SERVER_OWNED {
        match truth.get(key) {
            Some(value) => metadata.insert(key.to_owned(), value.clone()),
            None => metadata.shift_remove(key),
        };
    }
}

fn check_versions(
    target: &ObjectRef,
    metadata: &Map<String, Value>,
    truth: &Map<String, Value>,
    revision: Revision,
) -> Result<(), Status> {
    let given = text(metadata, "resourceVersion").filter(|it| !it.is_empty() && *it != "0");
    if given.is_some_and(|given| given != revision.to_string()) {
        return Err(Status::modified(target));
    }
    let uid = text(metadata, "uid").filter(|it| !it.is_empty());
    if uid.is_some() && uid != text(truth, "uid") {
        return Err(Status::conflict(target, "its uid is another one: it was created again"));
    }
    Ok(())
}

/// A finalizer of the server's own is there from the start and cannot be lost by a write that does not know it. An
/// environment's may be taken away by hand once it is being deleted; a namespace's never.
fn keep_finalizer(metadata: &mut Map<String, Value>, kind: Kind, deleting: bool) {
    let finalizer = match kind {
        Kind::Environment if !deleting => api::FINALIZER,
        Kind::Namespace => api::CONTENTS_FINALIZER,
        _ => return,
    };
    let list = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Some(list) = list.as_array_mut()
        && !list.iter().any(|it| it == finalizer)
    {
        list.push(json!(finalizer));
    }
}

fn no_new_finalizer(
    target: &ObjectRef,
    metadata: &Map<String, Value>,
    truth: &Map<String, Value>,
) -> Result<(), Status> {
    let list = |metadata: &Map<String, Value>| {
        metadata.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let old = list(truth);
    if list(metadata).iter().all(|it| old.contains(it)) {
        return Ok(());
    }
    Err(Status::invalid_field(
        target,
        "metadata.finalizers",
        ViolationReason::Forbidden,
        "no new finalizers can be added if the object is being deleted",
    ))
}

fn set_status(object: &mut Value, kind: Kind, status: Option<Value>) {
    if !kind.info().has_status {
        return;
    }
    let Some(fields) = object.as_object_mut() else { return };
    match status {
        Some(status) => fields.insert("status".to_owned(), status),
        None => fields.shift_remove("status"),
    };
}

/// Some clients cannot read an object that has no status yet.
fn first_status(kind: Kind) -> Option<Value> {
    match kind {
        Kind::Environment => serde_json::to_value(EnvironmentStatus::default()).ok(),
        Kind::Namespace => Some(json!({"phase": "Active"})),
        _ => None,
    }
}

/// Kubernetes' timestamps have whole seconds.
pub(super) fn seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Whether a name can be part of a key of the store, whatever else its kind asks of it.
fn is_key(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b':'))
}

/// As Kubernetes does it: five characters without vowels, so that they form no word.
fn generated(prefix: &str, random: uuid::Uuid) -> String {
    const CHARACTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let end = prefix.char_indices().nth(58).map_or(prefix.len(), |(at, _)| at);
    let mut name = prefix.get(..end).unwrap_or_default().to_owned();
    for byte in random.as_bytes().iter().take(5) {
        name.push(char::from(CHARACTERS[usize::from(*byte) % CHARACTERS.len()]));
    }
    name
}

/// Refuses kinds that only hangar writes.
pub(super) fn check_writable(kind: Kind, object: Option<&ObjectRef>) -> Result<(), Status> {
    if kind.info().writable {
        return Ok(());
    }
    hangars_own(kind, object)
}

/// Refuses kinds that only hangar deletes.
pub(super) fn check_deletable(kind: Kind, object: Option<&ObjectRef>) -> Result<(), Status> {
    if kind.info().deletable {
        return Ok(());
    }
    hangars_own(kind, object)
}

const NO_PODS: &str = "a pod is only a view of an environment's machine, which hangar makes and changes by itself: \
change the environment instead; deleting the pod makes the machine anew, and `operatingMode: Asleep` stops it";

fn hangars_own(kind: Kind, object: Option<&ObjectRef>) -> Result<(), Status> {
    let info = kind.info();
    if kind == Kind::Pod {
        return Err(Status::not_allowed(NO_PODS));
    }
    let what = if info.deletable { "made and changed" } else { "made, changed and removed" };
    let why = format!("{} are {what} by hangar alone", info.plural);
    match object {
        Some(object) => Err(Status::forbidden_object(object, &why)),
        None => Err(Status::forbidden_object(&status::unnamed(kind), &why)),
    }
}
