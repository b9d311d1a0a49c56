//! The rules about what the router would answer now, and what must be there when all is quiet. It must never ask the
//! router anything that counts as a request.

use crate::{
    api::{environment::Phase, hostname::Hostname, meta::Resource as _},
    clock::Timestamp,
    local::census::Machine,
    router::{
        packed::Label,
        table::{Flag, Route, Table},
    },
    sim::oracle::facts::Facts,
};

/// 2, 17, 18: how long after a durable change a router may still route as before it.
const GONE_WITHIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

impl Facts {
    /// Every label's route, at this moment.
    pub(super) fn check_routes(&mut self, now: Timestamp) {
        let Some(table) = self.table.clone() else { return };
        let labels: Vec<Hostname> = self.hostnames.values().cloned().collect();
        for hostname in labels {
            if let Some(route) = replays(&table, &hostname.metadata.name) {
                self.route(&hostname, &route, now);
            }
        }
    }

    /// 2, 17, 18: a host leads to its holder's app and to the machine of the epoch that holds.
    fn route(&mut self, hostname: &Hostname, route: &Route, now: Timestamp) {
        let label = &hostname.metadata.name;
        let app = route.app().text().as_str().to_owned();
        let machine = route.machine().to_string();
        let Some((uid, name)) = self.apps.get(&app).cloned() else {
            return self.violation(format!("17: {label} leads to {app}, which is no bay's"));
        };
        let known = self.machines.get(&machine).cloned();
        let bay = self.bays.values().find(|it| it.spec.app == app);
        if let (Some((of, epoch)), Some(bay)) = (&known, bay)
            && (*of != bay.metadata.uid
                || *epoch < bay.status.epoch && self.since(&bay.metadata.name, now))
        {
            let what = format!(
                "2: {label} leads to machine {machine} of epoch {epoch}, and {} is at {}",
                bay.metadata.name, bay.status.epoch
            );
            self.violation(what);
        }
        if self.leads_to_another(&machine, &hostname.spec.uid) && self.since(label, now) {
            self.violation(format!("24: {label} leads to machine {machine}, which was another's"));
        }
        if let Some(at) = self.deleted_at.get(&uid)
            && now > *at + GONE_WITHIN
        {
            self.violation(format!("18: {label} leads to {name}, which was deleted"));
        }
        if hostname.spec.uid != uid && self.since(label, now) {
            self.violation(format!("17: {label} leads to {name}, which does not hold it"));
        }
    }

    /// Whether a label's holder, or a bay's epoch, has been what it is for longer than a router may take to hear of it.
    fn since(&self, name: &str, now: Timestamp) -> bool {
        self.changed_at.get(name).is_none_or(|at| now > *at + GONE_WITHIN)
    }

    /// 1: when all is quiet, Fly has what the store accounts for and nothing else.
    pub(super) fn check_rest(&mut self) {
        let apps: Vec<String> = self.census.apps.keys().cloned().collect();
        for app in apps {
            let known = self.bays.values().any(|it| it.spec.app == app);
            if !known && !self.excused.contains(&app) {
                let owner = self.owner(&app);
                self.violation(format!("1: app {app} of {owner} is an orphan"));
            }
        }
        let bays: Vec<_> = self.bays.values().cloned().collect();
        for bay in bays {
            let Some(of) = &bay.spec.environment_ref else { continue };
            let environment = self.environments.values().find(|it| it.metadata.uid == of.uid);
            let Some(environment) = environment else {
                self.violation(format!("1: bay {} has no environment", bay.metadata.name));
                continue;
            };
            let rests = matches!(environment.status.phase, Phase::Ready | Phase::Asleep);
            let name = environment.metadata.name.clone();
            let app = &bay.spec.app;
            if rests && !bay.is_deleting() {
                let environment = environment.clone();
                self.check_bay(app, &name, bay.spec.volume);
                self.check_person(&environment, &bay);
            }
        }
    }

    pub(super) fn check_bay(&mut self, app: &str, name: &str, has_volume: bool) {
        // A stranger's is not ours to count, and what is being destroyed goes, on a dead host when that is back.
        let ours = |it: &&Machine| {
            it.app == app
                && !it.promised
                && it.state != "destroying"
                && it.metadata.contains_key("hangar_bay")
        };
        let machines = self.census.machines.values().filter(ours).count();
        let volumes = self.census.volumes.values();
        let volumes = volumes.filter(|it| it.app == app && it.destroy_at.is_none()).count();
        if machines != 1 {
            self.violation(format!("1: {name} has {machines} machines"));
        }
        if volumes != usize::from(has_volume) {
            self.violation(format!("1: {name} has {volumes} volumes"));
        }
    }
}

fn replays(table: &Table, label: &str) -> Option<Route> {
    let route = table.get(&Label::of_name(label)?)?;
    let shut = [Flag::RELEASED, Flag::DELETED, Flag::UNLISTED, Flag::ASLEEP, Flag::BROKEN];
    let open = !shut.iter().any(|it| route.has(*it));
    (open && route.has(Flag::PUBLIC) && route.has(Flag::MACHINE) && route.has(Flag::KEY))
        .then_some(route)
}
