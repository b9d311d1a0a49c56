//! Heads of requests to the router: from bytes to the one environment that they name.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use bytes::Bytes;
use hangar::{
    api::name,
    clock::System,
    router::{
        activity::Seen,
        decide::{Decision, decide},
        feed::{Fed, Feed, Part},
        head::{Head, Place, Refused, Replayed},
        packed::Label,
        table::Table,
    },
};
use http::{HeaderValue, Request, Uri};

const DOMAIN: &str = "dev.example.com";
const ROUTER: &str = "0123456789abcd";
/// Hosts with an environment, and its app and machine.
const HOSTS: [(&str, &str, &str); 2] =
    [("alice", "hgr-alice", "00000000000001"), ("bob", "hgr-bob", "00000000000002")];

static TABLE: LazyLock<Arc<Table>> = LazyLock::new(table);

/// A router's table with two environments, fed as the store feeds it.
fn table() -> Arc<Table> {
    let mut feed = Feed::new(Arc::new(Seen::new(System::shared())));
    let object = |part, text: String| Fed::Apply(part, Bytes::from(text));
    let mut fed = Vec::new();
    for part in [Part::Hostnames, Part::Environments, Part::Secrets] {
        fed.push(Fed::Init(part));
        for (number, (name, app, machine)) in (1..).zip(HOSTS) {
            let uid = format!("00000000-0000-4000-8000-{number:012}");
            let key = base64::engine::general_purpose::STANDARD.encode([number; 16]);
            fed.push(object(part, match part {
                Part::Hostnames => format!(
                    r#"{{"metadata":{{"name":"{name}"}},"spec":{{"namespace":"default","environment":"{name}","uid":"{uid}"}},"status":{{}}}}"#
                ),
                Part::Environments => format!(
                    r#"{{"apiVersion":"hangar.dev/v1alpha1","kind":"Environment","metadata":{{"name":"{name}","namespace":"default","uid":"{uid}","resourceVersion":"1","generation":1}},"spec":{{"templateRef":{{"name":"node"}},"hostnames":["{name}"],"access":"Public","operatingMode":"Auto"}},"status":{{"phase":"Ready","conditions":[{{"type":"Routed","status":"True","reason":"AsDeclared"}}],"bay":{{"name":"bay-{name}","app":"{app}","machine":"{machine}","epoch":1}}}}}}"#
                ),
                Part::Secrets => format!(
                    r#"{{"metadata":{{"name":"bay-{name}","namespace":"default"}},"type":"hangar.dev/bay-key","data":{{"key":"{key}"}}}}"#
                ),
            }));
        }
        fed.push(Fed::InitDone(part));
    }
    fed.iter().for_each(|it| feed.take(it));
    feed.table()
}

/// Reads the bytes as a head: lines, of which the first is the address, one that begins with `>` is a `fly-replay-src`, one
/// with `!` a `fly-replay-failed`, and each other a `Host`.
///
/// # Panics
/// If a property does not hold.
pub(crate) fn check(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let uri = lines.next().unwrap_or_default();
    let Ok(uri) = Uri::try_from(uri) else { return };
    let mut request = Request::new(());
    *request.uri_mut() = uri.clone();
    let mut hosts = Vec::new();
    let mut sources = Vec::new();
    for line in lines {
        let (name, value) = match line {
            [b'>', rest @ ..] => ("fly-replay-src", rest),
            [b'!', rest @ ..] => ("fly-replay-failed", rest),
            host => ("host", host),
        };
        let Ok(header) = HeaderValue::from_bytes(value) else { return };
        request.headers_mut().append(name, header);
        match name {
            "host" => hosts.push(value),
            "fly-replay-src" => sources.push(value),
            _ => {}
        }
    }
    let failed = request.headers().contains_key("fly-replay-failed");
    let place = Place::new(DOMAIN, Some(ROUTER)).expect("a domain");
    let read = Head::read(&request.into_parts().0, &place);
    let meant = meant(&uri, &hosts);
    let Ok(head) = read else {
        assert!(meant.is_none(), "{meant:?} is refused: {read:?}");
        // What names a host of ours in any way is never somebody else's.
        let ours = hosts.iter().all(|it| it.ends_with(b".dev.example.com"));
        let one_label =
            ours && hosts.iter().all(|it| it.iter().filter(|c| **c == b'.').count() == 3);
        assert!(!(one_label && read == Err(Refused::Misdirected)), "ours, and misdirected");
        return;
    };
    let label = head.label.map(|label| label.to_string());
    assert_eq!(
        Some(label.clone().unwrap_or_default()),
        meant,
        "another host than the one that stands there"
    );
    assert_eq!(head.failed, failed);
    replayed(head.replayed, &sources);
    decided(&head, label.as_deref());
    named(hosts[0]);
}

