//! App secrets: write, unset, list digests. It must never answer a value.

use serde_json::json;

use crate::clock::Timestamp;
use crate::fly::wire;
use crate::local::{
    Backend,
    refusal::Refusal,
    respond::Reply,
    state::{App, Secret},
};

impl Backend {
    pub(super) fn list_secrets(
        &self,
        app: &str,
        min_version: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let world = self.lock();
        let app = at_version(world.app(app)?, min_version)?;
        Reply::json(&json!({"secrets": shown(app)}))
    }

    pub(super) fn get_secret(
        &self,
        app: &str,
        name: &str,
        min_version: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let world = self.lock();
        let app = at_version(world.app(app)?, min_version)?;
        let secret = app.secrets.get(name).ok_or(Refusal::NotFound("secret"))?;
        Reply::json(&digest(name, secret))
    }

    /// Sets and, with null, unsets.
    pub(super) async fn update_secrets(
        &self,
        app: &str,
        update: wire::SecretsUpdate,
    ) -> Result<Reply, Refusal> {
        let updated = self.edit(|world, now| {
            let app = world.app_mut(app)?;
            app.secrets_version += 1;
            for (name, value) in update.values {
                match value {
                    Some(value) => set(app, name, value, now),
                    None => {
                        app.secrets.remove(&name);
                    }
                }
            }
            Ok(json!({
                "Version": app.secrets_version, "version": app.secrets_version,
                "secrets": shown(app),
            }))
        });
        Reply::json(&updated.await?)
    }

    pub(super) async fn set_secret(
        &self,
        app: &str,
        name: String,
        value: String,
    ) -> Result<Reply, Refusal> {
        let answer = self.edit(|world, now| {
            let app = world.app_mut(app)?;
            app.secrets_version += 1;
            set(app, name.clone(), value, now);
            let secret = app.secrets.get(&name).ok_or(Refusal::NotFound("secret"))?;
            let shown = digest(&name, secret);
            Ok(json!({
                "name": shown.name, "digest": shown.digest, "created_at": shown.created_at,
                "updated_at": shown.updated_at,
                "Version": app.secrets_version, "version": app.secrets_version,
            }))
        });
        Reply::created(&answer.await?)
    }

    pub(super) async fn delete_secret(&self, app: &str, name: String) -> Result<Reply, Refusal> {
        let version: u64 = self
            .edit(|world, _| {
                let app = world.app_mut(app)?;
                app.secrets.remove(&name).ok_or(Refusal::NotFound("secret"))?;
                app.secrets_version += 1;
                Ok(app.secrets_version)
            })
            .await?;
        Reply::json(&json!({"Version": version, "version": version}))
    }
}

fn at_version(app: &App, at_least: Option<u64>) -> Result<&App, Refusal> {
    if at_least.is_some_and(|it| it > app.secrets_version) {
        return Err(Refusal::Precondition("minimum secrets version is not available".to_owned()));
    }
    Ok(app)
}

fn set(app: &mut App, name: String, value: String, now: Timestamp) {
    let digest = blake3::hash(value.as_bytes()).to_hex().chars().take(16).collect();
    let created_at = app.secrets.get(&name).map_or(now, |it| it.created_at);
    app.secrets.insert(name, Secret { value, digest, created_at, updated_at: now });
}

fn shown(app: &App) -> Vec<wire::AppSecret> {
    app.secrets.iter().map(|(name, secret)| digest(name, secret)).collect()
}

fn digest(name: &str, secret: &Secret) -> wire::AppSecret {
    wire::AppSecret {
        name: name.to_owned(),
        digest: secret.digest.clone(),
        created_at: secret.created_at.to_string(),
        updated_at: secret.updated_at.to_string(),
    }
}
