//! Reading one object, and lists in pages. It must never change anything.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::kind::Kind;
use crate::server::{
    State,
    call::{ListOptions, Scope, Target},
    generated,
    pages::Token,
    status::Status,
    view::{self, View},
};
use crate::store::{Entry, Revision, handle::decode_bytes};

/// One object.
pub(super) async fn get(state: &State, target: &Target, view: View) -> Result<Value, Status> {
    let found = generated::current(state, &target.object).await?;
    let found = found.ok_or_else(|| Status::not_found(&target.object))?;
    let object = view::with_revision(found.object, found.revision);
    Ok(view.one(target.object.kind, object, state.clock.now()))
}

/// Hands over the objects of a page of a list, or of all of it, as callers see them; the list's own metadata, which is the revision
/// and where to go on.
pub(super) async fn list(
    state: &State,
    scope: &Scope,
    options: &ListOptions,
    mut take: impl FnMut(Value),
) -> Result<Value, Status> {
    let prefix = prefix(scope, options.select.fields.name());
    let (entries, revision, after) = moment(state, (scope.kind, &prefix), options).await?;
    let start = after.map_or(0, |after| entries.partition_point(|it| it.key.as_str() <= &*after));
    let (mut count, mut last, mut more) = (0, None, None);
    for (index, entry) in entries.iter().enumerate().skip(start) {
        let object = shown(entry)?;
        if !options.select.matches(&object) {
            continue;
        }
        if options.limit > 0 && count == options.limit {
            more = Some(index);
            break;
        }
        take(object);
        count += 1;
        last = Some(&entry.key);
    }
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let (Some(index), Some(last)) = (more, last) {
        let token = Token { revision: revision.0, after: last.as_str().to_owned() };
        metadata["continue"] = json!(token.text());
        // How many more a selector lets through is not known without reading them all.
        if options.select.is_everything() {
            metadata["remainingItemCount"] = json!(entries.len() - index);
        }
        state.pages.keep(&prefix, revision, Arc::clone(&entries));
    }
    Ok(metadata)
}

/// What the keys of a scope start with, or of its one object of this name.
pub(super) fn prefix(scope: &Scope, name: Option<&str>) -> String {
    let mut prefix = scope.prefix();
    if let Some(name) = name.filter(|_| scope.namespace.is_some()) {
        prefix.push_str(name);
    }
    prefix
}

/// A stored object as callers see it.
pub(super) fn shown(entry: &Entry) -> Result<Value, Status> {
    let object = decode_bytes(&entry.key, &entry.value)?;
    Ok(view::with_revision(object, entry.revision))
}

type Moment = (Arc<[Entry]>, Revision, Option<String>);

/// The entries at the moment that is asked for, which is now unless a page goes on or an exact revision is wanted.
async fn moment(
    state: &State,
    (kind, prefix): (Kind, &str),
    options: &ListOptions,
) -> Result<Moment, Status> {
    let (entries, revision) = generated::entries(state, (kind, prefix)).await?;
    let (asked, after) = match &options.after {
        Some(token) => {
            let token = Token::parse(token)
                .ok_or_else(|| Status::bad_request("`continue` is not a token of this server"))?;
            (Some(Revision(token.revision)), Some(token.after))
        }
        None if options.exact => (options.revision.map(Revision), None),
        None => (None, None),
    };
    if let Some(asked) = asked.filter(|asked| *asked != revision) {
        let kept = state.pages.find(prefix, asked);
        let kept = kept.ok_or_else(|| {
            Status::expired("The provided continue parameter is too old: list again from the start")
        })?;
        return Ok((kept, asked, after));
    }
    if options.revision.is_some_and(|asked| asked > revision.0) {
        return Err(Status::expired(format!(
            "the store is at revision {revision}, before the one that was asked for"
        )));
    }
    Ok((entries.into(), revision, after))
}
