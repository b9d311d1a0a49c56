//! Line ends of heads, on their way to hyper, which takes a bare line feed for one and would answer what another reader
//! of the same bytes sees otherwise. It must never change what is right, nor a byte of a body.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that follow the last head and are none themselves; whoever serves a request says how many.
#[derive(Debug, Clone, Default)]
pub(super) struct Raw(Arc<AtomicU64>);

impl Raw {
    /// So many bytes of a body come next, and then a head.
    pub(super) fn body(&self, bytes: u64) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    /// No head comes any more, or none that can be told from what is before it.
    pub(super) fn rest(&self) {
        self.body(u64::MAX);
    }

    /// How many of these bytes are none of a head's.
    fn take(&self, bytes: usize) -> usize {
        let left = self.0.load(Ordering::Relaxed);
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes);
        if left != u64::MAX {
            self.0.store(left.saturating_sub(taken as u64), Ordering::Relaxed);
        }
        taken
    }
}

/// A stream in whose heads a line feed without a carriage return becomes NUL, which hyper answers with 400.
#[derive(Debug)]
pub(super) struct Lines<S> {
    stream: S,
    raw: Raw,
    /// Bytes of the line so far, and whether the last of them is a carriage return.
    line: (usize, bool),
    /// What came after a head and is not given on yet: only who reads the head knows whether it is a body.
    held: Bytes,
}

impl<S> Lines<S> {
    pub(super) fn new(stream: S, raw: Raw) -> Self {
        Self { stream, raw, line: (0, false), held: Bytes::new() }
    }

    /// Looks through bytes that are given on; how many of them may be, up to the end of a head.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut start = self.raw.take(bytes.len());
        while let Some(length) = bytes[start..].iter().position(|byte| *byte == b'\n') {
            let feed = start + length;
            self.note(&bytes[start..feed]);
            start = feed + 1;
            match std::mem::take(&mut self.line) {
                // Nothing but a carriage return.
                (1, true) => return start,
                (_, true) => {}
                (length, false) => {
                    bytes[feed] = 0;
                    self.line = (length + 1, false);
                }
            }
        }
        self.note(&bytes[start..]);
        bytes.len()
    }

    fn note(&mut self, more: &[u8]) {
        if let Some(last) = more.last() {
            self.line = (self.line.0 + more.len(), *last == b'\r');
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lines<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.held.is_empty() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        } else {
            let bytes = this.held.len().min(buffer.remaining());
            buffer.put_slice(&this.held[..bytes]);
            this.held.advance(bytes);
        }
        let fresh = &mut buffer.filled_mut()[before..];
        let given = this.pass(fresh);
        if given < fresh.len() {
            // More heads at once, or a body right behind its head: rare enough for a copy.
            this.held = [&fresh[given..], &this.held].concat().into();
            buffer.set_filled(before + given);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lines<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What is given on, read by read, of a stream that has so many bytes at once. After the bytes of a head it is said
    /// how long its body is, as the server does.
    async fn given(bytes: &[u8], at_once: usize, heads: &[(usize, u64)]) -> Vec<Vec<u8>> {
        let chunks = bytes.chunks(at_once).map(|it| Ok::<_, io::Error>(Bytes::copy_from_slice(it)));
        let chunks: Vec<_> = chunks.collect();
        let stream = tokio_util::io::StreamReader::new(futures::stream::iter(chunks));
        let raw = Raw::default();
        let mut lines = Lines::new(stream, raw.clone());
        let (mut reads, mut length) = (Vec::new(), 0);
        loop {
            let mut read = vec![0; 64];
            let count = lines.read(&mut read).await.unwrap();
            if count == 0 {
                return reads;
            }
            read.truncate(count);
            reads.push(read);
            length += count;
            if let Some((_, body)) = heads.iter().find(|(end, _)| *end == length) {
                raw.body(*body);
            }
        }
    }

    #[tokio::test]
    async fn a_bare_line_feed_in_a_head_becomes_what_no_head_has() {
        for (head, seen) in [
            ("GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\0Host: a\0\0"),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", "GET / HTTP/1.1\r\nHost: a\0\r\n"),
            ("\nGET / HTTP/1.1\r\n\r\n", "\0GET / HTTP/1.1\r\n\r\n"),
            ("A: b\r\n\nB: c\r\n\r\n", "A: b\r\n\0B: c\r\n\r\n"),
            ("A: b\r\r\n\r\n", "A: b\r\r\n\r\n"),
        ] {
            for at_once in [1, 3, 64] {
                let all = given(head.as_bytes(), at_once, &[]).await.concat();
                assert_eq!(String::from_utf8(all).unwrap(), seen, "{at_once}");
            }
        }
    }

    #[tokio::test]
    async fn what_follows_a_head_waits_until_it_is_said_what_it_is() {
        let bytes = b"POST / HTTP/1.1\r\n\r\na\nbGET / HTTP/1.1\n\r\n";
        let reads = given(bytes, 64, &[(19, 3)]).await;
        assert_eq!(reads[0], b"POST / HTTP/1.1\r\n\r\n");
        assert_eq!(reads[1..].concat(), b"a\nbGET / HTTP/1.1\0\r\n");
        let two = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        assert_eq!(given(two, 64, &[]).await.len(), 2);
    }

    proptest! {
        #[test]
        fn heads_with_right_line_ends_and_bodies_come_through_as_they_are(parts in proptest::collection::vec(("[A-Za-z: ]{1,20}", "[\r\na]{0,20}"), 1..6), at_once in 1_usize..40) {
            let (mut bytes, mut heads) = (Vec::new(), Vec::new());
            for (line, body) in &parts {
                bytes.extend_from_slice(format!("{line}\r\n\r\n").as_bytes());
                heads.push((bytes.len(), body.len() as u64));
                bytes.extend_from_slice(body.as_bytes());
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(given(&bytes, at_once, &heads)).concat(), bytes);
        }
    }
}
