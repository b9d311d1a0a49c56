//! What names may look like: objects, labels, hostnames, regions, variables. Pure checks; it must never look anything up.

/// Regions of Fly as of August 2026, with `local` for a computer of one's own.
pub const REGIONS: &[&str] = &[
    "ams", "arn", "bom", "cdg", "dfw", "ewr", "fra", "gru", "iad", "jnb", "lax", "lhr", "nrt",
    "ord", "sin", "sjc", "syd", "yyz",
];

/// Hostnames that no environment may have: they look like the platform's own.
const RESERVED_HOSTNAMES: &[&str] = &[
    "www", "api", "admin", "app", "auth", "login", "mail", "ns", "router", "hangar", "static",
    "status",
];

/// A DNS label of at most 63 characters, as Kubernetes wants names of our kinds.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn object(name: &str) -> Result<(), String> {
    let fine = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fine {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a name: use lower-case letters, digits and dashes, at most 63, starting and ending with a letter or digit"
    ))
}

/// A label under the router's domain: at most 40 characters, so that a prefix can join it later, and never one that
/// decodes to something else (`xn--`).
///
/// # Errors
/// A sentence that says what is wrong.
pub fn hostname(label: &str) -> Result<(), String> {
    object(label).map_err(|_| {
        format!("`{label}` is not a hostname: use lower-case letters, digits and dashes, one label, no dots")
    })?;
    if label.len() > 40 {
        return Err(format!("`{label}` has {} characters; a hostname has at most 40", label.len()));
    }
    if label.get(2..4) == Some("--") {
        return Err(format!(
            "`{label}` has dashes in the third and fourth place, which names in other scripts use"
        ));
    }
    if RESERVED_HOSTNAMES.contains(&label) {
        return Err(format!("`{label}` is reserved for the platform"));
    }
    Ok(())
}

/// A region code that Fly has.
///
/// # Errors
/// A sentence with the codes there are.
pub fn region(code: &str) -> Result<(), String> {
    if REGIONS.contains(&code) {
        return Ok(());
    }
    Err(format!("`{code}` is not a region: supported values are {}", REGIONS.join(", ")))
}

/// An image reference: `[registry/]path[:tag][@sha256:digest]`, lower case, no spaces.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn image(reference: &str) -> Result<(), String> {
    let wrong = || {
        Err(format!(
            "`{reference}` is not an image: write registry/path:tag or, better, registry/path@sha256:…"
        ))
    };
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if let Some(digest) = digest {
        let hex = digest.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() != 64 || !hex.bytes().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase())
        {
            return wrong();
        }
    }
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        Some(_) | None => (rest, None),
    };
    let tag_is_fine = tag.is_none_or(|tag| {
        !tag.is_empty()
            && tag.len() <= 128
            && tag.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
    });
    let path_is_fine = path.len() <= 255
        && path.split('/').enumerate().all(|(index, part)| {
            let host = index == 0;
            !part.is_empty()
                && part.bytes().all(|c| {
                    c.is_ascii_lowercase()
                        || c.is_ascii_digit()
                        || matches!(c, b'.' | b'_' | b'-')
                        || (host && c == b':')
                })
        });
    if tag_is_fine && path_is_fine { Ok(()) } else { wrong() }
}

/// Whether the reference names content (a digest) rather than a tag that can be moved.
#[must_use]
pub fn image_is_pinned(reference: &str) -> bool {
    reference.contains("@sha256:")
}

/// The name of an environment variable or an app secret.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn variable(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_');
    if !first || !bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_') || name.len() > 255 {
        return Err(format!(
            "`{name}` is not a variable's name: use letters, digits and underscores, not starting with a digit"
        ));
    }
    if name.starts_with("FLY_") || name.starts_with("HANGAR_") || name == "PORT" {
        return Err(format!("`{name}` is set by the platform and cannot be given"));
    }
    Ok(())
}

/// A label's or annotation's key: `[prefix/]name`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn label_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("x", key));
    let prefix_is_fine = !prefix.is_empty()
        && prefix.len() <= 253
        && prefix.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-'));
    if prefix_is_fine && !name.is_empty() && label_value(name).is_ok() {
        return Ok(());
    }
    Err(format!("`{key}` is not a label's key"))
}

/// A label's value: at most 63 characters, letters, digits, `-`, `_`, `.`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn label_value(value: &str) -> Result<(), String> {
    let ends = |c: Option<u8>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    let bytes = value.as_bytes();
    let fine = value.len() <= 63
        && value.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
        && ends(bytes.first().copied())
        && ends(bytes.last().copied());
    if fine { Ok(()) } else { Err(format!("`{value}` is not a label's value")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostnames_follow_the_routers_grammar() {
        for good in ["alice", "a", "a-1", "x2", &"a".repeat(40)] {
            assert_eq!(hostname(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "Alice",
            "a.b",
            "xn--bcher",
            "ab--c",
            "www",
            "ünal",
            "a_b",
            &"a".repeat(41),
        ] {
            assert!(hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn images_are_references_and_nothing_else() {
        let digest = format!("registry.fly.io/devbox@sha256:{}", "0".repeat(64));
        for good in ["nginx", "registry.fly.io/devbox:1", "localhost:5000/a/b:tag", digest.as_str()]
        {
            assert_eq!(image(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "UPPER/x", "a:", "a@sha256:1", "a//b", "http://x/y", "a:b:c d"] {
            assert!(image(bad).is_err(), "{bad}");
        }
        assert!(image_is_pinned(&digest) && !image_is_pinned("nginx:1"));
    }
}
