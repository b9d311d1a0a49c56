//! What follows from claims: as tables, and over hours of claims that come as they like.

use super::*;
use crate::api::quantity::Span;
use crate::chance::{Chance as _, Seeded};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn rule(min: u32, max: u32, share: u32) -> Autoscale {
    let window = Some(Span::parse("10m").unwrap());
    Autoscale { min, max, target_hit_rate: Some(share), window }
}

fn claims(hits: &[i64], misses: &[i64]) -> Vec<Claim> {
    let of = |it: &i64, missed| Claim { at: at(*it), missed };
    let mut all: Vec<_> = hits.iter().map(|it| of(it, false)).collect();
    all.extend(misses.iter().map(|it| of(it, true)));
    all.sort_unstable();
    all
}

/// What is wanted at 600 s, after 2 were, where a bay takes 60 s.
#[track_caller]
fn check(rule: &Autoscale, claims: &[Claim], desired: u32, limited: PoolReason) {
    let ready_after = SignedDuration::from_secs(60);
    let decision = decide(rule, (None, 2), (claims, ready_after), at(600));
    assert_eq!(
        (decision.status.desired, decision.limited),
        (desired, limited),
        "{}",
        decision.message
    );
}

#[test]
fn as_many_are_wanted_as_would_have_served_the_share_of_the_windows_claims() {
    use PoolReason::{
        DesiredWithinRange as Within, TooFewReplicas as Few, TooManyReplicas as Many,
    };
    // Far apart, one is enough; it is lowered when a window has passed.
    check(&rule(0, 9, 95), &claims(&[100, 200, 300], &[]), 2, Within);
    // Three within the time that a bay takes.
    check(&rule(0, 9, 95), &claims(&[100, 120, 159], &[]), 3, Within);
    check(&rule(0, 9, 95), &claims(&[100, 120, 160], &[]), 2, Within);
    // A burst that is more than the share may be missed, and one that is less.
    let hour: Vec<_> = (1..20).map(|it| it * 30).collect();
    check(
        &rule(0, 9, 50),
        &[claims(&hour, &[]), claims(&[590, 591, 592], &[])].concat(),
        2,
        Within,
    );
    check(
        &rule(0, 9, 100),
        &[claims(&hour, &[]), claims(&[590, 591, 592], &[])].concat(),
        5,
        Within,
    );
    // Bounds.
    check(&rule(0, 4, 95), &claims(&[1, 2, 3, 4, 5, 6], &[]), 4, Many);
    check(&rule(4, 9, 95), &claims(&[], &[]), 4, Few);
    // What came before the window is forgotten.
    check(&rule(0, 9, 95), &claims(&[0, 0, 0, 0, 590], &[]), 2, Within);
}

#[test]
fn fewer_are_wanted_after_a_window_in_which_fewer_would_have_done_and_not_while_too_many_were_missed()
 {
    let (rule, ready_after) = (rule(1, 9, 90), SignedDuration::from_secs(60));
    let burst = claims(&[0, 1, 2, 3, 4, 5], &[]);
    let mut wanted = Vec::new();
    let mut old: Option<AutoscaleStatus> = None;
    let mut now = 10;
    while now <= 2_400 {
        let decision = decide(&rule, (old.as_ref(), 1), (&burst, ready_after), at(now));
        if old.as_ref().map(|it| it.desired) != Some(decision.status.desired) {
            wanted.push((now, decision.status.desired));
        }
        old = Some(decision.status);
        now += 10;
    }
    // At 600 five of the claims are left in the window, and none from 610 on.
    assert_eq!(wanted, [(10, 6), (1_200, 5), (1_800, 1)]);

    let missed = claims(&[], &[300]);
    let decision = decide(&rule, (None, 5), (&missed, ready_after), at(600));
    assert_eq!((decision.status.desired, decision.status.fewer_since), (5, None));
}

#[test]
fn it_says_why() {
    let came = claims(&[100, 110], &[120]);
    let decision =
        decide(&rule(0, 2, 95), (None, 2), (&came, SignedDuration::from_secs(41)), at(600));
    assert_eq!(
        decision.message,
        "3 claims in 10m, 1 missed; a bay is ready after 41 s: 3 would have served 95 % of them, and 2 is the most"
    );
    let decision =
        decide(&rule(1, 9, 95), (None, 4), (&[], SignedDuration::from_secs(41)), at(600));
    assert_eq!(
        decision.message,
        "0 claims in 10m, 0 missed; a bay is ready after 41 s: 0 would have served 95 % of them, and 1 is the least; \
         fewer than 4 do since 2027-01-15T08:10:00Z"
    );
    assert_eq!(decision.wake_at, at(630));
}

