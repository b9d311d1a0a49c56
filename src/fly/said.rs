//! Reads what Fly says when it refuses: the body in all of its forms, and the reason behind the words. The list of texts is
//! kept here and nowhere else. It must never decide what to do about a reason.

use std::{borrow::Cow, cmp::Reverse, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::Value;

use crate::fly::{
    call::Route,
    error::{Missing, Reason, Scope},
    wire::ErrorBody,
};

/// Characters of a text that are shown.
const TEXT_CHARS_MAX: usize = 500;
/// Bytes of a body that is read; of a longer one a secret could be cut in two and not be found.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Shorter secrets are too common in any text to be taken out of one that need not hold them.
pub(crate) const HIDE_CHARS_MIN: usize = 8;
/// What stands for a secret.
const HIDDEN: &str = "[hidden]";

/// What an error's body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    /// For people: without control characters and secrets.
    pub(crate) text: String,
    /// Fly's own code, which outranks the text.
    code: Option<String>,
}

impl Said {
    /// Reads JSON, lease-style JSON, plain text or nothing.
    pub(crate) fn read(body: &[u8], hide: &[&str]) -> Self {
        if body.len() > BODY_BYTES_MAX {
            return Self { text: format!("{} bytes, too many to be read", body.len()), code: None };
        }
        let (text, code) = match serde_json::from_slice::<ErrorBody>(body) {
            Ok(said) => {
                let text = if said.message.is_empty() { said.error } else { said.message };
                // Lease-style bodies have the word where others have the code.
                let code = Some(said.status).filter(|it| !it.is_empty() && it != "error");
                (text, code)
            }
            // JSON of another shape in our own spelling: Go writes `&` as `\u0026`, and a secret may have one.
            Err(_) => match serde_json::from_slice::<Value>(body) {
                Ok(odd) => (odd.to_string(), None),
                Err(_) => (String::from_utf8_lossy(body).into_owned(), None),
            },
        };
        Self { text: clean(&text, hide), code }
    }

    /// The reason: by code, then by text, and by number only where the number has one meaning.
    pub(crate) fn reason(
        &self,
        route: &Route,
        status: StatusCode,
        after: Option<Duration>,
    ) -> Reason {
        match self.code.as_deref() {
            Some("insufficient_capacity") => return Reason::Capacity { scope: Scope::Region },
            Some("volume_placement_capacity") => return Reason::Capacity { scope: Scope::Volume },
            Some("name_taken") => return Reason::NameTaken,
            Some(_) | None => {}
        }
        let text = Text(&self.text, self.text.to_ascii_lowercase());
        if text.has("manifest_unknown") {
            return Reason::ManifestUnknown;
        }
        if text.has("failed to reach desired state") && !route.changes() {
            return Reason::WaitTimeout { currently: text.word_after("currently ") };
        }
        if text.1.starts_with("deadline_exceeded") {
            return Reason::DeadlineExceeded;
        }
        match status.as_u16() {
            400 if text.has("volume not found") => Reason::VolumeNotFound,
            // Of volumes.
            400 if text.1.ends_with("no capacity") => Reason::Capacity { scope: Scope::Region },
            400 => Reason::BadRequest,
            401 => Reason::Unauthenticated,
            402 => Reason::PaymentNeeded,
            403 if route.names_app() && text.has("unauthorized") => Reason::ForeignApp,
            403 => Reason::Forbidden,
            404 => text.not_found(route),
            408 => Reason::DeadlineExceeded,
            409 => self.capacity(&text).or_else(|| text.conflict()).unwrap_or(Reason::Conflict),
            412 => text.conflict().unwrap_or(Reason::Precondition),
            422 => self.unprocessable(&text),
            429 => Reason::RateLimited { after },
            500..=599 => Reason::Server,
            _ if text.has("rate limit exceeded") => Reason::RateLimited { after },
            _ => Reason::Refused,
        }
    }

    /// A 409 without a code may be a lack of room; then its words are these.
    fn capacity(&self, text: &Text<'_>) -> Option<Reason> {
        const HOST: &[&str] = &[
            "insufficient cpus available",
            "insufficient memory available",
            "insufficient ips available",
            "insufficient resources available",
            "could not reserve resource for machine",
            "deploys to this host are temporarily disabled",
        ];
        let scope = if self.code.is_some() {
            return None;
        } else if text.1.ends_with("no capacity") {
            Scope::Region
        } else if HOST.iter().any(|words| text.has(words)) {
            Scope::Host
        } else if text.has("governor policy blocked start") {
            Scope::Governor
        } else {
            return None;
        };
        Some(Reason::Capacity { scope })
    }

    fn unprocessable(&self, text: &Text<'_>) -> Reason {
        if text.has("name has already been taken") || text.has("uniqueness constraint violated") {
            Reason::NameTaken
        } else if text.has("name under 63 chars") {
            Reason::NameInvalid
        } else if self.code.is_none() && text.has("could not find a candidate host") {
            // From before there were codes.
            Reason::Capacity { scope: Scope::Region }
        } else if text.has("reached its machine limit") {
            Reason::MachineLimit
        } else if text.has("add a payment method") {
            Reason::PaymentNeeded
        } else {
            Reason::BadRequest
        }
    }
}

/// A text, and the same in lower case (of equal length) for comparing.
struct Text<'a>(&'a str, String);

