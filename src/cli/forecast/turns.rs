//! What a template's change comes to for each environment, and when, from the plan that the controller runs for templates. It
//! must never change anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    api::{
        environment::{Environment, OperatingMode},
        kind::Kind,
        meta::ObjectRef,
        rollout::{self, EnvironmentRevision, RevisionRef, TemplateRevision},
        template::Template,
    },
    client::{self, Client, Query},
    clock::Timestamp,
    plan::{
        rollout::{FleetFact, Outlook, RolloutWorld, at_revision, outlook},
        stock::made_from,
    },
};

/// When an environment is changed to a template's newest revision, and which that is.
pub(super) struct Turn {
    /// When.
    pub(super) outlook: Outlook,
    newest: RevisionRef,
}

impl Turn {
    /// What it is kept at once it is its turn, and while it waits for a sleep.
    pub(super) fn kept_at(&self) -> Option<EnvironmentRevision> {
        let at_once = match self.outlook {
            Outlook::Same => return None,
            Outlook::NextSleep(_) => false,
            _ => true,
        };
        Some(EnvironmentRevision { at_once, ..self.newest.clone().into() })
    }
}

/// When each environment of a template that changes is changed, and which of those that are put to sleep are changed then. One that has
/// the newest revision and keeps it is left out.
///
/// # Errors
/// The server's.
pub(super) async fn turns(
    client: &Client,
    changed: &BTreeMap<ObjectRef, Value>,
    now: Timestamp,
) -> Result<BTreeMap<ObjectRef, Turn>, client::Error> {
    let mut found = BTreeMap::new();
    for (object, value) in changed.iter().filter(|(it, _)| it.kind == Kind::Template) {
        let Ok(template) = serde_json::from_value::<Template>(value.clone()) else { continue };
        found.extend(turns_of(client, object, template, now).await?);
    }
    let (templates, sleepers) = put_to_sleep(changed);
    for object in templates.iter().filter(|it| !changed.contains_key(it)) {
        let template = match client.get::<Template>(object).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => continue,
            Err(error) => return Err(error),
        };
        let mut turns = turns_of(client, object, template, now).await?;
        turns.retain(|of, turn| {
            sleepers.contains(of) && matches!(turn.outlook, Outlook::NextSleep(_))
        });
        found.extend(turns);
    }
    Ok(found)
}

/// The templates of environments that are ordered to sleep, and those environments.
fn put_to_sleep(
    changed: &BTreeMap<ObjectRef, Value>,
) -> (BTreeSet<ObjectRef>, BTreeSet<ObjectRef>) {
    let environments = changed.iter().filter(|(it, _)| it.kind == Kind::Environment);
    environments
        .filter_map(|(object, value)| {
            let environment: Environment = serde_json::from_value(value.clone()).ok()?;
            let template = &environment.spec.template_ref.name;
            let template = ObjectRef::new(Kind::Template, &object.namespace, template);
            let sleeps = environment.spec.operating_mode() == OperatingMode::Asleep;
            sleeps.then(|| (template, object.clone()))
        })
        .unzip()
}

/// When each environment of a template, as it is or as it would be, is changed to its newest revision.
async fn turns_of(
    client: &Client,
    object: &ObjectRef,
    template: Template,
    now: Timestamp,
) -> Result<BTreeMap<ObjectRef, Turn>, client::Error> {
    let mut found = BTreeMap::new();
    if template.status.revision == 0 {
        return Ok(found);
    }
    let mut newest = template.status.newest();
    let hash = made_from(&template.spec);
    let is_new = newest.hash != hash;
    newest = RevisionRef { revision: newest.revision + u64::from(is_new), hash };
    let namespace = Some(object.namespace.as_str());
    let all = client.list::<Environment>(Kind::Environment, namespace, &Query::default()).await?;
    let own = all.items.iter().filter(|it| it.spec.template_ref.name == object.name);
    let fleet = own.filter_map(FleetFact::of).collect();
    let world = RolloutWorld { template, fleet, stock: BTreeSet::new() };
    for (name, outlook) in outlook(&world, now) {
        if is_new || outlook != Outlook::Same {
            let of = ObjectRef::new(Kind::Environment, &object.namespace, &name);
            found.insert(of, Turn { outlook, newest: newest.clone() });
        }
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
