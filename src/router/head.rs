//! What a request asks for: exactly one host, by a strict grammar, and whether it was replayed before. It must never guess:
//! whatever two parsers could read in two ways is refused.

use http::{HeaderName, Method, header, request::Parts};

use crate::router::{packed::Label, table::Machine};

const FLY_REPLAY_SRC: HeaderName = HeaderName::from_static("fly-replay-src");
const FLY_REPLAY_FAILED: HeaderName = HeaderName::from_static("fly-replay-failed");

/// The router's own place: the domain it answers for and, on Fly, its machine.
#[derive(Debug, Clone)]
pub struct Place {
    domain: Box<[u8]>,
    machine: Option<Machine>,
}

/// A domain that the router cannot answer for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a domain: write it as dev.example.com, in lower case and without a dot at its end"
)]
pub struct DomainError(String);

impl Place {
    /// A place under a domain; `machine` is the router's own machine id (`FLY_MACHINE_ID`) where there is one.
    ///
    /// # Errors
    /// If the domain is not one.
    pub fn new(domain: &str, machine: Option<&str>) -> Result<Self, DomainError> {
        let lower = !domain.bytes().any(|byte| byte.is_ascii_uppercase());
        if !lower || domain.len() > 200 || !is_name(domain.as_bytes()) {
            return Err(DomainError(domain.to_owned()));
        }
        let machine = machine.and_then(|id| Machine::parse(id.as_bytes()));
        Ok(Self { domain: domain.as_bytes().into(), machine })
    }

    /// The domain.
    #[must_use]
    pub fn domain(&self) -> &str {
        std::str::from_utf8(&self.domain).unwrap_or_default()
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The label under the domain; `None` for the domain itself.
    pub label: Option<Label>,
    /// Whether a replay of it failed and it came back.
    pub failed: bool,
    /// Whether it was replayed, and by whom.
    pub replayed: Replayed,
}

/// Who replayed a request to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    /// Nobody.
    No,
    /// This router.
    BySelf,
    /// This machine.
    By(Machine),
    /// Nobody that can be told.
    Unclear,
}

/// Why a request's host is not answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// None, more than one, or not a host.
    Bad,
    /// A host under another domain.
    Misdirected,
}

/// What the host names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host {
    Domain,
    Label(Label),
}

impl Head {
    /// Reads the head of a request.
    ///
    /// # Errors
    /// When it is not plain which host is meant, or the host is not under the domain.
    pub fn read(parts: &Parts, place: &Place) -> Result<Self, Refused> {
        if parts.method == Method::CONNECT {
            return Err(Refused::Bad);
        }
        let mut hosts = parts.headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Refused::Bad);
        };
        let host = host.as_bytes();
        if let Some(authority) = parts.uri.authority()
            && !authority.as_str().as_bytes().eq_ignore_ascii_case(host)
        {
            return Err(Refused::Bad);
        }
        let label = match read_host(host, &place.domain)? {
            Host::Domain => None,
            Host::Label(label) => Some(label),
        };
        let failed = parts.headers.contains_key(FLY_REPLAY_FAILED);
        let mut sources = parts.headers.get_all(FLY_REPLAY_SRC).iter();
        let replayed = match (sources.next(), sources.next()) {
            (None, _) => Replayed::No,
            (Some(source), None) => replayed_by(source.as_bytes(), place),
            (Some(_), Some(_)) => Replayed::Unclear,
        };
        Ok(Self { label, failed, replayed })
    }
}

