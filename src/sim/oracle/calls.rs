//! The rules about calls that change something: the intent is durable before the call, what is destroyed is known by its
//! id, and nothing is destroyed on an old view. It must never judge an answer.

use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value;

use crate::{
    api::{bay::Bay, environment::Environment, meta::Resource as _},
    clock::Timestamp,
    local::census::Machine,
    sim::{careless, oracle::facts::Facts, wire::Exchange},
};

/// 8: how old the last complete list may be when something is destroyed.
const LIST_AGE_MAX: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);
/// 6: how long after one was made, whose answer may have been lost, no other is made.
const LATE: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);
/// 7: how many may lose something within how long, and what share of all where that is more.
const LOST_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);
const LOST_MAX: usize = 5;
const LOST_SHARE: usize = 5;
/// 11: how often the same call may be refused within how long.
const REFUSED_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);
const REFUSED_MAX: usize = 20;

impl Facts {
    /// Counts a call by its name.
    pub(super) fn number(&mut self, request: &Request<Bytes>) {
        let route = careless::route(request.method(), request.uri().path());
        if let Some(route) = route {
            *self.calls.entry(route.name).or_default() += 1;
        }
    }

    /// A call that changes something is about to be sent.
    pub(super) fn call(&mut self, what: &str, request: &Request<Bytes>, now: Timestamp) {
        self.writes += 1;
        let owner = self.subject(request);
        *self.writes_by.entry(owner).or_default() += 1;
        if request.method() == Method::DELETE {
            self.old_view(what, now);
        }
        self.claim_call(request);
        // What an environment adds is told to its machine, and to no other: rule 23.
        if !["/secrets", "/exec"].iter().any(|it| request.uri().path().ends_with(it)) {
            self.check_text(what, &String::from_utf8_lossy(request.body()));
        }
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (request.method().as_str(), parts.as_slice()) {
            ("POST", ["apps"]) => self.creates_app(request.body()),
            ("DELETE", ["apps", app]) => {
                self.deletes_app(app);
                self.loses(app, now);
            }
            ("POST", ["apps", app, "machines"]) => {
                self.creates(app, "machine", now, |it| {
                    it.status.machine.as_ref().is_some_and(|it| it.intended_at.is_some())
                });
            }
            ("POST", ["apps", app, "volumes"]) => {
                self.creates(app, "volume", now, |it| it.status.volume_intended_at.is_some());
            }
            ("POST", ["apps", app, "machines", id, ..]) => self.changes_machine(app, id),
            ("DELETE", ["apps", app, "machines", id]) => {
                self.destroys_machine(app, id);
                self.loses(app, now);
            }
            ("DELETE", ["apps", app, "volumes", id]) => self.destroys_volume(app, id),
            (_, _) => {}
        }
    }

    /// The environment that a call is about.
    fn subject(&self, request: &Request<Bytes>) -> String {
        let named =
            request.uri().path().strip_prefix("/v1/apps/").and_then(|it| it.split('/').next());
        let created = || {
            let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        self.owner(&named.map_or_else(created, str::to_owned))
    }

    /// A call came back, or did not.
    pub(super) fn called(&mut self, exchange: &Exchange<'_>, now: Timestamp) {
        let path = exchange.request.uri().path();
        if exchange.status() == Some(429) {
            self.rate_limited += 1;
        }
        if exchange.request.method() == Method::GET {
            if path.ends_with("/machines")
                && path.contains("/orgs/")
                && exchange.status() == Some(200)
            {
                self.listed_at = Some(now);
            }
            let machines = self.census.machines.iter().map(|(id, it)| (id, it.app.as_str()));
            self.shown.answered(exchange, machines, now);
            return;
        }
        self.commanded(exchange);
        if exchange.status().is_some_and(|it| (400..500).contains(&it)) {
            self.refuses(exchange.what, now);
        }
        if let Some(under_way) = self.creating.get_mut(path) {
            *under_way = under_way.saturating_sub(1);
        }
    }

    fn old_view(&mut self, what: &str, now: Timestamp) {
        if self.listed_at.is_none_or(|at| now > at + LIST_AGE_MAX) {
            self.violation(format!(
                "8: {what} although the last list was answered {:?}",
                self.listed_at
            ));
        }
    }

    fn bay_of(&self, app: &str) -> Option<&Bay> {
        self.bays.values().find(|it| it.spec.app == app)
    }

    fn creates_app(&mut self, body: &Bytes) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let word = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (name, network) = (word("name"), word("network"));
        match self.bay_of(name) {
            None => self.violation(format!("15: app {name} is made and no bay says so")),
            Some(bay) if bay.spec.network != network || network.is_empty() => {
                let what = format!("20: app {name} is made on network `{network}`");
                self.violation(what);
            }
            Some(_) => {}
        }
    }

