//! An order about an orphan, which is the only thing that people write about one. It is checked against the recorded evidence
//! and written into the object; the controller proves it again before it acts. It must never act itself.

use serde::Deserialize;
use serde_json::Value;

use crate::api::{
    environment::Environment,
    kind::Kind,
    meta::ObjectRef,
    orphan::{Order, OrderTarget, Orphan, Verb},
};
use crate::server::{
    State,
    call::WriteOptions,
    status::Status,
    view,
    write::{self, ATTEMPTS_MAX},
};
use crate::store::{self, Precondition, handle::decode_bytes};

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    /// What.
    verb: Verb,
    /// `Adopt`: the environment.
    to: Option<OrderTarget>,
    /// Uid of the orphan that is meant, if the caller has seen it.
    uid: Option<String>,
}

/// Writes the order into the orphan, and answers with the orphan.
pub(super) async fn order(
    state: &State,
    target: &ObjectRef,
    options: &WriteOptions,
    body: &[u8],
) -> Result<Value, Status> {
    let body: Body = serde_json::from_slice(body).map_err(|_| {
        Status::bad_request("the body is no order: {\"verb\": \"Delete\"}, or {\"verb\": \"Adopt\", \"to\": {\"namespace\", \"name\"}}")
    })?;
    let key = write::key(target);
    for _ in 0..ATTEMPTS_MAX {
        let current = write::current(&state.store, target).await?;
        let current = current.ok_or_else(|| Status::not_found(target))?;
        let mut orphan: Orphan = serde_json::from_value(current.object)
            .map_err(|_| Status::internal("the orphan in the store cannot be read"))?;
        if body.uid.as_ref().is_some_and(|it| *it != orphan.metadata.uid) {
            return Err(Status::conflict(target, "its uid is another one: it was found anew"));
        }
        if orphan.status.order.as_ref().is_some_and(Order::is_open) {
            return Err(Status::conflict(target, "an order about it is being carried out"));
        }
        check(state, target, &orphan, &body).await?;
        orphan.status.order = Some(Order {
            verb: body.verb,
            to: body.to.clone().filter(|_| body.verb == Verb::Adopt),
            ordered_at: Some(state.clock.now()),
            message: "it was ordered".to_owned(),
            ..Order::default()
        });
        let object = serde_json::to_value(&orphan)
            .map_err(|_| Status::internal("the orphan has no JSON form"))?;
        if options.dry_run {
            return Ok(view::with_revision(object, current.revision));
        }
        let txn = state.store.txn().put(&key, Precondition::At(current.revision), &object);
        match txn.commit().await {
            Ok(revision) => return Ok(view::with_revision(object, revision)),
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Status::modified(target))
}

async fn check(
    state: &State,
    target: &ObjectRef,
    orphan: &Orphan,
    body: &Body,
) -> Result<(), Status> {
    let refuse = |why: String| Status::forbidden_object(target, &why);
    orphan.status.course(body.verb).map_err(refuse)?;
    let to = match (body.verb, &body.to) {
        (Verb::Delete, _) => return Ok(()),
        (Verb::Adopt, Some(to)) => to,
        (Verb::Adopt, None) => return Err(refuse("an adoption names an environment".to_owned())),
    };
    let environment = ObjectRef::new(Kind::Environment, &to.namespace, &to.name);
    let entry = state.store.get_bytes(&write::key(&environment)).await?;
    let entry = entry.ok_or_else(|| Status::not_found(&environment))?;
    let environment: Environment = decode_bytes(&entry.key, &entry.value)?;
    orphan.status.fits(&environment).map_err(refuse)
}
