//! What Fly's answers showed hangar of a machine, right or wrong: whoever was told by a complete list, and by two reads, apart in
//! time, that it is not there, may believe it. It must never judge what is done about that.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use serde_json::Value;

use crate::{clock::Timestamp, sim::wire::Exchange};

/// How far apart two reads are that count as two.
const APART: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

/// What was answered since a machine was last shown.
#[derive(Debug, Default)]
struct Absence {
    /// A complete list lacked it.
    listed_without: bool,
    /// The first and the last time that it, or its app, was read and not found.
    first_at: Option<Timestamp>,
    last_at: Option<Timestamp>,
}

/// What was shown, by the machine's id.
#[derive(Debug, Default)]
pub(super) struct Shown(BTreeMap<String, Absence>);

impl Shown {
    /// Whether a complete list and two reads have said since it was last shown that it is not there.
    pub(super) fn is_proven_absent(&self, machine: &str) -> bool {
        self.0.get(machine).is_some_and(|it| {
            let apart = it.first_at.zip(it.last_at).is_some_and(|(a, b)| b >= a + APART);
            it.listed_without && apart
        })
    }

    /// Takes in an answer to a read. `machines` are all that Fly has, with their apps.
    pub(super) fn answered<'a>(
        &mut self,
        exchange: &Exchange<'_>,
        machines: impl Iterator<Item = (&'a String, &'a str)>,
        now: Timestamp,
    ) {
        let Some(answer) = exchange.answer.filter(|_| exchange.request.method() == Method::GET)
        else {
            return;
        };
        let uri = exchange.request.uri();
        let path = uri.path().trim_start_matches("/v1/");
        let ok = answer.status() == StatusCode::OK;
        let body = String::from_utf8_lossy(answer.body());
        let complete = ok && path.ends_with("/machines") && path.starts_with("orgs/") && {
            let changes_only = uri.query().is_some_and(|it| it.contains("updated_after"));
            !changes_only && lacks_no_region(&body)
        };
        for (id, app) in machines {
            if ok && body.contains(id.as_str()) {
                self.0.remove(id);
                continue;
            }
            let of_it = [format!("apps/{app}"), format!("apps/{app}/machines/{id}")];
            let not_found =
                answer.status() == StatusCode::NOT_FOUND && of_it.iter().any(|it| it == path);
            let listed_without = ok && path == format!("apps/{app}/machines");
            let not_found = not_found || listed_without;
            if complete || not_found {
                let absence = self.0.entry(id.clone()).or_default();
                absence.listed_without |= complete;
                if not_found {
                    absence.first_at.get_or_insert(now);
                    absence.last_at = Some(now);
                }
            }
        }
    }
}

/// Whether a list says that it lacks no region, and has no further page.
fn lacks_no_region(body: &str) -> bool {
    let list: Value = serde_json::from_str(body).unwrap_or_default();
    let nothing = |name: &str| {
        let field = list.get(name);
        field.is_none_or(|it| it.is_null() || *it == "" || it.as_array().is_some_and(Vec::is_empty))
    };
    list.is_object() && nothing("error_regions") && nothing("next_cursor")
}
