//! Defaults and rules of environments. It must never look at the template; what depends on both is a condition, not a
//! refusal, since either may come first.

use std::{collections::BTreeSet, time::Duration};

use crate::api::{
    admit::{Findings, ViolationReason},
    environment::{Access, DeletionPolicy, Environment, OperatingMode},
    name,
};

/// Less than this is sooner than most are ready.
const EXPIRES_AFTER_MIN: Duration = Duration::from_secs(60);

pub(super) fn complete(environment: &mut Environment) {
    let spec = &mut environment.spec;
    spec.access.get_or_insert(Access::Private);
    spec.operating_mode.get_or_insert(OperatingMode::Auto);
    spec.deletion_policy.get_or_insert(DeletionPolicy::Delete);
    if spec.hostnames.is_empty() && !environment.metadata.name.is_empty() {
        spec.hostnames.push(environment.metadata.name.clone());
    }
}

pub(super) fn check(environment: &Environment, old: Option<&Environment>, findings: &mut Findings) {
    let spec = &environment.spec;
    findings.say("spec.templateRef.name", name::object(&spec.template_ref.name));
    if let Some(region) = &spec.region {
        findings.say("spec.region", name::region(region));
    }
    let mut seen = BTreeSet::new();
    for (index, hostname) in spec.hostnames.iter().enumerate() {
        let field = format!("spec.hostnames[{index}]");
        findings.say(&field, name::hostname(hostname));
        if !seen.insert(hostname) {
            findings.add(
                &field,
                ViolationReason::Duplicate,
                format!("`{hostname}` is listed twice"),
            );
        }
    }
    for key in spec.env.keys() {
        findings.say(&format!("spec.env.{key}"), name::variable(key));
    }
    let mut seen = BTreeSet::new();
    for (index, secret) in spec.secrets.iter().enumerate() {
        let field = format!("spec.secrets[{index}].name");
        findings.say(&field, name::object(&secret.name));
        if !seen.insert(&secret.name) {
            findings.add(
                &field,
                ViolationReason::Duplicate,
                format!("`{}` is listed twice", secret.name),
            );
        }
    }
    let expires_after = spec.lifetime.as_ref().and_then(|it| it.expires_after.as_ref());
    if expires_after.is_some_and(|it| it.get() < EXPIRES_AFTER_MIN) {
        findings.invalid("spec.lifetime.expiresAfter", "at least 1m");
    }
    let Some(old) = old else { return };
    findings.immutable(
        "spec.templateRef",
        &old.spec.template_ref,
        &spec.template_ref,
        "make a new environment from the other template",
    );
    findings.immutable(
        "spec.region",
        &old.spec.region,
        &spec.region,
        "an environment stays where its volume is; make a new one in the other region",
    );
}
