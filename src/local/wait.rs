//! The long poll for a machine's state. It must never change anything.

use crate::fly::wire;
use crate::local::{
    Backend,
    call::Wait,
    refusal::Refusal,
    respond::Reply,
    state::{Key, Machine},
};

impl Backend {
    pub(super) async fn wait(&self, app: &str, id: &str, wait: &Wait) -> Result<Reply, Refusal> {
        let mut over = std::pin::pin!(tokio::time::sleep(wait.timeout));
        loop {
            let mut rung = std::pin::pin!(self.bell(id).notified());
            rung.as_mut().enable();
            let looked = {
                let world = self.lock();
                let machine = world.machine(app, id)?;
                if let Some(version) = wait.version.as_deref()
                    && is_superseded(machine, version)
                {
                    return Err(not_reached(wait, "replaced"));
                }
                reached(machine, wait).ok_or_else(|| machine.state.word())
            };
            let current = match looked {
                Ok(waited) => {
                    // What is told here must not be undone by a crash.
                    self.save(&Key::Machine(app.to_owned(), id.to_owned())).await?;
                    return Reply::json(&waited);
                }
                Err(current) => current,
            };
            tokio::select! {
                biased;
                () = over.as_mut() => return Err(not_reached(wait, current)),
                () = rung => {}
            }
        }
    }
}

fn not_reached(wait: &Wait, current: &'static str) -> Refusal {
    Refusal::NotReached { wanted: wait.states.join(","), current }
}

fn is_superseded(machine: &Machine, version: &str) -> bool {
    machine.version() != version && machine.versions.iter().any(|it| it.version == version)
}

fn reached(machine: &Machine, wait: &Wait) -> Option<wire::Waited> {
    let version = wait.version.as_deref();
    if version.is_some_and(|it| it != machine.version()) {
        return None;
    }
    let waited = |state: &str, event: Option<&wire::MachineEvent>| wire::Waited {
        ok: true,
        state: Some(state.to_owned()),
        event_id: event.map(|it| it.id.clone()),
        version: Some(machine.version().to_owned()),
    };
    let wanted = |word: &str| wait.states.iter().any(|it| it == word);
    if let Some(from) = wait.from_event.as_deref() {
        // The first one after it, so that a state that was passed through counts.
        let mut after = machine.events.iter().rev().filter(|it| it.id.as_str() > from);
        if let Some(event) = after.find(|it| wanted(&it.status)) {
            return Some(waited(&event.status, Some(event)));
        }
        let newest = machine.events.front().filter(|it| it.id.as_str() > from)?;
        let settled = wanted("settled") && machine.state.is_settled();
        return settled.then(|| waited(machine.state.word(), Some(newest)));
    }
    let word = machine.state.word();
    (wanted(word) || wanted("settled") && machine.state.is_settled())
        .then(|| waited(word, machine.events.front()))
}
