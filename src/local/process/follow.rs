//! The output of one run of a machine's program, and what it goes on writing until that run ends. It must never hold a run up.

use std::{collections::VecDeque, io, time::Duration};

use futures::{StreamExt as _, stream};

use crate::local::{
    driver::{Error, Lines, LogLine, Status, Wanted},
    process::{
        directory::Directory,
        output::{Place, Reader, Record},
    },
};
use crate::tasks;

/// How often a file is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where the wanted lines of a run begin.
#[derive(Debug, Default)]
struct Run {
    /// The last ones that are wanted, or only the first of all.
    places: VecDeque<Place>,
    /// Whether anything of it is there.
    seen: bool,
}

impl Run {
    fn line(&mut self, place: Place, line: &LogLine, wanted: Wanted) {
        self.seen = true;
        if wanted.since_ms.is_some_and(|since| line.at_ms < since) {
            return;
        }
        match wanted.last {
            Some(0) => {}
            Some(last) => {
                if self.places.len() == last {
                    self.places.pop_front();
                }
                self.places.push_back(place);
            }
            None if self.places.is_empty() => self.places.push_back(place),
            None => {}
        }
    }
}

/// A reader from the first wanted line on; `None` if there is no such run. Of what is there it keeps only places, and reads it again
/// when it is sent.
fn open(directory: &Directory, wanted: Wanted) -> io::Result<Option<Reader>> {
    let mut reader = Reader::open(directory.path())?;
    let (mut before, mut last) = (None, Run::default());
    loop {
        let more = reader.more()?;
        if more.is_empty() {
            break;
        }
        for (place, record) in more {
            match record {
                Record::Line(line) => last.line(place, &line, wanted),
                Record::Start => {
                    let run = std::mem::replace(&mut last, Run { seen: true, ..Run::default() });
                    // Before the first start there is something only if the start of that was too long ago.
                    before = run.seen.then_some(run);
                }
            }
        }
    }
    let end = reader.place();
    let Some(run) = (if wanted.previous { before } else { Some(last) }) else { return Ok(None) };
    Reader::open_at(directory.path(), run.places.front().copied().or(end)).map(Some)
}

/// What comes of a run, in steps.
struct State {
    directory: Directory,
    wanted: Wanted,
    /// `None` when nothing more will come.
    reader: Option<Reader>,
}

impl State {
    async fn next(&mut self) -> Option<Vec<LogLine>> {
        loop {
            let mut reader = self.reader.take()?;
            let directory = self.directory.clone();
            let look = tasks::blocking(move || {
                // Asked first: what a program wrote before its end is read after it.
                let status = directory.status();
                (reader.more(), reader, status)
            });
            let (more, reader, status) = look.await.ok()?;
            let more = more.ok()?;
            let follows = self.wanted.follow && !self.wanted.previous;
            let runs = matches!(status, Status::Running { .. } | Status::Frozen { .. });
            let mut lines = Vec::new();
            let mut is_over = more.is_empty() && !(follows && runs);
            let is_quiet = more.is_empty();
            for (_, record) in more {
                match record {
                    Record::Line(line) => lines.push(line),
                    // Another run.
                    Record::Start => {
                        is_over = true;
                        break;
                    }
                }
            }
            if !is_over {
                self.reader = Some(reader);
            }
            if !lines.is_empty() {
                return Some(lines);
            }
            if is_quiet && !is_over {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// The lines of a run, and with `follow` those to come.
pub(super) async fn output(directory: Directory, id: &str, wanted: Wanted) -> Result<Lines, Error> {
    let failed = |source| Error::Io { id: id.to_owned(), doing: "read the output of", source };
    let read = {
        let directory = directory.clone();
        tasks::blocking(move || open(&directory, wanted)).await
    };
    let reader = read.map_err(io::Error::other).flatten().map_err(failed)?;
    let reader = reader.ok_or_else(|| Error::NoRunBefore { id: id.to_owned() })?;
    let state = State { directory, wanted, reader: Some(reader) };
    let lines = stream::unfold(state, |mut state| async move {
        let lines = state.next().await?;
        Some((lines, state))
    });
    Ok(lines.boxed())
}
