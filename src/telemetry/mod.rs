//! LEAF. What the process says about itself: log lines, the reconciliation journal, metrics. It must never hold a secret
//! value, nor wait for whoever reads it.

pub mod journal;
pub mod metrics;

use std::{
    io::{self, IsTerminal as _},
    panic,
};

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

pub use self::{
    journal::{Journal, Line, Outcome},
    metrics::Metrics,
};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not one.
    #[error("`{filter}` is not a log filter; `info` and `hangar=debug,warn` are")]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else writes this process's log already.
    #[error("the log was set up before")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends the process's log lines to standard error, as text or as JSON, and a line for each panic.
///
/// # Errors
/// `Filter` when `level` cannot be read; `Twice` at a second call.
pub fn init(level: &str, json: bool) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(level)
        .map_err(|source| Error::Filter { filter: level.to_owned(), source })?;
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colour);
    if json { log.json().finish().try_init() } else { log.finish().try_init() }
        .map_err(Error::Twice)?;
    log_panics();
    Ok(())
}

/// Logs where a panic happened. Its message is logged only when it is a literal: a formatted one may hold any value.
fn log_panics() {
    panic::set_hook(Box::new(|info| {
        let message = literal(info.payload());
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        match info.location() {
            Some(at) => tracing::error!(%at, thread, message, "panicked"),
            None => tracing::error!(thread, message, "panicked"),
        }
    }));
}

fn literal(payload: &(dyn std::any::Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("(a message that may hold values)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formatted_panic_message_is_not_logged() {
        assert_eq!(literal(&"a literal"), "a literal");
        assert!(!literal(&"hunter2".to_owned()).contains("hunter2"));
    }

    #[test]
    fn a_wrong_filter_is_refused_with_its_text() {
        let error = init("hangar=loudly", false).unwrap_err().to_string();
        assert!(error.contains("hangar=loudly"), "{error}");
    }
}
