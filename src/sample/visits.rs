//! The visit counter: one number in a file, replaced whole. It must never lose a count because two visits came at once.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Visits, over all lives of the volume and since this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) total: u64,
    pub(super) since_start: u64,
    /// Whether the total is on a volume; otherwise it starts anew with the app.
    pub(super) kept: bool,
}

#[derive(Debug)]
pub(super) struct Visits {
    file: PathBuf,
    since_start: Mutex<u64>,
}

impl Visits {
    pub(super) fn in_directory(volume: &Path) -> Self {
        Self { file: volume.join("visits"), since_start: Mutex::new(0) }
    }

    /// Counts one more.
    pub(super) fn add(&self) -> Count {
        let mut since_start = self.since_start.lock().unwrap_or_else(PoisonError::into_inner);
        *since_start += 1;
        match self.add_to_file() {
            Ok(total) => Count { total, since_start: *since_start, kept: true },
            Err(_) => Count { total: *since_start, since_start: *since_start, kept: false },
        }
    }

    fn add_to_file(&self) -> io::Result<u64> {
        let total = match fs::read_to_string(&self.file) {
            Ok(text) => text.trim().parse().unwrap_or(0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        } + 1;
        let beside = self.file.with_extension("new");
        fs::write(&beside, format!("{total}\n"))?;
        fs::rename(beside, &self.file)?;
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_goes_on_where_the_last_life_ended() {
        let volume = tempfile::tempdir().unwrap();
        Visits::in_directory(volume.path()).add();
        let count = Visits::in_directory(volume.path()).add();
        assert_eq!(count, Count { total: 2, since_start: 1, kept: true });
    }

    #[test]
    fn without_a_volume_it_counts_and_says_that_it_will_forget() {
        let count = Visits::in_directory(Path::new("/nowhere/at/all")).add();
        assert_eq!(count, Count { total: 1, since_start: 1, kept: false });
    }
}
