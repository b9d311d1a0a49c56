//! What waits to be written, and the thread that writes it: to standard output, or into a file that is rotated by size. It must never
//! let more wait than a bound, lose a line without counting it, nor rename what is no file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::Duration,
};

use serde_json::json;
use tokio::sync::oneshot;

use crate::clock::{self, Clock};
use crate::server::audit::Entry;

/// How many lines may wait for the disk before some are dropped. None has more than 2 KiB, so all have 16 MiB at most.
pub(super) const UNWRITTEN_MAX: usize = 8_192;
/// How many of them are written at once: more than come in while the thread rests.
const AT_ONCE_MAX: usize = 1_024;
/// How long the thread waits for a line before it looks for what else there is to say.
const TURN: Duration = if cfg!(test) { Duration::from_millis(10) } else { Duration::from_secs(1) };
/// How long the thread lets lines come together: whoever adds one meanwhile need not wake it.
const REST: Duration = Duration::from_millis(2);
/// How often it is said that calls are not let in, and that lines cannot be written.
pub(super) const SAID_EVERY: Duration = Duration::from_secs(60);
/// How long the end of the process waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(1);
/// Size at which the file becomes an old one.
pub(super) const FILE_BYTES_MAX: u64 = if cfg!(test) { 16 * 1024 } else { 16 * 1024 * 1024 };
/// How many old files are kept: `audit.log.1` is the newest of them.
const OLD_FILES: u32 = 4;

/// Lines that wait.
#[derive(Debug)]
pub(super) struct Queue {
    messages: SyncSender<Message>,
    counted: Arc<Counted>,
}

/// What is only counted.
#[derive(Debug, Default)]
struct Counted {
    /// Lines that are lost.
    dropped: AtomicU64,
    /// The last of those that were not let in, and how many they were.
    refused: Mutex<Option<Entry>>,
}

#[derive(Debug)]
pub(super) enum Message {
    Line(Vec<u8>),
    /// Everything before it is to be written now.
    Flush(oneshot::Sender<()>),
}

/// Starts the thread, which ends when nobody has the queue any more.
pub(super) fn start(output: Output) -> io::Result<Queue> {
    let (queue, messages) = Queue::new();
    let mut writer = Writer::new(output, &queue);
    thread::Builder::new().name("audit".to_owned()).spawn(move || {
        let clock = clock::System::new();
        while writer.turn(&messages, &clock) {
            thread::sleep(REST);
        }
    })?;
    Ok(queue)
}

impl Queue {
    pub(super) fn new() -> (Self, Receiver<Message>) {
        let (sender, messages) = mpsc::sync_channel(UNWRITTEN_MAX);
        (Self { messages: sender, counted: Arc::default() }, messages)
    }

    /// Takes a line.
    pub(super) fn add(&self, entry: &Entry) {
        let Ok(mut line) = serde_json::to_vec(entry) else { return };
        line.push(b'\n');
        if self.messages.try_send(Message::Line(line)).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a call that was not let in. Of what it was about no name is kept: whoever has no token chose it.
    pub(super) fn refuse(&self, mut entry: Entry) {
        entry.namespace.clear();
        entry.name.clear();
        let mut refused = self.counted.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refused.as_ref().and_then(|it| it.refused).unwrap_or_default();
        entry.refused = Some(before + 1);
        *refused = Some(entry);
    }

    /// Waits until all that was taken is written. Where so much waits that nothing more is taken, the disk is too slow for that.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.messages.try_send(Message::Flush(done)).is_ok() {
            let _late = tokio::time::timeout(FLUSH_MAX, written).await;
        }
    }
}

/// Writes what waits.
pub(super) struct Writer {
    output: Output,
    counted: Arc<Counted>,
    /// Whether the last line is only half there.
    is_torn: bool,
    /// When it was last said that calls were not let in.
    refused_at: Option<Duration>,
    /// When it was last said that lines cannot be written.
    failed_at: Option<Duration>,
}

impl Writer {
    pub(super) fn new(output: Output, queue: &Queue) -> Self {
        let counted = Arc::clone(&queue.counted);
        Self { output, counted, is_torn: false, refused_at: None, failed_at: None }
    }

