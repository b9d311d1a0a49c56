//! The Machines API's request and response bodies, as they really are on the wire: a tolerant reader (everything may be
//! missing, unknown fields are kept or skipped, both spellings are read) and an exact writer. It must never hold logic
//! beyond that of reading and writing.
//!
//! What stands inside a machine's configuration is in `config`, volumes are in `volume`.
//!
//! Field names and forms are Fly's (OpenAPI document of September 2026, corrected where live answers differ).

mod config;
mod volume;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use self::{
    config::{
        Autostop, Check, Concurrency, File, GoDuration, Guest, Init, MachineConfig, Mount, Port,
        RestartPolicy, Service, StopConfig,
    },
    volume::{CreateVolume, ExtendVolume, ExtendedVolume, OrgVolumes, Snapshot, Volume},
};

/// `POST /v1/apps`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CreateApp {
    /// Global name: lower-case letters, digits, dashes, under 63 characters. Documentation also spells it `app_name`.
    #[serde(alias = "app_name", default)]
    pub name: String,
    /// Organisation slug; required.
    #[serde(default)]
    pub org_slug: String,
    /// Private network; fixed at creation, made by first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// An app.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct App {
    /// Opaque id.
    pub id: String,
    /// Name.
    pub name: String,
    /// `pending`, `deployed`, `suspended`; others may come.
    pub status: String,
    /// Private network's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Machines in it, destroyed ones not counted.
    pub machine_count: u64,
    /// Volumes in it.
    pub volume_count: u64,
    /// Who owns it.
    pub organization: Organization,
}

/// An organisation, as an app names it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Organization {
    /// Display name.
    pub name: String,
    /// Slug.
    pub slug: String,
}

/// `GET /v1/apps?org_slug=`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Apps {
    /// All apps of the organisation; there are no pages.
    pub apps: Vec<App>,
    /// How many there are.
    pub total_apps: u64,
}

/// `POST /v1/apps/{app}/machines`, and the same without `region` for an update.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineInput {
    /// Unique in the app; a reused one is answered 409 with the id of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One region, an alias, or a comma-separated list in order of preference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The whole configuration: an update replaces it.
    pub config: MachineConfig,
    /// Do not start it.
    #[serde(skip_serializing_if = "is_false")]
    pub skip_launch: bool,
    /// Create it cordoned.
    #[serde(skip_serializing_if = "is_false")]
    pub skip_service_registration: bool,
    /// Refuse app secrets older than this version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_secrets_version: Option<u64>,
    /// Create or keep it leased for so many seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_ttl: Option<u64>,
    /// Update only: refuse (409) unless this is the machine's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<String>,
}

/// A machine. With `summary=true`, or on a host that does not answer, most of it is missing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// 14 hexadecimal digits.
    pub id: String,
    /// Unique in the app.
    pub name: String,
    /// See the documentation's states; kept as text, since new ones appear.
    pub state: String,
    /// Where it is.
    pub region: String,
    /// Current version (a ULID). Read from `version` too; answers may have both.
    #[serde(flatten, with = "instance_id")]
    pub instance_id: String,
    /// Address in its network.
    pub private_ip: String,
    /// Missing when the host is not `ok`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<MachineConfig>,
    /// A best effort in that case, not fit for anything but reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete_config: Option<MachineConfig>,
    /// What the image reference was resolved to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_ref: Option<ImageRef>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
    /// Newest first.
    #[serde(deserialize_with = "null_is_default")]
    pub events: Vec<MachineEvent>,
    /// Empty right after launch, which does not mean passing.
    #[serde(deserialize_with = "null_is_default")]
    pub checks: Vec<CheckStatus>,
    /// `ok`, `unknown`, `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_status: Option<String>,
    /// Out of routing.
    #[serde(skip_serializing_if = "is_false")]
    pub cordoned: bool,
    /// Lease nonce, when created with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// What an image reference was resolved to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageRef {
    /// Host.
    pub registry: String,
    /// Path.
    pub repository: String,
    /// Tag.
    pub tag: String,
    /// `sha256:…`.
    pub digest: String,
}

/// Something that happened to a machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineEvent {
    /// ULID.
    pub id: String,
    /// `launch`, `start`, `exit`, `update` …
    #[serde(rename = "type")]
    pub kind: String,
    /// `created`, `started`, `stopped` …
    pub status: String,
    /// `user`, `flyd`, `proxy`.
    pub source: String,
    /// Unix time, milliseconds.
    pub timestamp: i64,
    /// Payload, such as `exit_event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Value>,
}

/// State of a check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckStatus {
    /// Name; `servicecheck-…` for a service's, `bg_deployments_compat…` for made-up ones.
    pub name: String,
    /// `passing`, `warning`, `critical`.
    pub status: String,
    /// What the last check said.
    pub output: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// `GET /v1/orgs/{org}/machines`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrgMachines {
    /// Oldest update first.
    #[serde(deserialize_with = "null_is_default")]
    pub machines: Vec<OrgMachine>,
    /// Empty at the end; a page may be empty before that.
    #[serde(deserialize_with = "null_is_default")]
    pub next_cursor: String,
    /// Regions that could not be read: absence there proves nothing.
    #[serde(deserialize_with = "null_is_default")]
    pub error_regions: Vec<String>,
    /// RFC 3339.
    pub last_updated_at: String,
    /// Last machine of the page.
    pub last_machine_id: String,
}