/// The label (empty for the domain itself) of the one host, read as plainly as can be; nothing if there is a doubt.
fn meant(uri: &Uri, hosts: &[&[u8]]) -> Option<String> {
    let [host] = hosts else { return None };
    let host = std::str::from_utf8(host).ok()?.to_ascii_lowercase();
    if let Some(authority) = uri.authority()
        && authority.as_str().to_ascii_lowercase() != host
    {
        return None;
    }
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host.as_str(), None),
    };
    let digits = |it: &str| (1..=5).contains(&it.len()) && it.bytes().all(|c| c.is_ascii_digit());
    if port.is_some_and(|it| !digits(it) || it.parse::<u32>().is_ok_and(|it| it > 65_535)) {
        return None;
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name == DOMAIN {
        return Some(String::new());
    }
    let label = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    let plain = label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    let shaped =
        (1..=40).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-');
    (plain && shaped && label.get(2..4) != Some("--")).then(|| label.to_owned())
}

/// Only a request that names one machine was replayed by that one.
fn replayed(read: Replayed, sources: &[&[u8]]) {
    let one = match sources {
        [] => return assert_eq!(read, Replayed::No),
        [one] => String::from_utf8_lossy(one),
        _ => return assert_eq!(read, Replayed::Unclear),
    };
    let instances: Vec<_> =
        one.split(';').filter_map(|it| it.trim_ascii().strip_prefix("instance=")).collect();
    match read {
        Replayed::BySelf => assert_eq!(instances, [ROUTER]),
        Replayed::By(machine) => assert_eq!(instances, [machine.to_string().as_str()]),
        Replayed::Unclear => assert!(
            instances.len() != 1
                || instances[0].len() != ROUTER.len()
                || instances[0].bytes().any(|c| !c.is_ascii_digit() && !(b'a'..=b'f').contains(&c))
        ),
        Replayed::No => panic!("it has a source"),
    }
}

/// Only the environment of the label is ever replayed to.
fn decided(head: &Head, label: Option<&str>) {
    let found = HOSTS.iter().find(|(name, _, _)| Some(*name) == label);
    match (decide(head, &TABLE), found) {
        (Decision::Replay(route) | Decision::Failed(route), Some((_, app, machine))) => {
            assert_eq!(route.app().text().as_str(), *app);
            assert_eq!(route.machine().to_string(), *machine);
        }
        (Decision::Loop, Some(_)) => assert_ne!(head.replayed, Replayed::No),
        (Decision::Unknown, None) => {}
        (other, found) => panic!("{other:?} for {label:?}, which has {found:?}"),
    }
}

/// What admission takes for a hostname the router finds under that very name.
fn named(host: &[u8]) {
    let text = String::from_utf8_lossy(host);
    for part in text.split(['.', ':', '-']).chain([text.as_ref()]) {
        if name::hostname(part).is_ok() {
            let label = Label::of_name(part).expect("a hostname is a label");
            assert_eq!(label.to_string(), part);
            assert_eq!(Label::of_host(part.to_ascii_uppercase().as_bytes()), Some(label));
        }
    }
}
