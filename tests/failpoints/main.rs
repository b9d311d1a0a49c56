//! `kill -9` of the real process at each boundary: `hangar serve`, with its store on disk and HTTP between it and the stand-in for
//! Fly, kills itself before and after each commit and each call that changes something, and is started again as before. It
//! must end as one that was not killed: the same objects, and at Fly exactly what is declared, made no oftener.
//!
//! `HANGAR_FAILPOINT_TIMES=3` walks each of them three times.

#![cfg(debug_assertions)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step fails the test")]
#![expect(clippy::print_stdout, reason = "what a run did")]

mod course;
#[path = "../it/until.rs"]
mod until;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use futures::StreamExt as _;

use crate::{
    course::{Course, Ending},
    world::{Crossed, World},
};

/// Worlds at once: they wait most of the time.
const AT_ONCE: usize = 10;

fn times() -> usize {
    std::env::var("HANGAR_FAILPOINT_TIMES").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Walks a course to its end; returns that, and where it died, if it did.
async fn walk(course: Course, from: &Path, die_at: Option<String>) -> (Ending, World) {
    let mut world = World::begin(from, die_at).await;
    course.walk(&mut world).await;
    (course.ending(&mut world).await, world)
}

/// Walks a course once for each boundary that it crosses, and dies there.
async fn killed_everywhere(course: Course) {
    let from = tempfile::tempdir().unwrap();
    course.prepare(from.path()).await;
    let (reference, world) = walk(course, from.path(), None).await;
    let crossed = world.crossed();
    drop(world);
    let deaths: Vec<_> =
        (0..times()).flat_map(|_| &crossed).map(|it| it.boundary.clone()).collect();
    let walks = deaths.into_iter().map(|die_at| {
        let (from, reference) = (from.path(), &reference);
        async move {
            let (ending, world) = walk(course, from, Some(die_at.clone())).await;
            assert_eq!(
                &ending,
                reference,
                "{}: killed at {die_at}: {}",
                course.name(),
                world.said()
            );
            (die_at, world.died_at.clone())
        }
    });
    let died: Vec<_> = futures::stream::iter(walks).buffer_unordered(AT_ONCE).collect().await;
    let struck = died.iter().filter(|(_, it)| it.is_some()).count();
    println!("{}: {struck} kills in {} walks", course.name(), died.len());
    assert_each_was_struck(course, &crossed, &died);
}

/// A walk goes past as many calls as another, and each was struck. Commits vary in number, and each sort of them was struck, but
/// for those that only tell of a state or of what was seen: a walk may not come past it.
fn assert_each_was_struck(course: Course, crossed: &[Crossed], died: &[(String, Option<Crossed>)]) {
    let struck: BTreeMap<_, _> =
        died.iter().filter_map(|(_, it)| it.as_ref()).map(|it| (&it.boundary, it)).collect();
    for it in crossed.iter().filter(|it| it.boundary.starts_with("Call")) {
        let what = struck.get(&it.boundary).map(|it| &it.what);
        assert_eq!(what, Some(&it.what), "{}: {}", course.name(), it.boundary);
    }
    let sort = |it: &Crossed| format!("{} {}", it.boundary.split(':').next().unwrap(), it.what);
    let sorts: BTreeSet<_> = struck.values().map(|it| sort(it)).collect();
    let missed: Vec<_> = crossed.iter().map(sort).filter(|it| !sorts.contains(it)).collect();
    let tells = |it: &String| {
        let tells = ["environments/", "events/", "orphans/"];
        it.split(' ').skip(1).all(|it| tells.iter().any(|kind| it.starts_with(kind)))
    };
    assert!(missed.iter().all(tells), "{}: nobody died at {missed:?}", course.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_survives_a_kill_anywhere() {
    killed_everywhere(Course::Create).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_survives_a_kill_anywhere() {
    killed_everywhere(Course::Update).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleep_and_wake_survive_a_kill_anywhere() {
    killed_everywhere(Course::Sleep).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repair_survives_a_kill_anywhere() {
    killed_everywhere(Course::Repair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_survives_a_kill_anywhere() {
    killed_everywhere(Course::Delete).await;
}
