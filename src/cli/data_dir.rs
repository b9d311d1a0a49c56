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
    let exported = exports::of(data_dir).last()?;
    Ok(exported.map(|(at, _)| format!("the store was empty, and there is an export of {at}")))
}

/// Why the store does not open, and what may be done about it.
pub(super) fn cannot_open(error: store::Error, data_dir: &Path) -> anyhow::Error {
    let hint = match &error {
        store::Error::Corrupt { .. } => damaged(data_dir),
        store::Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            let ballast = data_dir.join(BALLAST);
            format!(
                "make room on the disk; this file is there to be deleted for it: {}",
                ballast.display()
            )
        }
        _ => return error.into(),
    };
    Failure::hinted(retry::chain(&error), hint).into()
}

fn damaged(data_dir: &Path) -> String {
    let (dir, store) = (data_dir.display(), data_dir.join(STORE));
    let away = format!("nothing was changed; move {} away", store.display());
    match exports::of(data_dir).last() {
        Ok(Some((_, last))) => format!(
            "{away} and make a store from an export: hangar restore-store --from {} --data-dir {dir}",
            last.display()
        ),
        Ok(None) | Err(_) => format!(
            "{away} and make a store from a copy of an export with hangar restore-store: there is none in {}",
            data_dir.join(exports::DIRECTORY).display()
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_damaged_store_is_told_of_the_last_export() {
        let dir = tempfile::tempdir().unwrap();
        assert!(damaged(dir.path()).contains("there is none in"));
        let backups = dir.path().join(exports::DIRECTORY);
        fs::create_dir(&backups).unwrap();
        for name in ["2026-11-22T08-39-38Z.jsonl", "2026-11-22T09-39-38Z.jsonl", "partial"] {
            fs::write(backups.join(name), "").unwrap();
        }
        let last = backups.join("2026-11-22T09-39-38Z.jsonl");
        let command = format!("hangar restore-store --from {} --data-dir ", last.display());
        assert!(damaged(dir.path()).contains(&command));
    }
}
