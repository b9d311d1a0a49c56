//! What was ordered about orphans: one at a time, everything is read by id, one step is planned, and written down before it is
//! taken. It must never decide whether it may be taken.

use std::{sync::PoisonError, time::Duration};

use crate::api::{
    bay::Bay,
    kind::Kind,
    meta::{ObjectRef, Resource as _},
    orphan::{Order, OrderState, Orphan, OrphanStatus, OrphanWhat},
};
use crate::plan::{
    action::Action,
    orphan::{OrphanStep, OrphanWorld, step},
    world::Sight,
};
use crate::reconcile::{
    execute::{Values, execute},
    feed::News,
    holds,
    ledger::Ledger,
    objects::Objects,
    observe::{app_sight, no_destroying, read_machine, read_volume},
    translate,
};
use crate::retry;
use crate::store::{self, handle::Stored};
use crate::telemetry::journal::Outcome;

/// How often an order that is not done yet is seen to.
const LOOK: Duration = Duration::from_secs(2);
/// The same after a call failed.
const LATE_LOOK: Duration = Duration::from_secs(15);

impl Ledger {
    /// Sees to every open order.
    pub(super) async fn orders(&mut self) -> Result<(), store::Error> {
        self.due = None;
        let open =
            |it: &&Stored<Orphan>| it.value.status.order.as_ref().is_some_and(Order::is_open);
        let names: Vec<_> =
            self.entries.values().filter(open).map(|it| it.value.metadata.name.clone()).collect();
        let mut look = LOOK;
        for name in &names {
            if !Box::pin(self.order(name)).await? {
                look = LATE_LOOK;
            }
        }
        if names.iter().filter_map(|it| self.entries.get(it)).any(|it| open(&it)) {
            self.due = Some(self.shared.clock.monotonic() + look);
        }
        Ok(())
    }

    /// One step of one order; false when its call failed.
    async fn order(&mut self, name: &str) -> Result<bool, store::Error> {
        let Some(stored) = self.entries.get(name).cloned() else { return Ok(true) };
        let mut status = stored.value.status.clone();
        let Some(mut order) = status.order.take() else { return Ok(true) };
        let (world, objects) = self.look(&status, &order).await?;
        let now = self.shared.clock.now();
        let taken = step(&world, now);
        let before = order.clone();
        let action = match taken {
            OrphanStep::Refuse(why) => {
                (order.state, order.message) = (OrderState::Refused, why);
                self.log(name, Outcome::Refused, &order.message);
                None
            }
            OrphanStep::Wait(why) => {
                order.message = why;
                // What is awaited may be a complete list.
                self.shared.informer.want_sweep();
                None
            }
            OrphanStep::Prove => {
                order.proven_at = Some(now);
                order.message = "all of it is as listed; it is read once more".to_owned();
                None
            }
            OrphanStep::Act(action) => {
                order.acted_at = Some(now);
                order.message = format!("{} {action}", action.name());
                Some(action)
            }
            OrphanStep::Adopt(bay) => {
                return Box::pin(self.adopt(&stored, *bay, objects)).await.map(|()| true);
            }
            OrphanStep::Done => {
                self.log(name, Outcome::Ok, "nothing is left of it");
                self.shared.informer.want_sweep();
                return self.remove(name).await.map(|()| true);
            }
        };
        if order != before {
            status.order = Some(order);
            self.put(name, status.clone()).await?;
        }
        // What is not written down is not done.
        let written = self.entries.get(name).is_some_and(|it| it.value.status == status);
        match action {
            Some(action) if written => Ok(self.act(name, &action).await),
            Some(_) | None => Ok(true),
        }
    }

    async fn act(&self, name: &str, action: &Action) -> bool {
        let shared = &self.shared;
        let result = execute(&*shared.fly, &shared.org, action, &Values::default()).await;
        shared.metrics.action(action.name(), result.as_ref().map_or_else(|it| it.kind(), |_| "ok"));
        if let (Ok(_), Action::DestroyMachine { app, id }) = (&result, action) {
            shared.informer.learn(app, id, None);
        }
        let (outcome, said) = match &result {
            Ok(_) => (Outcome::Ok, "by order".to_owned()),
            Err(error) => (Outcome::Failed, retry::chain(error)),
        };
        self.log(name, outcome, &format!("{} {action}: {said}", action.name()));
        result.is_ok()
    }

