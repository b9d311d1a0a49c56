//! The door: every object that a person sends is read, filled with defaults and checked here, or refused with the path of
//! each wrong field. Pure; it must never look at another object.

mod access_token;
mod core;
mod environment;
mod metadata;
mod pool;
mod quota;
mod read;
mod template;
mod text;

use serde_json::Value;

pub use text::check as check_text;

use crate::api::{
    bay::Bay,
    core::{ConfigMap, Event, Namespace, Secret},
    definition::CustomResourceDefinition,
    hold::Hold,
    hostname::Hostname,
    kind::Kind,
    lease::Lease,
    meta::Resource,
    orphan::Orphan,
    pod::Pod,
    quota::ResourceQuota,
    rollout::TemplateRevision,
};

/// An object that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// With its defaults, and nothing that the kind does not have.
    pub object: Value,
    /// Remarks that refuse nothing.
    pub warnings: Vec<String>,
    /// Fields that the kind does not have; they were left out.
    pub unknown: Vec<Violation>,
}

/// Something wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Dotted path, such as `spec.machine.guest.memory`.
    pub field: String,
    /// What sort of wrong, in Kubernetes' words.
    pub reason: ViolationReason,
    /// A sentence for people.
    pub message: String,
}

/// What sort of wrong, in Kubernetes' words (`FieldValueInvalid` …).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViolationReason {
    /// Must be there.
    Required,
    /// Cannot be this.
    Invalid,
    /// Not one of those it may be.
    NotSupported,
    /// May not be set, or not changed, or does not work yet.
    Forbidden,
    /// There already.
    Duplicate,
    /// The kind has no such field.
    Unknown,
}

impl ViolationReason {
    /// As `details.causes[].reason` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "FieldValueRequired",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Unknown => "FieldValueForbidden",
        }
    }
}

/// Reads, completes and checks an object of a kind. `old` is what it replaces. A field that the kind does not have is wrong.
///
/// # Errors
/// Everything that is wrong with it, at least one.
pub fn admit(kind: Kind, new: Value, old: Option<&Value>) -> Result<Admitted, Vec<Violation>> {
    let admitted = admit_known(kind, new, old)?;
    if admitted.unknown.is_empty() { Ok(admitted) } else { Err(admitted.unknown) }
}

/// The same, for callers who want fields that the kind does not have left out.
///
/// # Errors
/// Everything that is wrong with it, such fields among the rest.
pub fn admit_known(
    kind: Kind,
    new: Value,
    old: Option<&Value>,
) -> Result<Admitted, Vec<Violation>> {
    let mut wrong = check_text(kind, &new);
    let admitted = match kind {
        Kind::Template => door(new, old, template::complete, template::check),
        Kind::Environment => door(new, old, environment::complete, environment::check),
        Kind::WarmPool => door(new, old, pool::complete, pool::check),
        Kind::ResourceQuota => door::<ResourceQuota>(new, old, |_| {}, quota::check),
        Kind::Namespace => door::<Namespace>(new, old, |_| {}, |_, _, _| {}),
        Kind::Secret => door::<Secret>(new, old, core::complete_secret, core::check_secret),
        Kind::ConfigMap => door::<ConfigMap>(new, old, |_| {}, core::check_config_map),
        Kind::Event => door::<Event>(new, old, core::complete_event, core::check_event),
        Kind::Lease => door::<Lease>(new, old, |_| {}, |_, _, _| {}),
        Kind::CustomResourceDefinition => {
            door::<CustomResourceDefinition>(new, old, |_| {}, |_, _, _| {})
        }
        Kind::TemplateRevision => door::<TemplateRevision>(new, old, |_| {}, |_, _, _| {}),
        Kind::Bay => door::<Bay>(new, old, |_| {}, |_, _, _| {}),
        Kind::Hostname => door::<Hostname>(new, old, |_| {}, |_, _, _| {}),
        Kind::Orphan => door::<Orphan>(new, old, |_| {}, |_, _, _| {}),
        Kind::Hold => door::<Hold>(new, old, |_| {}, |_, _, _| {}),
        Kind::AccessToken => door(new, old, |_| {}, access_token::check),
        Kind::Pod => door::<Pod>(new, old, |_| {}, |_, _, _| {}),
    };
    match admitted {
        Ok(admitted) if wrong.is_empty() => Ok(admitted),
        admitted => {
            let others = admitted.map_or_else(|others| others, |it| it.unknown);
            // What is said of a field's text is plainer than what its type says.
            let others = others.into_iter().filter(|it| wrong.iter().all(|o| o.field != it.field));
            wrong.extend(others.collect::<Vec<_>>());
            Err(wrong)
        }
    }
}

