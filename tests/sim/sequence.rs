//! Sequences of specifications, each walked and compared with its first and last alone.

use hangar::sim::sequence;

/// Sequences that every run of the tests walks; `hangar sim --sequences` walks more.
const SEEDS: u64 = 24;

#[test]
fn a_sequence_of_specifications_ends_as_its_first_and_last_alone() {
    let wrong = crate::all_seeds(1..=SEEDS, |seed| sequence::walk_with(seed, None).wrong);
    let told: Vec<_> = wrong
        .iter()
        .map(|(seed, what)| format!("hangar sim --sequences --seeds {seed}: {what:?}"))
        .collect();
    assert!(told.is_empty(), "{} of {SEEDS} are wrong\n{}", told.len(), told.join("\n"));
}
