//! AccessToken: who may call the API, and what for. Types, and whether a scope covers a request; the text of a token is
//! never in an object, only its hash. It must never know who asks.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{kind::Kind, meta::resource, offer};

/// Everything of a sort.
pub const ANY: &str = "*";
/// The name in the text of the server's own token, which is no object.
pub const OWN: &str = "admin";
/// Paths beside the resources that a scope can name, each with its verb.
pub const PATHS: &[(&str, &str)] =
    &[("get", "/logs"), ("get", "/metrics"), ("post", "/backups"), ("post", "/router/activity")];
/// What tokens begin with, so that one that lies around is known for what it is.
const MARK: &str = "hangar_";

resource! {
    /// Whom the API lets in beside the server's own token, and for what. `hangar token create` makes one and prints its text,
    /// of which only the hash is kept. Only the server's own token may read or write these.
    AccessToken {
        /// What it lets do, and how long.
        spec: AccessTokenSpec,
    }
}

/// What a token lets do, and how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessTokenSpec {
    /// BLAKE3 of the token's text, 64 hexadecimal digits. The text is `hangar_<name of this object>_<secret>`.
    pub hash: String,
    /// Namespaces in which it holds; `*` is all of them, what is in none, and lists over all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Verbs as Kubernetes has them (`get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`); `*` is
    /// all of them. `exec`, `attach` and `portforward` are `create` of `pods/exec` and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Resources by their plural, with the group where two have the same (`events.events.k8s.io`), with a subresource where one is
    /// meant (`pods/exec`, `pods/*`, `*/status`); `*` is all of them with their subresources, Secrets too. What begins with `/` is a path
    /// beside the resources, such as `/logs` or `/metrics`, and needs the namespace `*` and the verb `get` or `post`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Until when; for good where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub expires_at: Option<Timestamp>,
}

/// A request for a resource, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// `get`, `list`, …
    pub verb: &'a str,
    /// Group; empty for the core.
    pub group: &'a str,
    /// `environments`.
    pub resource: &'a str,
    /// `status`, or nothing.
    pub part: &'a str,
    /// Namespace; `None` for all of them, and for what is in none.
    pub namespace: Option<&'a str>,
}

impl AccessTokenSpec {
    /// Whether a request for a resource is one of those that it lets through. Tokens themselves never are, and a status of
    /// hangar's own kinds is written with a token for all namespaces only: a router sends requests where it says.
    #[must_use]
    pub fn covers(&self, asked: &Attributes<'_>) -> bool {
        let info = Kind::AccessToken.info();
        if asked.resource == info.plural || asked.resource == ANY {
            return false;
        }
        let is_status = asked.part == "status" && asked.group == info.group;
        if is_status && asked.verb != "get" && !self.covers_namespace(None) {
            return false;
        }
        has(&self.verbs, asked.verb)
            && self.covers_namespace(asked.namespace)
            && self.resources.iter().any(|it| is_of(it, asked))
    }

    /// Whether a path beside the resources is one of those that it lets through.
    #[must_use]
    pub fn covers_path(&self, verb: &str, path: &str) -> bool {
        let is_it = |it: &String| it.starts_with('/') && it == path;
        has(&self.verbs, verb) && self.covers_namespace(None) && self.resources.iter().any(is_it)
    }

    fn covers_namespace(&self, namespace: Option<&str>) -> bool {
        self.namespaces.iter().any(|it| it == ANY || namespace == Some(it))
    }

    /// Whether it still holds at this time.
    #[must_use]
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

fn has(words: &[String], word: &str) -> bool {
    words.iter().any(|it| it == ANY || it == word)
}

/// Whether a word of `resources` means what is asked for.
fn is_of(word: &str, asked: &Attributes<'_>) -> bool {
    if word.starts_with('/') {
        return false;
    }
    let (name, part) = word.split_once('/').unwrap_or((word, ""));
    let (name, group) = match name.split_once('.') {
        Some((name, group)) => (name, Some(group)),
        None => (name, None),
    };
    let is_group = group.is_none_or(|it| it == asked.group);
    let is_part = match part {
        "" => asked.part.is_empty() || word == ANY,
        ANY => true,
        part => part == asked.part,
    };
    is_group && (name == ANY || name == asked.resource) && is_part
}

/// Whether a word of `resources` means anything that is offered.
#[must_use]
pub fn is_known(word: &str) -> bool {
    PATHS.iter().any(|(_, path)| *path == word)
        || word == ANY
        || offer::all().iter().any(|offer| {
            let parts = offer.parts.iter().map(|it| it.name);
            std::iter::once("").chain(parts).any(|part| {
                let (group, resource) = (offer.group, offer.plural);
                is_of(word, &Attributes { verb: ANY, group, resource, part, namespace: None })
            })
        })
}

/// What a word of `resources` should have been, where it is another name of a kind.
#[must_use]
pub fn meant(word: &str) -> Option<&'static str> {
    let same = |name: &&str| name.eq_ignore_ascii_case(word);
    let named = |it: &&Kind| {
        let info = it.info();
        same(&info.singular) || info.short_names.iter().any(same)
    };
    Kind::ALL.iter().find(named).map(|it| it.info().plural)
}

