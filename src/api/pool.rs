//! WarmPool: a stock of unbound, ready bays of a template. Types and the sums over its own fields; it must never look at a
//! bay.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{
    condition,
    meta::{NameRef, resource},
    quantity::Span,
    rollout::IntOrPercent,
};

resource! {
    /// Keeps unbound, ready bays of a template, so that a new environment has one in about a second. Where an environment adds variables or
    /// secrets, the template must have `personalize`: it is how they reach a program that runs already.
    WarmPool {
        /// What is wanted.
        spec: WarmPoolSpec,
        /// What is, written by hangar.
        #[serde(default)]
        status: WarmPoolStatus,
    }
}

/// Label of the bays that wait in a pool, with its name; a claimed one has it no more.
pub const POOL_LABEL: &str = "hangar.dev/pool";

/// What is wanted of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WarmPoolSpec {
    /// The template that its bays are made from. Immutable.
    pub template_ref: NameRef,
    /// How many bays are kept: a number, in the template's regions in order of preference, or a number for each region. With
    /// `autoscale` a number, from which that starts.
    pub replicas: Replicas,
    /// Lets the number follow the claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// How they wait. By default Started, which costs most and takes a claim no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_state: Option<WarmState>,
    /// A bay that was made longer ago is replaced by a new one; at least 10m. Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// How many bays are made at a time; 1 to 50. By default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u32>,
    /// How many of the wanted bays may be missing because old ones go before the new ones that replace them are ready: a number, or a
    /// share of what is wanted in per cent, rounded down. By default 0: a replacement never makes the stock smaller. No more go ahead
    /// than are made at a time, and none while the pool pauses or is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrPercent>,
    /// How fast it is filled up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refill: Option<Refill>,
}

/// How many bays are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a number from 0 on, or one for each region such as {ams: 2}"
)]
pub enum Replicas {
    /// So many, wherever the template's regions have room.
    Anywhere(u32),
    /// So many in each region.
    PerRegion(BTreeMap<String, u32>),
}

/// How the number of bays follows the claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Autoscale {
    /// The fewest that are kept, without any claims.
    pub min: u32,
    /// The most that are kept.
    pub max: u32,
    /// How many of a hundred claims are to find a bay ready; 1 to 100. By default 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_hit_rate: Option<u32>,
    /// How far back claims are looked at; 1m to 1h. By default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
}

/// What hangar remembers of a pool that follows its claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AutoscaleStatus {
    /// How many bays are wanted.
    pub desired: u32,
    /// How long a bay takes to get ready, as was last seen.
    pub ready_after_s: u32,
    /// Since when fewer would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub fewer_since: Option<Timestamp>,
    /// How many would have done since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fewer: Option<u32>,
}

/// How unbound bays wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WarmState {
    /// Running.
    Started,
    /// With their memory kept.
    Suspended,
    /// Stopped.
    Stopped,
}

/// How fast a pool is filled up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refill {
    /// Bays that are begun within a minute, at most.
    pub max_per_minute: u32,
}

/// What is, as hangar last counted it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WarmPoolStatus {
    /// The generation this status is about.
    pub observed_generation: u64,
    /// How many bays are wanted.
    pub desired_replicas: u32,
    /// What is remembered where that follows the claims.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleStatus>,
    /// Unbound bays, ready or on their way, those that are to go left out.
    pub replicas: u32,
    /// Bays that a claim can have now.
    pub ready: u32,
    /// Bays on their way to that.
    pub provisioning: u32,
    /// Bays that did not get there, or do not serve any more, and are being removed.
    pub failed: u32,
    /// Ready bays of an older template, which go when new ones are ready.
    pub outdated: u32,
    /// Bays that were begun before the store was made from an export. They may have been claimed after that, and hold somebody's data: nobody
    /// gets them, and they are left as they are. Deleting the pool removes them.
    #[serde(skip_serializing_if = "is_zero")]
    pub doubtful: u32,
    /// Environments made in the last hour that got a bay of this pool.
    pub claimed_last_hour: u32,
    /// Environments of this template made in the last hour for which there was none ready.
    pub missed_last_hour: u32,
    /// Claims of the last hour that got a bay, in per cent; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit_rate_percent: Option<u32>,
    /// Since when the bay that waits longest is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub oldest_ready_at: Option<Timestamp>,
    /// What the stock costs in a day, those that are being removed included, from Fly's published prices: an estimate.
    pub cost_per_day_microdollars: u64,
    /// How many bays failed since one was last ready, and until when no more are begun because of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failures: Option<PoolFailures>,
    /// What is true and what is waited for.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<PoolCondition>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Bays that failed in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PoolFailures {
    /// How many.
    pub count: u32,
    /// Digest of the template that they were made from: those of another one say nothing of it.
    #[serde(default)]
    pub made_from: String,
    /// What was wrong with the last one.
    pub message: String,
    /// When that was given up.
    #[schemars(with = "String")]
    pub failed_at: Timestamp,
    /// None are begun before this.
    #[schemars(with = "String")]
    pub paused_until: Timestamp,
}

