//! The scale subresource of pools: how many bays are wanted, in the shape of `autoscaling/v1`, so that whatever scales in Kubernetes
//! scales pools. It must never change anything else of a pool.

use serde_json::{Value, json};

use crate::api::{
    admit::ViolationReason,
    meta::ObjectRef,
    pool::{POOL_LABEL, Replicas, WarmPool},
};
use crate::server::{
    State,
    call::{Target, WriteOptions},
    patch::Change,
    status::Status,
    write::{self, ATTEMPTS_MAX, Written},
};
use crate::store::{Revision, handle::decode_bytes};

/// A pool's scale.
pub(super) async fn get(state: &State, object: &ObjectRef) -> Result<Value, Status> {
    let (pool, revision) = read(state, object).await?;
    Ok(shown(&pool, &revision.to_string()))
}

/// Changes how many bays a pool wants.
pub(super) async fn update(
    state: &State,
    object: &ObjectRef,
    options: &WriteOptions,
    change: &Change,
) -> Result<Written, Status> {
    let mut options = options.clone();
    options.writer.subresource = "scale";
    for _ in 0..ATTEMPTS_MAX {
        let (pool, revision) = read(state, object).await?;
        let now = shown(&pool, &revision.to_string());
        let mut proposed = change.apply(now.clone())?;
        if let (Change::Whole(_), Some(Value::Object(spec))) = (change, proposed.get_mut("spec")) {
            // Kubernetes' own type leaves a zero out.
            spec.entry("replicas").or_insert_with(|| json!(0));
        }
        let wanted = wanted(object, &now, &proposed)?;
        check_scalable(object, &pool)?;
        let version = json!({"resourceVersion": revision.to_string()});
        let patch = json!({"metadata": version, "spec": {"replicas": wanted}});
        let target = Target { object: object.clone(), status: false, form: None };
        match write::update(state, &target, &options, &Change::Merge(patch)).await {
            Ok(Written { object: written, warnings }) => {
                let version = written.pointer("/metadata/resourceVersion").and_then(Value::as_str);
                let version = version.unwrap_or_default().to_owned();
                let pool: WarmPool = serde_json::from_value(written)
                    .map_err(|_| Status::internal("the pool that was written cannot be read"))?;
                return Ok(Written { object: shown(&pool, &version), warnings });
            }
            // Someone else was faster: decide again on what there is now.
            Err(status) if status == Status::modified(object) => {}
            Err(status) => return Err(status),
        }
    }
    Err(Status::modified(object))
}

async fn read(state: &State, object: &ObjectRef) -> Result<(WarmPool, Revision), Status> {
    let entry = state.store.get_bytes(&write::key(object)).await?;
    let entry = entry.ok_or_else(|| Status::not_found(object))?;
    Ok((decode_bytes(&entry.key, &entry.value)?, entry.revision))
}

fn shown(pool: &WarmPool, revision: &str) -> Value {
    let metadata = &pool.metadata;
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": revision,
            "creationTimestamp": metadata.creation_timestamp,
        },
        "spec": {"replicas": desired(pool)},
        "status": {
            "replicas": pool.status.replicas,
            "selector": format!("{POOL_LABEL}={}", metadata.name),
        },
    })
}

fn desired(pool: &WarmPool) -> u32 {
    let scaled = pool.spec.autoscale.as_ref().and(pool.status.autoscale.as_ref());
    scaled.map_or_else(|| pool.spec.total(), |it| it.desired)
}

/// The number in a scale that somebody sent, if it is about this pool as it is.
fn wanted(object: &ObjectRef, now: &Value, proposed: &Value) -> Result<u32, Status> {
    for field in ["/kind", "/apiVersion", "/metadata/name", "/metadata/namespace"] {
        if let Some(given) = proposed.pointer(field)
            && Some(given) != now.pointer(field)
        {
            let field = field.trim_start_matches('/').replace('/', ".");
            return Err(Status::bad_request(format!("the `{field}` of the scale is another one")));
        }
    }
    for field in ["/metadata/resourceVersion", "/metadata/uid"] {
        let given = proposed.pointer(field).and_then(Value::as_str).filter(|it| !it.is_empty());
        if given.is_some() && given != now.pointer(field).and_then(Value::as_str) {
            return Err(Status::modified(object));
        }
    }
    let field = "spec.replicas";
    let refused = |reason, why: &str| Status::invalid_field(object, field, reason, why);
    let Some(replicas) = proposed.pointer("/spec/replicas") else {
        return Err(refused(ViolationReason::Required, "it must be given"));
    };
    replicas
        .as_u64()
        .and_then(|it| u32::try_from(it).ok())
        .ok_or_else(|| refused(ViolationReason::Invalid, "it must be a whole number, 0 or more"))
}

/// Which region a number would be for nobody can tell, and a pool that follows its claims would not keep it.
fn check_scalable(object: &ObjectRef, pool: &WarmPool) -> Result<(), Status> {
    if pool.spec.autoscale.is_some() {
        let why = "the pool follows its claims: change spec.autoscale.min and spec.autoscale.max";
        let forbidden = ViolationReason::Forbidden;
        return Err(Status::invalid_field(object, "spec.replicas", forbidden, why));
    }
    let Replicas::PerRegion(counts) = &pool.spec.replicas else { return Ok(()) };
    let regions: Vec<_> = counts.keys().map(|region| format!("{region}=N")).collect();
    let why = format!(
        "it has a number for each region, and a scale has one for all: `hangar scale pool/{} --replicas {}` changes them, and so does writing spec.replicas of the pool",
        object.name,
        regions.join(",")
    );
    Err(Status::invalid_field(object, "spec.replicas", ViolationReason::Forbidden, why))
}
