//! hangar in a simulated world: what must hold whatever goes wrong. It must never say how hangar gets there.

#![expect(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a wrong walk fails the test, and each says how many there were"
)]

mod planted;
mod sequence;
mod trouble;

use std::{
    io::{self, Write},
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hangar::{
    local::faults::{Kind, Rule},
    sim::{
        course::Course,
        plans::{self, Mishap, Plans, Walk, Wrong},
        swarm,
    },
};

/// Drawn courses that every run of the tests walks; `hangar sim` walks more.
const SEEDS: u64 = 200;

/// The narrow way into the simulation: no walk with a mishap differs from the one without.
fn check(plans: Result<Plans, Wrong>, what: &str) -> Plans {
    let plans = match plans {
        Ok(plans) => plans,
        Err(wrong) => panic!("the undisturbed walk: {wrong}{}", wrong.lines.join("\n")),
    };
    println!("{} {what}", plans.walks);
    let told: Vec<_> = plans.wrongs.iter().map(ToString::to_string).collect();
    let first = plans.wrongs.first().map(|it| it.lines.join("\n")).unwrap_or_default();
    let (wrong, walks) = (plans.wrongs.len(), plans.walks);
    assert!(wrong == 0, "{wrong} of {walks} are wrong\n{}\n{first}", told.concat());
    plans
}

fn crash_everywhere(course: Course) {
    check(plans::crash_everywhere(course, 1), &format!("crashes in {}", course.name()));
}

fn wrong_answers_everywhere(course: Course) {
    let what = format!("wrong answers in {}", course.name());
    let plans = check(plans::wrong_answers_everywhere(course, 1), &what);
    let made = |it: &Kind| plans.calls.keys().any(|call| it.befalls(call));
    for kind in plans::wrong_answers().filter(made) {
        assert!(plans.fired.contains_key(kind.name()), "{} never fired", kind.name());
    }
}

#[test]
fn a_seed_repeats_a_course() {
    for course in Course::ALL {
        let walk = Walk { course, seed: 7, mishap: Mishap::Crash(9) };
        let hash = || plans::walk(&walk).map(|it| it.report.hash).map_err(|it| it.to_string());
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

#[test]
fn a_wrong_answer_anywhere_in_a_creation_changes_nothing() {
    wrong_answers_everywhere(Course::Create);
}

#[test]
fn a_wrong_answer_anywhere_in_a_deletion_changes_nothing() {
    wrong_answers_everywhere(Course::Delete);
}

/// What was logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn whatever_is_answered_when_secrets_are_written_no_level_of_the_log_tells_them() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let subscriber = subscriber.with_ansi(false).with_writer(move || writer.clone()).finish();
    let faults = plans::wrong_answers().filter(|it| it.befalls("set_secrets"));
    let faults = faults.map(|it| Mishap::Fault(Box::new(Rule::new(it).on("set_secrets").times(1))));
    tracing::subscriber::with_default(subscriber, || {
        for mishap in faults.chain([Mishap::Nothing]) {
            let walked = plans::walk(&Walk { course: Course::Update, seed: 1, mishap });
            assert!(walked.is_ok_and(|it| it.report.violations.is_empty()));
        }
    });
    let log = String::from_utf8(std::mem::take(&mut log.0.lock().unwrap())).unwrap();
    assert!(log.contains("cannot set the secrets"), "{log}");
    for canary in plans::CANARIES {
        // Neither it nor its base64, as the store and the API have it.
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, canary);
        assert!(!log.contains(canary) && !log.contains(encoded.trim_end_matches('=')));
    }
}

#[test]
fn drawn_courses_come_right_when_all_faults_end() {
    let wrong = all_seeds(1..=SEEDS, |seed| swarm::walk(seed).wrong);
    let told: Vec<_> =
        wrong.iter().map(|(seed, what)| format!("hangar sim --seeds {seed}: {what:?}")).collect();
    assert!(told.is_empty(), "{} of {SEEDS} are wrong\n{}", told.len(), told.join("\n"));
}

/// Walks seeds on all processors, and gives what is wrong with which.
fn all_seeds(
    seeds: RangeInclusive<u64>,
    walk: impl Fn(u64) -> Vec<String> + Sync,
) -> Vec<(u64, Vec<String>)> {
    let next = AtomicU64::new(*seeds.start());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let what = walk(seed);
                    if !what.is_empty() {
                        wrong.lock().unwrap().push((seed, what));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

/// A volume's host has no room for its machine: the volume, which no machine had, is made in the next region. That was taken for lost
/// data.
#[test]
fn what_no_machine_ever_had_may_go() {
    let outcome = swarm::walk(594);
    assert_eq!(outcome.wrong, Vec::<String>::new(), "hangar sim --seeds 594");
    assert!(outcome.fired.contains_key("volume_host_full"), "the fault of this seed did not fire");
}
