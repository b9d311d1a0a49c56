//! What a careless controller makes of pools and claims. It must never touch what is of no pool.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Uri};
use serde_json::{Value, json};

use crate::{
    sim::mistakes::Mistake,
    store::{Backend, Error, Op, Precondition, Txn},
};

/// What is remembered of claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The bay that was claimed first, as its environment says it.
    first_bay: Mutex<Option<Value>>,
    /// What was written into a machine first.
    first_file: Mutex<Option<Value>>,
}

/// What is in it, after it was put in if nothing was.
fn first(of: &Mutex<Option<Value>>, value: &Value) -> Value {
    let mut first = of.lock().unwrap_or_else(PoisonError::into_inner);
    first.get_or_insert_with(|| value.clone()).clone()
}

fn read(op: &Op) -> Option<Value> {
    match op {
        Op::Put(value) => serde_json::from_slice(value).ok(),
        Op::Delete | Op::Check => None,
    }
}

fn put(object: &Value) -> Op {
    Op::Put(Bytes::from(object.to_string()))
}

fn is_unbound(bay: &Value) -> bool {
    bay.pointer("/spec/stock").is_some() && bay.pointer("/spec/environmentRef").is_none()
}

impl Claims {
    /// What is committed instead.
    pub(super) async fn committed(
        &self,
        mistake: Mistake,
        inner: &dyn Backend,
        mut txn: Txn,
    ) -> Result<Txn, Error> {
        match mistake {
            Mistake::ShareBay => self.share_bay(&mut txn),
            Mistake::ReturnBay => return_bay(inner, &mut txn).await?,
            Mistake::RetireAllAtOnce => retire_all(inner, &mut txn).await?,
            Mistake::ClaimUnready => claim_unready(&mut txn),
            _ => {}
        }
        Ok(txn)
    }

    /// Whoever claims gets the bay that was claimed first.
    fn share_bay(&self, txn: &mut Txn) {
        let claims = |op: &Op| read(op).is_some_and(|it| it.pointer("/spec/claimedAt").is_some());
        let bays = txn.steps.iter().filter(|(key, _, _)| key.as_str().starts_with("bays/"));
        let claimed = bays.into_iter().any(|(_, _, op)| claims(op));
        for (key, _, op) in &mut txn.steps {
            if claimed
                && key.as_str().starts_with("environments/")
                && let Some(mut environment) = read(op)
                && let Some(bay) = environment.pointer("/status/bay").cloned()
            {
                environment["status"]["bay"] = first(&self.first_bay, &bay);
                *op = put(&environment);
            }
        }
    }

    /// What is sent into a machine instead.
    pub(super) fn given(&self, mistake: Mistake, body: &mut Value) {
        if mistake == Mistake::WriteForAnother && body.get("stdin").is_some_and(Value::is_string) {
            body["stdin"] = first(&self.first_file, &body["stdin"]);
        }
    }
}

/// The bay of an environment that goes is the pool's again.
async fn return_bay(inner: &dyn Backend, txn: &mut Txn) -> Result<(), Error> {
    for (key, _, op) in &mut txn.steps {
        if *op != Op::Delete || !key.as_str().starts_with("bays/") {
            continue;
        }
        let Some(old) = inner.get(key).await? else { continue };
        let mut bay: Value = serde_json::from_slice(&old.value).unwrap_or_default();
        if bay.pointer("/spec/stock").is_none() {
            continue;
        }
        if let Some(spec) = bay["spec"].as_object_mut() {
            spec.remove("environmentRef");
        }
        *op = put(&bay);
    }
    Ok(())
}

/// All that waits goes with the template that it was made from.
async fn retire_all(inner: &dyn Backend, txn: &mut Txn) -> Result<(), Error> {
    let template = txn.steps.iter().find(|(key, _, _)| key.as_str().starts_with("templates/"));
    let Some(changed) = template.and_then(|(_, _, op)| read(op)) else { return Ok(()) };
    let (bays, _) = inner.list("bays/").await?;
    for entry in bays {
        let mut bay: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let of = bay.pointer("/spec/stock/template") == changed.pointer("/metadata/name");
        if of && is_unbound(&bay) && bay.pointer("/metadata/deletionTimestamp").is_none() {
            bay["metadata"]["deletionTimestamp"] = json!("2026-09-01T00:00:00Z");
            txn.steps.push((entry.key, Precondition::Any, put(&bay)));
        }
    }
    Ok(())
}

/// What has a machine can be had.
fn claim_unready(txn: &mut Txn) {
    for (key, _, op) in &mut txn.steps {
        if key.as_str().starts_with("bays/")
            && let Some(mut bay) = read(op)
            && is_unbound(&bay)
            && bay.pointer("/status/machine/id").is_some()
        {
            bay["status"]["availableSince"] = bay["metadata"]["creationTimestamp"].clone();
            *op = put(&bay);
        }
    }
}

/// The restart that goes before a command that is given something.
pub(super) fn restart_before(request: &Request<Bytes>) -> Option<Request<Bytes>> {
    let body: Value = serde_json::from_slice(request.body()).ok()?;
    body.get("stdin").filter(|it| it.is_string())?;
    let path = request.uri().path().strip_suffix("/exec")?;
    let mut restart = request.clone();
    *restart.method_mut() = Method::POST;
    *restart.body_mut() = Bytes::new();
    *restart.uri_mut() = Uri::try_from(format!("http://fly.invalid{path}/restart")).ok()?;
    Some(restart)
}
