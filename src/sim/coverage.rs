//! Which kinds of faults a run can meet at all, and which of them it did not. It must never make one happen.

use std::collections::BTreeMap;

use crate::local::faults::Kind;

/// Kinds that nothing hangar does can meet, and why.
pub const NEVER: [(Kind, &str); 2] = [
    (Kind::SnapshotFails, "hangar takes no snapshots: Fly's own daily ones are kept"),
    (Kind::SnapshotStuck, "hangar takes no snapshots: Fly's own daily ones are kept"),
];

/// A run of fewer seeds says nothing about kinds that never fired in it.
pub const SEEDS_MIN: u64 = 1_000;

/// The kinds that a seed can draw.
pub fn drawable() -> impl Iterator<Item = Kind> {
    let never = |it: &Kind| NEVER.iter().any(|(kind, _)| kind == it);
    Kind::ALL.iter().copied().filter(move |it| !never(it))
}

/// The kinds among these that never fired.
pub fn missed(
    kinds: impl Iterator<Item = Kind>,
    fired: &BTreeMap<&'static str, u64>,
) -> Vec<&'static str> {
    kinds.map(Kind::name).filter(|it| !fired.contains_key(it)).collect()
}
