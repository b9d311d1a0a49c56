//! Regions, placements, and what is only stored: addresses and network policies. It must never open a port.

use serde_json::{Value, json};

use crate::fly::wire;
use crate::local::{Backend, refusal::Refusal, respond::Reply};

/// Fly's regions (August 2026): code, city, part of the world.
const REGIONS: [(&str, &str, &str); 18] = [
    ("ams", "Amsterdam, Netherlands", "eu"),
    ("arn", "Stockholm, Sweden", "eu"),
    ("bom", "Mumbai, India", "apac"),
    ("cdg", "Paris, France", "eu"),
    ("dfw", "Dallas, Texas (US)", "na"),
    ("ewr", "Secaucus, NJ (US)", "na"),
    ("fra", "Frankfurt, Germany", "eu"),
    ("gru", "Sao Paulo, Brazil", "sa"),
    ("iad", "Ashburn, Virginia (US)", "na"),
    ("jnb", "Johannesburg, South Africa", "africa"),
    ("lax", "Los Angeles, California (US)", "na"),
    ("lhr", "London, United Kingdom", "eu"),
    ("nrt", "Tokyo, Japan", "apac"),
    ("ord", "Chicago, Illinois (US)", "na"),
    ("sin", "Singapore, Singapore", "apac"),
    ("sjc", "San Jose, California (US)", "na"),
    ("syd", "Sydney, Australia", "apac"),
    ("yyz", "Toronto, Canada", "na"),
];

/// Regions with room that a list of codes and aliases names, in its order. An empty list names the default.
pub(super) fn candidates(list: &str, open: &[String]) -> Result<Vec<String>, Refusal> {
    let mut found: Vec<String> = Vec::new();
    if list.is_empty() {
        return Ok(open.to_vec());
    }
    for part in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let is_in = |code: &str, geo: &str| match part {
            "any" => true,
            "us" | "usa" => geo == "na" && code != "yyz",
            other => code == other || geo == other,
        };
        let mut named = REGIONS.iter().filter(|(code, _, geo)| is_in(code, geo)).peekable();
        let own = open.iter().filter(|it| *it == part || part == "any");
        if named.peek().is_none() && !open.iter().any(|it| it == part) {
            return Err(Refusal::Invalid(format!("invalid_argument: unknown region {part}")));
        }
        let named = named.map(|(code, _, _)| *code).filter(|code| open.iter().any(|it| it == code));
        let named = named.map(str::to_owned).chain(own.cloned()).collect::<Vec<_>>();
        for code in named {
            if !found.contains(&code) {
                found.push(code);
            }
        }
    }
    if found.is_empty() { Err(Refusal::NoHost) } else { Ok(found) }
}

impl Backend {
    /// The open regions.
    pub(super) fn regions(&self) -> Result<Reply, Refusal> {
        let regions = self.config.regions.iter().map(|code| {
            let known = REGIONS.iter().find(|(it, _, _)| it == code);
            let (name, geo) = known.map_or((code.as_str(), ""), |(_, name, geo)| (*name, *geo));
            wire::Region {
                code: code.clone(),
                name: name.to_owned(),
                deprecated: false,
                requires_paid_plan: false,
                gateway_available: true,
                geo_region: geo.to_owned(),
            }
        });
        Reply::json(&wire::Regions {
            regions: regions.collect(),
            nearest: self.config.regions.first().cloned().unwrap_or_default(),
        })
    }

    /// There is always room; a region that is not open is absent.
    pub(super) fn placements(&self, input: &Value) -> Result<Reply, Refusal> {
        let region = input.get("region").and_then(Value::as_str).unwrap_or_default();
        let count = input.get("count").and_then(Value::as_u64).unwrap_or(0);
        let open = candidates(region, &self.config.regions)?;
        let placed: Vec<_> =
            open.iter().map(|it| json!({"Region": it, "Count": count, "Concurrency": 1})).collect();
        Reply::json(&json!({"Regions": placed}))
    }

    /// Makes an address up.
    pub(super) async fn assign_ip(&self, app: &str, input: &Value) -> Result<Reply, Refusal> {
        let kind = input.get("type").and_then(Value::as_str).unwrap_or_default();
        let number = blake3::hash(self.ids.ulid().as_bytes());
        let [a, b, c, ..] = *number.as_bytes();
        let ip = match kind {
            "v4" | "egress_v4" => format!("137.66.{a}.{b}"),
            "shared_v4" => format!("66.241.124.{a}"),
            "v6" | "egress_v6" => format!("2a09:8280:1::{a:x}:{b:x}{c:02x}"),
            "private_v6" => format!("fdaa:0:{a:x}{b:02x}:0:1::{c:x}"),
            other => {
                return Err(Refusal::Invalid(format!(
                    "invalid_argument: unsupported address type {other:?}"
                )));
            }
        };
        let assigned = self.edit(|world, now| {
            let assigned = json!({
                "ip": ip, "region": input.get("region").cloned().unwrap_or_else(|| json!("global")),
                "created_at": now.to_string(), "shared": kind == "shared_v4",
                "egress": kind.starts_with("egress"),
                "service_name": input.get("service_name").cloned().unwrap_or_else(|| json!("")),
            });
            world.app_mut(app)?.ips.push(assigned.clone());
            Ok(assigned)
        });
        Reply::json(&assigned.await?)
    }

    pub(super) async fn release_ip(&self, app: &str, ip: &str) -> Result<Reply, Refusal> {
        self.edit(|world, _| {
            let ips = &mut world.app_mut(app)?.ips;
            let before = ips.len();
            ips.retain(|it| it.get("ip").and_then(Value::as_str) != Some(ip));
            if ips.len() == before { Err(Refusal::NotFound("ip address")) } else { Ok(()) }
        })
        .await?;
        Ok(Reply::NoContent)
    }

    /// Makes a policy, or replaces the one whose id it names.
    pub(super) async fn put_policy(&self, app: &str, policy: Value) -> Result<Reply, Refusal> {
        let Value::Object(mut policy) = policy else {
            return Err(Refusal::Invalid("invalid_argument: not a policy".to_owned()));
        };
        let given = policy.get("id").and_then(Value::as_str).filter(|it| !it.is_empty());
        let id = given.map_or_else(|| self.ids.opaque(), str::to_owned);
        policy.insert("id".to_owned(), Value::String(id.clone()));
        let policy = Value::Object(policy);
        self.edit(|world, _| {
            world.app_mut(app)?.policies.insert(id, policy.clone());
            Ok(())
        })
        .await?;
        Reply::json(&policy)
    }

    pub(super) async fn delete_policy(&self, app: &str, id: &str) -> Result<Reply, Refusal> {
        self.edit(|world, _| {
            let removed = world.app_mut(app)?.policies.remove(id);
            removed.map(|_| ()).ok_or(Refusal::NotFound("network policy"))
        })
        .await?;
        Ok(Reply::NoContent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_list_names_open_regions_in_its_order() {
        let open = ["ams", "fra", "iad"].map(str::to_owned);
        let found = |list| candidates(list, &open);
        assert_eq!(found("").unwrap(), open);
        assert_eq!(found("iad,eu").unwrap(), ["iad", "ams", "fra"]);
        assert_eq!(found("syd,us").unwrap(), ["iad"]);
        assert_eq!(found("syd"), Err(Refusal::NoHost));
        assert!(matches!(found("atlantis"), Err(Refusal::Invalid(_))));
    }
}
