//! The objects of the benchmark: environment `number` is `env-NNNNNNN`; its app and machine tell its number.

use base64::Engine as _;
use bytes::Bytes;
use hangar::router::feed::{Fed, Part};

/// Machine of an environment at an epoch.
pub(crate) fn machine(number: u32, epoch: u32) -> String {
    format!("{epoch:06x}{number:08x}")
}

/// App of an environment.
pub(crate) fn app(number: u32) -> String {
    format!("hgr-{number:08}x7f3")
}

fn uid(number: u32, life: u32) -> String {
    format!("{life:08x}-1111-4222-8333-{:012x}", u64::from(number) + 1)
}

/// An environment as it is stored.
pub(crate) fn environment(number: u32, life: u32, epoch: u32) -> Bytes {
    let (uid, app, machine) = (uid(number, life), app(number), machine(number, epoch));
    let bay = app.replace("hgr-", "bay-");
    format!(
        r#"{{"apiVersion":"hangar.dev/v1alpha1","kind":"Environment","metadata":{{"name":"env-{number:07}","namespace":"default","uid":"{uid}","resourceVersion":"{epoch}","generation":1}},"spec":{{"templateRef":{{"name":"node"}},"hostnames":["env-{number:07}"],"access":"Public","operatingMode":"Auto"}},"status":{{"phase":"Ready","conditions":[{{"type":"Routed","status":"True","reason":"AsDeclared"}}],"bay":{{"name":"{bay}","app":"{app}","machine":"{machine}","epoch":{epoch}}}}}}}"#
    )
    .into()
}

/// Its hostname.
pub(crate) fn hostname(number: u32, life: u32) -> Bytes {
    let uid = uid(number, life);
    format!(
        r#"{{"metadata":{{"name":"env-{number:07}"}},"spec":{{"namespace":"default","environment":"env-{number:07}","uid":"{uid}"}},"status":{{}}}}"#
    )
    .into()
}

/// Its bay's key.
pub(crate) fn key(number: u32) -> Bytes {
    let bay = app(number).replace("hgr-", "bay-");
    let key = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let key = base64::engine::general_purpose::STANDARD.encode(key.to_be_bytes());
    format!(
        r#"{{"metadata":{{"name":"{bay}","namespace":"default"}},"type":"hangar.dev/bay-key","data":{{"key":"{key}"}}}}"#
    )
    .into()
}

/// All that a source tells of so many environments.
pub(crate) fn all(count: u32) -> impl Iterator<Item = Fed> {
    let part = |part, object: fn(u32) -> Bytes| {
        let objects = (0..count).map(move |number| Fed::Apply(part, object(number)));
        std::iter::once(Fed::Init(part)).chain(objects).chain([Fed::InitDone(part)])
    };
    part(Part::Hostnames, |number| hostname(number, 1))
        .chain(part(Part::Environments, |number| environment(number, 1, 1)))
        .chain(part(Part::Secrets, key))
}
