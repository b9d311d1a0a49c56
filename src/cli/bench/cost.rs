//! What claims cost: commits, passes, calls, processor time. Counted where they happen, not by whoever makes the load. It must
//! never slow down what it counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::StreamExt as _;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    api::{kind::Kind, meta::ObjectRef},
    cli::{
        assembly::Core,
        bench::{
            book::index_of,
            ground::Ground,
            report::{Spread, spread},
        },
    },
    store::{Event, Key, Precondition, handle::Store},
    telemetry::metrics::{FLY_REQUESTS, PASSES},
};

/// How often it is measured one after the other.
const TIMES: u32 = 200;

/// What this machine takes for what a claim is made of.
#[derive(Debug, Default)]
pub(super) struct Yardsticks {
    commits: Vec<Duration>,
    requests: Vec<Duration>,
}

impl Yardsticks {
    /// With nothing else going on.
    pub(super) async fn alone(ground: &Ground) -> anyhow::Result<Self> {
        let mut taken = Self::default();
        for _ in 0..TIMES {
            taken.commit(ground).await?;
            taken.request(ground).await?;
        }
        Ok(taken)
    }

    /// One of each in each of so many intervals, a third of it apart from what begins it and from each other: a processor that rested takes
    /// longer over everything. One that fails is missing.
    pub(super) async fn between(&mut self, ground: &Ground, interval: Duration, count: u32) {
        let clock = &ground.core.clock;
        let until = |at: Duration| tokio::time::sleep(at.saturating_sub(clock.monotonic()));
        let began = clock.monotonic();
        for at in (0..count).map(|it| began + interval * it) {
            until(at + interval / 3).await;
            let _failed = self.commit(ground).await;
            until(at + interval * 2 / 3).await;
            let _failed = self.request(ground).await;
        }
    }

    /// A durable commit of one object, about as large as an environment.
    async fn commit(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let clock = &ground.core.clock;
        let began = clock.monotonic();
        // What is there already would not be written again.
        let value = json!({"at": began.as_nanos().to_string(), "filling": "x".repeat(2_048)});
        let txn = ground.store.txn().put(&Key::new("bench/commit"), Precondition::Any, &value);
        txn.commit().await?;
        self.commits.push(clock.monotonic().saturating_sub(began));
        Ok(())
    }

    /// A request to the API that is answered at once.
    async fn request(&mut self, ground: &Ground) -> anyhow::Result<()> {
        let clock = &ground.core.clock;
        let began = clock.monotonic();
        ground.client.version().await?;
        self.requests.push(clock.monotonic().saturating_sub(began));
        Ok(())
    }

    /// Of commits and of requests.
    pub(super) fn spreads(self) -> [Spread; 2] {
        [self.commits, self.requests].map(|it| spread(it).unwrap_or_default())
    }
}

/// What was counted up to a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    /// Passes for environments.
    pub(super) passes: u64,
    /// Calls to Fly for environments.
    pub(super) fly_calls: u64,
    /// Calls that were answered 429, for whomever.
    pub(super) rate_limited: u64,
    /// Processor time of this process, clients included.
    pub(super) cpu: Duration,
}

impl Meter {
    pub(super) fn read(core: &Core) -> Self {
        let text = core.metrics.render();
        let environments = format!("kind=\"{}\"", Kind::Environment.info().plural);
        Self {
            passes: sum(&text, PASSES, &environments),
            fly_calls: sum(&text, FLY_REQUESTS, &environments),
            rate_limited: sum(&text, FLY_REQUESTS, "outcome=\"rate_limited\""),
            cpu: cpu(),
        }
    }

    pub(super) fn since(self, before: &Self) -> Self {
        Self {
            passes: self.passes - before.passes,
            fly_calls: self.fly_calls - before.fly_calls,
            rate_limited: self.rate_limited - before.rate_limited,
            cpu: self.cpu.saturating_sub(before.cpu),
        }
    }
}

/// The sum of a counter over all labels that have this one.
fn sum(text: &str, name: &str, label: &str) -> u64 {
    let of = |line: &&str| line.strip_prefix(name).is_some_and(|it| it.contains(label));
    let values =
        text.lines().filter(of).filter_map(|it| it.rsplit(' ').next()?.parse::<u64>().ok());
    values.sum()
}

/// As `/proc` has it, in user and kernel, by ticks of the clock.
pub(super) fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may have spaces in it.
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|it| it.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// What was written of the store, from some moment on.
pub(super) struct Writes {
    seen: Arc<Mutex<Vec<(String, u64)>>>,
    watch: JoinSet<()>,
}

impl Writes {
    pub(super) async fn of(store: &Store) -> anyhow::Result<Self> {
        let (_, now) = store.list_bytes("warmpools/").await?;
        let mut events = store.watch("", now)?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&seen);
        let mut watch = JoinSet::new();
        watch.spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                let Event::Changes(changes) = event else { continue };
                let changes = changes.iter().map(|it| (it.key.as_str().to_owned(), it.revision.0));
                written.lock().unwrap_or_else(PoisonError::into_inner).extend(changes);
            }
        });
        Ok(Self { seen, watch })
    }

    /// Commits and object writes for these claims, each with its bay: the environment, its bay since it was bound, its events. `None` if not
    /// all of them were seen.
    pub(super) fn of_claims(&mut self, bays: &[String]) -> Option<(usize, usize)> {
        if self.watch.try_join_next().is_some() {
            return None;
        }
        let of_bay: BTreeMap<_, _> =
            bays.iter().enumerate().map(|(index, bay)| (bay.as_str(), index)).collect();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut commits = BTreeSet::new();
        let mut begun = BTreeSet::new();
        let mut objects = 0;
        for (key, revision) in &*seen {
            let Some(object) = ObjectRef::from_store_key(key) else { continue };
            let index = match object.kind {
                Kind::Environment => index_of(&object.name).inspect(|it| {
                    begun.insert(*it);
                }),
                Kind::Event => object.name.split('.').next().and_then(index_of),
                Kind::Bay => {
                    of_bay.get(object.name.as_str()).copied().filter(|it| begun.contains(it))
                }
                _ => None,
            };
            if let Some(index) = index {
                commits.insert((index, *revision));
                objects += 1;
            }
        }
        Some((commits.len(), objects))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_summed_over_the_labels_that_are_asked_for() {
        let text = "p_total{kind=\"a\",outcome=\"ok\"} 3\np_total{kind=\"a\",outcome=\"no\"} 2\n\
                    p_total{kind=\"b\",outcome=\"ok\"} 7\nq_total{kind=\"a\"} 9\n";
        assert_eq!(sum(text, "p_total", "kind=\"a\""), 5);
        assert_eq!(sum(text, "p_total", "outcome=\"ok\""), 10);
    }
}
