//! What a `fly-replay` answer says: the header's and the JSON body's grammar, read strictly. It must never look at machines
//! or send anything.
//!
//! Fly does not publish its grammar. Where the documentation is silent this one refuses, because a router that relies on a
//! guess would fail only once it is deployed.

mod json;

use std::time::Duration;

pub use json::{Transform, parse_json};

/// Longest `state`; it comes back in a request header.
const STATE_MAX: usize = 4_096;
/// Longest app name, machine id or region.
const NAME_MAX: usize = 63;
/// Most regions in one list; Fly has fewer.
const REGIONS_MAX: usize = 40;

/// A replay as the answer orders it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// Regions in order of preference; empty when none was named.
    pub regions: Vec<String>,
    /// Machine to send the request to.
    pub instance: Option<Instance>,
    /// App to send the request to.
    pub app: Option<String>,
    /// Text for the target's `fly-replay-src`.
    pub state: Option<String>,
    /// Leave out the machine that answered.
    pub elsewhere: bool,
    /// How long to try to reach a machine.
    pub timeout: Option<Duration>,
    /// What to do when none was reached.
    pub fallback: Option<Fallback>,
    /// Changes to the request; only the JSON form can carry them.
    pub transform: Transform,
}

/// A machine named by a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    /// This one and no other.
    Exactly(String),
    /// This one if it can be reached, else any.
    Prefer(String),
}

/// Who gets the request back when no machine was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// The machine that ordered the replay.
    ForceSelf,
    /// The machine that ordered the replay, else another one of its app.
    PreferSelf,
}

/// Why an answer orders no replay that could be followed. A field is named, its value never repeated: it may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing between two separators.
    #[error("the replay has an empty field")]
    EmptyField,
    /// A field without `=`.
    #[error("a field of the replay has no value")]
    NoValue,
    /// A field that Fly does not document.
    #[error("the replay has an unknown field")]
    UnknownField,
    /// A field twice, or both `instance` and `prefer_instance`.
    #[error("the replay says `{0}` twice")]
    Twice(&'static str),
    /// A value outside its grammar.
    #[error("the replay's `{0}` is not valid")]
    Value(&'static str),
    /// A quote that does not end, or text after its end.
    #[error("the replay has an unbalanced quote")]
    Quote,
    /// Not visible ASCII, or not the JSON that Fly documents.
    #[error("the replay cannot be read")]
    Unreadable,
    /// More than one `fly-replay` header, or a header and a JSON body.
    #[error("the answer orders more than one replay")]
    Several,
    /// Neither an app nor a machine, from an answer that came from no machine.
    #[error("the replay names neither an app nor an instance")]
    Nowhere,
    /// A replay in answer to a request that came back by a fallback.
    #[error("a request that fell back cannot be replayed again")]
    AfterFallback,
}

/// Reads the value of a `fly-replay` header: `key=value;key=value`, values optionally in double quotes.
///
/// # Errors
/// [`Invalid`] for anything outside the grammar.
pub fn parse(text: &str) -> Result<Replay, Invalid> {
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(Invalid::Unreadable);
    }
    let mut fields = Fields::default();
    let mut rest = text;
    loop {
        let (field, quoted, after) = next_field(rest)?;
        let (key, value) = field;
        fields.set(key, value, quoted)?;
        match after {
            Some(after) => rest = after,
            None => return fields.finish(),
        }
    }
}

/// Splits off one field: its key and value, whether the value was quoted, and the text after the separator.
#[expect(clippy::type_complexity, reason = "a private triple, taken apart at once")]
fn next_field(text: &str) -> Result<((&str, &str), bool, Option<&str>), Invalid> {
    let end = text.find([';', '=']).unwrap_or(text.len());
    let key = text[..end].trim();
    if key.is_empty() && !text[end..].starts_with('=') {
        return Err(Invalid::EmptyField);
    }
    let Some(value) = text[end..].strip_prefix('=') else { return Err(Invalid::NoValue) };
    let value = value.trim_start();
    let (value, quoted, tail) = if let Some(open) = value.strip_prefix('"') {
        let (inside, tail) = open.split_once('"').ok_or(Invalid::Quote)?;
        (inside, true, tail)
    } else {
        let end = value.find(';').unwrap_or(value.len());
        (value[..end].trim_end(), false, &value[end..])
    };
    match tail.trim_start() {
        "" => Ok(((key, value), quoted, None)),
        tail => {
            let after = tail.strip_prefix(';').ok_or(Invalid::Quote)?;
            Ok(((key, value), quoted, Some(after)))
        }
    }
}

