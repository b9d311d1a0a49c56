//! What applying manifests would do: objects through the server's dry run, calls through the very plan that the controller
//! runs, over what the server has recorded. Nothing is changed and Fly is not asked; what Fly has by now may differ from
//! the record, and then the controller repairs that first.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{
        bay::Bay,
        condition,
        core::Secret,
        environment::{self, ConditionType, Environment, Reason},
        hold::Hold,
        kind::Kind,
        meta::{ObjectRef, Resource as _},
        template::Template,
    },
    cli::{
        apply,
        files::Item,
        forecast::{
            pools::{Bays, pools},
            recorded::{fact, recorded},
            room::Rooms,
            stock::{Stock, is_unbound, look_for_vacancy},
        },
        merge::LAST_APPLIED,
    },
    client::{self, Client, Query},
    clock::{Clock as _, System, Timestamp},
    plan::{
        Binding, Note,
        preview::{Course, course},
        world::{Settings, World},
    },
    reconcile::holds::Holding,
};

mod pools;
mod recorded;
mod room;
mod stock;
mod turns;

/// What would happen if manifests were applied.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Forecast {
    /// Object by object, those that nothing happens to included.
    pub(super) objects: Vec<ObjectForecast>,
    /// How long Fly's rate limits make it take at least, in seconds.
    pub(super) seconds: f64,
}

/// What would happen to one object.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct ObjectForecast {
    /// `env/alice`.
    #[serde(rename = "ref")]
    pub(super) name: String,
    /// create, update, unchanged or refused.
    pub(super) change: &'static str,
    /// Fields that would change.
    pub(super) fields: Vec<FieldChange>,
    /// Unbound bays of this pool that would come and go.
    pub(super) bays: Option<Bays>,
    /// The bay of a pool that it would get.
    pub(super) claims: Option<Claim>,
    /// Calls that would be made.
    pub(super) actions: Vec<Call>,
    /// Why nothing happens, and other remarks.
    pub(super) notes: Vec<String>,
}

impl ObjectForecast {
    /// Of an object that nothing happens to.
    fn of(object: &ObjectRef) -> Self {
        Self { name: object.to_string(), change: "unchanged", ..Self::default() }
    }

    /// What becomes of it.
    fn take(&mut self, course: Course) {
        match course.bound {
            Some((Binding::Claim(it), Note { message: why, .. })) => {
                self.claims = Some(Claim { bay: it.name, pool: it.pool, why });
            }
            Some((_, note)) if matches!(note.reason, Reason::PoolEmpty | Reason::PoolUnfit) => {
                self.notes.push(note.message)
            }
            Some(_) | None => {}
        }
        self.actions.extend(course.stages.into_iter().map(|stage| Call {
            call: stage.action.name(),
            object: stage.action.to_string(),
            restarts: stage.action.restarts(),
            risk: stage.action.risk(),
            held_back: false,
            why: stage.note.message,
        }));
        for kind in [ConditionType::Updated, ConditionType::Bound, ConditionType::Stalled] {
            let found = condition::get(&course.status.conditions, kind);
            let bad = kind == ConditionType::Stalled;
            let found = found.filter(|it| (it.status == condition::Truth::True) == bad);
            // That is said of its template's change, and when.
            let is_said = |it: &&environment::Condition| {
                it.reason == Reason::WaitingForSleep && !self.notes.is_empty()
            };
            if let Some(it) = found.filter(|it| !is_said(it)) {
                self.note(&it.message);
            }
        }
        if course.note.reason == Reason::Held {
            self.note(&course.note.message);
        }
    }

    fn note(&mut self, note: &str) {
        if self.notes.iter().all(|it| it != note) {
            self.notes.push(note.to_owned());
        }
    }
}

/// A field that would change.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct FieldChange {
    /// Dotted path.
    pub(super) path: String,
    /// Value now; null if there is none.
    pub(super) from: Value,
    /// Value then; null if there will be none.
    pub(super) to: Value,
}

/// A bay that would be claimed, which takes no call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Claim {
    /// Its name.
    pub(super) bay: String,
    /// The pool that has it.
    pub(super) pool: String,
    /// Why.
    pub(super) why: String,
}

