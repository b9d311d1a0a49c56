//! What faults do while a host works on a machine or a volume: it takes long, or comes to another end. It must never do the
//! work.

use std::time::Duration;

use crate::local::{
    Backend,
    faults::{Kind, Subject},
};

const STUCK: Duration = Duration::from_secs(10 * 60);
const SNAPSHOT: Duration = Duration::from_secs(60 * 60);

impl Backend {
    /// Whether such a fault befalls a machine now: how long it takes.
    pub(in crate::local) fn machine_fault(&self, id: &str, kind: Kind) -> Option<Duration> {
        if !self.faults.any() {
            return None;
        }
        let subject = {
            let world = self.lock();
            Subject::machine(world.machines.get(id)?, &world)
        };
        let rule = self.fault(|it| it == kind, &subject)?;
        Some(rule.takes.unwrap_or(STUCK))
    }

    /// The same of a volume.
    pub(in crate::local) fn volume_fault(&self, id: &str, kind: Kind) -> Option<Duration> {
        if !self.faults.any() {
            return None;
        }
        let subject = Subject::volume(self.lock().volumes.get(id)?);
        let rule = self.fault(|it| it == kind, &subject)?;
        Some(rule.takes.unwrap_or(SNAPSHOT))
    }

    /// Keeps a machine in its state if it is to be stuck there. False if something newer came up meanwhile.
    pub(in crate::local) async fn hold(&self, id: &str, epoch: u64, kind: Kind) -> bool {
        match self.machine_fault(id, kind) {
            Some(takes) => self.pause(id, epoch, takes).await,
            None => true,
        }
    }
}
