//! When an environment's time is over. Deleting it is then as good as ordered, by whoever gave it a lifetime. It must never say so
//! while a hold keeps from destroying, nor because the clock was set.

use jiff::SignedDuration;

use crate::api::{
    Timestamp,
    bay::BayStatus,
    condition::{self, Truth},
    environment::{Condition, ConditionType, Environment, EnvironmentStatus, Reason},
    meta::Resource as _,
};
use crate::plan::{
    Level, Note, Plan,
    hold::{Absence, Impact},
    world::World,
};

/// Passes wait by a clock that nobody sets, so the end is looked for at least this often.
const LOOK: SignedDuration = SignedDuration::from_hours(1);
/// How often an end that is held back is looked at.
const HELD_LOOK: SignedDuration = SignedDuration::from_secs(10);

/// How an environment stands to the end of its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// It has no end, or is being deleted already.
    Endless,
    /// It ends then.
    Until(Timestamp),
    /// It is over since then.
    Over(Timestamp),
    /// It is over since then, and this keeps it from being deleted.
    Held(Timestamp, String),
}

/// When an environment's time is over, from its creation.
#[must_use]
pub fn expires_at(environment: &Environment) -> Option<Timestamp> {
    let after = environment.spec.lifetime.as_ref()?.expires_after.as_ref()?.get();
    environment.metadata.creation_timestamp?.checked_add(after).ok()
}

pub(crate) fn look(world: &World, now: Timestamp) -> Lifetime {
    let Some(at) = expires_at(&world.environment) else { return Lifetime::Endless };
    if world.environment.is_deleting() {
        return Lifetime::Endless;
    }
    if now < at {
        return Lifetime::Until(at);
    }
    match world.no_destroying.as_ref().or(world.clock_was_set.as_ref()) {
        Some(why) => Lifetime::Held(at, why.clone()),
        None => Lifetime::Over(at),
    }
}

impl Lifetime {
    /// When to look again on its account.
    pub(crate) fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Endless | Self::Over(_) => None,
            Self::Until(at) => Some((*at).min(now + LOOK)),
            Self::Held(..) => Some(now + HELD_LOOK),
        }
    }

    /// Writes into a status when the environment's time is over, and what keeps it.
    pub(crate) fn tell(&self, world: &World, status: &mut EnvironmentStatus, now: Timestamp) {
        status.expires_at = expires_at(&world.environment);
        let (truth, reason, message) = match self {
            Self::Over(at) => (Truth::True, Reason::Expired, over(world, *at)),
            Self::Held(at, why) => {
                let message = format!("{}; its deletion is held back: {why}", over(world, *at));
                (Truth::False, Reason::Held, message)
            }
            Self::Endless if world.environment.is_deleting() => return,
            Self::Endless | Self::Until(_) => {
                status.conditions.retain(|it| it.kind != ConditionType::Expired);
                return;
            }
        };
        condition::set(
            &mut status.conditions,
            Condition {
                kind: ConditionType::Expired,
                status: truth,
                reason,
                message,
                last_transition_time: now,
                observed_generation: world.environment.metadata.generation,
            },
        );
    }
}

fn over(world: &World, at: Timestamp) -> String {
    let lifetime = world.environment.spec.lifetime.as_ref();
    let after = lifetime.and_then(|it| it.expires_after.as_ref()).map_or("", |it| it.as_str());
    format!("its lifetime of {after} was over at {at:.0}")
}

