//! JSON text to a value, and back. A field that is there twice is refused: serde_json would take the last in silence, and other
//! readers take the first. It must never put a value of the text into an error.

use std::{cell::RefCell, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Why a text is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct Error {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not JSON.
    #[error("not JSON")]
    Syntax,
    /// A field twice in one object.
    #[error("`{0}` is there twice")]
    Duplicate(String),
}

/// A value's text. Its own `to_string` writes the same, piece by piece through a formatter, which takes longer.
#[must_use]
pub fn text(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// Reads a whole text. What nests deeper than 128 levels is not read.
///
/// # Errors
/// The first thing that is wrong.
pub fn parse(text: &[u8]) -> Result<Value, Error> {
    read(text, None)
}

/// Reads a whole text and takes the last of a field that is there twice; the second list is of such fields' paths.
///
/// # Errors
/// That it is not JSON.
pub fn parse_last(text: &[u8]) -> Result<(Value, Vec<String>), Error> {
    let twice = RefCell::default();
    let value = read(text, Some(&twice))?;
    Ok((value, twice.into_inner()))
}

fn read(text: &[u8], twice: Option<&RefCell<Vec<String>>>) -> Result<Value, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let read = Place::Root(twice).deserialize(&mut deserializer);
    read.and_then(|value| deserializer.end().map(|()| value)).map_err(|error| {
        let problem = if error.is_data() {
            // The only error that is ours; serde_json adds the place to it.
            let text = error.to_string();
            let path = text.rsplit_once(" at line ").map_or("", |(path, _)| path);
            Problem::Duplicate(path.to_owned())
        } else {
            Problem::Syntax
        };
        Error { line: error.line(), column: error.column(), problem }
    })
}

/// Where a value is. It reads the value there.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Where there is a list, it gets what is there twice.
    Root(Option<&'a RefCell<Vec<String>>>),
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl<'a> Place<'a> {
    fn twice(&self) -> Option<&'a RefCell<Vec<String>>> {
        match self {
            Self::Root(twice) => *twice,
            Self::Field(outside, _) | Self::Item(outside, _) => outside.twice(),
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(_) => Ok(()),
            Self::Field(Self::Root(_), key) => f.write_str(key),
            Self::Field(outside, key) => write!(f, "{outside}.{key}"),
            Self::Item(outside, index) => write!(f, "{outside}[{index}]"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(Place::Item(&self, read.len()))? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let place = Place::Field(&self, &key);
            if read.contains_key(&key) {
                let Some(twice) = self.twice() else { return Err(de::Error::custom(place)) };
                twice.borrow_mut().push(place.to_string());
            }
            let value = fields.next_value_seed(place)?;
            read.insert(key, value);
        }
        Ok(Value::Object(read))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn refused(text: &str, line: usize, problem: &str) {
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!((error.line, error.problem.to_string().as_str()), (line, problem));
    }

    #[test]
    fn every_value_is_read_as_serde_json_reads_it() {
        let text = r#"{"a": [1, -2, 2.5, 1e3, true, null, "\u00e4\ud83d\ude00"], "b": {"c": {}}, "d": 18446744073709551615}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(super::text(&value), value.to_string());
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused_with_its_path() {
        refused("{\"a\": 1,\n\"a\": 2}", 2, "`a` is there twice");
        refused(
            r#"{"spec": {"env": {"A": "1", "B": "2", "A": "3"}}}"#,
            1,
            "`spec.env.A` is there twice",
        );
        refused(r#"{"l": [1, [{"x": 1, "\u0078": 2}]]}"#, 1, "`l[1][0].x` is there twice");
        refused(
            "{\"\": 1, \" at line 9\": 1, \" at line 9\": 1}",
            1,
            "` at line 9` is there twice",
        );
    }

    #[test]
    fn the_last_of_a_field_is_taken_where_that_is_wanted() {
        let text = br#"{"a": 1, "l": [{"b": 1, "b": 2}], "a": {"c": 3}}"#;
        let (value, twice) = parse_last(text).unwrap();
        assert_eq!(value, serde_json::from_slice::<Value>(text).unwrap());
        assert_eq!(twice, ["l[0].b", "a"]);
        assert!(parse_last(b"{").is_err());
    }

    #[test]
    fn what_is_not_json_is_refused_without_quoting_it() {
        for text in ["", "{", "{\"a\": hunter2}", "{} {}", "{\"a\": 1e999}", "\u{feff}{}"] {
            refused(text, 1, "not JSON");
        }
        refused(&"[".repeat(100_000), 1, "not JSON");
        refused(&"{\"a\":".repeat(100_000), 1, "not JSON");
    }

    #[test]
    fn no_key_makes_text_be_read_as_json() {
        let text = r#"{"$serde_json::private::RawValue": "{\"a\": 1, \"a\": 2}"}"#;
        let value = parse(text.as_bytes()).unwrap();
        assert_eq!(value, json!({"$serde_json::private::RawValue": "{\"a\": 1, \"a\": 2}"}));
        // What it is there for: serde_json itself does.
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({"a": 2}));
    }
}
