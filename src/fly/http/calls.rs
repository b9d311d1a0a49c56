//! Each call of [`Machines`] as a request. It must never hold logic beyond that of writing the request.

use std::time::Duration;

use serde_json::json;

use super::{Ask, Http};
use crate::fly::{
    Answer, Machines, OrgQuery, WaitFor, call,
    said::HIDE_CHARS_MIN,
    wire::{
        App, Apps, CreateApp, CreateVolume, Exec, Executed, ExtendVolume, ExtendedVolume, Machine,
        MachineInput, OrgMachines, OrgVolumes, Region, Regions, SecretsUpdate, SecretsUpdated,
        Snapshot, Started, Stop, Volume, Waited,
    },
};

/// What Fly gives a command that does not say.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

impl Http {
    fn ask<'a, T>(&'a self, ask: Ask<'a>) -> Answer<'a, T>
    where
        T: crate::fly::decode::Answer + Send + 'a,
    {
        Box::pin(self.send(ask))
    }
}

impl Machines for Http {
    fn list_apps<'a>(&'a self, org: &'a str) -> Answer<'a, Vec<App>> {
        let ask = Ask::new(&call::LIST_APPS, &[]).query("org_slug", org).about(org).limited_by(org);
        Box::pin(async move { Ok(self.send::<Apps>(ask).await?.apps) })
    }

    fn get_app<'a>(&'a self, app: &'a str) -> Answer<'a, App> {
        self.ask(Ask::new(&call::GET_APP, &[app]))
    }

    fn create_app<'a>(&'a self, input: &'a CreateApp) -> Answer<'a, ()> {
        let ask = Ask::new(&call::CREATE_APP, &[]).json(input).about(&input.name);
        self.ask(ask.limited_by(&input.org_slug))
    }

    fn delete_app<'a>(&'a self, app: &'a str) -> Answer<'a, ()> {
        // The limit is on all apps together.
        self.ask(Ask::new(&call::DELETE_APP, &[app]).query("force", "true").limited_by(""))
    }

