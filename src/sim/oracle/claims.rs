//! The rules about claims, over everything that was ever seen: an environment has one bay, a bay one environment for ever, what is
//! written for one is never another's, and a claim restarts nothing. It must never forget a bay.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use serde_json::Value;

use crate::{
    api::{
        bay::{Bay, EnvironmentRef},
        condition::holds,
        environment::{ConditionType, Environment, OperatingMode},
        meta::Resource as _,
        pool::{WarmPool, WarmState},
        template::Template,
    },
    clock::Timestamp,
    plan::stock,
    sim::{oracle::facts::Facts, wire::Exchange},
};

/// 30: how long after a bay was claimed or fell ill its pool may not have heard of it.
const HEARD_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(5);

/// The history of bays, and what was written into machines.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The environment's uid that a bay was bound to, by the bay's.
    bound: BTreeMap<String, String>,
    /// Bays that were given up, by uid.
    ended: BTreeSet<String>,
    /// What the last command was given in each machine, as it is there.
    files: BTreeMap<String, Arc<str>>,
    /// The environments, by uid, whose file a machine ever had.
    written: BTreeMap<String, BTreeSet<String>>,
    /// Machines, and for which environment a command ended well in them that was given its file.
    told: BTreeSet<(String, String)>,
    /// Bays that run and were bound, until they serve: apps.
    fresh: BTreeSet<String>,
    /// When each bay could last be had, by uid.
    could_be_had: BTreeMap<String, Timestamp>,
    /// Bays that an environment was Ready in.
    served: BTreeSet<String>,
    pub(super) pools: BTreeMap<String, WarmPool>,
    pub(super) templates: BTreeMap<String, Template>,
}

/// The uid of the environment that a personalize file is for.
fn written_for(text: &str) -> Option<String> {
    let file: Value = serde_json::from_str(text).ok()?;
    Some(file.get("uid")?.as_str()?.to_owned())
}

/// What a command is given.
fn stdin(request: &Request<Bytes>) -> Option<String> {
    let body: Value = serde_json::from_slice(request.body()).ok()?;
    Some(body.get("stdin")?.as_str().filter(|it| !it.is_empty())?.to_owned())
}

/// App and machine of a command's call.
fn machine_of(request: &Request<Bytes>) -> Option<(&str, &str)> {
    let path = request.uri().path().strip_prefix("/v1/apps/")?.strip_suffix("/exec")?;
    path.split_once("/machines/")
}

impl Facts {
    /// What is written in machines by now.
    pub(super) fn look_into(&mut self, files: BTreeMap<String, Arc<str>>) {
        if files == self.claims.files {
            return;
        }
        for (id, text) in &files {
            if self.claims.files.get(id) != Some(text)
                && let Some(uid) = written_for(text)
            {
                self.wrote(id, uid);
            }
        }
        self.claims.files = files;
    }

    /// 23: what is written for an environment is in its own bay, and in no machine that was another's.
    fn wrote(&mut self, id: &str, uid: String) {
        let app = self.census.machines.get(id).map(|it| it.app.clone()).unwrap_or_default();
        let bay = self.bays.values().find(|it| it.spec.app == app);
        let bound = bay.and_then(|it| it.spec.environment_ref.as_ref());
        match bound {
            Some(of) if of.uid == uid => {}
            Some(of) => {
                let name = of.name.clone();
                self.violation(format!("23: what is {uid}'s is written into the bay of {name}"));
            }
            None => self
                .violation(format!("23: what is {uid}'s is written into a bay that is nobody's")),
        }
        let all = self.claims.written.entry(id.to_owned()).or_default();
        all.insert(uid);
        if all.len() > 1 {
            self.violation(format!("23: machine {id} was given the files of two environments"));
        }
    }

    /// What an unbound bay may not be sent, and what must not happen to one that is being claimed.
    pub(super) fn claim_call(&mut self, request: &Request<Bytes>) {
        let path = request.uri().path().trim_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (request.method(), parts.as_slice()) {
            (&Method::POST, ["apps", app, "secrets"]) => self.sends_secrets(app, request.body()),
            (&Method::POST, ["apps", app, "machines", id]) => self.restarts(app, id, "update"),
            (
                &Method::POST,
                ["apps", app, "machines", id, verb @ ("start" | "stop" | "suspend" | "restart")],
            ) => {
                self.restarts(app, id, verb);
            }
            (_, _) => {}
        }
    }

