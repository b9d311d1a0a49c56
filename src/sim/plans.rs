//! One thing that goes wrong, at each place where it can: the course with it must end as the course without it. It must never
//! let more go wrong than its name says.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::sim::{
    course::Course,
    gate::{Boundary, Strikes},
    universe::{Report, Setup, Universe},
};

/// Secret values that the courses use.
pub const CANARIES: [&str; 2] = ["sim-canary-one", "sim-canary-two"];

/// One walk of a course.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walk {
    /// Which.
    pub course: Course,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// The boundary at which the controller dies, counted from 0.
    pub crash_at: Option<u64>,
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
        match self.crash_at {
            Some(at) => write!(f, " --crash-at {at}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.walk)?;
        self.what.iter().try_for_each(|it| writeln!(f, "  {it}"))
    }
}

/// Walks a course on a runtime of its own. Gives what came of it and the boundaries it crossed.
///
/// # Errors
/// When the course could not be walked to its end.
pub fn walk(walk: Walk) -> Result<(Report, Vec<(Boundary, String)>), Wrong> {
    let strikes = Strikes::at(walk.crash_at);
    let crossed = Arc::clone(&strikes);
    let wrong = |what: String, lines| Wrong { walk, what: vec![what], lines };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| wrong(format!("no runtime: {error}"), Vec::new()))?;
    let report = runtime.block_on(async {
        let canaries = CANARIES.map(str::to_owned).to_vec();
        let setup = Setup { seed: walk.seed, strikes, canaries };
        let mut universe = Universe::begin(setup)
            .await
            .map_err(|error| wrong(format!("it does not start: {error:#}"), Vec::new()))?;
        let walked = Box::pin(walk.course.walk(&mut universe)).await;
        universe.finish();
        let report = universe.report();
        match walked {
            Ok(()) => Ok(report),
            Err(error) => Err(wrong(format!("{error:#}"), report.lines)),
        }
    })?;
    Ok((report, crossed.log()))
}

/// Walks a course once for each boundary of its undisturbed walk, dying there, and compares. Gives how many walks there
/// were, and what is wrong with which.
///
/// # Errors
/// When the undisturbed walk itself is wrong.
pub fn crash_everywhere(course: Course, seed: u64) -> Result<(usize, Vec<Wrong>), Wrong> {
    let undisturbed = Walk { course, seed, crash_at: None };
    let (reference, crossed) = walk(undisturbed)?;
    if !reference.violations.is_empty() {
        let what = reference.violations.clone();
        return Err(Wrong { walk: undisturbed, what, lines: reference.lines });
    }
    let next = AtomicUsize::new(0);
    let wrongs = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= crossed.len() {
                return;
            }
            let crash_at = u64::try_from(at).ok();
            let found = match walk(Walk { crash_at, ..undisturbed }) {
                Ok((report, _)) => differences(course, &reference, &report).map(|what| Wrong {
                    walk: Walk { crash_at, ..undisturbed },
                    what,
                    lines: report.lines,
                }),
                Err(wrong) => Some(wrong),
            };
            wrongs.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut wrongs = wrongs.into_inner().unwrap_or_else(PoisonError::into_inner);
    wrongs.sort_by_key(|it| it.walk.crash_at);
    Ok((crossed.len(), wrongs))
}

/// What is not as without the disturbance.
fn differences(course: Course, reference: &Report, report: &Report) -> Option<Vec<String>> {
    let mut wrong = report.violations.clone();
    compare("ends as", &reference.summary, &report.summary, &mut wrong);
    if course.races() {
        balance(&report.counts, &mut wrong);
    } else {
        compare("had", &reference.counts, &report.counts, &mut wrong);
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
    let keys: std::collections::BTreeSet<_> = reference.keys().chain(is.keys()).collect();
    for key in keys {
        if reference.get(key) != is.get(key) {
            let (should, is) = (reference.get(key), is.get(key));
            wrong.push(format!("{key:?} {how} {is:?} instead of {should:?}"));
        }
    }
}
