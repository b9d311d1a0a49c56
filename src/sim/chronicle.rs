//! What happened in a course, line by line in the course's own time, and a hash of all of it. It must never hold what
//! differs between two courses of one seed.

use std::{
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::clock::Timestamp;

/// Lines kept to be shown; the hash covers all.
const LINES_MAX: usize = 20_000;

/// The chronicle of a course.
#[derive(Debug)]
pub(crate) struct Chronicle(Mutex<Written>);

#[derive(Debug)]
struct Written {
    lines: std::collections::VecDeque<String>,
    hasher: blake3::Hasher,
}

impl Chronicle {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Written { lines: Default::default(), hasher: blake3::Hasher::new() }))
    }

    /// Adds a line.
    pub(crate) fn tell(&self, at: Timestamp, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        // Writing to a string does not fail.
        let _written = write!(line, "{} {what}", at.strftime("%d %H:%M:%S%.3f"));
        let mut written = self.written();
        written.hasher.update(line.as_bytes()).update(b"\n");
        if written.lines.len() == LINES_MAX {
            written.lines.pop_front();
        }
        written.lines.push_back(line);
    }

    /// A hash of every line so far.
    pub(crate) fn hash(&self) -> String {
        self.written().hasher.finalize().to_hex().to_string()
    }

    /// The last lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.written().lines.iter().cloned().collect()
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
