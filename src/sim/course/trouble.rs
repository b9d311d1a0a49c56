//! Courses on which the world itself fails for longer than a moment, and a person has to do with it. They must never say
//! what hangar should do about it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::{
    local::faults::{Kind, Rule},
    sim::{
        course::{machine, rest},
        universe::{Universe, environment, template},
    },
};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOLDS: &str = "/apis/hangar.dev/v1alpha1/holds";

fn fault(universe: &Universe, rule: Rule) -> anyhow::Result<()> {
    universe.fly().faults().add(rule)?;
    Ok(())
}

/// The hosts of two environments do not answer for longer than one without data is waited for, and then are back.
pub(super) async fn outage(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&template("plain", &json!({"volume": null}))).await?;
    let spec = json!({"operatingMode": "Running"});
    universe.apply(&environment("alice", "node", &spec)).await?;
    universe.apply(&environment("bob", "plain", &spec)).await?;
    rest(universe).await?;
    for machine in universe.census().machines.into_values() {
        let mut rule = Rule::new(Kind::HostUnreachable);
        rule.host = Some(machine.host);
        rule.lasts = Some(Duration::from_secs(40 * 60));
        fault(universe, rule)?;
    }
    universe.pass(Duration::from_secs(45 * 60)).await?;
    rest(universe).await
}

/// Creations are not answered, and reads show what they made seconds later.
pub(super) async fn late(universe: &mut Universe) -> anyhow::Result<()> {
    for route in ["create_volume", "create_machine"] {
        fault(universe, Rule::new(Kind::Answer408Done).on(route).times(1))?;
    }
    for route in ["list_volumes", "org_volumes", "list_machines", "org_machines"] {
        let mut rule = Rule::new(Kind::LaggingReads).on(route);
        rule.ago = Some(Duration::from_secs(8));
        rule.lasts = Some(Duration::from_secs(120));
        fault(universe, rule)?;
    }
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await
}

/// Somebody's machine has the name that hangar wants to give.
pub(super) async fn stranger(universe: &mut Universe) -> anyhow::Result<()> {
    fault(universe, Rule::new(Kind::MachineNameSquatted).times(1))?;
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await
}

/// A machine never gets further than being made, and its successor never further than an update.
pub(super) async fn stuck(universe: &mut Universe) -> anyhow::Result<()> {
    let mut created = Rule::new(Kind::StuckCreated).times(1);
    created.takes = Some(DAY);
    fault(universe, created)?;
    universe.apply(&environment("alice", "node", &json!({}))).await?;
    rest(universe).await?;
    let mut replacing = Rule::new(Kind::StuckReplacing).times(1);
    replacing.takes = Some(DAY);
    fault(universe, replacing)?;
    let changed = json!({"machine": {"env": {"A": "2"}}, "update": {"strategy": "Rolling"}});
    universe.apply(&template("node", &changed)).await?;
    rest(universe).await
}

/// A machine is destroyed, and the host of its volume has no room for another one for a while.
pub(super) async fn crowded(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&environment("alice", "node", &json!({"operatingMode": "Running"}))).await?;
    rest(universe).await?;
    let mut full = Rule::new(Kind::VolumeHostFull).on("create_machine");
    full.lasts = Some(Duration::from_secs(180));
    fault(universe, full)?;
    let destroyed = format!("{}?force=true", machine(universe)?);
    universe.meddle(&Method::DELETE, &destroyed, &Value::Null).await?;
    rest(universe).await
}

/// A user deletes everything at once, and says so again when asked.
pub(super) async fn exodus(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&template("plain", &json!({"volume": null}))).await?;
    let names: Vec<_> = (0..8).map(|it| format!("env-{it}")).collect();
    for name in &names {
        universe.apply(&environment(name, "plain", &json!({}))).await?;
    }
    rest(universe).await?;
    for name in &names {
        universe.delete(name).await?;
    }
    universe.pass(Duration::from_secs(90)).await?;
    let (_, holds) = universe.ask(Method::GET, HOLDS, &Value::Null).await?;
    for hold in holds["items"].as_array().into_iter().flatten() {
        let name = hold["metadata"]["name"].as_str().unwrap_or_default();
        universe.ask(Method::DELETE, &format!("{HOLDS}/{name}"), &Value::Null).await?;
    }
    rest(universe).await
}

/// One is deleted and declared again under the same name.
pub(super) async fn again(universe: &mut Universe) -> anyhow::Result<()> {
    for _ in 0..2 {
        universe.apply(&environment("alice", "node", &json!({}))).await?;
        rest(universe).await?;
        universe.delete("alice").await?;
        rest(universe).await?;
    }
    universe.apply(&environment("alice", "node", &json!({}))).await
}

/// Lists show nothing for a while, and then say that they lack a region.
pub(super) async fn blind(universe: &mut Universe) -> anyhow::Result<()> {
    universe.apply(&environment("alice", "node", &json!({"operatingMode": "Running"}))).await?;
    rest(universe).await?;
    for kind in [Kind::ListEmpty, Kind::ErrorRegions] {
        let mut rule = Rule::new(kind);
        rule.lasts = Some(Duration::from_secs(30));
        rule.regions = (kind == Kind::ErrorRegions).then(|| vec!["ams".to_owned()]);
        fault(universe, rule)?;
        universe.pass(Duration::from_secs(90)).await?;
        rest(universe).await?;
    }
    Ok(())
}
