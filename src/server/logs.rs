//! The reconciliation log over HTTP: JSON lines, or text for people. It must never be the journal's bottleneck.

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Response;

use crate::net::Body;
use crate::server::{State, call::LogOptions, respond};
use crate::tasks::Shutdown;
use crate::telemetry::{Line, journal::Filter};

/// The lines that are asked for.
pub(super) fn answer(
    state: &State,
    options: LogOptions,
    as_text: bool,
    mut shutdown: Shutdown,
) -> Response<Body> {
    let filter = Filter { object: options.object };
    let lines = if options.follow {
        let end = async move { shutdown.wait().await };
        state.journal.follow(filter, options.limit).take_until(Box::pin(end)).boxed()
    } else {
        stream::iter(state.journal.recent(&filter, options.limit)).boxed()
    };
    let written = lines.map(move |line| if as_text { text(&line) } else { json(&line) });
    respond::stream(written, as_text)
}

fn text(line: &Line) -> Bytes {
    format!("{line}\n").into()
}

fn json(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
