//! Makes an environment and waits until it serves, as a program that gives each of its users one would:
//! `cargo run --example environment_create -- carol`. It must never delete anything.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, time::Duration};

use anyhow::{Context as _, bail};
use hangar::{
    api::{environment::Environment, environment::Phase, kind::Kind},
    client::{Client, DEFAULT_SERVER, Query},
};
use serde_json::json;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let name = env::args().nth(1).context("which name? environment_create NAME")?;
    let server = env::var("HANGAR_SERVER").unwrap_or_else(|_| DEFAULT_SERVER.to_owned());
    let authority = env::var("HANGAR_CA").ok().map(std::fs::read_to_string).transpose()?;
    let client = Client::trusting(&server, env::var("HANGAR_TOKEN").ok(), authority.as_deref())?;
    let wanted = json!({
        "apiVersion": "hangar.dev/v1alpha1",
        "kind": "Environment",
        "metadata": {"name": name},
        "spec": {
            "templateRef": {"name": "workspace"},
            "owner": format!("{name}@example.com"),
            "access": "Public",
        },
    });
    let made = client.create(Kind::Environment, "default", &wanted, false).await?;
    for warning in made.warnings {
        println!("warning: {warning}");
    }
    let url = tokio::time::timeout(PATIENCE, served(&client, &name))
        .await
        .context("it does not serve yet; `hangar describe env` says why")??;
    println!("{name} serves at {url}");
    Ok(())
}

/// Waits until the environment serves; its address.
async fn served(client: &Client, name: &str) -> anyhow::Result<String> {
    let query = Query::name(name);
    // Without a revision a watch begins with what there is, so nothing can be missed in between.
    let mut changes =
        client.watch::<Environment>(Kind::Environment, Some("default"), &query, None).await?;
    while let Some(change) = changes.next().await? {
        let Some(environment) = change.into_object() else { continue };
        let status = environment.status;
        println!("{:?}", status.phase);
        match (status.phase, status.url) {
            (Phase::Ready, Some(url)) => return Ok(url),
            (Phase::Stalled | Phase::Deleting, _) => bail!("it needs a person"),
            _ => {}
        }
    }
    bail!("the server ended the watch")
}
