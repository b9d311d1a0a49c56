//! How many bays a pool that follows its claims wants. Pure: from the claims of a window, how long a bay takes to get ready and what
//! was wanted before. It must never decide how bays are made or removed.
//!
//! A claimed bay is replaced at once, and the new one is ready a while later. So a claim finds a bay ready if fewer bays are kept busy by
//! the claims just before it than there are. What is wanted is what would have served the target's share of the window's claims.
//! More are wanted at once, fewer only after a whole window in which fewer would have done.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    pool::{Autoscale, AutoscaleStatus, PoolReason, WarmPool},
};
use crate::plan::stock::StockFact;

/// What is taken for the time that a bay takes while none was seen to get ready.
const READY_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Bays that were begun longer ago say nothing of how long one takes now.
const LATELY: SignedDuration = SignedDuration::from_hours(1);
/// A window is looked at again at least this many times in its length.
const LOOKS: i32 = 20;

/// What came of one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is wanted, and what must be remembered of it.
    pub status: AutoscaleStatus,
    /// Whether a bound keeps it from what it should be.
    pub limited: PoolReason,
    /// Why, for people.
    pub message: String,
    /// When to look again.
    pub wake_at: Timestamp,
}

/// A claim that came, and whether there was no bay ready for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// When.
    pub at: Timestamp,
    /// Whether it was missed.
    pub missed: bool,
}

/// What a pool wants, if it follows its claims.
#[must_use]
pub fn of_pool(pool: &WarmPool, bays: &[StockFact], now: Timestamp) -> Option<Decision> {
    let rule = pool.spec.autoscale.as_ref()?;
    let own = || bays.iter().filter(|it| it.pool_uid == pool.metadata.uid);
    let claim = |it: &StockFact| {
        let at = if it.missed { Some(it.made_at) } else { it.claimed_at };
        at.map(|at| Claim { at, missed: it.missed })
    };
    let mut claims: Vec<_> = own().filter_map(claim).collect();
    claims.sort_unstable();
    let mut took: Vec<_> = own()
        .filter(|it| it.claimed_at.is_none() && now < it.made_at + LATELY)
        .filter_map(|it| Some(it.available_since?.duration_since(it.made_at)))
        .collect();
    took.sort_unstable();
    let old = pool.status.autoscale.as_ref();
    let seen = took.get(took.len() / 2).copied();
    let before = old.map(|it| SignedDuration::from_secs(it.ready_after_s.into()));
    let ready_after = seen.or(before).unwrap_or(READY_AFTER);
    Some(decide(rule, (old, pool.spec.total()), (&claims, ready_after), now))
}

/// What is wanted now. `start` is what is wanted as long as nothing is remembered; claims are in order of time.
#[must_use]
pub fn decide(
    rule: &Autoscale,
    (old, start): (Option<&AutoscaleStatus>, u32),
    (claims, ready_after): (&[Claim], SignedDuration),
    now: Timestamp,
) -> Decision {
    let window = rule.window();
    let recent = claims.partition_point(|it| it.at + window <= now);
    let claims = claims.get(recent..).unwrap_or_default();
    let missed = claims.iter().filter(|it| it.missed).count();
    let share = usize::try_from(rule.target_hit_rate()).unwrap_or(100).min(100);
    let before = old.map_or(start, |it| it.desired).clamp(rule.min, rule.max.max(rule.min));
    let mut needed = served_by(claims, ready_after, share);
    let missed_too_many = missed * 100 > claims.len() * (100 - share);
    if missed_too_many {
        // Whatever was computed, fewer than there were would not have done.
        needed = needed.max(before);
    }
    let bounded = needed.clamp(rule.min, rule.max.max(rule.min));
    let slack = old.and_then(|it| Some((it.fewer_since?, it.fewer.unwrap_or_default())));
    let (desired, fewer) = settle(bounded, before, slack, (now, window));
    let limited = match () {
        () if needed > rule.max => PoolReason::TooManyReplicas,
        () if needed < rule.min => PoolReason::TooFewReplicas,
        () => PoolReason::DesiredWithinRange,
    };
    let seconds = ready_after.as_secs().max(0);
    let bound = match limited {
        PoolReason::TooManyReplicas => format!(", and {} is the most", rule.max),
        PoolReason::TooFewReplicas => format!(", and {} is the least", rule.min),
        _ => String::new(),
    };
    let fewer_do = fewer.map_or_else(String::new, |(since, _)| {
        format!("; fewer than {desired} do since {since:.0}")
    });
    let message = format!(
        "{} claims in {}, {missed} missed; a bay is ready after {seconds} s: {needed} would have served {share} % of them\
         {bound}{fewer_do}",
        claims.len(),
        rule.window.as_ref().map_or("15m", |it| it.as_str()),
    );
    let status = AutoscaleStatus {
        desired,
        ready_after_s: u32::try_from(seconds).unwrap_or(u32::MAX),
        fewer_since: fewer.map(|(since, _)| since),
        fewer: fewer.map(|(_, most)| most),
    };
    let lowered_at = fewer.map(|(since, _)| since + window);
    let wake_at = lowered_at.into_iter().chain([now + window / LOOKS]).min();
    Decision { status, limited, message, wake_at: wake_at.unwrap_or(now + window) }
}

/// The fewest bays that would have served this share, in per cent, of the claims, if each kept one busy for so long.
fn served_by(claims: &[Claim], ready_after: SignedDuration, share: usize) -> u32 {
    let mut first = 0;
    let mut busy: Vec<usize> = Vec::with_capacity(claims.len());
    for (index, claim) in claims.iter().enumerate() {
        while claims.get(first).is_some_and(|it| it.at + ready_after <= claim.at && first < index) {
            first += 1;
        }
        busy.push(index - first + 1);
    }
    busy.sort_unstable();
    let rank = (busy.len() * share).div_ceil(100);
    let most = rank.checked_sub(1).and_then(|rank| busy.get(rank)).copied().unwrap_or(0);
    u32::try_from(most).unwrap_or(u32::MAX)
}

/// Since when fewer would have done, and the most that were needed since then.
type Fewer = Option<(Timestamp, u32)>;

/// More at once; fewer when a whole window has passed, and then as many as were needed at most in that.
fn settle(
    needed: u32,
    before: u32,
    fewer: Fewer,
    (now, window): (Timestamp, SignedDuration),
) -> (u32, Fewer) {
    if needed >= before {
        return (needed, None);
    }
    let (since, most) = fewer.map_or((now, needed), |(since, most)| (since, most.max(needed)));
    if now < since + window {
        return (before, Some((since, most)));
    }
    (most, (needed < most).then_some((now, needed)))
}

#[cfg(test)]
mod tests;
