//! Defaults and rules of warm pools. It must never look at the template; what depends on both is a condition.

use std::time::Duration;

use crate::api::{
    admit::Findings,
    name,
    pool::{Replicas, WarmPool, WarmState},
};

/// A pool of more would rather be several.
const REPLICAS_MAX: u32 = 1_000;
const IN_FLIGHT_MAX: u32 = 50;
/// Bays that are replaced faster than they can be made would never be ready.
const MAX_AGE_MIN: Duration = Duration::from_secs(600);

pub(super) fn complete(pool: &mut WarmPool) {
    pool.spec.warm_state.get_or_insert(WarmState::Started);
    pool.spec.max_in_flight.get_or_insert(4);
}

pub(super) fn check(pool: &WarmPool, old: Option<&WarmPool>, findings: &mut Findings) {
    let spec = &pool.spec;
    findings.say("spec.templateRef.name", name::object(&spec.template_ref.name));
    if let Replicas::PerRegion(counts) = &spec.replicas {
        for region in counts.keys() {
            findings.say(&format!("spec.replicas.{region}"), name::region(region));
        }
        if counts.is_empty() {
            findings.invalid("spec.replicas", "a number, or at least one region with its number");
        }
    }
    if spec.total() > REPLICAS_MAX {
        let why = format!("{} are too many: at most {REPLICAS_MAX}", spec.total());
        findings.invalid("spec.replicas", why);
    }
    if !(1..=IN_FLIGHT_MAX).contains(&spec.max_in_flight()) {
        findings.invalid("spec.maxInFlight", format!("1 to {IN_FLIGHT_MAX}"));
    }
    if spec.max_age.as_ref().is_some_and(|it| it.get() < MAX_AGE_MIN) {
        findings.invalid("spec.maxAge", "at least 10m");
    }
    if spec.refill.as_ref().is_some_and(|it| it.max_per_minute == 0) {
        findings.invalid("spec.refill.maxPerMinute", "at least 1; `replicas: 0` makes none");
    }
    if let Some(old) = old {
        findings.immutable(
            "spec.templateRef",
            &old.spec.template_ref,
            &spec.template_ref,
            "make a new pool of the other template",
        );
    }
}