    fn set_secrets<'a>(
        &'a self,
        app: &'a str,
        update: &'a SecretsUpdate,
    ) -> Answer<'a, SecretsUpdated> {
        let values = update.values.values().filter_map(Option::as_deref);
        self.ask(Ask::new(&call::SET_SECRETS, &[app]).json(update).hiding(values))
    }

    fn list_machines<'a>(
        &'a self,
        app: &'a str,
        metadata: &'a [(&'a str, &'a str)],
    ) -> Answer<'a, Vec<Machine>> {
        let ask = Ask::new(&call::LIST_MACHINES, &[app]);
        self.ask(
            metadata
                .iter()
                .fold(ask, |ask, (key, value)| ask.query(&format!("metadata.{key}"), value)),
        )
    }

    fn get_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, Machine> {
        self.ask(Ask::new(&call::GET_MACHINE, &[app, id]))
    }

    fn create_machine<'a>(&'a self, app: &'a str, input: &'a MachineInput) -> Answer<'a, Machine> {
        let name = input.name.as_deref().unwrap_or_default();
        self.ask(Ask::new(&call::CREATE_MACHINE, &[app]).json(input).about(name))
    }

    fn update_machine<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        input: &'a MachineInput,
    ) -> Answer<'a, Machine> {
        self.ask(Ask::new(&call::UPDATE_MACHINE, &[app, id]).json(input))
    }

    fn start_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, Started> {
        self.ask(Ask::new(&call::START_MACHINE, &[app, id]))
    }

    fn stop_machine<'a>(&'a self, app: &'a str, id: &'a str, how: &'a Stop) -> Answer<'a, ()> {
        self.ask(Ask::new(&call::STOP_MACHINE, &[app, id]).json(how))
    }

    fn suspend_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, ()> {
        self.ask(Ask::new(&call::SUSPEND_MACHINE, &[app, id]))
    }

    fn restart_machine<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, ()> {
        self.ask(Ask::new(&call::RESTART_MACHINE, &[app, id]))
    }

    fn destroy_machine<'a>(&'a self, app: &'a str, id: &'a str, force: bool) -> Answer<'a, ()> {
        let ask = Ask::new(&call::DESTROY_MACHINE, &[app, id]);
        self.ask(if force { ask.query("force", "true") } else { ask })
    }

    fn wait_machine<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        wait: WaitFor<'a>,
    ) -> Answer<'a, Waited> {
        let part = u64::from(wait.timeout.subsec_nanos() > 0);
        let seconds = wait.timeout.as_secs().saturating_add(part).clamp(1, 60);
        let ask = Ask::new(&call::WAIT_MACHINE, &[app, id])
            .query("state", wait.state)
            .query("timeout", &seconds.to_string())
            .and_within(Duration::from_secs(seconds));
        self.ask(match wait.version {
            Some(version) => ask.query("version", version),
            None => ask,
        })
    }

    fn exec<'a>(&'a self, app: &'a str, id: &'a str, command: &'a Exec) -> Answer<'a, Executed> {
        let texts = command.command.iter().chain(&command.cmd).chain(&command.stdin);
        let texts = texts.map(String::as_str).filter(|it| it.len() >= HIDE_CHARS_MIN);
        let timeout = command.timeout.map_or(EXEC_TIMEOUT, Duration::from_secs);
        let ask = Ask::new(&call::EXEC, &[app, id]).json(command).hiding(texts);
        self.ask(ask.and_within(timeout))
    }

    fn put_metadata<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        key: &'a str,
        value: &'a str,
    ) -> Answer<'a, ()> {
        let ask = Ask::new(&call::PUT_METADATA, &[app, id, key]);
        self.ask(ask.json(&json!({ "value": value })))
    }

    fn org_machines<'a>(&'a self, org: &'a str, query: &'a OrgQuery) -> Answer<'a, OrgMachines> {
        self.ask(page(Ask::new(&call::ORG_MACHINES, &[org]), query))
    }

    fn org_volumes<'a>(&'a self, org: &'a str, query: &'a OrgQuery) -> Answer<'a, OrgVolumes> {
        self.ask(page(Ask::new(&call::ORG_VOLUMES, &[org]), query))
    }

    fn list_volumes<'a>(&'a self, app: &'a str) -> Answer<'a, Vec<Volume>> {
        self.ask(Ask::new(&call::LIST_VOLUMES, &[app]))
    }

    fn get_volume<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, Volume> {
        self.ask(Ask::new(&call::GET_VOLUME, &[app, id]))
    }

    fn create_volume<'a>(&'a self, app: &'a str, input: &'a CreateVolume) -> Answer<'a, Volume> {
        self.ask(Ask::new(&call::CREATE_VOLUME, &[app]).json(input).about(&input.name))
    }

    fn extend_volume<'a>(
        &'a self,
        app: &'a str,
        id: &'a str,
        size_gb: u32,
    ) -> Answer<'a, ExtendedVolume> {
        self.ask(Ask::new(&call::EXTEND_VOLUME, &[app, id]).json(&ExtendVolume { size_gb }))
    }

    fn delete_volume<'a>(&'a self, app: &'a str, id: &'a str) -> Answer<'a, ()> {
        self.ask(Ask::new(&call::DELETE_VOLUME, &[app, id]))
    }

    fn snapshots<'a>(&'a self, app: &'a str, volume: &'a str) -> Answer<'a, Vec<Snapshot>> {
        self.ask(Ask::new(&call::SNAPSHOTS, &[app, volume]))
    }

    fn create_snapshot<'a>(&'a self, app: &'a str, volume: &'a str) -> Answer<'a, ()> {
        self.ask(Ask::new(&call::CREATE_SNAPSHOT, &[app, volume]))
    }

    fn regions(&self) -> Answer<'_, Vec<Region>> {
        let ask = Ask::new(&call::REGIONS, &[]);
        Box::pin(async move { Ok(self.send::<Regions>(ask).await?.regions) })
    }
}

fn page<'a>(mut ask: Ask<'a>, query: &OrgQuery) -> Ask<'a> {
    let pairs = [
        ("updated_after", query.updated_after.map(|at| at.to_string())),
        ("cursor", query.cursor.clone()),
        ("limit", query.limit.map(|limit| limit.to_string())),
        ("include_deleted", query.include_deleted.then(|| "true".to_owned())),
        ("summary", query.summary.then(|| "true".to_owned())),
    ];
    for (key, value) in pairs {
        if let Some(value) = value {
            ask = ask.query(key, &value);
        }
    }
    ask
}
