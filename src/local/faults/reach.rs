//! Which calls a kind of fault can befall, so that its effect can be seen. It must never look at a rule.

use crate::fly::call;
use crate::local::faults::kind::{Kind, Stage};

/// Calls that are answered without a body, which cannot be bent.
const BODILESS: &[&str] = &["delete_app", "put_metadata"];
/// Calls whose answer has no state and no region.
const STATELESS: &[&str] = &[
    "list_apps",
    "get_app",
    "create_app",
    "set_secrets",
    "exec",
    "snapshots",
    "create_snapshot",
    "regions",
];
const LISTS: &[&str] = &["list_machines", "org_machines", "list_volumes", "org_volumes"];
const LISTS_AND_APPS: &[&str] =
    &["list_apps", "list_machines", "org_machines", "list_volumes", "org_volumes"];
const READS: &[&str] = &["get_app", "get_machine", "get_volume"];
/// Calls that a lease guards.
const LEASED: &[&str] = &[
    "start_machine",
    "stop_machine",
    "suspend_machine",
    "restart_machine",
    "update_machine",
    "destroy_machine",
];

/// The name of the call with this method and a path of this form, if it is one that hangar makes.
pub(super) fn name(method: &str, template: &str) -> Option<&'static str> {
    let is_it = |it: &&&call::Route| it.method == method && same(it.template, template);
    call::ALL.iter().find(is_it).map(|it| it.name)
}

/// Whether two templates are of one form: `{machine}` here is `{id}` there.
pub(super) fn same(one: &str, other: &str) -> bool {
    let is_hole = |it: &str| it.starts_with('{');
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || is_hole(a) && is_hole(b) => {}
            _ => return false,
        }
    }
}

/// Whether a kind can befall a call of this name.
pub(super) fn befalls(kind: Kind, route: Option<&str>) -> bool {
    let is = |names: &[&str]| route.is_some_and(|it| names.contains(&it));
    match kind {
        Kind::TruncatedJson | Kind::TruncatedBody | Kind::UnknownField | Kind::EmptyOk => {
            !is(BODILESS)
        }
        Kind::UnknownState | Kind::RegionMissing => !is(BODILESS) && !is(STATELESS),
        Kind::MachineNameViolation | Kind::MachineNameSquatted | Kind::VolumeNotFound => {
            is(&["create_machine"])
        }
        Kind::ExecFails | Kind::ExecTimesOut => is(&["exec"]),
        Kind::ListEmpty | Kind::ListShort | Kind::ListStale => is(LISTS_AND_APPS),
        Kind::ListOneRegion | Kind::DeletedListed => is(LISTS),
        Kind::ErrorRegions => is(&["org_machines"]),
        Kind::LaggingReads => is(LISTS_AND_APPS) || is(READS),
        Kind::AppNameTaken => is(&["create_app"]),
        Kind::HostFull => is(&["create_machine", "start_machine", "update_machine"]),
        Kind::HostDisabled => is(&["update_machine", "restart_machine"]),
        Kind::VolumeHostFull => is(&["create_machine", "extend_volume"]),
        Kind::VolumeClaimLingers => is(&["create_machine", "delete_volume"]),
        Kind::ManifestUnknown => is(&["create_machine", "update_machine"]),
        Kind::StartRace => is(&["start_machine"]),
        Kind::LeaseHeld => is(LEASED),
        Kind::AppDeleteSlow => is(&["delete_app"]),
        other => other.stage() == Stage::Reply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_compared_by_form() {
        assert!(same("/v1/apps/{app}", "/v1/apps/{name}"));
        assert!(!same("/v1/apps/{app}", "/v1/apps"));
        assert!(!same("/v1/apps/{app}/machines", "/v1/apps/{app}/volumes"));
    }

    #[test]
    fn every_kind_that_befalls_calls_befalls_one_that_is_made() {
        let of_calls = [Stage::Reply, Stage::View, Stage::Call];
        for kind in Kind::ALL.iter().filter(|it| of_calls.contains(&it.stage())) {
            assert!(call::ALL.iter().any(|it| befalls(*kind, Some(it.name))), "{}", kind.name());
        }
    }
}
