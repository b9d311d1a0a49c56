//! Defaults and rules of the core kinds. It must never put a secret's value into a message.

use base64::Engine as _;

use crate::api::{
    admit::{Findings, ViolationReason},
    core::{BAY_KEY_TYPE, ConfigMap, Event, Secret},
    micro_time::MicroTime,
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

pub(super) fn check_config_map(
    config: &ConfigMap,
    old: Option<&ConfigMap>,
    findings: &mut Findings,
) {
    for (field, key) in config
        .data
        .keys()
        .map(|key| ("data", key))
        .chain(config.binary_data.keys().map(|key| ("binaryData", key)))
    {
        let of_key = format!("{field}.{key}");
        findings.say(&of_key, name::label_value(key).map_err(|_| format!("`{key}` is not a key")));
    }
    for (key, value) in &config.binary_data {
        let field = format!("binaryData.{key}");
        if config.data.contains_key(key) {
            findings.add(&field, ViolationReason::Duplicate, "it is in `data` too");
        }
        if base64::engine::general_purpose::STANDARD.decode(value).is_err() {
            findings.invalid(&field, "it is not base64; write text into data instead");
        }
    }
    let Some(old) = old.filter(|it| it.immutable == Some(true)) else { return };
    findings.immutable("data", &old.data, &config.data, "it was made immutable");
    findings.immutable(
        "binaryData",
        &old.binary_data,
        &config.binary_data,
        "it was made immutable",
    );
    findings.immutable("immutable", &old.immutable, &config.immutable, "it was meant for good");
}

/// Clients of the newer group say when with `eventTime` and `series`, all others with older fields; each reads its own.
pub(super) fn complete_event(event: &mut Event) {
    if let Some(first) = event.first_timestamp {
        event.event_time.get_or_insert(MicroTime(first));
    }
    if let Some(at) = event.event_time {
        event.first_timestamp.get_or_insert(at.0);
    }
    let last = event.series.as_ref().and_then(|it| it.last_observed_time).or(event.event_time);
    if let Some(last) = last {
        event.last_timestamp = event.last_timestamp.max(Some(last.0));
    }
    if let Some(series) = &event.series {
        event.count = event.count.max(series.count);
    }
}

pub(super) fn check_event(event: &Event, _: Option<&Event>, findings: &mut Findings) {
    if event.involved_object.name.is_empty() {
        findings.add("involvedObject.name", ViolationReason::Required, "it must be given");
    }
}
