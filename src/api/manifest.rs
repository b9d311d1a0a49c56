//! Manifests: YAML or JSON text to objects that know where each of their fields stands. Pure; it must never read a file or
//! decide whether an object is right.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::Value;

use crate::api::{
    admit::{Violation, ViolationReason},
    kind::Kind,
};

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
}

/// Levels of mappings and lists that a document may have; objects need about ten.
const DEPTH_MAX: usize = 100;

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

/// What is wrong with a manifest's text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not YAML.
    #[error("not YAML: {0}")]
    Syntax(String),
    /// A field twice in one mapping.
    #[error("`{key}` is there twice, first on line {first}")]
    Duplicate {
        /// The field.
        key: String,
        /// Where it was first.
        first: usize,
    },
    /// A key that is a number, a list …
    #[error("the key `{0}` is not text: put it in quotes")]
    Key(String),
    /// A tag such as `!secret`.
    #[error("the tag `{0}` means nothing here")]
    Tag(String),
    /// Mappings in mappings in mappings.
    #[error("deeper than {DEPTH_MAX} levels")]
    Depth,
    /// Text, a number or a list where an object should be.
    #[error("not an object: write `apiVersion`, `kind` and `metadata` at the left margin")]
    NotAnObject,
}

/// Reads every object of a YAML stream; JSON is YAML. Empty documents are passed over, lists taken apart.
///
/// # Errors
/// The first thing that makes the text unreadable: then nothing of it may be used.
pub fn parse(text: &str) -> Result<Vec<Document>, Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let roots = Outline::read(text)?;
    let mut found = Vec::new();
    let mut values = serde_yaml::Deserializer::from_str(text);
    for (number, positions) in roots.into_iter().enumerate() {
        let index = number + 1;
        let wrong = |error: &serde_yaml::Error| Error {
            document: index,
            line: error.location().map_or(positions.line, |it| it.line()),
            problem: Problem::Syntax(without_location(error)),
        };
        let Some(document) = values.next() else { break };
        let value = read(document).map_err(|error| wrong(&error))?;
        if value.is_null() {
            continue;
        }
        if !value.is_object() {
            return Err(Error {
                document: index,
                line: positions.line,
                problem: Problem::NotAnObject,
            });
        }
        take_apart(index, value, positions, &mut found)?;
    }
    Ok(found)
}

/// Through serde_yaml's own value, which resolves merge keys (`<<`) and bounds what aliases may grow to.
fn read(document: serde_yaml::Deserializer<'_>) -> Result<Value, serde_yaml::Error> {
    let mut value = <serde_yaml::Value as serde::Deserialize>::deserialize(document)?;
    value.apply_merge()?;
    serde_yaml::from_value(value)
}

