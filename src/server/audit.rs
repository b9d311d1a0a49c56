//! Who did what: a line of JSON for each call that is more than looking around, into a file that is rotated by size, or to standard
//! output. It must never hold a body, a value or a token, nor make a request wait for the disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use http::{Method, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::net::Body;
use crate::server::{
    call::{Call, NoCall},
    may::{Asked, asked},
};
use crate::telemetry::journal::milliseconds;

/// How many lines may wait for the disk before some are dropped, which a line then says.
const UNWRITTEN_MAX: usize = 8_192;
/// Size at which the file becomes an old one.
const FILE_BYTES_MAX: u64 = if cfg!(test) { 4 * 1024 } else { 16 * 1024 * 1024 };
/// How many old files are kept: `audit.log.1` is the newest of them.
const OLD_FILES: u32 = 4;

/// Where lines go. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Audit(Option<Arc<Pipe>>);

#[derive(Debug)]
struct Pipe {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// The name of an object that its request did not name yet.
#[derive(Debug, Clone)]
pub(super) struct Named(pub(super) String);

/// One line.
#[derive(Debug, Default, Serialize)]
pub(super) struct Entry {
    at: Timestamp,
    /// Empty for who was not let in.
    pub(super) who: String,
    verb: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    pub(super) decision: &'static str,
    code: u16,
    duration_ms: f64,
}

impl Audit {
    /// Writes nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Into a file, which is made where it is not there, for its owner only.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let mut disk = Disk::open(path)?;
        Self::to(move |text| disk.append(text))
    }

    /// To standard output.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn to_stdout() -> io::Result<Self> {
        Self::to(|text| {
            let mut out = io::stdout().lock();
            out.write_all(text).and_then(|()| out.flush())
        })
    }

    fn to(mut write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let (sender, lines) = mpsc::sync_channel(UNWRITTEN_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            while let Some(text) = next(&lines, &lost) {
                if let Err(error) = write(&text) {
                    tracing::error!(%error, "the audit log cannot be written");
                }
            }
        })?;
        Ok(Self(Some(Arc::new(Pipe { lines: sender, dropped }))))
    }

    /// What will be said of a call; nothing of reading what the API offers.
    pub(super) fn begin(
        &self,
        (method, call): (&Method, &Result<Call, NoCall>),
        at: Timestamp,
    ) -> Option<Entry> {
        self.0.as_ref()?;
        let mut entry = Entry { at, ..Entry::default() };
        match call.as_ref().map(asked) {
            Ok(Asked::LookAround) => return None,
            Ok(Asked::Resource { attributes: it, name }) => {
                entry.verb = it.verb.to_owned();
                entry.group = it.group.to_owned();
                entry.resource = it.resource.to_owned();
                entry.subresource = it.part.to_owned();
                entry.namespace = it.namespace.unwrap_or_default().to_owned();
                entry.name = name.to_owned();
            }
            Ok(Asked::Path { verb, path }) => {
                entry.verb = verb.to_owned();
                entry.path = path.to_owned();
            }
            // Whatever is at a path that is none, it may be anything.
            Err(_) => entry.verb = method.as_str().to_ascii_lowercase(),
        }
        Some(entry)
    }

    /// Hands a line over, with how the call went; of what stays open, how it began.
    pub(super) fn end(&self, mut line: Entry, response: &Response<Body>, took: Duration) {
        if let Some(Named(name)) = response.extensions().get() {
            name.clone_into(&mut line.name);
        }
        line.code = response.status().as_u16();
        line.duration_ms = milliseconds(took);
        self.record(&line);
    }

    fn record(&self, entry: &Entry) {
        let (Some(pipe), Ok(mut line)) = (&self.0, serde_json::to_vec(entry)) else { return };
        line.push(b'\n');
        if pipe.lines.try_send(line).is_err() {
            pipe.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Everything that waits, after a word on what is missing before it.
fn next(lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) -> Option<Vec<u8>> {
    let mut text = lines.recv().ok()?;
    text.extend(lines.try_iter().take(256).flatten());
    match dropped.swap(0, Ordering::Relaxed) {
        0 => {}
        count => text.extend(format!("{}\n", json!({"dropped": count})).bytes()),
    }
    Some(text)
}

/// The file.
struct Disk {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Disk {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, bytes })
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + text.len() as u64 > FILE_BYTES_MAX {
            let old = |number: u32| {
                let mut name = self.path.clone().into_os_string();
                name.push(format!(".{number}"));
                PathBuf::from(name)
            };
            for number in (1..OLD_FILES).rev() {
                // There may be fewer of them.
                let _absent = fs::rename(old(number), old(number + 1));
            }
            fs::rename(&self.path, old(1))?;
            *self = Self::open(&self.path)?;
        }
        self.file.write_all(text)?;
        self.bytes += text.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_becomes_an_old_one_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut disk = Disk::open(&path).unwrap();
        for number in 0..700 {
            disk.append(format!("{number:050}\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("audit.log").ends_with("699\n"));
        let last = |name: &str| read(name).lines().last().unwrap().parse::<u32>().unwrap();
        let first = |name: &str| read(name).lines().next().unwrap().parse::<u32>().unwrap();
        for (old, new) in [("audit.log.1", "audit.log"), ("audit.log.4", "audit.log.3")] {
            assert_eq!(last(old) + 1, first(new));
            assert!(read(old).len() <= 4 * 1024);
        }
        assert!(first("audit.log.4") > 0 && !dir.path().join("audit.log.5").exists());
    }

    #[test]
    fn what_the_disk_is_too_slow_for_is_counted() {
        let (go, wait) = mpsc::channel::<()>();
        let (said, hear) = mpsc::channel();
        let audit = Audit::to(move |text| {
            let _closed = wait.recv();
            let _closed = said.send(text.to_vec());
            Ok(())
        });
        let audit = audit.unwrap();
        for _ in 0..UNWRITTEN_MAX + 300 {
            audit.record(&Entry::default());
        }
        drop(go);
        drop(audit);
        let text: Vec<u8> = hear.iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        let kept = text.lines().filter(|it| it.contains("verb")).count();
        let told: usize = text
            .lines()
            .filter_map(|it| {
                it.strip_prefix("{\"dropped\":")?.strip_suffix('}')?.parse::<usize>().ok()
            })
            .sum();
        assert_eq!(kept + told, UNWRITTEN_MAX + 300);
    }
}
