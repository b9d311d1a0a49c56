//! A YAML stream as saphyr reads it: where each field stands, how much it holds, and what must not be in it. It must never
//! make a value: serde_yaml does, and this is the witness that both understood the text in the same way.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, hash_map::Entry},
};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};
use serde_yaml::Value;

use crate::api::manifest::{ALIASED_BYTES_MAX, DEPTH_MAX, Error, Positions, Problem};

/// Index of a node.
type Id = usize;

/// What a stream holds.
#[derive(Debug, Default)]
pub(super) struct Outline<'a> {
    nodes: Vec<Node<'a>>,
    /// The root of each document; a document without one has nothing in it.
    roots: Vec<Root>,
}

#[derive(Debug)]
struct Root {
    line: usize,
    node: Option<Id>,
}

#[derive(Debug)]
struct Node<'a> {
    /// Where it is shown: at its key, if it has one.
    line: usize,
    /// Bytes of text and keys in it, aliases written out, and one for each node.
    bytes: usize,
    shape: Shape<'a>,
}

#[derive(Debug)]
enum Shape<'a> {
    Scalar(Cow<'a, str>),
    Mapping(Vec<(String, Id)>),
    List(Vec<Id>),
    Alias(Id),
}

impl<'a> Outline<'a> {
    /// Reads a stream.
    pub(super) fn read(text: &'a str) -> Result<Self, Error> {
        let mut reader = Reader { text, ..Reader::default() };
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let problem = Problem::Syntax(error.info().to_owned());
                reader.error(error.marker().line(), problem)
            })?;
            reader.take(event, span)?;
        }
        Ok(reader.outline)
    }

    /// How many documents there are.
    pub(super) fn documents(&self) -> usize {
        self.roots.len()
    }

    /// Number of the document that this line is in, from 1.
    pub(super) fn document_at(&self, line: usize) -> usize {
        self.roots.iter().take_while(|root| root.line <= line).count().max(1)
    }

    /// Line of a document's first field.
    pub(super) fn line(&self, document: usize) -> usize {
        self.root(document).map_or(self.roots[document].line, |node| node.line)
    }

    fn root(&self, document: usize) -> Option<&Node<'a>> {
        self.roots[document].node.map(|id| &self.nodes[id])
    }

    /// Where a document's fields are.
    pub(super) fn positions(&self, document: usize) -> Positions {
        match self.roots[document].node {
            Some(id) => self.positions_of(id),
            None => Positions { line: self.line(document), ..Positions::default() },
        }
    }

    /// No deeper than [`DEPTH_MAX`]: what an alias stands for has its places where it was written.
    fn positions_of(&self, id: Id) -> Positions {
        let Node { line, bytes, shape } = &self.nodes[id];
        let fields = match shape {
            Shape::Scalar(_) | Shape::Alias(_) => Vec::new(),
            Shape::Mapping(fields) => {
                fields.iter().map(|(key, id)| (key.clone(), self.positions_of(*id))).collect()
            }
            Shape::List(items) => (0..)
                .zip(items)
                .map(|(place, id): (usize, _)| (place.to_string(), self.positions_of(*id)))
                .collect(),
        };
        Positions { line: *line, bytes: *bytes, fields }
    }

    /// Whether serde_yaml made of the document what is in it; the line where it did not.
    pub(super) fn check(&self, document: usize, value: &Value) -> Result<(), (usize, Problem)> {
        match self.roots[document].node {
            Some(id) => self.check_node(id, value),
            None if value.is_null() => Ok(()),
            None => Err((self.line(document), Problem::Unclear)),
        }
    }

    /// No deeper than the value, which serde_yaml bounds.
    fn check_node(&self, id: Id, value: &Value) -> Result<(), (usize, Problem)> {
        let node = &self.nodes[id];
        let same = match (&node.shape, value) {
            (Shape::Alias(target), value) => return self.check_node(*target, value),
            (Shape::Scalar(text), Value::String(found)) => text == found,
            (Shape::Scalar(_), Value::Number(number))
                if number.as_f64().is_some_and(|it| !it.is_finite()) =>
            {
                return Err((node.line, Problem::Number));
            }
            (Shape::Scalar(text), Value::Null | Value::Bool(_) | Value::Number(_)) => {
                serde_yaml::from_str::<Value>(text).is_ok_and(|it| it == *value)
            }
            (Shape::List(items), Value::Sequence(found)) => {
                for (id, value) in items.iter().zip(found) {
                    self.check_node(*id, value)?;
                }
                items.len() == found.len()
            }
            (Shape::Mapping(fields), Value::Mapping(found)) => {
                for ((key, id), (found, value)) in fields.iter().zip(found) {
                    if found.as_str() != Some(key) {
                        return Err((self.nodes[*id].line, Problem::Unclear));
                    }
                    self.check_node(*id, value)?;
                }
                fields.len() == found.len()
            }
            _ => false,
        };
        if same { Ok(()) } else { Err((node.line, Problem::Unclear)) }
    }
}

