//! The registry: each kind says once what it is called, where it lives, what may be done to it and which columns show it.
//! Discovery, tables, selectors and the command line all read it. It must never hold rules about fields' values.

mod kubernetes;

use self::kubernetes::{
    CONFIG_MAP, CUSTOM_RESOURCE_DEFINITION, EVENT, LEASE, NAMESPACE, POD, RESOURCE_QUOTA, SECRET,
};
use crate::api::{
    GROUP, VERSION,
    column::{AGE, Cell, Column, at_path, column, dollars, wide},
};

/// Every kind that is shown, kept or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What environments are made from.
    Template,
    /// A template as it was.
    TemplateRevision,
    /// What a user gets.
    Environment,
    /// A stock of ready bays.
    WarmPool,
    /// One provisioned place on Fly.
    Bay,
    /// A label under the router's domain.
    Hostname,
    /// Something that Fly or the store has and the other does not.
    Orphan,
    /// Something that waits for a person's word.
    Hold,
    /// A tenant.
    Namespace,
    /// How many objects a namespace may have.
    ResourceQuota,
    /// Values that nobody should read.
    Secret,
    /// Values that everybody may read.
    ConfigMap,
    /// Something that happened.
    Event,
    /// Who of several leads.
    Lease,
    /// What one of hangar's own kinds is called and looks like.
    CustomResourceDefinition,
    /// Whom the API lets in, and for what.
    AccessToken,
    /// The machine of an environment.
    Pod,
}

/// What is said once of a kind.
#[derive(Debug)]
pub struct Info {
    /// Which.
    pub kind: Kind,
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
    /// Whether users may create, change and delete it; the others are hangar's own and are read.
    pub writable: bool,
    /// Whether users may delete it.
    pub deletable: bool,
    /// Whether `status` is written apart from the rest.
    pub has_status: bool,
    /// Columns after the name.
    pub columns: &'static [Column],
    /// Other groups in which the same objects are offered, and how they are written there.
    pub also: &'static [Form],
    /// Field selectors beside `metadata.name` and `metadata.namespace`: dotted paths.
    pub selectable: &'static [&'static str],
    /// One sentence.
    pub about: &'static str,
}

/// How objects of a kind are written in another group: some fields have other names there.
#[derive(Debug, PartialEq, Eq)]
pub struct Form {
    /// The other group.
    pub group: &'static str,
    /// Version in it.
    pub version: &'static str,
    /// Names of fields: the kind's own, and the other.
    pub names: &'static [(&'static str, &'static str)],
}

static TEMPLATE: Info = Info {
    kind: Kind::Template,
    group: GROUP,
    version: VERSION,
    kind_name: "Template",
    plural: "templates",
    singular: "template",
    short_names: &["tmpl"],
    categories: &["hangar", "all"],
    namespaced: true,
    writable: true,
    deletable: true,
    has_status: true,
    columns: &[
        column("Image", Cell::Path("spec.machine.image"), "What runs"),
        column("Memory", Cell::Path("spec.machine.guest.memory"), "Memory of each machine"),
        column("Volume", Cell::Path("spec.volume.size"), "Size of each volume"),
        wide("Regions", Cell::Path("spec.regions"), "Regions in order of preference"),
        wide("Sleep", Cell::Path("spec.sleep.after"), "Idle time before sleep"),
        wide("Update", Cell::Path("spec.update.strategy"), "How changes reach environments"),
        column("Revision", Cell::Path("status.revision"), "Number of the newest revision"),
        wide("Hash", Cell::Path("status.hash"), "Its hash"),
        column("Rollout", Cell::Reason("Complete"), "How far that has come"),
        wide("Updated", Cell::Path("status.progress.updated"), "Environments that have it"),
        wide("Of", Cell::Path("status.progress.environments"), "How many there are"),
        AGE,
    ],
    also: &[],
    selectable: &[],
    about: "What environments are made from",
};

static TEMPLATE_REVISION: Info = Info {
    kind: Kind::TemplateRevision,
    group: GROUP,
    version: VERSION,
    kind_name: "TemplateRevision",
    plural: "templaterevisions",
    singular: "templaterevision",
    short_names: &["revision", "revisions"],
    categories: &["hangar"],
    namespaced: true,
    writable: false,
    deletable: false,
    has_status: false,
    columns: &[
        column("Template", Cell::Path("spec.templateRef.name"), "Of which template"),
        column("Revision", Cell::Path("spec.revision"), "Its number"),
        column("Hash", Cell::Path("spec.hash"), "Its hash"),
        column("Image", Cell::Path("spec.template.machine.image"), "What ran"),
        wide("Cause", Cell::Path("spec.changeCause"), "Why it was changed"),
        AGE,
    ],
    also: &[],
    selectable: &["spec.templateRef.name"],
    about: "A template as it was; kept by hangar for environments that have it and to go back to",
};

