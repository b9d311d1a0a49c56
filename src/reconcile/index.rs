//! Which environments hang on what: templates, secrets and apps by name, so that a change reaches those it concerns. Kept
//! from the store's feed; it must never hold an object.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::api::{
    environment::{Environment, Phase},
    meta::{ObjectRef, Resource as _},
    pod,
};

/// What is known of one environment.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    uid: String,
    generation: u64,
    deleting: bool,
    template: String,
    secrets: Vec<String>,
    app: Option<String>,
    served: bool,
    phase: Phase,
    /// The template's revision that it is kept at, and whether its machine may be restarted for that.
    kept_at: Option<(u64, bool)>,
    /// The machine that is to be made anew.
    reset: Option<String>,
}

/// The index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// In order, so that what is queued for all of them is queued alike in every run.
    known: BTreeMap<ObjectRef, Known>,
    by_app: HashMap<String, ObjectRef>,
    /// `template/<namespace>/<name>` and `secret/<namespace>/<name>`.
    by_use: HashMap<String, BTreeSet<ObjectRef>>,
    phases: HashMap<Phase, usize>,
}

impl Index {
    /// Takes an environment in; true when there is something to decide about it, and not only a new status.
    pub(crate) fn put(&mut self, environment: &Environment) -> bool {
        let key = environment.object_ref();
        let known = Known {
            uid: environment.metadata.uid.clone(),
            generation: environment.metadata.generation,
            deleting: environment.is_deleting(),
            template: environment.spec.template_ref.name.clone(),
            secrets: environment.spec.secrets.iter().map(|it| it.name.clone()).collect(),
            app: environment.status.bay.as_ref().map(|it| it.app.clone()),
            served: environment.status.bay.as_ref().is_some_and(|it| it.machine.is_some()),
            phase: environment.status.phase,
            kept_at: environment.status.template.as_ref().map(|it| (it.revision, it.at_once)),
            reset: pod::ordered_reset(environment).map(|it| it.0.to_owned()),
        };
        let news = self.known.get(&key).is_none_or(|old| {
            (&old.uid, old.generation, old.deleting, &old.reset)
                != (&known.uid, known.generation, known.deleting, &known.reset)
                || (old.kept_at.is_some() && old.kept_at != known.kept_at)
        });
        self.remove(&key);
        for used in uses(&key, &known) {
            self.by_use.entry(used).or_default().insert(key.clone());
        }
        if let Some(app) = &known.app {
            self.by_app.insert(app.clone(), key.clone());
        }
        *self.phases.entry(known.phase).or_default() += 1;
        self.known.insert(key, known);
        news
    }

    /// Takes an environment out.
    pub(crate) fn remove(&mut self, key: &ObjectRef) {
        let Some(known) = self.known.remove(key) else { return };
        for used in uses(key, &known) {
            if let Some(users) = self.by_use.get_mut(&used) {
                users.remove(key);
                if users.is_empty() {
                    self.by_use.remove(&used);
                }
            }
        }
        if let Some(app) = &known.app {
            self.unbound(app, key);
        }
        if let Some(count) = self.phases.get_mut(&known.phase) {
            *count -= 1;
        }
    }

    /// Whether there is such an environment.
    pub(crate) fn knows(&self, key: &ObjectRef) -> bool {
        self.known.contains_key(key)
    }

    /// Whether it has, or had, a machine: what is left to do does not wait behind what was not begun.
    pub(crate) fn is_begun(&self, key: &ObjectRef) -> bool {
        let new = [Phase::Pending, Phase::Provisioning];
        self.known.get(key).is_some_and(|it| it.served || !new.contains(&it.phase))
    }

    /// Whether it is being deleted.
    pub(crate) fn is_going(&self, key: &ObjectRef) -> bool {
        self.known.get(key).is_some_and(|it| it.deleting)
    }

    /// Whether it has, or was just given, a bay.
    pub(crate) fn is_bound(&self, key: &ObjectRef) -> bool {
        self.known.get(key).is_some_and(|it| it.app.is_some())
    }

    /// Keys that were known and are not in this list.
    pub(crate) fn missing_from(&self, listed: &BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
        self.known.keys().filter(|it| !listed.contains(it)).cloned().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// All of them.
    pub(crate) fn keys(&self) -> Vec<ObjectRef> {
        self.known.keys().cloned().collect()
    }

    /// Environments that use a template or a secret (`kind` is `template` or `secret`).
    pub(crate) fn users(&self, kind: &str, namespace: &str, name: &str) -> Vec<ObjectRef> {
        let used = format!("{kind}/{namespace}/{name}");
        self.by_use.get(&used).into_iter().flatten().cloned().collect()
    }

    /// The environment that an app belongs to.
    pub(crate) fn of_app(&self, app: &str) -> Option<ObjectRef> {
        self.by_app.get(app).cloned()
    }

    /// Takes note of an app that was just bound, ahead of its environment's new status.
    pub(crate) fn bound(&mut self, app: String, key: ObjectRef) {
        if let Some(known) = self.known.get_mut(&key) {
            known.app = Some(app.clone());
        }
        self.by_app.insert(app, key);
    }

    /// Takes note that an app's bay is no longer this one's to keep.
    pub(crate) fn unbound(&mut self, app: &str, key: &ObjectRef) {
        if self.by_app.get(app) == Some(key) {
            self.by_app.remove(app);
        }
    }

    /// How many environments are in each phase.
    pub(crate) fn phases(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.phases.iter().map(|(phase, count)| (word(*phase), *count))
    }
}

fn uses(key: &ObjectRef, known: &Known) -> Vec<String> {
    let namespace = &key.namespace;
    let mut uses = vec![format!("template/{namespace}/{}", known.template)];
    uses.extend(known.secrets.iter().map(|it| format!("secret/{namespace}/{it}")));
    uses
}

/// The phase as a metric's label.
pub(crate) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "Pending",
        Phase::Provisioning => "Provisioning",
        Phase::Starting => "Starting",
        Phase::Ready => "Ready",
        Phase::Asleep => "Asleep",
        Phase::Degraded => "Degraded",
        Phase::Stalled => "Stalled",
        Phase::Deleting => "Deleting",
    }
}
