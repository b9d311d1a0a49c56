//! Pod: a machine as Kubernetes' tools want to see it, so that `kubectl logs`, `exec` and `port-forward` have a name to use.
//! Nobody keeps pods: [`Pod::of`] makes one of an environment and its bay. It must never say more than those two say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::api::{
    API_VERSION,
    bay::{Bay, BayPhase, MachineStatus},
    condition::Truth,
    environment::{ConditionType, Environment},
    meta::{Metadata, OwnerReference, resource},
};

/// The one container of every pod.
pub const CONTAINER: &str = "main";
/// Label with the environment's name.
pub const ENVIRONMENT_LABEL: &str = "hangar.dev/environment";
/// Label with the bay's name.
const BAY_LABEL: &str = "hangar.dev/bay";
/// Annotation with the app's name at Fly.
const APP: &str = "hangar.dev/app";
/// Annotation with the machine's id at Fly.
const MACHINE: &str = "hangar.dev/machine";
/// Annotation of an environment: its machine is to be made anew, if it is still this one. The id, `@` and when that was ordered.
const RESET: &str = "hangar.dev/reset";
/// Which container kubectl takes where none is named.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

resource! {
    /// The machine of an environment, as Kubernetes' tools see one: named as the environment. It is not kept but follows from
    /// Environment and Bay. Machines that wait in a pool have none. To delete it is to have the machine made anew: what is on the
    /// volume stays, the rest goes.
    Pod {
        /// What runs.
        spec: PodSpec,
        /// How it is.
        #[serde(default)]
        status: PodStatus,
    }
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Always one, `main`.
    pub containers: Vec<Container>,
    /// The region that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Always `Always`.
    pub restart_policy: String,
    /// Always empty; clients do without only where it is there.
    pub security_context: SecurityContext,
}

/// Nothing is said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecurityContext {}

/// What runs in a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Container {
    /// `main`.
    pub name: String,
    /// Its image, where the bay says it: only those that a pool made do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending` before its first start, `Failed` when the machine cannot run, and `Running` otherwise, asleep too.
    pub phase: String,
    /// Whether it is ready.
    pub conditions: Vec<PodCondition>,
    /// Since when there is this pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub start_time: Option<Timestamp>,
    /// Of the one container.
    pub container_statuses: Vec<ContainerStatus>,
}

/// A condition of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// `Initialized`, `PodScheduled`, `ContainersReady` or `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: Truth,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub last_transition_time: Option<Timestamp>,
}

/// How a container is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerStatus {
    /// `main`.
    pub name: String,
    /// Its image, empty where that is not known.
    pub image: String,
    /// Always empty; clients do without only where it is there.
    #[serde(rename = "imageID")]
    pub image_id: String,
    /// `hangar://` and the machine's id.
    #[serde(rename = "containerID", skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    /// Whether it was seen serving.
    pub ready: bool,
    /// Whether the machine runs.
    pub started: bool,
    /// How often the machine was replaced by another one.
    pub restart_count: u64,
    /// What it does.
    pub state: ContainerState,
}

/// What a container does: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ContainerState {
    /// It runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Running>,
    /// It does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
}

/// Since when a container runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Running {
    /// Since when hangar has seen it run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
}

/// Why a container does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Waiting {
    /// For programs.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// What a machine is reached for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Something that a machine has, running or not.
    Machine,
    /// A program that runs.
    Running,
}

/// Where the machine of a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// App at Fly.
    pub app: String,
    /// Machine at Fly.
    pub machine: String,
}

