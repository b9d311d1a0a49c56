//! Rules of quotas. It must never count anything.

use crate::api::{
    admit::{Findings, ViolationReason},
    quota::{COUNTED, ResourceQuota, resource_name},
};

pub(super) fn check(quota: &ResourceQuota, _: Option<&ResourceQuota>, findings: &mut Findings) {
    let counted = COUNTED.map(resource_name);
    for key in quota.spec.hard.keys().filter(|it| !counted.contains(it)) {
        findings.add(
            &format!("spec.hard.{key}"),
            ViolationReason::NotSupported,
            format!(
                "`{key}` is not counted here: what can be limited is {}",
                counted.join(" and ")
            ),
        );
    }
}
