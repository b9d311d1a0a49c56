//! Ids in Fly's forms: ULIDs that only rise, machine, volume and snapshot ids. It must never reuse one.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::chance::{self, Chance};
use crate::clock::Clock;

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LOWER: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Makes ids.
pub(super) struct Ids {
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    last: Mutex<u128>,
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ids").finish_non_exhaustive()
    }
}

impl Ids {
    pub(super) fn new(clock: Arc<dyn Clock>, chance: Arc<dyn Chance>) -> Self {
        Self { clock, chance, last: Mutex::new(0) }
    }

    /// A ULID greater than every one before it from the same maker.
    pub(super) fn ulid(&self) -> String {
        let ms = u128::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let fresh = (ms << 80) | (self.random() >> 48);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = fresh.max(*last + 1);
        let number = *last;
        drop(last);
        (0..26).rev().map(|digit| char_of(CROCKFORD, number >> (digit * 5))).collect()
    }

    /// 14 hexadecimal digits.
    pub(super) fn machine(&self) -> String {
        let text = format!("{:032x}", self.random());
        text.chars().take(14).collect()
    }

    /// `vol_` and 16 characters.
    pub(super) fn volume(&self) -> String {
        format!("vol_{}", self.base36(16))
    }

    /// `vs_` and 19 characters.
    pub(super) fn snapshot(&self) -> String {
        format!("vs_{}", self.base36(19))
    }

    /// A lease nonce, an app id.
    pub(super) fn opaque(&self) -> String {
        self.base36(12)
    }

    fn base36(&self, length: u32) -> String {
        let mut number = self.random();
        let mut text = String::new();
        for _ in 0..length {
            text.push(char_of(LOWER, number % 36));
            number /= 36;
        }
        text
    }

    fn random(&self) -> u128 {
        // Two fixed bits of the version and variant do no harm in the middle.
        let uuid = chance::uuid(&*self.chance).as_u128();
        uuid ^ uuid.rotate_left(64)
    }
}

fn char_of<const N: usize>(alphabet: &[u8; N], number: u128) -> char {
    let index = usize::try_from(number % N as u128).unwrap_or(0);
    char::from(alphabet.get(index).copied().unwrap_or(b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Manual, Timestamp};

    #[test]
    fn ulids_rise_within_the_same_millisecond() {
        let ids = Ids::new(Arc::new(Manual::at(Timestamp::UNIX_EPOCH)), chance::System::shared());
        let made: Vec<_> = (0..100).map(|_| ids.ulid()).collect();
        assert!(made.is_sorted_by(|a, b| a < b), "{made:?}");
        assert!(made.iter().all(|it| it.len() == 26));
    }

    #[test]
    fn ids_have_flys_forms() {
        let ids = Ids::new(Arc::new(Manual::at(Timestamp::UNIX_EPOCH)), chance::System::shared());
        let machine = ids.machine();
        assert!(machine.len() == 14 && machine.chars().all(|c| c.is_ascii_hexdigit()), "{machine}");
        assert_eq!(ids.volume().len(), 20);
        assert!(ids.snapshot().starts_with("vs_"));
    }
}
