//! What goes wrong in a course, at each place where it can: the course with it must end as the course without it. It must
//! never let more go wrong than its name says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::local::faults::Rule;
use crate::sim::{
    course::Course,
    gate::{Boundary, Strikes},
    mistakes::Mistake,
    places,
    universe::{Report, Setup, Universe},
};

/// Secret values that the courses use.
pub const CANARIES: [&str; 2] = ["sim-canary-one", "sim-canary-two"];

/// One walk of a course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Which.
    pub course: Course,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// What goes wrong.
    pub mishaps: Vec<Mishap>,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// The controller dies at this boundary, counted from 0.
    Crash(u64),
    /// Fly does this.
    Fault(Box<Rule>),
}

/// What came of a walk, and what it went past.
#[derive(Debug)]
pub struct Walked {
    /// What came of it.
    pub report: Report,
    /// Boundaries, in order, and how long after the beginning of the course.
    pub crossed: Vec<(Boundary, Duration)>,
    /// How often each kind of fault fired.
    pub fired: BTreeMap<&'static str, u64>,
}

/// What is wrong with a walk.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// Which one.
    pub walk: Walk,
    /// What.
    pub what: Vec<String>,
    /// What happened.
    pub lines: Vec<String>,
}

impl fmt::Display for Walk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hangar sim --course {} --seeds {}", self.course.name(), self.seed)?;
        for mishap in &self.mishaps {
            match mishap {
                Mishap::Crash(at) => write!(f, " --crash-at {at}")?,
                Mishap::Fault(rule) => {
                    let rule = serde_json::to_string(rule).map_err(|_| fmt::Error)?;
                    write!(f, " --fault '{rule}'")?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.walk)?;
        self.what.iter().try_for_each(|it| writeln!(f, "  {it}"))
    }
}

/// Walks a course on a runtime of its own.
///
/// # Errors
/// When the course could not be walked to its end.
pub fn walk(walk: &Walk) -> Result<Walked, Wrong> {
    walk_with(walk, None)
}

/// Walks a course with a mistake in the controller.
///
/// # Errors
/// As [`walk`].
pub fn walk_with(walk: &Walk, plant: Option<Mistake>) -> Result<Walked, Wrong> {
    let crash_at = walk.mishaps.iter().filter_map(|it| match it {
        Mishap::Crash(at) => Some(*at),
        Mishap::Fault(_) => None,
    });
    let strikes = Strikes::at(crash_at);
    let crossed = Arc::clone(&strikes);
    let wrong = |what: String, lines| Wrong { walk: walk.clone(), what: vec![what], lines };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| wrong(format!("no runtime: {error}"), Vec::new()))?;
    let (report, fired, start) = runtime.block_on(async {
        let canaries = CANARIES.map(str::to_owned).to_vec();
        let setup = Setup { seed: walk.seed, strikes, canaries, plant };
        let mut universe = Universe::begin(setup)
            .await
            .map_err(|error| wrong(format!("it does not start: {error:#}"), Vec::new()))?;
        let start = tokio::time::Instant::now();
        for mishap in &walk.mishaps {
            if let Mishap::Fault(rule) = mishap {
                let added = universe.fly().faults().add((**rule).clone());
                added.map_err(|error| wrong(format!("no such fault: {error}"), Vec::new()))?;
            }
        }
        let walked = Box::pin(walk.course.walk(&mut universe)).await;
        let fired = universe.fly().faults().fired();
        universe.finish();
        let report = universe.report();
        match walked {
            Ok(()) => Ok((report, fired, start)),
            Err(error) => {
                let what = report.violations.into_iter().chain([format!("{error:#}")]).collect();
                Err(Wrong { walk: walk.clone(), what, lines: report.lines })
            }
        }
    })?;
    let since = |it: tokio::time::Instant| it.saturating_duration_since(start);
    let crossed = crossed.log().into_iter().map(|it| (it.boundary, since(it.at))).collect();
    Ok(Walked { report, crossed, fired })
}

/// What came of all walks of a course.
#[derive(Debug, Default)]
pub struct Plans {
    /// How many walks there were.
    pub walks: usize,
    /// How often each kind of fault fired in them.
    pub fired: BTreeMap<&'static str, u64>,
    /// How often the undisturbed walk made each call.
    pub calls: BTreeMap<&'static str, u64>,
    /// What is wrong with which.
    pub wrongs: Vec<Wrong>,
}

/// What is tried of a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// The controller dies, at each boundary.
    Crashes,
    /// One wrong answer, at each call.
    WrongAnswers,
    /// Reads that do not show what is, from each change on.
    OldViews,
    /// So many pairs of the others, drawn.
    Pairs(usize),
}

/// Walks a course once for each thing of a suite that can go wrong in its undisturbed walk, and compares.
///
/// # Errors
/// When the undisturbed walk itself is wrong.
pub fn everywhere(course: Course, seed: u64, suite: Suite) -> Result<Plans, Wrong> {
    let reference = undisturbed(course, seed, None)?;
    let mishaps = match suite {
        Suite::Crashes => alone(places::crashes(&reference)),
        Suite::WrongAnswers => alone(places::wrong_answers(&reference)),
        Suite::OldViews => alone(places::old_views(&reference)),
        Suite::Pairs(count) => places::pairs(&reference, (course, seed), count),
    };
    Ok(walk_all(&reference.report, course, seed, mishaps))
}

