//! The catalogue of Fly's refusals, row by row. It must never hold a text that was not seen or documented.

use super::*;
use crate::fly::call::{self, Route};

fn call(route: &'static Route) -> Call {
    Call { route, app: Some("hgr-1".to_owned()), object: Some("m1".to_owned()) }
}

fn refuse(route: &'static Route, status: u16, body: &str) -> Error {
    let status = StatusCode::from_u16(status).unwrap();
    let refusal = Refusal {
        status,
        request_id: Some("01J-ams"),
        after: None,
        body: body.as_bytes(),
        hide: &["fm2_secret", "line\nbreak"],
    };
    Error::refused(call(route), refusal)
}

/// Status, code, text.
fn plain(status: u16, code: &str, text: &str) -> Reason {
    refused_start(status, &serde_json::json!({ "error": text, "status": code }).to_string())
}

fn refused_start(status: u16, body: &str) -> Reason {
    refuse(&call::START_MACHINE, status, body).reason
}

const REGION: Reason = Reason::Capacity { scope: Scope::Region };
const HOST: Reason = Reason::Capacity { scope: Scope::Host };
const VOLUME: Reason = Reason::Capacity { scope: Scope::Volume };
const GOVERNOR: Reason = Reason::Capacity { scope: Scope::Governor };

/// The reason for each status and text, as JSON and plain.
fn read_as(rows: &[(u16, &str, Reason)]) {
    for (status, text, reason) in rows {
        assert_eq!(plain(*status, "", text), *reason, "{status} {text}");
        if !text.is_empty() {
            assert_eq!(refused_start(*status, text), *reason, "{status} {text}, not JSON");
        }
    }
}

#[test]
fn a_409_is_told_apart_by_its_text() {
    read_as(&[
        (
            409,
            "already_exists: unique machine name violation, machine ID 3d8d1 already exists with name \"p\"",
            Reason::MachineNameTaken { id: Some("3d8d1".to_owned()) },
        ),
        (
            409,
            "aborted: could not reserve resource for machine: insufficient CPUs available to fulfill request on the current host",
            HOST,
        ),
        (
            409,
            "aborted: could not reserve resource for machine: insufficient memory available to fulfill request on the current host",
            HOST,
        ),
        (
            409,
            "aborted: insufficient resources available to fulfill request: insufficient memory available to fulfill request",
            HOST,
        ),
        (409, "aborted: insufficient IPs available to fulfill request", HOST),
        (409, "aborted: no capacity", REGION),
        (409, "deploys to this host are temporarily disabled, try later", HOST),
        (409, "governor policy blocked start", GOVERNOR),
        (409, "aborted: machine update failed due to concurrent update", Reason::ConcurrentUpdate),
        (409, "current_version does not match the machine's version", Reason::VersionMismatch),
        (409, "", Reason::Conflict),
        (409, "something new", Reason::Conflict),
    ]);
}

#[test]
fn a_412_is_told_apart_by_its_text() {
    read_as(&[
        (412, "machine is replacing: concurrent update in progress", Reason::ConcurrentUpdate),
        (
            412,
            "failed_precondition: unable to start machine from current state: 'created'",
            Reason::StateRace,
        ),
        (
            412,
            "failed_precondition: machine getting replaced, refusing to start",
            Reason::StateRace,
        ),
        (412, "failed_precondition: machine still active, refusing to start", Reason::StateRace),
        (
            412,
            "failed_precondition: unable to destroy machine, not currently stopped",
            Reason::StillRunning,
        ),
        (
            412,
            "failed_precondition: volume is currently bound to machine: 3d8d1",
            Reason::VolumeBound { machine: Some("3d8d1".to_owned()) },
        ),
        (
            412,
            "failed_precondition: volume already claimed by machine 3d8d1",
            Reason::VolumeClaimed { machine: Some("3d8d1".to_owned()) },
        ),
        (
            412,
            "failed_precondition: volume already claimed by machine \0\0\0\0",
            Reason::VolumeClaimed { machine: None },
        ),
        (
            412,
            "failed_precondition: snapshot is already scheduled at 2026-10-11",
            Reason::SnapshotRunning,
        ),
        (
            412,
            "insufficient resources to create new machine with existing volume id 'vol_1'",
            VOLUME,
        ),
        (412, "min_secrets_version 7 is not here yet", Reason::SecretsBehind),
        (412, "machine_version is stale", Reason::VersionMismatch),
        (412, "something new", Reason::Precondition),
    ]);
}

