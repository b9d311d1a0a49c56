//! Machines as records: create, read, list, update. It must never wait for a program.

use std::{collections::VecDeque, sync::Arc};

use serde_json::Value;

use crate::fly::wire;
use crate::local::{
    Backend,
    call::Filter,
    faults::{Outlook, View},
    lifecycle::{Who, check_stop},
    machine::{Event, State, step},
    operate::Work,
    platform,
    refusal::Refusal,
    respond::Reply,
    state::{App, Key, Lease, Machine, Version, World, later},
    view,
};

const DEFAULT_MEMORY_MB: u32 = 256;
const EVENTS_LIMIT: usize = 20;

impl Backend {
    pub(super) fn get_machine(
        &self,
        view: &View<'_>,
        machine: &Machine,
        leases: bool,
    ) -> Result<Reply, Refusal> {
        let shown = view.outlook.machine(view::machine(machine, false), machine, view);
        let lease = machine.lease(self.now()).filter(|_| leases);
        Reply::json(&view::machine_json(&shown, lease)?)
    }

    pub(super) fn list_machines(
        &self,
        view: &View<'_>,
        app: &str,
        filter: &Filter,
    ) -> Result<Reply, Refusal> {
        let now = self.now();
        let machines = view.app(app)?.machines.iter().filter_map(|id| view.machines.get(id));
        let shown: Result<Vec<Value>, Refusal> = machines
            .filter(|it| filter.matches(it))
            .map(|it| {
                let shown = view.outlook.machine(view::machine(it, filter.summary), it, view);
                view::machine_json(&shown, it.lease(now).filter(|_| filter.leases))
            })
            .collect();
        Reply::json(&shown?)
    }

    pub(super) fn events(&self, id: &str, limit: Option<usize>) -> Result<Reply, Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        // What is kept is no more than the most that may be asked for.
        let shown = machine.events.iter().take(limit.unwrap_or(EVENTS_LIMIT));
        Reply::json(&shown.collect::<Vec<_>>())
    }

    pub(super) fn versions(&self, id: &str) -> Result<Reply, Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        let versions = machine
            .versions
            .iter()
            .rev()
            .map(|it| serde_json::json!({"version": it.version, "user_config": it.config}));
        Reply::json(&versions.collect::<Vec<_>>())
    }

    pub(super) async fn create_machine(
        self: &Arc<Self>,
        app: &str,
        mut input: wire::MachineInput,
    ) -> Result<Reply, Refusal> {
        check_config(&mut input.config)?;
        let regions = platform::candidates(
            input.region.as_deref().unwrap_or_default(),
            &self.config.regions,
        )?;
        let outlook = self.outlook();
        let roomy = outlook.roomy(app, &regions);
        let id = self.ids.machine();
        let (epoch, shown) = self
            .edit(|world, now| {
                check_secrets(world.app(app)?, input.min_secrets_version)?;
                let name = input
                    .name
                    .take()
                    .filter(|it| !it.is_empty())
                    .unwrap_or_else(|| format!("machine-{id}"));
                check_name(world, app, &name)?;
                let (region, host) =
                    choose(world, (app, &id), &mut input, (&regions, &roomy, &outlook))?;
                let words = ("launch", "created", "user");
                let event = view::event(self.ids.ulid(), now, words, None);
                let version = self.ids.ulid();
                let lease = input.lease_ttl.filter(|it| *it > 0).map(|ttl| Lease {
                    nonce: self.ids.opaque(),
                    owner: crate::local::leases::OWNER.to_owned(),
                    description: String::new(),
                    expires_at: later(now, std::time::Duration::from_secs(ttl)),
                    version: version.clone(),
                });
                let at = world.next_update(now);
                let machine = Machine {
                    private_ip: address(&world.app(app)?.network, &id),
                    id: id.clone(),
                    app: app.to_owned(),
                    name,
                    region,
                    host,
                    state: State::Created,
                    versions: vec![Version { version, config: std::mem::take(&mut input.config) }],
                    digest: String::new(),
                    launch: !input.skip_launch,
                    cordoned: input.skip_service_registration,
                    created_at: now,
                    updated_at: at,
                    settles_at: now,
                    lease,
                    events: VecDeque::from([event]),
                    checks: Vec::new(),
                    epoch: 1,
                    turn: Arc::default(),
                    promised: false,
                    has_run: false,
                };
                let mut shown = view::machine_json(&view::machine(&machine, false), None)?;
                if let Some(lease) = &machine.lease {
                    shown["nonce"] = Value::String(lease.nonce.clone());
                }
                world.changed.push(Key::Machine(app.to_owned(), id.clone()));
                world.insert_machine(machine);
                Ok((1, shown))
            })
            .await?;
        self.work(&id, epoch, Work::Launch);
        Reply::json(&shown)
    }

    pub(super) async fn update_machine(
        self: &Arc<Self>,
        id: &str,
        who: Who,
        mut input: wire::MachineInput,
    ) -> Result<Reply, Refusal> {
        check_config(&mut input.config)?;
        let (epoch, shown) = self
            .edit(|world, now| {
                let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
                who.check(machine, now)?;
                check_secrets(world.app(&machine.app)?, input.min_secrets_version)?;
                check_update(machine, &mut input)?;
                let state = step(machine.state_at(now), Event::Update)?;
                let words = ("update", "replacing", "user");
                let event = view::event(self.ids.ulid(), now, words, None);
                let version =
                    Version { version: self.ids.ulid(), config: std::mem::take(&mut input.config) };
                let epoch = world
                    .edit_machine(id, now, |machine| {
                        machine.push_version(version);
                        machine.push_event(event);
                        machine.launch = !input.skip_launch;
                        if let (Some(ttl), Some(lease)) = (input.lease_ttl, &mut machine.lease) {
                            lease.expires_at = later(now, std::time::Duration::from_secs(ttl));
                        }
                        machine.enter(state, now)
                    })
                    .ok_or(Refusal::NotFound("machine"))?;
                let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
                Ok((epoch, view::machine_json(&view::machine(machine, false), None)?))
            })
            .await?;
        self.work(id, epoch, Work::Replace);
        Reply::json(&shown)
    }
}

