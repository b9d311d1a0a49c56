//! Who may do what. The one place that says it: reviews ask here. It must never look at an object.

use http::Method;

use crate::api::offer;
use crate::server::call::Call;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A program of this computer, where there is no token.
    Local,
    /// Whoever knows the token.
    Token,
}

impl Caller {
    /// Whoever was let in.
    pub(super) fn of(has_token: bool) -> Self {
        if has_token { Self::Token } else { Self::Local }
    }

    /// What it is called, in Kubernetes' words where it has some.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Local => "system:unsecured",
            Self::Token => "hangar:token",
        }
    }

    /// Those of which it is one.
    pub(super) fn groups(self) -> &'static [&'static str] {
        &["system:masters", "system:authenticated"]
    }
}

/// What something is done to.
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

/// Whether a caller may do this, or why not. Everybody who is let in may do, in every namespace, what the API can do.
pub(super) fn may(
    caller: &Caller,
    verb: &str,
    thing: Thing<'_>,
    _namespace: Option<&str>,
) -> Result<(), String> {
    match caller {
        Caller::Local | Caller::Token => {}
    }
    match thing {
        Thing::Path(path) => {
            let method = Method::from_bytes(verb.to_ascii_uppercase().as_bytes());
            let is_call = method.is_ok_and(|method| Call::parse(&method, path, None).is_ok());
            if is_call || path == "*" {
                Ok(())
            } else {
                Err("nothing here answers that".to_owned())
            }
        }
        Thing::Resource { group, name, part } => resource(verb, group, name, part),
    }
}

fn resource(verb: &str, group: &str, name: &str, part: &str) -> Result<(), String> {
    let mut offers = offer::all()
        .iter()
        .filter(|it| (group == "*" || it.group == group) && (name == "*" || it.plural == name))
        .peekable();
    if offers.peek().is_none() {
        return Err("there is no such resource".to_owned());
    }
    let can = |verbs: &[&str]| match verb {
        "*" => name == "*" || verbs.contains(&"create") && verbs.contains(&"delete"),
        verb => verbs.contains(&verb),
    };
    let is_offered = offers.any(|offer| match part {
        "" => can(offer.verbs),
        "*" => can(offer.verbs) || offer.parts.iter().any(|it| can(it.verbs)),
        part => offer.parts.iter().any(|it| it.name == part && (verb == "*" || can(it.verbs))),
    });
    if is_offered { Ok(()) } else { Err("nobody may: it is hangar's own".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_can_do_may_be_done() {
        let check = |verb: &str, what: &str, expected: bool| {
            let (name, group) = what.split_once('.').unwrap_or((what, ""));
            let (name, part) = name.split_once('/').unwrap_or((name, ""));
            let thing = Thing::Resource { group, name, part };
            let allowed = may(&Caller::Local, verb, thing, Some("team-a")).is_ok();
            assert_eq!(allowed, expected, "{verb} {what}");
        };
        check("create", "environments.hangar.dev", true);
        check("patch", "environments/status.hangar.dev", true);
        check("update", "warmpools/scale.hangar.dev", true);
        check("create", "bays.hangar.dev", false);
        check("watch", "bays.hangar.dev", true);
        check("*", "bays.hangar.dev", false);
        check("*", "environments.hangar.dev", true);
        check("*", "*.*", true);
        check("get", "secrets", true);
        check("get", "secrets.hangar.dev", false);
        check("get", "nodes", false);
        check("approve", "environments.hangar.dev", false);
    }

    #[test]
    fn a_path_is_for_whom_it_answers() {
        let check = |verb, path| may(&Caller::Token, verb, Thing::Path(path), None).is_ok();
        assert!(
            check("get", "/version") && check("get", "/openapi/v3") && check("post", "/backups")
        );
        assert!(!check("post", "/version") && !check("get", "/nothing"));
    }
}
