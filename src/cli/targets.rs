//! Which objects are meant: `env`, `env alice bob`, `env/alice bay/x`, `env,bays`, `all`. It must never change anything.

use serde_json::Value;

use crate::{
    api::{column::at_path, kind::Kind, meta::ObjectRef},
    cli::Failure,
    client::{Client, Error, Query},
};

/// Kubectl's words.
pub(super) const NAME_AND_SELECTOR: &str = "name cannot be provided when a selector is specified";

/// All objects of a kind, or one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// All of them.
    All(Kind),
    /// One.
    One(ObjectRef),
}

impl Target {
    /// Whether it is in a namespace.
    pub(super) fn is_namespaced(&self) -> bool {
        let (Self::All(kind) | Self::One(ObjectRef { kind, .. })) = self;
        kind.info().namespaced
    }
}

/// `environment.hangar.dev/alice`: how an object is named, as kubectl names it.
pub(super) fn label(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.info().qualified_singular(), object.name)
}

/// `environments/alice`: how kubectl names an object that is waited for in vain.
pub(super) fn resource(object: &ObjectRef) -> String {
    format!("{}/{}", object.kind.info().plural, object.name)
}

/// Reads `KIND[,KIND] [NAME…]` or `KIND/NAME …`.
pub(super) fn parse(words: &[String], namespace: &str) -> Result<Vec<Target>, Failure> {
    let Some((first, names)) = words.split_first() else {
        return Err(Failure::usage("no kind is given", known_kinds()));
    };
    if first.contains('/') {
        return words.iter().map(|word| one(word, namespace).map(Target::One)).collect();
    }
    let mut kinds = Vec::new();
    for word in first.split(',') {
        kinds.extend(kinds_of(word)?);
    }
    if names.is_empty() {
        return Ok(kinds.into_iter().map(Target::All).collect());
    }
    if let Some(odd) = names.iter().find(|it| it.contains('/')) {
        let message = format!("`{odd}` has a kind of its own");
        return Err(Failure::usage(message, "write KIND NAME… or KIND/NAME…, not both"));
    }
    let of_kind = |kind: Kind| names.iter().map(move |name| ObjectRef::new(kind, namespace, name));
    Ok(kinds.into_iter().flat_map(of_kind).map(Target::One).collect())
}

/// Reads what must be single objects: `KIND NAME…` or `KIND/NAME …`.
pub(super) fn parse_named(words: &[String], namespace: &str) -> Result<Vec<ObjectRef>, Failure> {
    let only_named = |target| match target {
        Target::One(object) => Ok(object),
        Target::All(kind) => {
            let singular = kind.info().singular;
            Err(Failure::usage(
                "no name is given",
                format!("write {singular} NAME or {singular}/NAME"),
            ))
        }
    };
    parse(words, namespace)?.into_iter().map(only_named).collect()
}

/// Reads `KIND/NAME`.
pub(super) fn one(word: &str, namespace: &str) -> Result<ObjectRef, Failure> {
    match word.split_once('/') {
        Some((kind, name)) if !name.is_empty() && !name.contains('/') => {
            Ok(ObjectRef::new(kind_of(kind)?, namespace, name))
        }
        Some(_) | None => Err(Failure::usage(
            format!("`{word}` names no object"),
            "write KIND/NAME, such as env/alice",
        )),
    }
}

/// The kind that a word means.
pub(super) fn kind_of(word: &str) -> Result<Kind, Failure> {
    // The registry is the server's too, so that what it has not is not asked for.
    Kind::from_word(word).ok_or_else(|| {
        let message = format!("the server doesn't have a resource type \"{word}\"");
        Failure::hinted(message, known_kinds())
    })
}

fn kinds_of(word: &str) -> Result<Vec<Kind>, Failure> {
    let in_category =
        |kind: &Kind| kind.info().categories.iter().any(|it| it.eq_ignore_ascii_case(word));
    let mut category: Vec<_> = Kind::ALL.into_iter().filter(in_category).collect();
    // kubectl has them in the order in which discovery has the groups.
    category.sort_by_key(|kind| !kind.info().group.is_empty());
    if category.is_empty() { Ok(vec![kind_of(word)?]) } else { Ok(category) }
}

/// The objects of a kind that a query selects, by name.
pub(super) async fn selected(
    client: &Client,
    kind: Kind,
    namespace: &str,
    query: &Query,
) -> Result<Vec<ObjectRef>, Error> {
    let list = client.list::<Value>(kind, Some(namespace), query).await?;
    let name = |object: &Value| at_path(object, "metadata.name")?.as_str().map(str::to_owned);
    let names = list.items.iter().filter_map(name);
    Ok(names.map(|name| ObjectRef::new(kind, namespace, &name)).collect())
}

/// What is said where there is nothing.
pub(super) fn nothing(of: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("No {of} found in {namespace} namespace."),
        None => format!("No {of} found"),
    }
}

fn known_kinds() -> String {
    let names = Kind::ALL.map(|kind| {
        let info = kind.info();
        match info.short_names.first() {
            Some(short) => format!("{} ({short})", info.plural),
            None => info.plural.to_owned(),
        }
    });
    format!("the kinds are {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Result<&[&str], &str>) {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let found = parse(&words, "default").map_err(|it| it.to_string()).map(|targets| {
            let text = |target: &Target| match target {
                Target::All(kind) => kind.info().plural.to_owned(),
                Target::One(object) => label(object),
            };
            targets.iter().map(text).collect::<Vec<_>>()
        });
        let expected = expected
            .map(|it| it.iter().map(|it| (*it).to_owned()).collect())
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn objects_are_named_as_in_kubectl() {
        check("env", Ok(&["environments"]));
        check("Environments.hangar.dev", Ok(&["environments"]));
        check("env,ns", Ok(&["environments", "namespaces"]));
        check(
            "hangar",
            Ok(&[
                "templates",
                "templaterevisions",
                "warmpools",
                "environments",
                "bays",
                "hostnames",
                "orphans",
                "holds",
            ]),
        );
        check("all", Ok(&["pods", "templates", "warmpools", "environments", "bays"]));
        check("env alice bob", Ok(&["environment.hangar.dev/alice", "environment.hangar.dev/bob"]));
        check("env/alice ns/a", Ok(&["environment.hangar.dev/alice", "namespace/a"]));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        check("", Err("no kind is given"));
        check("nodes", Err("the server doesn't have a resource type \"nodes\""));
        check("env,", Err("the server doesn't have a resource type \"\""));
        check("env ns/a", Err("`ns/a` has a kind of its own"));
        check("env/ ", Err("`env/` names no object"));
        check("env/a b", Err("`b` names no object"));
    }
}
