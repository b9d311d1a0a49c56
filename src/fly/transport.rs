//! What carries a request to the Machines API and its answer back: the network, or anything else that speaks HTTP. It must
//! never know what a request means, nor send one twice.

use std::{fmt, time::Duration};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use reqwest::Client;

/// A list of thousands of machines fits; an endless answer does not fill the memory.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Carries one request at a time for each caller.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Sends the request, whose URI is absolute, and waits for the whole answer, for at most `timeout`.
    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Response<Bytes>, Failed>>;
}

/// There is no whole answer.
#[derive(Debug)]
pub struct Failed {
    /// Whether the request was on its way, so that it may have had its effect.
    pub sent: bool,
    /// Status and headers, if the answer got that far.
    pub head: Option<(StatusCode, HeaderMap)>,
    /// Why; without the request's address.
    pub why: Why,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub enum Why {
    /// It ended too early, or never came.
    Lost(Box<dyn std::error::Error + Send + Sync>),
    /// It was longer than anybody needs.
    TooLong,
}

/// The network, by HTTP/1.1 or HTTP/2, with TLS where the address says so.
#[derive(Debug)]
pub(crate) struct Network(Client);

impl Network {
    /// A client that connects to nobody yet. `headers` go with every request.
    ///
    /// # Errors
    /// Without TLS, or certificates to check servers with, where they are needed.
    pub(crate) fn new(
        headers: HeaderMap,
        user_agent: &str,
        tls: bool,
    ) -> Result<Self, reqwest::Error> {
        // Somebody else may have installed one; any will do.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(user_agent)
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            // Closed by us before the other side does it under a request on its way.
            .pool_idle_timeout(Duration::from_secs(30))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // A redirect would take the token elsewhere, and a repeated creation makes two.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never());
        if !tls {
            // Without TLS there need be no certificates on the computer.
            builder = builder.tls_certs_only([]);
        }
        builder.build().map(Self)
    }

    async fn exchange(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Failed> {
        let lost = |error: reqwest::Error, head| Failed {
            sent: !error.is_connect() && !error.is_builder(),
            head,
            why: Why::Lost(Box::new(error.without_url())),
        };
        let mut request = reqwest::Request::try_from(request).map_err(|error| lost(error, None))?;
        *request.timeout_mut() = Some(timeout);
        let mut response = self.0.execute(request).await.map_err(|error| lost(error, None))?;
        let head = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_BYTES_MAX => {
                    return Err(Failed { sent: true, head: Some(head), why: Why::TooLong });
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(lost(error, Some(head))),
            }
        }
        let mut whole = Response::new(Bytes::from(body));
        (*whole.status_mut(), *whole.headers_mut()) = head;
        Ok(whole)
    }
}

impl Transport for Network {
    fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
    ) -> BoxFuture<'_, Result<Response<Bytes>, Failed>> {
        Box::pin(self.exchange(request, timeout))
    }
}
