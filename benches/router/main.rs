//! The router against a bare hyper server, in one run and with one client: CPU per request, memory per route, and how soon
//! a change is served. `cargo bench --bench router` prints a table and fails if a goal that must hold does not.
//!
//! Servers are child processes of this program on one core, the client is on the other. Pairs of a bare run and a router
//! run are interleaved and the median of their ratios counts: CPU per request hardly moves when other work shares the
//! machine, requests per second do.

#![expect(clippy::unwrap_used, reason = "a failed step fails the run")]
#![expect(clippy::print_stdout, reason = "the table is the product")]

mod child;
mod load;
mod objects;

use std::{process::ExitCode, sync::Arc, time::Duration};

use hangar::clock::{Clock, System};

use crate::{
    child::{Child, Role},
    load::{Check, Load, Run},
};

/// The program's own; the bare server gets it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Pairs that count, and pairs that are run: those with the least other work on the machine count.
const PAIRS: usize = 7;
const PAIRS_RUN: usize = 15;
const WARM_UP: Duration = Duration::from_millis(300);
const MEASURED: Duration = Duration::from_secs(1);
const SMALL: u32 = 100_000;
const LARGE: u32 = 1_000_000;

/// One line of the table.
struct Row {
    goal: &'static str,
    must: f64,
    aim: f64,
    measured: f64,
}

fn main() -> ExitCode {
    if let Some(role) = Role::from_env() {
        child::run(role);
        return ExitCode::SUCCESS;
    }
    child::pin_self(1);
    let clock = System::shared();
    let bare = Child::start(Role::Bare);
    let mut small = Child::start(Role::Router);
    small.ask(&format!("load {SMALL}"));
    let mut large = Child::start(Role::Router);
    let empty_bytes = large.rss_bytes();
    large.ask(&format!("load {LARGE}"));
    // `as`: a count of bytes far under 2^52.
    let per_route = (large.rss_bytes() - empty_bytes) as f64 / f64::from(LARGE);

    let mut rows = Vec::new();
    let limited = Child::start(Role::Limited);
    let (ratio, us, bare_us) = pairs(&clock, &bare, &limited, LARGE, Check::Status);
    println!("limits alone: {us:.2} us/request, bare {bare_us:.2}, ratio {ratio:.3}");
    drop(limited);
    let (small_ratio, small_us, bare_us) = pairs(&clock, &bare, &small, SMALL, Check::Replay);
    println!("100k routes: {small_us:.2} us/request, bare {bare_us:.2}");
    rows.push(Row {
        goal: "R1 CPU vs bare, 100k routes",
        must: 1.40,
        aim: 1.22,
        measured: small_ratio,
    });
    let (large_ratio, large_us, bare_us) = pairs(&clock, &bare, &large, LARGE, Check::Replay);
    println!("1M routes: {large_us:.2} us/request, bare {bare_us:.2}");
    rows.push(Row {
        goal: "R2 CPU vs bare, 1M routes",
        must: 1.45,
        aim: 1.27,
        measured: large_ratio,
    });
    rows.push(Row {
        goal: "R7 RSS per route, bytes (with the feed's join)",
        must: 200.0,
        aim: 100.0,
        measured: per_route,
    });
    let served = large.rss_bytes().saturating_sub(empty_bytes) as f64 / f64::from(LARGE);
    rows.push(Row { goal: "R7 the same after serving", must: 200.0, aim: 100.0, measured: served });

    let (p50, p99) = changes(&clock, &mut large);
    rows.push(Row { goal: "R9 change to served p50, ms", must: 2.0, aim: 0.5, measured: p50 });
    rows.push(Row { goal: "R9 change to served p99, ms", must: 20.0, aim: 5.0, measured: p99 });

    let (ratio, wrong) = churn(&clock, &mut large);
    rows.push(Row {
        goal: "R8 CPU with 1,000 changes/s vs none",
        must: 1.10,
        aim: 1.04,
        measured: ratio,
    });
    rows.push(Row {
        goal: "R11 wrong answers under load and churn",
        must: 0.0,
        aim: 0.0,
        measured: f64::from(wrong),
    });
    print(&rows)
}