/// Fields as they are met; every one at most once.
#[derive(Debug, Default)]
struct Fields {
    replay: Replay,
    seen: Vec<&'static str>,
}

impl Fields {
    fn set(&mut self, key: &str, value: &str, quoted: bool) -> Result<(), Invalid> {
        match key {
            "region" => {
                if value.contains(',') && !quoted {
                    return Err(Invalid::Value("region"));
                }
                self.once("region")?;
                self.replay.regions = regions(value)?;
            }
            "instance" => {
                self.once("instance")?;
                self.replay.instance = Some(Instance::Exactly(name("instance", value)?));
            }
            "prefer_instance" => {
                self.once("prefer_instance")?;
                self.replay.instance = Some(Instance::Prefer(name("prefer_instance", value)?));
            }
            "app" => {
                self.once("app")?;
                self.replay.app = Some(name("app", value)?);
            }
            "state" => {
                self.once("state")?;
                self.replay.state = Some(state(value)?);
            }
            "elsewhere" => {
                self.once("elsewhere")?;
                self.replay.elsewhere = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(Invalid::Value("elsewhere")),
                };
            }
            "timeout" => {
                self.once("timeout")?;
                self.replay.timeout = Some(duration(value)?);
            }
            "fallback" => {
                self.once("fallback")?;
                self.replay.fallback = Some(match value {
                    "force_self" => Fallback::ForceSelf,
                    "prefer_self" => Fallback::PreferSelf,
                    _ => return Err(Invalid::Value("fallback")),
                });
            }
            _ => return Err(Invalid::UnknownField),
        }
        Ok(())
    }

    fn once(&mut self, field: &'static str) -> Result<(), Invalid> {
        if self.seen.contains(&field) {
            return Err(Invalid::Twice(field));
        }
        self.seen.push(field);
        Ok(())
    }

    fn finish(self) -> Result<Replay, Invalid> {
        // Two answers to one question: which machine it must be.
        if self.seen.contains(&"instance") && self.seen.contains(&"prefer_instance") {
            return Err(Invalid::Twice("instance"));
        }
        Ok(self.replay)
    }
}

fn name(field: &'static str, value: &str) -> Result<String, Invalid> {
    let fine = !value.is_empty()
        && value.len() <= NAME_MAX
        && value
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fine { Ok(value.to_owned()) } else { Err(Invalid::Value(field)) }
}

fn regions(value: &str) -> Result<Vec<String>, Invalid> {
    let list: Vec<_> =
        value.split(',').map(|region| name("region", region.trim())).collect::<Result<_, _>>()?;
    if list.len() > REGIONS_MAX { Err(Invalid::Value("region")) } else { Ok(list) }
}

/// A `;` or a quote inside would let whoever chooses the text forge other fields of `fly-replay-src`.
fn state(value: &str) -> Result<String, Invalid> {
    let fine = value.len() <= STATE_MAX
        && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b'"');
    if fine { Ok(value.to_owned()) } else { Err(Invalid::Value("state")) }
}

/// `800ms`, `10s`, `1m`: a whole number and one unit, as in Fly's examples.
fn duration(value: &str) -> Result<Duration, Invalid> {
    let wrong = Invalid::Value("timeout");
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let number: u64 = value[..digits].parse().map_err(|_| wrong.clone())?;
    let unit_ms = match &value[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong),
    };
    match number.checked_mul(unit_ms) {
        None | Some(0) => Err(wrong),
        Some(ms) => Ok(Duration::from_millis(ms)),
    }
}

#[cfg(test)]
mod tests;
