//! Image references, taken apart as Fly shows them. It must never fetch anything.

use crate::fly::wire::ImageRef;

/// `registry.fly.io/app:tag@sha256:…` and its shorter forms.
pub(super) fn parse(reference: &str, digest: &str) -> ImageRef {
    let (rest, pinned) = reference.split_once('@').unwrap_or((reference, ""));
    let slash = rest.rfind('/').map_or(0, |at| at + 1);
    let (path, tag) = match rest.get(slash..).and_then(|last| last.find(':')) {
        Some(colon) => rest.split_at(slash + colon),
        None => (rest, ""),
    };
    let (registry, repository) = match path.split_once('/') {
        Some((host, repository))
            if host.contains('.') || host.contains(':') || host == "localhost" =>
        {
            (host, repository.to_owned())
        }
        Some(_) => ("docker-hub-mirror.fly.io", path.to_owned()),
        None => ("docker-hub-mirror.fly.io", format!("library/{path}")),
    };
    let tag = tag.trim_start_matches(':');
    ImageRef {
        registry: registry.to_owned(),
        repository,
        tag: if tag.is_empty() && pinned.is_empty() { "latest" } else { tag }.to_owned(),
        digest: if pinned.is_empty() { digest } else { pinned }.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_apart_as_fly_shows_them() {
        let shown = |reference| {
            let it = parse(reference, "sha256:d");
            format!("{} {} {} {}", it.registry, it.repository, it.tag, it.digest)
        };
        assert_eq!(shown("alpine"), "docker-hub-mirror.fly.io library/alpine latest sha256:d");
        assert_eq!(shown("org/x:1"), "docker-hub-mirror.fly.io org/x 1 sha256:d");
        assert_eq!(shown("registry.fly.io/a@sha256:e"), "registry.fly.io a  sha256:e");
        assert_eq!(shown("localhost:5000/a/b:2"), "localhost:5000 a/b 2 sha256:d");
    }
}
