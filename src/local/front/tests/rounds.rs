//! Autostop, round by round, in paused time.

use std::{sync::Arc, time::Duration};

use super::bench::Yard;
use crate::fly::wire::Autostop;
use crate::local::{
    fleet::Target,
    front::{activity::Activity, idle},
};
use crate::tasks::{self, Trigger};

const INTERVAL: Duration = Duration::from_secs(180);

/// The loop over a yard without servers.
struct Rounds {
    yard: Arc<Yard>,
    activity: Activity,
    seen: usize,
    _trigger: Trigger,
}

impl Rounds {
    fn start(machines: &[(&str, &str)]) -> Self {
        let yard = Arc::new(Yard::default());
        for (app, id) in machines {
            yard.add(app, id, "127.0.0.1:1".parse().unwrap());
            yard.change(id, |target| target.autostop = Autostop::Stop);
        }
        let (trigger, shutdown) = tasks::shutdown();
        let activity = Activity::default();
        let (fleet, counted) = (Arc::clone(&yard), activity.clone());
        tasks::detached(async move {
            idle::run(&*fleet, &counted, INTERVAL, shutdown).await.unwrap();
        });
        Self { yard, activity, seen: 0, _trigger: trigger }
    }

    fn change(self, id: &str, change: impl FnOnce(&mut Target)) -> Self {
        self.yard.change(id, change);
        self
    }

    /// Lets one round pass; tells who was put to sleep in it.
    async fn next(&mut self) -> String {
        // Each call ends a little later after its round than the one before; far less than an interval in all.
        tokio::time::sleep(INTERVAL).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let log = self.yard.log();
        let new = log[self.seen..].join(", ");
        self.seen = log.len();
        new
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_left_alone_in_the_first_round_that_sees_it() {
    let mut rounds = Rounds::start(&[("web", "m1")]);
    assert_eq!(rounds.next().await, "");
    assert_eq!(rounds.next().await, "idle m1");
    assert_eq!(rounds.yard.state("m1"), "stopped");
    assert_eq!(rounds.next().await, "");
}

#[tokio::test(start_paused = true)]
async fn one_machine_per_app_and_region_goes_in_a_round() {
    let mut rounds = Rounds::start(&[("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1")])
        .change("a3", |target| target.region = "ams".into())
        .change("a2", |target| target.autostop = Autostop::Suspend);
    assert_eq!(rounds.next().await, "");
    assert_eq!(rounds.next().await, "idle a3, idle a1, idle b1");
    assert_eq!(rounds.next().await, "idle a2");
    assert_eq!(rounds.yard.state("a2"), "suspended");
}

#[tokio::test(start_paused = true)]
async fn as_many_as_wanted_stay_awake() {
    let mut rounds = Rounds::start(&[("a", "a1"), ("a", "a2"), ("a", "a3")])
        .change("a1", |target| target.min_machines_running = 2)
        .change("a2", |target| target.min_machines_running = 2)
        .change("a3", |target| target.min_machines_running = 2);
    rounds.next().await;
    assert_eq!(rounds.next().await, "idle a1");
    assert_eq!(rounds.next().await, "");
}

#[tokio::test(start_paused = true)]
async fn requests_keep_a_machine_awake_for_the_round_after_them() {
    let mut rounds = Rounds::start(&[("web", "m1")]);
    rounds.next().await;
    let busy = rounds.activity.enter("m1");
    assert_eq!(rounds.next().await, "");
    assert_eq!(rounds.next().await, "");
    drop(busy);
    assert_eq!(rounds.next().await, "");
    assert_eq!(rounds.next().await, "idle m1");
}

#[tokio::test(start_paused = true)]
async fn machines_out_of_the_proxys_hands_are_left_alone() {
    let mut rounds = Rounds::start(&[("a", "a1"), ("a", "a2"), ("b", "b1")])
        .change("a1", |target| target.cordoned = true)
        .change("a2", |target| target.autostop = Autostop::Off)
        .change("b1", |target| target.autostart = false);
    rounds.next().await;
    // As at Fly, autostop without autostart is a machine that nobody wakes.
    assert_eq!(rounds.next().await, "idle b1");
    assert_eq!(rounds.next().await, "");
}
