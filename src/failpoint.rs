//! The places at which the death of a controller makes a difference, and, in builds with debug assertions, a process that
//! kills itself at one of them. A release build has the names only. It must never change a commit, a call or an answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};

use crate::fly::transport::Transport;
use crate::store::{Backend, Op, Txn};

#[cfg(debug_assertions)]
mod killing;

/// A place at which a crash makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Boundary {
    /// A commit was asked for and is not durable.
    CommitUnsynced,
    /// A commit is durable, and nobody knows yet.
    CommitUnanswered,
    /// A call's intent is durable, and the request was not sent.
    CallUnsent,
    /// A call had its effect, and its answer was not read.
    CallUnanswered,
}

/// A process's store: as it is, or with failpoints around each commit if this build has them and they were asked for.
pub(crate) fn around_commits(store: Arc<dyn Backend>) -> Arc<dyn Backend> {
    #[cfg(debug_assertions)]
    if let Some(points) = killing::asked_for() {
        return Arc::new(killing::Commits { store, points });
    }
    store
}

/// A process's way to Fly: as it is, or with failpoints around each call that changes something.
pub(crate) fn around_calls(transport: Arc<dyn Transport>) -> Arc<dyn Transport> {
    #[cfg(debug_assertions)]
    if let Some(points) = killing::asked_for() {
        return Arc::new(killing::Calls { transport, points });
    }
    transport
}

/// What a commit writes, for people.
pub(crate) fn commit(txn: &Txn) -> String {
    let written = txn.steps.iter().filter(|(_, _, op)| *op != Op::Check);
    let keys: Vec<_> = written.map(|(key, _, _)| key.as_str()).collect();
    keys.join(" ")
}

/// What a call asks for, for people.
pub(crate) fn call(request: &Request<Bytes>) -> String {
    format!("{} {}", request.method(), request.uri().path())
}

/// Whether a call may change something.
pub(crate) fn changes(request: &Request<Bytes>) -> bool {
    request.method() != Method::GET
}