impl Pod {
    /// The pod of an environment that is bound to this bay; none while there is no machine, or where the two do not belong
    /// together.
    #[must_use]
    pub fn of(environment: &Environment, bay: &Bay) -> Option<Self> {
        let machine = machine(environment, bay)?;
        let made = machine.intended_at.filter(|_| bay.status.epoch > 1);
        let begun = made.or(bay.spec.claimed_at).or(bay.metadata.creation_timestamp);
        let image = bay.spec.stock.as_ref().map(|stock| stock.made_from.machine.image.clone());
        let state = state(machine);
        let ready = state.running.is_some() && is_ready(environment);
        let status = ContainerStatus {
            name: CONTAINER.to_owned(),
            image: image.clone().unwrap_or_default(),
            image_id: String::new(),
            container_id: machine
                .id
                .as_ref()
                .map_or_else(String::new, |id| format!("hangar://{id}")),
            ready,
            started: state.running.is_some(),
            restart_count: bay.status.epoch.saturating_sub(1),
            state,
        };
        Some(Self {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            metadata: metadata(environment, bay, machine, begun),
            spec: PodSpec {
                containers: vec![Container { name: CONTAINER.to_owned(), image }],
                node_name: bay.status.region.clone(),
                restart_policy: "Always".to_owned(),
                security_context: SecurityContext {},
            },
            status: PodStatus {
                phase: phase(&machine.state).to_owned(),
                conditions: conditions(environment, ready, begun),
                start_time: begun,
                container_statuses: vec![status],
            },
        })
    }

    /// Where its machine is.
    ///
    /// # Errors
    /// With a sentence, if nobody may, or can, reach into it.
    pub fn place(environment: &Environment, bay: &Bay, need: Need) -> Result<Place, String> {
        let name = &environment.metadata.name;
        let machine = machine(environment, bay).ok_or_else(|| format!("{name} has no machine"))?;
        let is_going = bay.status.phase == BayPhase::Retiring
            || machine.destroying
            || reset(environment, machine).is_some();
        if environment.metadata.deletion_timestamp.is_some() || is_going {
            return Err(format!("the machine of {name} is being removed"));
        }
        let may = need == Need::Machine || machine.state == "started";
        let id = machine.id.clone().filter(|_| may).ok_or_else(|| {
            let Waiting { message, .. } = waiting(&machine.state);
            format!("the machine of {name} does not run: {message}")
        })?;
        Ok(Place { app: bay.spec.app.clone(), machine: id })
    }
}

/// What an environment is annotated with, so that its machine is made anew.
#[must_use]
pub fn reset_order(machine: &str, now: Timestamp) -> (&'static str, String) {
    (RESET, format!("{machine}@{now}"))
}

/// The machine that is to be made anew for an environment, and when that was ordered, where the order says it.
#[must_use]
pub fn ordered_reset(environment: &Environment) -> Option<(&str, Option<Timestamp>)> {
    let order = environment.metadata.annotations.get(RESET)?;
    let (machine, at) = order.split_once('@').unwrap_or((order, ""));
    Some((machine, at.parse().ok()))
}

/// Since when a machine is to be made anew.
fn reset(environment: &Environment, machine: &MachineStatus) -> Option<Timestamp> {
    let (id, at) = ordered_reset(environment)?;
    let is_it = machine.id.as_deref() == Some(id);
    is_it.then(|| at.or(machine.state_since).or(environment.metadata.creation_timestamp))?
}

/// Another for each machine: who waits for a pod to go must see that it did.
fn uid(bay: &Bay) -> String {
    if bay.status.epoch <= 1 {
        return bay.metadata.uid.clone();
    }
    let hash = blake3::hash(format!("{}/{}", bay.metadata.uid, bay.status.epoch).as_bytes());
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

fn machine<'a>(environment: &Environment, bay: &'a Bay) -> Option<&'a MachineStatus> {
    let bound = bay.spec.environment_ref.as_ref()?;
    let is_its = environment.status.bay.as_ref()?.name == bay.metadata.name
        && bound.uid == environment.metadata.uid
        && bay.metadata.namespace == environment.metadata.namespace;
    bay.status.machine.as_ref().filter(|_| is_its)
}

fn metadata(
    environment: &Environment,
    bay: &Bay,
    machine: &MachineStatus,
    begun: Option<Timestamp>,
) -> Metadata {
    let owner = &environment.metadata;
    let going_since = owner.deletion_timestamp.or_else(|| reset(environment, machine));
    let mut labels = owner.labels.clone();
    labels.insert(ENVIRONMENT_LABEL.to_owned(), owner.name.clone());
    labels.insert(BAY_LABEL.to_owned(), bay.metadata.name.clone());
    let mut annotations = BTreeMap::from([
        (DEFAULT_CONTAINER.to_owned(), CONTAINER.to_owned()),
        (APP.to_owned(), bay.spec.app.clone()),
    ]);
    if let Some(id) = &machine.id {
        annotations.insert(MACHINE.to_owned(), id.clone());
    }
    Metadata {
        name: owner.name.clone(),
        namespace: owner.namespace.clone(),
        uid: uid(bay),
        creation_timestamp: begun,
        deletion_timestamp: going_since,
        deletion_grace_period_seconds: going_since.and(Some(0)),
        labels,
        annotations,
        owner_references: vec![OwnerReference {
            api_version: API_VERSION.to_owned(),
            kind: "Environment".to_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }],
        ..Metadata::default()
    }
}

