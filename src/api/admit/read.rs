//! From a value to a kind's type. A value that the type cannot have is a violation and is left out, so that the rest can be
//! read too. It must never let an object pass of which something was left out.

use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use crate::api::{
    admit::{Findings, VALUES_NOT_YET, Violation, ViolationReason, not_yet},
    kind::Kind,
    meta::Resource,
};

/// More wrong values than anybody reads at once.
const WRONG_MAX: usize = 32;

/// Paths of what was wrong and was left out to read the rest.
#[derive(Debug, Default)]
pub(super) struct LeftOut(Vec<String>);

impl LeftOut {
    /// Whether a path lies in something that was left out.
    fn has(&self, field: &str) -> bool {
        self.0.iter().any(|it| is_in(field, it))
    }

    /// Forgets violations of what was left out itself.
    pub(super) fn forget_same(&self, violations: &mut Vec<Violation>, from: usize) {
        let mut place = 0;
        violations.retain(|it| {
            place += 1;
            place <= from || !self.has(&it.field)
        });
    }

    /// Forgets violations that may come only of what was left out: those of its neighbours in the same part.
    pub(super) fn forget(&self, violations: &mut Vec<Violation>, from: usize) {
        let part = |path: &String| match path.rsplit_once('.') {
            Some((part, _)) if part.contains('.') => part.to_owned(),
            Some(_) | None => path.clone(),
        };
        let parts: Vec<_> = self.0.iter().map(part).collect();
        let mut place = 0;
        violations.retain(|it| {
            place += 1;
            place <= from || !parts.iter().any(|part| is_in(&it.field, part))
        });
    }
}

fn is_in(field: &str, path: &str) -> bool {
    field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Reads the type, with each value left out that it cannot have; those, and fields that it does not have, go to the findings.
/// `None` if something is wrong that it cannot be without.
pub(super) fn read<T: Resource>(mut new: Value, findings: &mut Findings) -> Option<(T, LeftOut)> {
    let mut left_out = LeftOut::default();
    let mut unknown = Vec::new();
    // Keeping the path takes longer, and only what is wrong asks for it.
    let read = serde_ignored::deserialize(&new, |path| unknown.push(dotted(&path.to_string())));
    if let Ok(object) = read {
        unknown.iter().for_each(|field| add_unknown(T::KIND, field, findings));
        return Some((object, left_out));
    }
    for _ in 0..WRONG_MAX {
        let mut track = serde_path_to_error::Track::new();
        let deserializer = serde_path_to_error::Deserializer::new(&new, &mut track);
        let mut unknown = Vec::new();
        let read = serde_ignored::deserialize(deserializer, |path| {
            unknown.push(dotted(&path.to_string()));
        });
        unknown.iter().for_each(|field| add_unknown(T::KIND, field, findings));
        let error: serde_json::Error = match read {
            Ok(object) => return Some((object, left_out)),
            Err(error) => error,
        };
        let path = track.path();
        let text = path.to_string();
        let at = if text == "." { "" } else { &text };
        let violation = translate(T::KIND, &new, at, &error.to_string());
        // What cannot be without something that was left out is left out too; what is wrong with it was told.
        if !left_out.has(&violation.field) {
            findings.violations.push(violation);
        }
        left_out.0.push(leave_out(&mut new, &path)?);
    }
    None
}

fn add_unknown(kind: Kind, field: &str, findings: &mut Findings) {
    if findings.violations.iter().any(|it| it.field == field) {
        return;
    }
    match not_yet(kind, field) {
        Some(sentence) => findings.forbidden(field, sentence),
        None => findings.add(
            field,
            ViolationReason::Unknown,
            format!("unknown field: {} has no such field", kind.info().kind_name),
        ),
    }
}

/// Removes the member at a path, or, for an entry of a list, the list: the others keep their places. Returns its path.
fn leave_out(object: &mut Value, path: &Path) -> Option<String> {
    let segments: Vec<_> = path.iter().collect();
    let last = segments.iter().rposition(|it| matches!(it, Segment::Map { .. }))?;
    let mut here = object;
    let mut at = String::new();
    for segment in &segments[..last] {
        here = match segment {
            Segment::Map { key } => {
                at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                here.get_mut(key)?
            }
            Segment::Seq { index } => {
                at = format!("{at}[{index}]");
                here.get_mut(*index)?
            }
            Segment::Enum { .. } | Segment::Unknown => return None,
        };
    }
    let Segment::Map { key } = segments.get(last)? else { return None };
    here.as_object_mut()?.remove(key)?;
    Some(if at.is_empty() { key.clone() } else { format!("{at}.{key}") })
}

/// serde's words in ours.
fn translate(kind: Kind, object: &Value, path: &str, said: &str) -> Violation {
    let violation = |field: String, reason, message: String| Violation { field, reason, message };
    if let Some(field) =
        said.strip_prefix("missing field `").and_then(|rest| rest.split('`').next())
    {
        let field = if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
        return violation(field, ViolationReason::Required, "it must be given".to_owned());
    }
    if let Some(rest) = said.strip_prefix("unknown variant `") {
        let value = rest.split('`').next().unwrap_or_default();
        if let Some((_, _, sentence)) =
            VALUES_NOT_YET.iter().find(|(at, what, _)| *at == (kind, path) && *what == value)
        {
            return violation(path.to_owned(), ViolationReason::Forbidden, (*sentence).to_owned());
        }
        let supported = said.split_once("expected ").map_or("", |(_, rest)| rest);
        let supported = supported.trim_start_matches("one of ").replace('`', "");
        return violation(
            path.to_owned(),
            ViolationReason::NotSupported,
            format!("`{value}` is not supported: supported values are {supported}"),
        );
    }
    let text = if said.starts_with("invalid type: null") && object.is_object() {
        "it is empty; leave it out or give it a value".to_owned()
    } else {
        mistyped(said).unwrap_or_else(|| said.to_owned())
    };
    violation(path.to_owned(), ViolationReason::Invalid, text)
}

/// `invalid type: integer `8080`, expected a string`, without the value: it may be a secret.
fn mistyped(said: &str) -> Option<String> {
    let (found, expected) = said.strip_prefix("invalid type: ")?.rsplit_once(", expected ")?;
    let text = found.strip_prefix("string \"").and_then(|it| it.strip_suffix('"'));
    let is_quoted = text.is_some_and(|it| it.parse::<i64>().is_ok() || it.parse::<bool>().is_ok());
    let is = |word: &str| found.starts_with(word);
    let found = match found {
        _ if is("integer") || is("floating point") => "a number",
        _ if is("boolean") => "true or false",
        _ if is("string") => "text",
        _ if is("sequence") => "a list",
        _ => "an object",
    };
    let expected = match expected {
        "a string" | "string or map" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number",
        _ => "an object",
    };
    let hint = match (found, expected) {
        ("a number" | "true or false", "text") => ": put it in quotes",
        ("text", "true or false" | "a whole number") if is_quoted => ": write it without quotes",
        _ => "",
    };
    Some(format!("it is {found} and must be {expected}{hint}"))
}

/// `spec.volume.?.colour` and `spec.services.0.x` in the form that every other path has.
fn dotted(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|c| c.is_ascii_digit()) && !part.is_empty() {
            text.push('[');
            text.push_str(part);
            text.push(']');
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(part);
        }
    }
    text
}