/// Walks a course with mishaps, and compares it to the undisturbed walk, both with the mistake if there is one.
///
/// # Errors
/// When it is not as without them.
pub fn compared(
    course: Course,
    seed: u64,
    mishaps: Vec<Mishap>,
    plant: Option<Mistake>,
) -> Result<Report, Wrong> {
    let reference = undisturbed(course, seed, plant)?;
    let this = Walk { course, seed, mishaps };
    let report = walk_with(&this, plant)?.report;
    match differences(course, &reference.report, &report) {
        None => Ok(report),
        Some(what) => Err(Wrong { walk: this, what, lines: report.lines }),
    }
}

fn alone(mishaps: Vec<Mishap>) -> Vec<Vec<Mishap>> {
    mishaps.into_iter().map(|it| vec![it]).collect()
}

fn undisturbed(course: Course, seed: u64, plant: Option<Mistake>) -> Result<Walked, Wrong> {
    let undisturbed = Walk { course, seed, mishaps: Vec::new() };
    let reference = walk_with(&undisturbed, plant)?;
    if reference.report.violations.is_empty() {
        return Ok(reference);
    }
    let Report { violations, lines, .. } = reference.report;
    Err(Wrong { walk: undisturbed, what: violations, lines })
}

fn walk_all(reference: &Report, course: Course, seed: u64, mishaps: Vec<Vec<Mishap>>) -> Plans {
    let next = AtomicUsize::new(0);
    let plans = Mutex::new(Plans {
        walks: mishaps.len(),
        calls: reference.calls.clone(),
        ..Plans::default()
    });
    let work = || {
        while let Some(mishaps) = mishaps.get(next.fetch_add(1, Ordering::Relaxed)) {
            let this = Walk { course, seed, mishaps: mishaps.clone() };
            let (fired, found) = match walk(&this) {
                Ok(Walked { report, fired, .. }) => {
                    let found = differences(course, reference, &report);
                    let found = found.map(|what| Wrong { walk: this, what, lines: report.lines });
                    (fired, found)
                }
                Err(wrong) => (BTreeMap::new(), Some(wrong)),
            };
            let mut plans = plans.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, count) in fired {
                *plans.fired.entry(kind).or_default() += count;
            }
            plans.wrongs.extend(found);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut plans = plans.into_inner().unwrap_or_else(PoisonError::into_inner);
    plans.wrongs.sort_by_key(|it| it.walk.to_string());
    plans
}

/// What is not as without the disturbance.
pub(crate) fn differences(
    course: Course,
    reference: &Report,
    report: &Report,
) -> Option<Vec<String>> {
    let mut wrong = report.violations.clone();
    compare("ends as", &reference.summary, &report.summary, &mut wrong);
    if course.races() {
        balance(&reference.counts, &report.counts, &mut wrong);
    } else {
        let counted = |report: &Report| {
            let mut counts = report.counts.clone();
            if course == Course::Drift {
                // Somebody else tries again as well, and may change a machine twice.
                counts.retain(|(_, what), _| *what != "machine updated");
            }
            counts
        };
        compare("had", &counted(reference), &counted(report), &mut wrong);
    }
    (!wrong.is_empty()).then_some(wrong)
}

/// Whatever was made beyond what is left without the disturbance is gone.
fn balance(
    reference: &BTreeMap<(String, &'static str), u64>,
    counts: &BTreeMap<(String, &'static str), u64>,
    wrong: &mut Vec<String>,
) {
    type Counts = BTreeMap<(String, &'static str), u64>;
    let sum = |counts: &Counts, what: &str| -> u64 {
        counts.iter().filter(|((_, it), _)| *it == what).map(|(_, count)| count).sum()
    };
    for (made, gone) in [("app made", "app gone"), ("machine made", "machine gone")] {
        let left = |it: &Counts| sum(it, made).checked_sub(sum(it, gone));
        if left(counts) != left(reference) {
            let (made_times, gone_times) = (sum(counts, made), sum(counts, gone));
            let should = left(reference);
            wrong.push(format!(
                "{made}: {made_times}, {gone}: {gone_times}, and {should:?} should be left"
            ));
        }
    }
}

fn compare<K: Ord + fmt::Debug, V: PartialEq + fmt::Debug>(
    how: &str,
    reference: &BTreeMap<K, V>,
    is: &BTreeMap<K, V>,
    wrong: &mut Vec<String>,
) {
    let keys: BTreeSet<_> = reference.keys().chain(is.keys()).collect();
    for key in keys {
        if reference.get(key) != is.get(key) {
            let (should, is) = (reference.get(key), is.get(key));
            wrong.push(format!("{key:?} {how} {is:?} instead of {should:?}"));
        }
    }
}
