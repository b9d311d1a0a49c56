//! What pods use, as `metrics.k8s.io` has it, for `kubectl top pods`. It must never tell a figure that was not measured: pods
//! whose machines' use is not known are left out.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{
    kind::Kind,
    meta::ObjectRef,
    pod::{CONTAINER, Need, Place},
};
use crate::server::{
    State,
    call::{Pods, Scope},
    derived,
    reach::Usage,
    status::Status,
    streams::place,
};
use crate::store::handle::decode_bytes;

/// Group and version.
const VERSION: &str = "metrics.k8s.io/v1beta1";
/// Between the two looks that processor time is measured by.
const WINDOW: Duration = Duration::from_millis(500);

/// Of all pods, those of a namespace, or one.
pub(in crate::server) async fn usage(state: &State, pods: &Pods) -> Result<Value, Status> {
    if let Pods { namespace: Some(namespace), name: Some(name) } = pods {
        let pod = ObjectRef::new(Kind::Pod, namespace, name);
        let (_, place) = place(&state.store, &pod, Need::Running).await?;
        let measured = measure(state, vec![(pod.clone(), place)]).await.pop();
        return measured.ok_or_else(|| Status::not_found(&pod));
    }
    let prefix = Scope { kind: Kind::Pod, namespace: pods.namespace.clone(), form: None }.prefix();
    let (entries, revision) = derived::list(&state.store, Kind::Pod, &prefix).await?;
    let mut places = Vec::new();
    for entry in &entries {
        let pod: crate::api::pod::Pod = decode_bytes(&entry.key, &entry.value)?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let pod = ObjectRef::new(Kind::Pod, namespace, &pod.metadata.name);
        if let Ok((_, place)) = place(&state.store, &pod, Need::Running).await {
            places.push((pod, place));
        }
    }
    Ok(json!({
        "kind": "PodMetricsList",
        "apiVersion": VERSION,
        "metadata": {"resourceVersion": revision.to_string()},
        "items": measure(state, places).await,
    }))
}

async fn measure(state: &State, places: Vec<(ObjectRef, Place)>) -> Vec<Value> {
    let first = looks(state, &places).await;
    tokio::time::sleep(WINDOW).await;
    let second = looks(state, &places).await;
    let now = state.clock.now();
    let all = places.iter().zip(first.into_iter().zip(second));
    all.filter_map(|((pod, _), (first, second))| Some(shown(pod, first?, second?, now))).collect()
}

type Look = Option<(Duration, Usage)>;

async fn looks(state: &State, places: &[(ObjectRef, Place)]) -> Vec<Look> {
    let all = places.iter().map(|(_, place)| look(state, place));
    futures::future::join_all(all).await
}

async fn look(state: &State, place: &Place) -> Look {
    let usage = state.reach.usage(place).await?;
    Some((state.clock.monotonic(), usage))
}

fn shown(
    pod: &ObjectRef,
    (began, first): (Duration, Usage),
    (ended, second): (Duration, Usage),
    now: Timestamp,
) -> Value {
    let window = ended.saturating_sub(began);
    // A process that ended in between takes its time with it.
    let used_ms = second.cpu_ms.saturating_sub(first.cpu_ms);
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX).max(1);
    let cores_milli = used_ms.saturating_mul(1_000) / window_ms;
    json!({
        "kind": "PodMetrics",
        "apiVersion": VERSION,
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace,
            "creationTimestamp": now.to_string(),
        },
        "timestamp": now.to_string(),
        "window": format!("{window_ms}ms"),
        "containers": [{
            "name": CONTAINER,
            "usage": {
                "cpu": format!("{cores_milli}m"),
                "memory": format!("{}Ki", second.memory_bytes / 1_024),
            },
        }],
    })
}
