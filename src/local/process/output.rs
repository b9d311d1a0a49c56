//! A machine's output: lines with time and stream, in a pair of files of bounded size. It must never block on a reader.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::clock::Clock;
use crate::local::driver::LogLine;

/// Size at which the current file becomes the old one. Two of them are what a machine may take of the disk.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A longer line is written as several.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// What stands in the place of a line's stream where a run starts.
const START: char = 's';
/// Bytes that are read of a file at a time by whoever follows it.
const STEP_BYTES_MAX: u64 = 64 * 1024;

fn current(directory: &Path) -> PathBuf {
    directory.join("out.log")
}

fn previous(directory: &Path) -> PathBuf {
    directory.join("out.log.1")
}

/// The writing end, in the shim.
#[derive(Debug)]
pub(super) struct Output {
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    file: Mutex<(File, u64)>,
}

impl Output {
    pub(super) fn open(directory: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let file = append(&current(directory))?;
        let length = file.metadata()?.len();
        Ok(Self { directory: directory.to_owned(), clock, file: Mutex::new((file, length)) })
    }

    /// Writes one line.
    pub(super) fn line(&self, stderr: bool, text: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(text);
        let stream = if stderr { 'e' } else { 'o' };
        self.write(stream, text.trim_end_matches(['\r', '\n']))
    }

    /// Marks the start of a run: what follows is its output.
    pub(super) fn start(&self) -> io::Result<()> {
        self.write(START, "")
    }

    fn write(&self, what: char, text: &str) -> io::Result<()> {
        let line = format!("{} {what} {text}\n", self.clock.now().as_millisecond());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.1 > 0 && file.1 + line.len() as u64 > FILE_BYTES_MAX {
            std::fs::rename(current(&self.directory), previous(&self.directory))?;
            *file = (append(&current(&self.directory))?, 0);
        }
        file.0.write_all(line.as_bytes())?;
        file.1 += line.len() as u64;
        Ok(())
    }

    /// Copies a stream of a program to its end. A disk that refuses loses lines, never the program.
    pub(super) async fn copy(&self, stderr: bool, mut from: impl AsyncRead + Unpin) {
        let mut pending: Vec<u8> = Vec::new();
        let mut chunk = vec![0; LINE_BYTES_MAX];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            pending.extend(chunk.iter().take(length));
            while let Some(end) = line_end(&pending) {
                let rest = pending.split_off(end);
                self.line_or_lost(stderr, &pending);
                pending = rest;
            }
        }
        if !pending.is_empty() {
            self.line_or_lost(stderr, &pending);
        }
    }

    fn line_or_lost(&self, stderr: bool, text: &[u8]) {
        if let Err(error) = self.line(stderr, text) {
            tracing::warn!(%error, "a line of output was lost");
        }
    }
}

/// Where the first line of `pending` ends, its line feed included.
fn line_end(pending: &[u8]) -> Option<usize> {
    let head = pending.get(..LINE_BYTES_MAX.min(pending.len()))?;
    let line_feed = head.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    line_feed.or_else(|| (pending.len() >= LINE_BYTES_MAX).then_some(LINE_BYTES_MAX))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The last `limit` lines, oldest first; none if nothing was ever written.
pub(super) fn tail(directory: &Path, limit: usize) -> io::Result<Vec<LogLine>> {
    loop {
        let (newer, of) = read(&current(directory))?;
        let mut lines: Vec<_> = lines(&newer).collect();
        if lines.len() < limit {
            let (older, of_older) = read(&previous(directory))?;
            if of.is_some() && of == of_older {
                // The files changed places between the two looks.
                continue;
            }
            lines.splice(0..0, self::lines(&older));
        }
        return Ok(lines.split_off(lines.len().saturating_sub(limit)));
    }
}

/// A file's text and its inode; nothing of both if there is none.
fn read(path: &Path) -> io::Result<(String, Option<u64>)> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((String::new(), None)),
        opened => opened?,
    };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok((text, Some(file.metadata()?.ino())))
}

fn lines(text: &str) -> impl Iterator<Item = LogLine> {
    parse(text).filter_map(|record| match record {
        Record::Line(line) => Some(line),
        Record::Start => None,
    })
}