    fn creates(
        &mut self,
        app: &str,
        thing: &'static str,
        now: Timestamp,
        intended: impl Fn(&Bay) -> bool,
    ) {
        if thing == "machine" {
            self.beside_another(app);
        }
        let is_there = match thing {
            "machine" => {
                let ours = |it: &Machine| it.metadata.contains_key("hangar_bay");
                self.census.machines.values().any(|it| it.app == app && ours(it))
            }
            _ => self.census.volumes.values().any(|it| it.app == app && it.destroy_at.is_none()),
        };
        let made_at = self.made.get(&(app.to_owned(), thing)).copied();
        if is_there && made_at.is_some_and(|at| now < at + LATE) {
            self.violation(format!("6: a {thing} is made in {app} just after another one"));
        }
        let path = format!("/v1/apps/{app}/{thing}s");
        let under_way = self.creating.entry(path).or_default();
        *under_way += 1;
        if *under_way > 1 {
            self.violation(format!("6: two creates of a {thing} in {app} at once"));
        }
        if !self.bay_of(app).is_some_and(intended) {
            self.violation(format!("15: a {thing} is made in {app} and its bay does not say so"));
        }
    }

    fn deletes_app(&mut self, app: &str) {
        let deleting = self.bay_of(app).is_some_and(|bay| {
            let uid = bay.spec.environment_ref.as_ref().map(|it| &it.uid);
            let of = |it: &Environment| Some(&it.metadata.uid) == uid && it.is_deleting();
            bay.is_deleting() || self.environments.values().any(of)
        });
        if !deleting {
            let owner = self.owner(app);
            self.violation(format!("4: app {app} of {owner} is deleted and nobody ordered it"));
        }
    }

    /// 7: what a list lacks is not made again while it is there, unless reads apart in time deny it too.
    fn beside_another(&mut self, app: &str) {
        let rests = |it: &&Machine| {
            it.app == app
                && matches!(it.state, "started" | "stopped" | "suspended")
                && !it.promised
                && self.had.contains(&it.id)
                && !self.given_up.contains(&it.id)
                && !self.shown.is_proven_absent(&it.id)
        };
        if let Some(machine) = self.census.machines.values().find(rests) {
            let what = format!("7: a machine is made in {app}, and {} is there", machine.id);
            self.violation(what);
        }
    }

    /// 4: what is not hangar's is not changed either.
    fn changes_machine(&mut self, app: &str, id: &str) {
        let Some((uid, _)) = self.machines.get(id) else { return };
        if self.bay_of(app).is_some_and(|it| it.metadata.uid != *uid) {
            self.violation(format!("4: machine {id} in {app} is changed and is nobody's we know"));
        }
    }

    /// 7: not many lose something at once, unless a person says so.
    fn loses(&mut self, app: &str, now: Timestamp) {
        let bound = |it: &Bay| it.spec.environment_ref.is_some() && !it.is_deleting();
        if self.bay_of(app).is_some_and(|it| !bound(it)) {
            // It is nobody's, or was never anybody's who served in it.
            return;
        }
        self.lost.retain(|_, at| now < *at + LOST_WITHIN);
        self.lost.insert(app.to_owned(), now);
        let count = self.lost.len();
        if !self.lifted && count > LOST_MAX.max(self.environments.len() / LOST_SHARE) {
            self.violation("7: more lose something within a minute than may".to_owned());
        }
    }

    /// 11: what is refused is not asked for again and again.
    fn refuses(&mut self, what: &str, now: Timestamp) {
        let times = self.refused.entry(what.to_owned()).or_default();
        times.retain(|at| now < *at + REFUSED_WITHIN);
        times.push(now);
        if times.len() > REFUSED_MAX {
            self.violation(format!("11: {what} is asked for again and again"));
        }
    }

    fn destroys_machine(&mut self, app: &str, id: &str) {
        let Some(bay) = self.bay_of(app) else {
            return self
                .violation(format!("4: machine {id} is destroyed in {app}, which is no bay's"));
        };
        let machine = bay.status.machine.as_ref();
        let recorded = machine.is_some_and(|it| it.id.as_deref() == Some(id) && it.destroying);
        let superseded = self
            .machines
            .get(id)
            .is_some_and(|(uid, epoch)| *uid == bay.metadata.uid && *epoch < bay.status.epoch);
        if !recorded && !superseded {
            self.violation(format!(
                "4: machine {id} is destroyed in {app} and that is not recorded there"
            ));
        }
    }

    fn destroys_volume(&mut self, app: &str, id: &str) {
        let recorded = self.bay_of(app).is_some_and(|bay| {
            let volume = bay.status.volume.as_ref();
            let own = volume.is_some_and(|it| it.id == id && it.discarded_at.is_some());
            own || bay.status.stray.as_ref().is_some_and(|it| it.id == id)
        });
        if !recorded {
            self.violation(format!(
                "4: volume {id} is destroyed in {app} and that is not recorded there"
            ));
        }
    }
}
