//! How the store looks on disk: pure translation between commits and rows of one ordered map. It must never do IO.
//!
//! | row | holds |
//! |---|---|
//! | `m/head` | format, the store's revision, the revision the log starts after, how many objects there are and the sum of their checksums, checksum |
//! | `o/<key>` | revision of the last write, length, checksum, value |
//! | `l/<revision, 16 hex digits>` | checksum, the commits of one group, named after its last revision |
//!
//! sled's own checksums tell a damaged page, not one that was lost with the end of its log. Here a row that is not what
//! was written, one that is missing and one that is too old are all found when the store is opened.
//!
//! A value longer than [`CHUNK_BYTES`] goes on in rows `<row>\0<u16>`. sled 0.34 keeps up to 17 rows in one page, and
//! moves a page over 128 KiB into a file of its own that it never syncs; with short rows no page gets there.

use std::mem;

use bytes::{Buf, BufMut, Bytes};

use crate::store::{
    Change, Key, Revision,
    state::{Commit, Draft, Held, Live, State, checksum},
};

/// The most that one row holds.
const CHUNK_BYTES: usize = 4 * 1024;

const HEAD: &[u8] = b"m/head";
const OBJECTS: &[u8] = b"o/";
const LOG: &[u8] = b"l/";
const FORMAT: u8 = 2;

const PUT: u8 = 0;
const DELETE: u8 = 1;

/// The log rows that are on disk, oldest first: last revision, bytes.
pub(super) type LogRows = std::collections::VecDeque<(Revision, usize)>;

/// Everything that was on disk.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) state: State,
    pub(super) log: LogRows,
    /// Whether there was nothing at all.
    pub(super) fresh: bool,
}

/// A row that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Damage {
    pub(super) row: String,
    pub(super) why: String,
}

impl Damage {
    fn new(row: &[u8], why: &str) -> Self {
        Self { row: row.escape_ascii().to_string(), why: why.to_owned() }
    }
}

/// Gives `row` the rows of a draft, for one atomic batch: name and bytes, or `None` for a row to remove. A later row of the
/// same name wins.
pub(super) fn encode(
    draft: &Draft,
    floor: Revision,
    log: &mut LogRows,
    row: &mut impl FnMut(&[u8], Option<&[u8]>),
) {
    let mut group = vec![0; CHECKSUM_BYTES];
    let mut name = Vec::new();
    let mut bytes = Vec::new();
    for commit in draft.commits() {
        group.put_u64(commit.first().map_or(0, |change| change.revision.0));
        group.put_u32(count(commit.len()));
        for change in commit.iter() {
            name.clear();
            name.put_slice(OBJECTS);
            name.put_slice(change.key.as_str().as_bytes());
            let before = change.before.as_ref().map_or(0, |it| OBJECT_HEAD_BYTES + it.len());
            if let Some(value) = &change.value {
                put_object(&mut bytes, &change.key, change.revision, value);
                write(row, &mut name, &bytes, before);
            } else {
                remove(row, &mut name, before);
            }
            logged(&mut group, change);
        }
    }
    let last = draft.revision();
    seal_log(&mut group, last);
    write(row, &mut log_row(last), &group, 0);
    log.push_back((last, group.len()));
    while let Some((last, bytes)) = log.front().copied()
        && last <= floor
    {
        log.pop_front();
        remove(row, &mut log_row(last), bytes);
    }
    row(HEAD, Some(&head(last, floor, draft.live())));
}

/// Gives `row` the rows of a store that begins with these objects, all of them written at this revision, and with no
/// history before it.
pub(super) fn encode_whole(
    objects: &[(Key, Bytes)],
    revision: Revision,
    row: &mut impl FnMut(&[u8], Option<&[u8]>),
) {
    let mut live = Live::default();
    let mut bytes = Vec::new();
    for (key, value) in objects {
        live.add(key, revision, value);
        put_object(&mut bytes, key, revision, value);
        let mut name = [OBJECTS, key.as_str().as_bytes()].concat();
        write(row, &mut name, &bytes, 0);
    }
    row(HEAD, Some(&head(revision, revision, live)));
}

const CHECKSUM_BYTES: usize = 4;

/// Revision, length and checksum stand before an object's value.
const OBJECT_HEAD_BYTES: usize = 12 + CHECKSUM_BYTES;

fn put_object(bytes: &mut Vec<u8>, key: &Key, revision: Revision, value: &[u8]) {
    bytes.clear();
    bytes.put_u64(revision.0);
    bytes.put_u32(count(value.len()));
    bytes.put_u32(checksum(key, revision, value));
    bytes.put_slice(value);
}

fn head(revision: Revision, floor: Revision, live: Live) -> Vec<u8> {
    let mut bytes = vec![FORMAT];
    for number in [revision.0, floor.0, live.count, live.sum] {
        bytes.put_u64(number);
    }
    bytes.put_u32(crc32fast::hash(&bytes));
    bytes
}

