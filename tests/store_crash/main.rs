//! The store against what breaks stores: kills, damaged files, failing and full disks, power cuts. After each it opens with
//! every acknowledged commit, each whole, or refuses with an error that says what is wrong.
//!
//! `HANGAR_SEED` makes a run again, `HANGAR_CRASH_TIMES=50` makes it fifty times as long, `HANGAR_POWER_CUTS=20` cuts the
//! power of a file system of its own twenty times (root only).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]
#![expect(clippy::print_stdout, reason = "what a run did, and why it did less")]

mod child;
mod damage;
mod disk;
mod kill;
mod power;

/// Chance that a seed makes again.
struct Dice(u64);

impl Dice {
    fn seeded() -> Self {
        let given = std::env::var("HANGAR_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        println!("HANGAR_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }
}

/// So many times as long as usual.
fn times() -> u64 {
    std::env::var("HANGAR_CRASH_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
