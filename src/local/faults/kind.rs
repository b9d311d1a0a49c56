//! The kinds of faults, as a closed list: what each does, where it was seen, which fields of a rule it reads. It must never
//! do anything about them.

use serde::{Deserialize, Serialize};

use crate::local::faults::reach;

/// Where a kind acts, which says what its rules may be limited by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// On a call's answer, whatever the call is.
    Reply,
    /// On what a read looks at.
    View,
    /// Before certain calls have their effect.
    Call,
    /// While the host works on a machine or a volume.
    Work,
    /// For as long as the rule is in force.
    State,
    /// By itself: when the rule comes into force, and then again and again if it says so.
    Strike,
}

impl Stage {
    /// Limits beside place and time that its rules may have.
    pub(super) fn limits(self) -> &'static [&'static str] {
        match self {
            Self::Reply | Self::View | Self::Call => &["route", "skip", "times", "per_mille"],
            Self::Work | Self::Strike => &["skip", "times", "per_mille"],
            Self::State => &[],
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
    /// [`super::Rule::every`].
    Every,
    /// [`super::Rule::code`].
    Code,
    /// [`super::Rule::state`].
    State,
}

impl Field {
    pub(super) const ALL: [Self; 7] =
        [Self::Takes, Self::Ago, Self::Reads, Self::Regions, Self::Every, Self::Code, Self::State];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Takes => "takes",
            Self::Ago => "ago",
            Self::Reads => "reads",
            Self::Regions => "regions",
            Self::Every => "every",
            Self::Code => "code",
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
    MachineNameViolation = "machine_name_violation", Reply [],
        "A creation arrives twice: the machine is made, and the second one's 409 is answered, which names it",
        "fly-go's transport repeats POSTs (Kilo-Org/cloud#1135)";
    ExecFails = "exec_fails", Reply [Code],
        "A command in a machine is answered 200 with the exit code `code` (1)",
        "documented; 200 says nothing about the command";
    ExecTimesOut = "exec_times_out", Reply [Takes],
        "A command in a machine runs, and is answered 408 after `takes` (30 s)",
        "commands over 30 s (OpenRouterLabs/spawn#1616, #1623)";
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
    AppNameTaken = "app_name_taken", Call [],
        "The name of a new app is somebody else's: 422 `name_taken`, and 403 for every call on it while the rule is in force",
        "names are global (Fly's documents)";
    MachineNameSquatted = "machine_name_squatted", Call [],
        "A machine of nobody we know, without metadata, takes the name of a new machine just before",
        "names are unique in an app, and others may make machines in it";
    HostFull = "host_full", Call [],
        "409: the host has no room to create, start or update a machine",
        "fly-go's tests of capacity errors; community 15555";
    HostDisabled = "host_disabled", Call [],
        "409 `deploys to this host are temporarily disabled` on an update or restart",
        "flyctl#3732";
    VolumeHostFull = "volume_host_full", Call [],
        "412 `volume_placement_capacity` on the creation of a machine with a volume; 409 on the growth of a volume",
        "flyctl#5141, superfly/docs#2208";
    VolumeNotFound = "volume_not_found", Call [],
        "400 `volume not found` on the creation of a machine with a volume that every read shows",
        "a volume deleted softly (Kilo-Org/cloud#3212)";
    VolumeClaimLingers = "volume_claim_lingers", Call [],
        "412 on the creation of a machine with a volume, or on a volume's deletion: claimed by a machine that has no name any more",
        "Kilo-Org/cloud#814";
    ManifestUnknown = "manifest_unknown", Call [],
        "`MANIFEST_UNKNOWN` on a creation or an update, though the image is there",
        "the registry right after a push";
    StartRace = "start_race", Call [],
        "412 on a start, in one of Fly's three texts by chance",
        "seconds after a creation, an update or a stop (hexclave#2060)";
    LeaseHeld = "lease_held", Call [Takes],
        "Somebody takes a lease of `takes` (2 min) on the machine just before: others are refused, `stop` and `destroy` block",
        "what a deployment that was killed leaves (community 13190)";
    AppDeleteSlow = "app_delete_slow", Call [Takes],
        "The deletion of an app is accepted and begins only after `takes` (3 min)",
        "documented as done later; cascades take minutes";
    SnapshotFails = "snapshot_fails", Work [],
        "A snapshot is begun and then not there",
        "the snapshot API failed on its own";
    SnapshotStuck = "snapshot_stuck", Work [Takes],
        "A snapshot stays `running` for `takes` (1 h)",
        "documented as done later";
    StuckCreated = "stuck_created", Work [Takes],
        "A machine stays `created` for `takes` (10 min), then goes on by itself",
        "2 h 20 min, then it booted (community 28143)";
    StuckStarting = "stuck_starting", Work [Takes],
        "A machine stays `starting` for `takes` (10 min), then goes on by itself",
        "suspect after 5 min (Fly's documents)";
    StuckReplacing = "stuck_replacing", Work [Takes],
        "A machine stays `replacing` for `takes` (10 min), then goes on by itself",
        "17 h (Kilo-Org/cloud#2648)";
    StuckStopping = "stuck_stopping", Work [Takes],
        "A machine stays `stopping`, and runs, for `takes` (10 min)",
        "suspect after 5 min (Fly's documents)";
    StuckDestroying = "stuck_destroying", Work [Takes],
        "A machine stays `destroying`, and runs, for `takes` (10 min)",
        "stuck deletions (Kilo-Org/cloud#814)";
    ReplacedButStopped = "replaced_but_stopped", Work [],
        "An update that was to start the machine leaves it `stopped`",
        "hexclave#2060, Kilo-Org/cloud#2648";
    RegionFull = "region_full", State [Regions],
        "`regions` (all) have no room: 422 `insufficient_capacity` for machines, 400 `no capacity` for volumes",
        "fly-go's tests of capacity errors; Kilo-Org/cloud#412, #787";
    HostUnreachable = "host_unreachable", State [Takes],
        "The host does not answer: no configurations, calls time out with 408, a destruction is only promised. When it is back its machines run as before, and what was promised is done after `takes` (1 min)",
        "flyctl#4953, #5049; machines that came back (community 21341)";
    ChecksFail = "checks_fail", State [],
        "No check passes",
        "programs that never become ready";
    ChecksFlap = "checks_flap", State [Every],
        "No check passes in every other `every` (1 min)",
        "overloaded programs";
    Crash = "crash", Strike [Every],
        "Started machines' programs are killed, once or each `every`",
        "crash loops";
    Migration = "migration", Strike [Every],
        "Machines that rest or run move to another host: stop and start, new address, version and volume id; the old volume is being destroyed",
        "Fly's documents on machine migration";
}

impl Kind {
    /// Whether it acts on calls, so that a rule can say how often.
    #[must_use]
    pub fn is_of_calls(self) -> bool {
        matches!(self.stage(), Stage::Reply | Stage::View | Stage::Call)
    }

    /// Whether it can befall a call of this name, such as `create_machine`.
    #[must_use]
    pub fn befalls(self, route: &str) -> bool {
        reach::befalls(self, Some(route))
    }

    pub(super) fn uses(self, field: Field) -> bool {
        self.fields().contains(&field)
    }

    /// Fields without which it cannot be.
    pub(super) fn needs(self) -> impl Iterator<Item = Field> {
        let partial = matches!(self, Self::ListOneRegion | Self::ErrorRegions);
        self.fields().iter().copied().filter(move |it| partial && *it == Field::Regions)
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
