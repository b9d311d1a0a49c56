//! What a template needs to know of one of its environments, from its status. It must never decide what follows from it.

use crate::api::{
    condition::{self, Truth},
    environment::{ConditionType, Environment, OperatingMode, Phase, Reason},
    meta::Resource as _,
    rollout::{EnvironmentRevision, FOLLOW},
};

/// One of a template's environments. Those that are being deleted are none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetFact {
    /// Its name.
    pub name: String,
    /// The revision that it is kept at, once there is one.
    pub kept_at: Option<EnvironmentRevision>,
    /// Its conditions in one word.
    pub phase: Phase,
    /// Whether a change waits for its next sleep, or its turn.
    pub waits: bool,
    /// Whether no machine was ever ordered for it: there is nothing that a change could disturb.
    pub unmade: bool,
    /// Whether it is getting a bay that runs already, and there is no sign that it will not serve: nothing restarts it before that.
    pub claims: bool,
    /// Whether it never sleeps, as far as its own specification says.
    pub always_awake: bool,
    /// Up to which revision it was told to follow at once.
    pub follow: u64,
    /// What is wrong with it that a change may have done.
    pub trouble: Option<String>,
}

impl FleetFact {
    /// What is known of an environment; `None` for one that is being deleted.
    #[must_use]
    pub fn of(environment: &Environment) -> Option<Self> {
        if environment.is_deleting() {
            return None;
        }
        let status = &environment.status;
        let updated = condition::get(&status.conditions, ConditionType::Updated);
        let is = |kind| condition::get(&status.conditions, kind).map(|it| it.status);
        let (bound, personal) = (is(ConditionType::Bound), is(ConditionType::Personalized));
        let gets_one = status.bay.is_some() && bound != Some(Truth::True);
        let is_begun = gets_one || status.bay.as_ref().is_some_and(|it| it.epoch > 0);
        let kept_at = status.template.as_ref();
        let is_new = kept_at.is_some_and(|it| it.from.is_none() && it.ready_at.is_none());
        let trouble = kept_at.filter(|it| it.looked).and_then(|_| trouble(environment));
        let is_claimed =
            personal == Some(Truth::False) || (personal.is_some() && is_new && trouble.is_none());
        let follow = environment.metadata.annotations.get(FOLLOW).and_then(|it| it.parse().ok());
        Some(Self {
            name: environment.metadata.name.clone(),
            kept_at: status.template.clone(),
            phase: status.phase,
            unmade: !is_begun,
            claims: gets_one || is_claimed,
            waits: updated.is_some_and(|it| it.reason == Reason::WaitingForSleep),
            always_awake: environment.spec.operating_mode() == OperatingMode::Running,
            follow: follow.unwrap_or(0),
            trouble,
        })
    }
}

/// What a new image, command, check or size may have done. Where Fly has no room, loses something or cannot be asked, the
/// template is not to blame.
fn trouble(environment: &Environment) -> Option<String> {
    let conditions = &environment.status.conditions;
    let observed = condition::get(conditions, ConditionType::Observed);
    if observed.is_some_and(|it| it.status == Truth::False) {
        return None;
    }
    let bad = [ConditionType::Stalled, ConditionType::Degraded]
        .into_iter()
        .find_map(|kind| condition::get(conditions, kind).filter(|it| it.status == Truth::True))?;
    let its_own = matches!(
        bad.reason,
        Reason::ReadinessTimeout
            | Reason::MachineFailed
            | Reason::Unhealthy
            | Reason::PersonalizeFailed
            | Reason::CallFailed
    );
    its_own.then(|| bad.message.clone())
}
