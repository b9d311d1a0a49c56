//! What the router reads of an object: few fields, leniently, so that a newer server's words do not stop an older router.
//! It must never hold more than routing needs.

use base64::Engine as _;
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    api::core::BAY_KEY_TYPE,
    router::{
        packed::{App, Label},
        table::Machine,
    },
};

/// An object that cannot be read. The text never quotes the object, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not JSON of the expected shape.
    #[error("not the expected object, at line {line} column {column}")]
    Shape {
        /// Where.
        line: usize,
        /// Where.
        column: usize,
    },
    /// A field that the router needs has a value it cannot use.
    #[error("{field} cannot be used for routing: {value:?}")]
    Value {
        /// Which field.
        field: &'static str,
        /// What it is.
        value: String,
    },
}

/// What routing needs of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Uid.
    pub uid: Uuid,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels it lists. Those that are no labels are left out.
    pub labels: Vec<Label>,
    /// Whether everybody may reach it.
    pub public: bool,
    /// Whether it sleeps by order.
    pub asleep: bool,
    /// Whether it cannot answer and will not by itself.
    pub broken: bool,
    /// Whether its deletion was asked for.
    pub deleted: bool,
    /// The bay's name.
    pub bay: Option<String>,
    /// App and machine that serve.
    pub place: Option<(App, Machine)>,
    /// Rises with every machine that replaces another.
    pub epoch: u32,
}

/// What routing needs of a hostname.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hostname {
    /// The label.
    pub label: Label,
    /// Namespace of the holder.
    pub namespace: String,
    /// Name of the holder.
    pub environment: String,
    /// Uid of the holder.
    pub uid: Uuid,
    /// Whether it was given up.
    pub released: bool,
}

