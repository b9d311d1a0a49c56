//! A store that is made at once, from entries that were exported: all of them at one revision, and no history before it, so
//! that whoever watched the old one lists again. It must never touch a store that is there.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use crate::store::{
    Error, Key, Revision,
    files::{self, Acknowledged},
    rows,
    sled::{file_sync, io_error, open_db},
};
use crate::tasks;

/// Rows that are given to sled at once.
const BATCH_ROWS: usize = 1000;

/// Makes a store in this directory, which must not be there or be empty. It is there whole or not at all.
///
/// # Errors
/// `Io`; of kind `AlreadyExists` when there is something in the directory.
pub async fn make(
    dir: impl Into<PathBuf>,
    entries: Vec<(Key, Bytes)>,
    revision: Revision,
) -> Result<(), Error> {
    let dir = dir.into();
    let made = tasks::blocking(move || make_now(&dir, &entries, revision)).await;
    made.unwrap_or_else(|died| Err(cannot_make(io::Error::other(died))))
}

fn cannot_make(source: io::Error) -> Error {
    Error::Io { doing: "make", source }
}

/// Whether there is nothing that a new store would be in the way of.
///
/// # Errors
/// When the directory cannot be read.
pub fn is_free(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn make_now(dir: &Path, entries: &[(Key, Bytes)], revision: Revision) -> Result<(), Error> {
    if !is_free(dir).map_err(cannot_make)? {
        let why = format!("there is something in {}", dir.display());
        return Err(cannot_make(io::Error::new(io::ErrorKind::AlreadyExists, why)));
    }
    let partial = dir.with_extension("partial");
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot_make(error)),
        Ok(()) | Err(_) => {}
    }
    let acknowledged = Acknowledged::lock(&partial)?;
    fill(&partial, entries, revision)?;
    acknowledged.write(revision).map_err(cannot_make)?;
    files::sync_dir(&partial).map_err(cannot_make)?;
    fs::rename(&partial, dir).map_err(cannot_make)?;
    let parent = dir.parent().filter(|it| !it.as_os_str().is_empty());
    let parent = File::open(parent.unwrap_or_else(|| Path::new(".")));
    parent.and_then(|it| it.sync_all()).map_err(cannot_make)
}

fn fill(dir: &Path, entries: &[(Key, Bytes)], revision: Revision) -> Result<(), Error> {
    let db = open_db(dir)?;
    let mut batches = vec![::sled::Batch::default()];
    let mut rows = 0;
    rows::encode_whole(entries, revision, &mut |name, bytes| {
        if rows % BATCH_ROWS == BATCH_ROWS - 1 {
            batches.push(::sled::Batch::default());
        }
        rows += 1;
        if let (Some(batch), Some(bytes)) = (batches.last_mut(), bytes) {
            batch.insert(name, bytes);
        }
    });
    for batch in batches {
        db.apply_batch(batch).map_err(|error| cannot_make(io_error(error)))?;
    }
    db.flush().map_err(|error| cannot_make(io_error(error)))?;
    file_sync(dir).and_then(|mut sync| sync()).map_err(cannot_make)
}