/// The pass that asks for the deletion of an environment whose time is over.
pub(crate) fn end(world: &World, at: Timestamp, now: Timestamp) -> Plan {
    let mut status = world.environment.status.clone();
    Lifetime::Over(at).tell(world, &mut status, now);
    Plan {
        status,
        bay: world.bay.as_ref().map(|it| -> BayStatus { it.status.clone() }),
        bind: None,
        action: None,
        // It cannot be taken back, so it counts as what it leads to.
        impact: Impact::Destroys,
        absence: Absence::None,
        expire: true,
        release: false,
        note: Note {
            reason: Reason::Expired,
            message: format!("{}: it is deleted", over(world, at)),
            level: Level::Normal,
        },
        wake_at: Some(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition;
    use crate::plan::{plan, tests};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    /// An environment that serves and was made at 0, with this lifetime.
    fn world(lifetime: &str) -> World {
        let mut world = tests::serving("Running", false);
        world.environment.metadata.creation_timestamp = Some(at(0));
        world.environment.spec.lifetime = serde_yaml::from_str(lifetime).unwrap();
        world
    }

    fn expired(plan: &Plan) -> Option<(Truth, Reason)> {
        let found = condition::get(&plan.status.conditions, ConditionType::Expired)?;
        Some((found.status, found.reason))
    }

    #[test]
    fn it_ends_so_long_after_it_was_made_and_not_before() {
        let world = world("expiresAfter: 10m");
        let before = plan(&world, at(599));
        assert!(!before.expire && before.action.is_none());
        assert_eq!((before.status.expires_at, before.wake_at), (Some(at(600)), Some(at(600))));
        assert_eq!(expired(&before), None);
        let over = plan(&world, at(600));
        assert!(over.expire && over.action.is_none() && over.impact == Impact::Destroys);
        assert_eq!(expired(&over), Some((Truth::True, Reason::Expired)));
        assert_eq!(
            over.note.message,
            "its lifetime of 10m was over at 2027-01-15T08:10:00Z: it is deleted"
        );
    }

    #[test]
    fn a_far_end_is_looked_for_every_hour_and_an_endless_one_never() {
        assert_eq!(plan(&world("expiresAfter: 30d"), at(100)).wake_at, Some(at(3_700)));
        for endless in ["~", "{}", "expiresAfter: 300000 years"] {
            let plan = plan(&world(endless), at(100));
            assert_eq!((plan.status.expires_at, plan.wake_at), (None, None), "{endless}");
        }
    }

    #[test]
    fn what_was_changed_or_taken_away_before_does_not_end() {
        let mut world = world("expiresAfter: 10m");
        world.environment.status = plan(&world, at(10)).status;
        world.environment.spec.lifetime = serde_yaml::from_str("expiresAfter: 20m").unwrap();
        let later = plan(&world, at(700));
        assert!(!later.expire);
        assert_eq!(later.status.expires_at, Some(at(1_200)));
        world.environment.spec.lifetime = None;
        let never = plan(&world, at(2_000));
        assert!(!never.expire);
        assert_eq!(never.status.expires_at, None);
    }

    #[test]
    fn a_hold_or_a_clock_that_was_set_keeps_it_and_says_so() {
        let held: [fn(&mut World); 2] = [
            |it| it.no_destroying = Some("it was restored".to_owned()),
            |it| it.clock_was_set = Some("the clock was set".to_owned()),
        ];
        for hold in held {
            let mut world = world("expiresAfter: 10m");
            hold(&mut world);
            let plan_held = plan(&world, at(900));
            assert!(!plan_held.expire);
            assert_eq!(plan_held.wake_at, Some(at(910)));
            assert_eq!(expired(&plan_held), Some((Truth::False, Reason::Held)));
            world.environment.status = plan_held.status;
            (world.no_destroying, world.clock_was_set) = (None, None);
            assert!(plan(&world, at(910)).expire);
        }
    }

    #[test]
    fn once_it_is_being_deleted_it_does_not_end_again_and_says_why_it_goes() {
        let mut world = world("expiresAfter: 10m");
        world.environment.status = plan(&world, at(600)).status;
        world.environment.metadata.deletion_timestamp = Some(at(600));
        let plan = plan(&world, at(601));
        assert!(!plan.expire);
        assert_eq!(expired(&plan), Some((Truth::True, Reason::Expired)));
    }
}
