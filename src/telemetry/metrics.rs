//! Counters and gauges under fixed names, with labels from closed lists. It must never take a label that users choose.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// Passes of the reconciler, by the kind of object and outcome.
pub const PASSES: &str = "hangar_passes_total";
/// Duration of a pass.
pub const PASS_SECONDS: &str = "hangar_pass_seconds";
/// Actions carried out, by action and outcome.
pub const ACTIONS: &str = "hangar_actions_total";
/// Bays that environments got: one of a pool's, one of their own making since the pool had none, or without a pool.
pub const CLAIMS: &str = "hangar_claims_total";
/// Calls to the Machines API, by the kind of object that they were made for, method, route pattern and outcome.
pub const FLY_REQUESTS: &str = "hangar_fly_requests_total";
/// Duration of a call to the Machines API.
pub const FLY_REQUEST_SECONDS: &str = "hangar_fly_request_seconds";
/// Objects that wait for a pass.
pub const QUEUE_DEPTH: &str = "hangar_queue_depth";
/// Duration of a commit, to disk.
pub const STORE_COMMIT_SECONDS: &str = "hangar_store_commit_seconds";
/// Exports of the store, by outcome.
pub const STORE_EXPORTS: &str = "hangar_store_exports_total";
/// Hostnames that the router knows.
pub const ROUTES: &str = "hangar_routes";
/// Answers of the router, by decision.
pub const ROUTER_REPLIES: &str = "hangar_router_replies_total";
/// Bays of all pools: how many are wanted, ready, on their way and failed. One pool's own are in its status.
pub const POOL_BAYS: &str = "hangar_pool_bays";
/// Environments, by phase.
pub const ENVIRONMENTS: &str = "hangar_environments";
/// Orphans of this installation or of an unknown one, by side and what they are.
pub const ORPHANS: &str = "hangar_orphans";
/// What those cost in 30 days, estimated.
pub const ORPHANS_COST: &str = "hangar_orphans_monthly_cost_microdollars";

/// A label's name and one of its few values.
type Label = (&'static str, &'static str);
type Counters<const N: usize> = Family<[Label; N], Counter>;

/// Every metric. Cheap to clone. Label values are literals, so that there are never many of them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    passes: Counters<2>,
    pass_seconds: Histogram,
    actions: Counters<2>,
    claims: Counters<1>,
    fly_requests: Counters<4>,
    fly_request_seconds: Histogram,
    queue_depth: Gauge<u64, AtomicU64>,
    store_commit_seconds: Histogram,
    store_exports: Counters<1>,
    routes: Gauge<u64, AtomicU64>,
    router_replies: Counters<1>,
    pool_bays: Family<[Label; 1], Gauge<u64, AtomicU64>>,
    environments: Family<[Label; 1], Gauge<u64, AtomicU64>>,
    orphans: Family<[Label; 2], Gauge<u64, AtomicU64>>,
    orphans_cost: Gauge<u64, AtomicU64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From half a millisecond, a commit, to half a minute, a slow pass.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

