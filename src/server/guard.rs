//! Who may speak to the server: a bearer token where there is one, and otherwise only this computer's own programs, which
//! a web page in a browser is not. It must never keep the token's text.

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
}

/// Tells nothing.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// Lets a request in, or says why not.
pub(super) fn check(
    head: &Parts,
    token: Option<&Token>,
    listening: SocketAddr,
) -> Result<(), Status> {
    match token {
        Some(token) => check_token(&head.headers, token)?,
        None => check_host(head, listening)?,
    }
    check_origin(head)
}

fn check_token(headers: &HeaderMap, token: &Token) -> Result<(), Status> {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| Token::new(token.trim()));
    // Hashes are compared in constant time.
    match given {
        Some(given) if given.0 == token.0 => Ok(()),
        Some(_) | None => Err(Status::unauthorized()),
    }
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

    fn check(headers: &[(&str, &str)], token: Option<&str>) -> u16 {
        let mut request = Request::builder().uri("/version");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let listening = "127.0.0.1:7070".parse().unwrap();
        match super::check(&head, token.map(Token::new).as_ref(), listening) {
            Ok(()) => 200,
            Err(status) => status.code.as_u16(),
        }
    }

    #[test]
    fn without_a_token_only_this_computers_names_are_answered() {
        for host in ["localhost:7070", "127.0.0.1:7070", "[::1]:7070", "LOCALHOST", "127.0.0.2"] {
            assert_eq!(check(&[("host", host)], None), 200, "{host}");
        }
        for host in ["evil.example", "env.localhost:7070", "10.0.0.1:7070", "", "localhost.evil"] {
            assert_eq!(check(&[("host", host)], None), 403, "{host}");
        }
        assert_eq!(check(&[], None), 403);
        assert_eq!(check(&[("host", "localhost"), ("host", "localhost")], None), 403);
    }

    #[test]
    fn other_pages_are_refused_with_and_without_a_token() {
        let host = ("host", "localhost:7070");
        assert_eq!(check(&[host, ("origin", "http://localhost:7070")], None), 200);
        for origin in ["http://localhost:3000", "http://evil.example", "null", ""] {
            assert_eq!(check(&[host, ("origin", origin)], None), 403, "{origin}");
            let headers = [host, ("origin", origin), ("authorization", "Bearer t")];
            assert_eq!(check(&headers, Some("t")), 403, "{origin}");
        }
    }

    #[test]
    fn a_token_is_asked_for_where_there_is_one() {
        let host = ("host", "hangar.example");
        assert_eq!(check(&[host], Some("t")), 401);
        assert_eq!(check(&[host, ("authorization", "Bearer u")], Some("t")), 401);
        assert_eq!(check(&[host, ("authorization", "Basic t")], Some("t")), 401);
        assert_eq!(check(&[host, ("authorization", "bearer t")], Some("t")), 200);
    }
}
