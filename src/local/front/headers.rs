//! Headers that a proxy takes away and those that Fly Proxy adds. It must never decide where a request goes.

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER,
        TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

pub(super) const FLY_REPLAY: HeaderName = HeaderName::from_static("fly-replay");
pub(super) const FLY_REPLAY_SRC: HeaderName = HeaderName::from_static("fly-replay-src");
pub(super) const FLY_REPLAY_FAILED: HeaderName = HeaderName::from_static("fly-replay-failed");
pub(super) const PREFERRED_UNAVAILABLE: HeaderName =
    HeaderName::from_static("fly-preferred-instance-unavailable");
const FLY_REQUEST_ID: HeaderName = HeaderName::from_static("fly-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers that only the proxy may write. Whether Fly removes a client's own `fly-replay-src` and `fly-replay-failed` is
/// not documented; here they go, so that nothing that works locally trusts a client.
const OURS: [HeaderName; 4] =
    [FLY_REPLAY_SRC, FLY_REPLAY_FAILED, PREFERRED_UNAVAILABLE, FLY_REQUEST_ID];

/// Orders to the proxy, which end at it.
const ORDERS: [HeaderName; 4] = [
    FLY_REPLAY,
    HeaderName::from_static("fly-replay-cache"),
    HeaderName::from_static("fly-replay-cache-ttl-secs"),
    HeaderName::from_static("fly-replay-cache-allow-bypass"),
];

/// What is meant for the next hop only, beside what `Connection` lists.
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Where a request entered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) peer: SocketAddr,
    /// The port that the client connected to.
    pub(super) port: u16,
    pub(super) region: &'a str,
    pub(super) request_id: &'a str,
}

/// Makes a client's headers those that Fly Proxy sends on. Returns the protocol that the client wants to switch to.
pub(super) fn enter(headers: &mut HeaderMap, entry: Entry<'_>) -> Option<HeaderValue> {
    let upgrade = wanted_upgrade(headers);
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    strip_hop_by_hop(headers);
    // hyper has told the client to go on; the next hop must not wait for it again.
    headers.remove(EXPECT);
    for name in OURS {
        headers.remove(name);
    }
    let ip = entry.peer.ip().to_canonical().to_string();
    let forwarded = joined(headers, &FORWARDED_FOR, &ip);
    let port = entry.port.to_string();
    for (name, value) in [
        ("fly-client-ip", ip.as_str()),
        ("fly-forwarded-port", port.as_str()),
        ("fly-region", entry.region),
        ("fly-request-id", entry.request_id),
        ("x-forwarded-for", forwarded.as_str()),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", port.as_str()),
        ("x-forwarded-ssl", "off"),
    ] {
        set(headers, HeaderName::from_static(name), value);
    }
    headers.append(VIA, HeaderValue::from_static("1.1 fly.io"));
    if let Some(protocol) = &upgrade {
        keep_upgrade(headers, protocol);
    } else if chunked {
        // Otherwise hyper would leave out the body of a GET, whose length it does not know.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        headers.remove(CONTENT_LENGTH);
    }
    upgrade
}

/// Makes an answer's headers those that Fly Proxy sends back.
pub(super) fn leave(headers: &mut HeaderMap, status: StatusCode) {
    let upgrade = headers.get(UPGRADE).cloned();
    strip_hop_by_hop(headers);
    for name in ORDERS {
        headers.remove(name);
    }
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(protocol)) = (status, &upgrade) {
        keep_upgrade(headers, protocol);
    }
}

/// Puts the proxy's own mark on any answer.
pub(super) fn mark(headers: &mut HeaderMap, request_id: &str) {
    set(headers, FLY_REQUEST_ID, request_id);
    headers.insert(SERVER, HeaderValue::from_static("Fly/local"));
    headers.append(VIA, HeaderValue::from_static("1.1 fly.io"));
}

/// Replaces a header by text of ours; text that is no header value is left out.
pub(super) fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    match HeaderValue::from_str(text) {
        Ok(value) => {
            headers.insert(name, value);
        }
        Err(_) => {
            headers.remove(name);
        }
    }
}

fn keep_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// The protocol, if the client asks for one. Never `h2c`: it would carry requests past the router.
fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = listed(headers).any(|name| name.eq_ignore_ascii_case("upgrade"));
    let protocol = headers.get(UPGRADE)?;
    let text = protocol.to_str().ok()?;
    let h2c = text.split(',').any(|one| one.trim().to_ascii_lowercase().starts_with("h2"));
    (asked && !h2c).then(|| protocol.clone())
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = listed(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named.into_iter().filter(|name| *name != HOST).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What the `Connection` headers list.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn joined(headers: &HeaderMap, name: &HeaderName, last: &str) -> String {
    let mut all: Vec<&str> =
        headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    all.push(last);
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
    }

    fn entered(list: &[(&'static str, &'static str)]) -> (HeaderMap, Option<HeaderValue>) {
        let mut headers = headers(list);
        let peer = "[::ffff:10.0.0.9]:4444".parse().unwrap();
        let entry = Entry { peer, port: 8080, region: "local", request_id: "id" };
        let upgrade = enter(&mut headers, entry);
        (headers, upgrade)
    }

    #[test]
    fn the_proxy_says_who_the_client_is_and_nobody_else() {
        let (headers, _) = entered(&[
            ("fly-client-ip", "1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("fly-replay-src", "instance=m;state=forged"),
            ("fly-replay-failed", "reason=timeout"),
            ("fly-preferred-instance-unavailable", "m"),
        ]);
        assert_eq!(headers["fly-client-ip"], "10.0.0.9");
        assert_eq!(headers["x-forwarded-for"], "1.2.3.4, 10.0.0.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["fly-forwarded-port"], "8080");
        assert_eq!(headers["via"], "1.1 fly.io");
        for gone in OURS.into_iter().filter(|name| *name != FLY_REQUEST_ID) {
            assert!(!headers.contains_key(&gone), "{gone}");
        }
    }

    #[test]
    fn what_connection_lists_ends_here_but_not_our_own_words() {
        let (headers, _) = entered(&[
            ("connection", "close, X-Secret ,fly-client-ip, host"),
            ("x-secret", "1"),
            ("host", "a.example.com"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "basic x"),
        ]);
        for gone in ["connection", "x-secret", "keep-alive", "proxy-authorization"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["fly-client-ip"], "10.0.0.9");
        assert_eq!(headers["host"], "a.example.com");
    }

    #[test]
    fn an_upgrade_is_kept_unless_it_would_hide_requests() {
        let (headers, upgrade) =
            entered(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(upgrade.unwrap(), "websocket");
        assert_eq!(headers["connection"], "upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        let (headers, upgrade) = entered(&[("connection", "upgrade"), ("upgrade", "h2c")]);
        assert_eq!(upgrade, None);
        assert!(!headers.contains_key("upgrade"));
        let (_, upgrade) = entered(&[("upgrade", "websocket")]);
        assert_eq!(upgrade, None);
    }

    #[test]
    fn orders_to_the_proxy_end_at_it() {
        let mut answer =
            headers(&[("fly-replay", "app=x"), ("fly-replay-cache", "/*"), ("x-own", "1")]);
        leave(&mut answer, StatusCode::OK);
        assert_eq!(answer.len(), 1);
        mark(&mut answer, "id");
        assert_eq!(answer["fly-request-id"], "id");
    }
}
