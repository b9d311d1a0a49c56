//! Files that are not what was written: cut, flipped, overwritten, taken away. A store opens with everything, history
//! included, or is refused; a difference that nobody notices is the one thing that must not happen.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    Dice,
    child::{self, Opening, Writing},
    times,
};

const TRIALS: u64 = 3;
const PAGE_BYTES: usize = 4096;
const PAGE: u64 = PAGE_BYTES as u64;

/// A store, and what opens of it.
struct Specimen {
    dir: TempDir,
    found: Opening,
}

impl Specimen {
    /// Written by a process that was killed, opened as often in between.
    fn new(opened_between: u64) -> Self {
        loop {
            let specimen = Self::killed(opened_between);
            // A commit that was not acknowledged may be lost, so there must be none.
            let reached = fs::read(specimen.dir.path().join("store/acknowledged")).unwrap();
            let reached = u64::from_be_bytes(reached[..8].try_into().unwrap());
            let Opening::Found(found) = &specimen.found else { panic!("{:?}", specimen.found) };
            if found.split(' ').next() == Some(&reached.to_string()) {
                return specimen;
            }
        }
    }

    fn killed(opened_between: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        for _ in 0..=opened_between {
            let writing = Writing::start(&store);
            writing.settle();
            // Enough for several segments of sled's log.
            std::thread::sleep(std::time::Duration::from_millis(250));
            writing.kill();
        }
        let mut specimen = Self { dir, found: Opening::Refused(String::new()) };
        specimen.found = specimen.open_after(|_| {});
        specimen
    }

    /// What opens of a copy that something was done to.
    fn open_after(&self, damage: impl FnOnce(&Path)) -> Opening {
        let copy = tempfile::tempdir().unwrap();
        let store = copy.path().join("store");
        copy_all(&self.dir.path().join("store"), &store);
        damage(&store);
        child::open(&store)
    }

    #[track_caller]
    fn check(&self, what: &str, damage: impl FnOnce(&Path)) -> bool {
        match self.open_after(damage) {
            Opening::Refused(error) => {
                assert!(error.len() > 20, "{what}: `{error}` says nothing");
                true
            }
            found => {
                assert_eq!(found, self.found, "{what}: opened, and is not what was written");
                false
            }
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for path in files(from) {
        let name = path.file_name().unwrap();
        if path.is_dir() {
            copy_all(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files
}

/// The files of a kind: `db`, `snap.`, `conf`, `acknowledged`.
fn file(store: &Path, starts_with: &str) -> Option<PathBuf> {
    let of_kind =
        |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(starts_with);
    files(store).into_iter().find(of_kind)
}

fn cut(path: &Path, len: u64) {
    fs::File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn flip(path: &Path, bit: u64) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, bit / 8).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << (bit % 8))], bit / 8).unwrap();
}

fn zero_page(path: &Path, page: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0; PAGE_BYTES], page * PAGE).unwrap();
}

/// Where something lies in a file, so that damage does not only hit what sled has left free.
fn written(path: &Path, dice: &mut Dice) -> u64 {
    let bytes = fs::read(path).unwrap();
    let pages: Vec<_> = bytes
        .chunks(PAGE_BYTES)
        .enumerate()
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        .map(|(at, _)| at as u64)
        .collect();
    let page = pages[usize::try_from(dice.below(pages.len() as u64)).unwrap()];
    (page * PAGE + dice.below(PAGE)).min(bytes.len() as u64 - 1)
}

#[test]
fn damage_is_noticed_or_does_not_matter() {
    let mut dice = Dice::seeded();
    let specimens = [Specimen::new(0), Specimen::new(1), Specimen::new(2)];
    let mut refusals = BTreeMap::<_, (u64, u64)>::new();
    for trial in 0..TRIALS * times() {
        for (which, specimen) in specimens.iter().enumerate() {
            for kind in ["db", "snap.", "conf", "acknowledged"] {
                let store = specimen.dir.path().join("store");
                let Some(path) = file(&store, kind) else { continue };
                let len = fs::metadata(&path).unwrap().len();
                let at = written(&path, &mut dice);
                let (bit, shorter) = (at * 8 + dice.below(8), dice.below(len));
                let mut check = |how: &str, damage: &dyn Fn(&Path)| {
                    let what = format!("{kind} {how} at {at}, trial {trial} of specimen {which}");
                    let refused =
                        specimen.check(&what, |store| damage(&file(store, kind).unwrap()));
                    let count = refusals.entry(format!("{kind} {how}")).or_default();
                    count.0 += u64::from(refused);
                    count.1 += 1;
                };
                check("flipped", &|path| flip(path, bit));
                check("cut", &|path| cut(path, if trial % 2 == 0 { at } else { shorter }));
                if kind == "db" {
                    check("overwritten with zeros", &|path| zero_page(path, at / PAGE));
                }
                if trial == 0 {
                    check("taken away", &|path| fs::remove_file(path).unwrap());
                }
            }
        }
    }
    for (what, (refused, of)) in refusals {
        println!("{what}: {refused} of {of} refused, the others opened with everything");
    }
}

/// sled took the unfinished snapshot for its newest one, and the store did not open any more.
#[test]
fn a_kill_while_a_snapshot_is_written_is_no_reason_to_refuse() {
    let specimen = Specimen::new(1);
    let opened = specimen.open_after(|store| {
        let snapshot = file(store, "snap.").unwrap();
        let half = fs::read(&snapshot).unwrap();
        for name in ["snap.0000000000000001.generating", "snap.FFFFFFFFFFFFFFFF.generating"] {
            fs::write(store.join(name), &half[..half.len() / 2]).unwrap();
        }
    });
    assert_eq!(opened, specimen.found);
}

/// sled takes a log without its end for one that was never written.
#[test]
fn a_store_that_lost_its_end_says_how_far_it_had_been() {
    let specimen = Specimen::new(0);
    let opened = specimen.open_after(|store| {
        for path in files(store) {
            if !path.ends_with("acknowledged") {
                if path.is_dir() {
                    fs::remove_dir_all(path).unwrap()
                } else {
                    fs::remove_file(path).unwrap()
                }
            }
        }
    });
    let Opening::Refused(error) = opened else {
        panic!("an empty store in the place of a full one")
    };
    assert!(
        error.contains("it is empty, and revision") && error.contains("was acknowledged"),
        "{error}"
    );
}
