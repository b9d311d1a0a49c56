//! The places of a course at which something can go wrong, found by walking it undisturbed: each boundary at which the
//! controller can die, each call that can be answered wrongly, each change that reads can fail to show. It must never walk.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    chance::{self, Chance, Seeded},
    fly::call::ALL,
    local::faults::{Kind, Rule},
    sim::{
        course::Course,
        gate::Boundary,
        plans::{Mishap, Walked},
    },
};

/// The controller dies at each boundary.
pub(crate) fn crashes(reference: &Walked) -> Vec<Mishap> {
    let count = u64::try_from(reference.crossed.len()).unwrap_or(0);
    (0..count).map(Mishap::Crash).collect()
}

/// The kinds of faults that are one wrong answer to one call, after which all is well again.
pub fn kinds_of_wrong_answers() -> impl Iterator<Item = Kind> {
    // What these say lasts, or moves things elsewhere: a stranger has the machine's name, there is no room.
    let lasting = [Kind::MachineNameSquatted, Kind::HostFull, Kind::VolumeHostFull];
    let one = |it: &Kind| ALL.iter().any(|call| it.befalls(call.name));
    Kind::ALL.iter().copied().filter(move |it| one(it) && !lasting.contains(it))
}

/// Each call is answered in each way in which its answer can be wrong.
pub(crate) fn wrong_answers(reference: &Walked) -> Vec<Mishap> {
    let mut mishaps = Vec::new();
    for (route, count) in &reference.report.calls {
        // Of reads there are hundreds, all alike: the first few, and one in the middle.
        let reads = [0, 1, 2, count / 2];
        let changes = ALL.iter().any(|it| it.name == *route && it.changes());
        let places: BTreeSet<u64> =
            if changes { (0..*count).collect() } else { reads.into_iter().collect() };
        for kind in kinds_of_wrong_answers().filter(|it| it.befalls(route)) {
            for skip in &places {
                let mut rule = in_the_courses_region(Rule::new(kind)).on(route).times(1);
                rule.skip = Some(*skip);
                mishaps.push(fault(rule));
            }
        }
    }
    mishaps
}

/// From each change on, and from just before hangar saw it, reads show less than there is or what was before, for a moment or
/// for a while: what happens meanwhile goes unobserved.
pub(crate) fn old_views(reference: &Walked) -> Vec<Mishap> {
    let mut moments = BTreeSet::new();
    for (boundary, at) in &reference.crossed {
        match boundary {
            Boundary::CallUnsent => moments.insert(*at),
            // The list that told of what is committed was read less than a second before.
            Boundary::CommitUnsynced => moments.insert(at.saturating_sub(LOOKS_EVERY)),
            Boundary::CommitUnanswered | Boundary::CallUnanswered => continue,
        };
    }
    let mut last = None;
    let apart = |at: &Duration| {
        let far = last.is_none_or(|it| *at >= it + APART);
        if far {
            last = Some(*at);
        }
        far
    };
    let moments: Vec<Duration> = moments.into_iter().filter(apart).collect();
    moments
        .into_iter()
        .flat_map(|at| views().into_iter().map(move |it| (at, it)))
        .map(begun)
        .collect()
}

/// How often hangar asks for changes.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
/// Moments that are closer to each other are one.
const APART: Duration = Duration::from_millis(100);

fn begun((at, mut rule): (Duration, Rule)) -> Mishap {
    rule.from = Some(at);
    fault(rule)
}

/// Shorter than a course takes to be at rest: what it ends with was seen.
fn views() -> Vec<Rule> {
    let seconds = |it| Some(Duration::from_secs(it));
    let mut rules = Vec::new();
    // What the view goes back by is how long it does so: nothing that happens meanwhile shows.
    for (kind, lag) in [
        (Kind::LaggingReads, 2),
        (Kind::LaggingReads, 8),
        (Kind::ListStale, 2),
        (Kind::ListStale, 15),
        (Kind::ListStale, 30),
    ] {
        rules.push(Rule { ago: seconds(lag), lasts: seconds(lag), ..Rule::new(kind) });
    }
    for (kind, lasts) in [
        (Kind::ListEmpty, 2),
        (Kind::ListEmpty, 30),
        (Kind::ListShort, 2),
        (Kind::ListShort, 30),
        (Kind::ListOneRegion, 30),
        (Kind::ErrorRegions, 30),
        (Kind::DeletedListed, 30),
    ] {
        let rule = in_the_courses_region(Rule::new(kind));
        rules.push(Rule { lasts: seconds(lasts), ..rule });
    }
    rules
}

/// Pairs of crashes, wrong answers and old views, drawn.
pub(crate) fn pairs(
    reference: &Walked,
    (course, seed): (Course, u64),
    count: usize,
) -> Vec<Vec<Mishap>> {
    let chance = Seeded::new(seed, &format!("pairs of {}", course.name()));
    let sorts = [crashes(reference), wrong_answers(reference), old_views(reference)];
    let one =
        || sorts.get(index(&chance, sorts.len())).and_then(|it| it.get(index(&chance, it.len())));
    let pair = || Some(vec![one()?.clone(), one()?.clone()]);
    std::iter::repeat_with(pair).take(count).flatten().collect()
}

fn index(chance: &dyn Chance, length: usize) -> usize {
    let limit = u64::try_from(length).unwrap_or(1);
    usize::try_from(chance::below(chance, limit)).unwrap_or(0)
}

fn fault(rule: Rule) -> Mishap {
    Mishap::Fault(Box::new(rule))
}

/// The courses' machines are in ams.
fn in_the_courses_region(mut rule: Rule) -> Rule {
    rule.regions = match rule.kind {
        Kind::ErrorRegions => Some(vec!["ams".to_owned()]),
        Kind::ListOneRegion => Some(vec!["fra".to_owned()]),
        _ => None,
    };
    rule
}
