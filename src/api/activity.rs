//! What routers saw of environments: the last request, and that a sleeping one is wanted. Kept beside the objects under
//! keys of its own, because it changes far too often for them. It must never hold who asked or for what.

use serde::{Deserialize, Serialize};

/// What the keys of last requests start with.
pub const ACTIVITY_PREFIX: &str = "activity/";
/// What the keys of nudges start with.
pub const NUDGE_PREFIX: &str = "nudges/";

/// The last request for an environment that a router saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// Uid of the environment.
    pub uid: String,
    /// When, in milliseconds since 1970.
    pub last_request_at_ms: i64,
}

/// A router wants the reconciler to look at an environment now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nudge {
    /// Uid of the environment.
    pub uid: String,
    /// When, in milliseconds since 1970: two nudges are two changes.
    pub at_ms: i64,
}

/// What a router saw since it last told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Environments that were asked for.
    pub requests: Vec<SeenRequest>,
    /// Environments that should be looked at.
    pub nudges: Vec<WantedLook>,
}

/// An environment that was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenRequest {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it was last asked for, in milliseconds since 1970.
    pub at_ms: i64,
}

/// An environment that should be looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedLook {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

/// Where the last request for an environment is stored.
#[must_use]
pub fn activity_key(namespace: &str, name: &str) -> String {
    format!("{ACTIVITY_PREFIX}{namespace}/{name}")
}

/// Where a nudge for an environment is stored.
#[must_use]
pub fn nudge_key(namespace: &str, name: &str) -> String {
    format!("{NUDGE_PREFIX}{namespace}/{name}")
}

/// What to store after a request was seen; `None` when what is stored says more already. A time in the future counts as
/// now: a router's clock may be wrong, and must not keep an environment awake for ever.
#[must_use]
pub fn later(stored: Option<&Activity>, seen: &SeenRequest, now_ms: i64) -> Option<Activity> {
    let last_request_at_ms = seen.at_ms.min(now_ms);
    let known =
        stored.is_some_and(|it| it.uid == seen.uid && it.last_request_at_ms >= last_request_at_ms);
    (!known).then(|| Activity { uid: seen.uid.clone(), last_request_at_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_request_or_another_environment_is_written() {
        let stored = Activity { uid: "a".to_owned(), last_request_at_ms: 10 };
        let later = |uid: &str, at_ms| {
            let seen = SeenRequest { uid: uid.to_owned(), at_ms, ..SeenRequest::default() };
            later(Some(&stored), &seen, 100).map(|it| it.last_request_at_ms)
        };
        assert_eq!(later("a", 9), None);
        assert_eq!(later("a", 11), Some(11));
        assert_eq!(later("b", 9), Some(9));
        assert_eq!(later("a", 1_000), Some(100));
    }
}
