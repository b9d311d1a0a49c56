//! Errors for people: the whole chain in one line, then what may be done about it. It must never change an exit code.

use crate::{cli::printer::Printer, client, local};

/// Two servers on one data directory would undo each other's work.
const IN_USE: &str =
    "another hangar runs on this data directory: end it, or give this one another with --data-dir";

/// Something that was typed, or found, and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// With nothing to advise.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// With advice.
    #[must_use]
    pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

/// Prints an error and its hints.
pub(super) fn report(error: &anyhow::Error, printer: &mut Printer) {
    printer.note(format_args!("error: {error:#}"));
    for cause in error.chain() {
        if let Some(hint) = hint(cause) {
            printer.note(format_args!("hint: {hint}"));
        }
    }
}

fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(failure) = cause.downcast_ref::<Failure>() {
        return failure.hint.clone();
    }
    if let Some(local::Error::InUse { .. }) = cause.downcast_ref() {
        return Some(IN_USE.to_owned());
    }
    cause.downcast_ref::<client::Error>().and_then(client::Error::hint)
}
