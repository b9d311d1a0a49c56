//! Courses that are walked again and again with something going wrong at each of their steps. A course says what a user
//! does and when; it must never look at what hangar does beyond waiting for it to rest.

mod pools;
mod trouble;

use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use crate::sim::universe::{Universe, environment, template};

/// How long nothing may happen until a course counts as at rest, and how long that may take.
const QUIET: Duration = Duration::from_secs(40);
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Declares an environment with a volume.
    Create,
    /// Declares two at once, one of them without a volume and under another hostname.
    Pair,
    /// Changes a template's image, a secret and an environment's variables.
    Update,
    /// Lets one fall asleep, wakes it, orders it to sleep and to run.
    Sleep,
    /// Machines are destroyed, stopped and changed by somebody else.
    Drift,
    /// Machines are stopped, suspended and ended by somebody who starts them again at once.
    Flicker,
    /// Has machines made anew: one that serves with its volume, one that sleeps.
    Reset,
    /// Deletes one that serves.
    Delete,
    /// Deletes one that was only just declared.
    Hurry,
    /// Deletes one, and declares it again under the same name.
    Again,
    /// Hosts do not answer for longer than is waited for, and are back.
    Outage,
    /// Creations are not answered, and show late.
    Late,
    /// Somebody's machine has the name that hangar wants to give.
    Stranger,
    /// A machine never gets further than being made.
    Stuck,
    /// A machine is destroyed, and there is no room for another one for a while.
    Crowded,
    /// Deletes everything at once.
    Exodus,
    /// Lists show nothing for a while, and then only some regions.
    Blind,
    /// Gets a bay of a pool, changes, sleeps, wakes, goes.
    Claim,
    /// Gets a bay of a pool whose template has no file, adds something later, sleeps, wakes; one that adds something comes.
    ClaimPlain,
    /// Two at once share a pool with one bay ready and one on its way.
    Share,
    /// Three come into a pool of two whose bays rest.
    Refill,
    /// Changes a template, and one comes while its pool follows.
    Roll,
    /// Scales a pool down and to nothing while environments come, and deletes it.
    Shrink,
}

impl Course {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::Create,
        Self::Pair,
        Self::Update,
        Self::Sleep,
        Self::Drift,
        Self::Flicker,
        Self::Delete,
        Self::Hurry,
        Self::Reset,
        Self::Again,
        Self::Outage,
        Self::Late,
        Self::Stranger,
        Self::Stuck,
        Self::Crowded,
        Self::Exodus,
        Self::Blind,
        Self::Claim,
        Self::ClaimPlain,
        Self::Share,
        Self::Refill,
        Self::Roll,
        Self::Shrink,
    ];

    /// Its name on command lines.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Pair => "pair",
            Self::Update => "update",
            Self::Sleep => "sleep",
            Self::Drift => "drift",
            Self::Flicker => "flicker",
            Self::Reset => "reset",
            Self::Delete => "delete",
            Self::Hurry => "hurry",
            Self::Again => "again",
            Self::Outage => "outage",
            Self::Late => "late",
            Self::Stranger => "stranger",
            Self::Stuck => "stuck",
            Self::Crowded => "crowded",
            Self::Exodus => "exodus",
            Self::Blind => "blind",
            Self::Claim => "claim",
            Self::ClaimPlain => "claim-plain",
            Self::Share => "share",
            Self::Refill => "refill",
            Self::Roll => "roll",
            Self::Shrink => "shrink",
        }
    }

    /// Whether what is made on the way hangs on who is faster, so that only the end can be compared.
    #[must_use]
    pub fn races(self) -> bool {
        matches!(self, Self::Hurry | Self::Share | Self::Refill | Self::Roll | Self::Shrink)
    }

    /// Walks it to its end.
    ///
    /// # Errors
    /// When the API refuses what the course does, or the controller fails.
    pub async fn walk(self, universe: &mut Universe) -> anyhow::Result<()> {
        universe.apply(&template("node", &json!({}))).await?;
        match self {
            Self::Create => {
                universe.apply(&environment("alice", "node", &json!({}))).await?;
                rest(universe).await?;
                universe.visit("alice").await;
            }
            Self::Pair => {
                universe.apply(&environment("alice", "node", &json!({}))).await?;
                universe.apply(&template("plain", &json!({"volume": null}))).await?;
                let hosts = json!({"hostnames": ["robert"], "env": {"A": "b"}});
                universe.apply(&environment("bob", "plain", &hosts)).await?;
            }
            Self::Update => update(universe).await?,
            Self::Sleep => sleep(universe).await?,
            Self::Drift => drift(universe).await?,
            Self::Flicker => flicker(universe).await?,
            Self::Reset => reset(universe).await?,
            Self::Delete => {
                universe.apply(&environment("alice", "node", &json!({}))).await?;
                rest(universe).await?;
                universe.delete("alice").await?;
            }
            Self::Hurry => {
                universe.apply(&environment("alice", "node", &json!({}))).await?;
                universe.pass(Duration::from_millis(20)).await?;
                universe.delete("alice").await?;
            }
            Self::Again => trouble::again(universe).await?,
            Self::Outage => trouble::outage(universe).await?,
            Self::Late => trouble::late(universe).await?,
            Self::Stranger => trouble::stranger(universe).await?,
            Self::Stuck => trouble::stuck(universe).await?,
            Self::Crowded => trouble::crowded(universe).await?,
            Self::Exodus => trouble::exodus(universe).await?,
            Self::Blind => trouble::blind(universe).await?,
            Self::Claim => pools::claim(universe).await?,
            Self::ClaimPlain => pools::claim_plain(universe).await?,
            Self::Share => pools::share(universe).await?,
            Self::Refill => pools::refill(universe).await?,
            Self::Roll => pools::roll(universe).await?,
            Self::Shrink => pools::shrink(universe).await?,
        }
        rest(universe).await
    }
}

