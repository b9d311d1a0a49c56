//! Who may do what. The one place that says it: every call goes through it, and reviews ask here. It must never look at an object's
//! content.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::api::{
    access_token::{ANY, AccessTokenSpec, Attributes},
    kind::{Form, Kind},
    meta::ObjectRef,
    offer,
};
use crate::server::{
    call::{Call, Scope, Target},
    status::Status,
    streams::Open,
};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Caller {
    /// A program of this computer, where there is no token.
    Local,
    /// Whoever knows the server's own token.
    Token,
    /// Whoever has a token that somebody made.
    Scoped(Arc<Pass>),
}

/// A token that somebody made, as it was when the request came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pass {
    /// Its object's name, which is the user's too.
    pub(super) name: String,
    /// Its object's uid.
    pub(super) uid: String,
    /// What it lets do.
    pub(super) spec: AccessTokenSpec,
}

impl Caller {
    /// What it is called, in Kubernetes' words where it has some.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Local => "system:unsecured",
            Self::Token => "hangar:token",
            Self::Scoped(pass) => &pass.name,
        }
    }

    /// Those of which it is one.
    pub(super) fn groups(&self) -> &'static [&'static str] {
        match self {
            Self::Local | Self::Token => &["system:masters", "system:authenticated"],
            Self::Scoped(_) => &["system:authenticated"],
        }
    }
}

/// What a call asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// What there is, how it is going, and who one is: for everybody who is let in.
    LookAround,
    /// Something with a resource; the name is empty for many objects and for new ones.
    Resource {
        /// What.
        attributes: Attributes<'a>,
        /// Which object.
        name: &'a str,
    },
    /// A path beside the resources.
    Path {
        /// `get` or `post`.
        verb: &'static str,
        /// Which.
        path: &'static str,
    },
}

/// What a call asks for, as Kubernetes' RBAC counts it.
pub(super) fn asked(call: &Call) -> Asked<'_> {
    let one = |verb, object, part| of_object(verb, object, part, None);
    match call {
        Call::Discovery(_) | Call::OpenApi(_) | Call::Version => Asked::LookAround,
        Call::Live | Call::Ready | Call::Review(..) => Asked::LookAround,
        Call::Metrics => Asked::Path { verb: "get", path: "/metrics" },
        Call::Logs(_) => Asked::Path { verb: "get", path: "/logs" },
        Call::Activity => Asked::Path { verb: "post", path: "/router/activity" },
        Call::Backup => Asked::Path { verb: "post", path: "/backups" },
        Call::List(scope, _) => of_scope("list", scope),
        Call::Watch(scope, _) => of_scope("watch", scope),
        Call::Create(scope, _) => of_scope("create", scope),
        Call::DeleteCollection(scope, ..) => of_scope("deletecollection", scope),
        Call::Get(target) => of_target("get", target),
        Call::Replace(target, _) => of_target("update", target),
        Call::Patch(target, _) => of_target("patch", target),
        Call::Delete(object, _) => one("delete", object, ""),
        Call::GetScale(object) => one("get", object, "scale"),
        Call::ReplaceScale(object, _) => one("update", object, "scale"),
        Call::PatchScale(object, _) => one("patch", object, "scale"),
        Call::Order(object, _) => one("create", object, "order"),
        // A WebSocket is opened by GET and SPDY by POST; what is done is the same.
        Call::Open(pod, Open::Log(_)) => one("get", pod, "log"),
        Call::Open(pod, Open::Command(_)) => one("create", pod, "exec"),
        Call::Open(pod, Open::Attach(_)) => one("create", pod, "attach"),
        Call::Open(pod, Open::Ports(_)) => one("create", pod, "portforward"),
        Call::Usage(pods) => {
            let verb = if pods.name.is_some() { "get" } else { "list" };
            let namespace = pods.namespace.as_deref();
            let group = "metrics.k8s.io";
            let attributes = Attributes { verb, group, resource: "pods", part: "", namespace };
            Asked::Resource { attributes, name: pods.name.as_deref().unwrap_or_default() }
        }
    }
}

fn of_scope<'a>(verb: &'a str, scope: &'a Scope) -> Asked<'a> {
    let info = scope.kind.info();
    let group = scope.form.map_or(info.group, |it| it.group);
    let namespace = scope.namespace.as_deref();
    let attributes = Attributes { verb, group, resource: info.plural, part: "", namespace };
    Asked::Resource { attributes, name: "" }
}

fn of_target<'a>(verb: &'a str, target: &'a Target) -> Asked<'a> {
    of_object(verb, &target.object, if target.status { "status" } else { "" }, target.form)
}

fn of_object<'a>(
    verb: &'a str,
    object: &'a ObjectRef,
    part: &'a str,
    form: Option<&'static Form>,
) -> Asked<'a> {
    let info = object.kind.info();
    let group = form.map_or(info.group, |it| it.group);
    // A namespace is in itself: so who may do everything in it may read it.
    let namespace = if object.kind == Kind::Namespace { &object.name } else { &object.namespace };
    let namespace = Some(namespace.as_str()).filter(|it| !it.is_empty());
    let attributes = Attributes { verb, group, resource: info.plural, part, namespace };
    Asked::Resource { attributes, name: &object.name }
}

/// Refuses a call that its caller may not make.
pub(super) fn check(caller: &Caller, call: &Call) -> Result<(), Status> {
    let_do(caller, asked(call))
}