static ENVIRONMENT: Info = Info {
    kind: Kind::Environment,
    group: GROUP,
    version: VERSION,
    kind_name: "Environment",
    plural: "environments",
    singular: "environment",
    short_names: &["env", "envs"],
    categories: &["hangar", "all"],
    namespaced: true,
    writable: true,
    deletable: true,
    has_status: true,
    columns: &[
        column("Phase", Cell::Path("status.phase"), "The conditions in one word"),
        column("Ready", Cell::Condition("Ready"), "Whether it was seen serving"),
        column("Region", Cell::Path("status.bay.region"), "Where it is"),
        column("URL", Cell::Path("status.url"), "Where it answers"),
        wide("Template", Cell::Path("spec.templateRef.name"), "What it is made from"),
        wide("Revision", Cell::Path("status.template.revision"), "Which revision of that"),
        wide("Owner", Cell::Path("spec.owner"), "Whose it is"),
        wide("Bay", Cell::Path("status.bay.name"), "The bay it is bound to"),
        wide("App", Cell::Path("status.bay.app"), "Its app at Fly"),
        wide("Machine", Cell::Path("status.bay.machine"), "Its machine at Fly"),
        wide(
            "Awake-By",
            Cell::Path("status.sleep.signal"),
            "What keeps it awake or put it to sleep",
        ),
        wide("Expires", Cell::Path("status.expiresAt"), "When its lifetime is over"),
        column("Reason", Cell::Reason("Ready"), "Why it is, or is not, ready"),
        AGE,
    ],
    also: &[],
    selectable: &["status.phase", "status.bay.region", "spec.templateRef.name", "spec.owner"],
    about: "What a user gets: a name, an owner, a URL, their data",
};

fn cost_a_day(pool: &serde_json::Value) -> Option<String> {
    at_path(pool, "status.costPerDayMicrodollars")?.as_u64().map(dollars)
}

static WARM_POOL: Info = Info {
    kind: Kind::WarmPool,
    group: GROUP,
    version: VERSION,
    kind_name: "WarmPool",
    plural: "warmpools",
    singular: "warmpool",
    short_names: &["pool", "pools"],
    categories: &["hangar", "all"],
    namespaced: true,
    writable: true,
    deletable: true,
    has_status: true,
    columns: &[
        column("Template", Cell::Path("spec.templateRef.name"), "What its bays are made from"),
        column("Ready", Cell::Path("status.ready"), "Bays that a claim can have now"),
        wide("Wanted", Cell::Path("status.desiredReplicas"), "How many are wanted"),
        column("Provisioning", Cell::Path("status.provisioning"), "Bays on their way to that"),
        column("Claimed", Cell::Path("status.claimedLastHour"), "Claimed in the last hour"),
        column("Hit-Rate", Cell::Path("status.hitRatePercent"), "Per cent of claims that got one"),
        wide(
            "Missed",
            Cell::Path("status.missedLastHour"),
            "Environments of the last hour that found none",
        ),
        wide("State", Cell::Path("spec.warmState"), "How unbound bays wait"),
        wide("Failed", Cell::Path("status.failed"), "Bays that did not get ready"),
        wide("Outdated", Cell::Path("status.outdated"), "Ready bays of an older template"),
        wide("Oldest", Cell::Age("status.oldestReadyAt"), "How long one has waited at most"),
        wide("Cost-A-Day", Cell::Of(cost_a_day), "What the stock costs, estimated"),
        column("Reason", Cell::Reason("Full"), "Why it is, or is not, full"),
        AGE,
    ],
    also: &[],
    selectable: &["spec.templateRef.name"],
    about: "Keeps ready bays of a template, from which environments are claimed",
};

static BAY: Info = Info {
    kind: Kind::Bay,
    group: GROUP,
    version: VERSION,
    kind_name: "Bay",
    plural: "bays",
    singular: "bay",
    short_names: &[],
    categories: &["hangar", "all"],
    namespaced: true,
    writable: false,
    deletable: false,
    has_status: true,
    columns: &[
        column("Phase", Cell::Path("status.phase"), "In one word"),
        column("Environment", Cell::Path("spec.environmentRef.name"), "What it is bound to"),
        wide("Pool", Cell::Path("spec.stock.pool"), "The pool that made it"),
        column("App", Cell::Path("spec.app"), "App at Fly"),
        column("Machine", Cell::Path("status.machine.id"), "Machine at Fly"),
        column("State", Cell::Path("status.machine.state"), "Its state, as last seen"),
        wide("Volume", Cell::Path("status.volume.id"), "Volume at Fly"),
        wide("Region", Cell::Path("status.region"), "Where it is"),
        wide("Epoch", Cell::Path("status.epoch"), "Rises with every replaced machine"),
        wide("Revision", Cell::Path("status.template.revision"), "The template's, as it runs"),
        wide("Hash", Cell::Path("status.template.hash"), "That revision's hash"),
        AGE,
    ],
    also: &[],
    selectable: &["status.phase", "spec.app", "status.machine.id"],
    about: "One provisioned place on Fly; made and removed by hangar",
};

