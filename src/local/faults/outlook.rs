//! Faults that last: for as long as their rules are in force, hosts do not answer, regions are full, checks do not pass. It
//! must never change the world; what is shown of it differs.

use std::{sync::Arc, time::Duration};

use crate::fly::wire;
use crate::local::{
    Backend, checks,
    faults::{Kind, Rule, Subject, kind::Stage},
    hosts,
    refusal::Refusal,
    state::{Machine, Volume, World},
};

/// How long checks pass and then do not.
const FLAP: Duration = Duration::from_secs(60);
/// From a host's return to the destruction that was promised meanwhile.
const PROMISE: Duration = Duration::from_secs(60);
/// A look at a host that does not answer, and that no rule's end brings back.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// The lasting faults in force at one moment.
#[derive(Debug, Default)]
pub(in crate::local) struct Outlook<'a> {
    /// Who counts what comes true.
    backend: Option<&'a Backend>,
    now: Duration,
    /// With the time since when.
    rules: Vec<(Duration, Arc<Rule>)>,
}

impl Outlook<'_> {
    fn find(
        &self,
        kind: Kind,
        subject: impl FnOnce() -> Subject,
    ) -> Option<&(Duration, Arc<Rule>)> {
        let mut rules = self.rules.iter().filter(|(_, it)| it.kind == kind).peekable();
        rules.peek()?;
        let subject = subject();
        rules.find(|(_, it)| subject.is_of(it))
    }

    fn count(&self, rule: &Arc<Rule>) {
        if let Some(backend) = self.backend {
            backend.faults.book().count(rule);
            backend.metrics.fault(rule.kind.name());
        }
    }

    fn host_is_up(&self, region: &str, host: &str) -> bool {
        self.find(Kind::HostUnreachable, || Subject::host(region, host)).is_none()
    }

    /// Region and host for something new: the first of these regions that has a host that answers.
    pub(in crate::local) fn place(
        &self,
        regions: &[String],
        id: &str,
    ) -> Result<(String, String), Refusal> {
        let hosts = regions.iter().flat_map(|region| {
            hosts::order(region, id).into_iter().map(|host| (region.clone(), host))
        });
        let mut up = hosts.filter(|(region, host)| self.host_is_up(region, host));
        up.next().ok_or(Refusal::NoHost)
    }

    /// Regions that have room.
    pub(in crate::local) fn roomy(&self, app: &str, regions: &[String]) -> Vec<String> {
        let is_full = |region: &String| {
            let full =
                self.rules.iter().filter(|(_, it)| it.kind == Kind::RegionFull).find(|(_, it)| {
                    it.regions.as_ref().is_none_or(|it| it.contains(region))
                        && Subject::region(app, region).is_of(it)
                });
            if let Some((_, rule)) = full {
                self.count(rule);
            }
            full.is_some()
        };
        regions.iter().filter(|it| !is_full(it)).cloned().collect()
    }

    /// A machine as it is shown.
    pub(in crate::local) fn machine(
        &self,
        mut shown: wire::Machine,
        machine: &Machine,
        world: &World,
    ) -> wire::Machine {
        self.checks(&mut shown.checks, machine, world);
        if let Some((_, rule)) =
            self.find(Kind::HostUnreachable, || Subject::machine(machine, world))
        {
            self.count(rule);
            shown.incomplete_config = shown.config.take().map(|it| wire::MachineConfig {
                image: it.image,
                guest: it.guest,
                metadata: it.metadata,
                ..wire::MachineConfig::default()
            });
            shown.image_ref = None;
            shown.host_status = shown.host_status.map(|_| UNREACHABLE.to_owned());
            if machine.promised {
                DESTROYING.clone_into(&mut shown.state);
            }
        }
        shown
    }

    /// The same in the organisation's list.
    pub(in crate::local) fn org_machine(
        &self,
        mut shown: wire::OrgMachine,
        machine: &Machine,
        world: &World,
    ) -> wire::OrgMachine {
        if let Some((_, rule)) =
            self.find(Kind::HostUnreachable, || Subject::machine(machine, world))
        {
            self.count(rule);
            shown.config = None;
            if machine.promised {
                DESTROYING.clone_into(&mut shown.state);
            }
        }
        shown
    }

    /// A volume as it is shown.
    pub(in crate::local) fn volume(
        &self,
        mut shown: wire::Volume,
        volume: &Volume,
    ) -> wire::Volume {
        if let Some((_, rule)) = self.find(Kind::HostUnreachable, || Subject::volume(volume)) {
            self.count(rule);
            shown.host_status = Some(UNREACHABLE.to_owned());
        }
        shown
    }

    /// Checks as their machine's program lets them end.
    pub(in crate::local) fn checks(
        &self,
        checks: &mut [wire::CheckStatus],
        machine: &Machine,
        world: &World,
    ) {
        if checks.is_empty() {
            return;
        }
        let fail = self.find(Kind::ChecksFail, || Subject::machine(machine, world));
        let flap = self.find(Kind::ChecksFlap, || Subject::machine(machine, world));
        let flap = flap.filter(|(since, rule)| {
            let every = rule.every.unwrap_or(FLAP).as_millis();
            let phase = self.now.saturating_sub(*since).as_millis() / every.max(1);
            phase.is_multiple_of(2)
        });
        let Some((_, rule)) = fail.or(flap) else { return };
        self.count(rule);
        for check in checks {
            checks::CRITICAL.clone_into(&mut check.status);
            "failed on purpose".clone_into(&mut check.output);
        }
    }
}

