//! Manifests: YAML or JSON text to objects that know where each of their fields stands. Pure; it must never read a file or
//! decide whether an object is right.
//!
//! Two parsers read the text: serde_yaml for the values, saphyr for the places (`outline`). What they do not understand in
//! the same way is refused.

mod outline;

use serde_json::Value;

use outline::Outline;

use crate::api::{
    admit::{Violation, ViolationReason},
    kind::Kind,
};

/// Bytes of a file. That is more than ten thousand environments.
pub const TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one object, of text and keys, with aliases written out. The server stores less.
pub const OBJECT_BYTES_MAX: usize = 256 * 1024;
/// Bytes that all aliases of a file may stand for.
const ALIASED_BYTES_MAX: usize = 1024 * 1024;
/// Levels of mappings and lists that a document may have; objects need about ten.
const DEPTH_MAX: usize = 100;

/// One object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Number of its document in the stream, from 1; the items of a `kind: List` share their list's.
    pub index: usize,
    /// Line of its first field, from 1.
    pub line: usize,
    /// The object.
    pub value: Value,
    /// Where its fields are.
    pub positions: Positions,
}

impl Document {
    /// The line of a field, or of its nearest parent that is there.
    ///
    /// Paths are dotted, with list entries as `[0]` or `.0`: `spec.services[0].internalPort`.
    #[must_use]
    pub fn line_of(&self, path: &str) -> usize {
        self.positions.line_of(path)
    }
}

/// Lines of a document's fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    line: usize,
    /// Text and keys in it.
    bytes: usize,
    fields: Vec<(String, Positions)>,
}

impl Positions {
    /// See [`Document::line_of`].
    #[must_use]
    pub fn line_of(&self, path: &str) -> usize {
        let mut here = self;
        let mut rest = path;
        // Keys may hold dots themselves (`example.com/team`), so fields are matched whole rather than the path split.
        while let Some((next, after)) = here.step(rest) {
            here = next;
            rest = after;
        }
        here.line
    }

    fn step<'a>(&self, path: &'a str) -> Option<(&Self, &'a str)> {
        let path = path.strip_prefix('.').unwrap_or(path);
        if let Some((inside, after)) = path.strip_prefix('[').and_then(|it| it.split_once(']')) {
            let (_, next) = self.fields.iter().find(|(key, _)| key == inside)?;
            return Some((next, after));
        }
        let fits = |key: &str| {
            let after = path.strip_prefix(key)?;
            (after.is_empty() || after.starts_with(['.', '['])).then_some(after)
        };
        self.fields
            .iter()
            .filter_map(|(key, next)| fits(key).map(|after| (key.len(), next, after)))
            .max_by_key(|(length, _, _)| *length)
            .filter(|(length, _, _)| *length > 0)
            .map(|(_, next, after)| (next, after))
    }

    fn remove(&mut self, key: &str) -> Option<Self> {
        let index = self.fields.iter().position(|(it, _)| it == key)?;
        Some(self.fields.swap_remove(index).1)
    }

    fn at(line: usize) -> Self {
        Self { line, ..Self::default() }
    }
}

