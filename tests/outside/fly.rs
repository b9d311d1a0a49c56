//! Answers of the Machines API: bodies of successes and of refusals.

use std::time::Duration;

use hangar::{
    fly::{
        Error, Refusal,
        call::{self, Call, Route},
        decode::Answer,
        wire::{
            App, Apps, Executed, ExtendedVolume, Machine, OrgMachines, OrgVolumes, Regions,
            SecretsUpdated, Snapshot, Started, Volume, Waited,
        },
    },
    retry::chain,
};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

/// What must never come out, whatever body it stands in.
const SECRET: &str = "fm2_canary/\"of\\ours\"<&>";
const ROUTES: [&Route; 6] = [
    &call::GET_APP,
    &call::CREATE_APP,
    &call::GET_MACHINE,
    &call::CREATE_MACHINE,
    &call::UPDATE_MACHINE,
    &call::DELETE_APP,
];
const STATUSES: [u16; 14] = [400, 401, 402, 403, 404, 408, 409, 412, 418, 422, 429, 500, 502, 503];

/// Reads a body as everything that it could be. The first byte chooses call and status of the refusal, the second where the
/// secret is put.
///
/// # Panics
/// If a property does not hold.
pub(crate) fn check(bytes: &[u8]) {
    let [choice, place, body @ ..] = bytes else { return };
    for named in [read::<App>(body).map(|it| it.name), read::<Machine>(body).map(|it| it.id)] {
        assert!(named.is_none_or(|it| !it.is_empty()), "an answer about nothing");
    }
    for list in [
        read::<Vec<Machine>>(body).map(|it| it.into_iter().map(|it| it.id).collect::<Vec<_>>()),
        read::<OrgMachines>(body).map(|it| it.machines.into_iter().map(|it| it.id).collect()),
    ] {
        assert!(
            list.is_none_or(|it| it.iter().all(|id| !id.is_empty())),
            "a machine without an id"
        );
    }
    for list in [read::<Vec<Volume>>(body), read::<OrgVolumes>(body).map(|it| it.volumes)] {
        assert!(
            list.is_none_or(|it| it.iter().all(|it| !it.id.is_empty())),
            "a volume without an id"
        );
    }
    read::<Apps>(body);
    read::<Volume>(body);
    read::<ExtendedVolume>(body);
    read::<Vec<Snapshot>>(body);
    read::<SecretsUpdated>(body);
    read::<Regions>(body);
    read::<Executed>(body);
    read::<Started>(body);
    read::<Waited>(body);
    <() as Answer>::read(body).expect("anything is fine");
    refused(*choice, *place, body);
}

/// Reads a body; what was read is written such that it is read again alike, and an error tells a place and no value.
fn read<T: Answer + Serialize>(body: &[u8]) -> Option<T> {
    match T::read(body) {
        Ok(answer) => {
            let written = serde_json::to_vec(&answer).expect("an answer is JSON");
            if let Ok(again) = T::read(&written) {
                let again = serde_json::to_vec(&again).expect("an answer is JSON");
                assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&written));
            }
            Some(answer)
        }
        Err(at) => {
            if let Ok(value) = serde_json::from_slice::<Value>(body) {
                assert!(!quotes(&at, &value), "`{at}` quotes a value of the body");
            }
            None
        }
    }
}

/// Whether a place has a text of the body in it that is not also the name of a field.
fn quotes(at: &str, value: &Value) -> bool {
    let (mut todo, mut texts, mut names) = (vec![value], Vec::new(), Vec::new());
    while let Some(value) = todo.pop() {
        match value {
            Value::String(text) if text.len() >= 12 => texts.push(text.as_str()),
            Value::Array(items) => todo.extend(items),
            Value::Object(fields) => {
                names.extend(fields.keys().map(String::as_str));
                todo.extend(fields.values());
            }
            _ => {}
        }
    }
    let own = |text: &&&str| !names.iter().any(|name| name.contains(**text)) && at.contains(**text);
    texts.iter().any(|text| own(&text))
}

/// A refusal with a secret somewhere in its body: one line for a log, without it.
fn refused(choice: u8, place: u8, body: &[u8]) {
    let at = usize::from(place) * body.len() / 255;
    let mut with = body[..at].to_vec();
    with.extend_from_slice(SECRET.as_bytes());
    with.extend_from_slice(&body[at..]);
    let route = ROUTES[usize::from(choice) % ROUTES.len()];
    let status = STATUSES[usize::from(choice) / ROUTES.len() % STATUSES.len()];
    let status = StatusCode::from_u16(status).expect("a status");
    // Broken by what no log line has; and as Go writes it, in a body of another shape than Fly's.
    let (start, end) = SECRET.split_at(usize::from(place) % 10);
    let broken = format!("{start}\0{end}");
    let go = SECRET.replace('\\', "\\\\").replace('"', "\\\"");
    let go = go.replace('<', "\\u003c").replace('&', "\\u0026").replace('>', "\\u003e");
    let odd = format!("{{\"error\": {{\"why\": \"{go}\"}}}}");
    for body in [body, &with, broken.as_bytes(), odd.as_bytes()] {
        let call = Call { route, app: Some("hgr-a".to_owned()), object: None };
        let after = Some(Duration::from_secs(u64::from(place)));
        let error = Error::refused(
            call,
            Refusal { status, request_id: Some("01F"), after, body, hide: &[SECRET] },
        );
        let shown = format!("{error} {} {:?} {:?}", chain(&error), error, error.reason);
        assert!(!shown.contains(SECRET), "the secret shows: {shown}");
        // Nothing else is in those two, so not even a part may be.
        let whole = body == broken.as_bytes() || body == odd.as_bytes();
        assert!(!(whole && shown.contains("canary")), "a part of it shows: {shown}");
        let text = error.text();
        assert!(!text.contains(|c: char| c.is_control()), "not one line: {text:?}");
        assert!(text.chars().count() <= 501, "not cut");
        assert!(!error.kind().is_empty());
        assert_eq!(error.status(), Some(status));
        let _any = (error.retry(), error.ambiguous(), error.is_gone());
        assert!(!(error.is_gone() && status != StatusCode::NOT_FOUND), "gone by {status}");
    }
}
