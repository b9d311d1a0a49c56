//! Revisions of a template: the kind that keeps one, which one an environment is kept at, and how far a change has come.
//! Types and sums over their own fields; it must never look at an environment.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    condition,
    meta::{NameRef, resource},
    template::TemplateSpec,
};

/// On a template: each new value of it lets a change go on that waits for a person's word, or that was stopped.
pub const RESUMED: &str = "hangar.dev/resumed-at";
/// On an environment: it follows its template up to the revision of this number now, whatever the others do.
pub const FOLLOW: &str = "hangar.dev/follow-revision";
/// On a template: why it was changed, as `hangar rollout history` shows it.
pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
/// So many revisions are kept, and those beyond it that something is made from.
pub const KEPT: usize = 10;

resource! {
    /// A template as it was: environments that do not have the newest revision yet are kept by this.
    TemplateRevision {
        /// The template then.
        spec: TemplateRevisionSpec,
    }
}

/// A template as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRevisionSpec {
    /// The template.
    pub template_ref: NameRef,
    /// Counts up with every change that makes a difference to a machine.
    pub revision: u64,
    /// A digest of that.
    pub hash: String,
    /// Why it was changed, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_cause: Option<String>,
    /// Its specification.
    pub template: TemplateSpec,
}

/// The name of the object that keeps a revision.
#[must_use]
pub fn name(template: &str, revision: u64) -> String {
    format!("{template}-{revision}")
}

/// A revision by number and hash.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct RevisionRef {
    /// Number.
    pub revision: u64,
    /// Hash.
    pub hash: String,
}

/// The revision that an environment is kept at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvironmentRevision {
    /// Number.
    pub revision: u64,
    /// Hash.
    pub hash: String,
    /// The revision that it had before, if it had another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Whether its machine may be restarted for that while it serves.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_once: bool,
    /// Whether its own pass has looked at it since: what its conditions say before is said of another revision.
    pub looked: bool,
    /// When it was first seen serving at this revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ready_at: Option<Timestamp>,
}

impl EnvironmentRevision {
    /// Its number and hash.
    #[must_use]
    pub fn to_ref(&self) -> RevisionRef {
        RevisionRef { revision: self.revision, hash: self.hash.clone() }
    }
}

impl From<RevisionRef> for EnvironmentRevision {
    fn from(it: RevisionRef) -> Self {
        Self { revision: it.revision, hash: it.hash, ..Self::default() }
    }
}

/// A number, or a share in per cent such as `10%`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a number from 0 on, or a share such as 10%")]
pub enum IntOrPercent {
    /// So many.
    Int(u32),
    /// Such a share, rounded down.
    Percent(String),
}

impl IntOrPercent {
    /// How many that is of so many; `None` for what is neither a number nor a share.
    #[must_use]
    pub fn of(&self, total: u32) -> Option<u32> {
        match self {
            Self::Int(count) => Some(*count),
            Self::Percent(text) => {
                let percent: u64 = text.strip_suffix('%')?.parse().ok().filter(|it| *it <= 100)?;
                u32::try_from(u64::from(total) * percent / 100).ok()
            }
        }
    }
}

/// How far a template's newest revision has come, as hangar last counted it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TemplateStatus {
    /// The generation this status is about.
    pub observed_generation: u64,
    /// Number of the newest revision.
    pub revision: u64,
    /// Its hash.
    pub hash: String,
    /// How many environments have it, while not all do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Why it goes no further, where it was seen to fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
    /// When a person last said that it may go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Resumed>,
    /// Revisions that are kept as TemplateRevisions, the newest last.
    pub history: Vec<Recorded>,
    /// What is true and what is waited for.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<TemplateCondition>,
}

/// How many environments have the newest revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Environments of this template.
    pub environments: u32,
    /// Those that have the newest revision.
    pub updated: u32,
    /// Those that were changed to it and do not serve yet, sleeping ones left out.
    pub unavailable: u32,
}

