//! Between the plan's words and Fly's wire form. The only place, with its two users `observe` and `execute`, that knows
//! both; it must never decide anything.

use std::{collections::BTreeMap, time::Duration};

use base64::Engine as _;
use serde_json::Map;

use crate::api::{Timestamp, template::SleepMode};
use crate::fly::{self, Reason, Scope, wire};
use crate::plan::{
    action::{Refusal, RefusalKind},
    machine::{self, CheckSpec, MachineSpec, ServiceSpec},
    price::Size,
    world::{CheckState, MachineState, Mark, SeenMachine, SeenVolume},
};
use crate::reconcile::informer::MachineRow;
use crate::retry;

/// The wire form of a configuration.
pub(crate) fn config(spec: &MachineSpec) -> wire::MachineConfig {
    let non_empty = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    wire::MachineConfig {
        image: spec.image.clone(),
        env: spec.env.clone(),
        guest: Some(guest(spec)),
        init: Some(wire::Init {
            cmd: non_empty(&spec.command),
            entrypoint: non_empty(&spec.entrypoint),
            ..wire::Init::default()
        }),
        mounts: spec
            .volume
            .iter()
            .map(|(id, path)| wire::Mount {
                volume: id.clone(),
                path: path.clone(),
                ..wire::Mount::default()
            })
            .collect(),
        services: spec.services.iter().map(service).collect(),
        checks: spec.check.iter().map(|it| (machine::CHECK.to_owned(), check(it))).collect(),
        restart: Some(wire::RestartPolicy {
            policy: spec.restart.clone(),
            max_retries: spec.max_retries,
        }),
        stop_config: Some(wire::StopConfig {
            signal: None,
            timeout: Some(wire::GoDuration(Duration::from_millis(spec.stop_timeout_ms))),
        }),
        files: spec
            .files
            .iter()
            .map(|(path, text, mode)| wire::File {
                guest_path: path.clone(),
                raw_value: Some(base64::engine::general_purpose::STANDARD.encode(text)),
                secret_name: None,
                mode: *mode,
            })
            .collect(),
        metadata: spec.metadata.clone(),
        auto_destroy: false,
        other: Map::new(),
    }
}

/// The wire form of a size.
pub(crate) fn guest(spec: &MachineSpec) -> wire::Guest {
    wire::Guest {
        cpu_kind: spec.cpu_kind.clone(),
        cpus: spec.cpus,
        memory_mb: spec.memory_mib,
        other: Map::new(),
    }
}

fn service(spec: &ServiceSpec) -> wire::Service {
    wire::Service {
        protocol: "tcp".to_owned(),
        internal_port: spec.internal_port,
        ports: vec![wire::Port {
            port: Some(spec.port),
            handlers: if spec.port == 80 {
                vec!["http".to_owned()]
            } else {
                vec!["tls".to_owned(), "http".to_owned()]
            },
            ..wire::Port::default()
        }],
        autostart: Some(true),
        autostop: Some(match spec.autostop {
            None => wire::Autostop::Off,
            Some(SleepMode::Stop) => wire::Autostop::Stop,
            Some(SleepMode::Suspend) => wire::Autostop::Suspend,
        }),
        min_machines_running: Some(0),
        ..wire::Service::default()
    }
}

fn check(spec: &CheckSpec) -> wire::Check {
    let (kind, path, port) = match spec {
        CheckSpec::Http { path, port } => ("http", Some(path.clone()), *port),
        CheckSpec::Tcp { port } => ("tcp", None, *port),
    };
    wire::Check {
        kind: kind.to_owned(),
        port: Some(port),
        method: path.as_ref().map(|_| "GET".to_owned()),
        path,
        interval: Some(wire::GoDuration(Duration::from_secs(2))),
        timeout: Some(wire::GoDuration(Duration::from_secs(2))),
        grace_period: Some(wire::GoDuration(Duration::from_secs(1))),
        ..wire::Check::default()
    }
}

