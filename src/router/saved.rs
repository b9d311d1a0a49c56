//! The router's own copy of its table on disk, so that it serves what it last knew while the server is gone. It holds the
//! bays' keys in the clear: the directory is 0700 and its files 0600. It must never hold up serving, nor be taken for more
//! than the last known state.

use std::{
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::router::{
    index::{Index, Saved},
    packed::{App, Label},
    table::{Flag, Machine, Route},
};

const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// What is wrong with the copy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another router has it open.
    #[error("the router's copy of its table is in use by another process")]
    InUse,
    /// The directory or a file in it.
    #[error("cannot {doing} the router's copy of its table")]
    Io {
        /// open, write …
        doing: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// sled.
    #[error("cannot {doing} the router's copy of its table")]
    Database {
        /// open, write …
        doing: &'static str,
        /// The cause.
        source: ::sled::Error,
    },
}

/// An open copy.
#[derive(Debug)]
pub struct Shelf {
    db: ::sled::Db,
    /// sled's flush does not sync on Linux.
    file: File,
}

/// One label as it is written.
#[derive(Serialize, Deserialize)]
struct Row {
    uid: Uuid,
    namespace: String,
    name: String,
    bay: String,
    epoch: u32,
    present: bool,
    flags: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Flags that are written as a number; the others follow from what is there.
const FLAGS: [Flag; 6] =
    [Flag::PUBLIC, Flag::ASLEEP, Flag::BROKEN, Flag::DELETED, Flag::RELEASED, Flag::UNLISTED];

impl Shelf {
    /// Opens the copy in this directory, which is made if need be. Blocks; meant for the start.
    ///
    /// # Errors
    /// If the directory cannot be used or another process has it open.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { doing: "open", source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(io)?;
        let config = ::sled::Config::new().path(dir).cache_capacity(16 * 1024 * 1024);
        let db = open(&config).map_err(|source| match source {
            ::sled::Error::Io(source) if is_locked(&source) => Error::InUse,
            source => Error::Database { doing: "open", source },
        })?;
        let path = dir.join("db");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(io)?;
        Ok(Self { db, file: File::open(path).map_err(io)? })
    }

    /// Fills an empty index with what was last known and returns how many labels that is. A row that cannot be read is
    /// passed over.
    ///
    /// # Errors
    /// If the files cannot be read.
    pub fn load(&self, index: &mut Index) -> Result<usize, Error> {
        let mut count = 0;
        for row in self.db.iter() {
            let (key, value) = row.map_err(|source| Error::Database { doing: "read", source })?;
            match read(&key, &value) {
                Some((label, saved)) => {
                    index.restore(label, &saved);
                    count += 1;
                }
                None => tracing::warn!("a row of the router's copy of its table was passed over"),
            }
        }
        index.restored(count);
        Ok(count)
    }

    /// Writes changes, and returns when they are on disk.
    ///
    /// # Errors
    /// If they may not be.
    pub fn write(&self, changes: Vec<(Label, Option<Saved>)>) -> Result<(), Error> {
        let database = |source| Error::Database { doing: "write", source };
        let mut batch = ::sled::Batch::default();
        for (label, saved) in changes {
            let key = label.text();
            match saved.map(|saved| serde_json::to_vec(&row(&saved))) {
                Some(Ok(value)) => batch.insert(key.as_bytes(), value),
                Some(Err(_)) | None => batch.remove(key.as_bytes()),
            }
        }
        self.db.apply_batch(batch).map_err(database)?;
        self.db.flush().map_err(database)?;
        self.file.sync_all().map_err(|source| Error::Io { doing: "write", source })
    }
}

/// sled's threads hold the lock a little longer than a handle that was dropped, and a process that was told to end a little
/// longer than its successor starts.
fn open(config: &::sled::Config) -> Result<::sled::Db, ::sled::Error> {
    for _ in 0..LOCK_TRIES {
        match config.open() {
            Err(::sled::Error::Io(_)) => std::thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
    config.open()
}

/// sled tells it by text only.
fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn row(saved: &Saved) -> Row {
    let route = &saved.route;
    let place =
        route.has(Flag::MACHINE).then(|| (route.app().to_string(), route.machine().to_string()));
    let (app, machine) = place.unzip();
    Row {
        uid: saved.uid,
        namespace: saved.namespace.clone(),
        name: saved.name.clone(),
        bay: STANDARD.encode(saved.bay),
        epoch: saved.epoch,
        present: saved.present,
        flags: FLAGS.iter().enumerate().map(|(bit, flag)| u8::from(route.has(*flag)) << bit).sum(),
        app,
        machine,
        key: route.key().map(|key| STANDARD.encode(key)),
    }
}

fn read(key: &[u8], value: &[u8]) -> Option<(Label, Saved)> {
    let label = Label::of_name(std::str::from_utf8(key).ok()?)?;
    let row: Row = serde_json::from_slice(value).ok()?;
    let mut route = Route::new(0);
    if let (Some(app), Some(machine)) = (&row.app, &row.machine) {
        route = route.to(App::exact(app)?, Machine::parse(machine.as_bytes())?);
    }
    if let Some(key) = &row.key {
        route = route.keyed(Some(STANDARD.decode(key).ok()?.try_into().ok()?));
    }
    for (bit, flag) in FLAGS.into_iter().enumerate() {
        route = route.with(flag, row.flags & (1 << bit) != 0);
    }
    let bay = STANDARD.decode(&row.bay).ok()?.try_into().ok()?;
    let Row { uid, namespace, name, epoch, present, .. } = row;
    Some((label, Saved { uid, namespace, name, bay, epoch, present, route }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_back_as_it_was_written() {
        let mut saved = Saved {
            uid: Uuid::from_u128(7),
            namespace: "default".to_owned(),
            name: "alice".to_owned(),
            bay: [3; 16],
            epoch: 9,
            present: true,
            route: Route::new(0),
        };
        for flag in FLAGS {
            saved.route = saved.route.with(flag, true);
            let bytes = serde_json::to_vec(&row(&saved)).unwrap();
            assert_eq!(
                read(b"alice", &bytes),
                Some((Label::of_name("alice").unwrap(), saved.clone()))
            );
        }
        let machine = Machine::parse(b"3d8d9930c4e1b8").unwrap();
        saved.route = saved.route.to(App::exact("hgr-1").unwrap(), machine).keyed(Some([5; 16]));
        let bytes = serde_json::to_vec(&row(&saved)).unwrap();
        assert_eq!(read(b"alice", &bytes), Some((Label::of_name("alice").unwrap(), saved)));
        assert_eq!(read(b"Not a label", &bytes), None);
    }

    #[test]
    fn nobody_else_may_read_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes");
        let _shelf = Shelf::open(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("db"))), (0o700, 0o600));
    }
}
