//! Defaults and rules of the core kinds. It must never put a secret's value into a message.

use base64::Engine as _;

use crate::api::{
    admit::{Findings, ViolationReason},
    core::{BAY_KEY_TYPE, Event, Secret},
    name,
};

pub(super) fn complete_secret(secret: &mut Secret) {
    for (key, text) in std::mem::take(&mut secret.string_data) {
        secret.data.insert(key, base64::engine::general_purpose::STANDARD.encode(text));
    }
    secret.type_.get_or_insert_with(|| "Opaque".to_owned());
}

pub(super) fn check_secret(secret: &Secret, old: Option<&Secret>, findings: &mut Findings) {
    for key in secret.data.keys() {
        let field = format!("data.{key}");
        match secret.value(key) {
            None => findings
                .invalid(&field, "it is not base64; write plain text into stringData instead"),
            // Keys of hangar's own are bytes.
            Some(_) if secret.type_.as_deref() == Some(BAY_KEY_TYPE) => {}
            Some(value) if value.contains(&0) || str::from_utf8(&value).is_err() => findings
                .invalid(&field, "machines get it as a variable, so it must be UTF-8 without NUL"),
            Some(_) => {}
        }
        findings.say(&field, name::label_value(key).map_err(|_| format!("`{key}` is not a key")));
    }
    let Some(old) = old else { return };
    findings.immutable("type", &old.type_, &secret.type_, "delete the secret and make it again");
    if old.immutable == Some(true) {
        findings.immutable("data", &old.data, &secret.data, "the secret was made immutable");
        findings.immutable("immutable", &old.immutable, &secret.immutable, "it was meant for good");
    }
}

pub(super) fn check_event(event: &Event, _: Option<&Event>, findings: &mut Findings) {
    if event.involved_object.name.is_empty() {
        findings.add("involvedObject.name", ViolationReason::Required, "it must be given");
    }
}
