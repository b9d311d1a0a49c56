//! Streams of JSON lines: watches and logs. It must never connect again by itself; whoever follows decides from where.

use std::{fmt, io, pin::Pin};

use futures::{Stream, TryStreamExt as _};
use reqwest::Response;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio_util::io::StreamReader;

use crate::client::{
    error::Error,
    wire::{ListMeta, Status, WatchEvent},
};

/// Bytes of the longest line; the server keeps objects far below it.
const LINE_MAX: u64 = 4 << 20;

type Reader = Pin<Box<dyn AsyncBufRead + Send>>;

/// The lines of an answer, each read as a `T`.
pub struct Lines<T> {
    reader: Reader,
    line: Vec<u8>,
    item: fn(&[u8]) -> Result<T, Error>,
}

impl<T> fmt::Debug for Lines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Lines<WatchEvent<T>> {
    pub(super) fn watch(response: Response) -> Self {
        Self::new(response, event)
    }
}

impl Lines<serde_json::Value> {
    pub(super) fn plain(response: Response) -> Self {
        Self::new(response, |line| plain(line))
    }
}

impl<T> Lines<T> {
    fn new(response: Response, item: fn(&[u8]) -> Result<T, Error>) -> Self {
        Self::from_bytes(response.bytes_stream().map_err(io::Error::other), item)
    }

    fn from_bytes(
        bytes: impl Stream<Item = Result<bytes::Bytes, io::Error>> + Send + 'static,
        item: fn(&[u8]) -> Result<T, Error>,
    ) -> Self {
        Self { reader: Box::pin(StreamReader::new(bytes)), line: Vec::new(), item }
    }

    /// The next one; `None` when the server ended the stream.
    ///
    /// # Errors
    /// [`Error::Status`] if the server ended a watch with an error event, [`Error::Stream`] if the connection broke,
    /// [`Error::Answer`] if a line cannot be read.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            // The buffer is ours, so a call that was given up in the middle of a line loses none of it.
            let left = LINE_MAX.saturating_sub(self.line.len() as u64);
            let read = (&mut self.reader).take(left).read_until(b'\n', &mut self.line).await;
            let read = read.map_err(|source| Error::Stream { source })?;
            let whole = self.line.last() == Some(&b'\n');
            if !whole && read > 0 {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if !whole && left == 0 {
                let source = io::Error::other("a line is too long");
                return Err(Error::Stream { source });
            }
            if line.trim_ascii().is_empty() {
                if whole {
                    continue;
                }
                return Ok(None);
            }
            return (self.item)(&line).map(Some);
        }
    }
}

fn plain<'a, T: serde::Deserialize<'a>>(line: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(line)
        .map_err(|source| Error::Answer { path: "the stream".to_owned(), source })
}

fn event<T: DeserializeOwned>(line: &[u8]) -> Result<WatchEvent<T>, Error> {
    #[derive(serde::Deserialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    #[derive(serde::Deserialize)]
    struct Bookmark {
        metadata: ListMeta,
    }
    let event: Event<'_> = plain(line)?;
    let object = event.object.get().as_bytes();
    match event.kind {
        "ADDED" => plain(object).map(WatchEvent::Added),
        "MODIFIED" => plain(object).map(WatchEvent::Modified),
        "DELETED" => plain(object).map(WatchEvent::Deleted),
        "BOOKMARK" => {
            plain::<Bookmark>(object).map(|it| WatchEvent::Bookmark(it.metadata.resource_version))
        }
        "ERROR" => Err(Error::Status(Box::new(plain::<Status>(object)?))),
        other => Err(Error::Answer {
            path: "the watch".to_owned(),
            source: serde::de::Error::custom(format!("`{other}` is not a change")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    async fn read(chunks: &'static [&'static str]) -> (Vec<Value>, Option<Error>) {
        let bytes = chunks.iter().map(|it| Ok(bytes::Bytes::from_static(it.as_bytes())));
        let mut lines = Lines::from_bytes(futures::stream::iter(bytes), event::<Value>);
        let mut found = Vec::new();
        loop {
            match lines.next().await {
                Ok(Some(WatchEvent::Bookmark(revision))) => found.push(revision.into()),
                Ok(Some(event)) => found.extend(event.into_object()),
                Ok(None) => return (found, None),
                Err(error) => return (found, Some(error)),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_put_together_from_pieces() {
        let (found, error) = read(&[
            "{\"type\":\"ADDED\",\"obj",
            "ect\":1}\n\n{\"type\":\"MODIFIED\",\"object\":2}\n{\"type\":\"DELETED\",",
            "\"object\":3}\n{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"9\"}}}",
        ])
        .await;
        assert_eq!(found, [Value::from(1), 2.into(), 3.into(), "9".into()]);
        assert!(error.is_none());
    }

    #[tokio::test]
    async fn an_error_event_ends_a_watch_with_its_status() {
        let (found, error) = read(&[
            "{\"type\":\"ADDED\",\"object\":1}\n",
            "{\"type\":\"ERROR\",\"object\":{\"code\":410,\"reason\":\"Expired\",\"message\":\"too old\"}}\n",
        ])
        .await;
        assert_eq!(found, [1]);
        assert!(error.is_some_and(|it| it.is_expired() && it.to_string() == "too old"));
    }
}