impl Text<'_> {
    fn has(&self, words: &str) -> bool {
        self.1.contains(words)
    }

    /// The word after a phrase, if it looks like one.
    fn word_after(&self, phrase: &str) -> Option<String> {
        let start = self.1.find(phrase)? + phrase.len();
        let word: String = self
            .0
            .get(start..)?
            .chars()
            .skip_while(|c| matches!(c, '"' | '\'' | ' '))
            .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.'))
            .collect();
        Some(word).filter(|word| !word.is_empty())
    }

    fn not_found(&self, route: &Route) -> Reason {
        let in_path = |name: &str| route.template.contains(name);
        let what = if self.has("page not found") || self.1.starts_with('<') {
            Missing::Unclear
        } else if self.has("app not found") || self.has("could not find app") {
            return Reason::AppNotFound;
        } else if self.has("lease not found") {
            Missing::Lease
        } else if self.has("volume not found") && !in_path("{volume}") {
            return Reason::VolumeNotFound;
        } else if in_path("{machine}") {
            Missing::Machine
        } else if in_path("{volume}") {
            Missing::Volume
        } else if in_path("{app}") {
            return Reason::AppNotFound;
        } else {
            Missing::Unclear
        };
        Reason::NotFound { what }
    }

    /// The many meanings of 409 and 412 that are not about room. Fly's own numbers for some are not certain, so both
    /// are read alike.
    fn conflict(&self) -> Option<Reason> {
        const TOO_EARLY: &[&str] =
            &["unable to start machine from current state", "refusing to start"];
        Some(if self.has("lease currently held by") {
            let until = self.word_after("expires at ").and_then(|at| at.parse().ok());
            Reason::LeaseHeld { until }
        } else if self.has("unique machine name violation") {
            Reason::MachineNameTaken { id: self.word_after("machine id ") }
        } else if self.has("concurrent update") {
            Reason::ConcurrentUpdate
        } else if TOO_EARLY.iter().any(|words| self.has(words)) {
            Reason::StateRace
        } else if self.has("unable to destroy machine, not currently stopped") {
            Reason::StillRunning
        } else if self.has("volume is currently bound") {
            Reason::VolumeBound { machine: self.word_after("bound to machine: ") }
        } else if self.has("volume already claimed") {
            Reason::VolumeClaimed { machine: self.word_after("claimed by machine ") }
        } else if self.has("snapshot is already scheduled") {
            Reason::SnapshotRunning
        } else if self.has("insufficient resources to create new machine with existing volume") {
            // From before there were codes.
            Reason::Capacity { scope: Scope::Volume }
        } else if self.has("secret") && self.has("version") {
            Reason::SecretsBehind
        } else if self.has("version") {
            Reason::VersionMismatch
        } else {
            return None;
        })
    }
}

/// Words of Fly's that are no refusal of a call, such as a machine's event, as one short line that is fit for a log.
#[must_use]
pub fn printable(text: &str, hide: &[&str]) -> String {
    cut(&without(text, hide)).into_owned()
}

/// One line that is fit for a log, however long: secrets, longer words of theirs, and control characters removed.
pub(crate) fn without(text: &str, hide: &[&str]) -> String {
    without_words(clean(text, hide), hide)
}

/// One line: secrets and control characters removed.
fn clean(text: &str, hide: &[&str]) -> String {
    // What a line has not may have stood inside a secret.
    without_forms(&one_line(&without_forms(text, hide)), hide)
}

fn without_forms(text: &str, hide: &[&str]) -> String {
    let forms = hide.iter().flat_map(|it| forms(it));
    forms.fold(text.to_owned(), |text, form| text.replace(&form, HIDDEN))
}

/// The text without longer words of secrets: whoever quotes a quotation escapes what was escaped, and no list of forms ends. It
/// may take a word of Fly's along, so the reason is read before.
pub(crate) fn without_words(mut text: String, hide: &[&str]) -> String {
    let words = hide.iter().flat_map(|it| it.split(|it: char| !it.is_ascii_alphanumeric()));
    for word in words.filter(|it| it.len() >= HIDE_CHARS_MIN) {
        text = text.replace(word, HIDDEN);
    }
    text
}

/// A text as it is shown.
pub(crate) fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

fn one_line(text: &str) -> String {
    let space = |c: char| if c.is_whitespace() { ' ' } else { c };
    let text: String = text.chars().map(space).filter(|c| !c.is_control()).collect();
    text.trim().to_owned()
}

/// As what a secret may be repeated: as it is, on one line, as JSON has it, in base64, in a form or a URL.
fn forms(secret: &str) -> Vec<String> {
    let json = serde_json::to_string(secret).unwrap_or_default();
    // Without the quotes, of which a secret may have its own.
    let json = json.get(1..json.len().saturating_sub(1)).unwrap_or_default();
    let mut forms = vec![secret.to_owned(), one_line(secret), json.to_owned()];
    if secret.len() >= HIDE_CHARS_MIN {
        let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let base64 = STANDARD.encode(secret);
        forms.extend([form.replace('+', "%20"), form, base64.trim_end_matches('=').to_owned()]);
    }
    forms.retain(|it| !it.is_empty());
    // The longest first: it may hold a shorter one.
    forms.sort_by_key(|it| Reverse(it.len()));
    forms
}
