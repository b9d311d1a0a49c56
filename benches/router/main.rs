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
    load::{Check, Load},
};

const PAIRS: usize = 7;
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
    let (small_ratio, small_us, bare_us) = pairs(&clock, &bare, &small, SMALL);
    println!("100k routes: {small_us:.2} us/request, bare {bare_us:.2}");
    rows.push(Row {
        goal: "R1 CPU vs bare, 100k routes",
        must: 1.40,
        aim: 1.22,
        measured: small_ratio,
    });
    let (large_ratio, large_us, bare_us) = pairs(&clock, &bare, &large, LARGE);
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

    large.ask("churn on");
    let mut load = Load::connect(large.address(), LARGE, Check::Churn);
    let churned = load.run(&clock, Duration::from_secs(5), &large);
    large.ask("churn off");
    println!(
        "churn: {} requests, {} replays, {:.2} us/request",
        churned.requests, churned.replays, churned.cpu_us
    );
    rows.push(Row {
        goal: "R8 CPU with 1,000 changes/s vs none",
        must: 1.30,
        aim: 1.04,
        measured: churned.cpu_us / large_us,
    });
    rows.push(Row {
        goal: "R11 wrong answers under load and churn",
        must: 0.0,
        aim: 0.0,
        measured: f64::from(churned.wrong),
    });
    print(&rows)
}

/// Median ratio of CPU per request, and both medians.
fn pairs(clock: &Arc<dyn Clock>, bare: &Child, router: &Child, routes: u32) -> (f64, f64, f64) {
    let mut bare_load = Load::connect(bare.address(), routes, Check::Status);
    let mut router_load = Load::connect(router.address(), routes, Check::Replay);
    let (mut ratios, mut routed, mut bares) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let mut one = |load: &mut Load, child: &Child| {
            load.run(clock, WARM_UP, child);
            let run = load.run(clock, MEASURED, child);
            assert_eq!(run.wrong, 0, "an answer was wrong");
            run.cpu_us
        };
        let (base, measured) = if pair % 2 == 0 {
            let base = one(&mut bare_load, bare);
            (base, one(&mut router_load, router))
        } else {
            let measured = one(&mut router_load, router);
            (one(&mut bare_load, bare), measured)
        };
        ratios.push(measured / base);
        routed.push(measured);
        bares.push(base);
    }
    (median(&mut ratios), median(&mut routed), median(&mut bares))
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