/// A revision that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recorded {
    /// Number.
    pub revision: u64,
    /// Hash.
    pub hash: String,
    /// When it was recorded.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

impl Recorded {
    /// Its number and hash.
    #[must_use]
    pub fn to_ref(&self) -> RevisionRef {
        RevisionRef { revision: self.revision, hash: self.hash.clone() }
    }
}

/// A revision that was seen to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// Which.
    pub revision: u64,
    /// When that was seen.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// What was seen.
    pub message: String,
    /// What new environments get meanwhile, if there is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<u64>,
}

/// A person's word that a revision may go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Resumed {
    /// The annotation's value.
    pub value: String,
    /// Which revision was the newest then.
    pub revision: u64,
    /// Environments that failed at it then: they count no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excused: Vec<String>,
}

/// A condition of a template.
pub type TemplateCondition = condition::Condition<TemplateConditionType, TemplateReason>;

/// What can be claimed of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TemplateConditionType {
    /// Every environment has the newest revision, and those that were changed to it serve or sleep.
    Complete,
    /// Environments are being changed to it, or will be.
    Progressing,
    /// It goes no further without a person.
    Stalled,
}

/// Why a condition of a template is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TemplateReason {
    /// All is as declared.
    AsDeclared,
    /// Environments are changed by turns.
    RollingOut,
    /// Those that are left are changed when they next sleep.
    WaitingForSleep,
    /// `update.paused`.
    Paused,
    /// `update.strategy: Manual`, and nobody has said that it may go on.
    AwaitingOrder,
    /// Environments that were changed to it do not serve.
    RevisionFailing,
}

impl TemplateStatus {
    /// The newest revision.
    #[must_use]
    pub fn newest(&self) -> RevisionRef {
        RevisionRef { revision: self.revision, hash: self.hash.clone() }
    }

    /// Whether the newest revision was seen to fail.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped.as_ref().is_some_and(|it| it.revision == self.revision)
    }

    /// The revision of this number, if it is kept.
    #[must_use]
    pub fn recorded(&self, revision: u64) -> Option<RevisionRef> {
        self.history.iter().find(|it| it.revision == revision).map(Recorded::to_ref)
    }

    /// What new environments and bays are made from: the newest revision, or, where that fails, the one that most have.
    #[must_use]
    pub fn for_new(&self) -> RevisionRef {
        let stopped = self.stopped.as_ref().filter(|it| it.revision == self.revision);
        let instead = stopped.and_then(|it| it.instead).and_then(|it| self.recorded(it));
        instead.unwrap_or_else(|| self.newest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_nonsense_is_none() {
        let percent = |text: &str| IntOrPercent::Percent(text.to_owned()).of(25);
        assert_eq!((percent("10%"), percent("100%"), percent("0%")), (Some(2), Some(25), Some(0)));
        assert_eq!((percent("101%"), percent("10"), percent("-1%")), (None, None, None));
        assert_eq!(IntOrPercent::Int(3).of(25), Some(3));
    }

    #[test]
    fn what_is_new_is_not_made_from_a_revision_that_fails() {
        let at = Timestamp::UNIX_EPOCH;
        let recorded = |revision| Recorded { revision, hash: format!("h{revision}"), at };
        let mut status = TemplateStatus {
            revision: 2,
            hash: "h2".to_owned(),
            history: vec![recorded(1), recorded(2)],
            ..TemplateStatus::default()
        };
        assert_eq!(status.for_new().revision, 2);
        let stopped =
            |revision, instead| Some(Stopped { revision, at, message: String::new(), instead });
        status.stopped = stopped(2, Some(1));
        assert_eq!(status.for_new(), RevisionRef { revision: 1, hash: "h1".to_owned() });
        status.stopped = stopped(2, None);
        assert_eq!(status.for_new().revision, 2);
        status.stopped = stopped(1, Some(1));
        assert_eq!(status.for_new().revision, 2, "that was another one");
    }
}
