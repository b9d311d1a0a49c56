//! Mistakes that controllers like this one are known for, as a closed list, planted one at a time where the simulation puts
//! the parts together: between hangar and Fly, its store, its disk and its router. The rules must catch each. It must never
//! reach into the controller itself, nor be part of a walk that did not ask for it.

use crate::local::faults::Kind;
use crate::sim::course::Course;

/// Where a mistake shows, all of it walked by the tests anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// In a course in which nothing goes wrong that is not part of it.
    Undisturbed(Course),
    /// When the controller dies at one of a course's boundaries.
    Crashes(Course),
    /// When Fly answers one of a course's calls in this wrong way.
    Answers(Course, Kind),
    /// In a drawn course.
    Seeds,
}

/// One line per mistake gives everything that is said of it.
macro_rules! mistakes {
    ($($mistake:ident = $name:literal, $ground:expr, $does:literal;)+) => {
        /// What a careless controller does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mistake {
            $(
                #[doc = $does]
                $mistake,
            )+
        }

        impl Mistake {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$mistake),+];

            /// Its word on command lines.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$mistake => $name,)+ }
            }

            /// What it does.
            #[must_use]
            pub fn does(self) -> &'static str {
                match self { $(Self::$mistake => $does,)+ }
            }

            /// Where it shows.
            #[must_use]
            pub fn ground(self) -> Ground {
                match self { $(Self::$mistake => $ground,)+ }
            }
        }
    };
}

use Ground::{Answers, Crashes, Seeds, Undisturbed};

mistakes! {
    // What it believes of Fly.
    TrustEmptyList = "trust-empty-list", Undisturbed(Course::Blind),
        "Takes what an empty list lacks for gone, and asks for none of it again.";
    TrustPartialList = "trust-partial-list", Undisturbed(Course::Blind),
        "Takes a list that names regions it could not read for the whole.";
    LookOnce = "look-once", Undisturbed(Course::Late),
        "Makes again what one look in vain did not find, without a second look later.";
    StoppedIsDead = "stopped-is-dead", Undisturbed(Course::Drift),
        "Takes a machine that is only stopped for one that is gone.";
    AdoptByName = "adopt-by-name", Undisturbed(Course::Stranger),
        "Takes a machine of the right name for its own, whatever marks it carries.";
    // What it does to Fly.
    RetryBlindly = "retry-blindly", Answers(Course::Create, Kind::Answer408Done),
        "Sends a creation again that was answered 408, 5xx or not at all.";
    TwoAtOnce = "two-at-once", Undisturbed(Course::Create),
        "Has two workers for one object, who both make what is missing.";
    RetryHotly = "retry-hotly", Seeds,
        "Repeats a call that is refused at once, again and again.";
    DestroyByName = "destroy-by-name", Undisturbed(Course::Outage),
        "Destroys the machine that a name leads to instead of the one with the id.";
    SharedNetwork = "shared-network", Undisturbed(Course::Create),
        "Makes apps on the organisation's own network.";
    ReuseEpoch = "reuse-epoch", Undisturbed(Course::Drift),
        "Gives a machine's successor the same epoch, so that nothing fences the old one off.";
    UpdateAlways = "update-always", Undisturbed(Course::Update),
        "Never finds a machine's configuration to be as declared, and updates it again.";
    // What it tells others.
    LogBodies = "log-bodies", Undisturbed(Course::Update),
        "Writes what it sends to Fly into its log.";
    SecretsAsVariables = "secrets-as-variables", Undisturbed(Course::Update),
        "Puts the values of secrets into the machine's configuration.";
    ReadyUnseen = "ready-unseen", Undisturbed(Course::Create),
        "Says Ready of a machine that was made and was never seen serving.";
    // What it writes down, and when.
    NoIntent = "no-intent", Undisturbed(Course::Create),
        "Makes machines and volumes without writing down before that it will.";
    SkipSync = "skip-sync", Crashes(Course::Create),
        "Never syncs: the disk writes when it likes.";
    AcknowledgeEarly = "acknowledge-early", Crashes(Course::Create),
        "Acknowledges a commit that is still on its way to the disk.";
    WriteBlindly = "write-blindly", Undisturbed(Course::Claim),
        "Writes an object whatever became of it since it was read.";
    ReadStale = "read-stale", Seeds,
        "Decides by a cached object, and writes what follows over the newer one.";
    ForgetFinalizer = "forget-finalizer", Undisturbed(Course::Delete),
        "Lets an environment's object go before what it has at Fly.";
    ReuseBay = "reuse-bay", Undisturbed(Course::Again),
        "Gives a bay that was used to the next environment.";
    // What it gives up, or never does.
    EmptyOverData = "empty-over-data", Answers(Course::Create, Kind::ListEmpty),
        "Takes a volume that a list lacks for lost, and puts an empty one in its place.";
    DiscardData = "discard-data", Undisturbed(Course::Crowded),
        "Deletes a volume that was used, since its region has no room for the machine.";
    GiveUpHost = "give-up-host", Undisturbed(Course::Outage),
        "Gives up a volume whose host does not answer.";
    NoDeadline = "no-deadline", Undisturbed(Course::Stuck),
        "Waits for ever for a machine that is stuck between two states.";
    IgnoreHolds = "ignore-holds", Undisturbed(Course::Exodus),
        "Destroys as much at once as it is told to, and asks nobody.";
    // Where it leads requests.
    RouteToOld = "route-to-old", Undisturbed(Course::Drift),
        "Leads requests to the machine that was there first, after it was replaced.";
    RouteToOther = "route-to-other", Undisturbed(Course::Pair),
        "Leads the requests of one environment to another one's machine.";
    RouteToDeleted = "route-to-deleted", Undisturbed(Course::Delete),
        "Goes on leading requests to an environment that was deleted.";
    // What it makes of pools.
    ShareBay = "share-bay", Undisturbed(Course::Refill),
        "Gives a bay that was claimed to the next one who claims.";
    ReturnBay = "return-bay", Undisturbed(Course::Claim),
        "Gives the bay of an environment that was deleted back to its pool.";
    ClaimUnready = "claim-unready", Undisturbed(Course::Share),
        "Gives out a bay as soon as it has a machine, before that was seen serving.";
    SkipExitCode = "skip-exit-code", Answers(Course::Claim, Kind::ExecFails),
        "Takes a command that was run for one that went well.";
    WriteForAnother = "write-for-another", Undisturbed(Course::Refill),
        "Writes what one environment adds into the machine of another.";
    RestartToPersonalize = "restart-to-personalize", Undisturbed(Course::Claim),
        "Restarts a machine that runs when it is claimed.";
    RetireAllAtOnce = "retire-all-at-once", Undisturbed(Course::Roll),
        "Lets all bays of a pool go when their template changes, before there are new ones.";
}