/// What stands in the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// Another run begins.
    Start,
    Line(LogLine),
}

fn parse(text: &str) -> impl Iterator<Item = Record> {
    // Without its line feed the last line is still being written.
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole.split('\n').filter_map(record)
}

fn record(line: &str) -> Option<Record> {
    let mut parts = line.splitn(3, ' ');
    let at_ms = parts.next()?.parse().ok()?;
    let stderr = match parts.next()? {
        "s" => return Some(Record::Start),
        stream => stream == "e",
    };
    let text = parts.next().unwrap_or_default().to_owned();
    Some(Record::Line(LogLine { at_ms, stderr, text }))
}

/// Where a line begins: in which file, by its inode, and where in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    inode: u64,
    at: u64,
}

/// The reading end, for whoever goes on reading. It holds a step of a file at most.
#[derive(Debug)]
pub(super) struct Reader {
    directory: PathBuf,
    /// The file that is read, and its inode; none while there is none.
    file: Option<(File, u64)>,
    /// The beginning of a line that is not whole yet.
    pending: Vec<u8>,
    /// Where in the file that line begins.
    at: u64,
}

impl Reader {
    /// A reader of everything that there is.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        let file = find(&previous(directory))?;
        Ok(Self { directory: directory.to_owned(), file, pending: Vec::new(), at: 0 })
    }

    /// A reader from a place on; of everything, if that is not there any more.
    pub(super) fn open_at(directory: &Path, place: Option<Place>) -> io::Result<Self> {
        let mut this = Self::open(directory)?;
        let Some(place) = place else { return Ok(this) };
        for path in [current(directory), previous(directory)] {
            if let Some((mut file, inode)) = find(&path)?.filter(|(_, it)| *it == place.inode) {
                file.seek(SeekFrom::Start(place.at))?;
                (this.file, this.at) = (Some((file, inode)), place.at);
                break;
            }
        }
        Ok(this)
    }

    /// Where it is.
    pub(super) fn place(&self) -> Option<Place> {
        self.file.as_ref().map(|(_, inode)| Place { inode: *inode, at: self.at })
    }

    /// A step of what was written since, and where each of it begins; nothing if that is nothing.
    pub(super) fn more(&mut self) -> io::Result<Vec<(Place, Record)>> {
        loop {
            // Asked first: what is written before the files change places is in the one that is read.
            let newest = inode(&current(&self.directory))?;
            let Some((file, mine)) = &mut self.file else {
                self.next_is(find(&current(&self.directory))?);
                if self.file.is_none() {
                    return Ok(Vec::new());
                }
                continue;
            };
            let mine = *mine;
            if file.take(STEP_BYTES_MAX).read_to_end(&mut self.pending)? > 0 {
                let records = self.whole_lines(mine);
                if records.is_empty() {
                    continue;
                }
                return Ok(records);
            }
            if newest.is_none() || newest == Some(mine) {
                return Ok(Vec::new());
            }
            // After the old file comes the new one; a reader that fell behind by more than a file finds another old one.
            let old = inode(&previous(&self.directory))?;
            let behind = old.is_some() && old != Some(mine);
            let next = if behind { previous(&self.directory) } else { current(&self.directory) };
            self.next_is(find(&next)?);
        }
    }

    fn next_is(&mut self, file: Option<(File, u64)>) {
        (self.file, self.at) = (file, 0);
        self.pending.clear();
    }

    /// Takes the lines that are whole.
    fn whole_lines(&mut self, inode: u64) -> Vec<(Place, Record)> {
        let end = self.pending.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.pending.split_off(end);
        let whole = std::mem::replace(&mut self.pending, rest);
        let mut records = Vec::new();
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            let place = Place { inode, at: self.at };
            self.at += line.len() as u64;
            let text = String::from_utf8_lossy(line);
            records.extend(record(text.trim_end_matches('\n')).map(|record| (place, record)));
        }
        records
    }
}

fn find(path: &Path) -> io::Result<Option<(File, u64)>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => {
            let inode = file.metadata()?.ino();
            Ok(Some((file, inode)))
        }
    }
}

