//! Who did what: a line of JSON for each call that is more than looking around, and one now and then for all that are not let in. It
//! must never hold a body, a value or a token, nor make a request wait for the disk.

mod writer;

#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use http::{Response, request::Parts as Head};
use jiff::Timestamp;
use serde::Serialize;

use self::writer::{Output, Queue};
use crate::net::Body;
use crate::server::{
    call::{Call, NoCall},
    may::{Asked, Caller, asked},
    status::Status,
};
use crate::telemetry::journal::milliseconds;

/// Bytes of what a request names; more of it is cut. Longer names than this are no object's.
const NAME_BYTES_MAX: usize = 253;

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Queue>>);

/// The name of an object that its request did not name yet.
#[derive(Debug, Clone)]
pub(super) struct Named(pub(super) String);

/// That nothing was written because the body of the request asked for that.
#[derive(Debug, Clone)]
pub(super) struct DryRun;

/// One line. What is in it is bounded, so that lines which wait are.
#[derive(Debug, Default, Serialize)]
pub(super) struct Entry {
    at: Timestamp,
    /// Empty for who was not let in.
    pub(super) who: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    verb: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    decision: &'static str,
    code: u16,
    duration_ms: f64,
    /// How many were not let in since the last line about such, of which this is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<u64>,
    /// Whether it is nothing to speak of for who was let in.
    #[serde(skip)]
    is_look_around: bool,
}

impl Audit {
    /// Writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Into a file, which is made where it is not there, for its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        Self::to(Output::file(path)?)
    }

    /// To standard output.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn to_stdout() -> io::Result<Self> {
        Self::to(Output::stdout()?)
    }

    fn to(output: Output) -> io::Result<Self> {
        Ok(Self(Some(Arc::new(writer::start(output)?))))
    }

    /// What will be said of a call.
    pub(super) fn begin(
        &self,
        (head, call): (&Head, &Result<Call, NoCall>),
        from: Option<SocketAddr>,
        at: Timestamp,
    ) -> Option<Entry> {
        self.0.as_ref()?;
        let from = from.map(|it| it.ip().to_canonical());
        let mut entry = Entry { at, from, ..Entry::default() };
        match call.as_ref().map(asked) {
            Ok(Asked::Resource { attributes: it, name }) => {
                entry.verb = it.verb.to_owned();
                entry.group = it.group.to_owned();
                entry.resource = it.resource.to_owned();
                entry.subresource = it.part.to_owned();
                entry.namespace = cut(it.namespace.unwrap_or_default());
                entry.name = cut(name);
            }
            Ok(Asked::Path { verb, path }) => {
                entry.verb = verb.to_owned();
                entry.path = path.to_owned();
            }
            Ok(Asked::LookAround) => {
                entry.is_look_around = true;
                entry.verb = verb(head);
                entry.path = cut(head.uri.path());
            }
            // Whatever is at a path that is none, it may be anything.
            Err(_) => entry.verb = verb(head),
        }
        entry.dry_run = call.as_ref().is_ok_and(is_dry_run);
        Some(entry)
    }

    /// Hands a line over, with how the call went; of what stays open, how it began. Calls that are not let in share one, or else
    /// whoever has no token could push out what the others did.
    pub(super) fn end(
        &self,
        mut line: Entry,
        result: &Result<Response<Body>, Status>,
        took: Duration,
    ) {
        let Some(queue) = &self.0 else { return };
        let was_let_in = !line.who.is_empty();
        let is_denied = !was_let_in || result.as_ref().is_err_and(|it| it.denies);
        if line.is_look_around && !is_denied {
            return;
        }
        line.decision = if is_denied { "deny" } else { "allow" };
        line.duration_ms = milliseconds(took);
        match result {
            Ok(response) => {
                line.code = response.status().as_u16();
                line.dry_run |= response.extensions().get::<DryRun>().is_some();
                if let Some(Named(name)) = response.extensions().get() {
                    line.name = cut(name);
                }
            }
            Err(status) => line.code = status.code.as_u16(),
        }
        if was_let_in {
            queue.add(&line);
        } else {
            queue.refuse(line);
        }
    }

    /// Waits until all that was handed over is written, for a second at most.
    pub(super) async fn flush(&self) {
        if let Some(queue) = &self.0 {
            queue.flush().await;
        }
    }
}

impl Entry {
    /// Says who it was.
    pub(super) fn by(&mut self, caller: &Caller) {
        caller.name().clone_into(&mut self.who);
        if let Caller::Scoped(pass) = caller {
            self.uid.clone_from(&pass.uid);
        }
    }
}

fn verb(head: &Head) -> String {
    cut(&head.method.as_str().to_ascii_lowercase())
}

/// The beginning of what is too long, marked as that.
fn cut(text: &str) -> String {
    if text.len() <= NAME_BYTES_MAX {
        return text.to_owned();
    }
    let (start, _) = text.split_at(text.floor_char_boundary(NAME_BYTES_MAX));
    format!("{start}…")
}

/// Whether the path says that nothing is to be written. A deletion's body may say it too.
fn is_dry_run(call: &Call) -> bool {
    match call {
        Call::Create(_, options)
        | Call::Replace(_, options)
        | Call::Patch(_, options)
        | Call::Delete(_, options)
        | Call::ReplaceScale(_, options)
        | Call::PatchScale(_, options)
        | Call::Order(_, options)
        | Call::DeleteCollection(_, _, options) => options.dry_run,
        _ => false,
    }
}