/// A pool under claims that come independently of each other, and what became of it.
struct Course {
    /// Claims of the second half, and how many of them found a bay.
    claims: u32,
    hits: u32,
    /// What was wanted in the second half, at each change.
    wanted: Vec<u32>,
}

/// Between 0 and 1, never 0.
fn draw(chance: &Seeded) -> f64 {
    let mut bytes = [0; 4];
    chance.fill(&mut bytes);
    (f64::from(u32::from_le_bytes(bytes)) + 1.0) / 4_294_967_296.0
}

/// Eight hours in which so many claims come each minute, and a bay takes half as long as it should to half as long again.
fn course(seed: u64, per_minute: f64, ready_after_s: f64) -> Course {
    #[expect(clippy::cast_possible_truncation, reason = "milliseconds of some hours")]
    let time = |seconds: f64| at(0) + SignedDuration::from_millis((seconds * 1_000.0) as i64);
    let chance = Seeded::new(seed, "claims");
    let (rule, lead) = (rule(0, 1_000, 90), time(ready_after_s).duration_since(at(0)));
    let (mut ready, mut coming): (u32, Vec<f64>) = (0, Vec::new());
    let (mut claims, mut status): (Vec<Claim>, Option<AutoscaleStatus>) = (Vec::new(), None);
    let mut course = Course { claims: 0, hits: 0, wanted: Vec::new() };
    let (end, mut now, mut next) = (8.0 * 3_600.0, 0.0, 0.0);
    while now < end {
        coming.retain(|at| {
            if *at <= now {
                ready += 1;
                false
            } else {
                true
            }
        });
        let late = now > end / 2.0;
        if next <= now {
            let missed = ready == 0;
            claims.push(Claim { at: time(now), missed });
            ready = ready.saturating_sub(1);
            course.claims += u32::from(late);
            course.hits += u32::from(late && !missed);
            next = now - draw(&chance).ln() * 60.0 / per_minute;
        }
        let decision = decide(&rule, (status.as_ref(), 1), (&claims, lead), time(now));
        let desired = decision.status.desired;
        if late && course.wanted.last() != Some(&desired) {
            course.wanted.push(desired);
        }
        status = Some(decision.status);
        let there = ready + u32::try_from(coming.len()).unwrap();
        ready = ready.saturating_sub(there.saturating_sub(desired));
        for _ in there..desired {
            coming.push(now + ready_after_s * (0.5 + draw(&chance)));
        }
        let soon = coming.iter().copied().fold(now + 30.0, f64::min);
        now = next.min(soon).max(now + 0.001);
    }
    course
}

#[test]
fn under_steady_claims_the_share_is_served_and_the_size_comes_to_rest() {
    for seed in 0..4 {
        for (per_minute, ready_after_s) in
            [(0.5, 45.0), (2.0, 45.0), (2.0, 90.0), (10.0, 45.0), (30.0, 20.0)]
        {
            let Course { claims, hits, wanted } = course(seed, per_minute, ready_after_s);
            let what = format!(
                "seed {seed}, {per_minute} a minute, {ready_after_s} s: {hits}/{claims}, {wanted:?}"
            );
            assert!(f64::from(hits) >= 0.9 * f64::from(claims), "{what}");
            // Bays that are busy at a time, and four times as much as that strays.
            let busy = per_minute * ready_after_s / 60.0;
            let most = 2.0 + busy + 4.0 * busy.sqrt();
            assert!(wanted.iter().all(|it| f64::from(*it) <= most), "{what}");
            let (least, largest) = (wanted.iter().min().unwrap(), wanted.iter().max().unwrap());
            assert!(f64::from(largest - least) <= 3.0 + 3.0 * busy.sqrt(), "{what}");
            // Each time that it is lowered takes a window, of which four hours have 24.
            let lowered = wanted.windows(2).filter(|it| it[1] < it[0]).count();
            assert!(lowered <= 24, "{what}");
        }
    }
}
