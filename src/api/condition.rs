//! Conditions: what is and is not true of an object, why, and since when. It must never know which reasons a kind has.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It cannot be told.
    Unknown,
}

/// One condition. `T` is the kind's closed list of condition types, `R` its closed list of reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition<T, R> {
    /// What is claimed.
    #[serde(rename = "type")]
    pub kind: T,
    /// Whether it holds.
    pub status: Truth,
    /// Why, for programs.
    pub reason: R,
    /// Why, for people; what is waited for when it does not hold.
    #[serde(default)]
    pub message: String,
    /// Since when the status has been this.
    #[schemars(with = "String")]
    pub last_transition_time: Timestamp,
    /// The generation this was seen at.
    #[serde(default)]
    pub observed_generation: u64,
}

/// Writes a condition into the list: `last_transition_time` moves only when the status does.
pub fn set<T: PartialEq, R>(list: &mut Vec<Condition<T, R>>, new: Condition<T, R>) {
    match list.iter_mut().find(|old| old.kind == new.kind) {
        Some(old) if old.status == new.status => {
            let since = old.last_transition_time;
            *old = new;
            old.last_transition_time = since;
        }
        Some(old) => *old = new,
        None => list.push(new),
    }
}

/// The condition of this type.
pub fn get<T: PartialEq, R>(list: &[Condition<T, R>], kind: T) -> Option<&Condition<T, R>> {
    list.iter().find(|it| it.kind == kind)
}

/// Whether the condition of this type is there and True.
pub fn holds<T: PartialEq, R>(list: &[Condition<T, R>], kind: T) -> bool {
    get(list, kind).is_some_and(|it| it.status == Truth::True)
}
