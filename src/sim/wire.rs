//! What stands beside each call of the simulated controller: the boundaries at which it may die, and whoever listens. It must
//! never change a request or an answer.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};

use crate::failpoint;
use crate::fly::transport::Failed;
use crate::local::Hooks;
use crate::sim::gate::{Boundary, Gate};

/// A call that came back.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    /// `POST /v1/apps/…`.
    pub(crate) what: &'a str,
    pub(crate) request: &'a Request<Bytes>,
    /// `None` when no whole one came.
    pub(crate) answer: Option<&'a Response<Bytes>>,
}

impl Exchange<'_> {
    /// The answer's status.
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer.map(|it| it.status().as_u16())
    }
}

/// Is told of every call: before it is sent, and when it came back.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    fn before(&self, what: &str, request: &Request<Bytes>);
    fn after(&self, exchange: &Exchange<'_>);
}

/// The wire of one life of the controller.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) gate: Arc<Gate>,
    pub(crate) listener: Arc<dyn Listener>,
}

impl Wire {
    async fn cross(&self, boundary: Boundary, request: &Request<Bytes>) {
        if failpoint::changes(request) {
            self.gate.cross(boundary, &failpoint::call(request)).await;
        } else {
            self.gate.live().await;
        }
    }
}

impl Hooks for Wire {
    fn before<'a>(&'a self, request: &'a Request<Bytes>) -> BoxFuture<'a, ()> {
        async move {
            self.cross(Boundary::CallUnsent, request).await;
            self.listener.before(&failpoint::call(request), request);
        }
        .boxed()
    }

    fn after<'a>(
        &'a self,
        request: &'a Request<Bytes>,
        result: &'a Result<Response<Bytes>, Failed>,
    ) -> BoxFuture<'a, ()> {
        async move {
            let answer = result.as_ref().ok();
            self.listener.after(&Exchange { what: &failpoint::call(request), request, answer });
            self.cross(Boundary::CallUnanswered, request).await;
        }
        .boxed()
    }
}
