//! `hangar sim`: hangar against itself in a simulated world, for whoever changes it or doubts it. It must never touch a real
//! store or a real Fly.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    cli::{Exit, failure::Failure, printer::Printer},
    clock::{Clock, System},
    local::faults::Rule,
    sim::{
        course::Course,
        coverage,
        lasting::{self, TROUBLES, Trouble},
        mistakes::Mistake,
        plans::{self, Mishap, Suite},
        sequence, swarm,
    },
};

/// Which courses to walk.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seeds to walk: one number, or A..B without B
    #[arg(long, default_value = "0..100", value_name = "A..B", value_parser = seeds)]
    pub seeds: Range<u64>,
    /// End after so many minutes, whatever is left
    #[arg(long, value_name = "N")]
    pub minutes: Option<u64>,
    /// A fixed course instead of drawn ones: create, pair, update, sleep, drift, flicker, delete, hurry and more
    #[arg(long, value_name = "NAME", value_parser = course)]
    pub course: Option<Course>,
    /// Kill the controller at this boundary of the fixed course; can be said again
    #[arg(long, requires = "course", value_name = "N")]
    pub crash_at: Vec<u64>,
    /// Let Fly do this during the fixed course; can be said again. Without it and --crash-at everything goes wrong that can,
    /// walk by walk
    #[arg(long, requires = "course", value_name = "JSON", value_parser = fault)]
    pub fault: Vec<Box<Rule>>,
    /// And so many pairs of what can go wrong in the fixed course
    #[arg(long, requires = "course", conflicts_with_all = ["crash_at", "fault"], default_value_t = 0, value_name = "N")]
    pub pairs: usize,
    /// Sequences of specifications instead of drawn courses
    #[arg(long, conflicts_with = "course")]
    pub sequences: bool,
    /// Plant a mistake in the controller, by name; one that is none lists them
    #[arg(long, value_name = "NAME", value_parser = mistake)]
    pub plant: Option<Mistake>,
    /// Something that never ends, while all others must come right: `all`, or one of its names
    #[arg(long, conflicts_with = "course", value_name = "NAME", value_parser = trouble)]
    pub lasting: Option<Troubles>,
    /// Print what happened, also when all is well
    #[arg(long)]
    pub trace: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
    match text.split_once("..") {
        Some((from, to)) => {
            let (from, to) = (number(from)?, number(to)?);
            if from < to { Ok(from..to) } else { Err(format!("`{text}` has no seed in it")) }
        }
        None => number(text).map(|it| it..it + 1),
    }
}

fn course(text: &str) -> Result<Course, String> {
    let found = Course::ALL.into_iter().find(|it| it.name() == text);
    found.ok_or_else(|| {
        let names: Vec<_> = Course::ALL.iter().map(|it| it.name()).collect();
        format!("`{text}` is not one of {}", names.join(", "))
    })
}

fn mistake(text: &str) -> Result<Mistake, String> {
    let found = Mistake::ALL.iter().copied().find(|it| it.name() == text);
    found.ok_or_else(|| {
        let told: Vec<_> =
            Mistake::ALL.iter().map(|it| format!("\n  {}: {}", it.name(), it.does())).collect();
        format!("`{text}` is not one of{}", told.concat())
    })
}

/// What was named, of what never ends.
type Troubles = Vec<&'static Trouble>;

fn trouble(text: &str) -> Result<Troubles, String> {
    let found: Vec<_> = TROUBLES.iter().filter(|it| text == "all" || text == it.name).collect();
    if found.is_empty() {
        let names: Vec<_> = TROUBLES.iter().map(|it| it.name).collect();
        return Err(format!("`{text}` is not `all` or one of {}", names.join(", ")));
    }
    Ok(found)
}

fn fault(text: &str) -> Result<Box<Rule>, String> {
    serde_json::from_str(text).map(Box::new).map_err(|error| error.to_string())
}

/// Walks them, and says what is wrong with which.
///
/// # Errors
/// When something is wrong.
pub fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    match (args.course, &args.lasting) {
        (Some(course), _) => fixed(course, args, printer),
        (None, Some(troubles)) => lasting(troubles, args, printer),
        (None, None) => drawn(args, printer),
    }
}

/// Something wrong, as it is told.
struct Found {
    command: String,
    what: Vec<String>,
    lines: Vec<String>,
}

impl From<plans::Wrong> for Found {
    fn from(wrong: plans::Wrong) -> Self {
        Self { command: wrong.walk.to_string(), what: wrong.what, lines: wrong.lines }
    }
}

