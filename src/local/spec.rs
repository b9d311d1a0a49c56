//! From a machine's configuration to everything a driver needs to start it. It must never start anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::fly::wire;
use crate::local::{
    checks,
    driver::{Image, Restart, Spec},
    state::{App, Machine, World},
};

const STOP_SIGNAL: &str = "SIGINT";
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
const RETRIES_MAX: u32 = 10;
const DEFAULT_MEMORY_MB: u32 = 256;
const FILE_MODE: u32 = 0o644;

/// `None` if the machine is not there.
pub(super) fn build(
    world: &World,
    id: &str,
    image: &Image,
    volume_dir: impl FnOnce(&str) -> PathBuf,
) -> Option<Spec> {
    let machine = world.machines.get(id)?;
    let app = world.apps.get(&machine.app)?;
    let config = &machine.current()?.config;
    let stop = config.stop_config.clone().unwrap_or_default();
    Some(Spec {
        id: id.to_owned(),
        image: config.image.clone(),
        argv: argv(config.init.as_ref(), image),
        env: env(app, machine, config, image),
        volume: config.mounts.first().map(|it| (volume_dir(&it.volume), it.path.clone())),
        files: config.files.iter().filter_map(|it| file(app, it)).collect(),
        ports: ports(config),
        restart: restart(config.restart.as_ref()),
        stop_signal: stop.signal.unwrap_or_else(|| STOP_SIGNAL.to_owned()),
        stop_timeout: stop.timeout.map_or(STOP_TIMEOUT, |it| it.0),
    })
}

fn argv(init: Option<&wire::Init>, image: &Image) -> Vec<String> {
    let given = |list: Option<&Vec<String>>| list.filter(|it| !it.is_empty()).cloned();
    if let Some(exec) = given(init.and_then(|it| it.exec.as_ref())) {
        return exec;
    }
    let mut argv = given(init.and_then(|it| it.entrypoint.as_ref()))
        .unwrap_or_else(|| image.entrypoint.clone());
    let cmd = given(init.and_then(|it| it.cmd.as_ref())).unwrap_or_else(|| image.cmd.clone());
    argv.extend(cmd);
    argv
}

/// Later entries win: image, configuration, app secrets, Fly's own.
fn env(
    app: &App,
    machine: &Machine,
    config: &wire::MachineConfig,
    image: &Image,
) -> BTreeMap<String, String> {
    let mut env = image.env.clone();
    env.insert("PRIMARY_REGION".to_owned(), machine.region.clone());
    env.extend(config.env.clone());
    env.extend(app.secrets.iter().map(|(name, it)| (name.clone(), it.value.clone())));
    let memory = config.guest.as_ref().map_or(DEFAULT_MEMORY_MB, |it| it.memory_mb);
    let own = [
        ("FLY_APP_NAME", app.name.clone()),
        ("FLY_MACHINE_ID", machine.id.clone()),
        ("FLY_ALLOC_ID", machine.id.clone()),
        ("FLY_MACHINE_VERSION", machine.version().to_owned()),
        ("FLY_REGION", machine.region.clone()),
        ("FLY_PRIVATE_IP", machine.private_ip.clone()),
        ("FLY_IMAGE_REF", config.image.clone()),
        ("FLY_VM_MEMORY_MB", memory.to_string()),
    ];
    env.extend(own.map(|(name, value)| (name.to_owned(), value)));
    if let Some(group) = config.metadata.get("fly_process_group") {
        env.insert("FLY_PROCESS_GROUP".to_owned(), group.clone());
    }
    env
}

/// Content that is not base64, and a secret that does not exist, make no file.
fn file(app: &App, file: &wire::File) -> Option<(String, Vec<u8>, u32)> {
    let encoded = match (&file.raw_value, &file.secret_name) {
        (Some(raw), _) => raw.as_str(),
        (None, Some(name)) => &app.secrets.get(name)?.value,
        (None, None) => "",
    };
    let content = STANDARD.decode(encoded).ok()?;
    Some((file.guest_path.clone(), content, file.mode.unwrap_or(FILE_MODE)))
}

fn ports(config: &wire::MachineConfig) -> Vec<u16> {
    let services = config.services.iter().map(|it| it.internal_port);
    let checks = checks::of(config).into_iter().filter_map(|it| it.check.port);
    let ports: BTreeSet<u16> = services.chain(checks).filter(|it| *it != 0).collect();
    ports.into_iter().collect()
}

fn restart(policy: Option<&wire::RestartPolicy>) -> Restart {
    let retries = policy.and_then(|it| it.max_retries).filter(|it| *it > 0);
    match policy.map_or("", |it| it.policy.as_str()) {
        "no" => Restart::No,
        "always" => Restart::Always,
        // Fly's default, and what `spot-price` comes to where nobody bids.
        _ => Restart::OnFailure { max_retries: retries.unwrap_or(RETRIES_MAX) },
    }
}
