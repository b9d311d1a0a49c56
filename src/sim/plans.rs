//! One thing that goes wrong, at each place where it can: the course with it must end as the course without it. It must never
//! let more go wrong than its name says.
//!
//! A place is a boundary at which the controller dies, or the n-th call of a kind, which Fly answers in one wrong way.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::local::faults::{Kind, Rule};
use crate::sim::{
    course::Course,
    gate::{Boundary, Strikes},
    mistakes::Mistake,
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
    pub mishap: Mishap,
}

/// The one thing that goes wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing does.
    #[default]
    Nothing,
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
    /// Boundaries, in order.
    pub crossed: Vec<(Boundary, String)>,
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
        match &self.mishap {
            Mishap::Nothing => Ok(()),
            Mishap::Crash(at) => write!(f, " --crash-at {at}"),
            Mishap::Fault(rule) => {
                let rule = serde_json::to_string(rule).map_err(|_| fmt::Error)?;
                write!(f, " --fault '{rule}'")
            }
        }
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
    let crash_at = match walk.mishap {
        Mishap::Crash(at) => Some(at),
        Mishap::Nothing | Mishap::Fault(_) => None,
    };
    let strikes = Strikes::at(crash_at);
    let crossed = Arc::clone(&strikes);
    let wrong = |what: String, lines| Wrong { walk: walk.clone(), what: vec![what], lines };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| wrong(format!("no runtime: {error}"), Vec::new()))?;
    let (report, fired) = runtime.block_on(async {
        let canaries = CANARIES.map(str::to_owned).to_vec();
        let setup = Setup { seed: walk.seed, strikes, canaries, plant };
        let mut universe = Universe::begin(setup)
            .await
            .map_err(|error| wrong(format!("it does not start: {error:#}"), Vec::new()))?;
        if let Mishap::Fault(rule) = &walk.mishap {
            let added = universe.fly().faults().add((**rule).clone());
            added.map_err(|error| wrong(format!("no such fault: {error}"), Vec::new()))?;
        }
        let walked = Box::pin(walk.course.walk(&mut universe)).await;
        let fired = universe.fly().faults().fired();
        universe.finish();
        let report = universe.report();
        match walked {
            Ok(()) => Ok((report, fired)),
            Err(error) => {
                let what = report.violations.into_iter().chain([format!("{error:#}")]).collect();
                Err(Wrong { walk: walk.clone(), what, lines: report.lines })
            }
        }
    })?;
    Ok(Walked { report, crossed: crossed.log(), fired })
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

/// Walks a course once for each boundary of its undisturbed walk, dying there, and compares.
///
/// # Errors
/// When the undisturbed walk itself is wrong.
pub fn crash_everywhere(course: Course, seed: u64) -> Result<Plans, Wrong> {
    let reference = undisturbed(course, seed)?;
    let mishaps = (0..reference.crossed.len()).filter_map(|at| u64::try_from(at).ok());
    Ok(walk_all(&reference.report, course, seed, mishaps.map(Mishap::Crash).collect()))
}

/// The kinds of faults that are one wrong answer to one call, after which all is well again.
pub fn wrong_answers() -> impl Iterator<Item = Kind> {
    // What these say lasts, or moves things elsewhere: a stranger has the machine's name, there is no room.
    let lasting = [Kind::MachineNameSquatted, Kind::HostFull, Kind::VolumeHostFull];
    let one = |it: &Kind| crate::fly::call::ALL.iter().any(|call| it.befalls(call.name));
    Kind::ALL.iter().copied().filter(move |it| one(it) && !lasting.contains(it))
}

/// Walks a course once for each call of its undisturbed walk and each way in which its answer can be wrong, and compares.
///
/// # Errors
/// When the undisturbed walk itself is wrong.
pub fn wrong_answers_everywhere(course: Course, seed: u64) -> Result<Plans, Wrong> {
    let reference = undisturbed(course, seed)?;
    let mishaps = wrong_answers_to(&reference);
    Ok(walk_all(&reference.report, course, seed, mishaps))
}

/// Each call of a walk is answered in each way in which its answer can be wrong.
pub(crate) fn wrong_answers_to(reference: &Walked) -> Vec<Mishap> {
    let mut mishaps = Vec::new();
    for (route, count) in &reference.report.calls {
        // Of reads there are hundreds, all alike: the first few, and one in the middle.
        let reads = [0, 1, 2, count / 2];
        let changes = crate::fly::call::ALL.iter().any(|it| it.name == *route && it.changes());
        let places: BTreeSet<u64> =
            if changes { (0..*count).collect() } else { reads.into_iter().collect() };
        for kind in wrong_answers().filter(|it| it.befalls(route)) {
            for skip in &places {
                let mut rule = Rule::new(kind).on(route).times(1);
                rule.skip = Some(*skip);
                // The courses' machines are in ams.
                rule.regions = match kind {
                    Kind::ErrorRegions => Some(vec!["ams".to_owned()]),
                    Kind::ListOneRegion => Some(vec!["fra".to_owned()]),
                    _ => None,
                };
                mishaps.push(Mishap::Fault(Box::new(rule)));
            }
        }
    }
    mishaps
}

fn undisturbed(course: Course, seed: u64) -> Result<Walked, Wrong> {
    let undisturbed = Walk { course, seed, mishap: Mishap::Nothing };
    let reference = walk(&undisturbed)?;
    if reference.report.violations.is_empty() {
        return Ok(reference);
    }
    let Report { violations, lines, .. } = reference.report;
    Err(Wrong { walk: undisturbed, what: violations, lines })
}

fn walk_all(reference: &Report, course: Course, seed: u64, mishaps: Vec<Mishap>) -> Plans {
    let next = AtomicUsize::new(0);
    let plans = Mutex::new(Plans {
        walks: mishaps.len(),
        calls: reference.calls.clone(),
        ..Plans::default()
    });
    let work = || {
        while let Some(mishap) = mishaps.get(next.fetch_add(1, Ordering::Relaxed)) {
            let this = Walk { course, seed, mishap: mishap.clone() };
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
        balance(&report.counts, &mut wrong);
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

/// Whatever was made is gone.
fn balance(counts: &BTreeMap<(String, &'static str), u64>, wrong: &mut Vec<String>) {
    let sum = |what: &str| -> u64 {
        counts.iter().filter(|((_, it), _)| *it == what).map(|(_, count)| count).sum()
    };
    for (made, gone) in [("app made", "app gone"), ("machine made", "machine gone")] {
        if sum(made) != sum(gone) {
            wrong.push(format!("{}: {}, {}: {}", made, sum(made), gone, sum(gone)));
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