/// A configuration in the plan's words; what hangar never sets is not looked at.
fn spec(config: &wire::MachineConfig) -> MachineSpec {
    let guest = config.guest.clone().unwrap_or_default();
    let init = config.init.clone().unwrap_or_default();
    let restart = config.restart.clone().unwrap_or_default();
    let stop = config.stop_config.as_ref().and_then(|it| it.timeout);
    MachineSpec {
        image: config.image.clone(),
        cpu_kind: guest.cpu_kind,
        cpus: guest.cpus,
        memory_mib: guest.memory_mb,
        command: init.cmd.unwrap_or_default(),
        entrypoint: init.entrypoint.unwrap_or_default(),
        env: config.env.clone(),
        files: config.files.iter().map(file).collect(),
        volume: config.mounts.first().map(|it| (it.volume.clone(), it.path.clone())),
        services: config
            .services
            .iter()
            .map(|it| ServiceSpec {
                internal_port: it.internal_port,
                port: it.ports.first().and_then(|port| port.port).unwrap_or_default(),
                autostop: match it.autostop {
                    None | Some(wire::Autostop::Off) => None,
                    Some(wire::Autostop::Stop) => Some(SleepMode::Stop),
                    Some(wire::Autostop::Suspend) => Some(SleepMode::Suspend),
                },
            })
            .collect(),
        check: config.checks.get(machine::CHECK).and_then(|it| {
            let port = it.port?;
            Some(match it.kind.as_str() {
                "http" => CheckSpec::Http { path: it.path.clone().unwrap_or_default(), port },
                _ => CheckSpec::Tcp { port },
            })
        }),
        restart: restart.policy,
        max_retries: restart.max_retries,
        stop_timeout_ms: stop
            .map_or(5_000, |it| u64::try_from(it.0.as_millis()).unwrap_or(u64::MAX)),
        metadata: own(&config.metadata),
    }
}

