//! What a load test found: numbers for programs, a table for people. It must never measure anything.

use std::{fmt::Write as _, time::Duration};

use serde::Serialize;

use crate::cli::{
    bench::{
        Claims, DriverKind, FlyModel,
        beside::Quiet,
        book::{Book, Claim},
        cost::{Meter, Yardsticks},
        load::Loaded,
    },
    table,
};

/// Apps that may be made in a second in an organisation, and at once.
const APPS_PER_SECOND: u32 = 1;
const APPS_AT_ONCE: u32 = 3;
/// So many different failures are shown.
const FAILURES_SHOWN: usize = 5;

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spread {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

/// Percentiles by nearest rank; none of nothing.
pub(super) fn spread(mut times: Vec<Duration>) -> Option<Spread> {
    times.sort_unstable();
    let last = times.last().copied()?;
    let rank = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        milliseconds(times.get(rank - 1).copied().unwrap_or(last))
    };
    Some(Spread { p50: rank(50), p90: rank(90), p99: rank(99), max: milliseconds(last) })
}

fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

/// How a pool was filled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fill {
    pub(super) took: Duration,
    /// The least that Fly's limits and the modelled times allow.
    pub(super) floor: Duration,
    pub(super) rate_limited: u64,
}

/// The least time in which a pool can be filled at Fly's limits: one app a second and three at once, and then the slowest bay's
/// image and start.
pub(super) fn floor(claims: &Claims) -> Duration {
    let waits = claims.pool().saturating_sub(APPS_AT_ONCE) / APPS_PER_SECOND;
    let durations = claims.durations();
    let boots = if claims.pool() == 0 {
        Duration::ZERO
    } else {
        durations.image + *durations.start.start()
    };
    Duration::from_secs(u64::from(waits)) + boots
}

/// The report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    settings: Settings,
    /// One durable commit: between the claims, or, where they came at once, before them with nothing else going on.
    commit_ms: Spread,
    /// One request to the API that is answered at once, likewise.
    request_ms: Spread,
    fill: FillReport,
    claims: Counts,
    /// Since each claim was due.
    latency_ms: Latencies,
    per_claim: PerClaim,
    pool: PoolReport,
    /// Calls that were answered 429.
    rate_limited: u64,
    failures: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Beside>,
}

