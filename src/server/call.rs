//! Method, path and query → a closed [`Call`]. Pure; it must never look at a body, a header or the store.

mod query;

use http::Method;

pub(super) use self::query::Query;
use crate::api::{
    fields::Operation,
    kind::{Form, Kind},
    meta::ObjectRef,
    offer::{self, Behind},
    review::Review,
    selector::{Fields, Labels},
};
use crate::server::{
    removal::Propagation,
    streams::{self, Open},
};

/// Everything the server can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Where things are.
    Discovery(Discovery),
    /// What objects look like.
    OpenApi(OpenApi),
    /// Which Kubernetes this looks like.
    Version,
    /// Whether the process lives (`/livez`, `/healthz`).
    Live,
    /// Whether all its parts are ready.
    Ready,
    /// Metrics.
    Metrics,
    /// The reconciliation log.
    Logs(LogOptions),
    /// What remote routers saw.
    Activity,
    /// An export of the store, written where the server keeps them.
    Backup,
    /// One object.
    Get(Target),
    /// Many objects.
    List(Scope, ListOptions),
    /// Changes of many objects.
    Watch(Scope, WatchOptions),
    /// A new object.
    Create(Scope, WriteOptions),
    /// An object in the place of another.
    Replace(Target, WriteOptions),
    /// Some fields of an object.
    Patch(Target, WriteOptions),
    /// The end of an object.
    Delete(ObjectRef, WriteOptions),
    /// How many bays a pool wants.
    GetScale(ObjectRef),
    /// Another number of bays for a pool, as a whole scale.
    ReplaceScale(ObjectRef, WriteOptions),
    /// Another number of bays for a pool, by a patch.
    PatchScale(ObjectRef, WriteOptions),
    /// A stream of a pod.
    Open(ObjectRef, Open),
    /// What pods use: those of a namespace, or one.
    Usage(Pods),
    /// An order about an orphan.
    Order(ObjectRef, WriteOptions),
    /// The end of many objects.
    DeleteCollection(Scope, ListOptions, WriteOptions),
    /// A question of callers about themselves, in this version of its group.
    Review(Review, &'static str),
}

/// All pods, those of a namespace, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pods {
    /// Namespace.
    pub(super) namespace: Option<String>,
    /// Name, in the namespace.
    pub(super) name: Option<String>,
}

