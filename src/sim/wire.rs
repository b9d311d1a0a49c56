//! The way from the controller to the modelled Fly: no sockets, the same bytes. It must never change a request or an answer.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, header};

use crate::fly::transport::{Failed, Transport, Why};
use crate::local::Backend;
use crate::sim::gate::{Boundary, Gate};

/// A call that came back.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    /// `POST /v1/apps/…`.
    pub(crate) what: &'a str,
    pub(crate) request: &'a Request<Bytes>,
    /// `None` when no whole answer came.
    pub(crate) status: Option<u16>,
}

/// Is told of every call: before it is sent, and when it came back.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    fn before(&self, what: &str, request: &Request<Bytes>);
    fn after(&self, exchange: &Exchange<'_>);
}

/// The wire of one life of the controller.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) fly: Arc<Backend>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) listener: Arc<dyn Listener>,
}

impl Wire {
    async fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Failed> {
        let changes = request.method() != Method::GET;
        let what = format!("{} {}", request.method(), request.uri().path());
        if changes {
            self.gate.cross(Boundary::CallUnsent, &what).await;
        } else {
            self.gate.live().await;
        }
        self.listener.before(&what, &request);
        let mut sent = request.clone();
        sent.headers_mut()
            .insert(header::AUTHORIZATION, header::HeaderValue::from_static("Bearer sim"));
        let answer = tokio::time::timeout(timeout, self.fly.answer(sent)).await;
        let answer = answer.map_err(|elapsed| Failed {
            sent: true,
            head: None,
            why: Why::Lost(Box::new(elapsed)),
        });
        let status = answer.as_ref().ok().map(|it| it.status().as_u16());
        self.listener.after(&Exchange { what: &what, request: &request, status });
        if changes {
            self.gate.cross(Boundary::CallUnanswered, &what).await;
        } else {
            self.gate.live().await;
        }
        answer
    }
}

impl Transport for Wire {
    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Response<Bytes>, Failed>> {
        Box::pin(self.exchange(request, timeout))
    }
}