/// `name[.][:port]`, where the name is the domain or one label under it.
fn read_host(host: &[u8], domain: &[u8]) -> Result<Host, Refused> {
    let name = match host.iter().position(|&byte| byte == b':') {
        Some(colon) if is_port(&host[colon + 1..]) => &host[..colon],
        Some(_) => return Err(Refused::Bad),
        None => host,
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    let split = name.len().saturating_sub(domain.len());
    let (before, end) = name.split_at(split);
    if !end.eq_ignore_ascii_case(domain) {
        return Err(if is_name(name) { Refused::Misdirected } else { Refused::Bad });
    }
    match before {
        [] => Ok(Host::Domain),
        [label @ .., b'.'] => match Label::of_host(label) {
            Some(label) => Ok(Host::Label(label)),
            None if label.contains(&b'.') && is_name(name) => Err(Refused::Misdirected),
            None => Err(Refused::Bad),
        },
        _ if is_name(name) => Err(Refused::Misdirected),
        _ => Err(Refused::Bad),
    }
}

fn is_port(text: &[u8]) -> bool {
    (1..=5).contains(&text.len())
        && text.iter().all(u8::is_ascii_digit)
        && text.iter().fold(0_u32, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65_535
}

/// A DNS name of letters, digits and dashes.
fn is_name(name: &[u8]) -> bool {
    name.len() <= 253
        && name.split(|&byte| byte == b'.').all(|label| {
            (1..=63).contains(&label.len())
                && label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
                && label.first() != Some(&b'-')
                && label.last() != Some(&b'-')
        })
}

/// Reads `instance=…;region=…;t=…;state=…`.
fn replayed_by(source: &[u8], place: &Place) -> Replayed {
    let mut instances = source
        .split(|&byte| byte == b';')
        .filter_map(|field| field.trim_ascii().strip_prefix(b"instance="));
    let (Some(id), None) = (instances.next(), instances.next()) else {
        return Replayed::Unclear;
    };
    match Machine::parse(id) {
        Some(machine) if place.machine == Some(machine) => Replayed::BySelf,
        Some(machine) => Replayed::By(machine),
        None => Replayed::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const DOMAIN: &str = "dev.example.com";

    fn read(uri: &str, headers: &[(&str, &[u8])]) -> Result<Head, Refused> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let place = Place::new(DOMAIN, Some("0123456789abcd")).unwrap();
        Head::read(&request.body(()).unwrap().into_parts().0, &place)
    }

    fn host(host: &[u8]) -> Result<Option<String>, Refused> {
        read("/", &[("host", host)]).map(|head| head.label.map(|label| label.to_string()))
    }

    #[test]
    fn one_host_under_the_domain_is_its_label() {
        for same in [
            "alice.dev.example.com",
            "ALICE.Dev.Example.COM",
            "alice.dev.example.com.",
            "alice.dev.example.com:443",
            "alice.dev.example.com.:8080",
        ] {
            assert_eq!(host(same.as_bytes()), Ok(Some("alice".to_owned())), "{same}");
        }
        assert_eq!(host(b"dev.example.com"), Ok(None));
    }

    #[test]
    fn a_host_of_another_domain_is_misdirected() {
        for other in [
            "alice.example.com",
            "evil.com",
            "10.0.0.1:8080",
            "a.b.dev.example.com",
            "xdev.example.com",
            "com",
            "alice.dev.example.com.evil.com",
        ] {
            assert_eq!(host(other.as_bytes()), Err(Refused::Misdirected), "{other}");
        }
    }

    #[test]
    fn a_host_that_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "",
            ".",
            ":80",
            "alice.dev.example.com:",
            "alice.dev.example.com:x",
            "alice.dev.example.com:65536",
            "alice.dev.example.com:1:2",
            "alice.dev.example.com..",
            ".dev.example.com",
            "a@alice.dev.example.com",
            "alice.dev.example.com@evil.com",
            "alice.dev.example.com, bob.dev.example.com",
            "bob.dev.example.com/alice.dev.example.com",
            "alice .dev.example.com",
            "xn--a.dev.example.com",
            "-a.dev.example.com",
            "a-.dev.example.com",
            "a_b.dev.example.com",
            "alіce.dev.example.com",
            "[::1]",
            "alice.dev.example.com\\",
            "*.dev.example.com",
            "alice%2edev.example.com",
        ] {
            assert_eq!(host(bad.as_bytes()), Err(Refused::Bad), "{bad}");
        }
        let long = format!("{}.{DOMAIN}", "a".repeat(41));
        assert_eq!(host(long.as_bytes()), Err(Refused::Bad));
    }

    #[test]
    fn the_host_must_equal_the_authority_of_an_absolute_uri() {
        let alice: &[(&str, &[u8])] = &[("host", b"alice.dev.example.com")];
        assert!(read("http://ALICE.dev.example.com/", alice).is_ok());
        assert_eq!(read("http://bob.dev.example.com/", alice), Err(Refused::Bad));
        assert_eq!(read("http://x@alice.dev.example.com/", alice), Err(Refused::Bad));
        assert_eq!(read("http://alice.dev.example.com/", &[]), Err(Refused::Bad));
        assert_eq!(read("/", &[alice[0], alice[0]]), Err(Refused::Bad));
    }

    #[test]
    fn a_replay_names_who_made_it() {
        let by = |source: &[u8]| {
            read("/", &[("host", b"a.dev.example.com"), ("fly-replay-src", source)])
                .unwrap()
                .replayed
        };
        assert_eq!(by(b"instance=0123456789abcd;region=ams;t=1;state=x"), Replayed::BySelf);
        let other = Machine::parse(b"3d8d9930c4e1b8").unwrap();
        assert_eq!(by(b"region=ams; instance=3d8d9930c4e1b8"), Replayed::By(other));
        assert_eq!(by(b"nonsense"), Replayed::Unclear);
        assert_eq!(by(b"instance=3d8d9930c4e1b8;instance=0123456789abcd"), Replayed::Unclear);
    }

    #[test]
    fn only_a_domain_is_a_domain() {
        for bad in ["", "Dev.example.com", "dev.example.com.", "dev..com", "http://x", "a b"] {
            assert!(Place::new(bad, None).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_a_label_is_what_stands_there(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut whole = bytes.clone();
            whole.extend_from_slice(b".dev.example.com");
            if let Ok(Host::Label(label)) = read_host(&whole, DOMAIN.as_bytes()) {
                prop_assert_eq!(label.to_string().into_bytes(), bytes.to_ascii_lowercase());
            }
        }
    }
}
