//! Faults that strike by themselves, machine by machine: programs that are killed, machines that are moved. It must never wait
//! for what it struck.

use std::{sync::Arc, time::Duration};

use crate::local::{
    Backend,
    faults::{Kind, Rule, Subject},
    machine::State,
};
use crate::retry;

impl Backend {
    /// Strikes when a rule comes into force, and then each `every` until it is over.
    pub(super) fn begin_strikes(self: &Arc<Self>, id: u64, rule: Arc<Rule>) {
        let backend = Arc::clone(self);
        self.background(async move {
            tokio::time::sleep(rule.from.unwrap_or_default()).await;
            while backend.faults.book().is_in_force(id, backend.clock.monotonic()) {
                for machine in backend.strikable(rule.kind) {
                    backend.strike(id, &rule, &machine).await;
                }
                let Some(every) = rule.every else { return };
                tokio::time::sleep(every.max(Duration::from_secs(1))).await;
            }
        });
    }

    /// Machines that such a fault can strike.
    fn strikable(&self, kind: Kind) -> Vec<String> {
        let (world, now) = (self.lock(), self.now());
        let can = |state: State| match kind {
            Kind::Crash => state == State::Started,
            _ => matches!(state, State::Started | State::Stopped | State::Suspended),
        };
        let machines = world.machines.values().filter(|it| can(it.state_at(now)));
        machines.map(|it| it.id.clone()).collect()
    }

    async fn strike(self: &Arc<Self>, id: u64, rule: &Rule, machine: &str) {
        let subject = {
            let world = self.lock();
            let Some(found) = world.machines.get(machine) else { return };
            Subject::machine(found, &world)
        };
        if !self.strikes(id, &subject) {
            return;
        }
        if rule.kind == Kind::Crash {
            if let Err(error) = self.driver.signal(machine, "SIGKILL").await {
                tracing::info!(machine, error = %retry::chain(&error), "nothing was killed");
            }
            return;
        }
        let (backend, machine) = (Arc::clone(self), machine.to_owned());
        self.background(async move {
            if let Err(refusal) = backend.migrate(&machine).await {
                tracing::info!(machine, %refusal, "a machine was not moved");
            }
        });
    }
}
