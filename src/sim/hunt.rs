//! Looks for a walk that shows a planted mistake, in what the tests walk anyway. It must never know a rule, nor compare with
//! a walk that does without the mistake: nobody has one who made it.

use std::fmt;

use crate::sim::{
    mistakes::{Ground, Mistake},
    places,
    plans::{Mishap, Walk, Walked, differences, walk_with},
    swarm,
};

/// Seeds that are walked for a mistake.
const SEEDS: std::ops::RangeInclusive<u64> = 1..=60;

/// The walk that showed a mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The mistake.
    pub mistake: Mistake,
    /// What was wrong first.
    pub what: String,
    /// The command that walks it again.
    pub command: String,
    /// How many walks it took.
    pub walks: usize,
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mistake, what, command, walks } = self;
        write!(f, "{}: {what}\n  after {walks} walks, by {command}", mistake.name())
    }
}

/// Walks where the mistake should show until it does.
#[must_use]
pub fn hunt(mistake: Mistake) -> Option<Caught> {
    let mut walks = 0;
    let mut caught = |what: Option<String>, command: String| {
        walks += 1;
        what.map(|what| Caught { mistake, what, command, walks })
    };
    let course = match mistake.ground() {
        Ground::Seeds => {
            return SEEDS.into_iter().find_map(|seed| {
                let what = swarm::walk_with(seed, Some(mistake)).wrong.into_iter().next();
                caught(what, format!("hangar sim --seeds {seed} --plant {}", mistake.name()))
            });
        }
        Ground::Undisturbed(course) | Ground::Crashes(course) | Ground::Answers(course, _) => {
            course
        }
    };
    let this = |mishaps| Walk { course, seed: 1, mishaps };
    let command = |walk: &Walk| format!("{walk} --plant {}", mistake.name());
    let undisturbed = this(Vec::new());
    let reference = match walk_with(&undisturbed, Some(mistake)) {
        Ok(reference) if reference.report.violations.is_empty() => reference,
        Ok(reference) => {
            return caught(reference.report.violations.into_iter().next(), command(&undisturbed));
        }
        Err(wrong) => return caught(wrong.what.into_iter().next(), command(&undisturbed)),
    };
    let mishaps = mishaps(mistake.ground(), &reference);
    mishaps.into_iter().find_map(|mishap| {
        let this = this(vec![mishap]);
        let what = match walk_with(&this, Some(mistake)) {
            Ok(walked) => differences(course, &reference.report, &walked.report),
            Err(wrong) => Some(wrong.what),
        };
        caught(what.and_then(|it| it.into_iter().next()), command(&this))
    })
}

/// What goes wrong there, one at a time.
fn mishaps(ground: Ground, reference: &Walked) -> Vec<Mishap> {
    match ground {
        Ground::Crashes(_) => places::crashes(reference),
        Ground::Answers(_, kind) => {
            let mut mishaps = places::wrong_answers(reference);
            mishaps.retain(|it| matches!(it, Mishap::Fault(rule) if rule.kind == kind));
            mishaps
        }
        Ground::Undisturbed(_) | Ground::Seeds => Vec::new(),
    }
}