const UNREACHABLE: &str = "unreachable";
const DESTROYING: &str = "destroying";

impl Backend {
    /// The lasting faults, to be counted where they show.
    pub(in crate::local) fn outlook(&self) -> Outlook<'_> {
        Outlook { backend: Some(self), ..self.uncounted_outlook() }
    }

    /// The same for those who look behind the API.
    pub(in crate::local) fn uncounted_outlook(&self) -> Outlook<'_> {
        if !self.faults.any() {
            return Outlook::default();
        }
        let now = self.clock.monotonic();
        let rules = self.faults.book().in_force(|it| it.stage() == Stage::State, now);
        Outlook { backend: None, now, rules }
    }

    /// Whether a machine's host does not answer: for how much longer at least, and what its rule is.
    pub(super) fn unreachable(&self, id: &str) -> Option<(Duration, Arc<Rule>)> {
        let outlook = self.uncounted_outlook();
        if outlook.rules.is_empty() {
            return None;
        }
        let world = self.lock();
        let machine = world.machines.get(id)?;
        let (since, rule) =
            outlook.find(Kind::HostUnreachable, || Subject::machine(machine, &world))?;
        let ends = rule.lasts.map(|it| since.saturating_add(it));
        let left = ends.map_or(LOOK, |it| it.saturating_sub(outlook.now));
        Some((left, Arc::clone(rule)))
    }

    /// The same as a question.
    pub(in crate::local) fn is_unreachable(&self, id: &str) -> bool {
        self.unreachable(id).is_some()
    }

    /// Returns when a machine's host answers.
    pub(in crate::local) async fn until_reachable(&self, id: &str) {
        loop {
            let mut changed = std::pin::pin!(self.faults.changed.notified());
            changed.as_mut().enable();
            let Some((left, _)) = self.unreachable(id) else { return };
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// Whether a call's host does not answer; counts it.
    pub(super) fn host_is_down(&self, subject: &Subject) -> bool {
        let outlook = self.outlook();
        let down = outlook.rules.iter().filter(|(_, it)| it.kind == Kind::HostUnreachable);
        let rule = down.map(|(_, it)| it).find(|it| subject.is_on(it));
        if let Some(rule) = rule {
            outlook.count(rule);
        }
        rule.is_some()
    }

    /// Takes the order to destroy a machine that cannot be reached. It is carried out some time after the host is back.
    pub(in crate::local) async fn promise(self: &Arc<Self>, id: &str) -> Result<(), Refusal> {
        let takes = self.unreachable(id).and_then(|(_, it)| it.takes).unwrap_or(PROMISE);
        let promised = self
            .edit(|world, now| {
                let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
                if machine.promised || !machine.is_live() {
                    return Ok(false);
                }
                let words = ("destroy", "destroying", "user");
                let event = crate::local::view::event(self.ids.ulid(), now, words, None);
                world.edit_machine(id, now, |it| {
                    it.promised = true;
                    it.push_event(event);
                });
                Ok(true)
            })
            .await?;
        if promised {
            self.keep_promise(id, takes);
        }
        Ok(())
    }

    /// Also called for promises that a restart cut short.
    pub(in crate::local) fn keep_promise(self: &Arc<Self>, id: &str, takes: Duration) {
        let (backend, id) = (Arc::clone(self), id.to_owned());
        self.background(async move {
            loop {
                backend.until_reachable(&id).await;
                tokio::time::sleep(takes).await;
                if !backend.is_unreachable(&id) {
                    break;
                }
            }
            backend.destroy_by_host(&id).await;
        });
    }

    /// Goes on with promises of before a restart.
    pub(in crate::local) fn keep_promises(self: &Arc<Self>) {
        let promised: Vec<_> = {
            let world = self.lock();
            let promised = world.machines.values().filter(|it| it.promised && it.is_live());
            promised.map(|it| it.id.clone()).collect()
        };
        for id in promised {
            self.keep_promise(&id, PROMISE);
        }
    }
}
