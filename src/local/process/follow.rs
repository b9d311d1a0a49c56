//! The output of one run of a machine's program, and what it goes on writing until that run ends. It must never hold a run up.

use std::{collections::VecDeque, time::Duration};

use futures::{StreamExt as _, stream};

use crate::local::{
    driver::{Error, Lines, LogLine, Status, Wanted},
    process::{
        directory::Directory,
        output::{Reader, Record},
    },
};
use crate::tasks;

/// How often a file is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Lines that go out together.
const BATCH: usize = 256;

/// Reads what is there now; whether there is a wanted run is for the caller to say.
pub(super) fn open(
    directory: &Directory,
    wanted: Wanted,
) -> std::io::Result<Option<(Reader, VecDeque<LogLine>)>> {
    let (reader, records) = Reader::open(directory.path())?;
    let mut runs = vec![VecDeque::new()];
    for record in records {
        match (record, runs.last_mut()) {
            (Record::Line(line), Some(run)) => run.push_back(line),
            (Record::Start, _) | (_, None) => runs.push(VecDeque::new()),
        }
    }
    let last = runs.pop().unwrap_or_default();
    let before = runs.pop().filter(|it| !runs.is_empty() || !it.is_empty());
    let Some(mut lines) = (if wanted.previous { before } else { Some(last) }) else {
        return Ok(None);
    };
    lines.retain(|line| wanted.since_ms.is_none_or(|since| line.at_ms >= since));
    if let Some(last) = wanted.last {
        lines.drain(..lines.len().saturating_sub(last));
    }
    Ok(Some((reader, lines)))
}

/// The lines in batches, and with `follow` those to come.
pub(super) fn lines(
    directory: Directory,
    wanted: Wanted,
    (reader, lines): (Reader, VecDeque<LogLine>),
) -> Lines {
    let follow = wanted.follow && !wanted.previous;
    let state = State { directory, reader: follow.then_some(reader), lines };
    stream::unfold(state, |mut state| async move {
        let batch = state.next().await?;
        Some((batch, state))
    })
    .boxed()
}

struct State {
    directory: Directory,
    /// `None` when nothing more will come.
    reader: Option<Reader>,
    lines: VecDeque<LogLine>,
}

impl State {
    async fn next(&mut self) -> Option<Vec<LogLine>> {
        loop {
            if !self.lines.is_empty() {
                let length = self.lines.len().min(BATCH);
                return Some(self.lines.drain(..length).collect());
            }
            let mut reader = self.reader.take()?;
            let directory = self.directory.clone();
            let look = tasks::blocking(move || {
                // Asked first: what a program wrote before its end is read after it.
                let status = directory.status();
                (reader.more(), reader, status)
            });
            let (more, reader, status) = look.await.ok()?;
            let runs = matches!(status, Status::Running { .. } | Status::Frozen { .. });
            let more = more.ok()?;
            let nothing = more.is_empty();
            let mut other_run = false;
            for record in more {
                match record {
                    Record::Line(line) if !other_run => self.lines.push_back(line),
                    Record::Line(_) => {}
                    Record::Start => other_run = true,
                }
            }
            if !other_run && (runs || !nothing) {
                self.reader = Some(reader);
            }
            if nothing && runs {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Reads, and says what is missing.
pub(super) async fn output(directory: Directory, id: &str, wanted: Wanted) -> Result<Lines, Error> {
    let failed = |source| Error::Io { id: id.to_owned(), doing: "read the output of", source };
    let read = {
        let directory = directory.clone();
        tasks::blocking(move || open(&directory, wanted)).await
    };
    let found = read.map_err(std::io::Error::other).flatten().map_err(failed)?;
    let found = found.ok_or_else(|| Error::NoRunBefore { id: id.to_owned() })?;
    Ok(lines(directory, wanted, found))
}
