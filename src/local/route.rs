//! From an HTTP request to a closed `Call`: paths, queries, bodies. It must never look at the state.

use std::time::Duration;

use serde::Deserialize;

use crate::fly::wire;
use crate::local::{
    body,
    call::{AppCall, Call, Filter, LeaseRequest, MachineCall, Page, VolumeCall, Wait},
    refusal::Refusal,
};

/// What of a request matters.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: &'static str,
    /// Decoded segments of the path.
    pub(super) path: Vec<String>,
    pub(super) query: Query,
    /// `fly-machine-lease-nonce`.
    pub(super) nonce: Option<String>,
    pub(super) body: bytes::Bytes,
}

/// Decoded query parameters in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|it| !it.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(it, value)| it == key && !value.is_empty()).map(|(_, it)| it.as_str())
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | "t"))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Refusal> {
        self.get(key).map(str::parse).transpose().map_err(|_| {
            Refusal::Invalid(format!("invalid_argument: {key} must be a whole number"))
        })
    }

    /// Values of a parameter that may be repeated or comma-separated.
    fn list(&self, key: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(it, _)| it == key);
        values
            .flat_map(|(_, it)| it.split(','))
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

/// Undoes percent-encoding; in queries `+` is a space.
pub(super) fn decode(text: &str, query: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|it| std::str::from_utf8(it).ok());
        match (first, hex.and_then(|it| u8::from_str_radix(it, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', _) if query => bytes.push(b' '),
            _ => bytes.push(first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OneValue {
    value: String,
}

/// Route template, or what answers for it in the metrics, and the call.
pub(super) type Parsed = (&'static str, Result<Call, Refusal>);

/// Finds the call of a request.
pub(super) fn parse(request: &Request) -> Parsed {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    let query = &request.query;
    match (request.method, path.as_slice()) {
        ("GET", ["v1", "apps"]) => ("/v1/apps", Ok(Call::ListApps { org: query.text("org_slug") })),
        ("POST", ["v1", "apps"]) => {
            ("/v1/apps", body::read(&request.body, "createAppRequest", false).map(Call::CreateApp))
        }
        ("GET", ["v1", "orgs", org, "machines"]) => (
            "/v1/orgs/{org}/machines",
            page(query).map(|page| Call::OrgMachines { org: (*org).to_owned(), page }),
        ),
        ("GET", ["v1", "orgs", org, "volumes"]) => (
            "/v1/orgs/{org}/volumes",
            page(query).map(|page| Call::OrgVolumes { org: (*org).to_owned(), page }),
        ),
        ("GET", ["v1", "platform", "regions"]) => ("/v1/platform/regions", Ok(Call::Regions)),
        ("POST", ["v1", "platform", "placements"]) => (
            "/v1/platform/placements",
            body::read(&request.body, "getPlacementsRequest", false).map(Call::Placements),
        ),
        (_, ["v1", "apps", app, "machines", id, rest @ ..]) => {
            let (route, call) = machine(request, rest);
            let nonce = request.nonce.clone();
            let (app, id) = ((*app).to_owned(), (*id).to_owned());
            (route, call.map(|call| Call::Machine { app, id, nonce, call }))
        }
        (_, ["v1", "apps", app, "volumes", id, rest @ ..]) => {
            let (route, call) = volume(request, rest);
            let (app, id) = ((*app).to_owned(), (*id).to_owned());
            (route, call.map(|call| Call::Volume { app, id, call }))
        }
        (_, ["v1", "apps", app, rest @ ..]) => {
            let (route, call) = in_app(request, rest);
            let app = (*app).to_owned();
            (route, call.map(|call| Call::App { app, call }))
        }
        _ => ("unknown", Err(Refusal::NoRoute)),
    }
}

fn in_app(request: &Request, rest: &[&str]) -> (&'static str, Result<AppCall, Refusal>) {
    let (query, sent) = (&request.query, &request.body);
    match (request.method, rest) {
        ("GET", []) => ("/v1/apps/{app}", Ok(AppCall::Get)),
        ("DELETE", []) => ("/v1/apps/{app}", Ok(AppCall::Delete)),
        ("GET", ["machines"]) => {
            ("/v1/apps/{app}/machines", Ok(AppCall::ListMachines(filter(query))))
        }
        ("POST", ["machines"]) => (
            "/v1/apps/{app}/machines",
            body::read(sent, "createMachineRequest", false)
                .map(|it| AppCall::CreateMachine(Box::new(it))),
        ),
        ("GET", ["volumes"]) => ("/v1/apps/{app}/volumes", Ok(AppCall::ListVolumes)),
        ("POST", ["volumes"]) => (
            "/v1/apps/{app}/volumes",
            body::read(sent, "createVolumeRequest", false)
                .map(|it| AppCall::CreateVolume(Box::new(it))),
        ),
        (_, ["secrets", ..]) => secrets(request, rest),
        ("GET", ["ip_assignments"]) => ("/v1/apps/{app}/ip_assignments", Ok(AppCall::ListIps)),
        ("POST", ["ip_assignments"]) => (
            "/v1/apps/{app}/ip_assignments",
            body::read(sent, "assignIPRequest", false).map(AppCall::AssignIp),
        ),
        ("DELETE", ["ip_assignments", ip]) => {
            ("/v1/apps/{app}/ip_assignments/{ip}", Ok(AppCall::ReleaseIp { ip: (*ip).to_owned() }))
        }
        ("GET", ["network_policies"]) => {
            ("/v1/apps/{app}/network_policies", Ok(AppCall::ListPolicies))
        }
        ("POST", ["network_policies"]) => (
            "/v1/apps/{app}/network_policies",
            body::read(sent, "networkPolicy", false).map(AppCall::PutPolicy),
        ),
        ("DELETE", ["network_policies", id]) => (
            "/v1/apps/{app}/network_policies/{id}",
            Ok(AppCall::DeletePolicy { id: (*id).to_owned() }),
        ),
        _ => ("unknown", Err(Refusal::NoRoute)),
    }
}

fn secrets(request: &Request, rest: &[&str]) -> (&'static str, Result<AppCall, Refusal>) {
    // fly-go says `version` where the specification says `min_version`.
    let min_version = || match request.query.number("min_version") {
        Ok(None) => request.query.number("version"),
        other => other,
    };
    match (request.method, rest) {
        ("GET", ["secrets"]) => (
            "/v1/apps/{app}/secrets",
            min_version().map(|min_version| AppCall::ListSecrets { min_version }),
        ),
        ("POST", ["secrets"]) => (
            "/v1/apps/{app}/secrets",
            body::read_with_nulls(&request.body, "appSecretsUpdateRequest")
                .map(AppCall::UpdateSecrets),
        ),
        ("GET", ["secrets", name]) => (
            "/v1/apps/{app}/secrets/{name}",
            min_version()
                .map(|min_version| AppCall::GetSecret { name: (*name).to_owned(), min_version }),
        ),
        ("POST", ["secrets", name]) => (
            "/v1/apps/{app}/secrets/{name}",
            body::read(&request.body, "setAppSecretRequest", false).map(|it: OneValue| {
                AppCall::SetSecret { name: (*name).to_owned(), value: it.value }
            }),
        ),
        ("DELETE", ["secrets", name]) => (
            "/v1/apps/{app}/secrets/{name}",
            Ok(AppCall::DeleteSecret { name: (*name).to_owned() }),
        ),
        _ => ("unknown", Err(Refusal::NoRoute)),
    }
}

fn machine(request: &Request, rest: &[&str]) -> (&'static str, Result<MachineCall, Refusal>) {
    let (query, sent) = (&request.query, &request.body);
    match (request.method, rest) {
        ("GET", []) => (
            "/v1/apps/{app}/machines/{id}",
            Ok(MachineCall::Get { leases: query.flag("include_leases") }),
        ),
        ("POST", []) => (
            "/v1/apps/{app}/machines/{id}",
            body::read(sent, "updateMachineRequest", false)
                .map(|it| MachineCall::Update(Box::new(it))),
        ),
        ("DELETE", []) => (
            "/v1/apps/{app}/machines/{id}",
            Ok(MachineCall::Destroy { force: query.flag("force") || query.flag("kill") }),
        ),
        ("POST", ["start"]) => ("/v1/apps/{app}/machines/{id}/start", Ok(MachineCall::Start)),
        ("POST", ["stop"]) => (
            "/v1/apps/{app}/machines/{id}/stop",
            body::read(sent, "stopRequest", true).map(MachineCall::Stop),
        ),
        ("POST", ["suspend"]) => ("/v1/apps/{app}/machines/{id}/suspend", Ok(MachineCall::Suspend)),
        ("POST", ["restart"]) => {
            ("/v1/apps/{app}/machines/{id}/restart", restart(query).map(MachineCall::Restart))
        }
        ("POST", ["cordon"]) => {
            ("/v1/apps/{app}/machines/{id}/cordon", Ok(MachineCall::Cordon(true)))
        }
        ("POST", ["uncordon"]) => {
            ("/v1/apps/{app}/machines/{id}/uncordon", Ok(MachineCall::Cordon(false)))
        }
        (_, ["lease"]) => lease(request),
        (_, ["metadata", ..]) => metadata(request, rest),
        _ => inside(request, rest),
    }
}

fn inside(request: &Request, rest: &[&str]) -> (&'static str, Result<MachineCall, Refusal>) {
    let (query, sent) = (&request.query, &request.body);
    match (request.method, rest) {
        ("GET", ["wait"]) => {
            ("/v1/apps/{app}/machines/{id}/wait", wait(query).map(MachineCall::Wait))
        }
        ("POST", ["exec"]) => (
            "/v1/apps/{app}/machines/{id}/exec",
            body::read(sent, "machineExecRequest", false).map(MachineCall::Exec),
        ),
        ("POST", ["signal"]) => (
            "/v1/apps/{app}/machines/{id}/signal",
            body::read(sent, "signalRequest", false).map(MachineCall::Signal),
        ),
        ("GET", ["ps"]) => (
            "/v1/apps/{app}/machines/{id}/ps",
            Ok(MachineCall::Processes {
                sort_by: query.text("sort_by"),
                descending: query.get("order") == Some("desc"),
            }),
        ),
        ("GET", ["events"]) => (
            "/v1/apps/{app}/machines/{id}/events",
            query.number("limit").map(|limit| MachineCall::Events { limit }),
        ),
        ("GET", ["versions"]) => {
            ("/v1/apps/{app}/machines/{id}/versions", Ok(MachineCall::Versions))
        }
        _ => ("unknown", Err(Refusal::NoRoute)),
    }
}

fn lease(request: &Request) -> (&'static str, Result<MachineCall, Refusal>) {
    let call = match request.method {
        "GET" => Ok(MachineCall::GetLease),
        "DELETE" => Ok(MachineCall::ReleaseLease),
        "POST" => body::read(&request.body, "createLeaseRequest", true).and_then(
            |mut it: LeaseRequest| {
                // fly-go sends the time in the query and no body.
                if let Some(ttl) = request.query.number("ttl")? {
                    it.ttl = Some(ttl);
                }
                Ok(MachineCall::TakeLease(it))
            },
        ),
        _ => return ("unknown", Err(Refusal::NoRoute)),
    };
    ("/v1/apps/{app}/machines/{id}/lease", call)
}

fn metadata(request: &Request, rest: &[&str]) -> (&'static str, Result<MachineCall, Refusal>) {
    let sent = &request.body;
    const ALL: &str = "/v1/apps/{app}/machines/{id}/metadata";
    const ONE: &str = "/v1/apps/{app}/machines/{id}/metadata/{key}";
    match (request.method, rest) {
        ("GET", [_]) => (ALL, Ok(MachineCall::Metadata)),
        ("PUT", [_]) => (
            ALL,
            body::read_with_nulls(sent, "updateMetadataRequest").map(MachineCall::PutMetadata),
        ),
        ("PATCH", [_]) => (
            ALL,
            body::read_with_nulls(sent, "updateMetadataRequest").map(MachineCall::PatchMetadata),
        ),
        ("GET", [_, key]) => (ONE, Ok(MachineCall::MetadataValue { key: (*key).to_owned() })),
        ("DELETE", [_, key]) => (ONE, Ok(MachineCall::DeleteMetadata { key: (*key).to_owned() })),
        ("POST", [_, key]) => (
            ONE,
            body::read(sent, "upsertMetadataKeyRequest", false).map(|it: OneValue| {
                MachineCall::SetMetadata { key: (*key).to_owned(), value: it.value }
            }),
        ),
        _ => ("unknown", Err(Refusal::NoRoute)),
    }
}

fn volume(request: &Request, rest: &[&str]) -> (&'static str, Result<VolumeCall, Refusal>) {
    let sent = &request.body;
    match (request.method, rest) {
        ("GET", []) => ("/v1/apps/{app}/volumes/{id}", Ok(VolumeCall::Get)),
        ("PUT", []) => (
            "/v1/apps/{app}/volumes/{id}",
            body::read(sent, "updateVolumeRequest", false).map(VolumeCall::Update),
        ),
        ("DELETE", []) => ("/v1/apps/{app}/volumes/{id}", Ok(VolumeCall::Destroy)),
        ("PUT", ["extend"]) => (
            "/v1/apps/{app}/volumes/{id}/extend",
            body::read(sent, "extendVolumeRequest", false).map(VolumeCall::Extend),
        ),
        ("GET", ["snapshots"]) => {
            ("/v1/apps/{app}/volumes/{id}/snapshots", Ok(VolumeCall::ListSnapshots))
        }
        ("POST", ["snapshots"]) => {
            ("/v1/apps/{app}/volumes/{id}/snapshots", Ok(VolumeCall::CreateSnapshot))
        }
        _ => ("unknown", Err(Refusal::NoRoute)),
    }
}

fn filter(query: &Query) -> Filter {
    let metadata = query.0.iter().filter_map(|(key, value)| {
        key.strip_prefix("metadata.").map(|key| (key.to_owned(), value.clone()))
    });
    Filter {
        include_deleted: query.flag("include_deleted"),
        summary: query.flag("summary"),
        leases: query.flag("include_leases"),
        regions: query.list("region"),
        states: query.list("state"),
        metadata: metadata.collect(),
    }
}

fn page(query: &Query) -> Result<Page, Refusal> {
    Ok(Page {
        filter: filter(query),
        updated_after: query.text("updated_after"),
        cursor: query.text("cursor"),
        limit: query.number("limit")?,
    })
}

fn restart(query: &Query) -> Result<wire::Stop, Refusal> {
    let timeout = match query.get("timeout") {
        None => None,
        Some(text) => Some(
            wire::GoDuration::parse(text)
                .or_else(|| text.parse().ok().map(|s| wire::GoDuration(Duration::from_secs(s))))
                .ok_or_else(|| Refusal::Invalid(format!("time: invalid duration \"{text}\"")))?,
        ),
    };
    // A forced stop does not ask first.
    let signal = if query.flag("force_stop") {
        Some("SIGKILL".to_owned())
    } else {
        query.get("signal").map(str::to_owned)
    };
    Ok(wire::Stop { signal, timeout })
}

const WAIT_MAX_S: i64 = 60;

fn wait(query: &Query) -> Result<Wait, Refusal> {
    let seconds = query.number::<i64>("timeout")?.unwrap_or(WAIT_MAX_S);
    let timeout = match u64::try_from(seconds) {
        Ok(good) if (1..=WAIT_MAX_S).contains(&seconds) => Duration::from_secs(good),
        Ok(_) | Err(_) => {
            return Err(Refusal::Invalid(
                "invalid_argument: invalid WaitMachineRequest.Timeout: value must be inside range \
                 [1s, 1m0s]"
                    .to_owned(),
            ));
        }
    };
    let mut states = query.list("state");
    if states.is_empty() {
        states.push("started".to_owned());
    }
    const STATES: [&str; 6] = ["started", "stopped", "suspended", "destroyed", "failed", "settled"];
    if let Some(other) = states.iter().find(|it| !STATES.contains(&it.as_str())) {
        return Err(Refusal::Invalid(format!("invalid_argument: unsupported wait state {other}")));
    }
    Ok(Wait {
        states,
        version: query.get("version").or_else(|| query.get("instance_id")).map(str::to_owned),
        from_event: query.get("from_event_id").map(str::to_owned),
        timeout,
    })
}
