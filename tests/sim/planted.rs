//! Mistakes that are planted in the controller, one at a time: each is caught by what is walked anyway.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use hangar::sim::{hunt::hunt, mistakes::Mistake};

#[test]
fn every_planted_mistake_is_caught() {
    let next = AtomicUsize::new(0);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(mistake) = Mistake::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match hunt(*mistake) {
                        Some(caught) => println!("{caught}"),
                        None => missed.lock().unwrap().push(mistake.name()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().unwrap();
    assert!(missed.is_empty(), "not caught: {}", missed.join(", "));
}
