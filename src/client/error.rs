//! What can go wrong with a call, whether trying again may help, and what a person may do about it. It must never carry a
//! token or a body that was sent.

use std::time::Duration;

use crate::client::wire::Status;
use crate::retry::{self, Retry};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address is not one.
    #[error("`{url}` is not a server's address: {reason}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name that no object or namespace can have.
    #[error("{0:?} is not a name: use letters, digits, dashes and dots")]
    Name(String),
    /// The client could not be made.
    #[error("cannot set up the HTTP client")]
    Setup {
        /// Why.
        source: reqwest::Error,
    },
    /// The authority that was given is none.
    #[error("there is no certificate in PEM in what should be the server's authority")]
    Authority,
    /// Nobody answers there.
    #[error("cannot reach the server at {server}")]
    Connect {
        /// Where.
        server: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The connection failed later, or the answer took too long.
    #[error("the connection to {server} failed")]
    Transport {
        /// Where.
        server: String,
        /// Why.
        source: reqwest::Error,
    },
    /// A stream broke off.
    #[error("the stream broke off")]
    Stream {
        /// Why.
        source: std::io::Error,
    },
    /// The server refused.
    #[error("{}", .0.text())]
    Status(Box<Status>),
    /// Something that is not hangar answered with an error.
    #[error("{server} answered {code} without saying why")]
    Foreign {
        /// Where.
        server: String,
        /// HTTP status.
        code: u16,
    },
    /// The answer cannot be read.
    #[error("the answer of {path} cannot be read")]
    Answer {
        /// What was asked for.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What is wrong between http and https, which the texts below it say only to who knows them.
fn of_tls(source: &reqwest::Error) -> Option<&'static str> {
    let said = retry::chain(source);
    let is = |text: &str| said.contains(text);
    if is("UnknownIssuer") || is("BadSignature") {
        return Some(
            "its certificate is of an authority that is not known here: --certificate-authority or HANGAR_CA names it, which is tls/ca.crt in the server's data directory",
        );
    }
    if is("not valid for name") || is("NotValidForName") {
        return Some("its certificate is for other names: the server's --tls-san adds one");
    }
    (is("InvalidContentType") || is("invalid HTTP version"))
        .then_some("one side speaks https and the other http: look at --server and HANGAR_SERVER")
}

impl Error {
    /// Whether the same call may succeed later. A write that failed on the way may have been done.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Address { .. }
            | Self::Name(_)
            | Self::Setup { .. }
            | Self::Authority
            | Self::Answer { .. } => Retry::Never,
            Self::Connect { .. } | Self::Transport { .. } | Self::Stream { .. } => Retry::Backoff,
            Self::Foreign { code, .. } if *code >= 500 => Retry::Backoff,
            Self::Foreign { .. } => Retry::Never,
            Self::Status(status) => match (status.retry_after(), status.code) {
                (Some(seconds), _) => Retry::After(Duration::from_secs(seconds)),
                (None, 429 | 500..) => Retry::Backoff,
                (None, _) => Retry::Never,
            },
        }
    }

    /// What a person may do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        if let Self::Connect { source, .. } | Self::Transport { source, .. } = self
            && let Some(hint) = of_tls(source)
        {
            return Some(hint.to_owned());
        }
        match self {
            Self::Connect { server, .. } => Some(format!(
                "is `hangar up` or `hangar serve` running? {server} comes from --server or HANGAR_SERVER"
            )),
            Self::Address { .. } => {
                Some(format!("the default is {}", crate::client::DEFAULT_SERVER))
            }
            Self::Foreign { .. } | Self::Answer { .. } => {
                Some("is that address hangar's API? See --server and HANGAR_SERVER".to_owned())
            }
            Self::Status(status) => status.hint(),
            Self::Authority => Some("it is tls/ca.crt in the server's data directory".to_owned()),
            Self::Name(_) | Self::Setup { .. } | Self::Transport { .. } | Self::Stream { .. } => {
                None
            }
        }
    }

    /// The server's reason (`NotFound`, `Conflict` …), if it was the server that refused.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Status(status) => Some(&status.reason),
            _ => None,
        }
    }

    /// Whether the object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.reason() == Some("NotFound")
    }

    /// Whether a watch must start again from a list.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), Some("Expired" | "Gone"))
    }
}

/// The error of an answer that is not a 2xx.
pub(super) fn refusal(server: &str, code: u16, after: Option<u64>, body: &[u8]) -> Error {
    let Ok(mut status) = serde_json::from_slice::<Status>(body) else {
        return Error::Foreign { server: server.to_owned(), code };
    };
    status.code = code;
    if let Some(after) = after {
        status.details.get_or_insert_default().retry_after_seconds = Some(after);
    }
    Error::Status(Box::new(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: u16, body: &str, retry: Retry, text: &str) {
        let error = refusal("http://x", code, None, body.as_bytes());
        assert_eq!((error.retry(), error.to_string().as_str()), (retry, text));
    }

    #[test]
    fn a_refusal_says_whether_to_try_again() {
        let status = r#"{"kind":"Status","reason":"NotFound","message":"environments \"x\" not found","code":404}"#;
        check(404, status, Retry::Never, "environments \"x\" not found");
        let busy = r#"{"kind":"Status","reason":"TooManyRequests","message":"busy","details":{"retryAfterSeconds":2}}"#;
        check(429, busy, Retry::After(Duration::from_secs(2)), "busy");
        check(502, "<html>", Retry::Backoff, "http://x answered 502 without saying why");
        check(404, "404 page not found", Retry::Never, "http://x answered 404 without saying why");
    }
}
