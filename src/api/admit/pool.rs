//! Defaults and rules of warm pools. It must never look at the template; what depends on both is a condition.

use std::{ops::RangeInclusive, time::Duration};

use crate::api::{
    admit::Findings,
    name,
    pool::{Autoscale, Replicas, WarmPool, WarmState},
    quantity::Span,
};

/// A pool of more would rather be several.
const REPLICAS_MAX: u32 = 1_000;
const IN_FLIGHT_MAX: u32 = 50;
/// Bays that are replaced faster than they can be made would never be ready.
const MAX_AGE_MIN: Duration = Duration::from_secs(600);

/// Claims are remembered for an hour.
const WINDOW: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3_600);

pub(super) fn complete(pool: &mut WarmPool) {
    pool.spec.warm_state.get_or_insert(WarmState::Started);
    pool.spec.max_in_flight.get_or_insert(4);
    if let Some(rule) = &mut pool.spec.autoscale {
        rule.target_hit_rate.get_or_insert(95);
        rule.window = rule.window.take().or_else(|| Span::parse("15m").ok());
    }
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
    if spec.max_unavailable.as_ref().is_some_and(|it| it.of(100).is_none()) {
        findings.invalid("spec.maxUnavailable", "a number, or a share from 0% to 100%");
    }
    if spec.max_age.as_ref().is_some_and(|it| it.get() < MAX_AGE_MIN) {
        findings.invalid("spec.maxAge", "at least 10m");
    }
    if spec.refill.as_ref().is_some_and(|it| it.max_per_minute == 0) {
        findings.invalid("spec.refill.maxPerMinute", "at least 1; `replicas: 0` makes none");
    }
    if let Some(rule) = &spec.autoscale {
        check_autoscale(rule, findings);
        if matches!(spec.replicas, Replicas::PerRegion(_)) {
            let why = "with `autoscale` it is one number, from which that starts";
            findings.invalid("spec.replicas", why);
        }
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

fn check_autoscale(rule: &Autoscale, findings: &mut Findings) {
    if rule.min > rule.max {
        findings.invalid("spec.autoscale.min", "it must not be more than `max`");
    }
    if !(1..=REPLICAS_MAX).contains(&rule.max) {
        findings.invalid("spec.autoscale.max", format!("1 to {REPLICAS_MAX}"));
    }
    if !(1..=100).contains(&rule.target_hit_rate()) {
        findings.invalid("spec.autoscale.targetHitRate", "1 to 100: so many of a hundred claims");
    }
    if !WINDOW.contains(&rule.window().unsigned_abs()) {
        findings.invalid("spec.autoscale.window", "1m to 1h");
    }
}
