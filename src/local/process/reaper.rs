//! Children of the shim: spawned and reaped in one place, because the shim adopts orphans and must reap those as well as
//! its own. It must never be bypassed: a child waited for elsewhere would be lost to one of the two.

use std::{
    collections::BTreeMap,
    io,
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{WaitOptions, wait};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::tasks;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
}

/// The end of a child, once it is there.
pub(super) type End = oneshot::Receiver<Ended>;

/// Spawns and reaps.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    children: Mutex<BTreeMap<u32, oneshot::Sender<Ended>>>,
}

impl Reaper {
    /// A reaper that already listens for ends.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let reaper = Arc::new(Self::default());
        let mut ends = signal(SignalKind::child())?;
        let reaping = Arc::clone(&reaper);
        tasks::detached(async move {
            while ends.recv().await.is_some() {
                reaping.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a child. Its end is told even if it comes before this returns.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<(Child, End)> {
        self.spawn_by(|| command.spawn())
    }

    /// Starts a child in the caller's own way.
    pub(super) fn spawn_by(
        &self,
        spawn: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<(Child, End)> {
        // Held over the spawn, so that nobody reaps a child which is not registered yet, nor one that failed to start
        // and is being waited for by the standard library.
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let child = spawn()?;
        let (tell, end) = oneshot::channel();
        children.insert(child.id(), tell);
        Ok((child, end))
    }

    fn reap(&self) {
        let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let pid = u32::try_from(pid.as_raw_nonzero().get()).unwrap_or_default();
            if let Some(tell) = children.remove(&pid) {
                let ended =
                    Ended { code: status.exit_status(), signal: status.terminating_signal() };
                // Nobody may be listening any more: an exec that was given up.
                let _unheard = tell.send(ended);
            }
        }
    }
}
