//! The Machines API's request and response bodies, as they really are on the wire: a tolerant reader (everything may be
//! missing, unknown fields are kept or skipped, both spellings are read) and an exact writer. It must never hold logic
//! beyond that of reading and writing.
//!
//! Field names and forms are Fly's (OpenAPI document of September 2026, corrected where live answers differ).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

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

/// A machine's configuration. Fields that hangar does not use are kept in `other`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineConfig {
    /// Image reference; resolved when the string changes.
    pub image: String,
    /// Environment.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<Guest>,
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
    /// At most one volume.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Ports that Fly Proxy serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Health checks by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, Check>,
    /// When the program is started again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// How the program is asked to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_config: Option<StopConfig>,
    /// Files written before the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Key and value pairs; writes to them through the metadata endpoint make no version.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Destroy the machine when its program ends.
    #[serde(skip_serializing_if = "is_false")]
    pub auto_destroy: bool,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// CPU and memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Guest {
    /// `shared` or `performance`.
    pub cpu_kind: String,
    /// 1, 2, 4, 6, 8 (and 10, 12, 14, 16 for performance).
    pub cpus: u32,
    /// Multiple of 256.
    pub memory_mb: u32,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What is run, and how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Init {
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A mounted volume.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Volume id.
    pub volume: String,
    /// Where in the machine.
    pub path: String,
    /// Volume name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Port inside the machine.
    pub internal_port: u16,
    /// Ports outside.
    pub ports: Vec<Port>,
    /// Whether Fly Proxy starts a stopped machine for a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart: Option<bool>,
    /// Whether Fly Proxy stops an idle machine. Sent as a string, answered as a boolean or `"suspend"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostop: Option<Autostop>,
    /// Never stop below this in the primary region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_machines_running: Option<u32>,
    /// Load limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A port outside.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Port {
    /// The port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// `http`, `tls` …
    pub handlers: Vec<String>,
    /// Redirect plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_https: Option<bool>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Load limits of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Concurrency {
    /// `connections` or `requests`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Prefer others above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<u32>,
    /// Never above this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<u32>,
}

/// What Fly Proxy does with an idle machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Autostop {
    /// Nothing.
    #[default]
    Off,
    /// Stops it.
    Stop,
    /// Suspends it.
    Suspend,
}

impl Serialize for Autostop {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::Stop => serializer.serialize_str("stop"),
            Self::Suspend => serializer.serialize_str("suspend"),
        }
    }
}

impl<'de> Deserialize<'de> for Autostop {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(false) => Ok(Self::Off),
            Value::Bool(true) => Ok(Self::Stop),
            Value::String(text) if text == "off" => Ok(Self::Off),
            Value::String(text) if text == "stop" => Ok(Self::Stop),
            Value::String(text) if text == "suspend" => Ok(Self::Suspend),
            other => Err(de::Error::custom(format!("autostop cannot be {other}"))),
        }
    }
}

/// A health check.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Check {
    /// `tcp` or `http`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Port inside the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// http: path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// http: method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<GoDuration>,
    /// Time one may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// Time after the start in which failures do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<GoDuration>,
    /// Everything else, as it came.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Restart policy.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RestartPolicy {
    /// `no`, `always`, `on-failure`, `spot-price`.
    pub policy: String,
    /// For `on-failure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u32>,
}

/// How the program is asked to end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StopConfig {
    /// `SIGINT` unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// 5 s unless said, at most 5 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
}

/// A file written before the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Absolute path in the machine.
    pub guest_path: String,
    /// Content in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_value: Option<String>,
    /// Or the app secret (base64) it is taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// Permission bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

