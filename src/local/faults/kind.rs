//! The kinds of faults, as a closed list: what each does, where it was seen, which fields of a rule it reads. It must never
//! do anything about them.

use serde::{Deserialize, Serialize};

/// Where a kind acts, which says what its rules may be limited by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// On a call's answer, whatever the call is.
    Reply,
    /// On what a read looks at.
    View,
}

impl Stage {
    /// Limits beside place and time that its rules may have.
    pub(super) fn limits(self) -> &'static [&'static str] {
        match self {
            Self::Reply | Self::View => &["route", "skip", "times", "per_mille"],
        }
    }
}

/// A field of a rule that not every kind reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// [`super::Rule::takes`].
    Takes,
    /// [`super::Rule::ago`].
    Ago,
    /// [`super::Rule::reads`].
    Reads,
    /// [`super::Rule::regions`].
    Regions,
    /// [`super::Rule::state`].
    State,
}

impl Field {
    pub(super) const ALL: [Self; 5] =
        [Self::Takes, Self::Ago, Self::Reads, Self::Regions, Self::State];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Takes => "takes",
            Self::Ago => "ago",
            Self::Reads => "reads",
            Self::Regions => "regions",
            Self::State => "state",
        }
    }
}

/// One line per kind gives everything that is said of it.
macro_rules! kinds {
    ($($kind:ident = $name:literal, $stage:ident [$($field:ident),*], $does:literal, $seen:literal;)+) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Kind {
            $(
                #[doc = concat!($does, ". Seen: ", $seen, ".")]
                #[serde(rename = $name)]
                $kind,
            )+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Its word in rules and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// What it does.
            #[must_use]
            pub fn does(self) -> &'static str {
                match self { $(Self::$kind => $does,)+ }
            }

            /// The incident or document that it comes from.
            #[must_use]
            pub fn seen(self) -> &'static str {
                match self { $(Self::$kind => $seen,)+ }
            }

            /// Whether it acts on answers, whatever the call.
            #[must_use]
            pub fn is_of_replies(self) -> bool {
                self.stage() == Stage::Reply
            }

            pub(super) fn stage(self) -> Stage {
                match self { $(Self::$kind => Stage::$stage,)+ }
            }

            pub(super) fn fields(self) -> &'static [Field] {
                match self { $(Self::$kind => &[$(Field::$field),*],)+ }
            }
        }
    };
}

