//! Leases on machines. It must never look at a machine's state: a lease guards it in all of them.

use std::time::Duration;

use serde_json::json;

use crate::local::{
    Backend, call::LeaseRequest, refusal::Refusal, respond::Reply, state::Lease, state::later, view,
};

/// Who holds every lease here, since tokens have no names.
pub(super) const OWNER: &str = "local@tokens.fly.io";
/// Who holds a lease that nobody here took.
pub(super) const STRANGER: &str = "stranger@tokens.fly.io";
/// Fly's own default is not documented.
const TTL_DEFAULT_S: u64 = 30;
const TTL_MAX_S: u64 = 24 * 60 * 60;

impl Backend {
    pub(super) fn get_lease(&self, id: &str) -> Result<Reply, Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        let lease = machine.lease(self.now()).ok_or(Refusal::NotFound("lease"))?;
        Reply::json(&view::lease(lease))
    }

    /// A new lease, or with the nonce of the current one, more time for it.
    pub(super) async fn take_lease(
        &self,
        id: &str,
        nonce: Option<&str>,
        request: LeaseRequest,
    ) -> Result<Reply, Refusal> {
        let ttl = request.ttl.unwrap_or(TTL_DEFAULT_S);
        if ttl == 0 || ttl > TTL_MAX_S {
            return Err(Refusal::Invalid("invalid_argument: invalid lease ttl".to_owned()));
        }
        let lease = self
            .edit(|world, now| {
                let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
                machine.check_lease(nonce, now)?;
                if !machine.is_live() {
                    return Err(Refusal::NotFound("machine"));
                }
                let expires_at = later(now, Duration::from_secs(ttl));
                let lease = match machine.lease(now) {
                    Some(held) => Lease { expires_at, ..held.clone() },
                    None => Lease {
                        nonce: self.ids.opaque(),
                        owner: OWNER.to_owned(),
                        description: request.description,
                        expires_at,
                        version: machine.version().to_owned(),
                    },
                };
                world.edit_machine(id, now, |it| it.lease = Some(lease.clone()));
                Ok(lease)
            })
            .await?;
        Reply::created(&view::lease(&lease))
    }

    pub(super) async fn release_lease(
        &self,
        id: &str,
        nonce: Option<&str>,
    ) -> Result<Reply, Refusal> {
        self.edit(|world, now| {
            let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
            if machine.lease(now).is_none() {
                return Err(Refusal::NotFound("lease"));
            }
            machine.check_lease(nonce, now)?;
            world.edit_machine(id, now, |it| it.lease = None);
            Ok(())
        })
        .await?;
        Reply::json(&json!({"status": "success", "data": {"ok": true}}))
    }
}
