//! An action into a call, a call's answer into an outcome: one `match`. It makes no choices; whatever it would have to
//! choose by is in the action.

use std::collections::BTreeMap;

use crate::fly::{self, Machines, wire};
use crate::plan::{
    action::{Action, Outcome},
    machine::BAY_KEY,
};
use crate::reconcile::{objects::Objects, personal::Personal, translate};

/// So much is kept of what a command said that failed.
const SAID_CHARS_MAX: usize = 300;

/// Values of app secrets; never printed.
#[derive(Default)]
pub(crate) struct SecretValues(BTreeMap<String, String>);

impl SecretValues {
    /// The bay's key, if it has one, and the values of the environment's secrets.
    pub(crate) fn gather(objects: &Objects, bay_key: Option<&[u8]>) -> Self {
        let mut values = BTreeMap::new();
        for secret in objects.secrets.values().flatten() {
            for key in secret.data.keys() {
                let value = secret.value(key).and_then(|it| String::from_utf8(it).ok());
                values.extend(value.map(|it| (key.clone(), it)));
            }
        }
        let hex = |key: &[u8]| key.iter().map(|byte| format!("{byte:02x}")).collect();
        values.extend(bay_key.map(|it| (BAY_KEY.to_owned(), hex(it))));
        Self(values)
    }

    /// Fly's words without them, as one short line.
    pub(crate) fn hidden_in(&self, said: &str) -> String {
        fly::printable(said, &self.values())
    }

    /// The last that a command said without them, which is where it says why it ended.
    fn hidden_in_the_end_of(&self, said: &str) -> String {
        // Taken out before it is cut: half of one is not found.
        let said = fly::without(said, &self.values());
        match said.char_indices().rev().nth(SAID_CHARS_MAX) {
            Some((at, _)) => format!("…{}", said.get(at..).unwrap_or_default()),
            None => said,
        }
    }

    fn values(&self) -> Vec<&str> {
        self.0.values().map(String::as_str).collect()
    }

    /// With those that are no longer given unset.
    fn update(&self, unset: &[String]) -> wire::SecretsUpdate {
        let unset = unset.iter().map(|it| (it.clone(), None));
        let set = self.0.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
        wire::SecretsUpdate { values: unset.chain(set).collect() }
    }
}

/// What is written of users' values, and must be in no error.
#[derive(Default)]
pub(crate) struct Values {
    /// For `WriteSecrets`.
    pub(crate) secrets: SecretValues,
    /// For `Personalize`.
    pub(crate) personal: Option<Personal>,
}

/// Makes the call. The values are written by `WriteSecrets`, and are in no error of any call: a machine has them, so that
/// whatever is said of it may repeat them.
///
/// # Errors
/// Fly's.
pub(crate) async fn execute(
    fly: &dyn Machines,
    org: &str,
    action: &Action,
    values: &Values,
) -> Result<Outcome, fly::Error> {
    let result = make(fly, org, action, values).await;
    result.map_err(|error| error.hiding(values.secrets.0.values().map(String::as_str)))
}

async fn make(
    fly: &dyn Machines,
    org: &str,
    action: &Action,
    values: &Values,
) -> Result<Outcome, fly::Error> {
    match action {
        Action::Personalize { app, id, file } => {
            // Without it there is nothing to write: the bay's objects are gone.
            let Some(personal) = &values.personal else { return Ok(Outcome::Done) };
            let done = fly.exec(app, id, &personal.exec(&file.rule)).await?;
            Ok(taken_over(&done, values))
        }
        Action::CreateApp { .. } | Action::DeleteApp { .. } | Action::WriteSecrets { .. } => {
            on_app(fly, org, action, &values.secrets).await
        }
        Action::CreateVolume { .. } | Action::ExtendVolume { .. } | Action::DeleteVolume { .. } => {
            on_volume(fly, action).await
        }
        Action::CreateMachine { app, name, region, spec, secrets_version, .. } => {
            let input = wire::MachineInput {
                name: Some(name.clone()),
                region: Some(region.clone()),
                config: translate::config(spec),
                min_secrets_version: (*secrets_version > 0).then_some(*secrets_version),
                ..wire::MachineInput::default()
            };
            fly.create_machine(app, &input).await.map(machine)
        }
        Action::UpdateMachine {
            app,
            id,
            spec,
            current_version,
            secrets_version,
            skip_launch,
            ..
        } => {
            let input = wire::MachineInput {
                config: translate::config(spec),
                min_secrets_version: (*secrets_version > 0).then_some(*secrets_version),
                current_version: Some(current_version.clone()),
                skip_launch: *skip_launch,
                ..wire::MachineInput::default()
            };
            fly.update_machine(app, id, &input).await.map(machine)
        }
        Action::WriteMetadata { app, id, key, value } => {
            fly.put_metadata(app, id, key, value).await.map(|()| Outcome::Done)
        }
        Action::StartMachine { app, id } => fly.start_machine(app, id).await.map(|_| Outcome::Done),
        Action::SleepMachine { app, id, suspend: true, .. } => {
            fly.suspend_machine(app, id).await.map(|()| Outcome::Done)
        }
        Action::SleepMachine { app, id, suspend: false, .. } => {
            fly.stop_machine(app, id, &wire::Stop::default()).await.map(|()| Outcome::Done)
        }
        Action::DestroyMachine { app, id } => {
            fly.destroy_machine(app, id, true).await.map(|()| Outcome::Done)
        }
        Action::Probe { app, id, command, .. } => {
            let command = exec(command.iter().map(String::as_str));
            fly.exec(app, id, &command).await.map(|it| Outcome::Exit(exit_code(&it)))
        }
        Action::CountConnections { app, id, ports } => {
            let command = exec(COUNT);
            let done = fly.exec(app, id, &command).await?;
            Ok(Outcome::Connections(open_connections(&done.stdout, ports)))
        }
    }
}