#[test]
fn a_422_is_told_apart_by_its_text() {
    read_as(&[
        (422, "Validation failed: Name has already been taken", Reason::NameTaken),
        (422, "uniqueness constraint violated", Reason::NameTaken),
        (
            422,
            "Validation failed: Name under 63 chars using numbers, lowercase letters and dashes",
            Reason::NameInvalid,
        ),
        (422, "could not find a candidate host", REGION),
        (
            422,
            "Your organization has reached its machine limit. Please contact billing@fly.io",
            Reason::MachineLimit,
        ),
        (
            422,
            "To create more than 1 machine per app please add a payment method.",
            Reason::PaymentNeeded,
        ),
        (422, "something new", Reason::BadRequest),
    ]);
}

#[test]
fn other_refusals_are_read_by_number_unless_the_text_says_more() {
    read_as(&[
        (400, "invalid_argument: … value must be inside range [1s, 1m0s]", Reason::BadRequest),
        (400, "invalid stop_config.timeout, cannot exceed 5 minutes", Reason::BadRequest),
        (
            400,
            "json: cannot unmarshal number into Go value of type main.stopRequest",
            Reason::BadRequest,
        ),
        (400, "volume not found", Reason::VolumeNotFound),
        (400, "authorization: request doesn't contain org_slug", Reason::BadRequest),
        (401, "Authenticate: token validation error", Reason::Unauthenticated),
        (403, "unauthorized", Reason::ForeignApp),
        (403, "token may not", Reason::Forbidden),
        (404, "app not found", Reason::AppNotFound),
        (404, "machine not found", Reason::NotFound { what: Missing::Machine }),
        (404, "", Reason::NotFound { what: Missing::Machine }),
        (404, "lease not found", Reason::NotFound { what: Missing::Lease }),
        (404, "404 page not found", Reason::NotFound { what: Missing::Unclear }),
        (408, "deadline_exceeded: could not reach flyd", Reason::DeadlineExceeded),
        (408, "", Reason::DeadlineExceeded),
        (429, "rate limit exceeded", Reason::RateLimited { after: None }),
        (400, "unknown: MANIFEST_UNKNOWN: manifest unknown", Reason::ManifestUnknown),
        (500, "unknown: MANIFEST_UNKNOWN: manifest unknown", Reason::ManifestUnknown),
        (400, "no capacity", REGION),
        (500, "aborted: no capacity", Reason::Server),
        (500, "insufficient CPUs available", Reason::Server),
        (502, "", Reason::Server),
        (503, "rate limit exceeded", Reason::Server),
        (302, "", Reason::Refused),
        (418, "", Reason::Refused),
    ]);
}

#[test]
fn a_code_outranks_number_and_text() {
    let taken = "Validation failed: Name has already been taken";
    let rows: &[(u16, &str, &str, Reason)] = &[
        (422, "insufficient_capacity", "could not find a candidate host", REGION),
        (503, "insufficient_capacity", "out of capacity", REGION),
        (412, "volume_placement_capacity", "insufficient resources to create", VOLUME),
        (422, "name_taken", taken, Reason::NameTaken),
        (409, "name_taken", "no capacity", Reason::NameTaken),
        // Any other code means that the words are not about room.
        (409, "unknown", "aborted: no capacity", Reason::Conflict),
        (409, "unknown", "insufficient CPUs available", Reason::Conflict),
        (422, "unknown", "could not find a candidate host", Reason::BadRequest),
        // About everything else the words still tell.
        (
            409,
            "unknown",
            "aborted: machine update failed due to concurrent update",
            Reason::ConcurrentUpdate,
        ),
    ];
    for (status, code, text, reason) in rows {
        assert_eq!(plain(*status, code, text), *reason, "{status} {code} {text}");
    }
}