fn fixed(course: Course, args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let crashes = args.crash_at.iter().copied().map(Mishap::Crash);
    let mishaps: Vec<_> = crashes.chain(args.fault.iter().cloned().map(Mishap::Fault)).collect();
    let (mut walks, mut found) = (0, Vec::new());
    for seed in args.seeds.clone() {
        if mishaps.is_empty() && args.plant.is_none() {
            let pairs = Suite::Pairs(args.pairs);
            for suite in [Suite::Crashes, Suite::WrongAnswers, Suite::OldViews, pairs] {
                match plans::everywhere(course, seed, suite) {
                    Ok(plans) => {
                        walks += plans.walks;
                        found.extend(plans.wrongs.into_iter().map(Found::from));
                    }
                    Err(wrong) => found.push(wrong.into()),
                }
            }
            continue;
        }
        walks += 1;
        match plans::compared(course, seed, mishaps.clone(), args.plant) {
            Ok(report) => {
                if args.trace {
                    printer.text(&format!("{}\n", report.lines.join("\n")))?;
                }
                printer.text(&format!("{:#?}\n{:#?}\n", report.summary, report.violations))?;
            }
            Err(wrong) => found.push(wrong.into()),
        }
    }
    printer.text(&format!("{walks} walks of {}\n", course.name()))?;
    tell(&found, printer)
}

fn lasting(troubles: &Troubles, args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let mut found = Vec::new();
    let mut walks = 0;
    for seed in args.seeds.clone() {
        for trouble in troubles {
            let outcome = lasting::walk(trouble, seed);
            walks += 1;
            if args.trace || !outcome.wrong.is_empty() {
                found.push(Found {
                    command: format!("hangar sim --lasting {trouble} --seeds {seed}"),
                    what: outcome.wrong,
                    lines: outcome.report.lines,
                });
            }
        }
    }
    printer.text(&format!("{walks} walks in which something never ends\n"))?;
    tell(&found, printer)
}

fn drawn(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let clock = System::new();
    let limit = args.minutes.map(|it| Duration::from_secs(it * 60));
    let (next, ended) = (AtomicU64::new(args.seeds.start), AtomicBool::new(false));
    let walked = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    let fired = Mutex::new(BTreeMap::<&'static str, u64>::new());
    let work = || {
        while !ended.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.seeds.end || limit.is_some_and(|it| clock.monotonic() >= it) {
                return;
            }
            let outcome = if args.sequences {
                sequence::walk_with(seed, args.plant)
            } else {
                swarm::walk_with(seed, args.plant)
            };
            walked.fetch_add(1, Ordering::Relaxed);
            let mut all = fired.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, times) in &outcome.fired {
                *all.entry(kind).or_default() += times;
            }
            drop(all);
            if args.trace || !outcome.wrong.is_empty() {
                found.lock().unwrap_or_else(PoisonError::into_inner).push(Found {
                    command: command(seed, args),
                    what: outcome.wrong,
                    lines: outcome.report.lines,
                });
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let walked = walked.into_inner();
    let seconds = clock.monotonic().as_secs();
    printer.text(&format!("{walked} seeds in {seconds} s\n"))?;
    let fired = fired.into_inner().unwrap_or_else(PoisonError::into_inner);
    let told: Vec<_> = fired.iter().map(|(kind, times)| format!("{kind} {times}")).collect();
    printer.text(&format!("faults that fired: {}\n", told.join(", ")))?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    tell(&found, printer)?;
    let missed = coverage::missed(coverage::drawable(), &fired);
    if walked < coverage::SEEDS_MIN || missed.is_empty() {
        return Ok(Exit::Success);
    }
    Err(Failure::hinted(
        format!("in {walked} seeds these faults never fired: {}", missed.join(", ")),
        "what never fired was not tried: walk more seeds, or see what keeps it from firing",
    )
    .into())
}

/// What walks a seed again.
fn command(seed: u64, args: &Args) -> String {
    let sequences = if args.sequences { " --sequences" } else { "" };
    let plant = args.plant.map(|it| format!(" --plant {}", it.name())).unwrap_or_default();
    format!("hangar sim --seeds {seed}{sequences}{plant}")
}

/// Says each, and writes what happened beside it.
fn tell(found: &[Found], printer: &mut Printer) -> anyhow::Result<Exit> {
    let mut wrong = 0;
    for (number, Found { command, what, lines }) in found.iter().enumerate() {
        let path = format!("sim-{number}.log");
        std::fs::write(Path::new(&path), lines.join("\n"))
            .with_context(|| format!("cannot write {path}"))?;
        printer.text(&format!("{command}  ({path})\n"))?;
        for it in what {
            printer.text(&format!("  {it}\n"))?;
        }
        wrong += usize::from(!what.is_empty());
    }
    if wrong == 0 {
        return Ok(Exit::Success);
    }
    Err(Failure::hinted(
        format!("{wrong} of them are wrong"),
        "the command beside each walks it again; what happened is in its file",
    )
    .into())
}
