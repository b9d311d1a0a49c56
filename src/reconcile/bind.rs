//! The beginning and the end of a bay's time with an environment: which one it gets, and what is left when it goes. It must never
//! decide whether it gets one.

use std::{borrow::Cow, sync::PoisonError, time::Duration};

use crate::api::meta::ObjectRef;
use crate::clock::Timestamp;
use crate::plan::{Binding, bay, stock::Vacancy, world::World};
use crate::reconcile::{
    objects::Objects,
    pass::{Next, Pass, Shared},
};
use crate::store;
use crate::telemetry::journal;

impl Pass<'_> {
    /// A bay of a pool, where one may be had and there is none yet; it is offered to nobody else meanwhile.
    pub(super) fn look_for_vacancy(&self, objects: &Objects, world: &mut World) {
        let environment = &objects.environment.value;
        let status = &environment.status;
        // Whoever gave one up gets one of its own making, however many a pool has.
        let first = objects.bay.is_none() && status.bay.is_none() && status.bays_given_up == 0;
        let Some(made_from) = world.made_from().filter(|_| first).map(Cow::into_owned) else {
            return;
        };
        let mut room = self.shared.stock();
        if objects.orphan.is_none() {
            world.vacancy = room.reserve(environment, &made_from);
        }
        if world.vacancy.is_none() {
            let name = &environment.spec.template_ref.name;
            world.empty_pool = room.pool_of(&self.of.namespace, name);
        }
    }

    pub(super) async fn release(
        &self,
        mut objects: Box<Objects>,
        now: Timestamp,
    ) -> Result<Next, store::Error> {
        let store = &self.shared.store;
        objects.tell(store).await?;
        match objects.vacant {
            Some(_) => objects.forget_bay(store).await?,
            None => objects.release(store, now).await?,
        }
        self.log("release", journal::Outcome::Ok, "nothing is left of it");
        Ok(Next::Settled(None))
    }

    pub(super) async fn bind(
        &self,
        mut objects: Box<Objects>,
        world: &World,
        binding: Binding,
    ) -> Result<Bound, store::Error> {
        let (store, now) = (&self.shared.store, self.shared.clock.now());
        objects.tell(store).await?;
        let (name, app, next) = match binding {
            Binding::New if objects.vacant.is_some() => {
                // Its app's name is somebody else's, so nothing of it was made: the pool begins another.
                objects.forget_bay(store).await?;
                self.log("release", journal::Outcome::Ok, "nothing was made of it");
                return Ok(Bound::Over(Next::Settled(None)));
            }
            Binding::New => {
                let bay = bay::made(world);
                let (name, app) = (bay.metadata.name.clone(), bay.spec.app.clone());
                objects.bind(store, bay, None, (now, &*self.shared.chance)).await?;
                self.shared.metrics.claim(if world.missed_pool().is_some() {
                    "miss"
                } else {
                    "none"
                });
                (name, app, Next::In(Duration::ZERO))
            }
            Binding::Claim(vacancy) => {
                objects.claim(store, &vacancy, now).await?;
                return Ok(Bound::Claims(objects));
            }
            Binding::GiveUp => {
                objects.give_up(store, now).await?;
                self.log("give-up-bay", journal::Outcome::Refused, "it gets another one");
                return Ok(Bound::Over(Next::GoOn));
            }
        };
        self.bound(app, &name);
        Ok(Bound::Over(next))
    }

    /// The claim is on disk.
    pub(super) fn claimed(&self, objects: &Objects, reserved: Reserved<'_>) {
        reserved.keep();
        self.shared.metrics.claim("hit");
        if let Some(bay) = &objects.bay {
            self.bound(bay.value.spec.app.clone(), &bay.value.metadata.name);
        }
    }

    fn bound(&self, app: String, bay: &str) {
        // Calls about the app may be logged before the store's feed tells whose it is.
        let index = &self.shared.index;
        index.write().unwrap_or_else(PoisonError::into_inner).bound(app, self.of.clone());
        self.log("bind", journal::Outcome::Ok, &format!("bound to {bay}"));
    }
}

/// What binding comes to.
pub(super) enum Bound {
    /// It is on disk, and the pass is over.
    Over(Next),
    /// It has a bay of a pool, which goes to disk with what follows from that.
    Claims(Box<Objects>),
}

/// A vacancy that is offered to nobody else, until this is dropped.
pub(super) struct Reserved<'a> {
    pub(super) shared: &'a Shared,
    pub(super) of: &'a ObjectRef,
    pub(super) vacancy: Option<Vacancy>,
}

impl Reserved<'_> {
    /// It was claimed.
    fn keep(mut self) {
        self.vacancy = None;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(vacancy) = self.vacancy.take() {
            self.shared.stock().put_back(&self.of.namespace, vacancy);
        }
    }
}
