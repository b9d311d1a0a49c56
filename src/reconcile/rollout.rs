//! One pass for a template: plan, record and forget revisions, publish, say of each environment that is to be changed which
//! revision it is kept at from now on. What that comes to is the environment's own pass's business. It must never decide.

use std::{collections::BTreeSet, time::Duration};

use crate::api::{
    condition,
    core::EventType,
    environment::Environment,
    kind::Kind,
    meta::{Metadata, NameRef, ObjectRef, Resource as _},
    rollout::{
        self, CHANGE_CAUSE, EnvironmentRevision, Recorded, RevisionRef, TemplateConditionType,
        TemplateReason, TemplateRevision, TemplateRevisionSpec,
    },
    template::Template,
};
use crate::chance;
use crate::clock::Timestamp;
use crate::plan::{
    rollout::{Move, RolloutPlan, RolloutWorld, Why, at_revision, plan},
    stock::made_from,
};
use crate::reconcile::{
    events,
    objects::{key, with_events},
    pass::{Next, Shared, in_time},
};
use crate::store::{
    self, Precondition,
    handle::{Store, Stored},
};
use crate::telemetry::journal::{Line, Outcome};

/// How long a pass waits for what an earlier one wrote to come back by the feed, or to be recorded.
pub(super) const HEAR_WAIT: Duration = Duration::from_millis(10);
/// Environments that one pass moves; the next one goes on at once.
const MOVES_MAX: usize = 64;

impl Shared {
    /// Runs one pass for a template.
    pub(super) async fn template_pass(&self, of: &ObjectRef) -> Result<Next, store::Error> {
        let Some(fleet) = self.fleet().of(of) else { return Ok(Next::In(HEAR_WAIT)) };
        let now = self.clock.now();
        let found = key(Kind::Template, &of.namespace, &of.name);
        let Some(mut template) = self.store.get::<Template>(&found).await? else {
            let used = fleet.iter().filter_map(|it| it.kept_at.as_ref()).map(|it| it.revision);
            self.forget_all(of, &used.collect()).await?;
            return Ok(Next::Settled(None));
        };
        if template.value.status.revision == 0 {
            // It may have been there before, and deleted: what was made from it then is kept.
            template.value.status.history = recorded(&self.store, of).await?;
        }
        let stock = self.stock().revisions(of);
        let world = RolloutWorld { template: template.value.clone(), fleet, stock };
        let plan = plan(&world, now);
        self.publish_template(template, &plan, now).await?;
        let most = plan.moves.len().min(MOVES_MAX);
        for it in plan.moves.iter().take(most) {
            self.move_to(of, it, now).await?;
        }
        let wake = plan.wake_at.map(|at| in_time(at, now));
        Ok(if most < plan.moves.len() { Next::GoOn } else { Next::Settled(wake) })
    }

    /// Writes the status and, in the same commit, the revision that it is about.
    async fn publish_template(
        &self,
        mut template: Stored<Template>,
        plan: &RolloutPlan,
        now: Timestamp,
    ) -> Result<(), store::Error> {
        if template.value.status == plan.status {
            return Ok(());
        }
        let of = template.value.object_ref();
        let kind = TemplateConditionType::Progressing;
        let before = condition::get(&template.value.status.conditions, kind);
        let progressing = condition::get(&plan.status.conditions, kind);
        let about = (&of, template.value.metadata.uid.as_str());
        let drawn = (now, &*self.chance);
        let turn = (before, progressing);
        // A template that is new rolls nothing out.
        let worth = |reason| before.map(|_| worth(reason));
        let told = events::turned(&self.store, about, turn, worth, drawn).await?;
        template.value.status = plan.status.clone();
        let revision_key =
            |number| key(Kind::TemplateRevision, &of.namespace, &rollout::name(&of.name, number));
        let at = Precondition::At(template.revision);
        let mut txn = self.store.txn().put(&template.key, at, &template.value);
        if plan.record {
            let mut kept = revision(&template.value);
            kept.metadata.uid = chance::uuid(&*self.chance).to_string();
            kept.metadata.creation_timestamp = Some(now);
            let key = revision_key(plan.status.revision);
            txn = txn.put(&key, Precondition::Any, &kept);
        }
        for number in &plan.forget {
            txn = txn.delete(&revision_key(*number), Precondition::Any);
        }
        with_events(txn, told.as_slice()).commit().await?;
        if plan.record {
            let RevisionRef { revision, hash } = plan.status.newest();
            self.log_template(&of, "record-revision", format!("revision {revision} ({hash})"), now);
        }
        Ok(())
    }