    /// 23: an unbound bay has nobody's secrets.
    fn sends_secrets(&mut self, app: &str, body: &Bytes) {
        let unbound =
            self.bays.values().any(|it| it.spec.app == app && it.spec.environment_ref.is_none());
        if unbound {
            let text = String::from_utf8_lossy(body).into_owned();
            self.check_text("the secrets of a bay that is nobody's", &text);
        }
    }

    /// 26: from the claim of a running bay until it serves its environment, nothing restarts the machine.
    fn restarts(&mut self, app: &str, id: &str, how: &str) {
        if !self.claims.fresh.contains(app) || self.excused.contains(app) {
            return;
        }
        let runs = self.census.machines.get(id).is_some_and(|it| it.state == "started");
        if runs {
            let owner = self.owner(app);
            self.violation(format!("26: {how} of machine {id} while {owner} claims it"));
        }
    }

    /// A command came back.
    pub(super) fn commanded(&mut self, exchange: &Exchange<'_>) {
        let Some((_, id)) = machine_of(exchange.request) else { return };
        let Some(uid) = stdin(exchange.request).and_then(|it| written_for(&it)) else { return };
        let answer = exchange.answer.filter(|it| it.status() == StatusCode::OK).map(Response::body);
        let ended = answer.and_then(|it| serde_json::from_slice::<Value>(it).ok());
        let code =
            ended.as_ref().map(|it| it.get("exit_code").and_then(Value::as_i64).unwrap_or(0));
        if code == Some(0) {
            self.claims.told.insert((id.to_owned(), uid));
        }
    }

    /// A bay as it is written, beside what it was.
    pub(super) fn claim(&mut self, old: Option<&Bay>, new: &Bay) {
        let (name, uid) = (&new.metadata.name, &new.metadata.uid);
        let before = old.and_then(|it| it.spec.environment_ref.as_ref());
        if let (Some(of), None) = (&new.spec.environment_ref, before) {
            self.binds(old, new, of);
        }
        let was_bound = self.claims.bound.get(uid);
        let is_bound = new.spec.environment_ref.as_ref().map(|it| &it.uid);
        if was_bound.is_some() && was_bound != is_bound {
            self.violation(format!("22: bay {name} was bound to another and is to {is_bound:?}"));
        }
        if !new.is_deleting() {
            if old.is_some_and(can_be_had) {
                self.claims.could_be_had.insert(uid.clone(), self.now);
            }
            if self.claims.ended.contains(uid) {
                self.violation(format!("22: bay {name} was given up and is in use again"));
            }
            return;
        }
        self.claims.fresh.remove(&new.spec.app);
        if old.is_some_and(|it| can_be_had(it) && !it.is_deleting()) {
            self.lets_go(new);
        }
        if self.claims.ended.insert(uid.clone()) {
            self.gives_up(new);
        }
    }

    /// 21, 22: a bay gets an environment that has none, and was ready, nobody's and not to go.
    fn binds(&mut self, old: Option<&Bay>, new: &Bay, of: &EnvironmentRef) {
        let name = &new.metadata.name;
        let others = self.bays.values().filter(|it| {
            it.metadata.name != *name
                && !it.is_deleting()
                && it.spec.environment_ref.as_ref().is_some_and(|it| it.uid == of.uid)
        });
        let others: Vec<_> = others.map(|it| it.metadata.name.clone()).collect();
        if !others.is_empty() {
            self.violation(format!("21: {} gets bay {name} and has {others:?}", of.name));
        }
        self.claims.bound.insert(new.metadata.uid.clone(), of.uid.clone());
        let Some(old) = old else { return };
        if old.is_deleting() || new.is_deleting() {
            self.violation(format!("22: bay {name}, which is to go, is given to {}", of.name));
        }
        let machine = old.status.machine.as_ref();
        // Fly gives what it moves to another host another version; that is seen serving before it is called Ready.
        let id = machine.and_then(|it| it.id.as_ref());
        let seen = id.is_some_and(|id| self.served.iter().any(|(it, _)| it == id));
        if old.status.available_since.is_none() || !seen {
            self.violation(format!("22: bay {name} is given to {} and was not ready", of.name));
        }
        if self.is_claimed_running(new) {
            self.claims.fresh.insert(new.spec.app.clone());
        }
    }

