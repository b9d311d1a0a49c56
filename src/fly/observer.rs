//! Who is told of every call: the reconciliation log and the metrics stand behind this. It must never change a call.

use std::{fmt, time::Duration};

use http::StatusCode;

use crate::fly::call::Call;

/// A call that ended, whichever way.
#[derive(Debug, Clone)]
pub struct CallRecord<'a> {
    /// What was called, on what.
    pub call: &'a Call,
    /// How long it waited for a token of the rate limit.
    pub waited: Duration,
    /// How long it took after that.
    pub took: Duration,
    /// `ok`, or [`crate::fly::Error::kind`]; `unsent` or `cancelled` when the caller gave up before or after the request
    /// was on its way, which leaves the effect of the latter open.
    pub outcome: &'static str,
    /// HTTP status, if there was an answer.
    pub status: Option<StatusCode>,
    /// Fly's id of the request, if there was an answer.
    pub request_id: Option<&'a str>,
}

/// Is told of every call.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A call ended. Must return at once.
    fn called(&self, record: &CallRecord<'_>);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn called(&self, _record: &CallRecord<'_>) {}
}
