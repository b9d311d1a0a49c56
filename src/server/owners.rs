//! Who owns which fields, in every write that callers make: `metadata.managedFields` of what is about to be stored. It must never
//! note what hangar itself writes: its controller writes statuses, which callers do not, so sets of them would tell nobody
//! anything, and would make every commit larger and slower.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{
    self,
    fields::{Conflict, Manager, Managers, Operation, Shape},
    kind::Kind,
};
use crate::server::{
    call::{Target, Writer},
    draft::{self, Current, Draft},
    status::Status,
};

/// Notes who made a new object; of an applied one, what was applied.
pub(super) fn created(draft: &mut Draft, writer: &Writer, body: &Value, now: Timestamp) {
    let kind = draft.target.kind;
    let shape = Shape::of(kind);
    let who = (&manager(kind, writer, ""), draft::seconds(now));
    let mut managers = given(body).flatten().unwrap_or_default();
    match writer.operation {
        // Nobody has anything of what is not there yet, so there is no conflict.
        Operation::Apply => {
            let nothing = json!({});
            let _no_conflict =
                managers.apply(shape, who, (body, writer.is_forced()), (&nothing, &draft.object));
        }
        Operation::Update => managers.update(shape, who, (&servers_own(draft), &draft.object)),
    }
    put(draft, &managers);
}

/// Notes who changed an object. `proposed` is what the caller wants it to be, owners included: clients move fields from one
/// manager to another that way.
pub(super) fn updated(
    draft: &mut Draft,
    (target, writer): (&Target, &Writer),
    (old, proposed): (&Current, &Value),
    now: Timestamp,
) {
    let kind = target.object.kind;
    let subresource = if target.status { "status" } else { writer.subresource };
    let given = given(proposed).filter(|_| subresource.is_empty());
    let is_reset = given == Some(None);
    let managers = given.flatten().filter(|it| !it.is_empty());
    let mut managers = match managers {
        Some(given) => given,
        None if is_reset => Managers::default(),
        None => Managers::of(&old.object),
    };
    // What nobody owned when it was made, nobody is asked about until somebody applies it.
    if !managers.is_empty() {
        let who = (&manager(kind, writer, subresource), draft::seconds(now));
        managers.update(Shape::of(kind), who, (&old.object, &draft.object));
    }
    put(draft, &managers);
}

/// The object with a configuration applied, before it is admitted, and its managers until then.
pub(super) fn merged(
    (target, writer): (&Target, &Writer),
    old: &Current,
    configuration: &Value,
) -> (Value, Managers) {
    let kind = target.object.kind;
    let shape = Shape::of(kind);
    let who = manager(kind, writer, if target.status { "status" } else { "" });
    let mut managers = Managers::of(&old.object);
    managers.begin(shape, &old.object, &who.api_version);
    (managers.merged(shape, &who, &old.object, configuration), managers)
}

/// Notes who applied a configuration.
///
/// # Errors
/// The conflicts with others.
pub(super) fn applied(
    draft: &mut Draft,
    (target, writer): (&Target, &Writer),
    (old, configuration): (&Current, &Value),
    (mut managers, now): (Managers, Timestamp),
) -> Result<(), Status> {
    let kind = target.object.kind;
    let who = manager(kind, writer, if target.status { "status" } else { "" });
    let who = (&who, draft::seconds(now));
    let objects = (&old.object, &draft.object);
    managers
        .apply(Shape::of(kind), who, (configuration, writer.is_forced()), objects)
        .map_err(|conflicts: Vec<Conflict>| Status::apply_conflict(&conflicts))?;
    put(draft, &managers);
    Ok(())
}

fn manager(kind: Kind, writer: &Writer, subresource: &str) -> Manager {
    Manager {
        name: writer.name.clone(),
        operation: writer.operation,
        api_version: kind.info().api_version(),
        subresource: subresource.to_owned(),
    }
}

/// The owners that a caller sent: none that can be read is `None`, and `Some(None)` the list that means to forget all.
fn given(body: &Value) -> Option<Option<Managers>> {
    let list = body.pointer("/metadata/managedFields").filter(|it| !it.is_null())?;
    if *list == json!([{}]) {
        return Some(None);
    }
    Managers::read(list).map(Some)
}

/// What of a new object the server put there.
fn servers_own(draft: &Draft) -> Value {
    let is_own = |it: &&Value| **it == api::FINALIZER || **it == api::CONTENTS_FINALIZER;
    let finalizers = draft.object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let finalizers: Vec<_> = finalizers.into_iter().flatten().filter(is_own).collect();
    let mut own = json!({"metadata": {"finalizers": finalizers}});
    if draft.target.kind.info().has_status {
        own["status"] = draft.object.get("status").cloned().unwrap_or_default();
    }
    own
}

fn put(draft: &mut Draft, managers: &Managers) {
    let metadata = draft.object.get_mut("metadata").and_then(Value::as_object_mut);
    let Some(metadata) = metadata else { return };
    if managers.is_empty() {
        metadata.shift_remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), managers.list());
    }
}