/// Writes the checksum in front of a log row, which says whose it is as well.
fn seal_log(group: &mut [u8], last: Revision) {
    if let Some((sealed, rest)) = group.split_first_chunk_mut() {
        *sealed = log_checksum(rest, last).to_be_bytes();
    }
}

fn log_checksum(commits: &[u8], last: Revision) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&last.0.to_be_bytes());
    hasher.update(commits);
    hasher.finalize()
}

fn logged(group: &mut Vec<u8>, change: &Change) {
    let key = change.key.as_str().as_bytes();
    group.put_u32(count(key.len()));
    group.put_slice(key);
    match (&change.value, &change.before) {
        (None, Some(before)) => {
            group.put_u8(DELETE);
            group.put_u32(count(before.len()));
            group.put_slice(before);
        }
        // A write needs no copy: the object itself is there, unless it was written again.
        _ => group.put_u8(PUT),
    }
}

fn log_row(revision: Revision) -> Vec<u8> {
    [LOG, format!("{:016x}", revision.0).as_bytes()].concat()
}

/// Everything that is counted is far below 2^32: keys, values and steps have limits.
fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn chunks(bytes: usize) -> usize {
    bytes.div_ceil(CHUNK_BYTES).max(1)
}

/// What stands after the name of a row in the name of its later chunks.
fn chunk_suffix(chunk: usize) -> [u8; 3] {
    let [high, low] = u16::try_from(chunk).unwrap_or(u16::MAX).to_be_bytes();
    [0, high, low]
}

/// Gives the chunk of a row, whose name is as before afterwards.
fn chunk_row(
    row: &mut impl FnMut(&[u8], Option<&[u8]>),
    name: &mut Vec<u8>,
    chunk: usize,
    bytes: Option<&[u8]>,
) {
    let len = name.len();
    if chunk > 0 {
        name.put_slice(&chunk_suffix(chunk));
    }
    row(name, bytes);
    name.truncate(len);
}

/// Writes a row that had `before` bytes, 0 when it was not there.
fn write(
    row: &mut impl FnMut(&[u8], Option<&[u8]>),
    name: &mut Vec<u8>,
    bytes: &[u8],
    before: usize,
) {
    for chunk in chunks(bytes.len())..chunks(before) {
        chunk_row(row, name, chunk, None);
    }
    for (chunk, part) in bytes.chunks(CHUNK_BYTES).enumerate() {
        chunk_row(row, name, chunk, Some(part));
    }
}

fn remove(row: &mut impl FnMut(&[u8], Option<&[u8]>), name: &mut Vec<u8>, before: usize) {
    for chunk in 0..chunks(before) {
        chunk_row(row, name, chunk, None);
    }
}

/// Reads rows back, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    head: Option<Head>,
    objects: Vec<(Key, Held)>,
    groups: Vec<(Revision, Vec<u8>)>,
    name: Vec<u8>,
    bytes: Vec<u8>,
    chunk: usize,
}

impl Decoder {
    /// Takes the next row.
    ///
    /// # Errors
    /// When a row cannot be what [`encode`] wrote.
    pub(super) fn push(&mut self, name: &[u8], bytes: &[u8]) -> Result<(), Damage> {
        let suffix = name.strip_prefix(self.name.as_slice());
        if suffix == Some(&chunk_suffix(self.chunk + 1)) && !self.name.is_empty() {
            self.chunk += 1;
            self.bytes.extend_from_slice(bytes);
            return Ok(());
        }
        self.take()?;
        self.name.extend_from_slice(name);
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Understands the row that is whole now.
    fn take(&mut self) -> Result<(), Damage> {
        let (name, bytes) = (mem::take(&mut self.name), mem::take(&mut self.bytes));
        self.chunk = 0;
        if name.is_empty() {
            return Ok(());
        }
        let damage = |why| Damage::new(&name, why);
        if name == HEAD {
            self.head = Some(read_head(&bytes).map_err(damage)?);
        } else if let Some(key) = name.strip_prefix(OBJECTS) {
            self.objects.push(read_object(key, &bytes).map_err(damage)?);
        } else if let Some(revision) = name.strip_prefix(LOG) {
            self.groups.push(read_log(revision, bytes).map_err(damage)?);
        } else {
            return Err(damage("nothing has such a name"));
        }
        Ok(())
    }

    /// The state of all rows together.
    ///
    /// # Errors
    /// When they do not fit each other.
    pub(super) fn finish(mut self) -> Result<Loaded, Damage> {
        self.take()?;
        let Some(head) = self.head else {
            if self.objects.is_empty() && self.groups.is_empty() {
                return Ok(Loaded { state: State::empty(), log: LogRows::new(), fresh: true });
            }
            return Err(Damage::new(HEAD, "it is missing, but there are other rows"));
        };
        let Head { revision, floor, live } = head;
        let entries = self.objects;
        if let Some((key, _)) = entries.iter().find(|(_, held)| held.revision > revision) {
            return Err(Damage::new(key.as_str().as_bytes(), "it is newer than the store"));
        }
        let mut log = LogRows::new();
        let mut commits = Vec::new();
        let mut told = None;
        for (last, group) in &self.groups {
            log.push_back((*last, group.len()));
            decode_group(group, &entries, floor, &mut told, &mut commits)
                .ok_or_else(|| Damage::new(&log_row(*last), "it does not follow the one before"))?;
        }
        // Without a gap from the floor on, or a watch would leave something out.
        if told.unwrap_or(floor) != revision {
            return Err(Damage::new(HEAD, "the history before it is not whole"));
        }
        let state = State::new(entries, revision, floor, commits);
        if state.live() != live {
            let why = format!(
                "there should be {} objects and there are {}, or some of them are too old",
                live.count,
                state.live().count
            );
            return Err(Damage::new(HEAD, &why));
        }
        Ok(Loaded { state, log, fresh: false })
    }
}

/// What is said once of the whole store.
#[derive(Debug)]
struct Head {
    revision: Revision,
    /// The revision the log starts after.
    floor: Revision,
    live: Live,
}

const TOO_SHORT: &str = "it is too short";
const CHANGED: &str = "it is not what was written: its checksum is wrong";

fn read_head(bytes: &[u8]) -> Result<Head, &'static str> {
    if bytes.first().is_some_and(|format| *format != FORMAT) {
        return Err("it was written by another version of hangar, or is damaged");
    }
    let (rest, sealed) = bytes.split_last_chunk().ok_or(TOO_SHORT)?;
    if crc32fast::hash(rest) != u32::from_be_bytes(*sealed) {
        return Err(CHANGED);
    }
    let mut rest = rest.get(1..).unwrap_or_default();
    let mut number = || rest.try_get_u64().map_err(|_short| TOO_SHORT);
    let (revision, floor) = (Revision(number()?), Revision(number()?));
    Ok(Head { revision, floor, live: Live { count: number()?, sum: number()? } })
}

