//! LEAF. What an error says about trying again, and how an error chain is printed. It must never decide anything itself.

use std::{error::Error, time::Duration};

/// Whether the failed thing may succeed when it is tried again, unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// No: something must change first.
    Never,
    /// Yes, after a growing delay.
    Backoff,
    /// Yes, but not before this much time has passed.
    After(Duration),
}

/// The whole chain in one line, outermost first: `cannot create the app: connection refused`.
///
/// Our `Display` texts never repeat their source, so nothing is said twice.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}
