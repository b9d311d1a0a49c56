//! Disks that fail and disks that are full. A write or a sync that fails is the end of the process that needed it: nothing
//! is acknowledged after it, and what was acknowledged before it is there again afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use hangar::store::sled::Sled;

use crate::{
    Dice,
    child::{self, Acknowledged, Opening, Writing},
    times,
};

const FAILURES: u64 = 6;

/// Runs a child until the disk fails it, and asserts that it ended because of that.
fn failed(wrapper: &[&str], store: &Path, because: &str) -> Acknowledged {
    let (status, acknowledged, said) = Writing::start_under(wrapper, store).ended();
    // Only who waits for the commit that failed is told why.
    let told = said.contains(because) || said.contains("Err` value: Closed");
    assert!(!status.success() && told, "{status}: {said}");
    acknowledged
}

async fn assert_kept(store: &Path, acknowledged: &Acknowledged) {
    let store = Sled::open(store).await.unwrap();
    acknowledged.assert_kept(&store).await;
}

/// `RLIMIT_FSIZE` needs no rights: writes beyond the limit fail.
#[tokio::test]
async fn a_write_that_fails_ends_the_process_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut acknowledged = Acknowledged::default();
    for blocks in [2048, 4096] {
        let limited = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        acknowledged.learn(failed(&["sh", "-c", &limited, "sh"], &store, "FileTooLarge"));
        assert!(acknowledged.commits() > 0);
        assert_kept(&store, &acknowledged).await;
    }
}

fn can_trace() -> bool {
    let works = Command::new("strace")
        .args(["-qq", "-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success());
    if !works {
        println!("skipped: strace is not there, or may not trace");
    }
    works
}

/// sled 0.34 writes a commit in two pieces at once. When the later piece is on disk and the first one fails then, it wakes
/// nobody: whoever waited for the commit waited for ever.
#[test]
fn a_write_that_fails_late_ends_the_process_too() {
    if !can_trace() {
        return;
    }
    // Which thread writes which piece is left to chance: about every second trial hits it.
    for when in 4..8 {
        let dir = tempfile::tempdir().unwrap();
        let inject = format!("inject=sync_file_range:error=EIO:delay_enter=200ms:when={when}");
        let trace = ["-e", "trace=sync_file_range", "-e", &inject];
        let strace = [&["strace", "-f", "-qq", "-o", "/dev/null"][..], &trace].concat();
        failed(&strace, &dir.path().join("store"), "Io {");
    }
}

/// sled took a read that failed for the end of its log, and overwrote the rest.
#[test]
fn a_disk_that_cannot_be_read_is_not_written_to() {
    if !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let writing = Writing::start(&store);
    writing.settle();
    writing.kill();
    let found = child::open(&store);
    assert!(matches!(found, Opening::Found(_)), "{found:?}");
    let db = store.join("db").to_str().unwrap().to_owned();
    let trace = ["-e", "trace=read", "-e", "inject=read:error=EIO:when=1", "-P", &db];
    let strace = [&["strace", "-f", "-qq", "-o", "/dev/null"][..], &trace].concat();
    let Opening::Refused(error) = child::open_under(&strace, &store) else {
        panic!("opened what it could not read");
    };
    assert!(error.contains("cannot read the store"), "{error}");
    assert_eq!(child::open(&store), found);
}

/// A call that fails, at some time: strace puts itself in between.
#[tokio::test]
async fn an_error_of_the_disk_ends_the_process_and_loses_nothing() {
    if !can_trace() {
        return;
    }
    let mut dice = Dice::seeded();
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut acknowledged = Acknowledged::default();
    acknowledged.learn({
        let writing = Writing::start(&store);
        writing.settle();
        writing.kill()
    });
    for trial in 0..FAILURES * times() {
        let calls = ["fdatasync", "pwrite64", "sync_file_range"];
        let call = calls[usize::try_from(trial).unwrap() % calls.len()];
        let error = if trial % 2 == 0 { "EIO" } else { "ENOSPC" };
        // Opening makes a few of these calls as well.
        let inject = format!("inject={call}:error={error}:when={}+", 1 + dice.below(60));
        let trace = format!("trace={call}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        acknowledged.learn(failed(&strace, &store, "Io {"));
        assert_kept(&store, &acknowledged).await;
    }
}

/// A file system of a few megabytes, unmounted at the end.
struct Mount {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mount {
    /// `None`, with a printed reason, where mounting is not permitted.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("mounted");
        fs::create_dir(&at).unwrap();
        let mount = Self { at, _dir: dir };
        if mount.size("size=3m") {
            return Some(mount);
        }
        println!("skipped: mounting is not permitted");
        None
    }

    fn size(&self, options: &str) -> bool {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(&self.at)
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|it| it.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _tried = Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status();
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_process_and_room_makes_it_open_again() {
    let Some(mount) = Mount::new() else { return };
    let store = mount.at.join("store");
    let mut acknowledged = Acknowledged::default();
    for more in ["remount,size=5m", "remount,size=7m"] {
        acknowledged.learn(failed(&[], &store, "StorageFull"));
        assert!(acknowledged.commits() > 0);
        // Still full: opened or refused, never wrong.
        if let Opening::Refused(error) = child::open(&store) {
            println!("full, and refused: {error}");
            assert!(error.contains("No space left"), "{error}");
        }
        assert!(mount.size(more));
        assert_kept(&store, &acknowledged).await;
    }
}