/// Why a manifest cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("document {document}: {problem}")]
pub struct Error {
    /// Number of the document, from 1.
    pub document: usize,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a manifest's text. It is shown to people, and so never a value of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A whole file of more than [`TEXT_BYTES_MAX`].
    #[error("the file has more than {} MiB: split it", TEXT_BYTES_MAX >> 20)]
    TextTooLarge,
    /// Bytes that are no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// A character that moves cursors and ends strings, in the text itself; as an escape it is the fields' matter.
    #[error("the control character U+{:04X} is in it", u32::from(*.0))]
    Control(char),
    /// Not YAML.
    #[error("not YAML: {0}")]
    Syntax(String),
    /// A field twice in one mapping.
    #[error("`{path}` is there twice, first on line {first}")]
    Duplicate {
        /// The field, from its object on.
        path: String,
        /// Where it was first.
        first: usize,
    },
    /// A key that is a number, a list …
    #[error("the key `{0}` is not text: put it in quotes")]
    Key(String),
    /// A tag such as `!secret`.
    #[error("the tag `{0}` means nothing here")]
    Tag(String),
    /// An anchor whose name another one in the document has.
    #[error("the anchor `&{0}` is there twice: give them different names")]
    Anchor(String),
    /// Aliases of aliases of aliases, or many of something long.
    #[error("its aliases stand for more than {} MiB: write out what is meant", ALIASED_BYTES_MAX >> 20)]
    Aliases,
    /// Mappings in mappings in mappings.
    #[error("deeper than {DEPTH_MAX} levels")]
    Depth,
    /// A number that JSON does not have.
    #[error("a number that is infinite or too large: put it in quotes if it is text")]
    Number,
    /// Text that two parsers understand in two ways.
    #[error("it can be read in two ways: write it more plainly, in quotes")]
    Unclear,
    /// Text, a number or a list where an object should be.
    #[error("not an object: write `apiVersion`, `kind` and `metadata` at the left margin")]
    NotAnObject,
    /// An object of more than [`OBJECT_BYTES_MAX`].
    #[error("the object has more than {} KiB", OBJECT_BYTES_MAX >> 10)]
    ObjectTooLarge,
}

/// Reads every object of a YAML stream; JSON is YAML. Empty documents are passed over, lists taken apart.
///
/// # Errors
/// The first thing that makes the text unreadable: then nothing of it may be used.
pub fn parse(text: impl AsRef<[u8]>) -> Result<Vec<Document>, Error> {
    let text = text_of(text.as_ref())?;
    let outline = Outline::read(text)?;
    refuse_controls(text, &outline)?;
    let mut found = Vec::new();
    let mut values = serde_yaml::Deserializer::from_str(text);
    for document in 0..outline.documents() {
        let index = document + 1;
        let wrong = |(line, problem)| Error { document: index, line, problem };
        let unclear = || wrong((outline.line(document), Problem::Unclear));
        let value = values.next().ok_or_else(unclear)?;
        let value = read(value, &outline, document).map_err(wrong)?;
        if value.is_null() {
            continue;
        }
        let positions = outline.positions(document);
        if !value.is_object() {
            return Err(wrong((positions.line, Problem::NotAnObject)));
        }
        take_apart(index, value, positions, &mut found)?;
    }
    // A document that only serde_yaml sees must not be left out in silence.
    let more = values.next().map(<serde_yaml::Value as serde::Deserialize>::deserialize);
    if let Some(Ok(value)) = more
        && !value.is_null()
    {
        let (document, line) = (outline.documents() + 1, text.lines().count().max(1));
        return Err(Error { document, line, problem: Problem::Unclear });
    }
    Ok(found)
}