    async fn adopt(
        &mut self,
        orphan: &Stored<Orphan>,
        bay: Bay,
        objects: Option<Box<Objects>>,
    ) -> Result<(), store::Error> {
        let Some(mut objects) = objects else { return Ok(()) };
        let shared = &self.shared;
        let of = objects.environment.value.object_ref();
        let (name, app) = (bay.metadata.name.clone(), bay.spec.app.clone());
        let drawn = (shared.clock.now(), &*shared.chance);
        match objects.bind(&shared.store, bay, Some(orphan), drawn).await {
            Ok(()) => {}
            // Someone wrote meanwhile: the next look sees what.
            Err(store::Error::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        shared.index.write().unwrap_or_else(PoisonError::into_inner).bound(app, of.clone());
        let entry = &orphan.value.metadata.name;
        self.entries.remove(entry);
        self.log(entry, Outcome::Ok, &format!("adopted: {of} is bound to {name}"));
        let _stopping = self.news.send(News::Doubt(of));
        Ok(())
    }

    /// Reads everything that the order is about, and the environment that it names.
    async fn look(
        &self,
        status: &OrphanStatus,
        order: &Order,
    ) -> Result<(OrphanWorld, Option<Box<Objects>>), store::Error> {
        let shared = &self.shared;
        let (fly, informer, app) = (&*shared.fly, &*shared.informer, status.app.as_str());
        let objects = match &order.to {
            Some(to) => {
                let (namespace, name) = (to.namespace.clone(), to.name.clone());
                Objects::read(&shared.store, &ObjectRef::new(Kind::Environment, &namespace, &name))
                    .await?
            }
            None => None,
        };
        let mut world = OrphanWorld {
            instance: shared.settings.instance.clone(),
            status: status.clone(),
            order: order.clone(),
            accounted: self.accounted(status).await?,
            no_destroying: match holds::holding(&shared.store).await?.destroying {
                Some(why) => Some(why),
                None => no_destroying(informer, shared.clock.now()),
            },
            complete_list_at: informer.complete_at(),
            app: app_sight(fly, app).await,
            machines: Sight::Unasked,
            volumes: Sight::Unasked,
            machine_reads: Vec::new(),
            volume_reads: Vec::new(),
            target: objects.as_ref().map(|it| it.environment.value.clone()),
            template: objects.as_ref().and_then(|it| it.template.clone()),
        };
        if world.app == Sight::Absent {
            return Ok((world, objects));
        }
        world.machines = match fly.list_machines(app, &[]).await {
            Ok(machines) => Sight::Present(machines.iter().map(translate::seen).collect()),
            Err(error) => Sight::Unclear(retry::chain(&error)),
        };
        world.volumes = match fly.list_volumes(app).await {
            Ok(volumes) => Sight::Present(volumes.iter().map(translate::seen_volume).collect()),
            Err(error) => Sight::Unclear(retry::chain(&error)),
        };
        for machine in &status.machines {
            let read = read_machine(fly, informer, app, &machine.id).await;
            world.machine_reads.push((machine.clone(), read));
        }
        for volume in &status.volumes {
            let read = read_volume(fly, informer, app, &volume.id).await;
            world.volume_reads.push((volume.id.clone(), read));
        }
        Ok((world, objects))
    }

    /// What accounts for it by now, or may in a moment.
    async fn accounted(&self, status: &OrphanStatus) -> Result<Option<String>, store::Error> {
        let prefix = format!("{}/", Kind::Bay.info().plural);
        let (bays, _) = self.shared.store.list::<Bay>(&prefix).await?;
        let Some(bay) = bays.into_iter().map(|it| it.value).find(|it| it.spec.app == status.app)
        else {
            return Ok(None);
        };
        let name = &bay.metadata.name;
        let machine = bay.status.machine.as_ref().and_then(|it| it.id.as_ref());
        let volume = bay.status.volume.as_ref().map(|it| &it.id);
        Ok(match (status.what, machine, volume) {
            (OrphanWhat::App, _, _) => Some(format!("{name} is in this app")),
            (OrphanWhat::Machine, Some(id), _) if *id != status.id => None,
            (OrphanWhat::Volume, _, Some(id)) if *id != status.id => None,
            (OrphanWhat::Machine | OrphanWhat::Volume, _, _) => {
                Some(format!("{name} records it, or has none and may yet find it"))
            }
        })
    }
}
