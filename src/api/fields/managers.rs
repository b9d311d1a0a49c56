//! The managers of one object: `metadata.managedFields` read and written, and what an apply or an update makes of them. It must
//! never decide whether a change is admitted.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::fields::{Set, Shape, merge, walk};

/// How a manager wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration: it owns what is in that.
    Apply,
    /// By any other write: it owns what it changed.
    #[default]
    Update,
}

/// Who writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: String,
    /// How.
    pub operation: Operation,
    /// Group and version in which it wrote.
    pub api_version: String,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// Whether what it wrote is kept in one entry: appliers are the same in every version.
    fn is(&self, other: &Self) -> bool {
        let is_same_version =
            self.operation == Operation::Apply || self.api_version == other.api_version;
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && is_same_version
    }

    /// As Kubernetes' messages name one.
    fn shown(&self) -> String {
        let mut shown = format!("\"{}\"", self.name);
        if !self.subresource.is_empty() {
            shown = format!("{shown} with subresource \"{}\"", self.subresource);
        }
        match self.operation {
            Operation::Apply => shown,
            Operation::Update => format!("{shown} using {}", self.api_version),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: Manager,
    time: Option<String>,
    set: Set,
}

/// A field that another manager has with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The other, as messages name it.
    pub manager: String,
    /// Path of the field.
    pub field: String,
}

/// Who owns which fields of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Managers(Vec<Entry>);

/// Updaters of one object that are told apart; of more, the oldest become one.
const UPDATERS_MAX: usize = 10;
/// Its name.
const ANCIENT: &str = "ancient-changes";
/// Who has what was there before anybody's fields were kept.
const BEFORE: &str = "before-first-apply";
/// Fields of metadata that nobody owns: they are the server's, or the object's name.
const NOBODYS: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

impl Managers {
    /// From `metadata.managedFields`; `None` if they cannot be read.
    #[must_use]
    pub fn read(list: &Value) -> Option<Self> {
        list.as_array()?.iter().map(entry).collect::<Option<_>>().map(Self)
    }

    /// Those of an object, none where they cannot be read.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        object.pointer("/metadata/managedFields").and_then(Self::read).unwrap_or_default()
    }

    /// Whether no field has an owner.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields of a manager, as messages have them.
    #[must_use]
    pub fn fields(&self, name: &str, operation: Operation) -> Vec<String> {
        let is = |it: &&Entry| it.manager.name == name && it.manager.operation == operation;
        self.0.iter().filter(is).flat_map(|it| it.set.paths()).collect()
    }

    /// As `metadata.managedFields`, in Kubernetes' order.
    #[must_use]
    pub fn list(&self) -> Value {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|it| {
            let manager = &it.manager;
            let name = (&manager.name, &manager.api_version, &manager.subresource);
            (manager.operation, &it.time, name)
        });
        Value::Array(entries.into_iter().map(Entry::shown).collect())
    }

    /// Where there are none yet, all that is there becomes somebody's: an applier takes over what it wants changed on purpose.
    pub fn begin(&mut self, shape: &Shape, object: &Value, api_version: &str) {
        if !self.is_empty() {
            return;
        }
        let mut set = owned(walk::compare(shape, &json!({}), object).added);
        set.forget(&["status"]);
        let manager = Manager {
            name: BEFORE.to_owned(),
            operation: Operation::Update,
            api_version: api_version.to_owned(),
            subresource: String::new(),
        };
        let time = object.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        self.put(Entry { manager, time: time.map(str::to_owned), set });
    }

    /// The object with a manager's configuration applied: with its fields, and without those that it applied before and
    /// nobody has now.
    #[must_use]
    pub fn merged(&self, shape: &Shape, who: &Manager, object: &Value, applied: &Value) -> Value {
        let mut merged = merge::merge(shape, object, applied);
        if let Some(last) = self.0.iter().find(|it| it.manager.is(who)) {
            let others = self.0.iter().filter(|it| !it.manager.is(who));
            let owned = others.fold(walk::applied(shape, applied), |all, it| all.union(&it.set));
            merge::prune(shape, &mut merged, &last.set, &owned);
        }
        merged
    }

    /// Notes that a manager's configuration was applied and made of `old` this `new` object. Fields that others have and that
    /// changed are theirs no more, or in conflict.
    ///
    /// # Errors
    /// The conflicts, unless `force`.
    pub fn apply(
        &mut self,
        shape: &Shape,
        (who, now): (&Manager, Timestamp),
        (applied, force): (&Value, bool),
        (old, new): (&Value, &Value),
    ) -> Result<(), Vec<Conflict>> {
        let changes = stripped(walk::compare(shape, old, new));
        let changed = changes.modified.clone().union(&changes.added);
        let others = || self.0.iter().filter(|it| !it.manager.is(who));
        let mut conflicts: Vec<_> = others()
            .flat_map(|it| {
                let manager = it.manager.shown();
                let fields = it.set.intersection(&changed).paths().into_iter();
                fields.map(move |field| Conflict { manager: manager.clone(), field })
            })
            .collect();
        if !conflicts.is_empty() && !force {
            conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
            return Err(conflicts);
        }
        self.give_up(who, &changed.union(&changes.removed));
        let set = owned(walk::applied(shape, applied));
        let set = if who.subresource.is_empty() { set } else { only(set, &who.subresource) };
        let before = self.0.iter().find(|it| it.manager.is(who));
        let same = before.filter(|it| it.set == set && stripped_is_empty(&changes));
        let time = same.map_or_else(|| Some(now.to_string()), |it| it.time.clone());
        self.0.retain(|it| !it.manager.is(who));
        self.put(Entry { manager: who.clone(), time, set });
        Ok(())
    }

    /// Notes that a manager made of `old` this `new` object: what it changed is its own, and nobody else's.
    pub fn update(
        &mut self,
        shape: &Shape,
        (who, now): (&Manager, Timestamp),
        (old, new): (&Value, &Value),
    ) {
        let changes = stripped(walk::compare(shape, old, new));
        let taken = changes.modified.union(&changes.added);
        self.give_up(who, &taken.clone().union(&changes.removed));
        for own in self.0.iter_mut().filter(|it| it.manager.is(who)) {
            own.set = own.set.difference(&changes.removed);
        }
        if !taken.is_empty() {
            let own = self.0.iter().position(|it| it.manager.is(who));
            let set = own.map(|at| self.0.swap_remove(at).set).unwrap_or_default();
            let time = Some(now.to_string());
            self.put(Entry { manager: who.clone(), time, set: set.union(&taken) });
        }
        self.0.retain(|it| !it.set.is_empty());
        self.cap();
    }

    /// Everybody but one gives these fields up.
    fn give_up(&mut self, but: &Manager, fields: &Set) {
        for other in self.0.iter_mut().filter(|it| !it.manager.is(but)) {
            other.set = other.set.difference(fields);
        }
        self.0.retain(|it| it.manager.is(but) || !it.set.is_empty());
    }

    fn put(&mut self, entry: Entry) {
        if !entry.set.is_empty() {
            self.0.push(entry);
        }
    }

    /// An object that everybody writes would else grow without end.
    fn cap(&mut self) {
        let is_updater = |it: &Entry| it.manager.operation == Operation::Update;
        while self.0.iter().filter(|it| is_updater(it)).count() > UPDATERS_MAX {
            let mut updaters: Vec<_> =
                (0..self.0.len()).filter(|at| is_updater(&self.0[*at])).collect();
            updaters.sort_by(|a, b| self.0[*a].time.cmp(&self.0[*b].time));
            let [first, second, ..] = updaters.as_slice() else { return };
            let oldest = self.0[*first].set.clone();
            let into = &mut self.0[*second];
            into.set = std::mem::take(&mut into.set).union(&oldest);
            ANCIENT.clone_into(&mut into.manager.name);
            into.manager.subresource.clear();
            self.0.swap_remove(*first);
        }
    }
}

