//! Courses on which the world fails for long: a crash on the way changes nothing more. Those that take too long to be walked
//! again and again are walked by `hangar sim --course`.

use hangar::sim::{
    course::Course,
    plans::{self, Walk},
};

use crate::{crash_everywhere, old_views_everywhere, wrong_answers_everywhere};

#[test]
fn no_course_breaks_a_rule_by_itself() {
    for course in Course::ALL {
        let walk = Walk { course, seed: 1, mishaps: Vec::new() };
        let walked = plans::walk(&walk).unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(walked.report.violations, Vec::<String>::new(), "{walk}");
    }
}

#[test]
fn a_crash_anywhere_before_one_is_declared_again_changes_nothing() {
    crash_everywhere(Course::Again);
}

#[test]
fn a_crash_anywhere_while_creations_show_late_changes_nothing() {
    crash_everywhere(Course::Late);
}

#[test]
fn a_crash_anywhere_beside_a_stranger_changes_nothing() {
    crash_everywhere(Course::Stranger);
}

#[test]
fn a_crash_anywhere_while_there_is_no_room_changes_nothing() {
    crash_everywhere(Course::Crowded);
}

#[test]
fn a_crash_anywhere_while_lists_lack_things_changes_nothing() {
    crash_everywhere(Course::Blind);
}

#[test]
fn a_crash_anywhere_while_machines_are_made_anew_changes_nothing() {
    crash_everywhere(Course::Reset);
}

#[test]
fn a_wrong_answer_anywhere_while_machines_are_made_anew_changes_nothing() {
    wrong_answers_everywhere(Course::Reset);
}

#[test]
fn an_old_view_anywhere_while_machines_are_made_anew_changes_nothing() {
    old_views_everywhere(Course::Reset);
}