/// The text of a token.
#[must_use]
pub fn text(name: &str, secret: &[u8; 32]) -> String {
    let secret: Vec<_> = secret.iter().map(|it| format!("{it:02x}")).collect();
    format!("{MARK}{name}_{}", secret.concat())
}

/// Whose token a text would be: names have no `_`.
#[must_use]
pub fn name_in(text: &str) -> Option<&str> {
    let (name, secret) = text.strip_prefix(MARK)?.rsplit_once('_')?;
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (secret.len() == 64 && !name.is_empty() && name.bytes().all(is_plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(namespaces: &[&str], verbs: &[&str], resources: &[&str]) -> AccessTokenSpec {
        let words = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
        AccessTokenSpec {
            namespaces: words(namespaces),
            verbs: words(verbs),
            resources: words(resources),
            ..AccessTokenSpec::default()
        }
    }

    #[test]
    fn a_scope_covers_what_its_words_say_and_nothing_else() {
        let reader = spec(&["team-a"], &["get", "list"], &["environments", "pods/log"]);
        let any = spec(&["*"], &["*"], &["*"]);
        let parts = spec(&["*"], &["create"], &["pods/*", "*/status", "events.events.k8s.io"]);
        let check = |spec: &AccessTokenSpec, verb, what: &str, namespace, expected| {
            let (resource, part) = what.split_once('/').unwrap_or((what, ""));
            let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
            let asked = Attributes { verb, group, resource, part, namespace };
            assert_eq!(spec.covers(&asked), expected, "{asked:?}");
        };
        check(&reader, "get", "environments.hangar.dev", Some("team-a"), true);
        check(&reader, "get", "environments.hangar.dev", Some("team-b"), false);
        check(&reader, "list", "environments.hangar.dev", None, false);
        check(&reader, "watch", "environments.hangar.dev", Some("team-a"), false);
        check(&reader, "get", "environments.hangar.dev/status", Some("team-a"), false);
        check(&reader, "get", "pods/log", Some("team-a"), true);
        check(&reader, "get", "pods", Some("team-a"), false);
        check(&any, "deletecollection", "secrets", None, true);
        check(&any, "create", "pods/exec", Some("x"), true);
        check(&any, "get", "accesstokens", None, false);
        let one = spec(&["x"], &["*"], &["*"]);
        check(&one, "patch", "environments.hangar.dev/status", Some("x"), false);
        check(&one, "get", "environments.hangar.dev/status", Some("x"), true);
        check(&any, "patch", "environments.hangar.dev/status", Some("x"), true);
        check(&any, "*", "*", None, false);
        check(&parts, "create", "pods/exec", Some("x"), true);
        check(&parts, "create", "pods", Some("x"), true);
        check(&parts, "create", "environments.hangar.dev/status", None, true);
        check(&parts, "create", "environments", None, false);
        check(&parts, "create", "events.events.k8s.io", None, true);
        check(&parts, "create", "events", None, false);
        assert!(!any.covers_path("get", "/logs"));
        assert!(spec(&["*"], &["get"], &["/logs"]).covers_path("get", "/logs"));
        assert!(!spec(&["a"], &["get"], &["/logs"]).covers_path("get", "/logs"));
    }

    #[test]
    fn a_text_says_whose_token_it_is() {
        let token = text("ci-1", &[0xab; 32]);
        assert_eq!(name_in(&token), Some("ci-1"));
        for wrong in ["", "hangar_ci", "hangar_a/b_", &token.replace("ci-1", "a/b"), &token[1..]] {
            assert_eq!(name_in(wrong), None, "{wrong}");
        }
    }
}
