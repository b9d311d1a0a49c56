//! hangar in a simulated world: what must hold whatever goes wrong. It must never say how hangar gets there.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    reason = "a wrong walk fails the test, and each says how many there were"
)]

use hangar::sim::{
    course::Course,
    plans::{self, Walk},
};

/// The narrow way into the simulation: no walk with a crash differs from the one without.
fn crash_everywhere(course: Course) {
    let (walks, wrongs) = match plans::crash_everywhere(course, 1) {
        Ok(walked) => walked,
        Err(wrong) => panic!("the undisturbed walk: {wrong}{}", wrong.lines.join("\n")),
    };
    println!("{walks} crashes in {}", course.name());
    let told: Vec<_> = wrongs.iter().map(ToString::to_string).collect();
    let first = wrongs.first().map(|it| it.lines.join("\n")).unwrap_or_default();
    assert!(wrongs.is_empty(), "{} of {walks} are wrong\n{}\n{first}", wrongs.len(), told.concat());
}

#[test]
fn a_seed_repeats_a_course() {
    for course in Course::ALL {
        let walk = Walk { course, seed: 7, crash_at: Some(9) };
        let hash = || plans::walk(walk).map(|it| it.0.hash).map_err(|it| it.to_string());
        assert_eq!(hash(), hash(), "{walk}");
    }
}

#[test]
fn a_crash_anywhere_in_a_creation_changes_nothing() {
    crash_everywhere(Course::Create);
}

#[test]
fn a_crash_anywhere_in_two_creations_changes_nothing() {
    crash_everywhere(Course::Pair);
}

#[test]
fn a_crash_anywhere_in_an_update_changes_nothing() {
    crash_everywhere(Course::Update);
}

#[test]
fn a_crash_anywhere_in_sleep_and_wake_changes_nothing() {
    crash_everywhere(Course::Sleep);
}

#[test]
fn a_crash_anywhere_in_a_repair_changes_nothing() {
    crash_everywhere(Course::Drift);
}

#[test]
fn a_crash_anywhere_in_a_deletion_changes_nothing() {
    crash_everywhere(Course::Delete);
}

#[test]
fn a_crash_anywhere_in_a_hurried_deletion_leaves_nothing() {
    crash_everywhere(Course::Hurry);
}
