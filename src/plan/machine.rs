//! The configuration that a machine should have, from its template and environment. It must never know Fly's wire form.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::{
    bay::{Bay, BayStatus},
    environment::Environment,
    meta::Resource as _,
    quantity::Span,
    template::{CpuKind, RestartPolicy, SleepDecider, SleepMode, Template, TemplateSpec},
};

/// Metadata key: the installation.
pub const INSTANCE: &str = "hangar_instance";
/// Metadata key: the bay's uid.
pub const BAY: &str = "hangar_bay";
/// Metadata key: which of the bay's machines.
pub const SLOT: &str = "hangar_slot";
/// Metadata key: the epoch.
pub const EPOCH: &str = "hangar_epoch";
/// Metadata key: the environment.
pub const ENVIRONMENT: &str = "hangar_environment";
/// Metadata key: the version of the app's secrets that it was given.
pub const SECRETS: &str = "hangar_secrets";
/// The name of the readiness check.
pub const CHECK: &str = "hangar-readiness";
/// The app secret that holds the bay's key.
pub const BAY_KEY: &str = "HANGAR_BAY_KEY";

/// The variable that tells a program where its first service listens; no template or environment can set it.
pub const PORT: &str = "PORT";

/// A machine's configuration in our own words; equal values mean that nothing need be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MachineSpec {
    /// Image reference.
    pub image: String,
    /// `shared` or `performance`.
    pub cpu_kind: String,
    /// CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Replaces the image's command where it is not empty.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint where it is not empty.
    pub entrypoint: Vec<String>,
    /// Environment, secrets left out.
    pub env: BTreeMap<String, String>,
    /// Path, text and permission bits of each file.
    pub files: Vec<(String, String, Option<u32>)>,
    /// Volume's id and path.
    pub volume: Option<(String, String)>,
    /// Services.
    pub services: Vec<ServiceSpec>,
    /// The readiness check that Fly makes.
    pub check: Option<CheckSpec>,
    /// `always`, `on-failure`, `no`.
    pub restart: String,
    /// For `on-failure`.
    pub max_retries: Option<u32>,
    /// Time between the stop signal and the kill.
    pub stop_timeout_ms: u64,
    /// Metadata that hangar sets.
    pub metadata: BTreeMap<String, String>,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServiceSpec {
    /// Port inside.
    pub internal_port: u16,
    /// Port outside.
    pub port: u16,
    /// What Fly Proxy does with an idle machine.
    pub autostop: Option<SleepMode>,
}

/// A check that Fly makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum CheckSpec {
    /// A GET.
    Http {
        /// Path.
        path: String,
        /// Port inside.
        port: u16,
    },
    /// A connect.
    Tcp {
        /// Port inside.
        port: u16,
    },
}

impl MachineSpec {
    /// Its size in a word, by which regions without room are told apart.
    #[must_use]
    pub fn size(&self) -> String {
        size_of(&self.cpu_kind, self.cpus, self.memory_mib)
    }

    /// A digest by which two specifications are told apart.
    #[must_use]
    pub fn digest(&self) -> String {
        // A struct of strings and numbers always serialises; an empty digest would only cost an update.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        blake3::hash(&bytes).to_hex().chars().take(16).collect()
    }
}

fn size_of(cpu_kind: &str, cpus: u32, memory_mib: u32) -> String {
    format!("{cpu_kind}-{cpus}-{memory_mib}")
}

/// The size of a template's machines: see [`MachineSpec::size`].
#[must_use]
pub fn size(template: &Template) -> String {
    let guest = template.spec.machine.guest.clone().unwrap_or_default();
    let memory_mib = u32::try_from(guest.memory.mib()).unwrap_or(u32::MAX);
    size_of(cpu_kind(guest.cpu_kind), guest.cpus, memory_mib)
}

fn cpu_kind(kind: CpuKind) -> &'static str {
    match kind {
        CpuKind::Shared => "shared",
        CpuKind::Performance => "performance",
    }
}

