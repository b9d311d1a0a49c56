//! What a fault may befall: a call, or a machine, a volume, a place without one. It must never change anything.

use crate::local::{
    call::{AppCall, Call},
    faults::{reach, rule::Rule},
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
            // A copy is made where its source is.
            let source = input.source_volume_id.as_ref().and_then(|it| world.volumes.get(it));
            self.host = source.map(|it| it.host.clone());
        }
    }

    /// The deletion of an app.
    pub(in crate::local) fn deletion(app: &str) -> Self {
        let (method, template) = ("DELETE", "/v1/apps/{app}");
        Self { method, template, app: Some(app.to_owned()), ..Self::default() }
    }

    /// A machine, called or not.
    pub(in crate::local) fn machine(machine: &Machine, world: &World) -> Self {
        let mut subject = Self { app: Some(machine.app.clone()), ..Self::default() };
        subject.take_machine(machine, world);
        subject
    }

    /// A volume, called or not.
    pub(in crate::local) fn volume(volume: &Volume) -> Self {
        let mut subject = Self { app: Some(volume.app.clone()), ..Self::default() };
        subject.take_volume(volume);
        subject
    }

    /// A region, as an app asks for it.
    pub(in crate::local) fn region(app: &str, region: &str) -> Self {
        let regions = vec![region.to_owned()];
        Self { app: Some(app.to_owned()), regions, ..Self::default() }
    }

    /// A host, whatever is on it.
    pub(in crate::local) fn host(region: &str, host: &str) -> Self {
        let (regions, host) = (vec![region.to_owned()], Some(host.to_owned()));
        Self { regions, host, ..Self::default() }
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
        reach::name(self.method, self.template)
    }

    pub(super) fn app(&self) -> Option<&str> {
        self.app.as_deref()
    }

    /// Whether it names a volume.
    pub(super) fn has_volume(&self) -> bool {
        !self.volume.is_empty()
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

    /// The same of something that is on a host.
    pub(super) fn is_on(&self, rule: &Rule) -> bool {
        self.host.is_some() && self.is_of(rule)
    }

    fn is_route(&self, wanted: &str) -> bool {
        match wanted.split_once(' ') {
            Some((method, template)) => {
                method == self.method && reach::same(template, self.template)
            }
            None => self.route() == Some(wanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fly::call;
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
}
