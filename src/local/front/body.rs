//! Request bodies that can be sent twice, and response bodies that keep a machine busy. It must never hold more of a body
//! than a replay may carry.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::{oneshot, watch};

use crate::local::front::activity::Busy;
use crate::net;
use crate::tasks;

/// Most bytes of a body that a replay carries: the limit of Fly's routing page, read as 1 MiB so that whatever works at
/// Fly works here. Its page of error codes speaks of 10 MB; to rely on that would be a surprise after deployment.
pub(super) const REPLAY_BODY_MAX: usize = 1024 * 1024;
/// How long, and how far, a refused body is still read, so that the client gets to see why before its connection ends.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 16 * REPLAY_BODY_MAX;

/// A request's body on its way in, and what was kept of it. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Tape {
    state: Arc<Mutex<State>>,
    ended: watch::Receiver<bool>,
}

/// Why a body cannot be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It is longer than [`REPLAY_BODY_MAX`].
    TooLarge,
    /// The client stopped sending it.
    Broken,
}

#[derive(Debug)]
struct State {
    /// What is still to come; `None` at the end.
    source: Option<Incoming>,
    kept: BytesMut,
    /// What was kept, once nothing more can come.
    whole: Bytes,
    lost: Option<Lost>,
    /// Whether the first reader has lost its right to read.
    revoked: bool,
    /// Who waits for the next chunk as the first reader.
    waiting: Option<Waker>,
    /// Ends when the first reader goes.
    reader_gone: Option<oneshot::Receiver<()>>,
    ended: watch::Sender<bool>,
}

impl Tape {
    pub(super) fn new(source: Incoming) -> Self {
        let source = (!source.is_end_stream()).then_some(source);
        let (sender, ended) = watch::channel(source.is_none());
        let state = State {
            source,
            kept: BytesMut::new(),
            whole: Bytes::new(),
            lost: None,
            revoked: false,
            waiting: None,
            reader_gone: None,
            ended: sender,
        };
        Self { state: Arc::new(Mutex::new(state)), ended }
    }

    /// The body as it comes, once.
    pub(super) fn live(&self) -> Reader {
        let (reading, gone) = oneshot::channel();
        lock(&self.state).reader_gone = Some(gone);
        Reader::Live { tape: self.clone(), _reading: reading }
    }

    /// Takes the body away from the first reader, reads the rest of it and returns it whole.
    pub(super) async fn whole(&self) -> Result<Reader, Lost> {
        if let Some(waker) = self.revoke() {
            waker.wake();
        }
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.announced() > REPLAY_BODY_MAX as u64 {
                state.lose(Lost::TooLarge);
            }
            loop {
                if let Some(lost) = state.lost {
                    return Poll::Ready(Err(lost));
                }
                match ready!(state.draw(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) => state.lose(Lost::Broken),
                    None => return Poll::Ready(Ok(())),
                }
            }
        })
        .await?;
        let mut state = lock(&self.state);
        if !state.kept.is_empty() {
            state.whole = state.kept.split().freeze();
        }
        Ok(Reader::Whole(state.whole.clone()))
    }

    /// Returns when the client has sent everything it will send.
    pub(super) async fn ended(&self) {
        // The sender goes only with the state, which this tape holds.
        let mut ended = self.ended.clone();
        let _ended = ended.wait_for(|ended| *ended).await;
    }

    /// Reads and drops, for a while and in the background, what the client still sends when nobody else reads it any more.
    /// Otherwise the connection would be cut under an answer that the client has yet to read.
    pub(super) fn linger(&self) {
        let (tape, reader_gone) = {
            let mut state = lock(&self.state);
            if state.source.is_none() {
                return;
            }
            (self.clone(), state.reader_gone.take().filter(|_| !state.revoked))
        };
        tasks::detached(async move {
            if let Some(gone) = reader_gone {
                // It says nothing; it only goes.
                let _gone = gone.await;
            }
            let Some(mut source) = lock(&tape.state).source.take() else { return };
            let drain = async {
                let mut left = LINGER_BYTES;
                while let Some(Ok(frame)) = source.frame().await {
                    let read = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(read) else { break };
                    left = rest;
                }
            };
            // Running out of time is as good an end as any.
            let _late = tokio::time::timeout(LINGER, drain).await;
        });
    }

    fn revoke(&self) -> Option<Waker> {
        let mut state = lock(&self.state);
        state.revoked = true;
        state.waiting.take()
    }
}

impl State {
    /// The next chunk from the client, kept as far as it may be.
    fn draw(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            match ready!(Pin::new(source).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers are dropped: nothing here reads them.
                    let Ok(chunk) = frame.into_data() else { continue };
                    if self.kept.len() + chunk.len() > REPLAY_BODY_MAX {
                        self.lose(Lost::TooLarge);
                    }
                    if self.lost.is_none() {
                        self.kept.extend_from_slice(&chunk);
                    }
                    // Nobody asks for more after the announced length.
                    if self.source.as_ref().is_some_and(Body::is_end_stream) {
                        self.end();
                    }
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Err(error)) => {
                    self.end();
                    self.lose(Lost::Broken);
                    return Poll::Ready(Some(Err(io::Error::other(error))));
                }
                None => {
                    self.end();
                    return Poll::Ready(None);
                }
            }
        }
    }

    fn lose(&mut self, why: Lost) {
        self.lost.get_or_insert(why);
        self.kept = BytesMut::new();
    }

    fn end(&mut self) {
        self.source = None;
        self.ended.send_replace(true);
    }

    /// Bytes kept and bytes that the client has announced.
    fn announced(&self) -> u64 {
        let coming = self.source.as_ref().map_or(0, |source| source.size_hint().lower());
        coming.saturating_add(self.kept.len() as u64)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One sending of a request's body.
#[derive(Debug)]
pub(super) enum Reader {
    /// The first: as the client sends it.
    Live {
        /// Where it comes from.
        tape: Tape,
        /// Tells the tape when this reader goes.
        _reading: oneshot::Sender<()>,
    },
    /// A later one.
    Whole(Bytes),
}

impl Body for Reader {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Live { tape, .. } => {
                let mut state = lock(&tape.state);
                if state.revoked {
                    return Poll::Ready(Some(Err(io::Error::other("the request is replayed"))));
                }
                let drawn = state.draw(cx);
                if drawn.is_pending() {
                    state.waiting = Some(cx.waker().clone());
                }
                drawn.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
            }
            Self::Whole(whole) if whole.is_empty() => Poll::Ready(None),
            Self::Whole(whole) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(whole))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Live { tape, .. } => {
                lock(&tape.state).source.as_ref().is_none_or(Body::is_end_stream)
            }
            Self::Whole(whole) => whole.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Live { tape, .. } => lock(&tape.state)
                .source
                .as_ref()
                .map_or_else(|| SizeHint::with_exact(0), Body::size_hint),
            Self::Whole(whole) => SizeHint::with_exact(whole.len() as u64),
        }
    }
}

/// An answer's body that keeps its machine busy to the end.
struct Held {
    inner: Incoming,
    _busy: Option<Busy>,
}

/// Passes an answer's body on, chunk by chunk.
pub(super) fn held(inner: Incoming, busy: Option<Busy>) -> net::Body {
    net::Body::new(Held { inner, _busy: busy })
}

impl Body for Held {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.inner)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
