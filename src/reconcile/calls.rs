//! Every call to Fly, as a line of the reconciliation log and as metrics. It must never hold up the call.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::clock::Clock;
use crate::fly::observer::{CallRecord, Observer};
use crate::reconcile::index::Index;
use crate::telemetry::{
    journal::{Journal, Line, Outcome, milliseconds},
    metrics::Metrics,
};

/// Writes down what the client tells it. Made before the client, which is made before the controller.
#[derive(Clone)]
pub struct Calls {
    pub(crate) index: Arc<RwLock<Index>>,
    clock: Arc<dyn Clock>,
    journal: Journal,
    metrics: Metrics,
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

impl Calls {
    /// Writes to these.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, journal: Journal, metrics: Metrics) -> Self {
        Self { index: Arc::default(), clock, journal, metrics }
    }
}

impl Observer for Calls {
    fn called(&self, record: &CallRecord<'_>) {
        let call = record.call;
        let method = match call.route.method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            _ => "OTHER",
        };
        // An app that is made is the call's object; its path names none yet.
        let app = match call.route.name {
            "create_app" => &call.object,
            _ => &call.app,
        };
        let owner = app
            .as_ref()
            .and_then(|app| self.index.read().unwrap_or_else(PoisonError::into_inner).of_app(app));
        // What is asked about the whole organisation is for nobody in particular.
        let kind = owner.as_ref().map_or("", |it| it.kind.info().plural);
        let route = (method, call.route.template);
        self.metrics.fly_request(kind, route, record.outcome, record.took);
        let fine = record.outcome == "ok";
        if fine && call.app.is_none() && !call.route.changes() {
            // The list of the whole organisation, once a second: a log of those would hide the rest.
            return;
        }
        // What is looked for and not there is an answer: a deletion ends with it.
        let absent = record.status.is_some_and(|it| it.as_u16() == 404) && !call.route.changes();
        let object = match (owner, app) {
            (Some(key), _) => key.to_string(),
            (None, Some(app)) => format!("app/{app}"),
            (None, None) => "fly".to_owned(),
        };
        self.journal.record(Line {
            at: self.clock.now(),
            object,
            action: format!("fly {method} {}", call.route.template),
            outcome: if fine || absent { Outcome::Ok } else { Outcome::Failed },
            duration_ms: Some(milliseconds(record.took)),
            message: match record.status {
                Some(status) if !fine => {
                    format!("{call}: {} ({})", status.as_u16(), record.outcome)
                }
                None if !fine => format!("{call}: {}", record.outcome),
                Some(_) | None => call.to_string(),
            },
            request_id: record.request_id.map(str::to_owned),
        });
    }
}
