//! `kill -9` of a process that commits, or opens.

use std::time::Duration;

use hangar::store::{
    Revision,
    sled::{Opened, Sled},
};

use crate::{
    Dice,
    child::{Acknowledged, Writing},
    times,
};

const KILLS: u64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_commit_survives_a_kill_and_is_whole() {
    let mut dice = Dice::seeded();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (mut before, mut acknowledged) = (Revision(0), Acknowledged::default());
    let kills = KILLS * times();
    for round in 0..kills {
        let delay = Duration::from_micros(dice.below(120_000));
        let path = path.clone();
        // One in four may still be opening when it is killed.
        let settled = round % 4 != 3;
        let killed = tokio::task::spawn_blocking({
            let path = path.clone();
            move || {
                let writing = Writing::start(&path);
                if settled {
                    writing.settle();
                }
                std::thread::sleep(delay);
                writing.kill()
            }
        });
        acknowledged.learn(killed.await.unwrap());
        let store = Sled::open(&path).await.unwrap();
        assert_eq!(store.opened(), Opened::Existing);
        let revision = acknowledged.assert_kept(&store).await;
        assert!(revision >= before, "round {round}: {revision} after {before}");
        before = revision;
    }
    println!(
        "{} commits acknowledged over {kills} kills, the store is at {before}",
        acknowledged.commits()
    );
}