fn without_location(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

fn take_apart(
    index: usize,
    mut value: Value,
    mut positions: Positions,
    found: &mut Vec<Document>,
) -> Result<(), Error> {
    let is_list = value.get("kind").and_then(Value::as_str) == Some("List");
    let Some(items) = value.get_mut("items").filter(|_| is_list).map(Value::take) else {
        found.push(Document { index, line: positions.line, value, positions });
        return Ok(());
    };
    let mut lines = positions.remove("items").unwrap_or_default();
    let Value::Array(items) = items else {
        return Err(Error { document: index, line: lines.line, problem: Problem::NotAnObject });
    };
    for (place, value) in items.into_iter().enumerate() {
        let positions = lines
            .remove(&place.to_string())
            .unwrap_or_else(|| Positions { line: lines.line, fields: Vec::new() });
        if !value.is_object() {
            return Err(Error {
                document: index,
                line: positions.line,
                problem: Problem::NotAnObject,
            });
        }
        found.push(Document { index, line: positions.line, value, positions });
    }
    Ok(())
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
    match Kind::ALL.into_iter().find(|it| it.info().kind_name == kind) {
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

/// Builds positions from the parser's events, without recursion: depth is the file's choice.
#[derive(Default)]
struct Outline {
    roots: Vec<Positions>,
    open: Vec<Open>,
}

/// A mapping or list whose end has not come yet.
struct Open {
    /// The field that it is the value of.
    key: String,
    /// What is known of it.
    positions: Positions,
    /// For a mapping, the key whose value is next, with its line; for a list, nothing.
    mapping: Option<Option<(String, usize)>>,
}

impl Outline {
    fn read(text: &str) -> Result<Vec<Positions>, Error> {
        let mut outline = Self::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| Error {
                document: outline.document(),
                line: error.marker().line(),
                problem: Problem::Syntax(error.info().to_owned()),
            })?;
            outline.take(event, span)?;
        }
        Ok(outline.roots)
    }

    /// Number of the document that is being read; its root is pushed when it starts.
    fn document(&self) -> usize {
        self.roots.len().max(1)
    }

    fn error(&self, line: usize, problem: Problem) -> Error {
        Error { document: self.document(), line, problem }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Error> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                self.roots.push(Positions { line, fields: Vec::new() });
                Ok(())
            }
            Event::Scalar(text, style, _, tag) => {
                self.refuse_tag(line, tag.as_deref())?;
                self.scalar(&text, style, line)
            }
            Event::Alias(_) => self.scalar("*", ScalarStyle::DoubleQuoted, line),
            Event::MappingStart(_, tag) => {
                self.refuse_tag(line, tag.as_deref())?;
                self.start(line, Some(None))
            }
            Event::SequenceStart(_, tag) => {
                self.refuse_tag(line, tag.as_deref())?;
                self.start(line, None)
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(ended) = self.open.pop() {
                    self.close(ended.key, ended.positions);
                }
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn refuse_tag(&self, line: usize, tag: Option<&saphyr_parser::Tag>) -> Result<(), Error> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                Err(self.error(line, Problem::Tag(tag.to_string())))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A scalar is the next key of the innermost mapping, or a value.
    fn scalar(&mut self, text: &str, style: ScalarStyle, line: usize) -> Result<(), Error> {
        let is_key = matches!(self.open.last(), Some(Open { mapping: Some(None), .. }));
        if !is_key {
            let (key, line) = self.next_key(line);
            self.close(key, Positions { line, fields: Vec::new() });
            return Ok(());
        }
        if style == ScalarStyle::Plain && !is_text(text) {
            return Err(self.error(line, Problem::Key(text.to_owned())));
        }
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if let Some((_, first)) = open.positions.fields.iter().find(|(key, _)| key == text) {
            let problem = Problem::Duplicate { key: text.to_owned(), first: first.line };
            return Err(self.error(line, problem));
        }
        open.mapping = Some(Some((text.to_owned(), line)));
        Ok(())
    }

    fn start(
        &mut self,
        line: usize,
        mapping: Option<Option<(String, usize)>>,
    ) -> Result<(), Error> {
        if matches!(self.open.last(), Some(Open { mapping: Some(None), .. })) {
            return Err(self.error(line, Problem::Key("{…}".to_owned())));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(self.error(line, Problem::Depth));
        }
        let (key, line) = self.next_key(line);
        self.open.push(Open { key, positions: Positions { line, fields: Vec::new() }, mapping });
        Ok(())
    }

    /// The field that the value starting now belongs to, with the line where it is shown: a mapping's key stands there
    /// before its value.
    fn next_key(&mut self, line: usize) -> (String, usize) {
        match self.open.last_mut() {
            Some(Open { mapping: Some(key), .. }) => {
                key.take().unwrap_or_else(|| (String::new(), line))
            }
            Some(Open { mapping: None, positions, .. }) => {
                (positions.fields.len().to_string(), line)
            }
            None => (String::new(), line),
        }
    }

    fn close(&mut self, key: String, positions: Positions) {
        match self.open.last_mut() {
            Some(parent) => parent.positions.fields.push((key, positions)),
            None => {
                if let Some(root) = self.roots.last_mut() {
                    *root = positions;
                }
            }
        }
    }
}

/// Whether a plain scalar is a string and not a number, a boolean or null.
fn is_text(plain: &str) -> bool {
    plain == "<<"
        || serde_yaml::from_str::<serde_yaml::Value>(plain).map_or(true, |it| it.is_string())
}

#[cfg(test)]
mod tests;