impl Metrics {
    /// All of them at zero.
    #[must_use]
    pub fn new() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let mut inner = Inner {
            registry: Registry::default(),
            passes: Family::default(),
            pass_seconds: seconds(),
            actions: Family::default(),
            claims: Family::default(),
            fly_requests: Family::default(),
            fly_request_seconds: seconds(),
            queue_depth: Gauge::default(),
            store_commit_seconds: seconds(),
            store_exports: Family::default(),
            routes: Gauge::default(),
            router_replies: Family::default(),
            pool_bays: Family::default(),
            environments: Family::default(),
            orphans: Family::default(),
            orphans_cost: Gauge::default(),
        };
        let all = &mut inner.registry;
        // The encoder adds `_total` to a counter's name.
        let bare = |name: &'static str| name.trim_end_matches("_total");
        all.register(bare(PASSES), "Passes of the reconciler", inner.passes.clone());
        all.register(PASS_SECONDS, "Duration of a pass", inner.pass_seconds.clone());
        all.register(bare(ACTIONS), "Actions carried out", inner.actions.clone());
        all.register(bare(CLAIMS), "Bays that environments got", inner.claims.clone());
        all.register(bare(FLY_REQUESTS), "Machines API calls", inner.fly_requests.clone());
        all.register(
            FLY_REQUEST_SECONDS,
            "Duration of a Machines API call",
            inner.fly_request_seconds.clone(),
        );
        all.register(QUEUE_DEPTH, "Objects that wait for a pass", inner.queue_depth.clone());
        all.register(
            STORE_COMMIT_SECONDS,
            "Duration of a commit",
            inner.store_commit_seconds.clone(),
        );
        all.register(bare(STORE_EXPORTS), "Exports of the store", inner.store_exports.clone());
        all.register(ROUTES, "Hostnames that the router knows", inner.routes.clone());
        all.register(bare(ROUTER_REPLIES), "Answers of the router", inner.router_replies.clone());
        all.register(POOL_BAYS, "Bays of pools by state", inner.pool_bays.clone());
        all.register(ENVIRONMENTS, "Environments by phase", inner.environments.clone());
        all.register(ORPHANS, "Orphans by side and what they are", inner.orphans.clone());
        let about = "Estimated cost of orphans in 30 days, in millionths of a dollar";
        all.register(ORPHANS_COST, about, inner.orphans_cost.clone());
        Self(Arc::new(inner))
    }

    /// A pass ended.
    pub fn pass(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        self.0.passes.get_or_create(&[("kind", kind), ("outcome", outcome)]).inc();
        self.0.pass_seconds.observe(took.as_secs_f64());
    }

    /// An action was carried out, or failed.
    pub fn action(&self, action: &'static str, outcome: &'static str) {
        self.0.actions.get_or_create(&[("action", action), ("outcome", outcome)]).inc();
    }

    /// An environment got a bay.
    pub fn claim(&self, from: &'static str) {
        self.0.claims.get_or_create(&[("pool", from)]).inc();
    }

    /// A call to the Machines API ended, for an object of this kind. `route` is the pattern, without names or ids.
    pub fn fly_request(
        &self,
        kind: &'static str,
        (method, route): (&'static str, &'static str),
        outcome: &'static str,
        took: Duration,
    ) {
        let labels = [("kind", kind), ("method", method), ("route", route), ("outcome", outcome)];
        self.0.fly_requests.get_or_create(&labels).inc();
        self.0.fly_request_seconds.observe(took.as_secs_f64());
    }

    /// So many objects wait for a pass.
    pub fn queue_depth(&self, depth: usize) {
        self.0.queue_depth.set(depth as u64);
    }

    /// A commit was acknowledged.
    pub fn store_commit(&self, took: Duration) {
        self.0.store_commit_seconds.observe(took.as_secs_f64());
    }

    /// The store was exported, or could not be.
    pub fn store_export(&self, outcome: &'static str) {
        self.0.store_exports.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// The router knows so many hostnames.
    pub fn routes(&self, count: usize) {
        self.0.routes.set(count as u64);
    }

    /// The router answered.
    pub fn router_reply(&self, decision: &'static str) {
        self.0.router_replies.get_or_create(&[("decision", decision)]).inc();
    }

    /// So many bays of pools are wanted, ready, on their way and failed.
    pub fn pool_bays(&self, counts: [u64; 4]) {
        for (state, count) in ["wanted", "ready", "provisioning", "failed"].into_iter().zip(counts)
        {
            self.0.pool_bays.get_or_create(&[("state", state)]).set(count);
        }
    }

    /// So many environments are in a phase.
    pub fn environments(&self, phase: &'static str, count: usize) {
        self.0.environments.get_or_create(&[("phase", phase)]).set(count as u64);
    }

    /// There are so many orphans of this sort.
    pub fn orphans(&self, side: &'static str, what: &'static str, count: usize) {
        let labels = [("side", side), ("what", what)];
        self.0.orphans.get_or_create(&labels).set(count as u64);
    }

    /// They cost so much in 30 days.
    pub fn orphans_cost(&self, microdollars: u64) {
        self.0.orphans_cost.set(microdollars);
    }

    /// All of them in the Prometheus text form (OpenMetrics).
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.0.registry).is_err() {
            tracing::error!("the metrics could not be written as text");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_shows_under_its_name() {
        let metrics = Metrics::new();
        metrics.pass("environments", "Quiesced", Duration::from_millis(3));
        metrics.action("create-machine", "Ok");
        let route = ("POST", "/apps/{app}/machines");
        metrics.fly_request("bays", route, "201", Duration::from_millis(90));
        metrics.queue_depth(7);
        metrics.store_commit(Duration::from_millis(2));
        metrics.routes(12);
        metrics.router_reply("Replay");
        metrics.pool_bays([4, 3, 1, 0]);
        metrics.environments("Ready", 5);
        metrics.orphans("Lost", "Volume", 2);
        metrics.orphans_cost(1_944_000);
        let text = metrics.render();
        for line in [
            r#"hangar_passes_total{kind="environments",outcome="Quiesced"} 1"#,
            "hangar_pass_seconds_count 1",
            r#"hangar_actions_total{action="create-machine",outcome="Ok"} 1"#,
            r#"hangar_fly_requests_total{kind="bays",method="POST",route="/apps/{app}/machines",outcome="201"} 1"#,
            "hangar_fly_request_seconds_count 1",
            "hangar_queue_depth 7",
            "hangar_store_commit_seconds_count 1",
            "hangar_routes 12",
            r#"hangar_router_replies_total{decision="Replay"} 1"#,
            r#"hangar_pool_bays{state="wanted"} 4"#,
            r#"hangar_pool_bays{state="provisioning"} 1"#,
            r#"hangar_environments{phase="Ready"} 5"#,
            r#"hangar_orphans{side="Lost",what="Volume"} 2"#,
            "hangar_orphans_monthly_cost_microdollars 1944000",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }
}