/// What it costs to keep environments beside the claims.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Beside {
    environments: u32,
    /// Of one core, while nothing happens.
    quiet_cpu_percent: f64,
    resident_mib: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    count: u32,
    /// Absent: all at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<f64>,
    pool: u32,
    fly: FlyModel,
    driver: DriverKind,
    plain: bool,
    roll: bool,
    beside: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FillReport {
    took_s: f64,
    /// Whether Fly's limits were kept.
    at_limits: bool,
    floor_s: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Counts {
    made: usize,
    failed: usize,
    hits: usize,
    misses: usize,
    /// Bays that two environments had.
    doubles: usize,
    /// From the first claim to the last that is served.
    took_s: f64,
    served_per_second: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Latencies {
    #[serde(skip_serializing_if = "Option::is_none")]
    hits: Option<Stages>,
    #[serde(skip_serializing_if = "Option::is_none")]
    misses: Option<Stages>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stages {
    durable: Spread,
    bound: Spread,
    routable: Spread,
    ready: Spread,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PerClaim {
    /// Commits; absent if not all were seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    store_writes: Option<f64>,
    /// Objects written by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    object_writes: Option<f64>,
    api_writes: f64,
    reconciles: f64,
    fly_calls: f64,
    /// Of all of this process, clients and refilling included.
    cpu_ms: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PoolReport {
    smallest_stock: usize,
    /// Bays that became ready since the first claim.
    refilled: usize,
    /// From each claim to the bay that took the place of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    refill_lag_ms: Option<Spread>,
    /// How long the pool took to follow its template.
    #[serde(skip_serializing_if = "Option::is_none")]
    rolled_s: Option<f64>,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a load test are small")]
fn ratio(part: u64, of: usize) -> f64 {
    if of == 0 { 0.0 } else { (part as f64 / of as f64 * 100.0).round() / 100.0 }
}

fn share(part: usize, of: usize) -> f64 {
    ratio(u64::try_from(part).unwrap_or(u64::MAX), of)
}

impl Stages {
    fn of(claims: &[&Claim]) -> Option<Self> {
        let times = |stage: fn(&Claim) -> Option<Duration>| {
            let since = |it: &&Claim| Some(stage(it)?.saturating_sub(it.due));
            spread(claims.iter().filter_map(since).collect())
        };
        Some(Self {
            durable: times(|it| it.durable)?,
            bound: times(|it| it.bound)?,
            routable: times(|it| it.routable)?,
            ready: times(|it| it.ready)?,
        })
    }
}

/// How long after each claim that took a bay of the pool another one was ready, the first for the first.
fn refill_lag(book: &Book, hits: &[&Claim]) -> Option<Spread> {
    let mut due: Vec<_> = hits.iter().map(|it| it.due).collect();
    due.sort_unstable();
    let lag = due.iter().zip(&book.refilled).map(|(due, ready)| ready.saturating_sub(*due));
    spread(lag.collect())
}

impl Report {
    pub(super) fn new(
        wanted: &Claims,
        (alone, fill): (Yardsticks, Fill),
        loaded: Loaded,
        (before, rate_limited): (Meter, u64),
    ) -> Self {
        let Loaded { book, writes, took, between, rolled, used } = loaded;
        let used = used.since(&before);
        let [commit_ms, request_ms] = between.unwrap_or(alone).spreads();
        let made = book.claims.len();
        let (hits, misses): (Vec<_>, Vec<_>) =
            book.claims.iter().filter(|it| it.bay.is_some()).partition(|it| book.is_hit(it));
        let mut failures: Vec<_> = book.claims.iter().filter_map(|it| it.failed.clone()).collect();
        let failed = failures.len();
        failures.sort_unstable();
        failures.dedup();
        failures.truncate(FAILURES_SHOWN);
        let cpu = u64::try_from(used.cpu.as_millis()).unwrap_or(u64::MAX);
        let served = made - failed;
        Self {
            settings: Settings {
                count: wanted.count,
                rate_per_second: (!wanted.at_once).then_some(wanted.rate),
                pool: wanted.pool(),
                fly: wanted.fly,
                driver: wanted.driver,
                plain: wanted.plain,
                roll: wanted.roll,
                beside: wanted.beside,
            },
            commit_ms,
            request_ms,
            fill: FillReport {
                took_s: seconds(fill.took),
                at_limits: wanted.fill_at_limits,
                floor_s: seconds(fill.floor),
            },
            claims: Counts {
                made,
                failed,
                hits: hits.len(),
                misses: misses.len(),
                doubles: book.doubles(),
                took_s: seconds(took),
                served_per_second: ratio(
                    u64::try_from(served * 1_000).unwrap_or(u64::MAX),
                    usize::try_from(took.as_millis()).unwrap_or(usize::MAX),
                ),
            },
            latency_ms: Latencies { hits: Stages::of(&hits), misses: Stages::of(&misses) },
            per_claim: PerClaim {
                store_writes: writes.map(|(commits, _)| share(commits, made)),
                object_writes: writes.map(|(_, objects)| share(objects, made)),
                api_writes: share(made.min(1), made.min(1)),
                reconciles: ratio(used.passes, made),
                fly_calls: ratio(used.fly_calls, made),
                cpu_ms: ratio(cpu, made),
            },
            pool: PoolReport {
                smallest_stock: book.smallest_stock,
                refilled: book.refilled.len(),
                refill_lag_ms: rolled.is_none().then(|| refill_lag(&book, &hits)).flatten(),
                rolled_s: rolled.map(seconds),
            },
            rate_limited,
            failures,
            beside: None,
        }
    }

    /// The same, with what it costs to keep the environments that were there before.
    pub(super) fn beside(mut self, quiet: Option<Quiet>) -> Self {
        let environments = self.settings.beside;
        self.beside = quiet.map(|Quiet { cpu_percent, resident_mib }| Beside {
            environments,
            quiet_cpu_percent: cpu_percent,
            resident_mib,
        });
        self
    }

    /// Whether every claim was served, by a bay of its own.
    pub(super) fn is_right(&self) -> bool {
        self.claims.failed == 0 && self.claims.doubles == 0
    }

    /// As people read it.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { settings, claims, per_claim, pool, .. } = self;
        let mut lines = vec![self.fill_line()];
        lines.extend(self.beside.as_ref().map(|it| {
            format!(
                "{} environments beside it: {} MiB of memory, and {} % of a core while nothing happens; all of the process",
                it.environments, it.resident_mib, it.quiet_cpu_percent
            )
        }));
        if settings.count == 0 {
            return lines;
        }
        let pace = settings
            .rate_per_second
            .map_or_else(|| "at once".to_owned(), |it| format!("at {it}/s"));
        lines.push(format!(
            "{} claims {pace}: {} hits, {} misses, {} failed, {} bays with two environments; all served after {} s ({}/s)",
            claims.made, claims.hits, claims.misses, claims.failed, claims.doubles, claims.took_s, claims.served_per_second
        ));
        lines.extend(self.failures.iter().map(|it| format!("  failed: {it}")));
        lines.push(String::new());
        lines.extend(self.latency_lines());
        lines.push(String::new());
        let writes = match (per_claim.store_writes, per_claim.object_writes) {
            (Some(commits), Some(objects)) => {
                format!("{commits} store commits ({objects} objects)")
            }
            _ => "store commits were not all seen".to_owned(),
        };
        lines.push(format!(
            "per claim: {writes}, {} API write, {} reconciles, {} calls to Fly, {} ms of CPU (clients and refilling included)",
            per_claim.api_writes, per_claim.reconciles, per_claim.fly_calls, per_claim.cpu_ms
        ));
        lines.push(format!(
            "{}: one durable commit p50 {} ms, p99 {} ms; one request that is answered at once p50 {} ms, p99 {} ms; 429s from Fly: {}",
            if settings.rate_per_second.is_some() { "between them" } else { "before them" },
            self.commit_ms.p50,
            self.commit_ms.p99,
            self.request_ms.p50,
            self.request_ms.p99,
            self.rate_limited
        ));
        lines.extend(self.in_commits());
        let mut line = format!(
            "pool: smallest stock {}, {} bays new since the first claim",
            pool.smallest_stock, pool.refilled
        );
        // Writing to a String cannot fail.
        let _infallible = match (&pool.refill_lag_ms, pool.rolled_s) {
            (_, Some(rolled)) => write!(line, "; it followed its template in {rolled} s"),
            (Some(lag), None) => {
                write!(
                    line,
                    "; from a claim to its replacement p50 {} ms, max {} ms",
                    lag.p50, lag.max
                )
            }
            (None, None) => Ok(()),
        };
        lines.push(line);
        lines
    }

    /// What a claim takes in commits, where the two were measured side by side. Two requests of it are its client's: the one that makes it
    /// and the one that finds it served.
    fn in_commits(&self) -> Option<String> {
        let hits =
            self.latency_ms.hits.as_ref().filter(|_| self.settings.rate_per_second.is_some())?;
        let commits = |ms: f64| (ms / self.commit_ms.p50 * 10.0).round() / 10.0;
        let (whole, clients) = (hits.routable.p50, 2.0 * self.request_ms.p50);
        (self.commit_ms.p50 > 0.0).then(|| {
            format!(
                "a hit until routable, p50: {} commits, {} of them without the two requests of its client",
                commits(whole),
                commits(whole - clients)
            )
        })
    }

    fn fill_line(&self) -> String {
        let Self { settings, fill, .. } = self;
        if fill.at_limits {
            return format!(
                "pool of {}: full after {} s at Fly's limits, which allow {} s; 429s: {}",
                settings.pool, fill.took_s, fill.floor_s, self.rate_limited
            );
        }
        format!(
            "pool of {}: full after {} s without Fly's limits, which ask for {} s",
            settings.pool, fill.took_s, fill.floor_s
        )
    }

    fn latency_lines(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for (whose, stages) in [("hit", &self.latency_ms.hits), ("miss", &self.latency_ms.misses)] {
            let Some(stages) = stages else { continue };
            for (stage, spread) in [
                ("durable", stages.durable),
                ("bound", stages.bound),
                ("routable", stages.routable),
                ("ready", stages.ready),
            ] {
                let times = [spread.p50, spread.p90, spread.p99, spread.max];
                let times = times.map(|it| format!("{it:.2}"));
                rows.push([&[whose.to_owned(), stage.to_owned()], &times[..]].concat());
            }
        }
        table::lines(&["claim", "until", "p50 ms", "p90 ms", "p99 ms", "max ms"], rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let times = (1..=200).map(Duration::from_millis).collect();
        let found = spread(times).unwrap();
        assert_eq!(found, Spread { p50: 100.0, p90: 180.0, p99: 198.0, max: 200.0 });
        assert_eq!(spread(vec![Duration::from_millis(7)]).unwrap().p99, 7.0);
        assert_eq!(spread(Vec::new()), None);
    }
}