fn is_ready(environment: &Environment) -> bool {
    crate::api::condition::holds(&environment.status.conditions, ConditionType::Ready)
}

fn conditions(
    environment: &Environment,
    ready: bool,
    begun: Option<Timestamp>,
) -> Vec<PodCondition> {
    let seen = crate::api::condition::get(&environment.status.conditions, ConditionType::Ready)
        .map(|it| it.last_transition_time);
    let ready = if ready { Truth::True } else { Truth::False };
    [
        ("PodScheduled", Truth::True, begun),
        ("Initialized", Truth::True, begun),
        ("ContainersReady", ready, seen.or(begun)),
        ("Ready", ready, seen.or(begun)),
    ]
    .map(|(kind, status, last_transition_time)| PodCondition {
        kind: kind.to_owned(),
        status,
        last_transition_time,
    })
    .into()
}

fn phase(state: &str) -> &'static str {
    match state {
        "" | "created" | "creating" | "starting" => "Pending",
        "failed" | "launch_failed" => "Failed",
        _ => "Running",
    }
}

fn state(machine: &MachineStatus) -> ContainerState {
    if machine.state == "started" {
        let running = Running { started_at: machine.state_since };
        return ContainerState { running: Some(running), waiting: None };
    }
    ContainerState { running: None, waiting: Some(waiting(&machine.state)) }
}

fn waiting(state: &str) -> Waiting {
    let (reason, message) = match state {
        "" => ("ContainerCreating", "it is being made".to_owned()),
        "suspended" | "stopped" => {
            ("Asleep", format!("it is {state}; a request to its address wakes it"))
        }
        "suspending" | "stopping" => ("Asleep", format!("it is {state}")),
        "failed" | "launch_failed" => ("Failed", "it cannot run".to_owned()),
        "destroying" | "destroyed" => ("Terminating", "it is being removed".to_owned()),
        "replacing" | "updating" | "restarting" => ("Updating", format!("it is {state}")),
        other => ("Starting", format!("it is {other}")),
    };
    Waiting { reason: reason.to_owned(), message }
}

/// How many of a pod's containers are ready, of how many.
pub(crate) fn ready_cell(pod: &Value) -> Option<String> {
    let all = pod.pointer("/status/containerStatuses")?.as_array()?;
    let ready = all.iter().filter(|it| it.get("ready").is_some_and(|it| it == true)).count();
    Some(format!("{ready}/{}", all.len()))
}

/// A pod in one word, as kubectl shows it.
pub(crate) fn status_cell(pod: &Value) -> Option<String> {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return Some("Terminating".to_owned());
    }
    let waits = pod.pointer("/status/containerStatuses/0/state/waiting/reason");
    let word = waits.or_else(|| pod.pointer("/status/phase"))?;
    word.as_str().map(str::to_owned)
}

