//! What a fault may befall. It must never change anything.

use crate::fly::call;
use crate::local::{
    call::{AppCall, Call},
    faults::rule::Rule,
    platform,
    state::{Machine, Volume, World},
};

/// What a rule's limits are compared with.
#[derive(Debug, Default)]
pub(in crate::local) struct Subject {
    method: &'static str,
    template: &'static str,
    app: Option<String>,
    /// Id and name.
    machine: Vec<String>,
    /// Id and name.
    volume: Vec<String>,
    regions: Vec<String>,
    host: Option<String>,
}

impl Subject {
    /// A call, parsed or not.
    pub(in crate::local) fn call(
        (method, template): (&'static str, &'static str),
        call: Option<&Call>,
        world: &World,
        open: &[String],
    ) -> Self {
        let mut subject = Self { method, template, ..Self::default() };
        match call {
            Some(Call::App { app, call }) => {
                subject.app = Some(app.clone());
                subject.creation(call, world, open);
            }
            Some(Call::Machine { app, id, .. }) => {
                subject.app = Some(app.clone());
                subject.machine.push(id.clone());
                if let Some(machine) = world.machines.get(id) {
                    subject.take_machine(machine, world);
                }
            }
            Some(Call::Volume { app, id, .. }) => {
                subject.app = Some(app.clone());
                subject.volume.push(id.clone());
                if let Some(volume) = world.volumes.get(id) {
                    subject.take_volume(volume);
                }
            }
            Some(Call::CreateApp(input)) => subject.app = Some(input.name.clone()),
            Some(
                Call::ListApps { .. }
                | Call::OrgMachines { .. }
                | Call::OrgVolumes { .. }
                | Call::Regions
                | Call::Placements(_),
            )
            | None => {}
        }
        subject
    }

    /// A creation is about what it asks for.
    fn creation(&mut self, call: &AppCall, world: &World, open: &[String]) {
        let regions = |list: &str| platform::candidates(list, open).unwrap_or_default();
        if let AppCall::CreateMachine(input) = call {
            self.machine.extend(input.name.clone());
            self.regions = regions(input.region.as_deref().unwrap_or_default());
            for mount in &input.config.mounts {
                self.volume.push(mount.volume.clone());
                if let Some(volume) = world.volumes.get(&mount.volume) {
                    self.take_volume(volume);
                }
            }
        } else if let AppCall::CreateVolume(input) = call {
            self.volume.push(input.name.clone());
            self.regions = regions(&input.region);
        }
    }

    fn take_machine(&mut self, machine: &Machine, world: &World) {
        self.machine = vec![machine.id.clone(), machine.name.clone()];
        self.regions = vec![machine.region.clone()];
        self.host = Some(machine.host.clone());
        if let Some(volume) = machine.volume().and_then(|it| world.volumes.get(it)) {
            self.volume = vec![volume.id.clone(), volume.name.clone()];
        }
    }

    fn take_volume(&mut self, volume: &Volume) {
        self.volume = vec![volume.id.clone(), volume.name.clone()];
        self.regions = vec![volume.region.clone()];
        self.host = Some(volume.host.clone());
    }

    /// The name of the call, if it is one that hangar makes.
    pub(super) fn route(&self) -> Option<&'static str> {
        let found = call::ALL
            .iter()
            .find(|it| it.method.as_str() == self.method && same(it.template, self.template));
        found.map(|it| it.name)
    }

    /// Whether a rule may befall it.
    pub(super) fn is_of(&self, rule: &Rule) -> bool {
        let one = |limit: &Option<String>, of: Option<&String>| {
            limit.as_ref().is_none_or(|it| of == Some(it))
        };
        let any =
            |limit: &Option<String>, of: &[String]| limit.as_ref().is_none_or(|it| of.contains(it));
        one(&rule.app, self.app.as_ref())
            && any(&rule.machine, &self.machine)
            && any(&rule.volume, &self.volume)
            && any(&rule.region, &self.regions)
            && one(&rule.host, self.host.as_ref())
            && rule.route.as_deref().is_none_or(|it| self.is_route(it))
    }

    fn is_route(&self, wanted: &str) -> bool {
        match wanted.split_once(' ') {
            Some((method, template)) => method == self.method && same(template, self.template),
            None => self.route() == Some(wanted),
        }
    }
}

/// Whether two templates are of one form: `{machine}` here is `{id}` there.
fn same(one: &str, other: &str) -> bool {
    let is_hole = |it: &str| it.starts_with('{');
    let (mut one, mut other) = (one.split('/'), other.split('/'));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(a), Some(b)) if a == b || is_hole(a) && is_hole(b) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::route;

    #[test]
    fn every_call_that_hangar_makes_has_its_name_here() {
        for it in call::ALL {
            let request = route::Request {
                method: ["GET", "POST", "PUT", "DELETE"]
                    .into_iter()
                    .find(|method| *method == it.method.as_str())
                    .unwrap(),
                path: it.template.trim_matches('/').split('/').map(str::to_owned).collect(),
                query: route::Query::default(),
                nonce: None,
                body: bytes::Bytes::from_static(b"{}"),
            };
            let (template, _) = route::parse(&request);
            let subject = Subject { method: request.method, template, ..Subject::default() };
            assert_eq!(subject.route(), Some(it.name), "{template}");
        }
    }

    #[test]
    fn templates_are_compared_by_form() {
        assert!(same("/v1/apps/{app}", "/v1/apps/{name}"));
        assert!(!same("/v1/apps/{app}", "/v1/apps"));
        assert!(!same("/v1/apps/{app}/machines", "/v1/apps/{app}/volumes"));
    }
}
