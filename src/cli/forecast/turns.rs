//! What a template's change comes to for each environment, and when, from the plan that the controller runs for templates. It
//! must never change anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    api::{
        environment::Environment,
        kind::Kind,
        meta::ObjectRef,
        rollout::{self, EnvironmentRevision, TemplateRevision},
        template::Template,
    },
    client::{self, Client, Query},
    clock::Timestamp,
    plan::{
        rollout::{FleetFact, Outlook, RolloutWorld, at_revision, outlook},
        stock::made_from,
    },
};

/// When each environment of a template that changes is changed.
///
/// # Errors
/// The server's.
pub(super) async fn outlooks(
    client: &Client,
    changed: &BTreeMap<ObjectRef, Value>,
    now: Timestamp,
) -> Result<Vec<(ObjectRef, Outlook)>, client::Error> {
    let mut found = Vec::new();
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
        found.extend(
            outlook(&world, now).into_iter().map(|(name, it)| {
                (ObjectRef::new(Kind::Environment, &object.namespace, &name), it)
            }),
        );
    }
    Ok(found)
}

/// A template as it is at the revision that an environment is kept at, or, without one, at that which something new is made from.
///
/// # Errors
/// The server's.
pub(super) async fn kept_at(
    client: &Client,
    template: Template,
    environment: Option<&Environment>,
) -> Result<Template, client::Error> {
    let kept_at = environment.and_then(|it| it.status.template.as_ref());
    let at = kept_at.map_or_else(|| template.status.for_new(), EnvironmentRevision::to_ref);
    if at.hash == template.status.hash {
        return Ok(template);
    }
    let namespace = template.metadata.namespace.clone().unwrap_or_default();
    let name = rollout::name(&template.metadata.name, at.revision);
    let kept = ObjectRef::new(Kind::TemplateRevision, &namespace, &name);
    match client.get::<TemplateRevision>(&kept).await {
        Ok(kept) => Ok(at_revision(template, &kept.spec.template)),
        Err(error) if error.is_not_found() => Ok(template),
        Err(error) => Err(error),
    }
}
