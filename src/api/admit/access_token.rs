//! Rules of tokens. It must never see a token's text.

use crate::api::{
    access_token::{ANY, AccessToken, OWN, is_known, meant},
    admit::{Findings, ViolationReason},
    name,
};

const VERBS: &[&str] = &[
    ANY,
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "post",
];

pub(super) fn check(token: &AccessToken, _: Option<&AccessToken>, findings: &mut Findings) {
    let spec = &token.spec;
    if token.metadata.name == OWN {
        findings.invalid("metadata.name", "that is the server's own token".to_owned());
    }
    let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if spec.hash.len() != 64 || !spec.hash.bytes().all(is_digit) {
        let message = "it must be the BLAKE3 hash of the token's text, in 64 lower-case hexadecimal digits; `hangar token create` makes one";
        findings.invalid("spec.hash", message);
    }
    for (field, words) in [
        ("spec.namespaces", &spec.namespaces),
        ("spec.verbs", &spec.verbs),
        ("spec.resources", &spec.resources),
    ] {
        if words.is_empty() {
            findings.add(field, ViolationReason::Required, "at least one must be given");
        }
    }
    for (index, namespace) in spec.namespaces.iter().enumerate().filter(|(_, it)| *it != ANY) {
        findings.say(&format!("spec.namespaces[{index}]"), name::object(namespace));
    }
    for (index, verb) in spec.verbs.iter().enumerate() {
        if !VERBS.contains(&verb.as_str()) {
            let message = format!("`{verb}` is not a verb: those are {}", VERBS.join(", "));
            let field = format!("spec.verbs[{index}]");
            findings.add(&field, ViolationReason::NotSupported, message);
        }
    }
    for (index, word) in spec.resources.iter().enumerate() {
        let field = format!("spec.resources[{index}]");
        if !is_known(word) {
            let hint = match meant(word) {
                Some(plural) => format!("write `{plural}`"),
                None => "docs/api.md and `kubectl api-resources` list them".to_owned(),
            };
            let message = format!("`{word}` is no resource here: {hint}");
            findings.add(&field, ViolationReason::NotSupported, message);
        } else if word.starts_with('/') && !spec.namespaces.iter().any(|it| it == ANY) {
            let message = format!("`{word}` is in no namespace: it needs the namespace `*`");
            findings.invalid(&field, message);
        }
    }
}