/// A machine in the organisation's list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrgMachine {
    /// Machine id.
    pub id: String,
    /// Its app.
    pub app_name: String,
    /// Name.
    pub name: String,
    /// State.
    pub state: String,
    /// Region.
    pub region: String,
    /// Current version.
    pub version: String,
    /// Address.
    pub private_ip: String,
    /// Guest, image and metadata only; nothing with `summary=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<OverviewConfig>,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// What the organisation's list tells of a configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverviewConfig {
    /// Size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// Image reference.
    pub image: String,
    /// Metadata.
    #[serde(deserialize_with = "null_is_default")]
    pub metadata: BTreeMap<String, String>,
}

/// `POST /v1/apps/{app}/secrets`: sets and, with `null`, unsets.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretsUpdate {
    /// Name to value.
    pub values: BTreeMap<String, Option<String>>,
}

impl std::fmt::Debug for SecretsUpdate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretsUpdate").field("names", &self.values.keys()).finish_non_exhaustive()
    }
}

/// Answer to it; values are never in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretsUpdated {
    /// Pass it as `min_secrets_version`. Read from the older `Version` too; answers may have both.
    #[serde(flatten, with = "secrets_version")]
    pub version: u64,
    /// What there is now.
    #[serde(deserialize_with = "null_is_default")]
    pub secrets: Vec<AppSecret>,
}

/// An app secret without its value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppSecret {
    /// Name.
    pub name: String,
    /// Digest of the value.
    pub digest: String,
    /// RFC 3339.
    pub created_at: String,
    /// RFC 3339.
    pub updated_at: String,
}

/// `POST …/stop`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// Signal name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// At most 5 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
}

/// `POST …/exec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Command line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// The older form: one string, split at spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<String>,
    /// Standard input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u64>,
}

/// Answer to it: 200 whatever the exit code.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Executed {
    /// Left out when 0.
    pub exit_code: i32,
    /// Signal, 0 without one.
    pub exit_signal: i32,
    /// Standard output.
    #[serde(deserialize_with = "null_is_default")]
    pub stdout: String,
    /// Standard error.
    #[serde(deserialize_with = "null_is_default")]
    pub stderr: String,
}

/// Answer to `GET …/wait`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Waited {
    /// True.
    pub ok: bool,
    /// State reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Event that reached it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Version it was seen at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// Answer to `POST …/start`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    /// What it was before.
    pub previous_state: String,
    /// Whether it moved to another host.
    pub migrated: bool,
    /// Where to.
    pub new_host: String,
}

/// A lease, inside `{"status":"success","data":…}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// Goes into the `fly-machine-lease-nonce` header.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Unix time, seconds.
    pub expires_at: i64,
    /// Who has it.
    pub owner: String,
    /// Why.
    pub description: String,
    /// The machine's version when it was taken.
    pub version: String,
}

/// `GET /v1/platform/regions`: the top keys really begin with a capital.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Regions {
    /// All regions.
    #[serde(rename = "Regions", alias = "regions")]
    pub regions: Vec<Region>,
    /// The one nearest to the caller.
    #[serde(rename = "Nearest", alias = "nearest")]
    pub nearest: String,
}

/// A region.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Region {
    /// Three letters.
    pub code: String,
    /// City.
    pub name: String,
    /// No new machines.
    pub deprecated: bool,
    /// Needs a paid plan.
    pub requires_paid_plan: bool,
    /// Whether it can be a WireGuard gateway.
    pub gateway_available: bool,
    /// `europe`, …
    pub geo_region: String,
}

/// An error's body in all of its forms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    /// Usual text.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub error: String,
    /// Lease-style text; preferred when both are there.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub message: String,
    /// A code, or the word `error` in lease-style answers.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub status: String,
}

/// One field that comes under two names, sometimes both at once.
mod instance_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Names<T> {
        #[serde(default = "Option::default")]
        instance_id: Option<T>,
        #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
        version: Option<T>,
    }

    pub(super) fn serialize<S: Serializer>(value: &str, to: S) -> Result<S::Ok, S::Error> {
        Names { instance_id: Some(value), version: None }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        let names = Names::deserialize(from)?;
        Ok(names.instance_id.or(names.version).unwrap_or_default())
    }
}

/// One field that comes under two names, sometimes both at once.
mod secrets_version {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Names {
        version: Option<u64>,
        #[serde(rename = "Version")]
        older: Option<u64>,
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub(super) fn serialize<S: Serializer>(value: &u64, to: S) -> Result<S::Ok, S::Error> {
        // Fly sends both spellings, and readers of either exist.
        Names { version: Some(*value), older: Some(*value) }.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let names = Names::deserialize(from)?;
        Ok(names.version.or(names.older).unwrap_or_default())
    }
}

/// Go writes `null` for an empty list or map.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}
