//! Lines that wait, are written, are lost and are counted, without a server.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{Arc, mpsc::Receiver},
    time::Duration,
};

use serde_json::Value;

use super::{
    Entry, cut,
    writer::{FILE_BYTES_MAX, Message, Output, Queue, SAID_EVERY, UNWRITTEN_MAX, Writer},
};
use crate::clock::Manual;

/// A writer that nothing drives but the test.
struct Desk {
    queue: Queue,
    messages: Receiver<Message>,
    writer: Writer,
    clock: Manual,
}

impl Desk {
    fn to(output: Output) -> Self {
        let (queue, messages) = Queue::new();
        let writer = Writer::new(output, &queue);
        let clock = Manual::at("2026-09-01T12:00:00Z".parse().unwrap());
        Self { queue, messages, writer, clock }
    }

    fn file(path: &Path) -> Self {
        Self::to(Output::file(path).unwrap())
    }

    fn write(&mut self, text: &str) {
        self.writer.write(text.as_bytes(), Duration::ZERO);
    }

    fn turn(&mut self) {
        self.writer.turn(&self.messages, &self.clock);
    }

    fn refuse(&self, times: usize) {
        for _ in 0..times {
            self.queue.refuse(Entry::default());
        }
    }
}

/// Numbered lines of 51 bytes.
fn numbered(numbers: std::ops::Range<u32>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("{number:050}\n"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn values(text: &str, key: &str) -> Vec<u64> {
    let lines = text.lines().filter_map(|it| serde_json::from_str::<Value>(it).ok());
    lines.filter_map(|it| it[key].as_u64()).collect()
}

#[test]
fn a_full_file_becomes_an_old_one_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut desk = Desk::file(&at("audit.log"));
    for line in numbered(0..2_800) {
        desk.write(&line);
    }
    assert!(read(&at("audit.log")).ends_with("2799\n"));
    let last = |name: &str| read(&at(name)).lines().last().unwrap().parse::<u32>().unwrap();
    let first = |name: &str| read(&at(name)).lines().next().unwrap().parse::<u32>().unwrap();
    for (old, new) in [("audit.log.1", "audit.log"), ("audit.log.4", "audit.log.3")] {
        assert_eq!(last(old) + 1, first(new));
        assert!(read(&at(old)).len() as u64 <= FILE_BYTES_MAX);
    }
    assert!(first("audit.log.4") > 0 && !at("audit.log.5").exists());
}

#[test]
fn a_device_is_never_renamed_and_of_a_link_only_the_file_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (link, behind) in [("null", Path::new("/dev/null")), ("link", &at("audit.log"))] {
        std::os::unix::fs::symlink(behind, at(link)).unwrap();
        let mut desk = Desk::file(&at(link));
        for line in numbered(0..700) {
            desk.write(&line);
        }
        assert!(at(link).is_symlink() && !at(&format!("{link}.1")).exists(), "{link}");
    }
    assert!(at("audit.log.1").exists());
}

#[test]
fn a_file_that_cannot_become_an_old_one_grows_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("audit.log.4").join("in the way")).unwrap();
    fs::write(at("audit.log.3"), "old\n").unwrap();
    let mut desk = Desk::file(&at("audit.log"));
    for line in numbered(0..700) {
        desk.write(&line);
    }
    assert_eq!(read(&at("audit.log")), numbered(0..700).collect::<String>());
    fs::remove_dir_all(at("audit.log.4")).unwrap();
    for line in numbered(700..1_400) {
        desk.write(&line);
    }
    assert!(at("audit.log.1").exists(), "it is tried again");
}

#[test]
fn what_the_disk_is_too_slow_for_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::to(Output::unrotated(File::create(dir.path().join("log")).unwrap()));
    for _ in 0..UNWRITTEN_MAX + 300 {
        desk.queue.add(&Entry::default());
    }
    desk.turn();
    let text = read(&dir.path().join("log"));
    assert_eq!(values(&text, "dropped"), [300]);
    for _ in 0..UNWRITTEN_MAX / 256 {
        desk.turn();
    }
    assert_eq!(values(&read(&dir.path().join("log")), "code").len(), UNWRITTEN_MAX);
}

#[test]
fn after_an_error_a_fresh_line_begins_and_those_that_are_lost_are_counted() {
    let (near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    far.set_nonblocking(true).unwrap();
    let mut desk = Desk::to(Output::unrotated(File::from(OwnedFd::from(near))));
    // More than fits: so the end of it cannot be written, nor anything after it.
    let lines: String = (0..100_000).map(|it| format!("{{\"number\":{it}}}\n")).collect();
    desk.write(&lines);
    desk.write("{\"number\":100000}\n");
    let mut text = String::new();
    while far.read_to_string(&mut text).is_err_and(|it| it.kind() != ErrorKind::WouldBlock) {}
    desk.write("{\"number\":100001}\n");
    while far.read_to_string(&mut text).is_err_and(|it| it.kind() != ErrorKind::WouldBlock) {}
    let numbers = values(&text, "number");
    let dropped = values(&text, "dropped");
    assert!(numbers.len() > 1 && dropped[0] > 1, "{} {dropped:?}", numbers.len());
    let torn = text.lines().filter(|it| serde_json::from_str::<Value>(it).is_err()).count();
    assert!(torn <= 1 && numbers.last() == Some(&100_001), "{torn}");
    assert_eq!(numbers.len() as u64 + dropped.iter().sum::<u64>(), 100_002);
}

#[test]
fn that_lines_cannot_be_written_is_said_once_a_minute() {
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let log = Arc::new(File::create(&said).unwrap());
    let subscriber = tracing_subscriber::fmt().with_writer(log).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        // A file that is open for reading only takes nothing.
        let mut desk = Desk::to(Output::unrotated(File::open(&said).unwrap()));
        for second in 0..SAID_EVERY.as_secs() * 2 {
            desk.writer.write(b"{}\n", Duration::from_secs(second));
        }
    });
    assert_eq!(read(&said).matches("cannot be written").count(), 2);
}

#[test]
fn all_who_are_not_let_in_share_a_line_a_minute_and_each_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::file(&dir.path().join("audit.log"));
    let told = |desk: &mut Desk| {
        desk.turn();
        values(&read(&dir.path().join("audit.log")), "refused")
    };
    desk.refuse(3);
    assert_eq!(told(&mut desk), [3]);
    desk.refuse(5_000);
    assert_eq!(told(&mut desk), [3]);
    desk.clock.advance(SAID_EVERY);
    desk.refuse(1);
    assert_eq!(told(&mut desk), [3, 5_001]);
    assert_eq!(told(&mut desk), [3, 5_001]);
}

#[test]
fn what_is_too_long_is_cut_between_characters_and_says_so() {
    let name = "é".repeat(200);
    assert_eq!(cut(&name), format!("{}…", "é".repeat(126)));
    assert_eq!(cut(&"a".repeat(253)), "a".repeat(253));
}
