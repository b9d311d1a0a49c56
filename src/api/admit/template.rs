//! Defaults and rules of templates. It must never look at the environments made from one.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use crate::api::{
    admit::{Findings, ViolationReason},
    name,
    quantity::Span,
    template::{
        CpuKind, Guest, Network, Readiness, Restart, RestartPolicy, Sleep, SleepDecider, SleepMode,
        TcpReadiness, Template, Update, UpdateStrategy,
    },
};

const UPDATE_WINDOW: RangeInclusive<Duration> =
    Duration::from_secs(600)..=Duration::from_secs(23 * 3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Fly suspends machines up to this size.
const SUSPEND_MIB_MAX: u64 = 2048;
/// The routers tell of requests every few seconds, so a shorter rule could not be kept.
const SLEEP_AFTER_MIN: Duration = Duration::from_secs(5);
/// With the 10 s that writing and its command have, a call takes the 30 s after which Fly is known to end one.
const PERSONAL_READINESS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(20);

fn span(text: &str) -> Option<Span> {
    Span::parse(text).ok()
}

pub(super) fn complete(template: &mut Template) {
    let spec = &mut template.spec;
    let machine = &mut spec.machine;
    machine.guest.get_or_insert_with(Guest::default);
    machine.restart.get_or_insert(Restart { policy: RestartPolicy::Always, max_retries: None });
    machine.stop_timeout = machine.stop_timeout.take().or_else(|| span("5s"));
    if let Some(volume) = &mut spec.volume {
        volume.snapshot_retention = volume.snapshot_retention.take().or_else(|| span("5d"));
    }
    for service in &mut spec.services {
        service.port.get_or_insert(443);
    }
    spec.network.get_or_insert(Network { isolated: true });
    if let (None, Some(service)) = (&spec.readiness, spec.services.first()) {
        spec.readiness = Some(Readiness {
            http: None,
            tcp: Some(TcpReadiness { port: service.internal_port }),
            exec: None,
            timeout: None,
        });
    }
    if let Some(readiness) = &mut spec.readiness {
        readiness.timeout = readiness.timeout.take().or_else(|| span("60s"));
    }
    if let Some(readiness) = spec.personalize.as_mut().and_then(|it| it.readiness.as_mut()) {
        readiness.timeout = readiness.timeout.take().or_else(|| span("10s"));
    }
    let can_suspend =
        machine.guest.as_ref().is_some_and(|guest| guest.memory.mib() <= SUSPEND_MIB_MAX);
    if let Some(sleep) = &mut spec.sleep {
        sleep.mode.get_or_insert(if can_suspend { SleepMode::Suspend } else { SleepMode::Stop });
        sleep.decided_by.get_or_insert(SleepDecider::Hangar);
    }
    spec.update.get_or_insert_with(|| Update::by(UpdateStrategy::WhenAsleep));
}

pub(super) fn check(template: &Template, old: Option<&Template>, findings: &mut Findings) {
    check_machine(template, findings);
    check_volume(template, old, findings);
    check_services(template, findings);
    check_readiness(template, findings);
    check_personalize(template, findings);
    if let Some(sleep) = &template.spec.sleep {
        check_sleep(template, sleep, findings);
    }
    if let Some(update) = &template.spec.update {
        check_update(update, findings);
    }
    if template.spec.regions.is_empty() {
        findings.add(
            "spec.regions",
            ViolationReason::Required,
            "at least one region must be given",
        );
    }
    let mut seen = BTreeSet::new();
    for (index, region) in template.spec.regions.iter().enumerate() {
        let field = format!("spec.regions[{index}]");
        findings.say(&field, name::region(region));
        if !seen.insert(region) {
            findings.add(&field, ViolationReason::Duplicate, format!("`{region}` is listed twice"));
        }
    }
    if template.spec.network.as_ref().is_some_and(|it| !it.isolated) {
        findings.forbidden(
            "spec.network.isolated",
            "every environment has a network of its own; a shared one would let users reach each other",
        );
    }
}

fn check_update(update: &Update, findings: &mut Findings) {
    if update.max_unavailable.as_ref().is_some_and(|it| it.of(100).is_none_or(|it| it == 0)) {
        findings.invalid(
            "spec.update.maxUnavailable",
            "a number of at least 1, or a share from 1% to 100%",
        );
    }
    let Some(window) = &update.window else { return };
    if !UPDATE_WINDOW.contains(&window.duration.get()) {
        findings.invalid("spec.update.window.duration", "10m to 23h");
    }
    if update.strategy != UpdateStrategy::WhenAsleep {
        findings.forbidden(
            "spec.update.window",
            "a window is for `strategy: WhenAsleep`; with another strategy environments do not wait for one",
        );
    }
}

fn check_machine(template: &Template, findings: &mut Findings) {
    let machine = &template.spec.machine;
    findings.say("spec.machine.image", name::image(&machine.image));
    let built_in =
        machine.image.starts_with("hangar.dev/") || machine.image.starts_with("hangar.test/");
    if !built_in && !name::image_is_pinned(&machine.image) && name::image(&machine.image).is_ok() {
        findings.warnings.push(format!(
            "spec.machine.image: `{}` is a tag, which can come to mean another image; a digest cannot",
            machine.image
        ));
    }
    if let Some(guest) = &machine.guest {
        check_guest(guest, findings);
    }
    for key in machine.env.keys() {
        findings.say(&format!("spec.machine.env.{key}"), name::variable(key));
    }
    for (index, file) in machine.files.iter().enumerate() {
        let field = format!("spec.machine.files[{index}]");
        absolute(&format!("{field}.path"), &file.path, findings);
        if let Some(mode) = &file.mode
            && u32::from_str_radix(mode, 8).map_or(true, |bits| bits > 0o7777)
        {
            findings.invalid(
                &format!("{field}.mode"),
                format!("`{mode}` is not octal permission bits"),
            );
        }
    }
    if let Some(restart) = &machine.restart
        && restart.max_retries.is_some()
        && restart.policy != RestartPolicy::OnFailure
    {
        findings.invalid("spec.machine.restart.maxRetries", "it goes with policy OnFailure only");
    }
    if machine.stop_timeout.as_ref().is_some_and(|it| it.get() > Duration::from_secs(300)) {
        findings.invalid("spec.machine.stopTimeout", "Fly allows at most 5m");
    }
}

/// Fly's sizes: [machine sizing](https://fly.io/docs/machines/guides-examples/machine-sizing/).
fn check_guest(guest: &Guest, findings: &mut Findings) {
    let (cpus, per_cpu, step): (&[u32], (u64, u64), u64) = match guest.cpu_kind {
        CpuKind::Shared => (&[1, 2, 4, 6, 8], (256, 2048), 256),
        CpuKind::Performance => (&[1, 2, 4, 6, 8, 10, 12, 14, 16], (2048, 8192), 2048),
    };
    if !cpus.contains(&guest.cpus) {
        findings.add(
            "spec.machine.guest.cpus",
            ViolationReason::NotSupported,
            format!("{} is not supported: supported values are {cpus:?}", guest.cpus),
        );
        return;
    }
    let (mib, count) = (guest.memory.mib(), u64::from(guest.cpus));
    let (min, max) = (per_cpu.0 * count, per_cpu.1 * count);
    if !guest.memory.bytes().is_multiple_of(step << 20) {
        findings.invalid(
            "spec.machine.guest.memory",
            format!("`{}` is not a multiple of {step}Mi", guest.memory.as_str()),
        );
    } else if mib < min || mib > max {
        findings.invalid(
            "spec.machine.guest.memory",
            format!(
                "`{}` is not between {min}Mi and {max}Mi, which {count} such CPUs allow",
                guest.memory.as_str()
            ),
        );
    }
}

fn check_volume(template: &Template, old: Option<&Template>, findings: &mut Findings) {
    if let Some(volume) = &template.spec.volume {
        absolute("spec.volume.mountPath", &volume.mount_path, findings);
        if !(1..=500).contains(&volume.size.gib()) {
            findings.invalid(
                "spec.volume.size",
                format!("`{}` is not between 1Gi and 500Gi", volume.size.as_str()),
            );
        }
        if let Some(retention) = &volume.snapshot_retention
            && !(DAY..=60 * DAY).contains(&retention.get())
        {
            findings.invalid("spec.volume.snapshotRetention", "Fly keeps snapshots for 1d to 60d");
        }
    }
    let Some(old) = old else { return };
    match (&old.spec.volume, &template.spec.volume) {
        (Some(old), Some(new)) if new.size.gib() < old.size.gib() => findings.forbidden(
            "spec.volume.size",
            format!("a volume cannot shrink from {} to {}", old.size.as_str(), new.size.as_str()),
        ),
        (Some(_), None) => findings.forbidden(
            "spec.volume",
            "it cannot be removed, since that would leave users' data behind: make another template",
        ),
        (None, Some(_)) => findings.forbidden(
            "spec.volume",
            "it cannot be added, since Fly mounts volumes only into new machines: make another template",
        ),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn check_services(template: &Template, findings: &mut Findings) {
    let mut names = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for (index, service) in template.spec.services.iter().enumerate() {
        let field = format!("spec.services[{index}]");
        findings.say(&format!("{field}.name"), name::object(&service.name));
        if !names.insert(&service.name) {
            findings.add(
                &format!("{field}.name"),
                ViolationReason::Duplicate,
                format!("`{}` is listed twice", service.name),
            );
        }
        for (part, port) in [("internalPort", Some(service.internal_port)), ("port", service.port)]
        {
            if port == Some(0) {
                findings.invalid(&format!("{field}.{part}"), "0 is not a port");
            }
        }
        if !ports.insert(service.port) {
            findings.add(
                &format!("{field}.port"),
                ViolationReason::Duplicate,
                format!("port {} is listed twice", service.port.unwrap_or_default()),
            );
        }
    }
}

fn check_readiness(template: &Template, findings: &mut Findings) {
    let Some(readiness) = &template.spec.readiness else { return };
    let given = usize::from(readiness.http.is_some())
        + usize::from(readiness.tcp.is_some())
        + usize::from(readiness.exec.is_some());
    if given != 1 {
        findings.invalid(
            "spec.readiness",
            format!("exactly one of http, tcp and exec must be given, not {given}"),
        );
    }
    if let Some(http) = &readiness.http
        && !http.path.starts_with('/')
    {
        findings
            .invalid("spec.readiness.http.path", format!("`{}` does not start with /", http.path));
    }
    if readiness.exec.as_ref().is_some_and(|exec| exec.command.is_empty()) {
        findings.add("spec.readiness.exec.command", ViolationReason::Required, "it must be given");
    }
}

fn check_personalize(template: &Template, findings: &mut Findings) {
    let Some(personalize) = &template.spec.personalize else { return };
    absolute("spec.personalize.file", &personalize.file, findings);
    if let Some(volume) = &template.spec.volume
        && !personalize.file.starts_with(&format!("{}/", volume.mount_path.trim_end_matches('/')))
    {
        let why = format!("it must be on the volume, below {}", volume.mount_path);
        findings.invalid("spec.personalize.file", why);
    }
    let readiness = personalize.readiness.as_ref();
    let commands = [
        ("spec.personalize.exec.command", personalize.exec.as_ref()),
        ("spec.personalize.readiness.exec.command", readiness.map(|it| &it.exec)),
    ];
    for (field, command) in commands {
        if command.is_some_and(|it| it.command.is_empty()) {
            findings.add(field, ViolationReason::Required, "it must be given");
        }
    }
    if let Some(timeout) = readiness.and_then(|it| it.timeout.as_ref())
        && (!PERSONAL_READINESS.contains(&timeout.get()) || timeout.get().subsec_nanos() > 0)
    {
        let why = format!("`{}` is not a number of whole seconds from 1s to 20s", timeout.as_str());
        findings.invalid("spec.personalize.readiness.timeout", why);
    }
}

fn check_sleep(template: &Template, sleep: &Sleep, findings: &mut Findings) {
    if sleep.after.get() < SLEEP_AFTER_MIN {
        findings.invalid("spec.sleep.after", format!("`{}` is less than 5s", sleep.after.as_str()));
    }
    let memory = template.spec.machine.guest.as_ref().map_or(0, |guest| guest.memory.mib());
    if sleep.mode == Some(SleepMode::Suspend) && memory > SUSPEND_MIB_MAX {
        findings.forbidden(
            "spec.sleep.mode",
            format!("Fly suspends machines of at most 2Gi, and this one has {memory}Mi: use Stop"),
        );
    }
}

fn absolute(field: &str, path: &str, findings: &mut Findings) {
    let fine = path.starts_with('/')
        && path.len() > 1
        && path.split('/').all(|part| part != ".." && part != ".");
    if !fine {
        findings.invalid(field, format!("`{path}` is not an absolute path without `..`"));
    }
}
