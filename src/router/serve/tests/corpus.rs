//! Requests that two readers could read in two ways, and changes of them made by chance: none may reach an environment
//! other than the one that it names beyond doubt.

use std::{collections::BTreeMap, fmt::Write as _};

use super::*;

/// What must come of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// This code, and no environment.
    Refused(u16),
    /// The environment that it names.
    Alice,
}

use Due::{Alice, Refused};

/// What hyper lets through is the router's to refuse; what it refuses itself is here so that it stays so.
const CORPUS: &[(&str, &str, Due)] = &[
    // Which host?
    ("two hosts", "GET / HTTP/1.1\r\nHost: alice.x\r\nHost: bob.x\r\n\r\n", Refused(400)),
    (
        "the same host twice",
        "GET / HTTP/1.1\r\nHost: alice.x\r\nHost: alice.x\r\n\r\n",
        Refused(400),
    ),
    ("no host", "GET / HTTP/1.1\r\n\r\n", Refused(400)),
    ("no host, in 1.0", "GET / HTTP/1.0\r\n\r\n", Refused(400)),
    (
        "an address that disagrees",
        "GET http://bob.x/ HTTP/1.1\r\nHost: alice.x\r\n\r\n",
        Refused(400),
    ),
    ("an address and no host", "GET http://alice.x/ HTTP/1.1\r\n\r\n", Refused(400)),
    (
        "an address with a user",
        "GET http://alice.x@bob.x/ HTTP/1.1\r\nHost: alice.x\r\n\r\n",
        Refused(400),
    ),
    (
        "an address with a user, and its host",
        "GET http://alice.x@bob.x/ HTTP/1.1\r\nHost: bob.x\r\n\r\n",
        Refused(400),
    ),
    ("a host with a user", "GET / HTTP/1.1\r\nHost: alice.x@bob.x\r\n\r\n", Refused(400)),
    ("a list of hosts", "GET / HTTP/1.1\r\nHost: alice.x, bob.x\r\n\r\n", Refused(400)),
    ("a host with a path", "GET / HTTP/1.1\r\nHost: bob.x/alice.x\r\n\r\n", Refused(400)),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", Refused(400)),
    ("a letter of another script", "GET / HTTP/1.1\r\nHost: alіce.x\r\n\r\n", Refused(400)),
    ("the same in letters of ours", "GET / HTTP/1.1\r\nHost: xn--alce-8cf.x\r\n\r\n", Refused(400)),
    ("a tunnel", "CONNECT alice.x:443 HTTP/1.1\r\nHost: alice.x:443\r\n\r\n", Refused(400)),
    ("two ports", "GET / HTTP/1.1\r\nHost: alice.x:80:80\r\n\r\n", Refused(400)),
    ("a host with an escape", "GET / HTTP/1.1\r\nHost: alice%2ex\r\n\r\n", Refused(400)),
    ("another domain", "GET / HTTP/1.1\r\nHost: alice.y\r\n\r\n", Refused(421)),
    ("a label too many", "GET / HTTP/1.1\r\nHost: a.alice.x\r\n\r\n", Refused(421)),
    (
        "capitals, a dot at the end and a port",
        "GET / HTTP/1.1\r\nHost: ALICE.X.:8080\r\n\r\n",
        Alice,
    ),
    ("an address that agrees", "GET http://alice.x/ HTTP/1.1\r\nHost: alice.x\r\n\r\n", Alice),
    // Which lines?
    ("bare line feeds", "GET / HTTP/1.1\nHost: alice.x\n\n", Refused(400)),
    (
        "a bare line feed after the first line",
        "GET / HTTP/1.1\nHost: alice.x\r\n\r\n",
        Refused(400),
    ),
    ("a bare line feed at the end", "GET / HTTP/1.1\r\nHost: alice.x\r\n\n", Refused(400)),
    (
        "a host behind a bare line feed",
        "GET / HTTP/1.1\r\nA: b\nHost: alice.x\r\n\r\n",
        Refused(400),
    ),
    ("a folded line", "GET / HTTP/1.1\r\nHost: alice.x\r\n folded: yes\r\n\r\n", Refused(400)),
    ("a folded host", "GET / HTTP/1.1\r\nHost:\r\n alice.x\r\n\r\n", Refused(400)),
    ("a bare carriage return", "GET / HTTP/1.1\r\nHost: alice.x\rA: b\r\n\r\n", Refused(400)),
    ("NUL", "GET / HTTP/1.1\r\nHost: alice\0.x\r\n\r\n", Refused(400)),
    ("a space before the colon", "GET / HTTP/1.1\r\nHost : alice.x\r\n\r\n", Refused(400)),
    ("a path that climbs", "GET /../../ HTTP/1.1\r\nHost: alice.x\r\n\r\n", Alice),
    // How long?
    (
        "two lengths",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        Refused(400),
    ),
    (
        "a length with a sign",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: +1\r\n\r\na",
        Refused(400),
    ),
    (
        "a list of lengths",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: 1,1\r\n\r\na",
        Refused(400),
    ),
    (
        "an unknown coding",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a coding after chunks",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "chunks in 1.0",
        "POST / HTTP/1.0\r\nHost: alice.x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    (
        "a length and chunks",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Alice,
    ),
    (
        "a chunk of too many digits",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        Alice,
    ),
    (
        "a chunk with a broken extension",
        "POST / HTTP/1.1\r\nHost: alice.x\r\nTransfer-Encoding: chunked\r\n\r\n1;\n=\r\na\r\n0\r\n\r\n",
        Alice,
    ),
];

