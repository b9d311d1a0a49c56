//! What a data directory holds beside the store: the installation's id, by which a lost store is noticed, and room that can be
//! given up when the disk is full. It must never be taken for the truth where the store says something else.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    cli::{exports, failure::Failure},
    retry, store,
};

/// The store, below the data directory.
pub(super) const STORE: &str = "store";
/// The key of the stored Secrets, below the data directory.
pub(super) const SECRET_KEY: &str = "secret.key";
const INSTANCE: &str = "instance";
const BALLAST: &str = "ballast";
/// Enough for the store to be opened on a disk that is full otherwise.
const BALLAST_BYTES: u64 = 8 << 20;

/// Why an empty store in this directory must be one that was lost, if so.
pub(super) fn lost(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let cannot = || format!("cannot read {}", data_dir.join(INSTANCE).display());
    let known = match fs::read_to_string(data_dir.join(INSTANCE)) {
        Ok(id) => Some(id.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(cannot),
    };
    if let Some(id) = known {
        let why = format!("the store was empty, and installation {id} had one in this directory");
        return Ok(Some(why));
    }
    let exported = exports::of(data_dir).last_at()?;
    Ok(exported.map(|at| format!("the store was empty, and there is an export of {at}")))
}

/// Why the store does not open, and what may be done about it.
pub(super) fn hinted(error: &store::Error, data_dir: &Path) -> Failure {
    let message = retry::chain(error);
    match error {
        store::Error::Corrupt { .. } => Failure::hinted(
            message,
            format!(
                "move {} away and make a store from an export: hangar restore-store --from {}/… --data-dir {}",
                data_dir.join(STORE).display(),
                data_dir.join(exports::DIRECTORY).display(),
                data_dir.display()
            ),
        ),
        store::Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            let ballast = data_dir.join(BALLAST);
            let hint = "make room on the disk; this file is there to be deleted for it";
            Failure::hinted(message, format!("{hint}: {}", ballast.display()))
        }
        _ => Failure::new(message),
    }
}

/// Writes down whose store this is.
pub(super) fn remember(data_dir: &Path, instance: &str) -> anyhow::Result<()> {
    let path = data_dir.join(INSTANCE);
    if fs::read_to_string(&path).is_ok_and(|it| it.trim() == instance) {
        return Ok(());
    }
    let partial = path.with_extension("partial");
    let write = || {
        let mut file = File::create(&partial)?;
        writeln!(file, "{instance}")?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(data_dir)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Keeps some room on the disk, which a person can give back by deleting the file: a full disk keeps even the store from
/// being opened.
pub(super) fn keep_room(data_dir: &Path) {
    let path = data_dir.join(BALLAST);
    let kept = || {
        let file = File::options().write(true).create(true).truncate(false).open(&path)?;
        Ok::<_, io::Error>(fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES)?)
    };
    if let Err(error) = kept() {
        // Half a ballast would only take room.
        let _none = fs::remove_file(&path);
        tracing::warn!(%error, path = %path.display(), "no room is kept for when the disk is full");
    }
}