/// Those of a machine's metadata that are hangar's.
pub(crate) fn own(metadata: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = metadata.iter().filter(|(key, _)| key.starts_with("hangar_"));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn file(file: &wire::File) -> (String, String, Option<u32>) {
    let content = file
        .raw_value
        .as_ref()
        .and_then(|it| base64::engine::general_purpose::STANDARD.decode(it).ok())
        .and_then(|it| String::from_utf8(it).ok())
        .unwrap_or_default();
    (file.guest_path.clone(), content, file.mode)
}

/// A machine that was read by itself.
pub(crate) fn seen(machine: &wire::Machine) -> SeenMachine {
    let config = machine.config.as_ref();
    let metadata = config.or(machine.incomplete_config.as_ref()).map(|it| &it.metadata);
    SeenMachine {
        id: machine.id.clone(),
        name: machine.name.clone(),
        state: MachineState::parse(&machine.state),
        version: machine.instance_id.clone(),
        region: machine.region.clone(),
        config: config.map(spec),
        check: check_state(machine),
        launch_error: launch_error(&machine.events),
        started_at: started_at(&machine.events),
        host_answers: machine.host_status.as_deref().is_none_or(|it| it == "ok"),
        metadata: metadata.map(own),
        mark: metadata.and_then(mark),
    }
}

/// A machine that only the list told of.
pub(crate) fn seen_row(id: &str, row: &MachineRow) -> SeenMachine {
    SeenMachine {
        id: id.to_owned(),
        name: row.name.clone(),
        state: MachineState::parse(&row.state),
        version: row.version.clone(),
        region: row.region.clone(),
        config: None,
        check: CheckState::None,
        launch_error: None,
        started_at: None,
        host_answers: true,
        metadata: row.metadata.clone(),
        mark: row.metadata.as_ref().and_then(mark),
    }
}

/// Why the last launch or start failed, in Fly's own words, unless one was begun since; the newest events come first.
fn launch_error(events: &[wire::MachineEvent]) -> Option<String> {
    let is_launch = |it: &&wire::MachineEvent| matches!(it.kind.as_str(), "launch" | "start");
    let error = events.iter().find(is_launch)?.request.as_ref()?.get("error")?.as_str()?;
    Some(error.to_owned()).filter(|it| !it.is_empty())
}

/// When it was last started, by order or after its program ended; the newest events come first.
fn started_at(events: &[wire::MachineEvent]) -> Option<Timestamp> {
    let start = events.iter().find(|it| it.kind == "start")?;
    Timestamp::from_millisecond(start.timestamp).ok()
}

/// A volume that was read by itself.
pub(crate) fn seen_volume(volume: &wire::Volume) -> SeenVolume {
    SeenVolume {
        id: volume.id.clone(),
        region: volume.region.clone(),
        name: volume.name.clone(),
        size_gib: volume.size_gb,
        attached_to: volume.attached_machine_id.clone(),
        going: volume.is_going(),
        created_at: volume.created_at.parse().ok(),
    }
}

/// A machine's size.
pub(crate) fn size(guest: &wire::Guest) -> Size {
    Size {
        performance: guest.cpu_kind == "performance",
        cpus: guest.cpus,
        memory_mib: guest.memory_mb,
    }
}

fn check_state(shown: &wire::Machine) -> CheckState {
    let checks = &shown.checks;
    let check = checks.iter().find(|it| it.name == machine::CHECK).map(|it| it.status.as_str());
    match (check, ends(&shown.events)) {
        (Some("passing"), _) => CheckState::Passing,
        (_, ends @ 1..) => CheckState::Crashing(ends),
        (None, 0) => CheckState::None,
        (Some(_), 0) => CheckState::Failing,
    }
}

/// How often the program ended by itself under this configuration, as far back as the events go; the newest come first.
fn ends(events: &[wire::MachineEvent]) -> u32 {
    let by_itself = |event: &&wire::MachineEvent| {
        let request = event.request.as_ref();
        let exit = request
            .and_then(|it| it.pointer("/MonitorEvent/exit_event").or_else(|| it.get("exit_event")));
        event.kind == "exit"
            && exit
                .is_some_and(|it| it.get("requested_stop") == Some(&serde_json::Value::Bool(false)))
    };
    let recent = events.iter().take_while(|it| !matches!(it.kind.as_str(), "launch" | "update"));
    u32::try_from(recent.filter(by_itself).count()).unwrap_or(u32::MAX)
}

fn mark(metadata: &BTreeMap<String, String>) -> Option<Mark> {
    Some(Mark {
        instance: metadata.get(machine::INSTANCE)?.clone(),
        bay: metadata.get(machine::BAY)?.clone(),
        epoch: metadata.get(machine::EPOCH)?.parse().ok()?,
    })
}

/// A failed call in the plan's words.
pub(crate) fn refusal(error: &fly::Error) -> Refusal {
    let kind = match &error.reason {
        Reason::NameTaken => RefusalKind::NameTaken,
        Reason::MachineNameTaken { id } => RefusalKind::MachineNameTaken(id.clone()),
        Reason::Capacity { scope: Scope::Governor } => RefusalKind::TooEarly,
        Reason::Capacity { .. } => RefusalKind::NoCapacity,
        Reason::VersionMismatch | Reason::ConcurrentUpdate => RefusalKind::Changed,
        Reason::StateRace | Reason::SecretsBehind | Reason::StillRunning => RefusalKind::TooEarly,
        _ if error.is_gone() || error.reason == Reason::VolumeNotFound => RefusalKind::Gone,
        _ if error.ambiguous() => RefusalKind::Ambiguous,
        _ => RefusalKind::Other,
    };
    Refusal { kind, message: retry::chain(error) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(events: &[(&str, serde_json::Value)], check: &str) -> CheckState {
        let events = events.iter().map(|(kind, request)| wire::MachineEvent {
            kind: (*kind).to_owned(),
            request: Some(request.clone()),
            ..wire::MachineEvent::default()
        });
        let checks = vec![wire::CheckStatus {
            name: machine::CHECK.to_owned(),
            status: check.to_owned(),
            ..wire::CheckStatus::default()
        }];
        check_state(&wire::Machine { events: events.collect(), checks, ..wire::Machine::default() })
    }

    #[test]
    fn why_a_launch_failed_is_told_until_the_next_one() {
        let event = |kind: &str, error: Option<&str>| wire::MachineEvent {
            kind: kind.to_owned(),
            request: error.map(|it| json!({"error": it})),
            ..wire::MachineEvent::default()
        };
        let failed = event("launch", Some("MANIFEST_UNKNOWN: no such image"));
        let told = Some("MANIFEST_UNKNOWN: no such image".to_owned());
        assert_eq!(launch_error(&[failed.clone(), event("launch", None)]), told);
        assert_eq!(launch_error(&[event("update", None), failed.clone()]), told);
        assert_eq!(launch_error(&[event("start", None), failed]), None);
    }

    #[test]
    fn a_program_that_ends_by_itself_is_told_from_one_that_is_not_ready() {
        let ended = json!({"exit_event": {"requested_stop": false}});
        let stopped = json!({"exit_event": {"requested_stop": true}});
        let older = json!({"MonitorEvent": {"exit_event": {"requested_stop": false}}});
        let none = json!(null);
        let crashed = [("exit", ended.clone()), ("start", none.clone()), ("exit", older)];
        assert_eq!(shown(&crashed, "critical"), CheckState::Crashing(2));
        assert_eq!(shown(&crashed, "passing"), CheckState::Passing);
        let updated = [("start", none.clone()), ("update", none.clone()), ("exit", ended)];
        assert_eq!(shown(&updated, "critical"), CheckState::Failing);
        assert_eq!(shown(&[("exit", stopped), ("launch", none)], "warning"), CheckState::Failing);
    }
}