/// A call that would be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Call {
    /// `create-machine`.
    pub(super) call: &'static str,
    /// What it is made to.
    pub(super) object: String,
    /// Why.
    pub(super) why: String,
    /// Whether a running machine is restarted.
    pub(super) restarts: bool,
    /// What may be lost.
    pub(super) risk: Option<&'static str>,
    /// Whether a person has to say so first.
    pub(super) held_back: bool,
}

impl Forecast {
    /// Whether anything would change.
    pub(super) fn changes(&self) -> bool {
        self.objects.iter().any(|it| {
            it.change != "unchanged"
                || it.claims.is_some()
                || !it.actions.is_empty()
                || it.bays.is_some_and(|it| it != Bays::default())
        })
    }
}

/// Objects as they would be.
struct Then {
    changed: BTreeMap<ObjectRef, Value>,
    held: Holding,
}

/// Computes it.
///
/// # Errors
/// The server's, with the item whose dry run it refused.
pub(super) async fn forecast<'a>(
    client: &Client,
    items: &'a [Item],
) -> Result<Forecast, (Option<&'a Item>, client::Error)> {
    let mut objects = BTreeMap::new();
    let holds = client.list::<Hold>(Kind::Hold, None, &Query::default()).await;
    let held = Holding::by(&holds.map_err(|error| (None, error))?.items);
    let mut then = Then { changed: BTreeMap::new(), held };
    for item in items {
        let now = match client.get::<Value>(&item.object).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err((None, error)),
        };
        let (did, written) = match apply::apply(client, item, true).await {
            Ok((did, written)) => (did, written.object),
            Err(error) if now.is_none() && is_told_by_the_plan(&error, item, items) => {
                ("created", item.declared())
            }
            Err(error) => return Err((Some(item), error)),
        };
        let change = match did {
            "created" => "create",
            "unchanged" => "unchanged",
            _ => "update",
        };
        let mut fields = Vec::new();
        differences("", now.as_ref(), Some(&written), &mut fields);
        let shown = if item.object.kind == Kind::Secret { without_values(fields) } else { fields };
        let name = item.object.to_string();
        let shown = if change == "unchanged" { Vec::new() } else { shown };
        let entry = ObjectForecast { name, change, fields: shown, ..ObjectForecast::default() };
        objects.insert(item.object.clone(), entry);
        if change != "unchanged" {
            then.changed.insert(item.object.clone(), written);
        }
    }
    let seconds = then.calls(client, items, &mut objects).await.map_err(|error| (None, error))?;
    let order: BTreeMap<_, _> = items.iter().enumerate().map(|(at, it)| (&it.object, at)).collect();
    let mut objects: Vec<_> = objects.into_iter().collect();
    objects.sort_by_key(|(object, _)| order.get(object).copied().unwrap_or(usize::MAX));
    Ok(Forecast { objects: objects.into_iter().map(|(_, it)| it).collect(), seconds })
}