/// A condition of a pool.
pub type PoolCondition = condition::Condition<PoolConditionType, PoolReason>;

/// What can be claimed of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PoolConditionType {
    /// As many bays are ready as are wanted, and none is of an older template.
    Full,
    /// Claims find a ready bay.
    Available,
    /// A bound keeps the number from what the claims need. Absent without `autoscale`.
    ScalingLimited,
    /// hangar does not get on without a person: what it is made from is missing or unfit, or bays failed again and again.
    Stalled,
}

/// Why a condition of a pool is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PoolReason {
    /// All is as declared.
    AsDeclared,
    /// Bays are being made.
    Refilling,
    /// Bays of an older template are being replaced.
    RollingOut,
    /// Bays of a certain age are being replaced.
    Renewing,
    /// Bays that are not wanted any more are being removed.
    ScalingDown,
    /// Nothing is ready.
    Empty,
    /// None is wanted.
    ScaledToZero,
    /// Bays failed in a row; the next one is tried later.
    Paused,
    /// The namespace's quota has no room for more bays.
    QuotaExceeded,
    /// Making bays is held back until a person speaks.
    Held,
    /// The named template does not exist.
    TemplateMissing,
    /// Environments of this template cannot be claimed.
    TemplateUnfit,
    /// The number is what the claims need.
    DesiredWithinRange,
    /// The claims need more than `autoscale.max`.
    TooManyReplicas,
    /// The claims need fewer than `autoscale.min`.
    TooFewReplicas,
    /// It is being deleted.
    Deleting,
}

impl PoolReason {
    /// Whether no bay is begun because of it.
    #[must_use]
    pub fn stops(self) -> bool {
        matches!(
            self,
            Self::Paused
                | Self::QuotaExceeded
                | Self::Held
                | Self::TemplateMissing
                | Self::TemplateUnfit
        )
    }
}

impl Autoscale {
    /// How many of a hundred claims are to find a bay ready, with its default.
    #[must_use]
    pub fn target_hit_rate(&self) -> u32 {
        self.target_hit_rate.unwrap_or(95)
    }

    /// How far back claims are looked at, with its default.
    #[must_use]
    pub fn window(&self) -> SignedDuration {
        let window = self.window.as_ref().map(Span::get);
        window.and_then(|it| it.try_into().ok()).unwrap_or(SignedDuration::from_mins(15))
    }
}

impl WarmPoolSpec {
    /// How many bays are wanted in which region; `None` is anywhere.
    #[must_use]
    pub fn wanted(&self) -> BTreeMap<Option<&str>, u32> {
        match &self.replicas {
            Replicas::Anywhere(count) => BTreeMap::from([(None, *count)]),
            Replicas::PerRegion(counts) => {
                counts.iter().map(|(region, count)| (Some(region.as_str()), *count)).collect()
            }
        }
    }

    /// How many bays are wanted in all.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.wanted().values().fold(0, |sum, it| sum.saturating_add(*it))
    }

    /// How unbound bays wait, with its default.
    #[must_use]
    pub fn warm_state(&self) -> WarmState {
        self.warm_state.unwrap_or(WarmState::Started)
    }

    /// How many bays are made at a time, with its default.
    #[must_use]
    pub fn max_in_flight(&self) -> u32 {
        self.max_in_flight.unwrap_or(4)
    }

    /// How many of so many wanted bays may be missing because of a replacement.
    #[must_use]
    pub fn max_unavailable(&self, wanted: u32) -> u32 {
        self.max_unavailable.as_ref().and_then(|it| it.of(wanted)).unwrap_or(0)
    }
}