static HOSTNAME: Info = Info {
    kind: Kind::Hostname,
    group: GROUP,
    version: VERSION,
    kind_name: "Hostname",
    plural: "hostnames",
    singular: "hostname",
    short_names: &[],
    categories: &["hangar"],
    namespaced: false,
    writable: false,
    deletable: false,
    has_status: false,
    columns: &[
        column("Namespace", Cell::Path("spec.namespace"), "Namespace of the holder"),
        column("Environment", Cell::Path("spec.environment"), "The holder"),
        column("Released", Cell::Path("status.releasedAt"), "When it was given up"),
        AGE,
    ],
    also: &[],
    selectable: &["spec.namespace", "spec.environment"],
    about: "Which environment holds a label under the router's domain",
};

static HOLD: Info = Info {
    kind: Kind::Hold,
    group: GROUP,
    version: VERSION,
    kind_name: "Hold",
    plural: "holds",
    singular: "hold",
    short_names: &[],
    categories: &["hangar"],
    namespaced: false,
    writable: false,
    deletable: true,
    has_status: false,
    columns: &[
        column("What", Cell::Path("spec.what"), "What is held back"),
        column("Reason", Cell::Path("spec.reason"), "Why"),
        AGE,
        column("Message", Cell::Path("spec.message"), "Why, for people"),
    ],
    also: &[],
    selectable: &["spec.what", "spec.reason"],
    about: "Something that hangar does not do until a person says so",
};

static ORPHAN: Info = Info {
    kind: Kind::Orphan,
    group: GROUP,
    version: VERSION,
    kind_name: "Orphan",
    plural: "orphans",
    singular: "orphan",
    short_names: &[],
    categories: &["hangar"],
    namespaced: false,
    writable: false,
    deletable: false,
    has_status: true,
    columns: &[
        column("Side", Cell::Path("status.side"), "Which side has it, Fly or the store"),
        column("What", Cell::Path("status.what"), "App, machine or volume"),
        column("Phase", Cell::Path("status.phase"), "How sure it is"),
        column("Made-By", Cell::Path("status.madeBy"), "Which installation made it"),
        column("Environment", Cell::Path("status.environment"), "For which environment"),
        wide("App", Cell::Path("status.app"), "Its app at Fly"),
        wide("Id", Cell::Path("status.id"), "Its id at Fly"),
        wide("Order", Cell::Path("status.order.message"), "What was ordered, and how far it is"),
        column("Seen", Cell::Age("status.evidence.firstSeenAt"), "Time since it was first seen"),
    ],
    also: &[],
    selectable: &["status.side", "status.what", "status.phase", "status.madeBy", "status.app"],
    about: "Something that Fly has and the store does not account for, or the reverse",
};

static ACCESS_TOKEN: Info = Info {
    kind: Kind::AccessToken,
    group: GROUP,
    version: VERSION,
    kind_name: "AccessToken",
    plural: "accesstokens",
    singular: "accesstoken",
    short_names: &["token", "tokens"],
    categories: &[],
    namespaced: false,
    writable: true,
    deletable: true,
    has_status: false,
    columns: &[
        column("Namespaces", Cell::Path("spec.namespaces"), "Where it holds"),
        column("Verbs", Cell::Path("spec.verbs"), "What it lets do"),
        wide("Resources", Cell::Path("spec.resources"), "With what"),
        column("Expires", Cell::Path("spec.expiresAt"), "Until when it holds"),
        AGE,
    ],
    also: &[],
    selectable: &[],
    about: "Whom the API lets in beside the server's own token, and for what",
};

impl Kind {
    /// Every kind, in the order in which a directory of manifests is applied.
    pub const ALL: [Self; 17] = [
        Self::Namespace,
        Self::ResourceQuota,
        Self::Secret,
        Self::ConfigMap,
        Self::Template,
        Self::TemplateRevision,
        Self::WarmPool,
        Self::Environment,
        Self::Bay,
        Self::Hostname,
        Self::Orphan,
        Self::Hold,
        Self::Event,
        Self::Lease,
        Self::AccessToken,
        Self::CustomResourceDefinition,
        Self::Pod,
    ];

