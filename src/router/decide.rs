//! The decision about one request: pure, on what its head says and the table knows. It must never lock, wait, allocate, or
//! come to anything that could wake a machine before it knows that the asker may reach it.

use crate::router::{
    head::{Head, Replayed},
    table::{Flag, Route, Table},
};

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Replay the request to the route's machine. A sleeping machine is woken by it.
    Replay(Route),
    /// No environment has this host.
    Unknown,
    /// The environment that had this host is deleted, or gave it up.
    Gone,
    /// Only those who are let in may reach it.
    Private,
    /// It sleeps by order and is not woken.
    OrderedAsleep,
    /// It cannot answer, and will not by itself.
    Broken,
    /// It is being provisioned.
    NotYet,
    /// The router has not read all of its objects yet, so it cannot tell.
    Starting,
    /// The machine of this route could not be reached; the request came back.
    Failed(Route),
    /// The request was replayed here by whom it would be replayed to.
    Loop,
    /// It is not plain which host is meant.
    BadHost,
    /// The host is not under the router's domain.
    Misdirected,
}

impl Decision {
    /// Its name as a label of metrics and in JSON answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Replay(_) => "replay",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
            Self::Private => "private",
            Self::OrderedAsleep => "asleep",
            Self::Broken => "broken",
            Self::NotYet => "not_yet",
            Self::Starting => "starting",
            Self::Failed(_) => "failed",
            Self::Loop => "loop",
            Self::BadHost => "bad_host",
            Self::Misdirected => "misdirected",
        }
    }

    /// Every name there is.
    pub const NAMES: [&'static str; 12] = [
        "replay",
        "unknown",
        "gone",
        "private",
        "asleep",
        "broken",
        "not_yet",
        "starting",
        "failed",
        "loop",
        "bad_host",
        "misdirected",
    ];
}

/// Decides.
#[must_use]
pub fn decide(head: &Head, table: &Table) -> Decision {
    let Some(label) = head.label else {
        return Decision::Unknown;
    };
    let Some(route) = table.get(&label) else {
        return if table.synced() { Decision::Unknown } else { Decision::Starting };
    };
    if route.has(Flag::RELEASED) || route.has(Flag::DELETED) || route.has(Flag::UNLISTED) {
        Decision::Gone
    } else if !route.has(Flag::PUBLIC) {
        Decision::Private
    } else if route.has(Flag::ASLEEP) {
        Decision::OrderedAsleep
    } else if route.has(Flag::BROKEN) {
        Decision::Broken
    } else if !route.has(Flag::MACHINE) || !route.has(Flag::KEY) {
        Decision::NotYet
    } else if head.failed {
        Decision::Failed(route)
    } else if loops(head.replayed, &route) {
        Decision::Loop
    } else {
        Decision::Replay(route)
    }
}

/// A machine that replays its own host back to the router would go round until Fly's limit.
fn loops(replayed: Replayed, route: &Route) -> bool {
    match replayed {
        Replayed::No => false,
        Replayed::BySelf | Replayed::Unclear => true,
        Replayed::By(machine) => machine == route.machine(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{
        packed::{App, Label},
        table::Machine,
    };

    fn serving() -> Route {
        let machine = Machine::parse(b"3d8d9930c4e1b8").unwrap();
        Route::new(0)
            .to(App::exact("hgr-7f3k2q").unwrap(), machine)
            .keyed(Some([1; 16]))
            .with(Flag::PUBLIC, true)
    }

    fn head() -> Head {
        Head { label: Label::of_name("alice"), failed: false, replayed: Replayed::No }
    }

    fn decided(head: Head, route: Route) -> Decision {
        let table = Table::new();
        table.insert(Label::of_name("alice").unwrap(), route);
        table.set_synced();
        decide(&head, &table)
    }

    #[test]
    fn each_state_of_a_route_has_one_answer() {
        let keyless = serving().keyed(None);
        let bare = Route::new(0).with(Flag::PUBLIC, true);
        for (route, name) in [
            (serving(), "replay"),
            (serving().with(Flag::PUBLIC, false), "private"),
            (serving().with(Flag::ASLEEP, true), "asleep"),
            (serving().with(Flag::BROKEN, true), "broken"),
            (keyless, "not_yet"),
            (bare, "not_yet"),
            (serving().with(Flag::DELETED, true), "gone"),
            (serving().with(Flag::RELEASED, true), "gone"),
            (serving().with(Flag::UNLISTED, true), "gone"),
            (bare.with(Flag::ASLEEP, true), "asleep"),
            (bare.with(Flag::BROKEN, true), "broken"),
        ] {
            assert_eq!(decided(head(), route).name(), name, "{route:?}");
        }
    }

    #[test]
    fn whoever_may_not_reach_it_learns_nothing_and_wakes_nothing() {
        let private = serving().with(Flag::PUBLIC, false);
        for route in [
            private.with(Flag::ASLEEP, true),
            private.with(Flag::BROKEN, true),
            private.keyed(None),
        ] {
            assert_eq!(decided(head(), route), Decision::Private);
        }
        let failed = Head { failed: true, replayed: Replayed::BySelf, ..head() };
        assert_eq!(decided(failed, private), Decision::Private);
    }

    #[test]
    fn a_request_that_came_back_is_not_sent_again() {
        let other = Machine::parse(b"00000000000001").unwrap();
        let machine = serving().machine();
        for (failed, replayed, name) in [
            (true, Replayed::No, "failed"),
            (true, Replayed::BySelf, "failed"),
            (false, Replayed::BySelf, "loop"),
            (false, Replayed::Unclear, "loop"),
            (false, Replayed::By(machine), "loop"),
            (false, Replayed::By(other), "replay"),
        ] {
            let head = Head { failed, replayed, ..head() };
            assert_eq!(decided(head, serving()).name(), name, "{head:?}");
        }
    }

    #[test]
    fn an_absent_label_is_unknown_only_once_all_were_read() {
        let table = Table::new();
        assert_eq!(decide(&head(), &table), Decision::Starting);
        table.set_synced();
        assert_eq!(decide(&head(), &table), Decision::Unknown);
        assert_eq!(decide(&Head { label: None, ..head() }, &table), Decision::Unknown);
    }
}
