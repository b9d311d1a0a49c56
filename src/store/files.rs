//! The files of a store beside sled's own: who has it open, what was acknowledged, what an earlier start left behind. It
//! must never write into a file of sled's.
//!
//! sled takes a log whose end is missing for one that was never written. `acknowledged` holds the last revision that a
//! caller was told of, so that such a store is refused. It is written after each sync and not synced itself: after a power
//! cut it may name an earlier revision, never a later one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::store::{Error, Revision};

/// How often, and how long in between, an open that meets someone else's lock is tried. A predecessor that was just told
/// to end may end a little later than its replacement starts.
pub(super) const LOCK_TRIES: u32 = 40;
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(50);

const NAME: &str = "acknowledged";
/// Revision and checksum.
const BYTES: usize = 12;

/// The file that says what was acknowledged. As long as it is held no other process opens the store.
#[derive(Debug)]
pub(super) struct Acknowledged {
    file: File,
}

impl Acknowledged {
    /// Makes the directory if need be, and takes the store for this process.
    ///
    /// # Errors
    /// `Io`, also when another process has it open.
    pub(super) fn lock(dir: &Path) -> Result<Self, Error> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(cannot_open)?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(dir.join(NAME)).map_err(cannot_open)?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Self { file }),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(source)) => return Err(cannot_open(source)),
            }
        }
        Err(in_use(dir))
    }

    /// Compares it with what the database turned out to hold, `None` for nothing at all.
    ///
    /// # Errors
    /// `Corrupt` when the database ends before what was acknowledged, or when the file is damaged.
    pub(super) fn check(&self, found: Option<Revision>) -> Result<(), Error> {
        let damaged = |why: String| Error::Corrupt { key: format!("the file `{NAME}`"), why };
        match (self.read().map_err(cannot_open)?, found) {
            (Content::Nothing, None) => self.write(Revision(0)).map_err(cannot_open),
            (Content::Nothing, Some(_)) => {
                Err(damaged("it is missing or empty beside a database that is not".to_owned()))
            }
            (Content::Damaged, _) => {
                Err(damaged("it is not what was written: its checksum is wrong".to_owned()))
            }
            (Content::Revision(told), found) if told > found.unwrap_or_default() => {
                let found = match found {
                    Some(revision) => format!("it ends at revision {revision}"),
                    None => "it is empty".to_owned(),
                };
                let why = format!("{found}, and revision {told} was acknowledged");
                Err(Error::Corrupt { key: "the database".to_owned(), why })
            }
            (Content::Revision(_), _) => Ok(()),
        }
    }

    /// Says that callers are about to be told of this revision.
    pub(super) fn write(&self, revision: Revision) -> io::Result<()> {
        let mut bytes = [0; BYTES];
        let (number, sealed) = bytes.split_at_mut(BYTES - 4);
        number.copy_from_slice(&revision.0.to_be_bytes());
        sealed.copy_from_slice(&crc32fast::hash(number).to_be_bytes());
        // Twelve bytes at the start of a block: a disk writes all of them or none.
        self.file.write_all_at(&bytes, 0)
    }

    fn read(&self) -> io::Result<Content> {
        // One more than there should be.
        let mut bytes = [0; BYTES + 1];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, u64::try_from(read).unwrap_or(u64::MAX))? {
                0 => break,
                more => read += more,
            }
        }
        let content = bytes.get(..read).unwrap_or_default();
        if content.is_empty() {
            return Ok(Content::Nothing);
        }
        let whole = content.split_first_chunk().and_then(|(number, sealed)| {
            let sealed = u32::from_be_bytes(sealed.try_into().ok()?);
            (crc32fast::hash(number) == sealed).then(|| u64::from_be_bytes(*number))
        });
        Ok(whole.map_or(Content::Damaged, |number| Content::Revision(Revision(number))))
    }
}

enum Content {
    Nothing,
    Damaged,
    Revision(Revision),
}

pub(super) fn cannot_open(source: io::Error) -> Error {
    Error::Io { doing: "open", source }
}

pub(super) fn in_use(dir: &Path) -> Error {
    let why = format!("another process has {} open", dir.display());
    cannot_open(io::Error::new(io::ErrorKind::WouldBlock, why))
}

/// Removes the snapshot that a process was writing when it was killed. sled 0.34 would take it for its newest one and
/// refuse to open for ever; a snapshot that is whole has been renamed.
pub(super) fn remove_unfinished(dir: &Path) -> io::Result<()> {
    for path in paths(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Reads every file once. sled 0.34 takes what it cannot read for the end of its log, and overwrites what comes after; a disk
/// that cannot be read must be found out before sled is let near it.
pub(super) fn read_all(dir: &Path) -> Result<(), Error> {
    let cannot_read = |source| Error::Io { doing: "read", source };
    let mut buffer = vec![0; 1 << 20];
    for path in paths(dir).map_err(cannot_read)? {
        let mut file = File::open(path).map_err(cannot_read)?;
        if file.metadata().map_err(cannot_read)?.is_dir() {
            continue;
        }
        while file.read(&mut buffer).map_err(cannot_read)? > 0 {}
    }
    Ok(())
}

fn paths(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

/// Makes the files themselves, and the directory's own name, survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    for path in paths(dir)? {
        File::open(path)?.sync_all()?;
    }
    File::open(dir)?.sync_all()?;
    match dir.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
