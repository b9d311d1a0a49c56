//! A set of environments' numbers. It must never need more than a bit for each.

/// A set of environments' numbers, a bit for each.
#[derive(Debug, Default)]
pub struct Slots(Vec<u64>);

impl Slots {
    /// Adds a number.
    pub fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (slot % 64);
    }

    /// Whether the number is in it.
    #[must_use]
    pub fn contains(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }
}
