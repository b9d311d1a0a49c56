//! What every object has: `metadata` and references to other objects. It must never know a kind's own fields.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::api::{fields::Kept, kind::Kind};

/// Identity, version and labels of an object, with Kubernetes' meanings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique in its namespace and kind; a DNS label. Immutable.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Prefix from which the server makes a name when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate_name: Option<String>,
    /// The tenant. Immutable. Absent for kinds that have no namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Set by the server; never used again, even by an object of the same name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Set by the server; changes with every change. Sent back, it makes a write conditional.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Set by the server; rises when the specification changes.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Set by the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub creation_timestamp: Option<Timestamp>,
    /// Set by the server when deletion was asked for and finalizers remain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub deletion_timestamp: Option<Timestamp>,
    /// Set by the server with `deletionTimestamp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<u64>,
    /// For selection.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// For tools; never selected by.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The object is kept while any of these is left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub finalizers: Vec<String>,
    /// Objects whose deletion deletes this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["uid"]))]
    pub owner_references: Vec<OwnerReference>,
    /// Who set which field, as server-side apply keeps it.
    #[serde(skip_serializing_if = "Kept::is_empty")]
    pub managed_fields: Kept,
}

impl Metadata {
    /// Whether the object goes with this write: deletion was asked for, and nothing keeps it any more. Whoever removes
    /// the last finalizer deletes the object instead of writing it.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.deletion_timestamp.is_some() && self.finalizers.is_empty()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// An object that another one belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Name, in the same namespace.
    pub name: String,
    /// Uid; a reference by name alone would survive a re-creation.
    pub uid: String,
    /// Whether it manages this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether its deletion waits for this object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

/// A reference by name, in the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NameRef {
    /// The object's name.
    pub name: String,
}

/// Kind, namespace and name: which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for kinds that have none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// A reference from its parts; the namespace of a kind that has none is dropped.
    #[must_use]
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = if kind.info().namespaced { namespace.to_owned() } else { String::new() };
        Self { kind, namespace, name: name.to_owned() }
    }

    /// Where it is stored: `environments/default/alice`, `namespaces//team-a`.
    #[must_use]
    pub fn store_key(&self) -> String {
        format!("{}/{}/{}", self.kind.info().plural, self.namespace, self.name)
    }

    /// The reverse of [`ObjectRef::store_key`].
    #[must_use]
    pub fn from_store_key(key: &str) -> Option<Self> {
        let mut parts = key.splitn(3, '/');
        let kind = Kind::from_plural(parts.next()?)?;
        let namespace = parts.next()?.to_owned();
        let name = parts.next()?.to_owned();
        Some(Self { kind, namespace, name })
    }
}

/// `env/alice`, or `env/team-a/alice` outside the default namespace: how logs and messages name it.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.kind.info();
        let kind = info.short_names.first().copied().unwrap_or(info.singular);
        if self.namespace.is_empty() || self.namespace == "default" {
            write!(f, "{kind}/{}", self.name)
        } else {
            write!(f, "{kind}/{}/{}", self.namespace, self.name)
        }
    }
}

/// A typed object of one kind.
pub trait Resource:
    Serialize + DeserializeOwned + Clone + PartialEq + Send + Sync + 'static
{
    /// Its kind.
    const KIND: Kind;
    /// Its metadata.
    fn metadata(&self) -> &Metadata;
    /// Its metadata, to change.
    fn metadata_mut(&mut self) -> &mut Metadata;

    /// Which object it is.
    fn object_ref(&self) -> ObjectRef {
        let meta = self.metadata();
        ObjectRef::new(Self::KIND, meta.namespace.as_deref().unwrap_or_default(), &meta.name)
    }

    /// How another object names it as its owner.
    fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::KIND.info().api_version(),
            kind: Self::KIND.info().kind_name.to_owned(),
            name: self.metadata().name.clone(),
            uid: self.metadata().uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// Whether deletion was asked for.
    fn is_deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }
}

/// Declares a kind's object: `apiVersion`, `kind`, `metadata` and its own fields.
macro_rules! resource {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }) => {
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        $(#[$doc])*
        pub struct $name {
            /// Group and version of this kind.
            pub api_version: String,
            /// This kind's name.
            pub kind: String,
            /// Identity, version and labels.
            #[serde(default)]
            pub metadata: crate::api::meta::Metadata,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl crate::api::meta::Resource for $name {
            const KIND: crate::api::kind::Kind = crate::api::kind::Kind::$name;
            fn metadata(&self) -> &crate::api::meta::Metadata {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut crate::api::meta::Metadata {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use resource;