/// The configuration of an environment's machine of this epoch. The bay's `status` is the one that is being planned, not the recorded one.
#[must_use]
pub fn desired(
    environment: &Environment,
    template: &Template,
    bay: &Bay,
    status: &BayStatus,
    epoch: u64,
) -> MachineSpec {
    let spec = &template.spec;
    let guest = spec.machine.guest.clone().unwrap_or_default();
    let restart = spec.machine.restart.as_ref();
    MachineSpec {
        image: spec.machine.image.clone(),
        cpu_kind: cpu_kind(guest.cpu_kind).to_owned(),
        cpus: guest.cpus,
        memory_mib: u32::try_from(guest.memory.mib()).unwrap_or(u32::MAX),
        command: spec.machine.command.clone(),
        entrypoint: spec.machine.entrypoint.clone(),
        env: env(environment, template, epoch),
        files: spec
            .machine
            .files
            .iter()
            .map(|file| {
                let mode = file.mode.as_deref().and_then(|it| u32::from_str_radix(it, 8).ok());
                (file.path.clone(), file.content.clone(), mode)
            })
            .collect(),
        volume: status
            .volume
            .as_ref()
            .zip(spec.volume.as_ref())
            .map(|(volume, wanted)| (volume.id.clone(), wanted.mount_path.clone())),
        services: services(template),
        check: check(template),
        restart: match restart.map(|it| it.policy) {
            Some(RestartPolicy::Always) | None => "always",
            Some(RestartPolicy::OnFailure) => "on-failure",
            Some(RestartPolicy::No) => "no",
        }
        .to_owned(),
        max_retries: restart.and_then(|it| it.max_retries),
        stop_timeout_ms: millis(spec.machine.stop_timeout.as_ref(), 5_000),
        metadata: metadata(environment, bay, status, epoch),
    }
}

/// The variables of an environment's machine, secrets left out.
#[must_use]
pub fn env(environment: &Environment, template: &Template, epoch: u64) -> BTreeMap<String, String> {
    let mut env = template.spec.machine.env.clone();
    env.extend(environment.spec.env.clone());
    let namespace = environment.metadata.namespace.clone().unwrap_or_default();
    env.insert("HANGAR_ENVIRONMENT".to_owned(), environment.metadata.name.clone());
    env.insert("HANGAR_NAMESPACE".to_owned(), namespace);
    env.insert("HANGAR_EPOCH".to_owned(), epoch.to_string());
    if let Some(personalize) = &template.spec.personalize {
        env.insert("HANGAR_PERSONALIZE_FILE".to_owned(), personalize.file.clone());
    }
    if let Some(service) = template.spec.services.first() {
        env.insert(PORT.to_owned(), service.internal_port.to_string());
    }
    env
}

/// What a personalize file has of them: all but the port, where the program listens already.
#[must_use]
pub fn personal_env(
    environment: &Environment,
    template: &Template,
    epoch: u64,
) -> BTreeMap<String, String> {
    let mut env = env(environment, template, epoch);
    env.remove(PORT);
    env
}

/// What Fly Proxy does with an idle machine, where it decides about sleep: that part of the sleep rule is the machine's.
pub(crate) fn autostop(template: &TemplateSpec) -> Option<SleepMode> {
    let sleep = template.sleep.as_ref();
    sleep.filter(|it| it.decided_by == Some(SleepDecider::FlyProxy)).and_then(|it| it.mode)
}

fn services(template: &Template) -> Vec<ServiceSpec> {
    let autostop = autostop(&template.spec);
    template
        .spec
        .services
        .iter()
        .map(|service| ServiceSpec {
            internal_port: service.internal_port,
            port: service.port.unwrap_or(443),
            autostop,
        })
        .collect()
}

fn check(template: &Template) -> Option<CheckSpec> {
    let readiness = template.spec.readiness.as_ref()?;
    if let Some(http) = &readiness.http {
        return Some(CheckSpec::Http { path: http.path.clone(), port: http.port });
    }
    readiness.tcp.as_ref().map(|tcp| CheckSpec::Tcp { port: tcp.port })
}

fn metadata(
    environment: &Environment,
    bay: &Bay,
    status: &BayStatus,
    epoch: u64,
) -> BTreeMap<String, String> {
    let secrets = status.secrets.as_ref().map_or(0, |it| it.version);
    [
        (INSTANCE, bay.spec.instance.clone()),
        (BAY, bay.metadata.uid.clone()),
        (SLOT, "primary".to_owned()),
        (EPOCH, epoch.to_string()),
        (ENVIRONMENT, environment.object_ref().to_string()),
        ("hangar_environment_uid", environment.metadata.uid.clone()),
        // Machines read app secrets at their start only, so a new version must change the configuration.
        (SECRETS, secrets.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

pub(crate) fn millis(span: Option<&Span>, default: u64) -> u64 {
    span.map_or(default, |it| u64::try_from(it.get().as_millis()).unwrap_or(u64::MAX))
}