/// How often a pod's machine was replaced.
pub(crate) fn restarts_cell(pod: &Value) -> Option<String> {
    let count = pod.pointer("/status/containerStatuses/0/restartCount")?.as_u64()?;
    Some(count.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(change: Value) -> Environment {
        let mut value = json!({
            "apiVersion": API_VERSION, "kind": "Environment",
            "metadata": {"name": "alice", "namespace": "default", "uid": "e1", "labels": {"team": "a"}},
            "spec": {"templateRef": {"name": "web"}},
            "status": {
                "bay": {"name": "b1", "app": "hgr-1", "epoch": 1},
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Serving",
                    "lastTransitionTime": "2026-01-01T00:00:09Z",
                }],
            },
        });
        json_patch::merge(&mut value, &change);
        serde_json::from_value(value).unwrap()
    }

    fn bay(change: Value) -> Bay {
        let mut value = json!({
            "apiVersion": API_VERSION, "kind": "Bay",
            "metadata": {
                "name": "b1", "namespace": "default", "uid": "u1",
                "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {
                "environmentRef": {"name": "alice", "uid": "e1"},
                "app": "hgr-1", "network": "n", "volume": false,
            },
            "status": {
                "epoch": 3, "region": "ams", "phase": "Provisioned",
                "machine": {"id": "m1", "state": "started", "stateSince": "2026-01-01T00:00:05Z"},
            },
        });
        json_patch::merge(&mut value, &change);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_running_machine_is_a_ready_pod_of_its_environment() {
        let pod = Pod::of(&environment(json!({})), &bay(json!({}))).unwrap();
        let pod = serde_json::to_value(pod).unwrap();
        let at = |path: &str| pod.pointer(path).cloned().unwrap_or_default();
        assert_eq!(at("/metadata/name"), "alice");
        assert_eq!(at("/metadata/ownerReferences/0/uid"), "e1");
        assert_eq!(
            at("/metadata/labels"),
            json!({"hangar.dev/bay": "b1", "hangar.dev/environment": "alice", "team": "a"})
        );
        assert_eq!(at("/spec/containers"), json!([{"name": "main"}]));
        assert_eq!(at("/status/phase"), "Running");
        assert_eq!(
            at("/status/containerStatuses/0/state"),
            json!({"running": {"startedAt": "2026-01-01T00:00:05Z"}})
        );
        assert_eq!(ready_cell(&pod).unwrap(), "1/1");
        assert_eq!(status_cell(&pod).unwrap(), "Running");
        assert_eq!(restarts_cell(&pod).unwrap(), "2");
    }

    #[test]
    fn what_sleeps_starts_or_goes_says_so() {
        let check = |env: Value, state: &str, word: &str, phase: &str| {
            let pod =
                Pod::of(&environment(env), &bay(json!({"status": {"machine": {"state": state}}})));
            let pod = serde_json::to_value(pod.unwrap()).unwrap();
            assert_eq!(
                (status_cell(&pod).unwrap().as_str(), &pod["status"]["phase"]),
                (word, &json!(phase))
            );
            assert_eq!(ready_cell(&pod).unwrap(), if state == "started" { "1/1" } else { "0/1" });
        };
        check(json!({}), "suspended", "Asleep", "Running");
        check(json!({}), "starting", "Starting", "Pending");
        check(json!({}), "", "ContainerCreating", "Pending");
        check(json!({}), "failed", "Failed", "Failed");
        check(
            json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}}),
            "started",
            "Terminating",
            "Running",
        );
    }

    #[test]
    fn a_bay_without_a_machine_or_of_somebody_else_is_no_pod() {
        let none = |bay: &Bay| {
            assert_eq!(Pod::of(&environment(json!({})), bay), None);
            Pod::place(&environment(json!({})), bay, Need::Machine).unwrap_err();
        };
        none(&bay(json!({"status": {"machine": null}})));
        none(&bay(json!({"spec": {"environmentRef": null}})));
        none(&bay(json!({"spec": {"environmentRef": {"uid": "e0"}}})));
        none(&bay(json!({"metadata": {"name": "b2"}})));
        none(&bay(json!({"metadata": {"namespace": "other"}})));
    }

    #[test]
    fn only_a_running_machine_that_stays_can_be_reached() {
        let place =
            |env: Value, change: Value, need| Pod::place(&environment(env), &bay(change), need);
        let here = Place { app: "hgr-1".to_owned(), machine: "m1".to_owned() };
        assert_eq!(place(json!({}), json!({}), Need::Running), Ok(here.clone()));
        let suspended = json!({"status": {"machine": {"state": "suspended"}}});
        assert_eq!(place(json!({}), suspended.clone(), Need::Machine), Ok(here));
        place(json!({}), suspended, Need::Running).unwrap_err();
        let refused = [
            (json!({"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z"}}), json!({})),
            (json!({}), json!({"status": {"phase": "Retiring"}})),
            (json!({}), json!({"status": {"machine": {"destroying": true}}})),
            (json!({}), json!({"status": {"machine": {"id": null}}})),
        ];
        for (env, change) in refused {
            place(env, change, Need::Machine).unwrap_err();
        }
    }
}