impl Then {
    /// Adds the calls that the changes lead to; how long Fly's limits make them take.
    async fn calls(
        &self,
        client: &Client,
        items: &[Item],
        objects: &mut BTreeMap<ObjectRef, ObjectForecast>,
    ) -> Result<f64, client::Error> {
        let mut apps = 0_u32;
        let mut longest = 0_u32;
        let environments = self.environments(client, items).await?;
        let mut stock = match environments.iter().any(is_unbound) {
            true => Stock::read(client, &self.changed).await?,
            false => Stock::default(),
        };
        let mut rooms = Rooms::read(client, &self.changed).await?;
        let clock = System::new();
        let all_turns = turns::turns(client, &self.changed, clock.now()).await?;
        for (object, turn) in &all_turns {
            entry(objects, object).notes.push(turn.outlook.to_string());
        }
        for (object, pool) in pools(client, self, &rooms, clock.now()).await? {
            let entry = entry(objects, &object);
            entry.bays = Some(pool.bays);
            entry.notes.extend(pool.notes);
        }
        for environment in environments {
            let object = environment.object_ref();
            let now = clock.now();
            let is_new = environment.metadata.resource_version.is_empty();
            if is_new && let Err(why) = rooms.take(&object.namespace, Kind::Environment) {
                let entry = entry(objects, &object);
                entry.change = "refused";
                entry.notes.push(format!("it would be refused: {why}"));
                continue;
            }
            let turn = all_turns.get(&object);
            let mut world = self.world(client, environment, turn, now).await?;
            let vacant = look_for_vacancy(&mut world, &mut stock, now);
            if is_unbound(&world.environment) && vacant.is_none() {
                world.no_bay = rooms.take(&object.namespace, Kind::Bay).err();
            }
            let entry = entry(objects, &object);
            entry.take(course(world, vacant, now));
            let is_held_back = turn.is_some_and(|it| it.outlook.is_held_back());
            entry.actions.iter_mut().for_each(|it| it.held_back = is_held_back);
            let mut per_call: BTreeMap<&str, u32> = BTreeMap::new();
            for Call { call, .. } in entry.actions.iter().filter(|it| !it.held_back) {
                apps += u32::from(*call == "create-app");
                *per_call.entry(*call).or_default() += 1;
            }
            let waits = per_call.values().map(|it| it.saturating_sub(BURST)).max();
            longest = longest.max(waits.unwrap_or(0));
        }
        // One app a second for the organisation; everything else is limited per app or machine.
        Ok(f64::from(apps.saturating_sub(BURST).max(longest)))
    }

    /// The environments among the manifests, and those that use a template or secret that changes.
    async fn environments(
        &self,
        client: &Client,
        items: &[Item],
    ) -> Result<Vec<Environment>, client::Error> {
        let mut found = BTreeMap::new();
        let named: BTreeSet<_> = items.iter().map(|it| &it.object).collect();
        let list = client.list::<Environment>(Kind::Environment, None, &Query::default()).await?;
        for environment in list.items {
            let object = environment.object_ref();
            let spec = &environment.spec;
            let uses = |kind, name: &str| {
                self.changed.contains_key(&ObjectRef::new(kind, &object.namespace, name))
            };
            let concerned = named.contains(&object)
                || uses(Kind::Template, &spec.template_ref.name)
                || spec.secrets.iter().any(|it| uses(Kind::Secret, &it.name));
            if concerned {
                found.insert(object, environment);
            }
        }
        for (object, value) in &self.changed {
            if object.kind == Kind::Environment
                && let Ok(environment) = serde_json::from_value(value.clone())
            {
                found.insert(object.clone(), environment);
            }
        }
        // They find bays in the order in which they are made.
        let order: BTreeMap<_, _> =
            items.iter().enumerate().map(|(at, it)| (&it.object, at)).collect();
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(object, _)| order.get(object).copied().unwrap_or(usize::MAX));
        Ok(found.into_iter().map(|(_, it)| it).collect())
    }

    /// An object as it would be.
    async fn get<T: DeserializeOwned>(
        &self,
        client: &Client,
        object: &ObjectRef,
    ) -> Result<Option<T>, client::Error> {
        if let Some(value) = self.changed.get(object) {
            return Ok(serde_json::from_value(value.clone()).ok());
        }
        match client.get(object).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn world(
        &self,
        client: &Client,
        environment: Environment,
        turn: Option<&turns::Turn>,
        now: Timestamp,
    ) -> Result<World, client::Error> {
        let namespace = environment.metadata.namespace.clone().unwrap_or_default();
        let named = |kind, name: &str| ObjectRef::new(kind, &namespace, name);
        let template = named(Kind::Template, &environment.spec.template_ref.name);
        let is_newest = turn.is_some() || self.changed.contains_key(&template);
        let template = match self.get::<Template>(client, &template).await? {
            Some(it) if !is_newest => Some(turns::kept_at(client, it, Some(&environment)).await?),
            found => found,
        };
        let mut secrets = BTreeMap::new();
        for secret in &environment.spec.secrets {
            let found = self.get::<Secret>(client, &named(Kind::Secret, &secret.name)).await?;
            secrets.insert(secret.name.clone(), found.as_ref().map(fact));
        }
        let bay = match &environment.status.bay {
            Some(bay) => self.get::<Bay>(client, &named(Kind::Bay, &bay.name)).await?,
            None => None,
        };
        Ok(World {
            settings: Settings {
                instance: String::new(),
                scheme: "https".to_owned(),
                domain: String::new(),
                port: None,
                restored_at: None,
            },
            seen: bay.as_ref().map(|bay| recorded(bay, now)).unwrap_or_default(),
            environment,
            template,
            revision: turn.and_then(turns::Turn::kept_at),
            secrets,
            bay,
            vacancy: None,
            empty_pool: None,
            no_bay: None,
            orphan: None,
            last_request_at: None,
            connections: None,
            fresh_name: "(new)".to_owned(),
            no_destroying: self.held.destroying.clone(),
            full_regions: Vec::new(),
            unheard_since: None,
            clock_was_set: None,
            no_replacing: self.held.replacing.clone(),
            no_creating: self.held.creating.clone(),
        })
    }
}