    /// What is said of it.
    #[must_use]
    pub fn info(self) -> &'static Info {
        match self {
            Self::Template => &TEMPLATE,
            Self::TemplateRevision => &TEMPLATE_REVISION,
            Self::Environment => &ENVIRONMENT,
            Self::WarmPool => &WARM_POOL,
            Self::Bay => &BAY,
            Self::Hostname => &HOSTNAME,
            Self::Orphan => &ORPHAN,
            Self::Hold => &HOLD,
            Self::Namespace => &NAMESPACE,
            Self::ResourceQuota => &RESOURCE_QUOTA,
            Self::Secret => &SECRET,
            Self::ConfigMap => &CONFIG_MAP,
            Self::Event => &EVENT,
            Self::Lease => &LEASE,
            Self::CustomResourceDefinition => &CUSTOM_RESOURCE_DEFINITION,
            Self::AccessToken => &ACCESS_TOKEN,
            Self::Pod => &POD,
        }
    }

    /// The kind of a path's resource.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.info().plural == plural)
    }

    /// The kind that a person means: plural, singular, short name or kind, in any case, alone or with `.GROUP` or
    /// `.VERSION.GROUP` after it.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let (word, place) = word.split_once('.').unwrap_or((&word, ""));
        Self::ALL.into_iter().find(|kind| {
            let info = kind.info();
            let is_named =
                info.plural == word || info.singular == word || info.short_names.contains(&word);
            is_named && (place.is_empty() || info.is_offered_in(place))
        })
    }

    /// The kind of a manifest.
    #[must_use]
    pub fn from_manifest(api_version: &str, kind_name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| {
            let info = kind.info();
            info.is_kept() && info.kind_name == kind_name && info.api_version() == api_version
        })
    }
}

impl Info {
    /// `hangar.dev/v1alpha1`, or `v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `environments.hangar.dev`, as messages name the resource.
    #[must_use]
    pub fn qualified(&self) -> String {
        self.with_group(self.plural)
    }

    /// `environment.hangar.dev`, as kubectl names one object's kind.
    #[must_use]
    pub fn qualified_singular(&self) -> String {
        self.with_group(self.singular)
    }

    fn with_group(&self, name: &str) -> String {
        if self.group.is_empty() { name.to_owned() } else { format!("{name}.{}", self.group) }
    }

    /// Whether `GROUP` or `VERSION.GROUP` is one in which its objects are offered.
    fn is_offered_in(&self, place: &str) -> bool {
        let is_it = |version: &str, group: &str| {
            let group_of = place.strip_prefix(version).and_then(|it| it.strip_prefix('.'));
            place == group || group_of == Some(group)
        };
        is_it(self.version, self.group) || self.also.iter().any(|it| is_it(it.version, it.group))
    }

    /// Whether its objects are made of the registry when they are asked for, instead of being kept.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.kind == Kind::CustomResourceDefinition
    }

    /// Whether how many there are of what it keeps can be read and written apart, as `autoscaling/v1` has it.
    #[must_use]
    pub fn has_scale(&self) -> bool {
        self.kind == Kind::WarmPool
    }

    /// Whether objects of it are kept; the others are generated, or follow from those that are.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        !self.is_generated() && self.kind != Kind::Pod
    }

    /// What can be opened in an object of it.
    #[must_use]
    pub fn streams(&self) -> &'static [&'static str] {
        if self.kind == Kind::Pod { &["attach", "exec", "log", "portforward"] } else { &[] }
    }

    /// The path of a list, or of one object.
    #[must_use]
    pub fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let mut path = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if let Some(namespace) = namespace.filter(|_| self.namespaced) {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(self.plural);
        if let Some(name) = name {
            path.push('/');
            path.push_str(name);
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_means_one_kind() {
        for kind in Kind::ALL {
            let info = kind.info();
            assert_eq!(info.kind, kind);
            for word in [info.plural, info.singular, info.kind_name].iter().chain(info.short_names)
            {
                assert_eq!(Kind::from_word(word), Some(kind), "{word}");
            }
            assert_eq!(Kind::from_word(&info.qualified()), Some(kind));
        }
    }

    #[test]
    fn a_word_with_a_group_means_a_kind_of_that_group_only() {
        for (word, kind) in [
            ("env.hangar.dev", Some(Kind::Environment)),
            ("environments.v1alpha1.hangar.dev", Some(Kind::Environment)),
            ("events.events.k8s.io", Some(Kind::Event)),
            ("secrets.v1.", Some(Kind::Secret)),
            ("env.example.com", None),
            ("environments.v1.hangar.dev", None),
            ("secrets.hangar.dev", None),
        ] {
            assert_eq!(Kind::from_word(word), kind, "{word}");
        }
    }
}
