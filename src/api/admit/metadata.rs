//! Rules for `metadata`, `apiVersion` and `kind`, the same for every kind. It must never look at a specification.

use crate::api::{
    admit::{Findings, ViolationReason},
    kind::Kind,
    meta::Resource,
    name,
};

pub(super) fn check<T: Resource>(object: &T, old: Option<&T>, findings: &mut Findings) {
    let meta = object.metadata();
    if meta.name.is_empty() {
        if meta.generate_name.is_none() {
            findings.add("metadata.name", ViolationReason::Required, "it must be given");
        }
    } else {
        match T::KIND {
            // Events are named after what they are about, with a suffix.
            Kind::Event => {}
            // Kubernetes' tools give them names with dots.
            Kind::ConfigMap | Kind::Lease => {
                let parts = meta.name.split('.').map(name::object);
                findings.say("metadata.name", parts.collect());
            }
            _ => findings.say("metadata.name", name::object(&meta.name)),
        }
    }
    if let Some(namespace) = &meta.namespace {
        if T::KIND.info().namespaced {
            findings.say("metadata.namespace", name::object(namespace));
        } else {
            findings.forbidden(
                "metadata.namespace",
                format!("a {} has no namespace", T::KIND.info().kind_name),
            );
        }
    }
    for (key, value) in &meta.labels {
        let field = format!("metadata.labels.{key}");
        findings.say(&field, name::label_key(key));
        findings.say(&field, name::label_value(value));
    }
    for key in meta.annotations.keys() {
        findings.say(&format!("metadata.annotations.{key}"), name::label_key(key));
    }
    if let Some(old) = old {
        let old = old.metadata();
        if old.name != meta.name {
            findings.forbidden("metadata.name", "it cannot be changed: make a new object");
        }
        if old.deletion_timestamp.is_some()
            && meta.finalizers.iter().any(|it| !old.finalizers.contains(it))
        {
            findings
                .forbidden("metadata.finalizers", "none can be added while it is being deleted");
        }
    }
}
