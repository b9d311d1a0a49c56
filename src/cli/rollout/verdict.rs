//! How far a template's change has come, from its conditions. It must never ask for anything.

use crate::api::{
    condition::{self, Truth},
    rollout::{RESUMED, TemplateConditionType},
    template::Template,
};

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it is done.
    Done(String),
    /// Not yet.
    NotYet(String),
    /// Not without a person, with advice.
    Failed(String, String),
}

impl Verdict {
    /// A template's.
    pub(super) fn of(template: &Template) -> Self {
        let (name, status) = (&template.metadata.name, &template.status);
        let resumed = template.metadata.annotations.get(RESUMED);
        let heard = status.resumed.as_ref().map(|it| &it.value) == resumed || resumed.is_none();
        if status.observed_generation < template.metadata.generation || !heard {
            return Self::NotYet("Waiting for template spec update to be observed...".to_owned());
        }
        if let Some(stopped) = status.stopped.as_ref().filter(|_| status.is_stopped()) {
            let why = format!(
                "revision {} of template \"{name}\" fails: {}",
                stopped.revision, stopped.message
            );
            let hint = format!(
                "hangar rollout undo template/{name} goes back, hangar rollout resume template/{name} tries again"
            );
            return Self::Failed(why, hint);
        }
        let complete = condition::get(&status.conditions, TemplateConditionType::Complete);
        match complete {
            Some(it) if it.status == Truth::True => {
                Self::Done(format!("template \"{name}\" successfully rolled out"))
            }
            Some(it) => Self::NotYet(format!(
                "Waiting for template \"{name}\" rollout to finish: {}...",
                it.message
            )),
            None => Self::NotYet("Waiting for template spec update to be observed...".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(status: serde_json::Value) -> Template {
        let template = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Template",
            "metadata": {"name": "node", "generation": 2, "annotations": {RESUMED: "b"}},
            "spec": {"machine": {"image": "i:1"}, "regions": ["ams"]},
            "status": status,
        });
        serde_json::from_value(template).unwrap()
    }

    #[test]
    fn what_was_not_looked_at_yet_is_neither_done_nor_failed() {
        let complete = json!([{"type": "Complete", "status": "True", "reason": "AsDeclared", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let stopped = json!({"revision": 3, "at": "2026-01-01T00:00:00Z", "message": "alice does not serve at it: 404"});
        let resumed = |value| json!({"value": value, "revision": 3});
        let check = |status, expected: fn(&Verdict) -> bool| {
            let verdict = Verdict::of(&template(status));
            assert!(expected(&verdict), "{verdict:?}");
        };
        check(
            json!({"observedGeneration": 1, "conditions": complete, "resumed": resumed("b")}),
            |it| matches!(it, Verdict::NotYet(_)),
        );
        check(
            json!({"observedGeneration": 2, "revision": 3, "stopped": stopped, "resumed": resumed("a")}),
            |it| matches!(it, Verdict::NotYet(_)),
        );
        check(
            json!({"observedGeneration": 2, "revision": 3, "stopped": stopped, "resumed": resumed("b")}),
            |it| matches!(it, Verdict::Failed(why, _) if why.contains("404")),
        );
        check(
            json!({"observedGeneration": 2, "conditions": complete, "resumed": resumed("b")}),
            |it| matches!(it, Verdict::Done(_)),
        );
    }
}