/// Those that are too long to be written down.
fn long() -> [(&'static str, String, Due); 3] {
    let with = |lines: &str| format!("GET / HTTP/1.1\r\nHost: alice.x\r\n{lines}\r\n");
    [
        ("a header of 500 kB", with(&format!("A: {}\r\n", "a".repeat(500_000))), Refused(431)),
        ("102 headers", with(&"A: b\r\n".repeat(102)), Refused(431)),
        (
            "an address of 70 kB",
            format!("GET /{} HTTP/1.1\r\nHost: alice.x\r\n\r\n", "a".repeat(70_000)),
            Refused(431),
        ),
    ]
}

/// The order for each environment; whatever reaches one carries all of it.
const ORDERS: [(&str, &str); 2] = [
    (
        "alice",
        "fly-replay: app=hgr-alice;instance=00000000000000;state=00000000000000000000000000000000;",
    ),
    (
        "bob",
        "fly-replay: app=hgr-bob;instance=00000000000001;state=01010101010101010101010101010101;",
    ),
];

/// The environments that an answer, or several, order replays to.
fn reached(answers: &str) -> Vec<&'static str> {
    answers
        .match_indices("fly-replay:")
        .map(|(at, _)| {
            let order = ORDERS.iter().find(|(_, order)| answers[at..].starts_with(order));
            order.unwrap_or_else(|| panic!("nobody's order: {answers}")).0
        })
        .collect()
}

#[tokio::test]
async fn the_corpus_of_ambiguous_requests_reaches_no_environment() {
    let harness = Harness::start().await;
    let long = long();
    let written = CORPUS.iter().map(|(name, request, due)| (*name, *request, *due));
    for (name, request, due) in written.chain(long.iter().map(|it| (it.0, it.1.as_str(), it.2))) {
        let answer = harness.send(request.as_bytes()).await;
        let environments = reached(&answer);
        match due {
            Refused(code) => assert_eq!((status(&answer), environments), (code, vec![]), "{name}"),
            Alice => assert_eq!((status(&answer), environments), (200, vec!["alice"]), "{name}"),
        }
    }
}

/// A second request on the connection is its own, however the first one ended.
#[tokio::test]
async fn no_request_hides_in_the_body_of_another() {
    let harness = Harness::start().await;
    let hidden = "GET /hidden HTTP/1.1\r\nHost: bob.x\r\nA: ";
    let framings = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nHost: bob.x\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1;\n=\r\na\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "Content-Length: 00\r\n\r\n",
        "Content-Length : 44\r\n\r\n",
        "Content-Length: 0\n\n",
        "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
    ];
    for framing in framings {
        // What a proxy would take for the start of its next request is the rest of the hidden one's header.
        let bytes = format!(
            "POST / HTTP/1.1\r\nHost: alice.x\r\n{framing}{hidden}GET / HTTP/1.1\r\nHost: alice.x\r\n\r\n"
        );
        let answers = harness.everything(bytes.as_bytes()).await;
        assert!(reached(&answers).iter().all(|it| *it == "alice"), "{framing:?}: {answers}");
    }
}

#[tokio::test]
async fn a_later_request_is_held_to_line_ends_too_and_a_body_is_not() {
    let harness = Harness::start().await;
    let body = "POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: 5\r\n\r\na\nb\n\n";
    let later = "GET / HTTP/1.1\nHost: alice.x\n\n";
    let mut stream = TcpStream::connect(harness.address).await.unwrap();
    for _ in 0..2 {
        stream.write_all(body.as_bytes()).await.unwrap();
        assert_eq!(reached(&answer(&mut stream).await), ["alice"]);
    }
    stream.write_all(later.as_bytes()).await.unwrap();
    assert_eq!(status(&answer(&mut stream).await), 400);
    // Where a body ends that is sent in chunks only hyper knows, so nothing may come after it.
    let chunks = "POST / HTTP/1.1\r\nHost: alice.x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n";
    let answers = harness.everything(format!("{chunks}{later}").as_bytes()).await;
    assert_eq!(reached(&answers), ["alice"]);
    assert!(answers.contains("connection: close"), "{answers}");
}

