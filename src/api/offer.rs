//! What the API offers, by group and version: the kept kinds, the generated ones, and the questions that are only answered.
//! Discovery, OpenAPI, the paths and what a caller may do come from it. It must never name a kind.

use std::sync::LazyLock;

use crate::api::{
    kind::{Form, Info, Kind},
    review::Review,
};

/// What is behind a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Objects of a kind, under other names where the group has others.
    Kind(Kind, Option<&'static Form>),
    /// A question and its answer.
    Review(Review),
    /// What pods use.
    Usage,
}

/// A resource of one group and version.
#[derive(Debug)]
pub struct Offer {
    /// What it is.
    pub behind: Behind,
    /// API group; empty for the core.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// `Environment`.
    pub kind_name: &'static str,
    /// `environments`.
    pub plural: &'static str,
    /// `environment`.
    pub singular: &'static str,
    /// `env`, `envs`.
    pub short_names: &'static [&'static str],
    /// Groups of kinds that `get` takes for a kind.
    pub categories: &'static [&'static str],
    /// Whether it lives in a namespace.
    pub namespaced: bool,
    /// What may be done with it.
    pub verbs: &'static [&'static str],
    /// What is read or written apart from the rest of an object.
    pub parts: Vec<Part>,
}

/// A subresource.
#[derive(Debug)]
pub struct Part {
    /// `status`.
    pub name: &'static str,
    /// Group of what is sent and answered.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its kind.
    pub kind_name: &'static str,
    /// What may be done with it.
    pub verbs: &'static [&'static str],
}

/// A group and its versions, the preferred one first.
#[derive(Debug)]
pub struct Group {
    /// Its name; empty for the core.
    pub name: &'static str,
    /// `v1`, …
    pub versions: Vec<&'static str>,
}

static OFFERS: LazyLock<Vec<Offer>> = LazyLock::new(|| {
    let kinds = Kind::ALL.into_iter().map(Kind::info).flat_map(|info| {
        let other = info.also.iter().map(move |form| of_kind(info, Some(form)));
        std::iter::once(of_kind(info, None)).chain(other)
    });
    let reviews = Review::ALL.into_iter().flat_map(|review| {
        let info = review.info();
        info.versions.iter().map(move |version| Offer {
            behind: Behind::Review(review),
            group: info.group,
            version,
            kind_name: info.kind_name,
            plural: info.plural,
            singular: info.singular,
            short_names: &[],
            categories: &[],
            namespaced: false,
            verbs: &["create"],
            parts: Vec::new(),
        })
    });
    let usage = Offer {
        behind: Behind::Usage,
        group: "metrics.k8s.io",
        version: "v1beta1",
        kind_name: "PodMetrics",
        plural: "pods",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: &["get", "list"],
        parts: Vec::new(),
    };
    kinds.chain(reviews).chain([usage]).collect()
});

/// Everything that is offered.
#[must_use]
pub fn all() -> &'static [Offer] {
    &OFFERS
}

/// What one version of a group offers.
pub fn of(group: &str, version: &str) -> impl Iterator<Item = &'static Offer> {
    all().iter().filter(move |it| it.group == group && it.version == version)
}

/// The resource that a path names.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Offer> {
    of(group, version).find(|it| it.plural == plural)
}

/// The groups, the core first.
#[must_use]
pub fn groups() -> Vec<Group> {
    let mut groups = vec![Group { name: "", versions: Vec::new() }];
    for offer in all() {
        let place = groups.iter().position(|it| it.name == offer.group).unwrap_or(groups.len());
        if place == groups.len() {
            groups.push(Group { name: offer.group, versions: Vec::new() });
        }
        if !groups[place].versions.contains(&offer.version) {
            groups[place].versions.push(offer.version);
        }
    }
    groups
}

/// `hangar.dev/v1alpha1`, or `v1`.
#[must_use]
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl Offer {
    /// `hangar.dev/v1alpha1`, or `v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        api_version(self.group, self.version)
    }

    /// `environments.hangar.dev`.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

fn of_kind(info: &'static Info, form: Option<&'static Form>) -> Offer {
    let (group, version) = form.map_or((info.group, info.version), |it| (it.group, it.version));
    let mut parts = Vec::new();
    if info.has_status {
        parts.push(Part {
            name: "status",
            group,
            version,
            kind_name: info.kind_name,
            verbs: if info.writable { &["get", "patch", "update"] } else { &["get"] },
        });
    }
    if info.has_scale() {
        parts.push(Part {
            name: "scale",
            group: "autoscaling",
            version: "v1",
            kind_name: "Scale",
            verbs: &["get", "patch", "update"],
        });
    }
    parts.extend(info.streams().iter().map(|name| Part {
        name,
        group,
        version,
        kind_name: info.kind_name,
        verbs: if *name == "log" { &["get"] } else { &["create", "get"] },
    }));
    Offer {
        behind: Behind::Kind(info.kind, form),
        group,
        version,
        kind_name: info.kind_name,
        plural: info.plural,
        singular: info.singular,
        short_names: info.short_names,
        categories: info.categories,
        namespaced: info.namespaced,
        verbs: verbs(info),
        parts,
    }
}

fn verbs(info: &Info) -> &'static [&'static str] {
    if info.writable {
        &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
    } else if info.deletable {
        &["delete", "deletecollection", "get", "list", "watch"]
    } else {
        &["get", "list", "watch"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_resource() {
        for offer in all() {
            let same = of(offer.group, offer.version).filter(|it| it.plural == offer.plural);
            assert_eq!(same.count(), 1, "{}", offer.qualified());
        }
        assert_eq!(groups()[0].versions, ["v1"]);
    }
}
