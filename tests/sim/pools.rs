//! Courses in which environments get bays of pools, with something going wrong at each of their steps, and the seeds in which
//! something once was wrong. The dearer suites of the longer courses are walked by `hangar sim --course`.

use hangar::sim::{
    course::Course,
    plans::{self, Suite},
    swarm,
};

use crate::{PAIRS, check, crash_everywhere, old_views_everywhere, wrong_answers_everywhere};

#[test]
fn a_crash_anywhere_in_a_claim_changes_nothing() {
    crash_everywhere(Course::Claim);
}

#[test]
fn a_crash_anywhere_in_a_claim_of_what_nothing_is_written_into_changes_nothing() {
    crash_everywhere(Course::ClaimPlain);
}

#[test]
fn a_crash_anywhere_while_two_share_a_pool_changes_nothing() {
    crash_everywhere(Course::Share);
}

#[test]
fn a_crash_anywhere_while_a_pool_refills_changes_nothing() {
    crash_everywhere(Course::Refill);
}

#[test]
fn a_crash_anywhere_while_a_pool_rolls_changes_nothing() {
    crash_everywhere(Course::Roll);
}

#[test]
fn a_crash_anywhere_while_a_pool_shrinks_changes_nothing() {
    crash_everywhere(Course::Shrink);
}

#[test]
fn a_wrong_answer_anywhere_while_two_share_a_pool_changes_nothing() {
    wrong_answers_everywhere(Course::Share);
}

#[test]
fn an_old_view_anywhere_while_two_share_a_pool_changes_nothing() {
    old_views_everywhere(Course::Share);
}

#[test]
fn two_mishaps_anywhere_with_a_pool_change_nothing() {
    for course in [Course::Claim, Course::Share, Course::Refill, Course::Roll, Course::Shrink] {
        let plans = plans::everywhere(course, 1, Suite::Pairs(PAIRS / 2));
        check(plans, &format!("pairs of mishaps in {}", course.name()));
    }
}

fn comes_right(seed: u64) {
    assert_eq!(swarm::walk(seed).wrong, Vec::<String>::new(), "hangar sim --seeds {seed}");
}

/// From the order to rest until it was seen at rest, a bay was planned again and again without a pause.
#[test]
fn a_bay_that_was_told_to_rest_is_waited_for() {
    comes_right(11);
}

/// An environment was Ready in a bay that was stopping when it was claimed, and nothing of it had reached the machine.
#[test]
fn what_claims_a_bay_that_is_stopping_is_not_ready_before_it_is_its_own() {
    comes_right(672);
}

/// A pool was full of bays that were stopping.
#[test]
fn a_bay_that_is_stopping_cannot_be_had() {
    comes_right(459);
}

/// Fly moved a machine without a volume to another host, and the file in it was gone.
#[test]
fn what_was_written_is_written_again_into_a_machine_that_was_moved_without_it() {
    comes_right(1611);
}