#[test]
fn a_held_lease_is_read_from_the_lease_style_body() {
    let at = "2026-10-11T09:08:07Z";
    let body = format!(
        r#"{{"status":"error","message":"machine ID 3d8d1 lease currently held by u@tokens.fly.io, expires at {at}"}}"#
    );
    let error = refuse(&call::START_MACHINE, 409, &body);
    assert_eq!(error.reason, Reason::LeaseHeld { until: Some(at.parse().unwrap()) });
    assert!(error.text().starts_with("machine ID 3d8d1 lease"));
    let unsaid = r#"{"status":"error","message":"lease currently held by someone"}"#;
    assert_eq!(refused_start(409, unsaid), Reason::LeaseHeld { until: None });
}

#[test]
fn a_wait_that_timed_out_says_where_the_machine_is() {
    let text =
        "deadline_exceeded: machine failed to reach desired state, started, currently stopped";
    let error = refuse(&call::WAIT_MACHINE, 408, text);
    assert_eq!(error.reason, Reason::WaitTimeout { currently: Some("stopped".to_owned()) });
    assert!(!error.ambiguous());
    let error = refuse(&call::CREATE_MACHINE, 408, text);
    assert_eq!(error.reason, Reason::DeadlineExceeded);
    assert!(error.ambiguous());
}

