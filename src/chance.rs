//! LEAF. The only source of chance: the computer's, or one that a seed repeats. It must never know what is drawn for.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use uuid::Uuid;

/// A source of chance, taken as `Arc<dyn Chance>` by everything that names, keys or jitters.
pub trait Chance: fmt::Debug + Send + Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// The computer's own.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl System {
    /// The same, as everybody takes it.
    #[must_use]
    pub fn shared() -> Arc<dyn Chance> {
        Arc::new(Self)
    }
}

impl Chance for System {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = getrandom::fill(bytes) {
            // Linux gives randomness for ever once it has started. Without it keys could be guessed: better none at all.
            tracing::error!(%error, "the computer gives no random bytes; ending at once");
            std::process::abort();
        }
    }
}

/// One that gives the same again for the same seed and name.
pub struct Seeded(Mutex<blake3::OutputReader>);

impl Seeded {
    /// A stream of its own for each name, so that one that draws more does not shift the others.
    #[must_use]
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }
}

impl fmt::Debug for Seeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seeded").finish_non_exhaustive()
    }
}

impl Chance for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

/// A number below `limit`; 0 for a limit of 0.
pub fn below(chance: &dyn Chance, limit: u64) -> u64 {
    let mut bytes = [0; 8];
    chance.fill(&mut bytes);
    // Multiplying keeps the bias of small limits too small to matter.
    let wide = u128::from(u64::from_le_bytes(bytes)) * u128::from(limit);
    u64::try_from(wide >> 64).unwrap_or(0)
}

/// A random UUID.
pub fn uuid(chance: &dyn Chance) -> Uuid {
    let mut bytes = [0; 16];
    chance.fill(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_name_give_the_same_again_and_others_differ() {
        let draw = |seed, name| {
            let chance = Seeded::new(seed, name);
            [0; 4].map(|_: u8| below(&chance, 1_000_000))
        };
        assert_eq!(draw(7, "ids"), draw(7, "ids"));
        assert_ne!(draw(7, "ids"), draw(8, "ids"));
        assert_ne!(draw(7, "ids"), draw(7, "faults"));
    }

    #[test]
    fn every_number_below_the_limit_comes_up_and_none_above() {
        let chance = Seeded::new(1, "below");
        let mut seen = [0; 6];
        for _ in 0..600 {
            seen[usize::try_from(below(&chance, 6)).unwrap()] += 1;
        }
        assert!(seen.iter().all(|it| *it > 50), "{seen:?}");
        assert_eq!(below(&chance, 0), 0);
    }
}