/// Numbers from a seed (splitmix64), the same on every computer.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ mixed >> 31) % end as u64).unwrap()
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// What a change puts in.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    "\x0b",
    "\u{a0}",
    ":",
    "@",
    ",",
    ";",
    "/",
    "%00",
    "bob.x",
    "alice.x",
    ".",
    "xn--",
    "Host: bob.x\r\n",
    "host:bob.x\r\n",
    "\nHost: bob.x\r\n",
    "Host: bob.x\n",
    "X-Forwarded-Host: bob.x\r\n",
    "Forwarded: host=bob.x\r\n",
    "http://bob.x",
    "//bob.x",
    "\\bob.x",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Upgrade: h2c\r\n",
    "0\r\n\r\n",
    "\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: bob.x\r\n\r\n",
    "fly-replay-src: instance=00000000000001\r\n",
    "fly-replay: app=hgr-bob\r\n",
];

/// Requests with nothing wrong, alone and one behind the other.
const PLAIN: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: alice.x\r\nAccept: */*\r\n\r\n",
    "GET http://alice.x/ HTTP/1.1\r\nHost: alice.x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: alice.x\r\nContent-Length: 11\r\n\r\nHost: bob.xGET / HTTP/1.1\r\nHost: alice.x\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: alice.x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: alice.x\r\n\r\nGET /b HTTP/1.1\r\nHost: bob.x\r\n\r\n",
];

/// A request changed one to three times: of the corpus, or a plain one.
fn changed(chance: &mut Chance) -> Vec<u8> {
    let plain = chance.below(3) > 0;
    let mut bytes = if plain { *chance.of(PLAIN) } else { chance.of(CORPUS).1 }.as_bytes().to_vec();
    for _ in 0..=chance.below(3) {
        let at = chance.below(bytes.len() + 1);
        let until = (at + 1 + chance.below(8)).min(bytes.len());
        match chance.below(8) {
            0 => bytes.splice(at..at, chance.of(PIECES).bytes()).for_each(drop),
            1 => bytes.splice(at..until, chance.of(PIECES).bytes()).for_each(drop),
            2 => drop(bytes.drain(at..until)),
            3 => bytes[at..until].reverse(),
            4 => {
                let line: Vec<_> = bytes[at..]
                    .split_inclusive(|it| *it == b'\n')
                    .next()
                    .unwrap_or_default()
                    .to_vec();
                bytes.splice(at..at, line).for_each(drop);
            }
            5 => bytes[at..until].iter_mut().for_each(|it| *it ^= 1 << chance.below(8)),
            6 => bytes
                .splice(at.., chance.of(CORPUS).1.bytes().skip(chance.below(30)))
                .for_each(drop),
            _ => {
                let text = String::from_utf8_lossy(&bytes).replacen("alice", "bob", 1);
                bytes = text.into_bytes();
            }
        }
    }
    bytes
}

/// The environment that each head in the bytes names, as a reader sees it that knows nothing of hyper: lines that end in
/// CR LF, one host among them, the address of the first line no other one.
fn named(bytes: &[u8]) -> Vec<Option<&'static str>> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let environment = |host: &str| {
        let name = host.split(':').next().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name).strip_suffix(".x")?;
        ORDERS.iter().map(|(it, _)| *it).find(|it| *it == name)
    };
    text.split("\r\n\r\n")
        .map(|head| {
            let mut lines = head.split("\r\n").skip_while(|it| it.is_empty());
            let first = lines.next().unwrap_or_default();
            let mut hosts = lines.filter_map(|it| it.strip_prefix("host:"));
            let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
            let found = environment(host.trim())?;
            let target = first.split(' ').nth(1).unwrap_or_default();
            let path = target.starts_with('/');
            let address = target.split_once("://").filter(|_| !path);
            let address = address.map(|(_, it)| it.split('/').next().unwrap());
            let agrees =
                address.is_none_or(|it| environment(it) == Some(found) && !it.contains('@'));
            agrees.then_some(found)
        })
        .collect()
}

/// Changes of the corpus; the seed of each is its number.
const CHANGES: u64 = 2_000;

#[tokio::test]
async fn of_requests_changed_by_chance_none_reaches_an_environment_that_it_does_not_name() {
    let harness = Harness::start().await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut crossed = String::new();
    for seed in 0..CHANGES {
        let bytes = changed(&mut Chance(seed));
        let answers = harness.everything(&bytes).await;
        let named = named(&bytes);
        // Answers come in the order of the requests, and not every request has one.
        let mut heads = named.iter();
        let all_named = |environment: &&str| heads.any(|it| *it == Some(environment));
        let environments = reached(&answers);
        if !environments.iter().all(all_named) {
            let shown = String::from_utf8_lossy(&bytes);
            writeln!(crossed, "seed {seed}: {shown:?} reached {environments:?}").unwrap();
        }
        let outcome = match (environments.len(), status(&answers)) {
            (0, 0) => "no answer".to_owned(),
            (0, code) => code.to_string(),
            (_, _) => "an environment that it names".to_owned(),
        };
        *counts.entry(outcome).or_default() += 1;
    }
    println!("of {CHANGES} changed requests: {counts:?}");
    assert_eq!(crossed, "");
    // It means nothing if nothing gets through.
    assert!(counts["an environment that it names"] > 20 && counts["400"] > 20, "{counts:?}");
}