#[test]
fn a_404_is_about_what_the_path_names() {
    let rows: &[(&'static Route, &str, Reason, bool)] = &[
        (&call::GET_APP, "", Reason::AppNotFound, true),
        (&call::GET_VOLUME, "", Reason::NotFound { what: Missing::Volume }, true),
        (&call::GET_VOLUME, "volume not found", Reason::NotFound { what: Missing::Volume }, true),
        (&call::CREATE_MACHINE, "volume not found", Reason::VolumeNotFound, false),
        (&call::GET_MACHINE, "app not found", Reason::AppNotFound, true),
        (&call::GET_MACHINE, "<html>not here", Reason::NotFound { what: Missing::Unclear }, false),
        (&call::GET_MACHINE, "lease not found", Reason::NotFound { what: Missing::Lease }, false),
        (&call::ORG_MACHINES, "", Reason::NotFound { what: Missing::Unclear }, false),
    ];
    for (route, text, reason, gone) in rows {
        let error = refuse(route, 404, text);
        assert_eq!(error.reason, *reason, "{} {text}", route.name);
        assert_eq!(error.is_gone(), *gone, "{} {text}", route.name);
    }
}

#[test]
fn only_a_change_can_have_happened_unseen() {
    for (status, open) in [(400, false), (408, true), (409, false), (429, false), (502, true)] {
        assert_eq!(refuse(&call::CREATE_MACHINE, status, "").ambiguous(), open, "{status}");
        assert!(!refuse(&call::GET_MACHINE, status, "").ambiguous(), "{status}");
    }
    let unread = Reason::Decode { at: "id".to_owned() };
    assert!(Error::new(call(&call::CREATE_MACHINE), unread.clone()).ambiguous());
    assert!(!Error::new(call(&call::GET_MACHINE), unread).ambiguous());
}

#[test]
fn an_error_says_what_was_tried_on_what_and_what_fly_said() {
    let error = refuse(&call::START_MACHINE, 409, r#"{"error":"aborted: no capacity"}"#);
    assert_eq!(
        error.to_string(),
        "cannot start machine m1 in app hgr-1: Fly answered 409: aborted: no capacity (request 01J-ams)"
    );
    let error = refuse(&call::START_MACHINE, 502, "");
    assert_eq!(
        error.to_string(),
        "cannot start machine m1 in app hgr-1: Fly answered 502 Bad Gateway (request 01J-ams)"
    );
    let call = Call { route: &call::GET_APP, app: Some("hgr-1".to_owned()), object: None };
    let error = Error::new(call, Reason::AppNotFound);
    assert_eq!(error.to_string(), "cannot read app hgr-1: app_not_found");
}

#[test]
fn a_text_is_one_short_line_without_secrets() {
    let long = format!("a\r\nb\u{1b}[31m fm2_secret {}", "é".repeat(1_000));
    let error = refuse(&call::EXEC, 400, &long);
    assert!(error.text().starts_with("a  b[31m [hidden] éé"), "{}", error.text());
    assert_eq!(error.text().chars().count(), 501);
    // A body of another shape is kept with its escapes, and the secret may be in them.
    let odd = r#"{"error":{"why":"line\nbreak is wrong"}}"#;
    assert_eq!(refuse(&call::EXEC, 400, odd).text(), r#"{"error":{"why":"[hidden] is wrong"}}"#);
    let usual = r#"{"error":"line\nbreak is wrong"}"#;
    assert_eq!(refuse(&call::EXEC, 400, usual).text(), "[hidden] is wrong");
}

#[test]
fn a_secret_is_hidden_however_the_body_spells_it() {
    let refused = |body: &str, secret: &str| {
        let call = Call { route: &call::SET_SECRETS, app: None, object: None };
        let refusal = Refusal {
            status: StatusCode::BAD_REQUEST,
            request_id: None,
            after: None,
            body: body.as_bytes(),
            hide: &[secret],
        };
        Error::refused(call, refusal).text().into_owned()
    };
    // As Go writes JSON, in a body of another shape than Fly's.
    let go = r#"{"error":{"why":"a\u0026b\u003cc is bad"}}"#;
    assert_eq!(refused(go, "a&b<c"), r#"{"error":{"why":"[hidden] is bad"}}"#);
    // Broken by characters that the line loses.
    assert_eq!(refused("hun\0ter2 is bad", "hunter2"), "[hidden] is bad");
    assert_eq!(refused(r#"{"error":"hun\u0007ter2 is bad"}"#, "hunter2"), "[hidden] is bad");
    // With a line break, which the line has as a space.
    assert_eq!(refused("two\r\nlines is bad", "two\r\nlines"), "[hidden] is bad");
    assert_eq!(refused("two  lines is bad", "two\r\nlines"), "[hidden] is bad");
}

#[test]
fn a_secret_is_hidden_in_whatever_form_it_is_repeated() {
    let secret = "a \"long/secret\" = Zq7XwK2mVt9R\nline+2";
    let json = |it: &str| serde_json::to_string(it).unwrap();
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret);
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let url = form.replace('+', "%20");
    for repeated in [secret.to_owned(), json(secret), json(&json(secret)), base64, form, url] {
        let refusal = Refusal {
            status: StatusCode::CONFLICT,
            request_id: None,
            after: None,
            body: repeated.as_bytes(),
            hide: &[],
        };
        let error = Error::refused(call(&call::CREATE_MACHINE), refusal);
        for error in [
            Error::refused(call(&call::CREATE_MACHINE), Refusal { hide: &[secret], ..refusal }),
            error.hiding([secret, "409"]),
        ] {
            let told = error.to_string();
            assert!(told.contains("[hidden]") && !told.contains("Zq7XwK2mVt9R"), "{told}");
            assert!(!told.contains("U2VjcmV0") && !told.contains("WnE3WHdL"), "{told}");
            assert!(told.contains("answered 409"), "{told}");
        }
    }
}

#[test]
fn a_secret_is_hidden_before_a_text_is_cut() {
    let secret = "s3cret".repeat(3_000);
    let error = refuse(&call::CREATE_MACHINE, 400, &format!("{}{secret}", "x".repeat(490)));
    let told = error.hiding([secret.as_str()]).to_string();
    assert!(told.contains("xx[hidden]") && !told.contains("s3c"), "{told}");
    let event = crate::fly::printable(
        &format!("no\u{1b}such\nimage {}{secret}", "é".repeat(470)),
        &[&secret],
    );
    assert!(event.starts_with("nosuch image é") && event.ends_with("é[hidden]"), "{event}");
    assert_eq!(crate::fly::printable(&"é".repeat(5_000), &[]).chars().count(), 501);
    let too_long = refuse(&call::CREATE_MACHINE, 400, &secret.repeat(4));
    assert_eq!(too_long.text(), "72000 bytes, too many to be read");
}

#[test]
fn a_rate_limit_says_when_to_come_back() {
    let limited = |after| Reason::RateLimited { after };
    assert_eq!(limited(None).retry(), Retry::After(Duration::from_secs(1)));
    let later = Duration::from_secs(7);
    assert_eq!(limited(Some(later)).retry(), Retry::After(later));
}

#[test]
fn errors_stay_small() {
    assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
}
