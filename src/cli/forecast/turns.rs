//! What a template's change comes to for each environment and pool, and when, from the plan that the controller runs for templates. It
//! must never change anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    api::{
        bay::Bay,
        environment::Environment,
        kind::Kind,
        meta::{ObjectRef, Resource as _},
        pool::WarmPool,
        rollout::{self, TemplateRevision},
        template::Template,
    },
    client::{self, Client, Query},
    clock::Timestamp,
    plan::{
        rollout::{FleetFact, RolloutWorld, at_revision, outlook},
        stock::made_from,
    },
};

/// A sentence for each environment and pool of templates that change.
///
/// # Errors
/// The server's.
pub(super) async fn notes(
    client: &Client,
    changed: &BTreeMap<ObjectRef, Value>,
    now: Timestamp,
) -> Result<Vec<(ObjectRef, String)>, client::Error> {
    let mut notes = Vec::new();
    for (object, value) in changed.iter().filter(|(it, _)| it.kind == Kind::Template) {
        let Ok(template) = serde_json::from_value::<Template>(value.clone()) else { continue };
        if template.status.hash == made_from(&template.spec) || template.status.revision == 0 {
            continue;
        }
        let namespace = Some(object.namespace.as_str());
        let all =
            client.list::<Environment>(Kind::Environment, namespace, &Query::default()).await?;
        let own = all.items.iter().filter(|it| it.spec.template_ref.name == object.name);
        let fleet = own.filter_map(FleetFact::of).collect();
        let world = RolloutWorld { template: template.clone(), fleet, stock: BTreeSet::new() };
        notes.extend(outlook(&world, now).into_iter().map(|(name, it)| {
            (ObjectRef::new(Kind::Environment, &object.namespace, &name), it.to_string())
        }));
        notes.extend(pools(client, object, &template).await?);
    }
    Ok(notes)
}

/// How many bays of each pool are replaced.
async fn pools(
    client: &Client,
    object: &ObjectRef,
    template: &Template,
) -> Result<Vec<(ObjectRef, String)>, client::Error> {
    let (namespace, query) = (Some(object.namespace.as_str()), Query::default());
    let pools = client.list::<WarmPool>(Kind::WarmPool, namespace, &query).await?.items;
    let bays = client.list::<Bay>(Kind::Bay, namespace, &query).await?.items;
    let newest = made_from(&template.spec);
    let of = pools.iter().filter(|it| it.spec.template_ref.name == object.name);
    Ok(of
        .map(|pool| {
            let old = bays.iter().filter(|it| it.spec.environment_ref.is_none()).filter(|it| {
                let stock = it.spec.stock.as_ref();
                stock.is_some_and(|stock| {
                    stock.pool_uid == pool.metadata.uid && made_from(&stock.made_from) != newest
                })
            });
            let (count, most) = (old.count(), pool.spec.max_in_flight());
            let ahead = pool.spec.max_unavailable(pool.status.desired_replicas).min(most);
            let order = match ahead {
                0 => "new ones before old ones".to_owned(),
                _ => format!("at most {ahead} of the old ones before the new ones are ready"),
            };
            let note = format!("{count} bays are replaced, {most} at a time, {order}");
            (pool.object_ref(), note)
        })
        .collect())
}

/// A template as it is at the revision that an environment is kept at.
///
/// # Errors
/// The server's.
pub(super) async fn kept_at(
    client: &Client,
    template: Template,
    environment: &Environment,
) -> Result<Template, client::Error> {
    let Some(at) = &environment.status.template else { return Ok(template) };
    if at.hash == template.status.hash {
        return Ok(template);
    }
    let namespace = environment.metadata.namespace.as_deref().unwrap_or_default();
    let name = rollout::name(&template.metadata.name, at.revision);
    let kept = ObjectRef::new(Kind::TemplateRevision, namespace, &name);
    match client.get::<TemplateRevision>(&kept).await {
        Ok(kept) => Ok(at_revision(template, &kept.spec.template)),
        Err(error) if error.is_not_found() => Ok(template),
        Err(error) => Err(error),
    }
}
