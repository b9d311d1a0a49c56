//! Request ids as Fly writes them: a ULID and the region. It must never be used as a secret.

use std::fmt::Write as _;

use crate::clock::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A fresh id, e.g. `01J9ZK3V5W8QJ4M2T6N0R1C7XA-local`.
pub(super) fn fresh(now: Timestamp, region: &str) -> String {
    let mut random = [0; 16];
    // Without randomness the id is merely less unique, which no request should fail for.
    if let Err(error) = getrandom::fill(&mut random) {
        tracing::debug!(%error, "no randomness for a request id");
    }
    written(now.as_millisecond(), u128::from_be_bytes(random), region)
}

fn written(now_ms: i64, random: u128, region: &str) -> String {
    let time = u128::try_from(now_ms).unwrap_or_default() << 80;
    let value = time | (random & ((1 << 80) - 1));
    let mut text = String::with_capacity(27 + region.len());
    for digit in (0..26).rev() {
        let index = (value >> (digit * 5)) & 31;
        text.push(char::from(ALPHABET[usize::try_from(index).unwrap_or_default()]));
    }
    // Writing to a string cannot fail.
    let _written = write!(text, "-{region}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_sorts_by_time_and_names_its_region() {
        // The example of the ULID specification.
        assert!(written(1_469_918_176_385, 0, "ams").starts_with("01ARYZ6S41"));
        assert_eq!(written(0, u128::MAX, "ams"), "0000000000ZZZZZZZZZZZZZZZZ-ams");
        assert!(written(1, 0, "x") < written(2, 0, "x"));
    }
}
