//! Calls with a body or an upgrade: what was sent is read as its media type says, done, and answered with the remarks about it. It must
//! never decide what is admitted.

use futures::StreamExt as _;
use http::{Response, request::Parts as Head};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;

use crate::api::{admit::ViolationReason, kind::Kind, meta::ObjectRef, review::Review};
use crate::net::Body;
use crate::server::{
    State, apply, audit,
    call::{FieldValidation, ListOptions, Scope, Target, WatchOptions, WriteOptions},
    check_object, draft,
    many::Many,
    may::Caller,
    patch::{self, BODY_BYTES_MAX, Change, Media, RequestBody},
    read, removal, reset, respond, review, scaled, socket,
    status::Status,
    update,
    view::View,
    watch,
};
use crate::tasks::Shutdown;

/// A watch, as lines or over a WebSocket.
pub(super) async fn watched(
    state: &State,
    (scope, options): (&Scope, WatchOptions),
    view: View,
    head: &Head,
    end: Shutdown,
) -> Result<Response<Body>, Status> {
    let lines = watch::watch(state, scope, options, view, end).await?;
    match head.extensions.get::<OnUpgrade>() {
        Some(upgrade) if socket::is_asked(&head.headers) => {
            let protocol = socket::only_protocol(&head.headers);
            let tell = |socket| socket::tell(socket, lines.boxed());
            socket::accept(&head.headers, upgrade.clone(), protocol, tell)
        }
        Some(_) | None => Ok(respond::stream(lines.boxed(), false)),
    }
}

/// An object in the place of another.
pub(super) async fn replace(
    state: &State,
    (target, options): (&Target, &WriteOptions),
    (media, body): (Media, impl RequestBody),
    view: View,
) -> Result<Response<Body>, Status> {
    check_object(media)?;
    draft::check_writable(target.object.kind, Some(&target.object))?;
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    let (object, remarks) = patch::object(media, &body, options.validation)?;
    update(state, target, options, (Change::Whole(object), remarks), view).await
}

/// Some fields of an object.
pub(super) async fn change(
    state: &State,
    (target, options, making): (&Target, &WriteOptions, Result<(), Status>),
    (media, body): (Media, impl RequestBody),
    view: View,
) -> Result<Response<Body>, Status> {
    let kind = target.object.kind;
    draft::check_writable(kind, Some(&target.object))?;
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    if media == Media::Apply {
        return applied(state, (target, options, making), &body, view).await;
    }
    if options.writer.force.is_some() {
        return Err(Status::patch_option(
            "force",
            ViolationReason::Forbidden,
            "Forbidden: may not be specified for non-apply patch",
        ));
    }
    let change = Change::patch(kind, media, &body, options.validation)?;
    update(state, target, options, change, view).await
}

/// A configuration that is to be part of an object.
async fn applied(
    state: &State,
    (target, options, making): (&Target, &WriteOptions, Result<(), Status>),
    body: &[u8],
    view: View,
) -> Result<Response<Body>, Status> {
    let kind = target.object.kind;
    let (mut configuration, remarks) = patch::configuration(body, options.validation)?;
    if let Some(form) = target.form {
        configuration = form.read(configuration, &kind.info().api_version());
    }
    let (written, is_new) = apply::apply(state, (target, making), options, configuration).await?;
    let shown = view.one(kind, written.object, state.clock.now());
    let mut response = if is_new { respond::created(&shown) } else { respond::json(&shown) };
    respond::warn(&mut response, &remarks);
    respond::warn(&mut response, &written.warnings);
    Ok(response)
}

/// A whole scale in the place of another.
pub(super) async fn replace_scale(
    state: &State,
    (object, options): (&ObjectRef, &WriteOptions),
    media: Media,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    check_object(media)?;
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    let (scale, _) = patch::object(media, &body, options.validation)?;
    scaled(state, object, options, &Change::Whole(scale)).await
}

/// Some fields of a scale.
pub(super) async fn patch_scale(
    state: &State,
    (object, options): (&ObjectRef, &WriteOptions),
    media: Media,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    let (change, _) = Change::patch(object.kind, media, &body, options.validation)?;
    scaled(state, object, options, &change).await
}

/// The end of an object.
pub(super) async fn delete(
    state: &State,
    (object, options): (&ObjectRef, &WriteOptions),
    media: Media,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    draft::check_deletable(object.kind, Some(object))?;
    let options = delete_options(media, body, options).await?;
    let deleted = deleted(state, object, &options).await?;
    Ok(answered(respond::json(&deleted.answer(object)), &options))
}

/// The end of many objects.
pub(super) async fn delete_collection(
    state: &State,
    (scope, list, options): (&Scope, &ListOptions, &WriteOptions),
    media: Media,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    draft::check_deletable(scope.kind, None)?;
    let options = delete_options(media, body, options).await?;
    let mut targets = Vec::new();
    let metadata = read::list(state, scope, list, |object| {
        let text = |path| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        targets.push(ObjectRef::new(scope.kind, namespace, name));
    });
    let metadata = metadata.await?;
    let mut gone = Many::new(View::Whole(scope.form), scope.kind, state.clock.now());
    for target in targets {
        match deleted(state, &target, &options).await {
            Ok(it) => gone.add(it.object()),
            // Someone else deleted it meanwhile.
            Err(status) if status == Status::not_found(&target) => {}
            Err(status) => return Err(status),
        }
    }
    Ok(answered(respond::list(gone.end(&metadata)), &options))
}

async fn deleted(
    state: &State,
    object: &ObjectRef,
    options: &removal::Options,
) -> Result<removal::Deleted, Status> {
    match object.kind {
        Kind::Pod => reset::delete(state, object, options).await,
        _ => removal::delete(&state.store, object, options, state.clock.now()).await,
    }
}

/// The body of a deletion may be absent; where there is one, it is JSON or protobuf.
async fn delete_options(
    media: Media,
    body: impl RequestBody,
    options: &WriteOptions,
) -> Result<removal::Options, Status> {
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    match media {
        Media::Json => {}
        Media::Protobuf if !body.is_empty() => {
            let (read, _) = patch::object(media, &body, FieldValidation::Ignore)?;
            let read = removal::Options::read(read.to_string().as_bytes(), options.dry_run)?;
            return Ok(read.or(options.propagation));
        }
        _ if body.is_empty() => {}
        _ => return Err(Status::unsupported_media_type("the body must be application/json")),
    }
    Ok(removal::Options::read(&body, options.dry_run)?.or(options.propagation))
}

/// The answer to a deletion, with a word to the audit log where nothing was deleted.
fn answered(mut response: Response<Body>, options: &removal::Options) -> Response<Body> {
    if options.is_dry_run() {
        response.extensions_mut().insert(audit::DryRun);
    }
    response
}

/// A question of callers about themselves.
pub(super) async fn reviewed(
    caller: &Caller,
    (review, version): (Review, &str),
    media: Media,
    body: impl RequestBody,
) -> Result<Response<Body>, Status> {
    check_object(media)?;
    let body = patch::read(body, BODY_BYTES_MAX).await?;
    let (question, _) = patch::object(media, &body, FieldValidation::Ignore)?;
    Ok(respond::created(&review::answer((review, version), question, caller)?))
}
