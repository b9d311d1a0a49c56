//! The reconciliation log: what was done to which object, when, and how it went. Kept in a ring, and in a pair of files
//! that a start reads back. It must never make a writer wait for a reader or for the disk.

use std::{
    collections::VecDeque,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    iter,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::Duration,
};

use futures::{
    StreamExt, future,
    stream::{self, BoxStream},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

/// How many lines are kept in memory.
pub const LINES_MAX: usize = 10_000;
/// How many lines a reader may fall behind before some are dropped for it.
const BEHIND_MAX: usize = 1_024;
/// How many lines may wait for the disk before some are dropped for it.
const UNWRITTEN_MAX: usize = 4_096;
/// How long the thread that writes lets lines come together: whoever adds one meanwhile need not wake it.
const REST: Duration = Duration::from_millis(2);
/// Size at which the file becomes the old file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Names of the pair, the newer first.
const FILES: [&str; 2] = ["journal.jsonl", "journal.old.jsonl"];

/// How something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was tried and failed.
    Failed,
    /// It has to wait for something.
    Waiting,
    /// hangar refuses to do it.
    Refused,
}

impl Outcome {
    /// As the text form has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// One line. Whoever records it puts only text into it that everybody may read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// When it ended.
    pub at: Timestamp,
    /// Which object, as `env/alice`.
    pub object: String,
    /// What was done, as `create-machine`.
    pub action: String,
    /// How it went.
    pub outcome: Outcome,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<f64>,
    /// A sentence for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The other side's name for the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// A duration as lines have it, to the microsecond.
#[must_use]
pub fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// `12:03:04.123 env/alice  create-machine  ok  312ms  3d8d… in ams`
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.strftime("%H:%M:%S%.3f");
        write!(f, "{at} {}  {}  {}", self.object, self.action, self.outcome.as_str())?;
        if let Some(ms) = self.duration_ms {
            write!(f, "  {ms:.0}ms")?;
        }
        if !self.message.is_empty() {
            write!(f, "  {}", self.message)?;
        }
        match &self.request_id {
            Some(id) => write!(f, "  ({id})"),
            None => Ok(()),
        }
    }
}

/// Which lines somebody wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this object's.
    pub object: Option<String>,
}

impl Filter {
    fn wants(&self, line: &Line) -> bool {
        self.object.as_ref().is_none_or(|object| *object == line.object)
    }
}

/// The log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ring: Mutex<VecDeque<Arc<Line>>>,
    /// Sent to while the ring is locked, so that a reader can take both without a gap.
    readers: broadcast::Sender<Arc<Line>>,
    disk: Option<SyncSender<Arc<Line>>>,
}

impl Default for Journal {
    fn default() -> Self {
        Self::in_memory()
    }
}

