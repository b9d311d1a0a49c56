//! Carries requests to a backend in this process, without a socket: the same answers, losses and timeouts as over HTTP, in
//! an order that a seed repeats. It must never look into a request.

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::{
    HeaderValue, Request, Response,
    header::{ACCEPT, AUTHORIZATION, InvalidHeaderValue},
};

use crate::fly::{
    token::Token,
    transport::{Failed, Transport, Why},
};
use crate::local::{Backend, Delivered};

/// Somebody who stands beside a call. A future that never ends stops the call there, as the death of its caller does.
pub trait Hooks: fmt::Debug + Send + Sync {
    /// Before anything was sent.
    fn before<'a>(&'a self, request: &'a Request<Bytes>) -> BoxFuture<'a, ()>;
    /// After the effect, and before the caller hears of it.
    fn after<'a>(
        &'a self,
        request: &'a Request<Bytes>,
        result: &'a Result<Response<Bytes>, Failed>,
    ) -> BoxFuture<'a, ()>;
}

/// Nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {
    fn before<'a>(&'a self, _request: &'a Request<Bytes>) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }

    fn after<'a>(
        &'a self,
        _request: &'a Request<Bytes>,
        _result: &'a Result<Response<Bytes>, Failed>,
    ) -> BoxFuture<'a, ()> {
        std::future::ready(()).boxed()
    }
}

/// The way to a backend in this process.
#[derive(Debug)]
pub struct InProcess {
    backend: Arc<Backend>,
    authorization: HeaderValue,
    hooks: Arc<dyn Hooks>,
}

impl InProcess {
    /// Shows the backend this token.
    ///
    /// # Errors
    /// If the token has a character that no header can have.
    pub fn new(
        backend: Arc<Backend>,
        token: &Token,
        hooks: Arc<dyn Hooks>,
    ) -> Result<Self, InvalidHeaderValue> {
        Ok(Self { backend, authorization: token.header()?, hooks })
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Failed> {
        let lost = |kind: io::ErrorKind, text: &'static str, head| Failed {
            sent: true,
            head,
            why: Why::Lost(Box::new(io::Error::new(kind, text))),
        };
        match tokio::time::timeout(timeout, self.backend.answer(request)).await {
            Ok(Delivered::Whole(answer)) => Ok(answer),
            Ok(Delivered::Nothing) => Err(lost(
                io::ErrorKind::ConnectionReset,
                "connection closed before the answer",
                None,
            )),
            Ok(Delivered::Cut(answer)) => {
                let head = Some((answer.status(), answer.headers().clone()));
                let text = "connection closed in the middle of the answer";
                Err(lost(io::ErrorKind::UnexpectedEof, text, head))
            }
            Err(_elapsed) => Err(lost(io::ErrorKind::TimedOut, "operation timed out", None)),
        }
    }
}

impl Transport for InProcess {
    fn send(
        &self,
        mut request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Response<Bytes>, Failed>> {
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        async move {
            self.hooks.before(&request).await;
            let result = self.exchange(request.clone(), timeout).await;
            self.hooks.after(&request, &result).await;
            result
        }
        .boxed()
    }
}