kinds! {
    Answer408Done = "answer_408_done", Reply [],
        "Answered 408 `deadline_exceeded` after the effect",
        "flyctl retries creations for it (flyctl#5098)";
    Answer408NotDone = "answer_408_not_done", Reply [],
        "Answered 408 `deadline_exceeded` without the effect",
        "flyctl retries creations for it (flyctl#5098)";
    Answer500Done = "answer_500_done", Reply [],
        "Answered 500 after the effect",
        "documented as possible at any call";
    Answer500NotDone = "answer_500_not_done", Reply [],
        "Answered 500 without the effect",
        "documented as possible at any call";
    Answer502Done = "answer_502_done", Reply [],
        "Answered 502 with a page of HTML after the effect",
        "fly-go's transport repeats even POSTs for it";
    Answer502NotDone = "answer_502_not_done", Reply [],
        "Answered 502 with a page of HTML without the effect",
        "fly-go's transport repeats even POSTs for it";
    Answer503Done = "answer_503_done", Reply [],
        "Answered 503 after the effect",
        "fly-go's transport repeats even POSTs for it";
    Answer503NotDone = "answer_503_not_done", Reply [],
        "Answered 503 without the effect",
        "fly-go's transport repeats even POSTs for it";
    Storm408 = "storm_408", Reply [],
        "Answered 408, as often after the effect as without it; meant for all calls to one `host`",
        "one host's API (Fly's infra log, 2025-05-14)";
    ResetBefore = "reset_before", Reply [],
        "The connection is closed without an answer and without the effect",
        "any network";
    ResetAfter = "reset_after", Reply [],
        "The connection is closed without an answer after the effect",
        "any network; flyctl#5089";
    Slow = "slow", Reply [Takes],
        "Answered only after `takes` (90 s), though the effect was at once",
        "slow image pulls and hosts (livebook#2720)";
    TruncatedJson = "truncated_json", Reply [],
        "The effect is done and the answer whole, but its JSON is cut in the middle",
        "any proxy";
    TruncatedBody = "truncated_body", Reply [],
        "The effect is done, and the connection closed in the middle of the answer's body",
        "any network";
    UnknownState = "unknown_state", Reply [State],
        "Every machine and volume in the answer is in a state that no document names, `state` (`hibernating`)",
        "`failed`, `replaced`, `migrated` came as surprises (Kilo-Org/cloud#1144, #1664)";
    UnknownField = "unknown_field", Reply [],
        "Every object in the answer has a field that no document names",
        "Fly adds fields without a new version";
    RegionMissing = "region_missing", Reply [],
        "Every machine and volume in the answer lacks its `region`",
        "a volume without a region (Kilo-Org/cloud#2601)";
    RateLimited = "rate_limited", Reply [],
        "Answered 429 without `Retry-After`, without the effect",
        "documented limits; the header is not documented";
    RateLimitedRetryAfter = "rate_limited_retry_after", Reply [Takes],
        "Answered 429 with `Retry-After`, `takes` (5 s), without the effect",
        "clients honour it where it is present";
    Unauthenticated = "unauthenticated", Reply [],
        "Answered 401, without the effect; without limits, every token is refused",
        "token verification for minutes (Fly's infra log, 2025-05-15)";
    Forbidden = "forbidden", Reply [],
        "Answered 403 with the words that a foreign app has, without the effect",
        "token verification for minutes (Fly's infra log, 2025-05-15)";
    FlappingNotFound = "flapping_not_found", Reply [],
        "Every second call is answered 404, without the effect",
        "reads behind writes: 404 for what exists (flyctl's blue-green deployments)";
    EmptyOk = "empty_ok", Reply [],
        "The effect is done and the answer a success, but empty: `{}` or `[]`",
        "empty lists for apps that had machines (Fly's infra log, 2026-04-28)";
    ListEmpty = "list_empty", View [],
        "A list is empty",
        "empty lists for apps that had machines (Fly's infra log, 2026-04-28)";
    ListShort = "list_short", View [],
        "A list lacks what was made last",
        "a machine that was just made may be missing (flyctl's blue-green deployments)";
    ListStale = "list_stale", View [Ago, Reads],
        "A list is as it was `ago`, or `reads` (1) reads of the same list ago",
        "a list wrong after a deletion and a second creation (flyctl#3205)";
    ListOneRegion = "list_one_region", View [Regions],
        "A list has only what is in `regions`",
        "partial lists (Fly's infra log, 2026-04-28)";
    ErrorRegions = "error_regions", View [Regions],
        "The organisation's list of machines lacks what is in `regions`, and says so in `error_regions`",
        "documented";
    DeletedListed = "deleted_listed", View [Ago],
        "A list still has, as it was, what was deleted no longer than `ago` (60 s) before",
        "a deleted volume shows as `created` for a moment";
    LaggingReads = "lagging_reads", View [Ago, Reads],
        "Any read, of one thing or of a list, is as it was `ago`, or `reads` (1) reads of the same thing ago",
        "reads come from a gossiped copy (Fly's documents)";
}

impl Kind {
    pub(super) fn uses(self, field: Field) -> bool {
        self.fields().contains(&field)
    }

    /// Fields without which it cannot be.
    pub(super) fn needs(self) -> impl Iterator<Item = Field> {
        self.fields().iter().copied().filter(|it| *it == Field::Regions)
    }

    /// Whether it shows what was.
    pub(super) fn looks_back(self) -> bool {
        matches!(self, Self::ListStale | Self::DeletedListed | Self::LaggingReads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the kinds in the documents.
    fn table() -> String {
        let row = |it: &Kind| {
            let fields = it.fields().iter().map(|it| format!("`{}`", it.name()));
            let fields = fields.collect::<Vec<_>>().join(", ");
            format!("| `{}` | {} | {fields} | {} |", it.name(), it.does(), it.seen())
        };
        Kind::ALL.iter().map(row).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_kind_is_in_the_documents_table_as_it_is_here() {
        let page = include_str!("../../../docs/fly.md");
        assert!(page.contains(&table()), "docs/fly.md should have these rows:\n{}", table());
    }
}
