//! The rules from outside: read from YAML or JSON, and kept under `/_local/faults`. It must never change what a rule means.

use serde_json::json;

use crate::local::{
    Backend,
    faults::{Invalid, Rule},
    refusal::Refusal,
    respond::Reply,
};

/// Why rules cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is neither YAML nor JSON.
    #[error("this is neither YAML nor JSON")]
    Syntax(#[source] serde_yaml::Error),
    /// A rule does not have a rule's form.
    #[error("rule {number} is none")]
    Form {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        source: serde_yaml::Error,
    },
    /// A rule's fields do not fit together.
    #[error("rule {number} cannot be")]
    Invalid {
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        source: Invalid,
    },
}

/// Reads a rule or a list of rules, in YAML or JSON.
///
/// # Errors
/// If any of them is not a rule.
pub fn read(text: &[u8]) -> Result<Vec<Rule>, Unreadable> {
    // JSON may be indented by tabs, which YAML refuses.
    let value = match serde_json::from_slice::<serde_yaml::Value>(text) {
        Ok(value) => value,
        Err(_) => serde_yaml::from_slice(text).map_err(Unreadable::Syntax)?,
    };
    let list = match value {
        serde_yaml::Value::Null => Vec::new(),
        serde_yaml::Value::Sequence(list) => list,
        one => vec![one],
    };
    let numbered = list.into_iter().zip(1..);
    numbered
        .map(|(value, number)| {
            let rule: Rule = serde_yaml::from_value(value)
                .map_err(|source| Unreadable::Form { number, source })?;
            rule.check().map_err(|source| Unreadable::Invalid { number, source })?;
            Ok(rule)
        })
        .collect()
}

impl Backend {
    /// `/_local/faults`, and below it one rule.
    pub(in crate::local) fn control_faults(
        &self,
        method: &str,
        id: Option<&str>,
        body: &[u8],
    ) -> Result<Reply, Refusal> {
        let faults = self.faults();
        match (method, id) {
            ("GET", None) => Reply::json(&json!({"rules": faults.list(), "fired": faults.fired()})),
            ("POST", None) => {
                let invalid = |text| Refusal::Invalid(format!("invalid_argument: {text}"));
                let rules = read(body).map_err(|error| invalid(crate::retry::chain(&error)))?;
                let ids: Result<Vec<u64>, Invalid> =
                    rules.into_iter().map(|it| faults.add(it)).collect();
                Reply::created(&json!({"ids": ids.map_err(|error| invalid(error.to_string()))?}))
            }
            ("DELETE", None) => {
                faults.clear();
                Ok(Reply::NoContent)
            }
            ("DELETE", Some(id)) if id.parse().is_ok_and(|id| faults.remove(id)) => {
                Ok(Reply::NoContent)
            }
            ("DELETE", Some(_)) => Err(Refusal::NotFound("fault")),
            _ => Err(Refusal::NoRoute),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::chain;

    fn refused(text: &str) -> String {
        chain(&read(text.as_bytes()).unwrap_err())
    }

    #[test]
    fn rules_are_read_from_yaml_and_json_alike() {
        let yaml =
            "- kind: slow\n  route: create_machine\n  takes: 1m 30s\n  for: 5m\n  times: 2\n";
        let json = "[\n\t{\"kind\": \"slow\", \"route\": \"create_machine\", \"takes\": \"90s\",\n\
                    \t\"for\": \"300s\", \"times\": 2}\n]";
        let rules = read(yaml.as_bytes()).unwrap();
        assert_eq!(rules, read(json.as_bytes()).unwrap());
        let written = serde_json::to_vec(&rules).unwrap();
        assert_eq!(read(&written).unwrap(), rules);
        assert_eq!(read(b"kind: reset_after").unwrap().len(), 1);
        assert!(read(b"").unwrap().is_empty());
    }

    #[test]
    fn what_would_do_nothing_is_refused_and_named() {
        assert!(refused("kind: explode").starts_with("rule 1 is none: unknown variant `explode`"));
        assert!(refused("- kind: slow\n- {kind: slow, colour: red}").contains("rule 2 is none"));
        assert!(refused("{kind: slow, takes: 90}").contains("invalid type"));
        assert!(refused("{kind: slow, takes: soon}").contains("write 90s or 5m"));
        assert_eq!(
            refused("{kind: reset_after, takes: 5s}"),
            "rule 1 cannot be: reset_after does not use `takes`: leave it out"
        );
        assert!(refused("{kind: slow, route: make_machine}").contains("no call \"make_machine\""));
        assert!(refused("{kind: slow, per_mille: 1001}").contains("at most 1000"));
        assert!(refused("{kind: start_race, route: exec}").contains("does not befall \"exec\""));
        assert!(refused("{kind: error_regions}").contains("error_regions needs `regions`"));
        assert!(refused("{kind: checks_fail, times: 1}").contains("does not use `times`"));
        assert!(refused("{kind: list_stale, ago: 2h}").contains("up to 60 minutes or 10 reads"));
        assert!(refused("{kind: list_stale, ago: 1m, reads: 1}").contains("not both"));
        assert!(refused("{kind: crash, every: 10ms}").contains("at least a second"));
    }
}
