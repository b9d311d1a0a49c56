//! The source behind a server's API: lists and watches it as any Kubernetes client does. It must never end because the
//! server is gone, nor tell a change before the list it follows.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};
use bytes::{Bytes, BytesMut};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::{
    api::{core::BAY_KEY_TYPE, kind::Kind},
    retry,
    router::feed::{Fed, Part, Source, in_order},
};

/// Objects asked for at a time.
const PAGE: usize = 500;
const LIST_TIMEOUT: Duration = Duration::from_secs(60);
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// The server is asked to end a watch before the client gives it up for lost.
const WATCH_SECONDS: u64 = 290;
const SILENCE_MAX: Duration = Duration::from_secs(WATCH_SECONDS + 30);
/// Of what a server says when it refuses.
const MESSAGE_CHARS_MAX: usize = 300;
/// Objects are far smaller.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A server's API.
#[derive(Debug)]
pub struct Remote {
    client: reqwest::Client,
    url: String,
    token: Option<String>,
    pause_max: Duration,
    /// Parts that cannot be followed now: an outage is told once.
    failing: AtomicUsize,
}

/// Why a list or a watch ended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot reach the server")]
    Transport(#[source] reqwest::Error),
    #[error("the server answered {0}: {1}")]
    Status(StatusCode, String),
    #[error("the server answered what cannot be read")]
    Shape(#[source] serde_json::Error),
    #[error("the server reported {0}")]
    Reported(String),
    #[error("the server was silent for too long")]
    Silent,
    #[error("a line of the watch is over {LINE_BYTES_MAX} bytes")]
    Line,
    #[error("the history that was asked for is gone")]
    Expired,
}

impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(error.without_url())
    }
}

impl Remote {
    /// The API at this URL, such as `http://hangar.internal:6440`. The client brings its own connect timeout and TCP
    /// keep-alive, by which a server that vanished without a word is noticed; it must have no timeout for whole requests.
    #[must_use]
    pub fn new(client: reqwest::Client, url: &str, token: Option<String>) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { client, url, token, pause_max: Duration::from_secs(5), failing: AtomicUsize::new(0) }
    }

    fn get(&self, part: Part, query: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let kind = match part {
            Part::Environments => Kind::Environment,
            Part::Hostnames => Kind::Hostname,
            Part::Secrets => Kind::Secret,
        };
        let path = kind.info().path(None, None);
        let mut request = self.client.get(format!("{}{path}", self.url)).query(query);
        if part == Part::Secrets {
            request = request.query(&[("fieldSelector", format!("type={BAY_KEY_TYPE}"))]);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    fn pauses(&self) -> ExponentialBackoff {
        ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100).min(self.pause_max))
            .with_max_interval(self.pause_max)
            .with_max_elapsed_time(None)
            .build()
    }
}

impl Source for Remote {
    fn stream(self: Box<Self>) -> BoxStream<'static, Fed> {
        let remote = Arc::new(*self);
        in_order(Part::ALL.map(|part| Follower::new(Arc::clone(&remote), part).stream()))
    }
}

enum Step {
    List,
    /// The next page begins here.
    Page(String),
    Watch(String),
    Watching(Watching),
}

/// Follows one part.
struct Follower {
    remote: Arc<Remote>,
    part: Part,
    step: Step,
    told: VecDeque<Fed>,
    pauses: ExponentialBackoff,
    failing: bool,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    token: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Versioned {
    metadata: ListMeta,
    code: u16,
    message: String,
}

impl Follower {
    fn new(remote: Arc<Remote>, part: Part) -> Self {
        let pauses = remote.pauses();
        Self { remote, part, step: Step::List, told: VecDeque::new(), pauses, failing: false }
    }

    fn stream(self) -> BoxStream<'static, Fed> {
        stream::unfold(self, |mut follower| async move {
            let fed = follower.next().await;
            Some((fed, follower))
        })
        .boxed()
    }