    /// Writes what there is by now; says whether there can be more.
    pub(super) fn turn(&mut self, messages: &Receiver<Message>, clock: &dyn Clock) -> bool {
        let first = messages.recv_timeout(TURN);
        let is_last = matches!(first, Err(RecvTimeoutError::Disconnected));
        let (mut lines, mut waiting) = (Vec::new(), Vec::new());
        for message in first.into_iter().chain(messages.try_iter().take(AT_ONCE_MAX)) {
            match message {
                Message::Line(line) => lines.extend(line),
                Message::Flush(done) => waiting.push(done),
            }
        }
        let now = clock.monotonic();
        lines.extend(self.refused(now, is_last || !waiting.is_empty()));
        self.write(&lines, now);
        for done in waiting {
            let _gone = done.send(());
        }
        !is_last
    }

    /// A line about all that were not let in, if it is time for it or the end.
    fn refused(&mut self, now: Duration, is_end: bool) -> Vec<u8> {
        let mut refused = self.counted.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_none() || !(is_due(&mut self.refused_at, now) || is_end) {
            return Vec::new();
        }
        let line = refused.take().and_then(|it| serde_json::to_vec(&it).ok());
        line.map(|it| [it, b"\n".to_vec()].concat()).unwrap_or_default()
    }

    /// Writes lines, after a word on how many are missing before them.
    pub(super) fn write(&mut self, lines: &[u8], now: Duration) {
        let missing = self.counted.dropped.swap(0, Ordering::Relaxed);
        let mut text = Vec::new();
        if self.is_torn {
            text.push(b'\n');
        }
        if missing > 0 {
            text.extend(format!("{}\n", json!({"dropped": missing})).bytes());
        }
        let word = text.len();
        text.extend(lines);
        // What is torn goes on where it began.
        let room = if self.is_torn { Ok(()) } else { self.output.make_room(text.len()) };
        let (count, written) = self.output.write(&text);
        let (there, lost) = text.split_at(count);
        if let Some(last) = there.last() {
            self.is_torn = *last != b'\n';
        }
        if count < word {
            self.counted.dropped.fetch_add(missing, Ordering::Relaxed);
        }
        let lost = lost.get(word.saturating_sub(count)..).unwrap_or_default();
        self.counted.dropped.fetch_add(ends(lost), Ordering::Relaxed);
        if let Err(error) = &room
            && is_due(&mut self.failed_at, now)
        {
            tracing::error!(%error, "the audit log cannot be rotated: it grows");
        }
        if let Err(error) = &written
            && is_due(&mut self.failed_at, now)
        {
            tracing::error!(%error, "the audit log cannot be written: its lines are only counted");
        }
    }
}

/// How many lines end here.
fn ends(text: &[u8]) -> u64 {
    text.iter().map(|&it| u64::from(it == b'\n')).sum()
}

/// Whether to say again what was last said then; from now on it was said now.
fn is_due(said_at: &mut Option<Duration>, now: Duration) -> bool {
    let is_due = said_at.is_none_or(|it| now.saturating_sub(it) >= SAID_EVERY);
    if is_due {
        *said_at = Some(now);
    }
    is_due
}

/// Where lines are written.
pub(super) struct Output {
    file: File,
    bytes: u64,
    /// Where it is, if it becomes an old one when it is full.
    path: Option<PathBuf>,
}

impl Output {
    /// A file, or what else is there: only a regular file is ever renamed, and what a link leads to rather than the link.
    pub(super) fn file(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let metadata = file.metadata()?;
        let path = if metadata.is_file() { Some(fs::canonicalize(path)?) } else { None };
        Ok(Self { file, bytes: metadata.len(), path })
    }

    /// Standard output.
    pub(super) fn stdout() -> io::Result<Self> {
        Ok(Self::unrotated(File::from(io::stdout().as_fd().try_clone_to_owned()?)))
    }

    pub(super) fn unrotated(file: File) -> Self {
        Self { file, bytes: 0, path: None }
    }

    /// Makes an old one of a file in which there is no room. When that fails, it goes on, and that is tried again after as much.
    fn make_room(&mut self, bytes: usize) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if self.bytes == 0 || self.bytes + bytes as u64 <= FILE_BYTES_MAX {
            return Ok(());
        }
        self.bytes = 0;
        let old = |number: u32| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..OLD_FILES).rev() {
            rename(&old(number), &old(number + 1))?;
        }
        rename(path, &old(1))?;
        self.file = open(path)?;
        Ok(())
    }

    /// Writes as much as it can, and says how much that was.
    fn write(&mut self, text: &[u8]) -> (usize, io::Result<()>) {
        let mut rest = text;
        let result = loop {
            if rest.is_empty() {
                break Ok(());
            }
            match self.file.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let count = text.len() - rest.len();
        self.bytes += count as u64;
        (count, result)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Renames a file, which somebody may have taken away.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
