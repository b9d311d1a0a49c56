//! A set of paths into an object, as a tree, and its `FieldsV1` form. It must never know a schema.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value, json};

/// One step of a path. The order is the one in which Kubernetes writes them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// A field of an object, a key of a map.
    Field(String),
    /// An item of a list, by the fields that tell it from the others: a JSON object in its shortest form.
    Key(String),
    /// An item of a set: its value as JSON.
    Value(String),
    /// An item of a list by its place. Others may have written one.
    Index(usize),
}

impl Element {
    /// A field's name.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    fn parse(text: &str) -> Option<Self> {
        let (sort, rest) = text.split_once(':')?;
        match sort {
            "f" => Some(Self::field(rest)),
            "k" => match serde_json::from_str(rest).ok()? {
                Value::Object(fields) => Some(Self::key(fields)),
                _ => None,
            },
            "v" => serde_json::from_str::<Value>(rest).ok().map(|it| Self::Value(it.to_string())),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// An item by some of its fields.
    #[must_use]
    pub fn key(mut fields: Map<String, Value>) -> Self {
        fields.sort_keys();
        Self::Key(Value::Object(fields).to_string())
    }

    fn text(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(fields) => format!("k:{fields}"),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
        }
    }
}

/// As Kubernetes' messages have it: `.spec`, `[name="web"]`, `[="x"]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(fields) => {
                let fields: Map<String, Value> = serde_json::from_str(fields).unwrap_or_default();
                let fields = fields.iter().map(|(name, value)| format!("{name}={value}"));
                write!(f, "[{}]", fields.collect::<Vec<_>>().join(","))
            }
            Self::Value(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A set of paths. A path may be in it with or without those above and below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(BTreeMap<Element, Node>);

/// A step and what goes on from it. There is none that is no member and has nothing below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Whether the path that ends here is in the set.
    pub is_member: bool,
    /// Paths that go on.
    pub below: Set,
}

impl Node {
    fn is_nothing(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

impl Set {
    /// Whether no path is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What begins with this step.
    #[must_use]
    pub fn get(&self, element: &Element) -> Option<&Node> {
        self.0.get(element)
    }

    /// Adds the path of one step, and what is below it.
    pub fn put(&mut self, element: Element, node: Node) {
        if node.is_nothing() {
            return;
        }
        let own = self.0.entry(element).or_default();
        own.is_member |= node.is_member;
        for (element, node) in node.below.0 {
            own.below.put(element, node);
        }
    }

    /// Takes a path away, with all that begins with it.
    pub fn forget(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else { return };
        let element = Element::field(first);
        if rest.is_empty() {
            self.0.remove(&element);
        } else if let Some(node) = self.0.get_mut(&element) {
            node.below.forget(rest);
            if node.is_nothing() {
                self.0.remove(&element);
            }
        }
    }

    /// Takes the path of one field away, not those that begin with it.
    pub fn forget_alone(&mut self, field: &str) {
        let element = Element::field(field);
        if let Some(node) = self.0.get_mut(&element) {
            node.is_member = false;
            if node.is_nothing() {
                self.0.remove(&element);
            }
        }
    }

    /// Keeps what begins with this field.
    pub fn only(&mut self, field: &str) {
        self.0.retain(|element, _| matches!(element, Element::Field(name) if name == field));
    }

    /// Paths of either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (element, node) in &other.0 {
            self.put(element.clone(), node.clone());
        }
        self
    }

    /// Paths of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (element, node) in &self.0 {
            let Some(theirs) = other.0.get(element) else { continue };
            let is_member = node.is_member && theirs.is_member;
            both.put(
                element.clone(),
                Node { is_member, below: node.below.intersection(&theirs.below) },
            );
        }
        both
    }

    /// Paths of this one that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (element, node) in &self.0 {
            let node = match other.0.get(element) {
                None => node.clone(),
                Some(theirs) => Node {
                    is_member: node.is_member && !theirs.is_member,
                    below: node.below.difference(&theirs.below),
                },
            };
            rest.put(element.clone(), node);
        }
        rest
    }

    /// Every path in it, as messages have them.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, above: &str, paths: &mut Vec<String>) {
        for (element, node) in &self.0 {
            let path = format!("{above}{element}");
            if node.is_member {
                paths.push(path.clone());
            }
            node.below.collect(&path, paths);
        }
    }

    /// Its `FieldsV1` form.
    #[must_use]
    pub fn to_fields(&self) -> Value {
        let mut fields = Map::new();
        for (element, node) in &self.0 {
            let mut below = node.below.to_fields();
            if node.is_member
                && let Value::Object(below) = &mut below
                && !below.is_empty()
            {
                below.shift_insert(0, ".".to_owned(), json!({}));
            }
            fields.insert(element.text(), below);
        }
        Value::Object(fields)
    }

    /// From its `FieldsV1` form; `None` if it is none.
    #[must_use]
    pub fn from_fields(fields: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (text, below) in fields.as_object()? {
            if text == "." {
                continue;
            }
            let is_member = below.as_object()?.is_empty() || below.get(".").is_some();
            let below = Self::from_fields(below)?;
            set.put(Element::parse(text)?, Node { is_member, below });
        }
        Some(set)
    }
}