/// A page of discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discovery {
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/hangar.dev`
    Group(&'static str),
    /// `/api/v1`, `/apis/hangar.dev/v1alpha1`
    Resources(&'static str, &'static str),
}

/// A document of OpenAPI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpenApi {
    /// `/openapi/v2`
    Old,
    /// `/openapi/v3`
    Index,
    /// `/openapi/v3/apis/hangar.dev/v1alpha1`, in the edition of this hash where one is named.
    Group(&'static str, &'static str, Option<String>),
}

/// Objects of one kind: in a namespace, in all of them, or without one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// Kind.
    pub(super) kind: Kind,
    /// Namespace; `None` for all of them, and for kinds that have none.
    pub(super) namespace: Option<String>,
    /// How they are written, where not as the kind has it.
    pub(super) form: Option<&'static Form>,
}

impl Scope {
    /// What the store's keys of these objects start with.
    pub(super) fn prefix(&self) -> String {
        let plural = self.kind.info().plural;
        match &self.namespace {
            Some(namespace) => format!("{plural}/{namespace}/"),
            None => format!("{plural}/"),
        }
    }
}

/// One object, or its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Which.
    pub(super) object: ObjectRef,
    /// Whether only its status is meant.
    pub(super) status: bool,
    /// How it is written, where not as the kind has it.
    pub(super) form: Option<&'static Form>,
}

/// Which objects of a scope.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// By labels.
    pub(super) labels: Labels,
    /// By fields.
    pub(super) fields: Fields,
}

impl Selection {
    /// Whether this object is one of them.
    pub(super) fn matches(&self, object: &serde_json::Value) -> bool {
        self.labels.matches_object(object) && self.fields.matches(object)
    }

    /// Whether all of them are.
    pub(super) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }
}

/// How to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ListOptions {
    /// Which objects.
    pub(super) select: Selection,
    /// At most so many; 0 is no limit.
    pub(super) limit: usize,
    /// Where the page before ended.
    pub(super) after: Option<String>,
    /// A revision to be at, or not older than.
    pub(super) revision: Option<u64>,
    /// Exactly at that revision.
    pub(super) exact: bool,
    /// What a table row carries of its object.
    pub(super) include: Include,
}

/// What a table row carries of its object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// With what there is, told as added.
    Existing,
    /// With what there is, told as added, and a bookmark that ends it.
    ExistingThenBookmark,
    /// After this revision; `None` is now.
    After(Option<u64>),
}

/// How to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WatchOptions {
    /// Which objects.
    pub(super) select: Selection,
    /// From where.
    pub(super) start: Start,
    /// Whether to tell the revision in quiet times.
    pub(super) bookmarks: bool,
    /// When to end.
    pub(super) timeout_seconds: Option<u64>,
    /// What a table row carries of its object.
    pub(super) include: Include,
}

/// How to write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WriteOptions {
    /// Do everything but the write.
    pub(super) dry_run: bool,
    /// What becomes of fields that the kind does not have or that are there twice.
    pub(super) validation: FieldValidation,
    /// What becomes of dependents, where it is a deletion.
    pub(super) propagation: Option<Propagation>,
    /// Who writes.
    pub(super) writer: Writer,
}

/// Who writes, to whom fields then belong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Writer {
    /// Its name.
    pub(super) name: String,
    /// Whether the request itself said that.
    pub(super) is_named: bool,
    /// How it writes.
    pub(super) operation: Operation,
    /// Through which subresource, where that is not the target's.
    pub(super) subresource: &'static str,
    /// Whether it takes fields from others, where the request says.
    pub(super) force: Option<bool>,
}

impl Writer {
    /// Whether it takes fields from others.
    pub(super) fn is_forced(&self) -> bool {
        self.force == Some(true)
    }
}

/// Bytes of a manager's name.
const MANAGER_BYTES_MAX: usize = 128;
/// Who writes when nobody says.
const NOBODY: &str = "unknown";

/// What becomes of fields that the kind does not have (they are left out), or that are there twice (the last counts).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FieldValidation {
    /// Nothing was asked for. Kubernetes warns then; here nothing that people declare is guessed, so the request is refused, but for
    /// a status, in which programs keep notes of their own: of those the answer says that they are left out.
    #[default]
    Unsaid,
    /// The request is refused.
    Strict,
    /// The answer names them.
    Warn,
    /// Nothing is said.
    Ignore,
}

/// Which lines of the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogOptions {
    /// Only of this object, as `env/alice`.
    pub(super) object: Option<String>,
    /// At most so many of the past.
    pub(super) limit: usize,
    /// And then the new ones.
    pub(super) follow: bool,
}

/// Why it is no call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoCall {
    /// Nothing is at this path.
    NotFound,
    /// Something is, but not for this method.
    MethodNotAllowed,
    /// Something is, but nothing can do this; why.
    NotAllowed(&'static str),
    /// A parameter is wrong.
    Bad(String),
    /// A parameter is forbidden here: its name and why.
    Forbidden(&'static str, &'static str),
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// Why it is none.
    pub(super) fn parse(method: &Method, path: &str, query: Option<&str>) -> Result<Self, NoCall> {
        let query = Query::parse(query.unwrap_or_default());
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match parts.as_slice() {
            ["healthz" | "livez"] => get_only(method, Self::Live),
            ["readyz"] => get_only(method, Self::Ready),
            ["version"] => get_only(method, Self::Version),
            ["metrics"] => get_only(method, Self::Metrics),
            ["logs"] => get_only(method, Self::Logs(query.log()?)),
            ["router", "activity"] if method == Method::POST => Ok(Self::Activity),
            ["backups"] if method == Method::POST => Ok(Self::Backup),
            ["router", "activity"] | ["backups"] => Err(NoCall::MethodNotAllowed),
            ["api"] => get_only(method, Self::Discovery(Discovery::CoreVersions)),
            ["apis"] => get_only(method, Self::Discovery(Discovery::Groups)),
            ["apis", group] => match offer::groups().into_iter().find(|it| it.name == *group) {
                Some(group) if !group.name.is_empty() => {
                    get_only(method, Self::Discovery(Discovery::Group(group.name)))
                }
                Some(_) | None => Err(NoCall::NotFound),
            },
            ["openapi", "v2"] => get_only(method, Self::OpenApi(OpenApi::Old)),
            ["openapi", "v3"] => get_only(method, Self::OpenApi(OpenApi::Index)),
            ["openapi", "v3", path @ ..] => match group_version(path) {
                Some((group, version, [])) => {
                    let hash = query.get("hash").map(str::to_owned);
                    get_only(method, Self::OpenApi(OpenApi::Group(group, version, hash)))
                }
                Some(_) | None => Err(NoCall::NotFound),
            },
            path => match group_version(path) {
                Some((group, version, [])) => {
                    get_only(method, Self::Discovery(Discovery::Resources(group, version)))
                }
                Some((group, version, rest)) => resource((group, version), rest, method, &query),
                None => Err(NoCall::NotFound),
            },
        }
    }

    /// The same, written by the program with this `User-Agent` where the request names no other manager.
    pub(super) fn written_by(mut self, agent: &str) -> Self {
        let options = match &mut self {
            Self::Create(_, options)
            | Self::Replace(_, options)
            | Self::Patch(_, options)
            | Self::ReplaceScale(_, options)
            | Self::PatchScale(_, options) => options,
            _ => return self,
        };
        if !options.writer.is_named {
            let name = agent.split('/').next().unwrap_or_default();
            let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
            while name.len() > MANAGER_BYTES_MAX {
                name.pop();
            }
            options.writer.name = if name.is_empty() { NOBODY.to_owned() } else { name };
        }
        self
    }
}

/// What pods use: all of them, those of a namespace, or one.
fn usage(namespace: Option<&str>, rest: &[&str]) -> Result<Call, NoCall> {
    let name = match rest {
        [_] => None,
        [_, name] if namespace.is_some() => Some(*name),
        _ => return Err(NoCall::NotFound),
    };
    if !namespace.into_iter().chain(name).all(is_plain) {
        return Err(NoCall::NotFound);
    }
    let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
    Ok(Call::Usage(Pods { namespace, name }))
}

fn get_only(method: &Method, call: Call) -> Result<Call, NoCall> {
    if method == Method::GET { Ok(call) } else { Err(NoCall::MethodNotAllowed) }
}

/// The group and version that a path is in, as they are offered, and the rest of it.
fn group_version<'a>(path: &'a [&'a str]) -> Option<(&'static str, &'static str, &'a [&'a str])> {
    let (group, version, rest) = match path {
        ["api", version, rest @ ..] => ("", version, rest),
        ["apis", group, version, rest @ ..] if !group.is_empty() => (*group, version, rest),
        _ => return None,
    };
    let offer = offer::of(group, version).next()?;
    Some((offer.group, offer.version, rest))
}

fn resource(
    (group, version): (&str, &str),
    rest: &[&str],
    method: &Method,
    query: &Query,
) -> Result<Call, NoCall> {
    let (namespace, rest) = match rest {
        // `namespaces/x/status` is about the namespace, any other third part is a kind in it.
        ["namespaces", namespace, rest @ ..]
            if !(rest.is_empty() || group.is_empty() && rest == ["status"]) =>
        {
            (Some(*namespace), rest)
        }
        rest => (None, rest),
    };
    let offer = rest.first().and_then(|plural| offer::find(group, version, plural));
    let offer = offer.ok_or(NoCall::NotFound)?;
    if namespace.is_some() && !offer.namespaced {
        return Err(NoCall::NotFound);
    }
    let (kind, form) = match offer.behind {
        Behind::Kind(kind, form) => (kind, form),
        Behind::Review(review) => {
            return match (rest, method) {
                ([_], &Method::POST) => Ok(Call::Review(review, offer.version)),
                ([_], _) => Err(NoCall::MethodNotAllowed),
                _ => Err(NoCall::NotFound),
            };
        }
        Behind::Usage => return get_only(method, usage(namespace, rest)?),
    };
    for part in rest.iter().copied().chain(namespace) {
        if !is_plain(part) {
            return Err(NoCall::NotFound);
        }
    }
    let object = |name: &str| {
        if namespace.is_none() && kind.info().namespaced {
            return Err(NoCall::NotFound);
        }
        Ok(ObjectRef::new(kind, namespace.unwrap_or_default(), name))
    };
    match rest {
        [_] => {
            let namespace = namespace.map(str::to_owned);
            collection(Scope { kind, namespace, form }, method, query)
        }
        [_, name] => one(Target { object: object(name)?, status: false, form }, method, query),
        [_, name, "status"] if kind.info().has_status => {
            one(Target { object: object(name)?, status: true, form }, method, query)
        }
        [_, name, "scale"] if kind.info().has_scale() => match *method {
            Method::GET => Ok(Call::GetScale(object(name)?)),
            Method::PUT => Ok(Call::ReplaceScale(object(name)?, query.write()?)),
            Method::PATCH => Ok(Call::PatchScale(object(name)?, query.write()?)),
            _ => Err(NoCall::MethodNotAllowed),
        },
        [_, name, "order"] if kind == Kind::Orphan => match *method {
            Method::POST => Ok(Call::Order(object(name)?, query.write()?)),
            _ => Err(NoCall::MethodNotAllowed),
        },
        [_, name, stream] if kind.info().streams().contains(stream) => {
            Ok(Call::Open(object(name)?, streams::read(stream, method, query)?))
        }
        [_, _, "ephemeralcontainers" | "resize" | "eviction" | "binding"] if kind == Kind::Pod => {
            Err(NoCall::NotAllowed(
                "a pod is one machine with one program: it gets no containers beside that; `kubectl exec` runs commands in it",
            ))
        }
        _ => Err(NoCall::NotFound),
    }
}

/// Names need no escapes; refusing them keeps `%2F` out of the store's keys.
fn is_plain(part: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b':');
    !part.is_empty() && part.bytes().all(plain)
}

fn collection(scope: Scope, method: &Method, query: &Query) -> Result<Call, NoCall> {
    match *method {
        Method::GET if query.flag("watch") => Ok(Call::Watch(scope.clone(), query.watch(&scope)?)),
        Method::GET => Ok(Call::List(scope.clone(), query.list(&scope)?)),
        Method::POST if scope.namespace.is_none() && scope.kind.info().namespaced => {
            Err(NoCall::MethodNotAllowed)
        }
        Method::POST => Ok(Call::Create(scope, query.write()?)),
        Method::DELETE => {
            let list = query.list(&scope)?;
            Ok(Call::DeleteCollection(scope, list, query.write()?))
        }
        _ => Err(NoCall::MethodNotAllowed),
    }
}

fn one(target: Target, method: &Method, query: &Query) -> Result<Call, NoCall> {
    match *method {
        Method::GET => Ok(Call::Get(target)),
        Method::PUT => Ok(Call::Replace(target, query.write()?)),
        Method::PATCH => Ok(Call::Patch(target, query.write()?)),
        Method::DELETE if !target.status => Ok(Call::Delete(target.object, query.write()?)),
        _ => Err(NoCall::MethodNotAllowed),
    }
}

#[cfg(test)]
mod tests;
