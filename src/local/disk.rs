//! The state's files: one per app, machine and volume, each replaced whole. It must never leave a half-written file where a
//! reader finds it.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::local::{
    config::Keep,
    refusal::Refusal,
    state::{App, Key, Machine, Volume, World},
};
use crate::tasks;

/// The data directory.
#[derive(Debug)]
pub(super) struct Disk {
    root: PathBuf,
    keep: Keep,
    /// Locked for as long as it is open; shims do not inherit it. `None` where nothing is kept.
    _claim: Option<fs::File>,
}

/// What went wrong with the data directory.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// read, write, create …
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another backend has it: two would start and stop each other's machines.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A file is not what this program wrote.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// How.
        source: serde_json::Error,
    },
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

impl Disk {
    /// Makes the directories and claims them for this value's life. Paths are absolute from here on: machines' shims have working directories of their own.
    pub(super) fn open(root: PathBuf, keep: Keep) -> Result<Self, Error> {
        if keep == Keep::Nothing {
            return Ok(Self { root, keep, _claim: None });
        }
        let root = std::path::absolute(&root).map_err(io_error("find", &root))?;
        for part in ["apps", "volumes", "snapshots"] {
            let path = root.join(part);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let claim = claim(&root)?;
        Ok(Self { root, keep, _claim: Some(claim) })
    }

    /// Works on the files, away from the runtime's threads; does nothing where nothing is kept.
    pub(super) async fn work<T: Default + Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Refusal> {
        if self.keep == Keep::Nothing {
            return Ok(T::default());
        }
        let disk = Arc::clone(self);
        match tasks::blocking(move || work(&disk)).await {
            Ok(result) => result.map_err(|error| Refusal::Internal(crate::retry::chain(&error))),
            Err(died) => Err(Refusal::Internal(died.to_string())),
        }
    }

    /// A volume's content.
    pub(super) fn volume(&self, id: &str) -> PathBuf {
        self.root.join("volumes").join(id)
    }

    /// Makes a volume's empty content.
    pub(super) fn make_volume(&self, id: &str) -> Result<(), Error> {
        let path = self.volume(id);
        fs::create_dir_all(&path).map_err(io_error("create", &path))
    }

    /// A snapshot's content.
    pub(super) fn snapshot(&self, id: &str) -> PathBuf {
        self.root.join("snapshots").join(id)
    }

    fn path(&self, key: &Key) -> PathBuf {
        let apps = self.root.join("apps");
        match key {
            Key::App(app) => apps.join(app).join("app.json"),
            Key::Machine(app, id) => apps.join(app).join(format!("machine-{id}.json")),
            Key::Volume(app, id) => apps.join(app).join(format!("volume-{id}.json")),
        }
    }

    /// Replaces a record, or removes it. When this returns, a power cut does not undo it.
    pub(super) fn write(&self, key: &Key, bytes: Option<&[u8]>) -> Result<(), Error> {
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.root);
        let Some(bytes) = bytes else {
            return match fs::remove_file(&path) {
                Ok(()) => self.sync_dir(dir),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(io_error("remove", &path)(error)),
            };
        };
        if matches!(key, Key::App(_)) && !dir.exists() {
            fs::create_dir_all(dir).map_err(io_error("create", dir))?;
            self.sync_dir(&self.root.join("apps"))?;
        }
        let temporary = path.with_extension("new");
        let written = private_file(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            if self.keep == Keep::Synced { file.sync_all() } else { Ok(()) }
        });
        written.map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(io_error("replace", &path))?;
        self.sync_dir(dir)
    }

    /// Removes what is left of an app whose own record is gone.
    pub(super) fn remove_app(&self, app: &str) -> Result<(), Error> {
        remove_tree(&self.root.join("apps").join(app))
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), Error> {
        if self.keep != Keep::Synced {
            return Ok(());
        }
        fs::File::open(dir).and_then(|it| it.sync_all()).map_err(io_error("sync", dir))
    }

    /// Reads everything back.
    pub(super) fn load(&self) -> Result<World, Error> {
        let mut world = World::default();
        if self.keep == Keep::Nothing {
            return Ok(world);
        }
        let apps = self.root.join("apps");
        for dir in entries(&apps)? {
            let record = dir.join("app.json");
            if !record.exists() {
                // Its deletion, or its creation, was cut short.
                remove_tree(&dir)?;
                continue;
            }
            let app: App = read(&record)?;
            world.apps.insert(app.name.clone(), app);
            for path in entries(&dir)? {
                let name = path.file_name().map(|it| it.to_string_lossy().into_owned());
                let name = name.unwrap_or_default();
                if !name.ends_with(".json") {
                    fs::remove_file(&path).map_err(io_error("remove", &path))?;
                } else if name.starts_with("machine-") {
                    world.insert_machine(read::<Machine>(&path)?);
                } else if name.starts_with("volume-") {
                    world.insert_volume(read::<Volume>(&path)?);
                }
            }
        }
        Ok(world)
    }
}

/// Makes this process the directory's only user, for as long as the returned file is open.
fn claim(root: &Path) -> Result<fs::File, Error> {
    let path = root.join("lock");
    let file = private_file(&path).map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::InUse { path: root.to_owned() }),
        Err(fs::TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// A record as bytes.
pub(super) fn encode(record: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(record)
}

/// Secrets are in these files.
fn private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    serde_json::from_slice(&bytes)
        .map_err(|source| Error::Damaged { path: path.to_owned(), source })
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    fs::read_dir(dir)
        .and_then(|found| found.map(|it| it.map(|it| it.path())).collect())
        .map_err(io_error("list", dir))
}

/// Removes a directory with everything in it; fine when there is none.
pub(super) fn remove_tree(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("remove", path)(error)),
    }
}

/// Copies a tree beside its place and then renames it there, so that a copy is whole or absent. Returns the bytes of its
/// files. Sockets and pipes are left out: they are nothing without their process.
pub(super) fn copy_tree(from: &Path, to: &Path) -> Result<u64, Error> {
    let part = to.with_extension("part");
    remove_tree(&part)?;
    let bytes = copy_into(from, &part).map_err(io_error("copy", from))?;
    remove_tree(to)?;
    fs::rename(&part, to).map_err(io_error("replace", to))?;
    Ok(bytes)
}

fn copy_into(from: &Path, to: &Path) -> io::Result<u64> {
    fs::create_dir_all(to)?;
    let mut bytes = 0;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            bytes += copy_into(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if kind.is_file() {
            bytes += fs::copy(&source, &target)?;
        }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_hold_wherever_they_are_read() {
        let here = tempfile::tempdir_in(".").unwrap();
        let relative = Path::new(".").join(here.path().file_name().unwrap());
        let volume = Disk::open(relative, Keep::Unsynced).unwrap().volume("vol_1");
        assert!(volume.is_absolute(), "{}", volume.display());
    }
}
