//! The images that exist without a registry: the sample app, programs of the host, and images that fail on purpose. It
//! must never look for anything outside this file.

use std::{collections::BTreeMap, path::Path, time::Duration};

use crate::local::driver::{Error, Image};

/// A reference taken apart: `hangar.dev/host:tag` or `hangar.dev/host@sha256:…`.
struct Reference<'a> {
    repository: &'a str,
    tag: &'a str,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let hex = digest.map(|digest| digest.strip_prefix("sha256:").unwrap_or_default());
        if hex.is_some_and(|hex| hex.len() != 64 || !hex.bytes().all(|it| it.is_ascii_hexdigit())) {
            return None;
        }
        let (repository, tag) = name.split_once(':').unwrap_or((name, "latest"));
        (!tag.is_empty()).then_some(Self { repository, tag, digest })
    }

    /// There is no content to take a digest of, so it is one of the name and the tag, and blake3 though it says sha256;
    /// it looks right, and differs where the reference does. A digest that was given is believed.
    fn digest(&self) -> String {
        self.digest.map_or_else(
            || {
                let name = format!("{}:{}", self.repository, self.tag);
                format!("sha256:{}", blake3::hash(name.as_bytes()).to_hex())
            },
            str::to_owned,
        )
    }
}

/// Looks a reference up. `hangar` is the binary that also is the sample app.
pub(super) fn find(reference: &str, hangar: &Path) -> Result<Image, Error> {
    let unknown = || Error::UnknownImage { image: reference.to_owned() };
    let parsed = Reference::parse(reference).ok_or_else(unknown)?;
    let sample = || vec![hangar.to_string_lossy().into_owned(), "sample-app".to_owned()];
    let shell = |script: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()];
    let (entrypoint, env, prepare) = match parsed.repository {
        "hangar.dev/sample-app" => (sample(), None, Duration::ZERO),
        "hangar.dev/host" => (Vec::new(), None, Duration::ZERO),
        "hangar.test/crash-loop" => {
            (shell("echo 'this image fails on purpose' >&2; exit 1"), None, Duration::ZERO)
        }
        "hangar.test/slow-boot" => (sample(), Some(("SLOW_BOOT_MS", "5000")), Duration::ZERO),
        "hangar.test/never-ready" => (sample(), Some(("NEVER_READY", "1")), Duration::ZERO),
        "hangar.test/slow-pull" => (sample(), None, Duration::from_secs(5)),
        // `hangar.test/unpullable` is meant to end here.
        _ => return Err(unknown()),
    };
    Ok(Image {
        digest: parsed.digest(),
        entrypoint,
        cmd: Vec::new(),
        env: env
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        prepare,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(reference: &str) -> Result<Image, Error> {
        find(reference, Path::new("/bin/hangar"))
    }

    #[test]
    fn a_tag_changes_the_digest_and_a_digest_is_believed() {
        let plain = image("hangar.dev/sample-app").unwrap();
        assert_eq!(plain.entrypoint, ["/bin/hangar", "sample-app"]);
        assert_eq!(plain.digest.len(), "sha256:".len() + 64);
        assert_eq!(plain, image("hangar.dev/sample-app:latest").unwrap());
        assert_ne!(plain.digest, image("hangar.dev/sample-app:v2").unwrap().digest);
        let given = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(image(&format!("hangar.dev/host@{given}")).unwrap().digest, given);
    }

    #[test]
    fn what_is_not_known_is_refused_in_a_registrys_words() {
        for reference in [
            "hangar.test/unpullable",
            "ubuntu",
            "hangar.dev/host@sha256:ab",
            "hangar.dev/host:",
            "",
        ] {
            let said = image(reference).unwrap_err().to_string();
            assert_eq!(
                said,
                format!("MANIFEST_UNKNOWN: {reference} is not an image that this driver knows")
            );
        }
    }
}
