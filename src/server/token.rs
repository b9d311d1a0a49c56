//! Whose token a request shows, and for how long it is good: looked up with every request, and again and again while something
//! stays open. It must never keep a token's text, nor write when it was used.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, request::Parts as Head};

use crate::api::{
    access_token::{AccessToken, name_in},
    kind::Kind,
    meta::ObjectRef,
};
use crate::clock::Clock;
use crate::server::{
    State, audit,
    call::{Call, NoCall},
    guard,
    may::{self, Caller, Pass},
    status::Status,
    write,
};
use crate::store::{
    self,
    handle::{Store, decode_bytes},
};
use crate::tasks::{self, Shutdown};

/// How often what stays open is asked whether it may.
const LOOK_EVERY: Duration =
    if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(1) };

/// Who asks, and that they may.
pub(super) async fn allowed(
    state: &State,
    call: Result<Call, NoCall>,
    head: &Head,
    line: &mut Option<audit::Entry>,
) -> Result<(Caller, Result<Call, NoCall>), Status> {
    let caller = let_in(state, head).await?;
    if let Some(line) = line {
        line.by(&caller);
    }
    if let Ok(call) = &call {
        may::check(&caller, call)?;
    }
    Ok((caller, call))
}

/// Lets a request in, or says why not.
async fn let_in(state: &State, head: &Head) -> Result<Caller, Status> {
    let is_open = state.token.is_none();
    guard::check(head, is_open, state.address)?;
    refuse_masks(&head.headers)?;
    let Some(token) = &state.token else { return Ok(Caller::Local) };
    let text = guard::bearer(&head.headers).ok_or_else(Status::unauthorized)?;
    if token.is(text) {
        return Ok(Caller::Token);
    }
    let pass = pass(&state.store, &*state.clock, text).await?;
    pass.map(|it| Caller::Scoped(Arc::new(it))).ok_or_else(Status::unauthorized)
}

/// Who asks to be taken for another must not be answered as themselves.
fn refuse_masks(headers: &HeaderMap) -> Result<(), Status> {
    if headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Err(Status::forbidden("nobody can act as another here: leave out --as"));
    }
    Ok(())
}

/// What a text lets do, if it is a token's, and that token holds.
async fn pass(store: &Store, clock: &dyn Clock, text: &str) -> Result<Option<Pass>, store::Error> {
    let Some(name) = name_in(text) else { return Ok(None) };
    let Some(token) = kept(store, name).await? else { return Ok(None) };
    // Hashes are compared in constant time.
    let is_it = blake3::Hash::from_hex(&token.spec.hash)
        .is_ok_and(|hash| hash == blake3::hash(text.as_bytes()));
    let AccessToken { metadata, spec, .. } = token;
    let holds = metadata.deletion_timestamp.is_none() && spec.holds_at(clock.now());
    Ok((is_it && holds).then_some(Pass { name: metadata.name, uid: metadata.uid, spec }))
}

async fn kept(store: &Store, name: &str) -> Result<Option<AccessToken>, store::Error> {
    let key = write::key(&ObjectRef::new(Kind::AccessToken, "", name));
    let Some(entry) = store.get_bytes(&key).await? else { return Ok(None) };
    decode_bytes(&entry.key, &entry.value).map(Some)
}

/// Ends what a caller opened: with the process, and as soon as their token is gone, expired, or another than it was.
pub(super) fn until_it_ends(state: &State, caller: &Caller) -> Shutdown {
    let Caller::Scoped(pass) = caller else { return state.shutdown.clone() };
    let (trigger, shutdown) = tasks::shutdown();
    let (store, clock) = (state.store.clone(), Arc::clone(&state.clock));
    let (mut over, pass) = (state.shutdown.clone(), Arc::clone(pass));
    tasks::detached(async move {
        tokio::select! {
            () = trigger.unheard() => return,
            () = over.wait() => {}
            () = ended(&store, &*clock, &pass) => {}
        }
        trigger.shut_down();
    });
    shutdown
}

async fn ended(store: &Store, clock: &dyn Clock, pass: &Pass) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if !pass.spec.holds_at(clock.now()) {
            return;
        }
        // A store that cannot be asked closes nothing.
        let Ok(now) = kept(store, &pass.name).await else { continue };
        let holds = now.is_some_and(|it| {
            it.metadata.uid == pass.uid
                && it.metadata.deletion_timestamp.is_none()
                && it.spec == pass.spec
        });
        if !holds {
            return;
        }
    }
}
