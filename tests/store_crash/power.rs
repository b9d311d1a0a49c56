//! Power cuts: a file system of its own, on a loop device, is shut down under a store that is in use, and mounted again.
//! Whatever was not synced is gone, as it is when the power fails or a virtual machine is stopped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use hangar::store::sled::Sled;

use crate::{
    Dice,
    child::{Acknowledged, Writing},
};

/// How many cuts; without it there are none, because they take seconds each and a loop device.
const CUTS: &str = "HANGAR_POWER_CUTS";

fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    let command = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|it| it.success())
}

/// An ext4 in a file.
struct Disk {
    dir: tempfile::TempDir,
    at: PathBuf,
}

impl Disk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("mounted");
        fs::create_dir(&at).unwrap();
        let disk = Self { dir, at };
        let image = disk.image();
        fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let made = run("mkfs.ext4", &["-q", image.to_str().unwrap()]) && disk.mount();
        let able = made && run("xfs_io", &["-c", "help", "/dev/null"]);
        if !able {
            println!("skipped: it takes mkfs.ext4, xfs_io, a loop device, and the right to mount");
        }
        able.then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn mount(&self) -> bool {
        run("mount", &["-o", "loop", self.image().to_str().unwrap(), self.at.to_str().unwrap()])
    }

    fn unmount(&self) -> bool {
        run("umount", &[self.at.to_str().unwrap()])
    }

    /// From now on nothing reaches the disk, not even the journal's own buffers.
    fn cut(&self) {
        assert!(run("xfs_io", &["-x", "-c", "shutdown", self.at.to_str().unwrap()]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _as_it_is = self.unmount();
    }
}

fn cut_once(disk: &Disk, store: &Path, dice: &mut Dice, acknowledged: &mut Acknowledged) {
    let writing = Writing::start(store);
    writing.settle();
    // A database that was in use for a while breaks in other ways than a new one.
    std::thread::sleep(Duration::from_millis(1000 + dice.below(500)));
    disk.cut();
    // It ends by itself, because its next sync fails.
    let (status, told, said) = writing.ended();
    assert!(!status.success(), "it did not notice: {said}");
    acknowledged.learn(told);
    assert!(disk.unmount() && disk.mount(), "the disk cannot be mounted again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_commit_survives_a_power_cut_and_is_whole() {
    let Some(cuts) = std::env::var(CUTS).ok().and_then(|text| text.parse::<u64>().ok()) else {
        println!("skipped: {CUTS} is not set");
        return;
    };
    let mut dice = Dice::seeded();
    let mut commits = 0;
    for cut in 0..cuts {
        let Some(disk) = Disk::new() else { return };
        let store = disk.at.join("store");
        let mut acknowledged = Acknowledged::default();
        // The second cut finds a database that was already recovered once.
        for _ in 0..2 {
            tokio::task::block_in_place(|| cut_once(&disk, &store, &mut dice, &mut acknowledged));
            let opened = Sled::open(&store).await;
            let opened = opened
                .unwrap_or_else(|error| panic!("cut {cut}: {}", hangar::retry::chain(&error)));
            acknowledged.assert_kept(&opened).await;
        }
        commits += acknowledged.commits();
        println!("cut {cut}: twice, {} commits acknowledged", acknowledged.commits());
    }
    println!("{commits} commits acknowledged over {} cuts, none lost", cuts * 2);
}