/// Median ratio of CPU per request over the quietest pairs, and both medians.
fn pairs(
    clock: &Arc<dyn Clock>,
    bare: &Child,
    router: &Child,
    routes: u32,
    check: Check,
) -> (f64, f64, f64) {
    let mut bare_load = Load::connect(bare.address(), routes, Check::Status);
    let mut router_load = Load::connect(router.address(), routes, check);
    let one = |load: &mut Load, child: &Child| {
        load.run(clock, WARM_UP, child);
        let run = load.run(clock, MEASURED, child);
        assert_eq!(run.wrong, 0, "an answer was wrong");
        run
    };
    let mut runs: Vec<_> = (0..PAIRS_RUN)
        .map(|pair| {
            if pair % 2 == 0 {
                let base = one(&mut bare_load, bare);
                (base, one(&mut router_load, router))
            } else {
                let measured = one(&mut router_load, router);
                (one(&mut bare_load, bare), measured)
            }
        })
        .collect();
    let foreign = |(base, measured): &(Run, Run)| base.foreign.max(measured.foreign);
    runs.sort_by(|one, other| foreign(one).total_cmp(&foreign(other)));
    runs.truncate(PAIRS);
    println!("other work used up to {:.2} cores", runs.last().map_or(0.0, foreign));
    let median =
        |value: fn(&(Run, Run)) -> f64| median(&mut runs.iter().map(value).collect::<Vec<_>>());
    (
        median(|(base, measured)| measured.cpu_us / base.cpu_us),
        median(|(_, measured)| measured.cpu_us),
        median(|(base, _)| base.cpu_us),
    )
}

/// p50 and p99 of the time from telling a change until an answer shows it, in milliseconds.
fn changes(clock: &Arc<dyn Clock>, child: &mut Child) -> (f64, f64) {
    let mut load = Load::connect(child.address(), LARGE, Check::Churn);
    let mut times = Vec::new();
    for round in 0..500_u32 {
        let number = round.wrapping_mul(2_654_435_761) % LARGE;
        let epoch = 2 + round;
        let start = clock.monotonic();
        child.tell(&format!("change {number} {epoch}"));
        while load.machine_of(number) != objects::machine(number, epoch) {}
        times.push((clock.monotonic() - start).as_secs_f64() * 1e3);
        child.answer();
    }
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Median ratio of CPU per request with and without changes, and the wrong answers among all of them.
fn churn(clock: &Arc<dyn Clock>, child: &mut Child) -> (f64, u32) {
    let mut load = Load::connect(child.address(), LARGE, Check::Churn);
    let (mut ratios, mut wrong) = (Vec::new(), 0);
    for _ in 0..PAIRS {
        let calm = load.run(clock, MEASURED, child);
        child.ask("churn on");
        let churned = load.run(clock, MEASURED, child);
        child.ask("churn off");
        ratios.push(churned.cpu_us / calm.cpu_us);
        wrong += calm.wrong + churned.wrong;
        println!("churn: {} requests, {} replays", churned.requests, churned.replays);
    }
    (median(&mut ratios), wrong)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(rows: &[Row]) -> ExitCode {
    println!("{:<48} {:>8} {:>8} {:>9}", "goal", "must <=", "aim <=", "measured");
    let mut failed = false;
    for row in rows {
        let verdict = match row.measured {
            measured if measured > row.must => "FAILS",
            measured if measured > row.aim => "holds",
            _ => "aim",
        };
        failed |= row.measured > row.must;
        println!(
            "{:<48} {:>8.2} {:>8.2} {:>9.3}  {verdict}",
            row.goal, row.must, row.aim, row.measured
        );
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
