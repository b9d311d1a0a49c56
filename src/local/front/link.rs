//! Connections to the router and to machines. They must never lose an answer to a failed write: a server that answers
//! without reading the whole body closes its end, and hyper would report that instead of the answer.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Time for a connection to the router; it runs on this computer.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection that takes bytes for sent once the other side has stopped reading. What it said before can still be read.
#[derive(Debug)]
pub(super) struct Link<T> {
    stream: T,
    deaf: bool,
}

impl<T> Link<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, deaf: false }
    }

    fn forgive(&mut self, done: io::Result<usize>, offered: usize) -> io::Result<usize> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
        done.or_else(|error| match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected => {
                self.deaf = true;
                Ok(offered)
            }
            _ => Err(error),
        })
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Link<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Link<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let done = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.forgive(done, buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let done = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        Poll::Ready(self.forgive(done.map(|()| 0), 0).map(|_| ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.deaf {
            return Poll::Ready(Ok(()));
        }
        let done = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        Poll::Ready(self.forgive(done.map(|()| 0), 0).map(|_| ()))
    }
}

impl<T> Connection for Link<T> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Connects to the router, whatever the request's address says.
#[derive(Debug, Clone, Copy)]
pub(super) struct ToRouter(pub(super) SocketAddr);

impl tower_service::Service<Uri> for ToRouter {
    type Response = TokioIo<Link<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _address: Uri) -> Self::Future {
        let router = self.0;
        Box::pin(async move { connect(router).await.map(TokioIo::new) })
    }
}

/// A connection to the router.
pub(super) async fn connect(router: SocketAddr) -> io::Result<Link<TcpStream>> {
    let stream = tokio::time::timeout(CONNECT, TcpStream::connect(router)).await??;
    stream.set_nodelay(true)?;
    Ok(Link::new(stream))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_was_said_before_the_end_is_heard() {
        let (here, mut there) = tokio::io::duplex(64);
        there.write_all(b"answer").await.unwrap();
        drop(there);
        let mut link = Link::new(here);
        link.write_all(&[0; 1_000]).await.unwrap();
        link.flush().await.unwrap();
        let mut heard = String::new();
        link.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }
}