/// Whether the server refuses a new object for what the rest of the plan may mend: a quota, which is counted over all of the plan, or a
/// namespace that comes with it.
fn is_told_by_the_plan(error: &client::Error, item: &Item, items: &[Item]) -> bool {
    let comes =
        |it: &Item| it.object.kind == Kind::Namespace && it.object.name == item.object.namespace;
    match error.reason() {
        Some("NotFound") => items.iter().any(comes),
        Some("Forbidden") => error.to_string().contains("exceeded quota: "),
        _ => false,
    }
}

fn entry<'a>(
    objects: &'a mut BTreeMap<ObjectRef, ObjectForecast>,
    object: &ObjectRef,
) -> &'a mut ObjectForecast {
    objects.entry(object.clone()).or_insert_with(|| ObjectForecast::of(object))
}

/// Calls of one sort that Fly takes at once before it takes one a second.
const BURST: u32 = 3;

/// Paths at which two objects differ, without what the server alone writes.
fn differences(path: &str, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<FieldChange>) {
    const SERVERS: [&str; 8] = [
        "status",
        "metadata.uid",
        "metadata.resourceVersion",
        "metadata.generation",
        "metadata.creationTimestamp",
        "metadata.finalizers",
        "metadata.managedFields",
        "metadata.namespace",
    ];
    let is_applied = path.strip_prefix("metadata.annotations.") == Some(LAST_APPLIED);
    if from == to || SERVERS.contains(&path) || is_applied {
        return;
    }
    let empty = serde_json::Map::new();
    if let (None | Some(Value::Object(_)), Some(Value::Object(new))) = (from, to) {
        let old = from.and_then(Value::as_object).unwrap_or(&empty);
        let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
        for name in names {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            differences(&inner, old.get(name), new.get(name), found);
        }
        return;
    }
    let value = |it: Option<&Value>| it.cloned().unwrap_or_default();
    found.push(FieldChange { path: path.to_owned(), from: value(from), to: value(to) });
}

/// Which values of a secret change, and nothing of what they are.
fn without_values(mut fields: Vec<FieldChange>) -> Vec<FieldChange> {
    for field in fields.iter_mut().filter(|it| it.path.starts_with("data")) {
        for value in [&mut field.from, &mut field.to] {
            if !value.is_null() {
                *value = Value::from("(hidden)");
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_a_person_wrote_counts_as_a_change() {
        let mut found = Vec::new();
        let from =
            json!({"metadata": {"uid": "1", "labels": {"a": "1"}}, "spec": {"x": [1], "y": 2}});
        let to = json!({"metadata": {"uid": "2", "labels": {"a": "1"}}, "spec": {"x": [1, 2], "z": 3}, "status": {}});
        differences("", Some(&from), Some(&to), &mut found);
        let paths: Vec<_> = found.iter().map(|it| it.path.as_str()).collect();
        assert_eq!(paths, ["spec.x", "spec.y", "spec.z"]);
    }

    #[test]
    fn a_secrets_values_are_never_shown() {
        let mut found = Vec::new();
        differences("", None, Some(&json!({"data": {"KEY": "Y2FuYXJ5"}})), &mut found);
        let shown = serde_json::to_string(&without_values(found)).unwrap();
        assert!(shown.contains("data.KEY") && !shown.contains("Y2FuYXJ5"), "{shown}");
    }
}
