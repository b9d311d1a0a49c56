//! Label and field selectors: reading them and asking them. It must never list objects itself.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::{
    column::at_path,
    kind::{Form, Info},
};

/// A label selector: every requirement must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Labels {
    /// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    ///
    /// # Errors
    /// A sentence with the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these labels are selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_by(&|key| labels.get(key).map(String::as_str))
    }

    /// Whether this object's labels are selected.
    #[must_use]
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = at_path(object, "metadata.labels");
        self.matches_by(&|key| labels.and_then(|it| it.get(key)).and_then(Value::as_str))
    }

    fn matches_by<'a>(&self, label: &dyn Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|it| it == value))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| values.iter().all(|it| it != value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        })
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    for (index, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text.get(start..index).unwrap_or_default());
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let wrong = || format!("`{part}` is not a label selector");
    let key = |text: &str| {
        let text = text.trim();
        crate::api::name::label_key(text).map(|()| text.to_owned()).map_err(|_| wrong())
    };
    let value = |text: &str| {
        let text = text.trim();
        crate::api::name::label_value(text).map(|()| text.to_owned()).map_err(|_| wrong())
    };
    if let Some((left, right)) = part.split_once("!=") {
        return Ok(Requirement::NotIn(key(left)?, vec![value(right)?]));
    }
    if let Some((left, right)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Requirement::In(key(left)?, vec![value(right)?]));
    }
    if let Some(rest) = part.strip_prefix('!') {
        return Ok(Requirement::Absent(key(rest)?));
    }
    let Some((left, list)) = part.split_once('(') else {
        return Ok(Requirement::Exists(key(part)?));
    };
    let list = list.trim_end().strip_suffix(')').ok_or_else(wrong)?;
    let values = list.split(',').map(value).collect::<Result<Vec<_>, _>>()?;
    let (name, operator) = left.trim_end().rsplit_once(char::is_whitespace).ok_or_else(wrong)?;
    match operator {
        "in" => Ok(Requirement::In(key(name)?, values)),
        "notin" => Ok(Requirement::NotIn(key(name)?, values)),
        _ => Err(wrong()),
    }
}

/// A field selector: `metadata.name=alice,status.phase!=Ready`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, bool, String)>);

impl Fields {
    /// Reads a selector over the fields that the kind offers, in the words of a form where there is one.
    ///
    /// # Errors
    /// `field label not supported: …`, as Kubernetes says it, or that the text cannot be read.
    pub fn parse(text: &str, info: &Info, form: Option<&Form>) -> Result<Self, String> {
        let mut fields = Vec::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (path, equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) =
                part.split_once("==").or_else(|| part.split_once('='))
            {
                (path, true, value)
            } else {
                return Err(format!("`{part}` is not a field selector"));
            };
            let said = path.trim();
            let path = form.map_or_else(|| said.to_owned(), |it| it.own_path(said));
            if path != "metadata.name"
                && path != "metadata.namespace"
                && !info.selectable.contains(&path.as_str())
            {
                return Err(format!("field label not supported: {said}"));
            }
            fields.push((path, equal, value.trim().to_owned()));
        }
        Ok(Self(fields))
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// The one name it selects, if it selects by name: a list need not be read for that.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0
            .iter()
            .find(|(path, equal, _)| path == "metadata.name" && *equal)
            .map(|(_, _, value)| value.as_str())
    }

    /// Whether this object is selected.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(path, equal, value)| {
            let found = at_path(object, path);
            let same = match found {
                Some(Value::String(text)) => text == value,
                Some(Value::Null) | None => value.is_empty(),
                Some(other) => {
                    let text = other.to_string();
                    text == *value
                }
            };
            same == *equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::kind::Kind;

    #[track_caller]
    fn check(selector: &str, labels: &[(&str, &str)], expected: bool) {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(
            Labels::parse(selector).map(|it| it.matches(&labels)),
            Ok(expected),
            "{selector}"
        );
    }

    #[test]
    fn label_selectors_select_as_kubernetes_does() {
        check("", &[], true);
        check("team=a", &[("team", "a")], true);
        check("team==a,tier!=b", &[("team", "a")], true);
        check("team in (a, b)", &[("team", "b")], true);
        check("team in (a,b),!old", &[("team", "b"), ("old", "")], false);
        check("team notin (a)", &[], true);
        check("team", &[("team", "x")], true);
        check("example.com/team=a", &[("example.com/team", "a")], true);
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for text in ["a=b=c d", "in (a)", "a in a", "a in (b", "=a", "a b"] {
            assert!(Labels::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Fields::parse("spec.colour=red", Kind::Environment.info(), None),
            Err("field label not supported: spec.colour".to_owned())
        );
    }

    #[test]
    fn field_selectors_compare_text_and_absence() {
        let object = serde_json::json!({"metadata": {"name": "a"}, "status": {"phase": "Ready"}});
        let check = |text: &str| {
            Fields::parse(text, Kind::Environment.info(), None).map(|it| it.matches(&object))
        };
        assert_eq!(check("metadata.name=a,status.phase=Ready"), Ok(true));
        assert_eq!(check("status.phase!=Ready"), Ok(false));
        assert_eq!(check("spec.owner="), Ok(true));
    }
}