    /// Says which revision an environment is kept at from now on, if it is as the plan has it.
    async fn move_to(&self, of: &ObjectRef, it: &Move, now: Timestamp) -> Result<(), store::Error> {
        let key = key(Kind::Environment, &of.namespace, &it.name);
        let Some(mut found) = self.store.get::<Environment>(&key).await? else { return Ok(()) };
        let status = &mut found.value.status;
        let same = status.template.as_ref() == Some(&it.from);
        if !same || found.value.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        status.template = Some(it.to.clone());
        let at = Precondition::At(found.revision);
        match self.store.txn().put(&key, at, &found.value).commit().await {
            Ok(revision) => self.fleet().wrote(revision),
            // Its own pass wrote meanwhile: the next one here sees what.
            Err(store::Error::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
        let (name, revision) = (&it.name, it.to.revision);
        let why = match it.why {
            Why::Same => return Ok(()),
            Why::Told => "it was told to follow",
            Why::Asleep => "it sleeps",
            Why::Unmade => "it has no machine yet",
            Why::Turn => "it is its turn",
            Why::Back => "the newer revision fails, and nothing of it was started there",
        };
        self.log_template(of, "move", format!("env {name} to revision {revision}: {why}"), now);
        Ok(())
    }

    /// What is left of a template that is gone goes, but for what environments are made from.
    async fn forget_all(&self, of: &ObjectRef, used: &BTreeSet<u64>) -> Result<(), store::Error> {
        let mut txn = self.store.txn();
        let mut any = false;
        for it in
            recorded(&self.store, of).await?.into_iter().filter(|it| !used.contains(&it.revision))
        {
            let name = rollout::name(&of.name, it.revision);
            txn = txn.delete(&key(Kind::TemplateRevision, &of.namespace, &name), Precondition::Any);
            any = true;
        }
        if any {
            txn.commit().await?;
        }
        Ok(())
    }

    fn log_template(&self, of: &ObjectRef, action: &str, message: String, at: Timestamp) {
        self.journal.record(Line {
            at,
            object: of.to_string(),
            action: action.to_owned(),
            outcome: Outcome::Ok,
            duration_ms: None,
            message,
            request_id: None,
        });
    }
}

/// What of a rollout is worth an event: each turn that it takes.
fn worth(reason: TemplateReason) -> EventType {
    match reason {
        TemplateReason::RevisionFailing => EventType::Warning,
        _ => EventType::Normal,
    }
}

/// The object that keeps the newest revision.
fn revision(template: &Template) -> TemplateRevision {
    let (metadata, info) = (&template.metadata, Kind::TemplateRevision.info());
    let RevisionRef { revision, hash } = template.status.newest();
    TemplateRevision {
        api_version: info.api_version(),
        kind: info.kind_name.to_owned(),
        metadata: Metadata {
            name: rollout::name(&metadata.name, revision),
            namespace: metadata.namespace.clone(),
            generation: 1,
            ..Metadata::default()
        },
        spec: TemplateRevisionSpec {
            template_ref: NameRef { name: metadata.name.clone() },
            revision,
            hash,
            change_cause: metadata.annotations.get(CHANGE_CAUSE).cloned(),
            template: template.spec.clone(),
        },
    }
}

/// Revisions of a template that are in the store.
async fn recorded(store: &Store, of: &ObjectRef) -> Result<Vec<Recorded>, store::Error> {
    let plural = Kind::TemplateRevision.info().plural;
    let prefix = format!("{plural}/{}/{}-", of.namespace, of.name);
    let (found, _) = store.list::<TemplateRevision>(&prefix).await?;
    let own =
        found.into_iter().map(|it| it.value).filter(|it| it.spec.template_ref.name == of.name);
    let mut own: Vec<_> = own
        .map(|it| Recorded {
            revision: it.spec.revision,
            hash: it.spec.hash,
            at: it.metadata.creation_timestamp.unwrap_or_default(),
        })
        .collect();
    own.sort_by_key(|it| it.revision);
    Ok(own)
}

/// A template, recorded as it is, as it is at a revision, which is read if it is not the newest; `None` when that is kept no more.
async fn template_at(
    store: &Store,
    template: &Template,
    at: &RevisionRef,
) -> Result<Option<Template>, store::Error> {
    if at.hash == template.status.hash {
        return Ok(Some(template.clone()));
    }
    let metadata = &template.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = rollout::name(&metadata.name, at.revision);
    let kept =
        store.get::<TemplateRevision>(&key(Kind::TemplateRevision, namespace, &name)).await?;
    let kept = kept.filter(|it| it.value.spec.hash == at.hash);
    Ok(kept.map(|it| at_revision(template.clone(), &it.value.spec.template)))
}

fn is_recorded(template: &Template) -> bool {
    let status = &template.status;
    status.revision != 0 && status.hash == made_from(&template.spec)
}

/// What something new is made from, and its revision; `None` while the template as it is now is not recorded yet.
pub(super) async fn for_new(
    store: &Store,
    template: &Template,
) -> Result<Option<(Template, RevisionRef)>, store::Error> {
    if !is_recorded(template) {
        return Ok(None);
    }
    let status = &template.status;
    for revision in [status.for_new(), status.newest()] {
        if let Some(template) = template_at(store, template, &revision).await? {
            return Ok(Some((template, revision)));
        }
    }
    Ok(None)
}

/// What an environment is made from, and the revision that it is kept at; `None` while the template as it is now is not recorded yet:
/// it says which revision that is.
pub(super) async fn for_environment(
    store: &Store,
    template: &Template,
    environment: &Environment,
) -> Result<Option<(Template, EnvironmentRevision)>, store::Error> {
    if !is_recorded(template) {
        return Ok(None);
    }
    if let Some(kept_at) = &environment.status.template
        && let Some(template) = template_at(store, template, &kept_at.to_ref()).await?
    {
        return Ok(Some((template, kept_at.clone())));
    }
    Ok(for_new(store, template).await?.map(|(template, it)| (template, it.into())))
}
