//! Exports of a store in a directory: written whole or not at all, for their owner's eyes, the older ones thinned out. It
//! must never change the store, nor remove an export that it was told to spare.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::store::{
    self, Entry,
    export::{self, About, Export},
    handle::Store,
};
use crate::tasks;

/// Of so many hours the last export is kept.
const HOURS_KEPT: usize = 24;
const EXTENSION: &str = "jsonl";

/// Where the exports of a store are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Backups {
    dir: Arc<Path>,
    /// Two exports of the same second would have the same name.
    one_at_a_time: Arc<Mutex<()>>,
}

/// An export that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Where.
    pub file: PathBuf,
    /// The revision of the store.
    pub revision: u64,
    /// How many entries.
    pub entries: usize,
    /// The size of the file.
    pub bytes: u64,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store does not give its entries.
    #[error("the store cannot be exported")]
    Store(#[source] store::Error),
    /// A file could not be used.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// write, read …
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file is not an export.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// The cause.
        source: export::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { doing, path, source }
}

impl Backups {
    /// The exports in this directory, which is made with the first one.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.into(), one_at_a_time: Arc::default() }
    }

    /// Writes an export.
    ///
    /// # Errors
    /// `Store`, `File`.
    pub async fn write(&self, store: &Store, at: Timestamp) -> Result<Backup, Error> {
        let (entries, revision) = store.list_sealed("").await.map_err(Error::Store)?;
        let about = About::new(revision, at);
        let this = self.clone();
        let written = tasks::blocking(move || this.write_now(&about, &entries)).await;
        written.unwrap_or_else(|died| Err(failed("write", &self.dir)(io::Error::other(died))))
    }

    fn write_now(&self, about: &About, entries: &[Entry]) -> Result<Backup, Error> {
        let _others_wait = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{}.{EXTENSION}", about.at.strftime("%Y-%m-%dT%H-%M-%SZ"));
        let path = self.dir.join(name);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(failed("make", &self.dir))?;
        // Always the same name, so that what a kill left is written over.
        let partial = self.dir.join("partial");
        let bytes = write_file(&partial, about, entries).map_err(|error| {
            // A disk that is full has no room for half an export.
            let _gone = fs::remove_file(&partial);
            failed("write", &partial)(error)
        })?;
        fs::rename(&partial, &path).map_err(failed("write", &path))?;
        File::open(&self.dir).and_then(|it| it.sync_all()).map_err(failed("sync", &self.dir))?;
        let (revision, entries) = (about.revision().0, entries.len());
        Ok(Backup { file: path, revision, entries, bytes })
    }

    /// When the last one was made, and where it is, if there is one.
    ///
    /// # Errors
    /// `File`.
    pub fn last(&self) -> Result<Option<(Timestamp, PathBuf)>, Error> {
        Ok(self.all()?.into_iter().max())
    }

    /// Removes the older ones: of the last 24 hours that have any, the last of each stays. Those from before
    /// `spared_before` all stay: they may be all that is left of a store that was lost then.
    ///
    /// # Errors
    /// `File`.
    pub fn thin_out(&self, spared_before: Option<Timestamp>) -> Result<(), Error> {
        let _others_wait = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.all()?;
        all.retain(|(at, _)| spared_before.is_none_or(|spared| *at >= spared));
        all.sort();
        let mut hours = BTreeSet::new();
        for (at, path) in all.into_iter().rev() {
            let first_of_hour = hours.insert(at.as_second() / 3600);
            if !first_of_hour || hours.len() > HOURS_KEPT {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }

    fn all(&self) -> Result<Vec<(Timestamp, PathBuf)>, Error> {
        let files = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(failed("read", &self.dir))?,
        };
        let mut all = Vec::new();
        for file in files {
            let path = file.map_err(failed("read", &self.dir))?.path();
            if let Some(at) = made_at(&path) {
                all.push((at, path));
            }
        }
        Ok(all)
    }
}

/// When an export was made, by its name; `None` for what is none.
fn made_at(path: &Path) -> Option<Timestamp> {
    let name = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?.strip_suffix('.')?;
    let (date, time) = name.split_once('T')?;
    format!("{date}T{}", time.replace('-', ":")).parse().ok()
}

/// Bay keys and manifests are in it, and whoever can read it may read those.
fn write_file(path: &Path, about: &About, entries: &[Entry]) -> io::Result<u64> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut buffered = BufWriter::new(file);
    export::write(about, entries, &mut buffered)?;
    buffered.flush()?;
    let file = buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

/// Reads an export and checks all of it.
///
/// # Errors
/// `File`, `Unusable`.
pub fn read(path: &Path) -> Result<Export, Error> {
    let file = File::open(path).map_err(failed("read", path))?;
    export::read(&mut BufReader::new(file))
        .map_err(|source| Error::Unusable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
