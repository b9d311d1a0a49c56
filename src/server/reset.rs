//! Deleting a pod, which is to order that its machine is made anew. The order is a word in the environment, which the controller
//! follows; it must never touch a machine itself.

use serde_json::{Value, json};

use crate::api::{kind::Kind, meta::ObjectRef, pod};
use crate::server::{
    State,
    call::{Target, WriteOptions, Writer},
    derived, draft,
    patch::Change,
    removal::{Deleted, Options},
    status::Status,
    view, write,
};
use crate::store::handle::decode_bytes;

/// Who owns the order's annotation.
const WRITER: &str = "hangar-reset";

/// Orders it; the answer is the pod, which goes.
pub(super) async fn delete(
    state: &State,
    object: &ObjectRef,
    options: &Options,
) -> Result<Deleted, Status> {
    let (environment, bay) = derived::behind(&state.store, object).await?;
    let (shown, is_going) = checked(state, object, options).await?;
    if is_going {
        return Ok(Deleted::Marked(shown));
    }
    let machine = bay.status.machine.and_then(|it| it.id);
    let machine = machine.ok_or_else(|| {
        Status::conflict(object, "its machine is still being made, so there is nothing to reset")
    })?;
    let (key, order) = pod::reset_order(&machine, draft::seconds(state.clock.now()));
    let target = Target {
        object: ObjectRef::new(Kind::Environment, &object.namespace, &object.name),
        status: false,
        form: None,
    };
    let change = Change::Merge(json!({"metadata": {
        "uid": environment.metadata.uid,
        "annotations": {key: order},
    }}));
    let writer = Writer { name: WRITER.to_owned(), is_named: true, ..Writer::default() };
    let options = WriteOptions { dry_run: options.is_dry_run(), writer, ..WriteOptions::default() };
    write::update(state, &target, &options, &change).await?;
    // Without the write, the pod is as it was.
    let shown = checked(state, object, &Options::default()).await.map_or(shown, |it| it.0);
    Ok(Deleted::Marked(shown))
}

/// The pod as callers see it, if it is as the caller wants it to be, and whether it goes already.
async fn checked(
    state: &State,
    object: &ObjectRef,
    options: &Options,
) -> Result<(Value, bool), Status> {
    let entry = derived::get(&state.store, object).await?;
    let entry = entry.ok_or_else(|| Status::not_found(object))?;
    let pod: Value = decode_bytes(&entry.key, &entry.value)?;
    let metadata = draft::metadata(&pod);
    options.check(object, &metadata.uid, entry.revision)?;
    let is_going = metadata.deletion_timestamp.is_some();
    Ok((view::with_revision(pod, entry.revision), is_going))
}
