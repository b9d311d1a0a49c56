//! The answer to `pods/NAME/log`: lines as they come. It must never keep more of them than what it is about to send.

use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};
use http::Response;

use crate::clock::Timestamp;
use crate::net::Body;
use crate::server::{
    reach::{Line, OutputOptions},
    respond,
    status::Status,
    streams::{
        Desk,
        query::{Log, Since},
        refused,
    },
};

pub(super) async fn answer(desk: Desk, wanted: Log) -> Result<Response<Body>, Status> {
    let since_ms = wanted.since.map(|since| match since {
        Since::Seconds(seconds) => {
            desk.clock.now().as_millisecond().saturating_sub(seconds.saturating_mul(1_000))
        }
        Since::Time(time) => time.as_millisecond(),
    });
    let options = OutputOptions {
        previous: wanted.previous,
        last: wanted.last,
        since_ms,
        follow: wanted.follow,
    };
    let lines = desk.reach.output(&desk.place, options).await.map_err(|it| refused(&it))?;
    let text = Text { desk, lines, stamped: wanted.timestamps, left: wanted.limit_bytes };
    let chunks = stream::unfold(text, |mut text| async move {
        let chunk = text.next().await?;
        Some((chunk, text))
    });
    Ok(respond::stream(chunks, true))
}

/// An answer under way.
struct Text {
    desk: Desk,
    lines: BoxStream<'static, Vec<Line>>,
    stamped: bool,
    /// Bytes that may still go out.
    left: Option<u64>,
}

impl Text {
    async fn next(&mut self) -> Option<Bytes> {
        if self.left == Some(0) {
            return None;
        }
        let batch = tokio::select! {
            batch = self.lines.next() => batch?,
            () = self.desk.shutdown.wait() => return None,
        };
        let mut text = Vec::new();
        for line in batch {
            if self.stamped {
                let at = Timestamp::from_millisecond(line.at_ms).unwrap_or_default();
                text.extend(format!("{at:.9} ").bytes());
            }
            text.extend(line.text.bytes());
            text.push(b'\n');
        }
        if let Some(left) = &mut self.left {
            text.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= text.len() as u64;
        }
        Some(text.into())
    }
}
