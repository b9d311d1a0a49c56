//! Apps: global names, one network each, and a deletion that takes machines and volumes along. It must never start a machine.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::fly::wire;
use crate::local::{
    Backend,
    call::AppCall,
    faults::Look,
    lifecycle::Who,
    machine::Event,
    refusal::Refusal,
    respond::Reply,
    state::{App, Key, World},
    volumes::list_volumes,
};

impl Backend {
    pub(super) async fn app_call(
        self: &Arc<Self>,
        app: &str,
        call: AppCall,
        look: &Look,
    ) -> Result<Reply, Refusal> {
        match call {
            AppCall::Get => Reply::json(&shown(self.view(look).app(app)?)),
            AppCall::Delete => self.delete_app(app).await,
            AppCall::ListMachines(filter) => self.list_machines(&self.view(look), app, &filter),
            AppCall::CreateMachine(input) => self.create_machine(app, *input).await,
            AppCall::ListVolumes => list_volumes(&self.view(look), app),
            AppCall::CreateVolume(input) => self.create_volume(app, *input).await,
            AppCall::ListSecrets { min_version } => self.list_secrets(app, min_version),
            AppCall::UpdateSecrets(update) => self.update_secrets(app, update).await,
            AppCall::GetSecret { name, min_version } => self.get_secret(app, &name, min_version),
            AppCall::SetSecret { name, value } => self.set_secret(app, name, value).await,
            AppCall::DeleteSecret { name } => self.delete_secret(app, name).await,
            AppCall::ListIps => {
                let world = self.lock();
                Reply::json(&json!({"ips": world.app(app)?.ips}))
            }
            AppCall::AssignIp(input) => self.assign_ip(app, &input).await,
            AppCall::ReleaseIp { ip } => self.release_ip(app, &ip).await,
            AppCall::ListPolicies => {
                let world = self.lock();
                Reply::json(&world.app(app)?.policies.values().collect::<Vec<_>>())
            }
            AppCall::PutPolicy(policy) => self.put_policy(app, policy).await,
            AppCall::DeletePolicy { id } => self.delete_policy(app, &id).await,
        }
    }

    pub(super) async fn create_app(&self, input: wire::CreateApp) -> Result<Reply, Refusal> {
        if input.org_slug.is_empty() {
            return Err(Refusal::Invalid(
                "authorization: request doesn't contain org_slug".to_owned(),
            ));
        }
        if !self.config.orgs.contains(&input.org_slug) {
            return Err(Refusal::NotFound("organization"));
        }
        if !is_app_name(&input.name) {
            return Err(Refusal::BadAppName);
        }
        let network = input.network.filter(|it| !it.is_empty());
        if network.as_deref().is_some_and(|it| !is_network_name(it)) {
            return Err(Refusal::Invalid("invalid_argument: invalid network name".to_owned()));
        }
        let id = self.ids.opaque();
        let answer = self.edit(|world, now| {
            if world.apps.contains_key(&input.name) {
                return Err(Refusal::NameTaken);
            }
            let app = App {
                id: id.clone(),
                name: input.name.clone(),
                org: input.org_slug,
                network: network.unwrap_or_else(|| "default".to_owned()),
                created_at: now,
                deleting: false,
                secrets: Default::default(),
                secrets_version: 0,
                ips: Vec::new(),
                policies: Default::default(),
                machines: Default::default(),
                volumes: Default::default(),
            };
            world.changed.push(Key::App(input.name.clone()));
            world.apps.insert(input.name, app);
            Ok(json!({"id": id, "created_at": now.as_millisecond()}))
        });
        Reply::created(&answer.await?)
    }

    async fn delete_app(self: &Arc<Self>, name: &str) -> Result<Reply, Refusal> {
        self.lock().app(name)?;
        if self.faults.going().contains(name) {
            return Ok(Reply::Accepted);
        }
        if let Some(delay) = self.deletion_delay(name) {
            self.delete_later(name.to_owned(), delay);
            return Ok(Reply::Accepted);
        }
        self.begin_deletion(name).await?;
        Ok(Reply::Accepted)
    }

    async fn begin_deletion(self: &Arc<Self>, name: &str) -> Result<(), Refusal> {
        self.edit(|world, _| {
            world.app_mut(name)?.deleting = true;
            Ok(())
        })
        .await?;
        self.finish_deletion(name.to_owned());
        Ok(())
    }

    fn delete_later(self: &Arc<Self>, name: String, delay: Duration) {
        self.faults.going().insert(name.clone());
        let backend = Arc::clone(self);
        self.background(async move {
            tokio::time::sleep(delay).await;
            backend.faults.going().remove(&name);
            if let Err(refusal) = backend.begin_deletion(&name).await {
                tracing::warn!(app = name, %refusal, "an app was not deleted");
            }
        });
    }

    /// Destroys what is in an app, then forgets it. Also called for deletions that a restart cut short.
    pub(super) fn finish_deletion(self: &Arc<Self>, name: String) {
        let backend = Arc::clone(self);
        self.background(async move {
            if let Err(error) = backend.empty_app(&name).await {
                tracing::error!(app = name, %error, "an app was not deleted; the next start goes on");
            }
        });
    }

    /// Destroys a machine, whoever has its lease.
    pub(super) async fn destroy_by_host(self: &Arc<Self>, id: &str) {
        let wish = Event::Destroy { force: true };
        // A refusal means that it is gone already.
        let _gone = Box::pin(self.begin(id, wish, Who::Host, wire::Stop::default())).await;
    }

    async fn empty_app(self: &Arc<Self>, name: &str) -> Result<(), Refusal> {
        let (machines, volumes) = {
            let world = self.lock();
            let Some(app) = world.apps.get(name) else { return Ok(()) };
            (app.machines.clone(), app.volumes.clone())
        };
        for id in &machines {
            if self.is_unreachable(id) {
                self.promise(id).await?;
            } else {
                self.destroy_by_host(id).await;
            }
        }
        for id in &machines {
            self.until_gone(id).await;
        }
        for id in &volumes {
            self.erase_volume(id).await?;
        }
        self.edit(|world, _| {
            for id in &machines {
                world.remove_machine(id);
            }
            world.apps.remove(name);
            world.changed.push(Key::App(name.to_owned()));
            Ok(())
        })
        .await?;
        let app = name.to_owned();
        self.disk.work(move |disk| disk.remove_app(&app)).await
    }
}

pub(super) fn list_apps(world: &World, org: &str) -> Result<Reply, Refusal> {
    if org.is_empty() {
        return Err(Refusal::Invalid("authorization: request doesn't contain org_slug".to_owned()));
    }
    let apps: Vec<_> =
        world.apps.values().filter(|it| it.org == org && !it.deleting).map(shown).collect();
    Reply::json(&wire::Apps { total_apps: apps.len() as u64, apps })
}

fn shown(app: &App) -> wire::App {
    wire::App {
        id: app.id.clone(),
        name: app.name.clone(),
        status: if app.machines.is_empty() { "pending" } else { "deployed" }.to_owned(),
        network: Some(app.network.clone()),
        machine_count: app.machines.len() as u64,
        volume_count: app.volumes.len() as u64,
        organization: wire::Organization { name: app.org.clone(), slug: app.org.clone() },
    }
}

fn is_app_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty()
        && name.len() < 63
        && name.chars().all(allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

fn is_network_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}