fn inode(path: &Path) -> io::Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Manual, Timestamp};

    fn output(directory: &Path) -> Output {
        Output::open(directory, Arc::new(Manual::at(Timestamp::UNIX_EPOCH))).unwrap()
    }

    fn texts(directory: &Path, limit: usize) -> Vec<String> {
        tail(directory, limit).unwrap().into_iter().map(|line| line.text).collect()
    }

    #[tokio::test]
    async fn lines_come_back_in_order_with_their_stream_and_the_last_one_without_its_end() {
        let dir = tempfile::tempdir().unwrap();
        output(dir.path()).copy(true, &b"one\r\n\ntw\xffo"[..]).await;
        let lines = tail(dir.path(), 10).unwrap();
        assert!(lines.iter().all(|line| line.stderr && line.at_ms == 0));
        assert_eq!(texts(dir.path(), 10), ["one", "", "tw\u{fffd}o"]);
        assert_eq!(texts(dir.path(), 1), ["tw\u{fffd}o"]);
    }

    #[test]
    fn nothing_written_is_no_lines() {
        assert_eq!(tail(tempfile::tempdir().unwrap().path(), 10).unwrap(), []);
    }

    #[test]
    fn two_files_are_all_that_a_talker_gets() {
        let dir = tempfile::tempdir().unwrap();
        let output = output(dir.path());
        let long = "x".repeat(10_000);
        for number in 0..1_000 {
            output.line(false, format!("{number} {long}").as_bytes()).unwrap();
        }
        let sizes: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|it| it.unwrap().metadata().unwrap().len())
            .sum();
        assert!(sizes <= 2 * FILE_BYTES_MAX, "{sizes}");
        let lines = texts(dir.path(), 500);
        assert_eq!(lines.len(), 500);
        assert!(
            lines.first().unwrap().starts_with("500 ") && lines.last().unwrap().starts_with("999 ")
        );
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        output(dir.path()).copy(false, &vec![b'y'; 3 * LINE_BYTES_MAX + 1][..]).await;
        let lengths: Vec<_> = texts(dir.path(), 10).iter().map(String::len).collect();
        assert_eq!(lengths, [LINE_BYTES_MAX, LINE_BYTES_MAX, LINE_BYTES_MAX, 1]);
    }

    fn said(records: &[(Place, Record)]) -> Vec<String> {
        let text = |(_, record): &(Place, Record)| match record {
            Record::Start => "start".to_owned(),
            Record::Line(line) => line.text.get(..4).unwrap_or(&line.text).to_owned(),
        };
        records.iter().map(text).collect()
    }

    #[test]
    fn a_reader_goes_on_through_files_that_change_places() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = Reader::open(dir.path()).unwrap();
        assert_eq!(reader.more().unwrap(), []);
        let output = output(dir.path());
        output.start().unwrap();
        output.line(false, b"one").unwrap();
        assert_eq!(said(&reader.more().unwrap()), ["start", "one"]);
        let long = "x".repeat(10_000);
        let rest = |reader: &mut Reader| {
            let mut rest = Vec::new();
            while let more @ [_, ..] = reader.more().unwrap().as_slice() {
                rest.extend_from_slice(more);
            }
            rest
        };
        let mut seen = Vec::new();
        for number in 1_000..3_000 {
            output.line(false, format!("{number} {long}").as_bytes()).unwrap();
            if number % 300 == 0 {
                seen.extend(said(&rest(&mut reader)));
            }
        }
        seen.extend(said(&rest(&mut reader)));
        let all: Vec<_> = (1_000..3_000).map(|number| number.to_string()).collect();
        assert_eq!(seen, all);
        let everything = rest(&mut Reader::open(dir.path()).unwrap());
        assert!(everything.len() > 400, "{}", everything.len());
        // From wherever a line begins, in either file, what follows is the same.
        for start in [0, 7, everything.len() / 2, everything.len() - 1] {
            let mut from = Reader::open_at(dir.path(), Some(everything[start].0)).unwrap();
            assert!(rest(&mut from) == everything[start..], "{start}");
        }
    }
}
