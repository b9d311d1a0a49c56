//! How values of a kind merge, read out of its schema: which maps are taken field by field, which lists item by item. It must
//! never say anything that the schema does not.

use std::{collections::BTreeMap, sync::LazyLock};

use serde_json::{Map, Value};

use crate::api::{fields::Element, kind::Kind, openapi};

/// How a value merges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Nothing is said of it: maps are taken field by field, all else whole.
    Unsaid,
    /// Whole, whatever it is.
    Atomic,
    /// An object with these fields.
    Struct(BTreeMap<String, Shape>),
    /// A map from any key to such values.
    Map(Box<Shape>),
    /// A list in which no value is there twice.
    Set,
    /// A list whose items are told apart by these fields.
    Keyed(Vec<String>, Box<Shape>),
}

/// Every kind's, in the registry's order.
static SHAPES: LazyLock<Vec<(Kind, Shape)>> = LazyLock::new(|| {
    Kind::ALL.into_iter().map(|kind| (kind, Shape::of_schema(&openapi::whole(kind)))).collect()
});

static UNSAID: Shape = Shape::Unsaid;

impl Shape {
    /// A kind's objects'.
    #[must_use]
    pub fn of(kind: Kind) -> &'static Self {
        SHAPES.iter().find(|(it, _)| *it == kind).map_or(&UNSAID, |(_, shape)| shape)
    }

    /// From a schema in OpenAPI's words, without references.
    #[must_use]
    pub fn of_schema(schema: &Value) -> Self {
        let said = |key: &str| schema.get(key).and_then(Value::as_str);
        match said("type") {
            Some("object") if said("x-kubernetes-map-type") == Some("atomic") => Self::Atomic,
            Some("object") => {
                match (schema.get("properties"), schema.get("additionalProperties")) {
                    (Some(Value::Object(fields)), _) => {
                        let fields = fields.iter();
                        Self::Struct(
                            fields.map(|(k, it)| (k.clone(), Self::of_schema(it))).collect(),
                        )
                    }
                    (_, Some(values @ Value::Object(_))) => {
                        Self::Map(Box::new(Self::of_schema(values)))
                    }
                    _ => Self::Unsaid,
                }
            }
            Some("array") => match said("x-kubernetes-list-type") {
                Some("set") => Self::Set,
                Some("map") => {
                    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                    let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                    let items = schema.get("items").map_or(Self::Unsaid, Self::of_schema);
                    Self::Keyed(keys.map(str::to_owned).collect(), Box::new(items))
                }
                _ => Self::Atomic,
            },
            Some(_) => Self::Atomic,
            None => Self::Unsaid,
        }
    }

    /// How the value under a key of such an object merges.
    #[must_use]
    pub fn under(&self, key: &str) -> &Self {
        match self {
            Self::Struct(fields) => fields.get(key).unwrap_or(&UNSAID),
            Self::Map(values) => values,
            Self::Keyed(_, items) => items.under(key),
            Self::Unsaid | Self::Atomic | Self::Set => &UNSAID,
        }
    }

    /// Whether this is a field that the schema names, and no key that somebody chose.
    #[must_use]
    pub fn names(&self, key: &str) -> bool {
        matches!(self, Self::Struct(fields) if fields.contains_key(key))
    }

    /// The fields of a value that is taken field by field.
    #[must_use]
    pub fn fields<'a>(&self, value: &'a Value) -> Option<&'a Map<String, Value>> {
        match self {
            Self::Unsaid | Self::Struct(_) | Self::Map(_) => value.as_object(),
            Self::Atomic | Self::Set | Self::Keyed(..) => None,
        }
    }

    /// The items of a list that is taken item by item, and what tells them apart; `None` also for a list in which they
    /// cannot be told apart, which is then taken whole.
    #[must_use]
    pub fn items<'a>(&self, value: &'a Value) -> Option<Vec<(Element, &'a Value)>> {
        let items = value.as_array()?;
        let items: Vec<_> =
            items.iter().map(|it| Some((self.element(it)?, it))).collect::<Option<_>>()?;
        let mut seen: Vec<_> = items.iter().map(|(element, _)| element).collect();
        seen.sort_unstable();
        (!seen.windows(2).any(|two| two[0] == two[1])).then_some(items)
    }

    /// How items of such a list merge.
    #[must_use]
    pub fn item(&self) -> &Self {
        match self {
            Self::Keyed(_, items) => items,
            Self::Unsaid | Self::Atomic | Self::Struct(_) | Self::Map(_) | Self::Set => &UNSAID,
        }
    }

    fn element(&self, item: &Value) -> Option<Element> {
        match self {
            Self::Set => {
                (!item.is_object() && !item.is_array()).then(|| Element::Value(item.to_string()))
            }
            Self::Keyed(keys, _) => {
                let key = |key: &String| Some((key.clone(), item.get(key)?.clone()));
                keys.iter().map(key).collect::<Option<_>>().map(Element::key)
            }
            Self::Unsaid | Self::Atomic | Self::Struct(_) | Self::Map(_) => None,
        }
    }
}
