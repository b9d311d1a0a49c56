//! The API token and the header made from it. It must never show itself.

use std::fmt;

use http::{HeaderValue, header::InvalidHeaderValue};

/// An API token, or several joined by commas.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A token as a person has it: a scheme in front (as flyctl prints it) and space around are taken off.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let text = text.trim();
        let bare = ["FlyV1 ", "Bearer "].iter().find_map(|scheme| text.strip_prefix(scheme));
        Self(bare.unwrap_or(text).trim().to_owned())
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The `Authorization` header. Macaroons have a scheme of their own.
    pub(crate) fn header(&self) -> Result<HeaderValue, InvalidHeaderValue> {
        let macaroon = |part: &str| {
            ["fm2_", "fm1r_", "fm1a_"].iter().any(|prefix| part.trim().starts_with(prefix))
        };
        let scheme = if self.0.split(',').any(macaroon) { "FlyV1" } else { "Bearer" };
        let mut value = HeaderValue::try_from(format!("{scheme} {}", self.0))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Every text that gives the token or a part of it away.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.0.as_str()).chain(self.0.split(',').map(str::trim))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(token: &str) -> String {
        let value = Token::new(token).header().unwrap();
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn macaroons_go_with_their_own_scheme() {
        assert_eq!(header("fm2_abc"), "FlyV1 fm2_abc");
        assert_eq!(header("fm1r_abc,fm2_def"), "FlyV1 fm1r_abc,fm2_def");
        assert_eq!(header("fm1a_abc"), "FlyV1 fm1a_abc");
        assert_eq!(header("fo1_abc"), "Bearer fo1_abc");
    }

    #[test]
    fn a_scheme_that_was_pasted_along_is_not_doubled() {
        assert_eq!(header(" FlyV1 fm2_abc\n"), "FlyV1 fm2_abc");
        assert_eq!(header("Bearer fo1_abc"), "Bearer fo1_abc");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Token::new("fm2_abc")), "Token(…)");
        assert_eq!(format!("{:?}", Token::new("fm2_abc").header().unwrap()), "Sensitive");
    }

    #[test]
    fn a_token_with_a_line_break_is_no_header() {
        assert!(Token::new("fm2_a\nb").header().is_err());
    }
}
