//! What comes from outside: changes by chance of the fuzzer's seeds, held to the fuzzer's own properties. The same numbers
//! come every time; `PROPTEST_RNG_SEED` and `PROPTEST_CASES` give others, and more.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken property fails the test")]
#![expect(clippy::print_stdout, reason = "whoever looks at a failure wants the seed")]

mod fly;
mod host;
mod manifest;
mod replay;

use std::{env, fmt, fs, path::Path};

use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{RngSeed, TestRunner},
};

/// Shown as it would be written.
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// One change of an input: where, how far, and what is put there.
#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, Vec<u8>),
    Replace(Index, usize, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    Flip(Index, u8),
    /// The rest is another seed's, from there on.
    Splice(Index, Vec<u8>, Index),
}

fn edit(seeds: &[Vec<u8>], pieces: &[&str]) -> impl Strategy<Value = Edit> + use<> {
    let words: Vec<Vec<u8>> = pieces.iter().map(|it| it.as_bytes().to_vec()).collect();
    let piece = prop_oneof![3 => select(words), 1 => proptest::collection::vec(any::<u8>(), 0..6)];
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), piece.clone()).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        3 => (at(), 1..12_usize, piece).prop_map(|(at, length, piece)| Edit::Replace(at, length, piece)),
        2 => (at(), 1..20_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => (at(), 1..40_usize, 2..5_usize).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        1 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => (at(), select(seeds.to_vec()), at()).prop_map(|(at, seed, from)| Edit::Splice(at, seed, from)),
    ]
}

impl Edit {
    fn make(&self, bytes: &mut Vec<u8>) {
        let place = |at: &Index| at.index(bytes.len() + 1);
        let end = |from: usize, length: usize| (from + length).min(bytes.len());
        match self {
            Self::Insert(at, piece) => {
                let at = place(at);
                bytes.splice(at..at, piece.iter().copied()).for_each(drop);
            }
            Self::Replace(at, length, piece) => {
                let range = place(at)..end(place(at), *length);
                bytes.splice(range, piece.iter().copied()).for_each(drop);
            }
            Self::Remove(at, length) => drop(bytes.drain(place(at)..end(place(at), *length))),
            Self::Repeat(at, length, times) => {
                let range = place(at)..end(place(at), *length);
                let more = bytes[range.clone()].repeat(*times);
                bytes.splice(range.end..range.end, more).for_each(drop);
            }
            Self::Flip(at, bit) => {
                let at = place(at);
                bytes[at..].iter_mut().take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            Self::Splice(at, seed, from) => {
                bytes.truncate(place(at));
                bytes.extend_from_slice(&seed[from.index(seed.len() + 1)..]);
            }
        }
    }
}

/// Checks every seed as it is, and then changes of them.
#[track_caller]
fn holds(target: &str, check: fn(&[u8]), pieces: &[&str]) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut files: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<_> = files.iter().map(|it| fs::read(it).unwrap()).collect();
    seeds.iter().for_each(|it| check(it));
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2_000;
    }
    if config.rng_seed == RngSeed::Random && env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(1);
    }
    let (seed, cases) = (config.rng_seed, config.cases);
    println!("{target}: PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases}");
    let edits = proptest::collection::vec(edit(&seeds, pieces), 1..6);
    let input = (select(seeds), edits).prop_map(|(mut bytes, edits)| {
        edits.iter().for_each(|edit| edit.make(&mut bytes));
        Input(bytes)
    });
    let outcome = TestRunner::new(config).run(&input, |input| {
        check(&input.0);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases}: {error}");
    }
}

#[test]
fn of_manifests_only_what_is_sound_is_admitted() {
    let pieces = [
        "\n",
        ": ",
        "- ",
        "---\n",
        "...\n",
        "? ",
        "&a ",
        "*a",
        "<<: *a\n",
        "!!str ",
        "!t ",
        "~",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "#",
        "\t",
        "\r\n",
        "\u{feff}",
        "\u{2028}",
        "\u{85}",
        "\u{7f}",
        "\\x07",
        "\\u0000",
        "null",
        "true",
        "0x1F",
        "1e400",
        ".nan",
        "123456789012345678901234567890",
        "kind: List\nitems:\n",
        "kind",
        "name",
        "metadata: {}\n",
        "env: {A: 1}\n",
        "$serde_json::private::RawValue",
        "%YAML 1.1\n",
        ",",
        "  ",
        "Environment",
    ];
    holds("manifest", manifest::check, &pieces);
}

#[test]
fn of_hosts_only_the_one_that_is_named_is_reached() {
    let pieces = [
        "\n",
        ".",
        ":",
        "@",
        ",",
        "/",
        "//",
        "http://",
        "https://",
        "alice",
        "bob",
        "bob.dev.example.com",
        ".dev.example.com",
        "dev.example.com",
        "\nbob.dev.example.com",
        "xn--",
        "--",
        "-",
        "%2e",
        ":443",
        ":0080",
        "\u{456}",
        "\n>instance=",
        "\n!",
        ";instance=",
        "0123456789abcd",
        "00000000000001",
        " ",
        "A",
        "*",
        "[::1]",
    ];
    holds("host", host::check, &pieces);
}

#[test]
fn of_flys_answers_none_breaks_anything_or_shows_a_secret() {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "\"id\":\"a\"",
        "\"app_name\":\"b\"",
        "\"error\":",
        "\"message\":",
        "\"status\":",
        "\"machines\":[]",
        "\"timeout\":",
        "\"10000000000s10000000000s\"",
        "18446744073709551615",
        "-1",
        "1e300",
        "\\u0000",
        "\\ud800",
        "fm2_",
        "\u{1b}[2J",
        "\n",
        "true",
        "\"data\":{}",
        "machine ID ",
        "expires at ",
        "currently ",
        "µs",
    ];
    holds("fly", fly::check, &pieces);
}

#[test]
fn of_replays_each_has_exactly_the_fields_that_are_meant() {
    let pieces = [
        ";",
        "=",
        "\"",
        ",",
        " ",
        "app=",
        "instance=",
        "prefer_instance=",
        "region=",
        "state=",
        "elsewhere=true",
        "timeout=1s",
        "fallback=prefer_self",
        "\r\n",
        "\0",
        "é",
        "{",
        "}",
        "\"app\":\"a\"",
        "\"state\":\"b\"",
        "\"transform\":{}",
        "\"set_headers\":[]",
        "\"delete_headers\":[\"host\"]",
        "hgr-a",
        "3d8d9930c4e1b8",
        "0",
        "18446744073709551615m",
    ];
    holds("replay", replay::check, &pieces);
}