async fn rest(universe: &mut Universe) -> anyhow::Result<()> {
    let rested = universe.rest(QUIET, LIMIT).await?;
    anyhow::ensure!(
        rested.is_some(),
        "it does not come to rest in {} minutes",
        LIMIT.as_secs() / 60
    );
    Ok(())
}

async fn update(universe: &mut Universe) -> anyhow::Result<()> {
    let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"KEY": value}});
    universe.apply(&secret("sim-canary-one")).await?;
    let spec = json!({"secrets": [{"name": "keys"}], "env": {"A": "1"}});
    universe.apply(&environment("alice", "node", &spec)).await?;
    rest(universe).await?;
    let image = "registry.fly.io/app@sha256:2222222222222222222222222222222222222222222222222222222222222222";
    let changed = json!({"machine": {"image": image}, "update": {"strategy": "Rolling"}});
    universe.apply(&template("node", &changed)).await?;
    rest(universe).await?;
    universe.apply(&secret("sim-canary-two")).await?;
    rest(universe).await?;
    let spec = json!({"secrets": [{"name": "keys"}], "env": {"A": "2"}});
    universe.apply(&environment("alice", "node", &spec)).await
}

async fn reset(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await?;
    universe.reset("alice").await?;
    rest(universe).await?;
    universe.apply(&environment("alice", "node", &json!({"operatingMode": "Asleep"}))).await?;
    rest(universe).await?;
    universe.reset("alice").await?;
    rest(universe).await?;
    // Whether the new one served before it was put to sleep again hangs on who is faster.
    universe.apply(&environment("alice", "node", &json!({"operatingMode": "Running"}))).await
}

async fn sleep(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await?;
    universe.visit("alice").await;
    universe.pass(Duration::from_secs(6 * 60)).await?;
    rest(universe).await?;
    universe.visit("alice").await;
    rest(universe).await?;
    for mode in ["Asleep", "Running"] {
        let spec = json!({"operatingMode": mode});
        universe.apply(&environment("alice", "node", &spec)).await?;
        rest(universe).await?;
    }
    Ok(())
}

/// The path of the one machine there is.
fn machine(universe: &Universe) -> anyhow::Result<String> {
    let machines = universe.census().machines;
    let mut live = machines.iter().filter(|(_, it)| it.destroyed_at.is_none());
    let (id, machine) = live.next().context("there is no machine")?;
    Ok(format!("/v1/apps/{}/machines/{id}", machine.app))
}

async fn drift(universe: &mut Universe) -> anyhow::Result<()> {
    let spec = json!({"operatingMode": "Running"});
    universe.apply(&environment("alice", "node", &spec)).await?;
    rest(universe).await?;
    let destroyed = format!("{}?force=true", machine(universe)?);
    universe.meddle(&Method::DELETE, &destroyed, &Value::Null).await?;
    rest(universe).await?;
    let machine = machine(universe)?;
    universe.meddle(&Method::POST, &format!("{machine}/stop"), &Value::Null).await?;
    rest(universe).await?;
    let mut config = universe.meddle(&Method::GET, &machine, &Value::Null).await?["config"].take();
    config["image"] = json!("registry.fly.io/other:1");
    universe.meddle(&Method::POST, &machine, &json!({"config": config})).await?;
    Ok(())
}

async fn flicker(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await?;
    let machine = machine(universe)?;
    for order in ["stop", "suspend"] {
        universe.meddle(&Method::POST, &format!("{machine}/{order}"), &Value::Null).await?;
        universe.pass(Duration::from_millis(100)).await?;
        universe.meddle(&Method::POST, &format!("{machine}/start"), &Value::Null).await?;
        rest(universe).await?;
    }
    let id = machine.rsplit('/').next().unwrap_or_default();
    universe.driver().end(id, 1);
    Ok(())
}
