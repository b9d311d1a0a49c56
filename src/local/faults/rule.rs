//! A rule: a kind of fault, what it befalls and when. It must never count.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fly::call;
use crate::local::faults::{
    history::{KEPT, READS_MAX},
    kind::{Field, Kind},
    reach,
};

/// Whatever happens by itself happens no more often.
const EVERY_MIN: Duration = Duration::from_secs(1);

/// A fault, what it befalls and when. What is not said does not limit it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What happens.
    pub kind: Kind,
    /// Only calls of this name (`create_machine`, see [`call`]), or of this method and path
    /// (`POST /v1/apps/{app}/machines`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Only in this app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Only this machine, by id or name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// Only this volume, by id or name, or the machine that mounts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// Only in this region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Only on this host: `ams-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Not the first so many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip: Option<u64>,
    /// At most so many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// Only so many times in a thousand, by chance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_mille: Option<u16>,
    /// Not before so long after the rule was made.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span")]
    pub from: Option<Duration>,
    /// For so long from then on.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none", with = "span")]
    pub lasts: Option<Duration>,
    /// How long the thing itself takes.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span")]
    pub takes: Option<Duration>,
    /// How old the view is.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span")]
    pub ago: Option<Duration>,
    /// How many reads of the same list old the view is, from 1 to 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<u8>,
    /// Regions that the fault is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// The time between two times.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "span")]
    pub every: Option<Duration>,
    /// A command's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The state's word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It limits or sets what its kind does not look at.
    #[error("{kind} does not use `{field}`: leave it out")]
    Unused {
        /// The kind's word.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// There is no such call.
    #[error(
        "there is no call {0:?}: use a name such as `create_machine`, or a method and a path such as \
         `POST /v1/apps/{{app}}/machines`"
    )]
    Route(String),
    /// It lacks what its kind cannot do without.
    #[error("{kind} needs `{field}`")]
    Needed {
        /// The kind's word.
        kind: &'static str,
        /// The field.
        field: &'static str,
    },
    /// Views are kept for a while only.
    #[error("a view can be up to {} minutes or {READS_MAX} reads old, and not both", KEPT.as_secs() / 60)]
    Ago,
    /// Time must pass between two times.
    #[error("`every` must be at least a second")]
    Every,
    /// The kind is not about such calls.
    #[error("{kind} does not befall {route:?}")]
    OtherRoute {
        /// The kind's word.
        kind: &'static str,
        /// The call.
        route: String,
    },
    /// Nothing happens more often than always.
    #[error("per_mille is {0}: it can be at most 1000")]
    PerMille(u16),
}

impl Rule {
    /// A rule without limits.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            route: None,
            app: None,
            machine: None,
            volume: None,
            region: None,
            host: None,
            skip: None,
            times: None,
            per_mille: None,
            from: None,
            lasts: None,
            takes: None,
            ago: None,
            reads: None,
            regions: None,
            every: None,
            code: None,
            state: None,
        }
    }

    /// The same, for one call by name.
    #[must_use]
    pub fn on(mut self, route: &str) -> Self {
        self.route = Some(route.to_owned());
        self
    }

    /// The same, so many times.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Refuses what would silently do nothing.
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if let Some(field) = self.unused() {
            return Err(Invalid::Unused { kind: self.kind.name(), field });
        }
        if let Some(route) = self.route.as_deref() {
            let known = known_route(route).ok_or_else(|| Invalid::Route(route.to_owned()))?;
            if !reach::befalls(self.kind, known) {
                let route = route.to_owned();
                return Err(Invalid::OtherRoute { kind: self.kind.name(), route });
            }
        }
        if self.every.is_some_and(|it| it < EVERY_MIN) {
            return Err(Invalid::Every);
        }
        let needed = self.kind.needs().find(|it| !self.has(*it));
        if let Some(field) = needed {
            return Err(Invalid::Needed { kind: self.kind.name(), field: field.name() });
        }
        let known = self.ago.is_none_or(|it| it <= KEPT)
            && self.reads.is_none_or(|it| (1..=READS_MAX).contains(&usize::from(it)));
        if !known || self.ago.is_some() && self.reads.is_some() {
            return Err(Invalid::Ago);
        }
        match self.per_mille {
            Some(more) if more > 1_000 => Err(Invalid::PerMille(more)),
            Some(_) | None => Ok(()),
        }
    }

    fn has(&self, field: Field) -> bool {
        match field {
            Field::Takes => self.takes.is_some(),
            Field::Ago => self.ago.is_some(),
            Field::Reads => self.reads.is_some(),
            Field::Regions => self.regions.is_some(),
            Field::Every => self.every.is_some(),
            Field::Code => self.code.is_some(),
            Field::State => self.state.is_some(),
        }
    }

    /// A field that is there and says nothing to this kind.
    fn unused(&self) -> Option<&'static str> {
        let by_stage = [
            ("route", self.route.is_some()),
            ("skip", self.skip.is_some()),
            ("times", self.times.is_some()),
            ("per_mille", self.per_mille.is_some()),
        ];
        let limits = self.kind.stage().limits();
        let limit = by_stage.into_iter().find(|(it, given)| *given && !limits.contains(it));
        let own = Field::ALL.into_iter().find(|it| self.has(*it) && !self.kind.uses(*it));
        limit.map(|(it, _)| it).or_else(|| own.map(Field::name))
    }
}

/// The call's name, or that there could be a call of this method and path that hangar does not make.
fn known_route(text: &str) -> Option<Option<&'static str>> {
    let Some((method, path)) = text.split_once(' ') else {
        let named = call::ALL.iter().find(|it| it.name == text);
        return named.map(|it| Some(it.name));
    };
    let possible = method.chars().all(|it| it.is_ascii_uppercase()) && path.starts_with("/v1/");
    possible.then(|| reach::name(method, path))
}

/// Durations as people write them.
mod span {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    #[expect(clippy::ref_option, reason = "serde's form")]
    pub(super) fn serialize<S: Serializer>(
        span: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => serializer.collect_str(&humantime::format_duration(*span)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = humantime::parse_duration(&text)
            .map_err(|error| de::Error::custom(format!("`{text}`: {error}: write 90s or 5m")))?;
        Ok(Some(span))
    }
}