/// Refuses to make what is applied where it is not there yet, if its caller may only change what is.
pub(super) fn check_making(caller: &Caller, target: &Target) -> Result<(), Status> {
    let_do(caller, of_target("create", target))
}

fn let_do(caller: &Caller, wanted: Asked<'_>) -> Result<(), Status> {
    if is_let(caller, wanted) { Ok(()) } else { Err(refusal(caller, wanted)) }
}

fn is_let(caller: &Caller, wanted: Asked<'_>) -> bool {
    let Caller::Scoped(pass) = caller else { return true };
    match wanted {
        Asked::LookAround => true,
        Asked::Resource { attributes, .. } => pass.spec.covers(&attributes),
        Asked::Path { verb, path } => pass.spec.covers_path(verb, path),
    }
}

/// 403 in Kubernetes' words.
fn refusal(caller: &Caller, wanted: Asked<'_>) -> Status {
    let user = caller.name();
    let (attributes, name) = match wanted {
        Asked::Resource { attributes, name } => (attributes, name),
        Asked::Path { verb, path } => {
            return Status::forbidden(format!(
                "forbidden: User \"{user}\" cannot {verb} path \"{path}\""
            ));
        }
        Asked::LookAround => return Status::forbidden("forbidden"),
    };
    let Attributes { verb, group, resource, part, namespace } = attributes;
    let qualified =
        if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
    let which = if name.is_empty() { qualified } else { format!("{qualified} \"{name}\"") };
    let whole = if part.is_empty() { resource.to_owned() } else { format!("{resource}/{part}") };
    let place = match namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!(
        "{which} is forbidden: User \"{user}\" cannot {verb} resource \"{whole}\" in API group \"{group}\" {place}"
    );
    let mut details = json!({"group": group, "kind": resource});
    if !name.is_empty() {
        details["name"] = json!(name);
    }
    Status { details: Some(details), ..Status::forbidden(message) }
}

/// What a review asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing<'a> {
    /// A resource; `*` for group or name is any.
    Resource {
        /// Group; empty for the core.
        group: &'a str,
        /// `environments`.
        name: &'a str,
        /// `status`, or nothing.
        part: &'a str,
    },
    /// A path that is none.
    Path(&'a str),
}

/// Parts that are opened, which counts as `create`.
const BY_CREATE: &[&str] = &["attach", "exec", "portforward"];

/// Whether a caller may do this, or why not: whether the API can do it, and the caller is let.
pub(super) fn may(
    caller: &Caller,
    verb: &str,
    thing: Thing<'_>,
    namespace: Option<&str>,
) -> Result<(), String> {
    match thing {
        Thing::Path(path) => of_path(caller, verb, path),
        Thing::Resource { group, name, part } => {
            // A WebSocket is opened by GET, and is what POST opens.
            let verb = if BY_CREATE.contains(&part) && verb == "get" { "create" } else { verb };
            is_offered(verb, group, name, part)?;
            let namespace = namespace.filter(|_| is_within(verb, group, name));
            let attributes = Attributes { verb, group, resource: name, part, namespace };
            let is_review = offer::all()
                .iter()
                .any(|it| it.plural == name && matches!(it.behind, offer::Behind::Review(_)));
            let wanted = Asked::Resource { attributes, name: "" };
            if is_review { Ok(()) } else { let_do(caller, wanted).map_err(|it| it.message) }
        }
    }
}

/// Whether what is asked for is in a namespace; a namespace that is named is in itself.
fn is_within(verb: &str, group: &str, name: &str) -> bool {
    if name == Kind::Namespace.info().plural {
        return !matches!(verb, "list" | "watch" | "create" | "deletecollection");
    }
    name == ANY
        || offer::all()
            .iter()
            .any(|it| it.namespaced && it.plural == name && (group == ANY || it.group == group))
}

fn of_path(caller: &Caller, verb: &str, path: &str) -> Result<(), String> {
    let unknown = || "nothing here answers that".to_owned();
    if path == ANY {
        return match caller {
            Caller::Scoped(_) => Err(format!("\"{}\" may not", caller.name())),
            Caller::Local | Caller::Token => Ok(()),
        };
    }
    let method = Method::from_bytes(verb.to_ascii_uppercase().as_bytes()).map_err(|_| unknown())?;
    let call = Call::parse(&method, path, None).map_err(|_| unknown())?;
    let wanted = asked(&call);
    let_do(caller, wanted).map_err(|it| it.message)
}

fn is_offered(verb: &str, group: &str, name: &str, part: &str) -> Result<(), String> {
    let mut offers = offer::all()
        .iter()
        .filter(|it| (group == ANY || it.group == group) && (name == ANY || it.plural == name))
        .peekable();
    if offers.peek().is_none() {
        return Err("there is no such resource".to_owned());
    }
    let can = |verbs: &[&str]| match verb {
        ANY => name == ANY || verbs.contains(&"create") && verbs.contains(&"delete"),
        verb => verbs.contains(&verb),
    };
    let is_offered = offers.any(|offer| match part {
        "" => can(offer.verbs),
        ANY => can(offer.verbs) || offer.parts.iter().any(|it| can(it.verbs)),
        part => offer.parts.iter().any(|it| it.name == part && (verb == ANY || can(it.verbs))),
    });
    if is_offered {
        Ok(())
    } else {
        Err("nobody may: it is hangar's own; what is done with a part of it is asked by --subresource".to_owned())
    }
}

#[cfg(test)]
mod tests;