    async fn next(&mut self) -> Fed {
        loop {
            if let Some(fed) = self.told.pop_front() {
                return fed;
            }
            match self.advance().await {
                Ok(()) => self.goes_on(),
                Err(Error::Expired) => {
                    tracing::info!(part = ?self.part, "the watch is too old and starts with a new list");
                    self.step = Step::List;
                }
                Err(error) => {
                    let pause = self.pauses.next_backoff().unwrap_or(self.remote.pause_max);
                    self.fails(&error);
                    self.step = match std::mem::replace(&mut self.step, Step::List) {
                        Step::Watching(watching) => Step::Watch(watching.version),
                        Step::Watch(version) => Step::Watch(version),
                        Step::List | Step::Page(_) => Step::List,
                    };
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn fails(&mut self, error: &Error) {
        let error = retry::chain(error);
        let others = match std::mem::replace(&mut self.failing, true) {
            false => self.remote.failing.fetch_add(1, Ordering::Relaxed),
            true => 1,
        };
        if others == 0 {
            tracing::warn!(part = ?self.part, error, "the server cannot be followed and is tried again; routes stay as they are");
        } else {
            tracing::debug!(part = ?self.part, error, "routes stay as they are");
        }
    }

    fn goes_on(&mut self) {
        if std::mem::take(&mut self.failing)
            && self.remote.failing.fetch_sub(1, Ordering::Relaxed) == 1
        {
            tracing::info!("the server is followed again");
        }
    }

    async fn advance(&mut self) -> Result<(), Error> {
        match &mut self.step {
            Step::List => self.list(None).await,
            Step::Page(token) => {
                let token = std::mem::take(token);
                self.list(Some(token)).await
            }
            Step::Watch(version) => {
                let version = version.clone();
                let watching = Watching::open(&self.remote, self.part, version).await?;
                self.step = Step::Watching(watching);
                Ok(())
            }
            Step::Watching(watching) => match watching.next(self.part).await? {
                Next::Told(fed) => {
                    self.pauses.reset();
                    self.told.push_back(fed);
                    Ok(())
                }
                Next::Quiet => Ok(()),
                Next::Ended => {
                    self.step = Step::Watch(std::mem::take(&mut watching.version));
                    // A server that ends every watch at once is not asked in a tight loop.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Ok(())
                }
            },
        }
    }

    async fn list(&mut self, token: Option<String>) -> Result<(), Error> {
        let page = PAGE.to_string();
        let mut query = vec![("limit", page.as_str())];
        if let Some(token) = &token {
            query.push(("continue", token));
        }
        let response = self.remote.get(self.part, &query).timeout(LIST_TIMEOUT).send().await?;
        let body = checked(response).await?.bytes().await?;
        let list: List<'_> = serde_json::from_slice(&body).map_err(Error::Shape)?;
        if token.is_none() {
            self.told.push_back(Fed::Init(self.part));
        }
        let object =
            |item: &&RawValue| Fed::Apply(self.part, body.slice_ref(item.get().as_bytes()));
        self.told.extend(list.items.iter().map(object));
        self.step = if list.metadata.token.is_empty() {
            self.told.push_back(Fed::InitDone(self.part));
            Step::Watch(list.metadata.resource_version)
        } else {
            Step::Page(list.metadata.token)
        };
        self.pauses.reset();
        Ok(())
    }
}

async fn checked(response: reqwest::Response) -> Result<reqwest::Response, Error> {
    match response.status() {
        StatusCode::GONE => Err(Error::Expired),
        status if status.is_success() => Ok(response),
        status => {
            // Which resource a token does not cover is in the message only.
            let body: Value = response.json().await.unwrap_or_default();
            let message = body.get("message").and_then(Value::as_str).unwrap_or_default();
            let message: String = message.chars().take(MESSAGE_CHARS_MAX).collect();
            Err(Error::Status(status, message))
        }
    }
}

/// An open watch.
struct Watching {
    body: BoxStream<'static, reqwest::Result<Bytes>>,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no end of a line.
    searched: usize,
    /// The last version that was told.
    version: String,
}

enum Next {
    Told(Fed),
    Quiet,
    Ended,
}

impl Watching {
    async fn open(remote: &Remote, part: Part, version: String) -> Result<Self, Error> {
        let seconds = WATCH_SECONDS.to_string();
        let query = [
            ("watch", "1"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version.as_str()),
            ("timeoutSeconds", seconds.as_str()),
        ];
        let opened = tokio::time::timeout(OPEN_TIMEOUT, remote.get(part, &query).send()).await;
        let response = checked(opened.map_err(|_elapsed| Error::Silent)??).await?;
        let body = response.bytes_stream().boxed();
        Ok(Self { body, buffer: BytesMut::new(), searched: 0, version })
    }

    async fn next(&mut self, part: Part) -> Result<Next, Error> {
        let line = loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') {
                let line = self.buffer.split_to(self.searched + end + 1).freeze();
                self.searched = 0;
                break line;
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(Error::Line);
            }
            let chunk = tokio::time::timeout(SILENCE_MAX, self.body.next()).await;
            match chunk.map_err(|_elapsed| Error::Silent)? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None => return Ok(Next::Ended),
            }
        };
        if line.trim_ascii().is_empty() {
            return Ok(Next::Quiet);
        }
        self.read(part, &line)
    }

    fn read(&mut self, part: Part, line: &Bytes) -> Result<Next, Error> {
        let Line { kind, object } = serde_json::from_slice(line).map_err(Error::Shape)?;
        let Versioned { metadata, code, message } =
            serde_json::from_str(object.get()).map_err(Error::Shape)?;
        if kind == "ERROR" {
            let gone = code == StatusCode::GONE.as_u16();
            return Err(if gone { Error::Expired } else { Error::Reported(message) });
        }
        if !metadata.resource_version.is_empty() {
            self.version = metadata.resource_version;
        }
        let object = line.slice_ref(object.get().as_bytes());
        Ok(match kind.as_str() {
            "ADDED" | "MODIFIED" => Next::Told(Fed::Apply(part, object)),
            "DELETED" => Next::Told(Fed::Delete(part, object)),
            // A bookmark, or what a newer server may tell.
            _ => Next::Quiet,
        })
    }
}

#[cfg(test)]
mod tests;
