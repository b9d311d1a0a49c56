//! Errors for people: the whole chain in one line, then what may be done about it. It must never know what was being done.

use std::io;

use crate::{
    cli::printer::Printer,
    client, local,
    router::saved,
    server::{self, tls},
    store::{self, crypt},
};

/// What is damaged must not be taken for what was declared.
const DAMAGED: &str = "nothing was changed; move the data directory's store away and make one from an export: hangar restore-store";
/// A token, or nobody else.
const UNPROTECTED: &str = "let --tls ask for tokens, or --listen on a loopback address";
/// Two servers on one data directory would undo each other's work.
const IN_USE: &str =
    "another hangar runs on this data directory: end it, or give this one another with --data-dir";

/// Something that was typed, or found, and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    message: String,
    hint: Option<String>,
    is_usage: bool,
}

impl Failure {
    /// With nothing to advise.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, is_usage: false }
    }

    /// With advice.
    #[must_use]
    pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), is_usage: false }
    }

    /// With advice, about what was typed: the exit code is then that of wrong usage.
    #[must_use]
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_usage: true, ..Self::hinted(message, hint) }
    }
}

/// Whether it is about what was typed.
pub(super) fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|it| it.downcast_ref::<Failure>().is_some_and(|it| it.is_usage))
}

/// Prints an error and its hints.
pub(super) fn report(error: &anyhow::Error, printer: &mut Printer) {
    match error.downcast_ref::<client::Error>().and_then(client::Error::reason) {
        Some(reason) if !reason.is_empty() => {
            printer.note(format_args!("Error from server ({reason}): {error:#}"));
        }
        _ => printer.note(format_args!("error: {error:#}")),
    }
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
    if let Some(error) = cause.downcast_ref::<client::Error>() {
        return error.hint();
    }
    if let Some(error) = cause.downcast_ref::<crypt::Error>() {
        return of_key(error);
    }
    if let Some(error) = cause.downcast_ref::<tls::Error>() {
        return of_certificate(error).map(str::to_owned);
    }
    let text = match (cause.downcast_ref(), cause.downcast_ref(), cause.downcast_ref()) {
        (Some(local::Error::InUse { .. }), ..) => IN_USE,
        (_, Some(store::Error::Io { source, .. }), _) if is_busy(source) => IN_USE,
        (_, Some(store::Error::Corrupt { .. }), _) => DAMAGED,
        (.., Some(server::Error::Unprotected(_))) => UNPROTECTED,
        _ => match cause.downcast_ref() {
            Some(saved::Error::InUse) => IN_USE,
            _ => return None,
        },
    };
    Some(text.to_owned())
}

fn of_certificate(error: &tls::Error) -> Option<&'static str> {
    match error {
        tls::Error::Name(_) => Some("--tls-san takes host names and addresses"),
        tls::Error::Unusable { .. } => Some("--tls-cert and --tls-key must belong together"),
        tls::Error::Content { .. } => Some(
            "put back what was there; without the directory `tls` another authority is made, which clients do not know yet",
        ),
        tls::Error::File { .. } | tls::Error::Make(_) => None,
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn of_key(error: &crypt::Error) -> Option<String> {
    match error {
        crypt::Error::Exposed { path, .. } => Some(format!("chmod 600 {}", path.display())),
        crypt::Error::Weak
        | crypt::Error::File { .. }
        | crypt::Error::Length { .. }
        | crypt::Error::Random(_)
        | crypt::Error::Unsealable => None,
    }
}