/// Builds an outline from the parser's events, without recursion: depth is the file's choice.
#[derive(Debug, Default)]
struct Reader<'a> {
    text: &'a str,
    /// A place in the text, in characters and in bytes.
    cursor: (usize, usize),
    outline: Outline<'a>,
    open: Vec<Open>,
    /// The anchors of this document.
    anchor_names: HashSet<&'a str>,
    /// Finished nodes that have an anchor, by saphyr's number for it.
    anchors: HashMap<usize, Id>,
    /// What the aliases met so far stand for.
    aliased_bytes: usize,
}

/// A mapping or list whose end has not come yet.
#[derive(Debug)]
struct Open {
    line: usize,
    bytes: usize,
    anchor: usize,
    inside: Inside,
}

#[derive(Debug)]
enum Inside {
    List(Vec<Id>),
    Mapping {
        fields: Vec<(String, Id)>,
        /// Every key met, with its line.
        keys: HashMap<String, usize>,
        /// The key whose value is next, with its line.
        next: Option<(String, usize)>,
    },
}

impl<'a> Reader<'a> {
    fn error(&self, line: usize, problem: Problem) -> Error {
        // The root of the document that is being read is pushed when it starts.
        Error { document: self.outline.roots.len().max(1), line, problem }
    }

    fn take(&mut self, event: Event<'a>, span: Span) -> Result<(), Error> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(_) => {
                self.outline.roots.push(Root { line, node: None });
                // An anchor ends with its document.
                self.anchors.clear();
                self.anchor_names.clear();
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.properties(span, anchor, tag.as_deref())?;
                if self.expects_key() {
                    return self.key(&text, style, line);
                }
                let bytes = text.len() + 1;
                self.value(line, bytes, anchor, Shape::Scalar(text));
                Ok(())
            }
            Event::Alias(number) => self.alias(number, line),
            Event::MappingStart(anchor, tag) => {
                self.properties(span, anchor, tag.as_deref())?;
                let inside =
                    Inside::Mapping { fields: Vec::new(), keys: HashMap::new(), next: None };
                self.start(line, anchor, inside)
            }
            Event::SequenceStart(anchor, tag) => {
                self.properties(span, anchor, tag.as_deref())?;
                self.start(line, anchor, Inside::List(Vec::new()))
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(Open { line, bytes, anchor, inside }) = self.open.pop() {
                    let shape = match inside {
                        Inside::List(items) => Shape::List(items),
                        Inside::Mapping { fields, .. } => Shape::Mapping(fields),
                    };
                    self.value(line, bytes, anchor, shape);
                }
                Ok(())
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    /// What stands before a value: a tag, an anchor.
    fn properties(&mut self, span: Span, anchor: usize, tag: Option<&Tag>) -> Result<(), Error> {
        let line = span.start.line();
        if let Some(tag) = tag.filter(|it| !(it.is_yaml_core_schema() && is_core(&it.suffix))) {
            let core = tag.is_yaml_core_schema().then(|| format!("!!{}", tag.suffix));
            return Err(self.error(line, Problem::Tag(core.unwrap_or_else(|| tag.to_string()))));
        }
        if anchor == 0 {
            return Ok(());
        }
        // serde_yaml mixes up the values of anchors when a name is given twice, which YAML would allow.
        match self.anchor_name(span.start.index()) {
            Some(name) if self.anchor_names.insert(name) => Ok(()),
            Some(name) => Err(self.error(line, Problem::Anchor(name.to_owned()))),
            None => Err(self.error(line, Problem::Unclear)),
        }
    }

    /// The name in `&name` or `!!tag &name`, which is at this character; saphyr only tells its own number for it.
    fn anchor_name(&mut self, index: usize) -> Option<&'a str> {
        if index < self.cursor.0 {
            self.cursor = (0, 0);
        }
        let (characters, bytes) = self.cursor;
        let here = self.text.get(bytes..)?;
        let (further, _) = here.char_indices().nth(index - characters)?;
        self.cursor = (index, bytes + further);
        let here = here.get(further..)?;
        let name = here.strip_prefix('&').or_else(|| {
            let tag = here.strip_prefix('!')?;
            tag.split_once('&').map(|(_, name)| name)
        })?;
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}');
        name.split(ends).next()
    }

    fn expects_key(&self) -> bool {
        let innermost = self.open.last().map(|open| &open.inside);
        matches!(innermost, Some(Inside::Mapping { next: None, .. }))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, line: usize) -> Result<(), Error> {
        if style == ScalarStyle::Plain && !is_text(text) {
            return Err(self.error(line, Problem::Key(text.to_owned())));
        }
        let path = self.path(text);
        let Some(Open { bytes, inside: Inside::Mapping { keys, next, .. }, .. }) =
            self.open.last_mut()
        else {
            return Ok(());
        };
        match keys.entry(text.to_owned()) {
            Entry::Occupied(found) => {
                let first = *found.get();
                Err(self.error(line, Problem::Duplicate { path, first }))
            }
            Entry::Vacant(free) => {
                free.insert(line);
                *bytes += text.len();
                *next = Some((text.to_owned(), line));
                Ok(())
            }
        }
    }

    /// Where a key of the innermost mapping is.
    fn path(&self, key: &str) -> String {
        let mut path = String::new();
        // The innermost one's next key is the one asked for.
        let outside = self.open.len().saturating_sub(1);
        for open in &self.open[..outside] {
            match &open.inside {
                Inside::Mapping { next, .. } => {
                    path.extend(next.iter().flat_map(|(key, _)| [key.as_str(), "."]));
                }
                Inside::List(items) => {
                    path.truncate(path.trim_end_matches('.').len());
                    path.extend(["[", &items.len().to_string(), "]."]);
                }
            }
        }
        path + key
    }

    fn alias(&mut self, number: usize, line: usize) -> Result<(), Error> {
        if self.expects_key() {
            return Err(self.error(line, Problem::Key("*…".to_owned())));
        }
        let Some(&target) = self.anchors.get(&number) else {
            let text = "an alias to what it is in, or to another document's anchor";
            return Err(self.error(line, Problem::Syntax(text.to_owned())));
        };
        let bytes = self.outline.nodes[target].bytes;
        self.aliased_bytes += bytes;
        if self.aliased_bytes > ALIASED_BYTES_MAX {
            return Err(self.error(line, Problem::Aliases));
        }
        self.value(line, bytes, 0, Shape::Alias(target));
        Ok(())
    }

    fn start(&mut self, line: usize, anchor: usize, inside: Inside) -> Result<(), Error> {
        if self.expects_key() {
            return Err(self.error(line, Problem::Key("{…}".to_owned())));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(self.error(line, Problem::Depth));
        }
        let line = self.shown_at(line);
        self.open.push(Open { line, bytes: 1, anchor, inside });
        Ok(())
    }

    /// The line where the value starting now is shown: a mapping's key stands there before its value.
    fn shown_at(&self, line: usize) -> usize {
        match self.open.last().map(|open| &open.inside) {
            Some(Inside::Mapping { next: Some((_, line)), .. }) => *line,
            Some(Inside::Mapping { next: None, .. } | Inside::List(_)) | None => line,
        }
    }

    /// Puts a finished value where it belongs.
    fn value(&mut self, line: usize, bytes: usize, anchor: usize, shape: Shape<'a>) {
        let line = self.shown_at(line);
        let id = self.outline.nodes.len();
        self.outline.nodes.push(Node { line, bytes, shape });
        if anchor > 0 {
            self.anchors.insert(anchor, id);
        }
        let Some(parent) = self.open.last_mut() else {
            if let Some(root) = self.outline.roots.last_mut() {
                root.node = Some(id);
            }
            return;
        };
        parent.bytes += bytes;
        match &mut parent.inside {
            Inside::List(items) => items.push(id),
            Inside::Mapping { fields, next, .. } => {
                fields.extend(next.take().map(|(key, _)| (key, id)));
            }
        }
    }
}

/// Whether a plain scalar is a string and not a number, a boolean or null.
fn is_text(plain: &str) -> bool {
    plain == "<<" || serde_yaml::from_str::<Value>(plain).map_or(true, |it| it.is_string())
}

/// The types that YAML has itself.
fn is_core(tag: &str) -> bool {
    ["str", "int", "float", "bool", "null", "map", "seq"].contains(&tag)
}
