//! How an export of a store looks: lines of JSON, for people and `jq` too. Pure translation; it must never open a sealed
//! value, nor know what a key stands for.
//!
//! The first line is an `About`, the last one an `End`; between them is a line for each entry, in key order: `key`, its
//! `revision`, and its value as `json` where it is JSON, otherwise as `base64`. Sealed values are exported as they are
//! stored, so it takes the secret key of the store to use them.

use std::io::{self, BufRead, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock::Timestamp;
use crate::store::{Entry, Key, Revision};

const FORMAT: u32 = 1;

/// What an export is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The format's version.
    #[serde(rename = "hangarStoreExport")]
    format: u32,
    /// The revision of the store.
    revision: u64,
    /// When it was made.
    pub at: Timestamp,
}

impl About {
    /// An export of this revision.
    #[must_use]
    pub fn new(revision: Revision, at: Timestamp) -> Self {
        Self { format: FORMAT, revision: revision.0, at }
    }

    /// The revision of the store.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision(self.revision)
    }
}

/// What an export ends with, so that one that is cut or changed is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    entries: u64,
    /// Of everything before this line.
    blake3: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row<'a> {
    #[serde(borrow)]
    key: std::borrow::Cow<'a, str>,
    revision: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    json: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// A whole export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// What it is of.
    pub about: About,
    /// Every entry, in key order.
    pub entries: Vec<Entry>,
}

/// What is wrong with an export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("the export cannot be read")]
    Io(#[source] io::Error),
    /// It does not begin as an export does.
    #[error("it is not an export of a store")]
    Foreign,
    /// Its format is another one.
    #[error("it has format {0}, and this version of hangar reads format {FORMAT}")]
    Format(u32),
    /// A line is not what it should be.
    #[error("line {0} is not an entry")]
    Line(u64),
    /// It has no last line: whatever wrote it did not finish.
    #[error("it is cut short")]
    Short,
    /// Its checksum, or its count, is another one.
    #[error("it was changed or damaged: its checksum is wrong")]
    Changed,
}

/// Writes an export.
///
/// # Errors
/// The writer's.
pub fn write(about: &About, entries: &[Entry], to: &mut impl Write) -> io::Result<()> {
    let mut to = Hashed { to, hasher: blake3::Hasher::new() };
    to.line(about)?;
    for Entry { key, value, revision } in entries {
        let json = as_json(value);
        let base64 = json.is_none().then(|| STANDARD.encode(value));
        to.line(&Row { key: key.as_str().into(), revision: revision.0, json, base64 })?;
    }
    let blake3 = to.hasher.finalize().to_hex().to_string();
    let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
    to.line(&End { entries: count, blake3 })
}

struct Hashed<'a, W> {
    to: &'a mut W,
    hasher: blake3::Hasher,
}

impl<W: Write> Hashed<'_, W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.hasher.update(&line);
        self.to.write_all(&line)
    }
}

/// The value as the JSON that it is, where that is on one line and gives exactly these bytes again; `null` would be taken
/// for none.
fn as_json(value: &[u8]) -> Option<&RawValue> {
    let json: &RawValue = serde_json::from_slice(value).ok()?;
    let same = json.get().len() == value.len() && value != b"null";
    (same && !value.contains(&b'\n')).then_some(json)
}

/// Reads an export.
///
/// # Errors
/// Whatever is wrong with it.
pub fn read(from: &mut impl BufRead) -> Result<Export, Error> {
    let mut hasher = blake3::Hasher::new();
    let mut line = Vec::new();
    let first = next(from, &mut line)?.ok_or(Error::Short)?;
    let about: About = serde_json::from_slice(first).map_err(|_other| Error::Foreign)?;
    if about.format != FORMAT {
        return Err(Error::Format(about.format));
    }
    let mut entries = Vec::new();
    for number in 2.. {
        hasher.update(&line);
        let text = next(from, &mut line)?.ok_or(Error::Short)?;
        if let Ok(Row { key, revision, json, base64 }) = serde_json::from_slice(text) {
            let value = match (json, base64) {
                (Some(json), None) => Bytes::copy_from_slice(json.get().as_bytes()),
                (None, Some(text)) => {
                    STANDARD.decode(text).map_err(|_not| Error::Line(number))?.into()
                }
                _ => return Err(Error::Line(number)),
            };
            entries.push(Entry { key: Key::new(&key), value, revision: Revision(revision) });
            continue;
        }
        let end: End = serde_json::from_slice(text).map_err(|_other| Error::Line(number))?;
        let whole = end.blake3 == *hasher.finalize().to_hex()
            && u64::try_from(entries.len()) == Ok(end.entries)
            && next(from, &mut line)?.is_none();
        return if whole { Ok(Export { about, entries }) } else { Err(Error::Changed) };
    }
    Err(Error::Short)
}

/// The next line, which stays in `line` with its end; `None` when there are no more.
fn next<'a>(from: &mut impl BufRead, line: &'a mut Vec<u8>) -> Result<Option<&'a [u8]>, Error> {
    line.clear();
    from.read_until(b'\n', line).map_err(Error::Io)?;
    match line.as_slice() {
        [] => Ok(None),
        [whole @ .., b'\n'] => Ok(Some(whole)),
        _ => Err(Error::Short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        let values: [&[u8]; 7] = [
            br#"{"a": [1, 2.50, "x\ny"]}"#,
            b" 1",
            b"\"\xc3\xa4\"",
            b"",
            b"{\"a\":\n1}",
            b"\xff\x00not text",
            b"null",
        ];
        let entry = |(at, value): (usize, &&'static [u8])| Entry {
            key: Key::new(&format!("a\"/{at}")),
            value: Bytes::from_static(value),
            revision: Revision(at as u64 + 1),
        };
        values.iter().enumerate().map(entry).collect()
    }

    fn exported(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&About::new(Revision(7), Timestamp::UNIX_EPOCH), entries, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_value_comes_back_byte_by_byte() {
        for entries in [entries(), Vec::new()] {
            let export = read(&mut exported(&entries).as_slice()).unwrap();
            assert_eq!(export.entries, entries);
            assert_eq!(export.about.revision(), Revision(7));
        }
    }

    #[test]
    fn an_object_can_be_read_by_people() {
        let text = String::from_utf8(exported(&entries())).unwrap();
        assert!(
            text.contains(r#"{"key":"a\"/0","revision":1,"json":{"a": [1, 2.50, "x\ny"]}}"#),
            "{text}"
        );
    }

    #[test]
    fn an_export_that_was_cut_or_changed_is_refused() {
        let bytes = exported(&entries());
        for at in 0..bytes.len() {
            assert!(read(&mut &bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&mut changed.as_slice()).is_err(), "changed at {at}");
        }
        let more = [bytes.as_slice(), b"{}\n"].concat();
        assert!(matches!(read(&mut more.as_slice()), Err(Error::Changed)));
        let newer = String::from_utf8(bytes).unwrap().replacen("Export\":1", "Export\":2", 1);
        assert!(matches!(read(&mut newer.as_bytes()), Err(Error::Format(2))));
        assert!(matches!(read(&mut &b"{}\n"[..]), Err(Error::Foreign)));
    }
}
