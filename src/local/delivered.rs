//! How much of an answer reaches the caller. It must never know why.

use std::io;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::Response;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;

use crate::net::{self, Body};

/// An answer, or what is left of it.
#[derive(Debug)]
pub enum Delivered {
    /// All of it.
    Whole(Response<Bytes>),
    /// Nothing: the connection is closed.
    Nothing,
    /// The head and the beginning of the body, whose whole length the head says: then the connection is closed.
    Cut(Response<Bytes>),
}

impl Delivered {
    /// The status; 0 if not even that arrives.
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Whole(answer) | Self::Cut(answer) => answer.status().as_u16(),
            Self::Nothing => 0,
        }
    }

    /// As the HTTP server sends it.
    pub(super) fn over_http(self) -> Response<Body> {
        match self {
            Self::Whole(answer) => {
                answer.map(|it| Full::new(it).map_err(|never| match never {}).boxed_unsync())
            }
            Self::Nothing => net::hang_up(),
            Self::Cut(answer) => answer.map(|it| {
                let sent = stream::once(async { Ok(Frame::data(it)) });
                let lost = stream::once(async {
                    // What was written until now goes out while this waits.
                    tokio::task::yield_now().await;
                    Err(io::Error::other("cut on purpose"))
                });
                StreamBody::new(sent.chain(lost)).boxed_unsync()
            }),
        }
    }
}
