//! Names of lower-case letters, digits and dashes in fixed room, six characters to four bytes, compared exactly. It must
//! never lose a character or make two names one.

use std::fmt;

/// Characters in one word.
const PER_WORD: usize = 6;
/// 0 ends a name; 26 letters, 10 digits and the dash follow. 38^6 fits in 32 bits.
const BASE: u32 = 38;
const DIGITS: &[u8; BASE as usize] = b"\0abcdefghijklmnopqrstuvwxyz0123456789-";
const LONGEST: usize = 64;

const CODES: [u8; 256] = {
    let mut codes = [0; 256];
    let mut code: u8 = 1;
    while (code as usize) < DIGITS.len() {
        let byte = DIGITS[code as usize];
        codes[byte as usize] = code;
        codes[byte.to_ascii_uppercase() as usize] = code;
        code += 1;
    }
    codes
};

/// A name of at most `6 * N` characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packed<const N: usize>([u32; N]);

/// A label under the router's domain: at most 40 characters.
pub type Label = Packed<7>;
/// An app's name at Fly: at most 24 characters.
pub type App = Packed<4>;

impl<const N: usize> Packed<N> {
    /// No name.
    pub const EMPTY: Self = Self([0; N]);

    pub(super) fn words(self) -> [u32; N] {
        self.0
    }

    pub(super) fn of_words(words: [u32; N]) -> Self {
        Self(words)
    }

    /// Packs a name, folding capitals; `None` if it is empty, too long, or has other characters.
    #[must_use]
    pub fn folding(text: &[u8]) -> Option<Self> {
        if text.is_empty() || text.len() > N * PER_WORD {
            return None;
        }
        let mut words = [0_u32; N];
        for (word, chunk) in words.iter_mut().zip(text.chunks(PER_WORD)) {
            for &byte in chunk {
                let code = CODES[usize::from(byte)];
                if code == 0 {
                    return None;
                }
                *word = *word * BASE + u32::from(code);
            }
            for _ in chunk.len()..PER_WORD {
                *word *= BASE;
            }
        }
        Some(Self(words))
    }

    /// Packs a name that is in lower case already.
    #[must_use]
    pub fn exact(text: &str) -> Option<Self> {
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return None;
        }
        Self::folding(text.as_bytes())
    }

    /// The name.
    #[must_use]
    pub fn text(self) -> Text {
        let mut bytes = [0; LONGEST];
        for (mut word, chunk) in self.0.into_iter().zip(bytes.chunks_mut(PER_WORD)) {
            for byte in chunk.iter_mut().rev() {
                *byte = DIGITS[(word % BASE) as usize];
                word /= BASE;
            }
        }
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(LONGEST);
        Text { bytes, len }
    }
}

/// A name taken out of its packing, without an allocation.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Text {
    /// The characters.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only letters, digits and dashes are ever packed.
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl<const N: usize> fmt::Display for Packed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl<const N: usize> fmt::Debug for Packed<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl Label {
    /// Longest label.
    pub const CHARACTERS_MAX: usize = 40;

    /// The label a host begins with, by the grammar `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?` without dashes in the third and
    /// fourth place, in any case of letters.
    #[must_use]
    pub fn of_host(text: &[u8]) -> Option<Self> {
        let shaped = text.len() <= Self::CHARACTERS_MAX
            && text.first() != Some(&b'-')
            && text.last() != Some(&b'-')
            && text.get(2..4) != Some(b"--");
        if shaped { Self::folding(text) } else { None }
    }

    /// The label of a stored name, which is in lower case already.
    #[must_use]
    pub fn of_name(text: &str) -> Option<Self> {
        Self::of_host(text.as_bytes())
            .filter(|_| !text.bytes().any(|byte| byte.is_ascii_uppercase()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_label_comes_back_as_it_was(text in "[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?") {
            if text.get(2..4) == Some("--") {
                prop_assert_eq!(Label::of_name(&text), None);
            } else {
                let label = Label::of_name(&text).unwrap();
                prop_assert_eq!(label.to_string(), &text[..]);
                prop_assert_eq!(Label::of_host(text.to_uppercase().as_bytes()), Some(label));
            }
        }

        #[test]
        fn two_names_are_never_one(one in "[a-z0-9-]{1,24}", other in "[a-z0-9-]{1,24}") {
            prop_assert_eq!(App::exact(&one) == App::exact(&other), one == other);
        }

        #[test]
        fn nothing_but_the_grammar_is_a_label(text in proptest::collection::vec(any::<u8>(), 0..50)) {
            if let Some(label) = Label::of_host(&text) {
                prop_assert_eq!(label.to_string().into_bytes(), text.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        assert!(App::exact(&"a".repeat(24)).is_some());
        for bad in ["", "a_b", "A", "é", &"a".repeat(25)] {
            assert_eq!(App::exact(bad), None, "{bad}");
        }
        for bad in ["", "-a", "a-", "xn--b", "a.b", &"a".repeat(41)] {
            assert_eq!(Label::of_host(bad.as_bytes()), None, "{bad}");
        }
    }
}