fn stripped(changes: walk::Changes) -> walk::Changes {
    let walk::Changes { added, modified, removed } = changes;
    walk::Changes { added: owned(added), modified: owned(modified), removed: owned(removed) }
}

fn stripped_is_empty(changes: &walk::Changes) -> bool {
    changes.added.is_empty() && changes.modified.is_empty() && changes.removed.is_empty()
}

/// What of a set somebody can own.
fn owned(mut set: Set) -> Set {
    for field in ["apiVersion", "kind"] {
        set.forget(&[field]);
    }
    for field in NOBODYS {
        set.forget(&["metadata", field]);
    }
    set.forget_alone("metadata");
    set
}

fn only(mut set: Set, field: &str) -> Set {
    set.only(field);
    set
}

impl Entry {
    fn shown(&self) -> Value {
        let operation = match self.manager.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut shown = Map::new();
        shown.insert("manager".to_owned(), json!(self.manager.name));
        shown.insert("operation".to_owned(), json!(operation));
        shown.insert("apiVersion".to_owned(), json!(self.manager.api_version));
        if let Some(time) = &self.time {
            shown.insert("time".to_owned(), json!(time));
        }
        shown.insert("fieldsType".to_owned(), json!("FieldsV1"));
        shown.insert("fieldsV1".to_owned(), self.set.to_fields());
        if !self.manager.subresource.is_empty() {
            shown.insert("subresource".to_owned(), json!(self.manager.subresource));
        }
        Value::Object(shown)
    }
}

fn entry(entry: &Value) -> Option<Entry> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    let is_known = text("fieldsType").is_none_or(|it| it == "FieldsV1");
    let set = entry.get("fieldsV1").filter(|_| is_known).map(Set::from_fields)?;
    Some(Entry {
        manager: Manager {
            name: text("manager").unwrap_or_default().to_owned(),
            operation,
            api_version: text("apiVersion").unwrap_or_default().to_owned(),
            subresource: text("subresource").unwrap_or_default().to_owned(),
        },
        time: text("time").map(str::to_owned),
        set: set?,
    })
}