fn taken_over(done: &wire::Executed, values: &Values) -> Outcome {
    let has_secrets = values.personal.as_ref().is_some_and(Personal::has_secrets);
    match exit_code(done) {
        0 => Outcome::Exit(0),
        // A program says what it was given in any form it likes, and no list of forms ends.
        code if has_secrets => Outcome::NotTakenOver { code, said: None },
        code => {
            let said = values.secrets.hidden_in_the_end_of(&done.stderr);
            Outcome::NotTakenOver { code, said: Some(said) }
        }
    }
}

async fn on_app(
    fly: &dyn Machines,
    org: &str,
    action: &Action,
    secrets: &SecretValues,
) -> Result<Outcome, fly::Error> {
    match action {
        Action::CreateApp { app, network } => {
            let input = wire::CreateApp {
                name: app.clone(),
                org_slug: org.to_owned(),
                network: Some(network.clone()),
            };
            fly.create_app(&input).await.map(|()| Outcome::Done)
        }
        Action::WriteSecrets { app, unset, .. } => {
            let written = fly.set_secrets(app, &secrets.update(unset)).await?;
            Ok(Outcome::SecretsWritten { version: written.version })
        }
        Action::DeleteApp { app } => fly.delete_app(app).await.map(|()| Outcome::Done),
        _ => Ok(Outcome::Done),
    }
}

async fn on_volume(fly: &dyn Machines, action: &Action) -> Result<Outcome, fly::Error> {
    match action {
        Action::CreateVolume { app, name, region, size_gib, retention_days, spec } => {
            let input = wire::CreateVolume {
                name: name.clone(),
                region: region.clone(),
                size_gb: Some(*size_gib),
                snapshot_retention: Some(*retention_days),
                // Each app has one volume, so there is no other host to avoid.
                require_unique_zone: Some(false),
                compute: Some(translate::guest(spec)),
                compute_image: Some(spec.image.clone()),
                ..wire::CreateVolume::default()
            };
            fly.create_volume(app, &input).await.map(volume)
        }
        Action::ExtendVolume { app, id, size_gib } => {
            fly.extend_volume(app, id, *size_gib).await.map(|it| volume(it.volume))
        }
        Action::DeleteVolume { app, id } => {
            fly.delete_volume(app, id).await.map(|()| Outcome::Done)
        }
        _ => Ok(Outcome::Done),
    }
}

fn volume(volume: wire::Volume) -> Outcome {
    Outcome::Volume { id: volume.id, region: volume.region, size_gib: volume.size_gb }
}

fn machine(machine: wire::Machine) -> Outcome {
    Outcome::Machine {
        id: machine.id,
        version: machine.instance_id,
        region: machine.region,
        state: machine.state,
    }
}

fn exec<'a>(command: impl IntoIterator<Item = &'a str>) -> wire::Exec {
    wire::Exec {
        command: command.into_iter().map(str::to_owned).collect(),
        timeout: Some(10),
        ..wire::Exec::default()
    }
}

fn exit_code(done: &wire::Executed) -> i32 {
    if done.exit_signal == 0 { done.exit_code } else { 128 + done.exit_signal }
}

/// Prints the port that the program was told to use and the kernel's tables of TCP sockets.
const COUNT: [&str; 3] = ["sh", "-c", "echo \"PORT=$PORT\"; cat /proc/net/tcp /proc/net/tcp6"];

/// Established connections to the services' ports. An image without a shell answers nothing and counts as quiet.
fn open_connections(tables: &str, ports: &[u16]) -> u32 {
    let told: Option<u16> =
        tables.lines().find_map(|it| it.strip_prefix("PORT=")).and_then(|it| it.parse().ok());
    // The first service's port is the program's own, which a local driver may have moved.
    let mut wanted: Vec<u16> = ports.iter().copied().skip(usize::from(told.is_some())).collect();
    wanted.extend(told);
    let established = |line: &str| -> Option<u16> {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (state == "01").then_some(port)
    };
    let open = tables.lines().filter_map(established).filter(|port| wanted.contains(port)).count();
    u32::try_from(open).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_established_connections_to_the_services_are_counted() {
        let tables = "PORT=8080\n  sl  local_address rem_address   st tx_queue\n   \
            0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n   \
            1: 0100007F:1F90 0100007F:D431 01 00000000:00000000\n   \
            2: 0100007F:1F91 0100007F:D432 01 00000000:00000000\n   \
            3: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:D433 01 0\n";
        assert_eq!(open_connections(tables, &[8080]), 2);
        assert_eq!(open_connections(tables, &[9999, 8081]), 3);
        assert_eq!(open_connections("", &[8080]), 0);
    }
}