/// The text, without a byte order mark.
fn text_of(bytes: &[u8]) -> Result<&str, Error> {
    let wrong = |line, problem| Error { document: 1, line, problem };
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(wrong(1, Problem::TextTooLarge));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.iter().take(error.valid_up_to());
        wrong(1 + before.filter(|it| **it == b'\n').count(), Problem::NotUtf8)
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn refuse_controls(text: &str, outline: &Outline<'_>) -> Result<(), Error> {
    let control = |c: char| c.is_control() && c != '\t';
    for (line, text) in (1..).zip(text.split('\n')) {
        // Alone it would be a line's end to YAML and to nobody else.
        let text = text.strip_suffix('\r').unwrap_or(text);
        if let Some(found) = text.chars().find(|it| control(*it)) {
            let document = outline.document_at(line);
            return Err(Error { document, line, problem: Problem::Control(found) });
        }
    }
    Ok(())
}

/// Through serde_yaml's own value, which resolves merge keys (`<<`).
fn read(
    document: serde_yaml::Deserializer<'_>,
    outline: &Outline<'_>,
    index: usize,
) -> Result<Value, (usize, Problem)> {
    let wrong = |error: serde_yaml::Error| {
        let line = error.location().map_or_else(|| outline.line(index), |it| it.line());
        (line, problem(&error))
    };
    let mut value =
        <serde_yaml::Value as serde::Deserialize>::deserialize(document).map_err(wrong)?;
    outline.check(index, &value)?;
    value.apply_merge().map_err(wrong)?;
    json(value).ok_or_else(|| (outline.line(index), Problem::Unclear))
}

fn problem(error: &serde_yaml::Error) -> Problem {
    let text = error.to_string();
    // Any value is wanted, so the only type that does not fit is an integer of more than 64 bits.
    if text.contains("invalid type: integer") {
        return Problem::Number;
    }
    Problem::Syntax(text.split(" at line ").next().unwrap_or_default().to_owned())
}

/// Not through serde: serde_json takes a key of its own for an order to read the value once more, as JSON.
fn json(value: serde_yaml::Value) -> Option<Value> {
    use serde_yaml::Value as Yaml;
    Some(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(it) => Value::Bool(it),
        Yaml::Number(it) => match (it.as_u64(), it.as_i64()) {
            (Some(it), _) => it.into(),
            (None, Some(it)) => it.into(),
            (None, None) => Value::Number(serde_json::Number::from_f64(it.as_f64()?)?),
        },
        Yaml::String(it) => Value::String(it),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(json).collect::<Option<_>>()?),
        Yaml::Mapping(fields) => {
            let field = |(key, value)| match key {
                Yaml::String(key) => Some((key, json(value)?)),
                _ => None,
            };
            Value::Object(fields.into_iter().map(field).collect::<Option<_>>()?)
        }
        Yaml::Tagged(_) => return None,
    })
}

fn take_apart(
    index: usize,
    mut value: Value,
    mut positions: Positions,
    found: &mut Vec<Document>,
) -> Result<(), Error> {
    let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
    let Some(items) = value.get_mut("items").filter(|_| is_list).map(Value::take) else {
        found.push(object(index, value, positions)?);
        return Ok(());
    };
    let lines = positions.remove("items").unwrap_or_default();
    let Value::Array(items) = items else {
        return Err(Error { document: index, line: lines.line, problem: Problem::NotAnObject });
    };
    // Behind an alias there are no places of its own.
    let mut places = lines.fields.into_iter().map(|(_, places)| places);
    for value in items {
        let positions = places.next().unwrap_or_else(|| Positions::at(lines.line));
        found.push(object(index, value, positions)?);
    }
    Ok(())
}

fn object(index: usize, value: Value, positions: Positions) -> Result<Document, Error> {
    let wrong = |problem| Err(Error { document: index, line: positions.line, problem });
    if !value.is_object() {
        return wrong(Problem::NotAnObject);
    }
    if positions.bytes > OBJECT_BYTES_MAX {
        return wrong(Problem::ObjectTooLarge);
    }
    Ok(Document { index, line: positions.line, value, positions })
}

/// The kind that an object says it is.
///
/// # Errors
/// A violation of `apiVersion` or `kind`.
pub fn kind_of(value: &Value) -> Result<Kind, Violation> {
    let text = |field: &str| match value.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
        Some(_) | None => Err(Violation {
            field: field.to_owned(),
            reason: ViolationReason::Required,
            message: "must be there, and text".to_owned(),
        }),
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    if let Some(found) = Kind::from_manifest(api_version, kind) {
        return Ok(found);
    }
    let not_supported = |field: &str, message| {
        Err(Violation { field: field.to_owned(), reason: ViolationReason::NotSupported, message })
    };
    let same = |it: &Kind| it.info().is_kept() && it.info().kind_name == kind;
    match Kind::ALL.into_iter().find(same) {
        Some(same) => not_supported(
            "apiVersion",
            format!("`{api_version}` has no {kind}: write {}", same.info().api_version()),
        ),
        None => {
            let known: Vec<_> = Kind::ALL
                .into_iter()
                .filter(|it| it.info().writable)
                .map(|it| it.info().kind_name)
                .collect();
            not_supported(
                "kind",
                format!(
                    "`{kind}` is not a kind that can be applied: those are {}",
                    known.join(", ")
                ),
            )
        }
    }
}

#[cfg(test)]
mod tests;