/// A duration as Go writes it (`"15s"`, `"1m30s"`); also read from a number of nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads `1h2m3.5s`, `250ms`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim();
        if rest == "0" {
            return Some(Self(Duration::ZERO));
        }
        let mut sum = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let number: f64 = rest.get(..digits)?.parse().ok()?;
            let tail = rest.get(digits..)?;
            let unit_end =
                tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let unit = match tail.get(..unit_end)? {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
            sum += Duration::try_from_secs_f64(number * unit).ok()?;
            rest = tail.get(unit_end..)?;
        }
        (!text.trim().is_empty()).then_some(Self(sum))
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0.as_millis();
        if ms.is_multiple_of(1_000) {
            serializer.serialize_str(&format!("{}s", ms / 1_000))
        } else {
            serializer.serialize_str(&format!("{ms}ms"))
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Self::parse(&text)
                .ok_or_else(|| de::Error::custom(format!("`{text}` is not a duration"))),
            Value::Number(number) => number
                .as_u64()
                .map(|nanoseconds| Self(Duration::from_nanos(nanoseconds)))
                .ok_or_else(|| de::Error::custom(format!("{number} is not a duration"))),
            other => Err(de::Error::custom(format!("{other} is not a duration"))),
        }
    }
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

/// `POST /v1/apps/{app}/volumes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateVolume {
    /// Lower-case letters, digits, underscores, at most 30; need not be unique.
    pub name: String,
    /// One region.
    pub region: String,
    /// 1 to 500; 3 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_gb: Option<u32>,
    /// True unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
    /// 1 to 60 days, 5 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_retention: Option<u32>,
    /// Daily snapshots; true unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto_backup_enabled: Option<bool>,
    /// Other host than the app's other volumes of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_unique_zone: Option<bool>,
    /// Restore from this snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot_id: Option<String>,
    /// Fork this volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_volume_id: Option<String>,
    /// Size of the machine that will mount it, for placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute: Option<Guest>,
    /// Image of the machine that will mount it, for placement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compute_image: Option<String>,
}

/// A volume, in an app's list, the organisation's list or alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// `vol_…`.
    pub id: String,
    /// Name.
    pub name: String,
    /// `created`, `pending_destroy` …; see [`Volume::is_going`].
    pub state: String,
    /// Size.
    pub size_gb: u32,
    /// Region; has been seen missing.
    pub region: String,
    /// Hardware host.
    pub zone: String,
    /// True unless said at creation.
    pub encrypted: bool,
    /// Machine that has it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_machine_id: Option<String>,
    /// Days.
    pub snapshot_retention: u32,
    /// Daily snapshots.
    pub auto_backup_enabled: bool,
    /// RFC 3339.
    pub created_at: String,
    /// `ok`, `unknown`, `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_status: Option<String>,
    /// In the organisation's list only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
    /// In the organisation's list only; RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<String>,
    /// Used bytes, where the host tells.
    pub bytes_used: u64,
}

impl Volume {
    /// Whether it is being, or has been, destroyed: soft deletion keeps it readable for a day.
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(
            self.state.as_str(),
            "scheduling_destroy"
                | "pending_destroy"
                | "fork_cleanup"
                | "waiting_for_detach"
                | "destroying"
                | "destroyed"
        )
    }
}

/// `GET /v1/orgs/{org}/volumes`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OrgVolumes {
    /// Oldest update first.
    #[serde(deserialize_with = "null_is_default")]
    pub volumes: Vec<Volume>,
    /// Empty at the end.
    #[serde(deserialize_with = "null_is_default")]
    pub next_cursor: String,
    /// RFC 3339.
    pub last_updated_at: String,
    /// Last volume of the page.
    pub last_volume_id: String,
}

/// `PUT …/extend`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtendVolume {
    /// New size; never smaller.
    pub size_gb: u32,
}

/// Answer to it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExtendedVolume {
    /// The volume.
    pub volume: Volume,
    /// Whether its machine must restart to see it.
    pub needs_restart: bool,
}

/// A snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// `vs_…`.
    pub id: String,
    /// `waiting`, `pending`, `running`, `created`.
    pub status: String,
    /// Stored bytes.
    pub size: u64,
    /// Bytes of the volume.
    pub volume_size: u64,
    /// Content digest.
    pub digest: String,
    /// Days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u32>,
    /// RFC 3339.
    pub created_at: String,
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