impl Journal {
    /// A log that lasts as long as the process.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(VecDeque::new(), None)
    }

    /// A log that also goes into two files in this directory, and begins with what is in them.
    ///
    /// # Errors
    /// When the files cannot be read or written.
    pub fn in_dir(dir: &Path) -> io::Result<Self> {
        let mut ring = VecDeque::new();
        for name in FILES.iter().rev() {
            read_back(&dir.join(name), &mut ring)?;
        }
        let mut disk = Disk::open(dir)?;
        let (sender, lines) = mpsc::sync_channel::<Arc<Line>>(UNWRITTEN_MAX);
        thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Ok(line) = lines.recv() {
                let mut all = iter::once(line).chain(lines.try_iter());
                let appended = all.try_for_each(|it| disk.append(&it));
                let flushed = disk.flush();
                if let Err(error) = appended.and(flushed) {
                    tracing::warn!(%error, "the journal's file cannot be written");
                }
                thread::sleep(REST);
            }
        })?;
        Ok(Self::new(ring, Some(sender)))
    }

    fn new(ring: VecDeque<Arc<Line>>, disk: Option<SyncSender<Arc<Line>>>) -> Self {
        let (readers, _) = broadcast::channel(BEHIND_MAX);
        Self(Arc::new(Inner { ring: Mutex::new(ring), readers, disk }))
    }

    /// Adds a line, and a log event of the same content.
    pub fn record(&self, line: Line) {
        let Line { object, action, outcome, message, duration_ms, request_id, at: _ } = &line;
        let (outcome, request_id) = (outcome.as_str(), request_id.as_deref());
        match line.outcome {
            Outcome::Ok | Outcome::Waiting => {
                tracing::info!(object, action, outcome, duration_ms, request_id, "{message}");
            }
            Outcome::Failed | Outcome::Refused => {
                tracing::warn!(object, action, outcome, duration_ms, request_id, "{message}");
            }
        }
        let line = Arc::new(line);
        {
            let mut ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
            push(&mut ring, Arc::clone(&line));
            // It fails only when nobody reads.
            let _readers = self.0.readers.send(Arc::clone(&line));
        }
        if let Some(Err(TrySendError::Full(_))) =
            self.0.disk.as_ref().map(|disk| disk.try_send(line))
        {
            tracing::debug!("the disk is too slow for the journal; a line is only in memory");
        }
    }

    /// The last `limit` lines that the filter wants, oldest first.
    #[must_use]
    pub fn recent(&self, filter: &Filter, limit: usize) -> Vec<Line> {
        let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
        last(&ring, filter, limit)
    }

    /// The last `limit` lines that the filter wants, then every new one. A reader that falls behind loses lines, and is
    /// told how many.
    #[must_use]
    pub fn follow(&self, filter: Filter, limit: usize) -> BoxStream<'static, Line> {
        let (before, readers) = {
            let ring = self.0.ring.lock().unwrap_or_else(PoisonError::into_inner);
            (last(&ring, &filter, limit), self.0.readers.subscribe())
        };
        let after = stream::unfold(readers, |mut readers| async move {
            let mut lost = 0;
            loop {
                match readers.recv().await {
                    Ok(line) => {
                        let told = (lost > 0).then(|| gap(lost, line.at)).into_iter();
                        return Some((stream::iter(told.chain([Line::clone(&line)])), readers));
                    }
                    Err(RecvError::Lagged(count)) => lost += count,
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let after = after
            .flatten()
            .filter(move |line| future::ready(line.action == GAP || filter.wants(line)));
        stream::iter(before).chain(after).boxed()
    }
}

/// Action of the line that tells of a gap.
const GAP: &str = "dropped-lines";

fn gap(count: u64, at: Timestamp) -> Line {
    Line {
        at,
        object: "journal".to_owned(),
        action: GAP.to_owned(),
        outcome: Outcome::Failed,
        duration_ms: None,
        message: format!("{count} lines were dropped here, because they were read too slowly"),
        request_id: None,
    }
}

fn last(ring: &VecDeque<Arc<Line>>, filter: &Filter, limit: usize) -> Vec<Line> {
    let wanted = ring.iter().rev().filter(|line| filter.wants(line)).take(limit);
    let mut lines: Vec<_> = wanted.map(|line| Line::clone(line)).collect();
    lines.reverse();
    lines
}

fn push(ring: &mut VecDeque<Arc<Line>>, line: Arc<Line>) {
    if ring.len() >= LINES_MAX {
        ring.pop_front();
    }
    ring.push_back(line);
}

fn read_back(path: &Path, ring: &mut VecDeque<Arc<Line>>) -> io::Result<()> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for text in BufReader::new(file).split(b'\n') {
        // A crash may have left half a line.
        if let Ok(line) = serde_json::from_slice(&text?) {
            push(ring, Arc::new(line));
        }
    }
    Ok(())
}

/// The pair of files.
struct Disk {
    dir: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

impl Disk {
    fn open(dir: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).open(dir.join(FILES[0]))?;
        let bytes = file.metadata()?.len();
        // Ends half a line that a crash may have left.
        file.write_all(b"\n")?;
        Ok(Self { dir: dir.to_owned(), file: BufWriter::new(file), bytes: bytes + 1 })
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        if self.bytes + text.len() as u64 > FILE_BYTES_MAX {
            self.flush()?;
            fs::rename(self.dir.join(FILES[0]), self.dir.join(FILES[1]))?;
            *self = Self::open(&self.dir)?;
        }
        self.file.write_all(&text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(object: &str, number: usize) -> Line {
        Line {
            at: "2026-09-01T12:03:04.123Z".parse().unwrap(),
            object: object.to_owned(),
            action: "create-machine".to_owned(),
            outcome: Outcome::Ok,
            duration_ms: Some(312.4),
            message: format!("{number} in ams"),
            request_id: None,
        }
    }

    #[test]
    fn a_line_reads_as_one_line() {
        let mut line = line("env/alice", 7);
        assert_eq!(line.to_string(), "12:03:04.123 env/alice  create-machine  ok  312ms  7 in ams");
        line.request_id = Some("01J".to_owned());
        line.duration_ms = None;
        assert_eq!(line.to_string(), "12:03:04.123 env/alice  create-machine  ok  7 in ams  (01J)");
    }

    #[test]
    fn recent_gives_the_last_lines_of_one_object_and_forgets_the_oldest() {
        let journal = Journal::in_memory();
        for number in 0..LINES_MAX + 5 {
            journal.record(line(if number % 2 == 0 { "env/a" } else { "env/b" }, number));
        }
        let filter = Filter { object: Some("env/a".to_owned()) };
        let last = journal.recent(&filter, 2);
        assert_eq!(last, [line("env/a", LINES_MAX + 2), line("env/a", LINES_MAX + 4)]);
        assert_eq!(journal.recent(&Filter::default(), usize::MAX).len(), LINES_MAX);
    }

    #[tokio::test]
    async fn a_follower_sees_each_line_once_across_the_seam() {
        let journal = Journal::in_memory();
        journal.record(line("env/a", 0));
        let follow = journal.follow(Filter::default(), 10);
        journal.record(line("env/a", 1));
        let seen: Vec<_> = follow.take(2).collect().await;
        assert_eq!(seen, [line("env/a", 0), line("env/a", 1)]);
    }

    #[tokio::test]
    async fn a_slow_follower_holds_nobody_up_and_is_told_what_it_missed() {
        let journal = Journal::in_memory();
        let follow = journal.follow(Filter { object: Some("env/a".to_owned()) }, 10);
        for number in 0..BEHIND_MAX + 3 {
            journal.record(line("env/a", number));
        }
        let seen: Vec<_> = follow.take(2).collect().await;
        assert_eq!(seen[0].message, "3 lines were dropped here, because they were read too slowly");
        assert_eq!(seen[1], line("env/a", 3));
    }

    #[test]
    fn a_start_reads_the_files_back_even_after_half_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(dir.path()).unwrap();
        disk.append(&line("env/a", 1)).unwrap();
        disk.file.write_all(b"{\"at\":\"2026").unwrap();
        disk.flush().unwrap();
        let mut disk = Disk::open(dir.path()).unwrap();
        disk.append(&line("env/a", 2)).unwrap();
        disk.flush().unwrap();
        let journal = Journal::in_dir(dir.path()).unwrap();
        let lines = journal.recent(&Filter::default(), 10);
        assert_eq!(lines, [line("env/a", 1), line("env/a", 2)]);
    }

    #[test]
    fn the_files_stay_within_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let mut disk = Disk::open(dir.path()).unwrap();
        let long = Line { message: "x".repeat(60_000), ..line("env/a", 0) };
        for _ in 0..200 {
            disk.append(&long).unwrap();
        }
        for name in FILES {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= FILE_BYTES_MAX);
        }
    }
}
