//! Errors for people: the whole chain in one line, then what may be done about it. It must never change an exit code.

use crate::{cli::printer::Printer, client};

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
        let hint = if let Some(failure) = cause.downcast_ref::<Failure>() {
            failure.hint.clone()
        } else {
            cause.downcast_ref::<client::Error>().and_then(client::Error::hint)
        };
        if let Some(hint) = hint {
            printer.note(format_args!("hint: {hint}"));
        }
    }
}