impl Filter {
    pub(super) fn matches(&self, machine: &Machine) -> bool {
        let metadata = machine.current().map(|it| &it.config.metadata);
        (self.include_deleted || machine.is_live())
            && (self.regions.is_empty() || self.regions.contains(&machine.region))
            && (self.states.is_empty() || self.states.iter().any(|it| it == machine.state.word()))
            && self
                .metadata
                .iter()
                .all(|(key, value)| metadata.is_some_and(|it| it.get(key) == Some(value)))
    }
}

fn check_name(world: &World, app: &str, name: &str) -> Result<(), Refusal> {
    let machines = world.app(app)?.machines.iter().filter_map(|id| world.machines.get(id));
    match machines.filter(|it| it.is_live()).find(|it| it.name == name) {
        Some(first) => Err(Refusal::NameViolation { id: first.id.clone(), name: name.to_owned() }),
        None => Ok(()),
    }
}

fn check_secrets(app: &App, at_least: Option<u64>) -> Result<(), Refusal> {
    match at_least {
        Some(wanted) if wanted > app.secrets_version => Err(Refusal::Precondition(format!(
            "minimum secrets version {wanted} is not available, have {}",
            app.secrets_version
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_update(machine: &Machine, input: &mut wire::MachineInput) -> Result<(), Refusal> {
    if let Some(given) = input.current_version.as_deref().filter(|it| !it.is_empty())
        && given != machine.version()
    {
        return Err(Refusal::StaleVersion {
            given: given.to_owned(),
            current: machine.version().to_owned(),
        });
    }
    let same =
        |given: Option<&String>, own: &str| given.is_none_or(|it| it.is_empty() || it == own);
    if !same(input.name.as_ref(), &machine.name) {
        return Err(Refusal::Invalid(
            "invalid_argument: machine name cannot be changed".to_owned(),
        ));
    }
    if !same(input.region.as_ref(), &machine.region) {
        return Err(Refusal::Invalid(
            "invalid_argument: machine region cannot be changed".to_owned(),
        ));
    }
    let old = machine.current().and_then(|it| it.config.mounts.first());
    match (old, input.config.mounts.first_mut()) {
        (Some(old), Some(new)) if new.volume.is_empty() || new.volume == old.volume => {
            new.volume.clone_from(&old.volume);
            Ok(())
        }
        (None, None) => Ok(()),
        (Some(_), Some(_)) | (Some(_), None) | (None, Some(_)) => Err(Refusal::Invalid(
            "invalid_argument: mounted volume cannot be changed by an update".to_owned(),
        )),
    }
}

/// Region and host: the volume's, where one is mounted, else the first ones with room.
fn choose(
    world: &World,
    (app, id): (&str, &str),
    input: &mut wire::MachineInput,
    (regions, roomy, outlook): (&[String], &[String], &Outlook<'_>),
) -> Result<(String, String), Refusal> {
    let Some(mount) = input.config.mounts.first_mut() else {
        return outlook.place(roomy, id);
    };
    let asked = input.region.as_deref().is_some_and(|it| !it.is_empty());
    let volume = if mount.volume.is_empty() {
        let name = mount.name.as_deref().unwrap_or_default();
        let volumes = world.app(app)?.volumes.iter().filter_map(|id| world.volumes.get(id));
        volumes
            .filter(|it| it.name == name && it.destroy_at.is_none() && regions.contains(&it.region))
            .find(|it| world.holder(it).is_none())
    } else {
        world.volumes.get(&mount.volume).filter(|it| it.app == app && it.destroy_at.is_none())
    };
    let volume = volume.ok_or_else(|| Refusal::Invalid("volume not found".to_owned()))?;
    if asked && !regions.contains(&volume.region) {
        return Err(Refusal::Invalid(format!(
            "invalid_argument: volume {} is in region {}, not in {}",
            volume.id,
            volume.region,
            regions.join(",")
        )));
    }
    if let Some(holder) = world.holder(volume) {
        return Err(Refusal::VolumeClaimed(holder.id.clone()));
    }
    if volume.state() == "restoring" {
        return Err(Refusal::Precondition(format!("volume {} is restoring", volume.id)));
    }
    mount.volume.clone_from(&volume.id);
    mount.name = Some(volume.name.clone());
    Ok((volume.region.clone(), volume.host.clone()))
}

/// Checks a configuration and fills in what Fly fills in.
fn check_config(config: &mut wire::MachineConfig) -> Result<(), Refusal> {
    let invalid = |text: &str| Err(Refusal::Invalid(format!("invalid_argument: {text}")));
    if config.image.is_empty() {
        return invalid("invalid config.image, must be specified");
    }
    if config.mounts.len() > 1 {
        return invalid("invalid config.mounts, only 1 volume mount is supported");
    }
    if let Some(stop) = &config.stop_config {
        check_stop(&wire::Stop { signal: stop.signal.clone(), timeout: stop.timeout })?;
    }
    let size = config.other.get("size").and_then(Value::as_str).filter(|it| !it.is_empty());
    match (size, &config.guest) {
        (Some(_), Some(_)) => {
            return invalid("config.size and config.guest are mutually exclusive");
        }
        (Some(size), None) => match preset(size) {
            Some(guest) => config.guest = Some(guest),
            None => return invalid("invalid config.size"),
        },
        (None, _) => {}
    }
    let guest = config.guest.get_or_insert_with(wire::Guest::default);
    if guest.cpu_kind.is_empty() {
        "shared".clone_into(&mut guest.cpu_kind);
    }
    if guest.cpus == 0 {
        guest.cpus = 1;
    }
    if guest.memory_mb == 0 {
        guest.memory_mb =
            guest.cpus * if guest.cpu_kind == "shared" { DEFAULT_MEMORY_MB } else { 2048 };
    }
    check_guest(guest)
}

fn check_guest(guest: &wire::Guest) -> Result<(), Refusal> {
    let (kinds, least, most, step): (&[u32], u32, u32, u32) = match guest.cpu_kind.as_str() {
        "shared" => (&[1, 2, 4, 6, 8], 256, 2_048, 256),
        "performance" => (&[1, 2, 4, 6, 8, 10, 12, 14, 16], 2_048, 8_192, 2_048),
        other => {
            return Err(Refusal::Invalid(format!(
                "invalid_argument: invalid config.guest.cpu_kind, {other} is not supported"
            )));
        }
    };
    if !kinds.contains(&guest.cpus) {
        return Err(Refusal::Invalid(format!(
            "invalid_argument: invalid config.guest.cpus, cannot be {}",
            guest.cpus
        )));
    }
    let allowed = least * guest.cpus..=most * guest.cpus;
    if !allowed.contains(&guest.memory_mb) || !guest.memory_mb.is_multiple_of(step) {
        return Err(Refusal::Invalid(format!(
            "invalid_argument: invalid config.guest.memory_mb, must be a multiple of {step} from \
             {} to {}",
            allowed.start(),
            allowed.end()
        )));
    }
    Ok(())
}

/// `shared-cpu-2x`, `performance-4x`.
fn preset(size: &str) -> Option<wire::Guest> {
    let (kind, cpus) = match (size.strip_prefix("shared-cpu-"), size.strip_prefix("performance-")) {
        (Some(cpus), _) => ("shared", cpus),
        (None, Some(cpus)) => ("performance", cpus),
        (None, None) => return None,
    };
    let cpus: u32 = cpus.strip_suffix('x')?.parse().ok()?;
    let memory_mb = cpus.checked_mul(if kind == "shared" { DEFAULT_MEMORY_MB } else { 2_048 })?;
    Some(wire::Guest { cpu_kind: kind.to_owned(), cpus, memory_mb, ..wire::Guest::default() })
}

/// An address in the app's network that is made of the machine's id.
pub(super) fn address(network: &str, id: &str) -> String {
    let network = blake3::hash(network.as_bytes()).to_hex();
    let part = |text: &str, at: usize| text.get(at..at + 4).unwrap_or("0").to_owned();
    format!(
        "fdaa:{}:{}:a7b:{}:{}:{}:2",
        part(&network, 0),
        part(&network, 4),
        part(id, 0),
        part(id, 4),
        part(id, 8)
    )
}
