//! Who may speak to the server at all: no web page of somebody else's, and, where there is no token, only this computer's own
//! programs. It must never keep a token's text, nor decide what somebody may do.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, header, request::Parts, uri::Authority};

use crate::server::status::Status;

/// A bearer token, of which only a hash is kept.
#[derive(Clone, Copy)]
pub struct Token(blake3::Hash);

impl Token {
    /// From its text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(blake3::hash(text.as_bytes()))
    }

    /// Whether this is its text, found out in constant time, as hashes are compared.
    pub(super) fn is(&self, text: &str) -> bool {
        self.0 == blake3::hash(text.as_bytes())
    }
}

/// Tells nothing.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Refuses what a web page may have sent, before it is asked who sends it.
pub(super) fn check(head: &Parts, is_open: bool, listening: SocketAddr) -> Result<(), Status> {
    if is_open {
        check_host(head, listening)?;
    }
    check_origin(head)
}

/// The token that a request shows.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A page whose name was made to point here (DNS rebinding) still sends its own name.
fn check_host(head: &Parts, listening: SocketAddr) -> Result<(), Status> {
    let refused = || {
        Status::forbidden(
            "this server has no token, so it answers only to localhost, to loopback addresses and to the address it listens on",
        )
    };
    let host = host(head).ok_or_else(refused)?;
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let is_ours = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == listening.ip());
    if is_ours { Ok(()) } else { Err(refused()) }
}

/// A browser says which page a request comes from; no page but the server's own has any business here.
fn check_origin(head: &Parts) -> Result<(), Status> {
    let Some(origin) = head.headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let origin = origin.and_then(|(_, authority)| authority.parse::<Authority>().ok());
    match (origin, host(head)) {
        (Some(origin), Some(host)) if origin == host => Ok(()),
        _ => Err(Status::forbidden("requests of other web pages are refused")),
    }
}

/// The one host that a request names.
fn host(head: &Parts) -> Option<Authority> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let (host, None) = (hosts.next()?, hosts.next()) else { return None };
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    match head.uri.authority() {
        Some(authority) if *authority != host => None,
        Some(_) | None => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/version");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn check(headers: &[(&str, &str)], is_open: bool) -> u16 {
        let listening = "127.0.0.1:7070".parse().unwrap();
        match super::check(&head(headers), is_open, listening) {
            Ok(()) => 200,
            Err(status) => status.code.as_u16(),
        }
    }

    #[test]
    fn without_a_token_only_this_computers_names_are_answered() {
        for host in ["localhost:7070", "127.0.0.1:7070", "[::1]:7070", "LOCALHOST", "127.0.0.2"] {
            assert_eq!(check(&[("host", host)], true), 200, "{host}");
        }
        for host in ["evil.example", "env.localhost:7070", "10.0.0.1:7070", "", "localhost.evil"] {
            assert_eq!(check(&[("host", host)], true), 403, "{host}");
        }
        assert_eq!(check(&[], true), 403);
        assert_eq!(check(&[("host", "localhost"), ("host", "localhost")], true), 403);
        assert_eq!(check(&[("host", "hangar.example")], false), 200);
    }

    #[test]
    fn other_pages_are_refused_with_and_without_a_token() {
        let host = ("host", "localhost:7070");
        assert_eq!(check(&[host, ("origin", "http://localhost:7070")], true), 200);
        for origin in ["http://localhost:3000", "http://evil.example", "null", ""] {
            assert_eq!(check(&[host, ("origin", origin)], true), 403, "{origin}");
            assert_eq!(check(&[host, ("origin", origin)], false), 403, "{origin}");
        }
    }

    #[test]
    fn a_token_is_what_follows_the_word_bearer() {
        let shown =
            |text: &str| bearer(&head(&[("authorization", text)]).headers).map(str::to_owned);
        assert_eq!(shown("Bearer t").as_deref(), Some("t"));
        assert_eq!(shown("bearer  t").as_deref(), Some("t"));
        for other in ["Basic t", "t", ""] {
            assert_eq!(shown(other), None, "{other}");
        }
        assert!(Token::new("t").is("t") && !Token::new("t").is("u"));
    }
}