/// What a check finds.
#[derive(Debug, Default)]
struct Findings {
    violations: Vec<Violation>,
    warnings: Vec<String>,
}

impl Findings {
    fn add(&mut self, field: &str, reason: ViolationReason, message: impl Into<String>) {
        self.violations.push(Violation {
            field: field.to_owned(),
            reason,
            message: message.into(),
        });
    }

    fn invalid(&mut self, field: &str, message: impl Into<String>) {
        self.add(field, ViolationReason::Invalid, message);
    }

    fn forbidden(&mut self, field: &str, message: impl Into<String>) {
        self.add(field, ViolationReason::Forbidden, message);
    }

    /// Notes what one of the checks of [`crate::api::name`] said.
    fn say(&mut self, field: &str, said: Result<(), String>) {
        if let Err(message) = said {
            self.invalid(field, message);
        }
    }

    fn immutable<T: PartialEq>(&mut self, field: &str, old: &T, new: &T, instead: &str) {
        if old != new {
            self.forbidden(field, format!("it cannot be changed: {instead}"));
        }
    }
}

fn door<T: Resource>(
    new: Value,
    old: Option<&Value>,
    complete: impl FnOnce(&mut T),
    check: impl FnOnce(&T, Option<&T>, &mut Findings),
) -> Result<Admitted, Vec<Violation>> {
    let mut findings = Findings::default();
    let Some((mut object, left_out)) = read::read::<T>(new, &mut findings) else {
        return Err(findings.violations);
    };
    // What was stored was admitted; a kind that has changed since then is compared as far as it can still be read.
    let old = old.and_then(|old| T::deserialize(old).ok());
    complete(&mut object);
    let read = findings.violations.len();
    metadata::check(&object, old.as_ref(), &mut findings);
    left_out.forget_same(&mut findings.violations, read);
    let before = findings.violations.len();
    check(&object, old.as_ref(), &mut findings);
    left_out.forget(&mut findings.violations, before);
    let is_unknown = |it: &Violation| it.reason == ViolationReason::Unknown;
    if !findings.violations.iter().all(is_unknown) {
        return Err(findings.violations);
    }
    let object = serde_json::to_value(&object).map_err(|error| {
        vec![Violation {
            field: String::new(),
            reason: ViolationReason::Invalid,
            message: error.to_string(),
        }]
    })?;
    Ok(Admitted { object, warnings: findings.warnings, unknown: findings.violations })
}

/// Fields that the design has and that do nothing yet: refused with a sentence, never ignored.
const FIELDS_NOT_YET: &[(Kind, &str, &str)] = &[
    (
        Kind::Template,
        "spec.network.egress",
        "egress rules are not written to Fly yet; leave it out",
    ),
    (Kind::Template, "spec.standby", "standby machines are not kept yet; leave it out"),
    (
        Kind::Template,
        "spec.checkpoints",
        "checkpoints are not taken yet; Fly's own daily snapshots are, see volume.snapshotRetention",
    ),
    (
        Kind::Environment,
        "spec.lifetime.archiveAfter",
        "archiving comes with checkpoints, which do not exist yet; expiresAfter deletes the environment with its data",
    ),
];

/// Values that the design has and that do nothing yet.
const VALUES_NOT_YET: &[((Kind, &str), &str, &str)] = &[
    (
        (Kind::Environment, "spec.deletionPolicy"),
        "Archive",
        "archiving needs checkpoints, which do not exist yet; use Delete, and mind that it destroys the volume",
    ),
    (
        (Kind::Environment, "spec.deletionPolicy"),
        "Retain",
        "retained bays do not exist yet; use Delete, and mind that it destroys the volume",
    ),
];

fn not_yet(kind: Kind, field: &str) -> Option<&'static str> {
    FIELDS_NOT_YET.iter().find(|(at, path, _)| *at == kind && *path == field).map(|(_, _, it)| *it)
}

/// Whether two versions of an object differ in anything but `metadata` and `status`: then its generation rises.
#[must_use]
pub fn same_spec(old: &Value, new: &Value) -> bool {
    let rest = |object: &Value| {
        let mut object = object.clone();
        if let Some(fields) = object.as_object_mut() {
            fields.remove("metadata");
            fields.remove("status");
        }
        object
    };
    rest(old) == rest(new)
}

#[cfg(test)]
mod tests;
