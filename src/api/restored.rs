//! What a store that is made from an export must say about itself, so that nothing that clients or machines have seen goes
//! backwards. Pure; it must never know how an export looks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{GROUP, meta::ObjectRef};

/// Where a store keeps that it was restored.
pub const KEY: &str = "meta/restored";

/// That a store was restored, and from what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// When.
    pub at: Timestamp,
    /// When the export was made.
    pub exported_at: Timestamp,
    /// The revision the export was made at.
    pub revision: u64,
}

/// The time of a restore: not before the export was made, should the clock be wrong, because whatever is in the export must
/// be known to be older.
#[must_use]
pub fn time(exported_at: Timestamp, now: Timestamp) -> Timestamp {
    now.max(exported_at)
}

/// How far a restored store begins after its export at least, should the clock be wrong.
const REVISIONS: u64 = 1 << 32;

/// The revision at which everything in a restored store is: above any that the lost one can have reached, and any that a
/// store restored earlier can. No store commits a million times a second for years.
#[must_use]
pub fn revision(exported: u64, now: Timestamp) -> u64 {
    exported.saturating_add(REVISIONS).max(u64::try_from(now.as_microsecond()).unwrap_or(0))
}

/// The number from which epochs, and generations, go on after a restore, by the same reasoning: neither rises once a second
/// for years.
#[must_use]
pub fn floor(now: Timestamp) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0)
}

/// Raises the generation of a stored object of hangar's own kinds. A Secret's stays: nobody compares it, and machines are
/// given the Secret again when it rises.
///
/// True when there was one.
pub fn advance(key: &str, value: &mut Value, now: Timestamp) -> bool {
    let ours = ObjectRef::from_store_key(key).is_some_and(|it| it.kind.info().group == GROUP);
    let generation = value.pointer_mut("/metadata/generation").filter(|_| ours);
    let Some(generation) = generation else { return false };
    let old = generation.as_u64().unwrap_or(0);
    *generation = json!(floor(now).max(old.saturating_add(1)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_was_seen_is_behind_even_when_the_clock_is_wrong() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(
            (time(Timestamp::UNIX_EPOCH, now), time(now, Timestamp::UNIX_EPOCH)),
            (now, now)
        );
        assert_eq!(revision(5, now), 1_800_000_000_000_000);
        assert_eq!(revision(5, Timestamp::UNIX_EPOCH), 5 + REVISIONS);
        for (key, generation, expected) in [
            ("environments/default/a", 3, 1_800_000_000),
            ("environments/default/a", 1_900_000_000, 1_900_000_001),
            ("secrets/default/a", 3, 3),
            ("meta/something", 3, 3),
        ] {
            let mut object = json!({"metadata": {"generation": generation}});
            assert_eq!(advance(key, &mut object, now), expected != 3);
            assert_eq!(object["metadata"]["generation"], expected, "{key}");
        }
    }
}
