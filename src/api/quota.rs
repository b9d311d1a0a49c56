//! ResourceQuota: how many objects of a kind a namespace may have, in Kubernetes' core shape, and the sentence that refuses one
//! more. It must never count them.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::api::{kind::Kind, meta::resource};

resource! {
    /// How many environments and bays there may be in its namespace. The tightest of several quotas counts.
    ResourceQuota {
        /// What is allowed.
        spec: QuotaSpec,
        /// What of it is used, written by hangar.
        #[serde(default)]
        status: QuotaStatus,
    }
}

/// What is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QuotaSpec {
    /// `count/environments.hangar.dev` and `count/bays.hangar.dev`: how many there may be, those being deleted included. What is
    /// there already stays.
    #[serde(default)]
    pub hard: BTreeMap<String, Count>,
}

/// What of it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct QuotaStatus {
    /// What is allowed, as it was last looked at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hard: BTreeMap<String, Count>,
    /// How many there are, those being deleted included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub used: BTreeMap<String, Count>,
}

/// A number of objects. Kubernetes writes it as text, and takes a number too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        let wrong = || de::Error::custom("it must be a whole number of objects, such as 10");
        match Written::deserialize(deserializer).map_err(|_| wrong())? {
            Written::Number(count) => Ok(Self(count)),
            Written::Text(text) => text.parse().map(Self).map_err(|_| wrong()),
        }
    }
}

impl JsonSchema for Count {
    fn schema_name() -> Cow<'static, str> {
        "Count".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 0})
    }
}

/// Kinds of which a namespace's objects can be limited.
pub const COUNTED: [Kind; 2] = [Kind::Environment, Kind::Bay];

/// What a quota calls the number of a kind's objects: `count/environments.hangar.dev`.
#[must_use]
pub fn resource_name(kind: Kind) -> String {
    format!("count/{}", kind.info().qualified())
}

/// The most that a namespace may have of a kind, and the quota that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    quota: String,
    resource: String,
    hard: u64,
}

impl Limit {
    /// The tightest of these quotas for a kind, if one has it.
    #[must_use]
    pub fn tightest<'a>(
        quotas: impl IntoIterator<Item = &'a ResourceQuota>,
        kind: Kind,
    ) -> Option<Self> {
        let resource = resource_name(kind);
        let hard = |it: &ResourceQuota| it.spec.hard.get(&resource).map(|count| count.0);
        let of = quotas.into_iter().filter_map(|it| Some((hard(it)?, &it.metadata.name)));
        let (hard, quota) = of.min()?;
        Some(Self { quota: quota.clone(), hard, resource })
    }

    /// How many more there may be.
    #[must_use]
    pub fn left(&self, used: u64) -> u64 {
        self.hard.saturating_sub(used)
    }

    /// Why there may not be one more, in Kubernetes' words.
    #[must_use]
    pub fn exceeded(&self, used: u64) -> String {
        let Self { quota, resource, hard } = self;
        format!(
            "exceeded quota: {quota}, requested: {resource}=1, used: {resource}={used}, limited: {resource}={hard}"
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn quota(name: &str, hard: &serde_json::Value) -> ResourceQuota {
        let object = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn the_tightest_quota_counts_and_says_so_as_kubernetes_does() {
        let quotas = [
            quota("wide", &json!({"count/environments.hangar.dev": "10"})),
            quota(
                "small",
                &json!({"count/environments.hangar.dev": 2, "count/bays.hangar.dev": "7"}),
            ),
            quota("none", &json!({})),
        ];
        let limit = Limit::tightest(&quotas, Kind::Environment).unwrap();
        assert_eq!((limit.left(0), limit.left(1), limit.left(2), limit.left(9)), (2, 1, 0, 0));
        assert_eq!(
            limit.exceeded(2),
            "exceeded quota: small, requested: count/environments.hangar.dev=1, \
             used: count/environments.hangar.dev=2, limited: count/environments.hangar.dev=2"
        );
        assert_eq!(Limit::tightest(&quotas, Kind::Bay).map(|it| it.left(0)), Some(7));
        assert_eq!(Limit::tightest(&quotas[..1], Kind::Bay), None);
    }

    #[test]
    fn a_count_is_read_from_text_and_number_and_written_as_text() {
        let read = |value: serde_json::Value| serde_json::from_value::<Count>(value).ok();
        for (value, count) in [(json!("10"), 10), (json!(10), 10), (json!("0"), 0)] {
            assert_eq!(read(value), Some(Count(count)));
        }
        for value in [json!("10k"), json!("-1"), json!(-1), json!(1.5), json!(""), json!(null)] {
            assert_eq!(read(value.clone()), None, "{value}");
        }
        assert_eq!(json!(Count(10)), json!("10"));
    }
}