fn read_object(key: &[u8], mut bytes: &[u8]) -> Result<(Key, Held), &'static str> {
    let key = std::str::from_utf8(key).map_err(|_not| "its name is not text")?;
    let key = Key::new(key);
    let revision = Revision(bytes.try_get_u64().map_err(|_short| TOO_SHORT)?);
    let len = bytes.try_get_u32().map_err(|_short| TOO_SHORT)?;
    let sealed = bytes.try_get_u32().map_err(|_short| TOO_SHORT)?;
    if count(bytes.len()) != len {
        return Err("its length is wrong");
    }
    if checksum(&key, revision, bytes) != sealed {
        return Err(CHANGED);
    }
    Ok((key, Held { value: Bytes::copy_from_slice(bytes), revision }))
}

fn read_log(name: &[u8], bytes: Vec<u8>) -> Result<(Revision, Vec<u8>), &'static str> {
    let revision = std::str::from_utf8(name)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .map(Revision)
        .ok_or("its name is not a revision")?;
    let (sealed, commits) = bytes.split_first_chunk().ok_or(TOO_SHORT)?;
    if log_checksum(commits, revision) != u32::from_be_bytes(*sealed) {
        return Err(CHANGED);
    }
    Ok((revision, bytes))
}

/// Adds the commits of a log row that can still be told; the entries are in key order. `told` is the last commit so far.
/// `None` when the row is cut short, or when a commit is missing before one of its own.
fn decode_group(
    group: &[u8],
    entries: &[(Key, Held)],
    floor: Revision,
    told: &mut Option<Revision>,
    commits: &mut Vec<Commit>,
) -> Option<()> {
    let mut group = group.get(CHECKSUM_BYTES..)?;
    while !group.is_empty() {
        let revision = Revision(group.try_get_u64().ok()?);
        let follows = match *told {
            Some(last) => revision.0 == last.0 + 1,
            // The oldest row may begin before the floor.
            None => revision.0 <= floor.0 + 1,
        };
        if !follows {
            return None;
        }
        *told = Some(revision);
        let mut changes = Vec::new();
        for _ in 0..group.try_get_u32().ok()? {
            let key = Key::new(std::str::from_utf8(counted(&mut group)?).ok()?);
            let change = if group.try_get_u8().ok()? == DELETE {
                let before = Bytes::copy_from_slice(counted(&mut group)?);
                Some(Change { key, value: None, before: Some(before), revision })
            } else {
                // Written again since: told at its own revision.
                let found = entries.binary_search_by(|(at, _)| at.cmp(&key)).ok();
                let held = found.and_then(|at| entries.get(at)).map(|(_, held)| held);
                held.filter(|held| held.revision == revision).map(|held| Change {
                    key,
                    value: Some(held.value.clone()),
                    before: None,
                    revision,
                })
            };
            changes.extend(change);
        }
        if revision > floor && !changes.is_empty() {
            commits.push(changes.into());
        }
    }
    Some(())
}

fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = rest.try_get_u32().ok()?;
    rest.split_off(..usize::try_from(len).ok()?)
}