    /// 30: a bay that can be had goes only when as many as are wanted can be had without it, as far as its pool could know.
    fn lets_go(&mut self, bay: &Bay) {
        let Some(made_as) = &bay.spec.stock else { return };
        let pool = self.claims.pools.values().find(|it| it.metadata.uid == made_as.pool_uid);
        let Some(pool) = pool else { return };
        let wanted = usize::try_from(pool.spec.total()).unwrap_or(usize::MAX);
        let of =
            |it: &Bay| it.spec.stock.as_ref().is_some_and(|it| it.pool_uid == made_as.pool_uid);
        let lately = |it: &Bay| {
            let at = self.claims.could_be_had.get(&it.metadata.uid);
            can_be_had(it) || at.is_some_and(|at| self.now < *at + HEARD_WITHIN)
        };
        let others = self.bays.values().filter(|it| {
            it.metadata.uid != bay.metadata.uid && !it.is_deleting() && of(it) && lately(it)
        });
        let left = others.count();
        if left < wanted {
            let (name, pool) = (&bay.metadata.name, pool.metadata.name.clone());
            self.violation(format!("30: bay {name} goes and pool {pool} has {left} of {wanted}"));
        }
    }

    /// Whether it runs, of the template as it is now: then nothing of it needs to be changed.
    fn is_claimed_running(&self, bay: &Bay) -> bool {
        let Some(made_as) = &bay.spec.stock else { return false };
        let pool = self.claims.pools.values().find(|it| it.metadata.uid == made_as.pool_uid);
        let started = pool.is_some_and(|it| it.spec.warm_state() == WarmState::Started);
        let template =
            self.claims.templates.values().find(|it| it.metadata.name == made_as.template);
        let current = template
            .is_some_and(|it| stock::made_from(&it.spec) == stock::made_from(&made_as.made_from));
        let machine = bay.status.machine.as_ref().and_then(|it| it.id.as_ref());
        let machine = machine.and_then(|it| self.census.machines.get(it));
        started && current && machine.is_some_and(|it| it.state == "started")
    }

    /// 3: what an environment was ever Ready in is not given up for another.
    fn gives_up(&mut self, bay: &Bay) {
        let uid = &bay.metadata.uid;
        let app = bay.spec.app.clone();
        let Some(of) = &bay.spec.environment_ref else {
            // Nobody's data.
            self.deleted_at.entry(uid.clone()).or_insert(self.now);
            return;
        };
        if self.claims.served.contains(uid) && !self.deleted_at.contains_key(&of.uid) {
            let name = of.name.clone();
            self.violation(format!("3: the bay of {name}, in which it served, is given up"));
        }
        self.given_up_apps.insert(app);
    }

    /// 25: an environment is Ready only when what it adds reached its machine, as Fly said.
    pub(super) fn claimed(&mut self, environment: &Environment) {
        let Some(of) = &environment.status.bay else { return };
        let Some(bay) = self.bays.get(&of.name) else { return };
        let (app, bay_uid) = (bay.spec.app.clone(), bay.metadata.uid.clone());
        let (name, uid) = (environment.metadata.name.clone(), environment.metadata.uid.clone());
        if bay.spec.environment_ref.as_ref().is_none_or(|it| it.uid != uid) {
            return self.violation(format!("21: {name} says that it has bay {}", of.name));
        }
        let by_order = environment.spec.operating_mode() == OperatingMode::Asleep;
        if by_order || environment.is_deleting() {
            self.claims.fresh.remove(&app);
        }
        if !holds(&environment.status.conditions, ConditionType::Ready) || environment.is_deleting()
        {
            return;
        }
        let machine = bay.status.machine.as_ref().filter(|it| it.as_stock);
        let id = machine.and_then(|it| it.id.clone());
        self.claims.fresh.remove(&app);
        self.claims.served.insert(bay_uid);
        if let Some(id) = id.filter(|_| is_told_apart(self, &app))
            && !self.claims.told.contains(&(id.clone(), uid))
        {
            self.violation(format!("25: {name} is Ready and nothing of it reached machine {id}"));
        }
    }

    /// 24: whoever asks for an environment does not get to a machine that another's file is in.
    pub(super) fn leads_to_another(&self, machine: &str, uid: &str) -> bool {
        self.claims.written.get(machine).is_some_and(|it| it.iter().any(|it| it != uid))
    }

    /// The personalize file in a machine.
    pub(super) fn file_in(&self, machine: &str) -> Option<Value> {
        serde_json::from_str(self.claims.files.get(machine)?).ok()
    }
}

/// Whether an environment could get it.
fn can_be_had(bay: &Bay) -> bool {
    bay.spec.stock.is_some()
        && bay.spec.environment_ref.is_none()
        && bay.status.available_since.is_some()
}

/// Whether the app's bay is a pool's whose template has a file for what an environment adds.
fn is_told_apart(facts: &Facts, app: &str) -> bool {
    let of_stock =
        |it: &Bay| it.spec.stock.as_ref().is_some_and(|it| it.made_from.personalize.is_some());
    facts.bays.values().any(|it| it.spec.app == app && of_stock(it))
}