/// What routing needs of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BayKey {
    /// Namespace.
    pub namespace: String,
    /// The bay's name.
    pub bay: String,
    /// The key; `None` when the secret holds none.
    pub key: Option<[u8; 16]>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    name: String,
    namespace: String,
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Deserialize)]
struct RawEnvironment {
    metadata: Meta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    hostnames: Vec<String>,
    access: String,
    operating_mode: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawStatus {
    conditions: Vec<RawCondition>,
    bay: Option<RawBay>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawBay {
    name: String,
    app: String,
    machine: Option<String>,
    epoch: u64,
}

#[derive(Deserialize)]
struct RawHostname {
    metadata: Meta,
    spec: RawHolder,
    #[serde(default)]
    status: RawRelease,
}

#[derive(Deserialize)]
struct RawHolder {
    namespace: String,
    environment: String,
    uid: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRelease {
    released_at: Option<String>,
}

#[derive(Deserialize)]
struct RawSecret {
    metadata: Meta,
    #[serde(rename = "type", default)]
    type_: String,
    #[serde(default)]
    data: RawData,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawData {
    key: String,
}

impl Environment {
    /// Reads a stored environment.
    ///
    /// # Errors
    /// When it is not one.
    pub fn read(json: &[u8]) -> Result<Self, Error> {
        let RawEnvironment { metadata, spec, status } = parse(json)?;
        let condition = |kind: &str| status.conditions.iter().find(|it| it.kind == kind);
        let holds = |kind: &str| condition(kind).is_some_and(|it| it.status == "True");
        let no_service = condition("Routed").is_some_and(|it| it.reason == "NoService");
        let names = match spec.hostnames.is_empty() {
            true => vec![metadata.name.clone()],
            false => spec.hostnames,
        };
        let bay = status.bay.unwrap_or_default();
        let place = bay.machine.as_ref().and_then(|id| {
            let place = App::exact(&bay.app).zip(Machine::parse(id.as_bytes()));
            if place.is_none() {
                // Still an environment: its host must not turn into an unknown one.
                tracing::warn!(
                    environment = metadata.name,
                    app = bay.app,
                    machine = id,
                    "cannot route to this machine"
                );
            }
            place
        });
        Ok(Self {
            uid: uid(&metadata.uid)?,
            namespace: metadata.namespace,
            name: metadata.name,
            labels: names.iter().filter_map(|name| Label::of_name(name)).collect(),
            public: spec.access == "Public",
            asleep: spec.operating_mode == "Asleep",
            broken: !holds("Routed") && (holds("Stalled") || holds("Degraded") || no_service),
            deleted: metadata.deletion_timestamp.is_some(),
            bay: Some(bay.name).filter(|name| !name.is_empty()),
            place,
            epoch: u32::try_from(bay.epoch)
                .map_err(|_too_large| bad("status.bay.epoch", &bay.epoch.to_string()))?,
        })
    }
}

impl Hostname {
    /// Reads a stored hostname.
    ///
    /// # Errors
    /// When it is not one.
    pub fn read(json: &[u8]) -> Result<Self, Error> {
        let RawHostname { metadata, spec, status } = parse(json)?;
        Ok(Self {
            label: Label::of_name(&metadata.name)
                .ok_or_else(|| bad("metadata.name", &metadata.name))?,
            uid: uid(&spec.uid)?,
            namespace: spec.namespace,
            environment: spec.environment,
            released: status.released_at.is_some(),
        })
    }
}

impl BayKey {
    /// Reads a stored secret; `None` when it is another kind of secret.
    ///
    /// # Errors
    /// When it is not a secret.
    pub fn read(json: &[u8]) -> Result<Option<Self>, Error> {
        let RawSecret { metadata, type_, data } = parse(json)?;
        if type_ != BAY_KEY_TYPE {
            return Ok(None);
        }
        let key = base64::engine::general_purpose::STANDARD.decode(&data.key).ok();
        let key = key.and_then(|bytes| bytes.try_into().ok());
        Ok(Some(Self { namespace: metadata.namespace, bay: metadata.name, key }))
    }
}

/// Shows whose it is, never the key.
impl std::fmt::Debug for BayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BayKey")
            .field("namespace", &self.namespace)
            .field("bay", &self.bay)
            .finish_non_exhaustive()
    }
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(json)
        .map_err(|error| Error::Shape { line: error.line(), column: error.column() })
}

fn uid(text: &str) -> Result<Uuid, Error> {
    Uuid::try_parse(text).map_err(|_other_form| bad("uid", text))
}

fn bad(field: &'static str, value: &str) -> Error {
    Error::Value { field, value: value.chars().take(80).collect() }
}

#[cfg(test)]
mod tests {
    use crate::api::{
        environment::{Access, BayRef, EnvironmentSpec, EnvironmentStatus, OperatingMode},
        hostname::held,
        meta::{Metadata, NameRef},
    };

    use super::*;

    const UID: &str = "6f2c4a4e-1111-4222-8333-444455556666";

    fn stored() -> crate::api::environment::Environment {
        crate::api::environment::Environment {
            api_version: "hangar.dev/v1alpha1".to_owned(),
            kind: "Environment".to_owned(),
            metadata: Metadata {
                name: "alice".to_owned(),
                namespace: Some("default".to_owned()),
                uid: UID.to_owned(),
                ..Metadata::default()
            },
            spec: EnvironmentSpec {
                template_ref: NameRef { name: "node".to_owned() },
                owner: None,
                region: None,
                hostnames: vec!["alice".to_owned(), "wonder".to_owned()],
                access: Some(Access::Public),
                operating_mode: Some(OperatingMode::Asleep),
                env: Default::default(),
                secrets: vec![],
                deletion_policy: None,
                lifetime: None,
            },
            status: EnvironmentStatus {
                bay: Some(BayRef {
                    name: "bay-7f3k2q".to_owned(),
                    app: "hgr-7f3k2q".to_owned(),
                    region: None,
                    machine: Some("3d8d9930c4e1b8".to_owned()),
                    epoch: 3,
                }),
                ..EnvironmentStatus::default()
            },
        }
    }

    #[test]
    fn an_environment_as_the_store_writes_it_is_read() {
        let object = stored();
        let fact = Environment::read(&serde_json::to_vec(&object).unwrap()).unwrap();
        assert_eq!((fact.name.as_str(), fact.namespace.as_str()), ("alice", "default"));
        assert_eq!(fact.uid.to_string(), UID);
        assert_eq!(
            fact.labels.iter().map(Label::to_string).collect::<Vec<_>>(),
            ["alice", "wonder"]
        );
        assert!(fact.public && fact.asleep && !fact.broken && !fact.deleted);
        let (app, machine) = fact.place.unwrap();
        assert_eq!(
            (app.to_string(), machine.to_string()),
            ("hgr-7f3k2q".to_owned(), "3d8d9930c4e1b8".to_owned())
        );
        assert_eq!((fact.bay.as_deref(), fact.epoch), (Some("bay-7f3k2q"), 3));

        let hostname = held("wonder", &object);
        let fact = Hostname::read(&serde_json::to_vec(&hostname).unwrap()).unwrap();
        assert_eq!((fact.label.to_string(), fact.released), ("wonder".to_owned(), false));
        assert_eq!(fact.uid.to_string(), UID);
    }

    #[test]
    fn private_is_what_is_not_said_to_be_public() {
        let read = |spec: &str| {
            let json = format!(r#"{{"metadata":{{"name":"a","uid":"{UID}"}},"spec":{spec}}}"#);
            Environment::read(json.as_bytes()).unwrap().public
        };
        assert!(read(r#"{"access":"Public"}"#));
        assert!(!read("{}") && !read(r#"{"access":"Organisation"}"#));
    }

    #[test]
    fn stalled_is_broken_unless_it_is_still_routed() {
        let broken = |conditions: &str| {
            let json = format!(
                r#"{{"metadata":{{"name":"a","uid":"{UID}"}},"status":{{"conditions":{conditions}}}}}"#
            );
            Environment::read(json.as_bytes()).unwrap().broken
        };
        assert!(broken(r#"[{"type":"Stalled","status":"True","reason":"VolumeMissing"}]"#));
        assert!(broken(
            r#"[{"type":"Degraded","status":"True"},{"type":"Routed","status":"False"}]"#
        ));
        assert!(broken(r#"[{"type":"Routed","status":"False","reason":"NoService"}]"#));
        assert!(!broken(
            r#"[{"type":"Stalled","status":"True"},{"type":"Routed","status":"True"}]"#
        ));
        assert!(!broken(
            r#"[{"type":"Stalled","status":"False"},{"type":"Newer","status":"Perhaps"}]"#
        ));
    }

    #[test]
    fn only_a_bay_key_of_sixteen_bytes_is_a_key() {
        let read = |kind: &str, key: &str| {
            let json = format!(
                r#"{{"metadata":{{"name":"bay-1","namespace":"d"}},"type":"{kind}","data":{{"key":"{key}"}}}}"#
            );
            BayKey::read(json.as_bytes()).unwrap()
        };
        assert_eq!(read("Opaque", "AAECAwQFBgcICQoLDA0ODw=="), None);
        let found = read(BAY_KEY_TYPE, "AAECAwQFBgcICQoLDA0ODw==").unwrap();
        assert_eq!(found.key.map(|key| key[15]), Some(15));
        assert!(!format!("{found:?}").contains("15"));
        assert_eq!(read(BAY_KEY_TYPE, "AAEC").unwrap().key, None);
    }

    #[test]
    fn an_error_never_quotes_a_secret() {
        let error = BayKey::read(br#"{"metadata":{},"data":{"key":123456}}"#).unwrap_err();
        assert!(!error.to_string().contains("123456"), "{error}");
    }
}
