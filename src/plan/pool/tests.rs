//! What pools do: kept full, rolled without being emptied, careful with what fails and with what is bound.

use expect_test::expect;
use jiff::ToSpan as _;

use super::*;
use crate::api::{admit, bay::Trouble, environment::Reason, kind::Kind};

const NOW: &str = "2026-01-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn ago(minutes: i64) -> Timestamp {
    now() - minutes.minutes()
}

/// A pool with these fields of a specification, of a template that can be personalised.
fn world(spec: serde_json::Value, bays: Vec<StockFact>) -> PoolWorld {
    let object = |kind: Kind, spec: serde_json::Value| {
        let object = serde_json::json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": kind.info().kind_name,
            "metadata": {"name": "node", "namespace": "default"}, "spec": spec,
        });
        admit::admit(kind, object, None).unwrap().object
    };
    let mut pool = serde_json::json!({"templateRef": {"name": "node"}});
    pool.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let template = serde_json::json!({
        "machine": {"image": "hangar.dev/sample-app:1"}, "regions": ["ams", "fra"],
        "personalize": {"file": "/env.json"},
    });
    let mut pool: WarmPool = serde_json::from_value(object(Kind::WarmPool, pool)).unwrap();
    pool.metadata.uid = "p".to_owned();
    let template = serde_json::from_value(object(Kind::Template, template)).unwrap();
    PoolWorld { pool, template: Some(template), bays, no_creating: None, room: None }
}

fn fresh() -> String {
    let world = world(serde_json::json!({"replicas": 1}), Vec::new());
    made_from(&world.template.unwrap().spec)
}

fn coming(name: &str) -> StockFact {
    StockFact {
        name: name.to_owned(),
        pool_uid: "p".to_owned(),
        wanted_region: None,
        region: None,
        made_from: fresh(),
        revision: None,
        made_at: ago(5),
        available_since: None,
        trouble: None,
        going: false,
        doubtful: false,
        claimed_at: None,
        missed: false,
    }
}

fn ready(name: &str, minutes: i64) -> StockFact {
    StockFact { made_at: ago(minutes), available_since: Some(ago(minutes)), ..coming(name) }
}

impl StockFact {
    fn available(self) -> Self {
        Self { available_since: Some(ago(1)), ..self }
    }
}

fn outdated(name: &str, minutes: i64) -> StockFact {
    StockFact { made_from: "old".to_owned(), ..ready(name, minutes) }
}

fn failed(name: &str) -> StockFact {
    let (reason, message) = (Reason::MachineFailed, "it does not start".to_owned());
    StockFact { trouble: Some(Trouble { reason, message, since: ago(2) }), ..coming(name) }
}

/// What is done, and what is said of it.
#[track_caller]
fn check(world: &PoolWorld, expected: &expect_test::Expect) {
    let plan = plan(world, now());
    let retire = [&*plan.failed, &*plan.retire].concat();
    let mut text = format!("make {:?}, retire {:?}\n", plan.make, retire);
    for it in &plan.status.conditions {
        let line = format!("{:?} {:?} {:?}: {}\n", it.kind, it.status, it.reason, it.message);
        text.push_str(&line);
    }
    expected.assert_eq(&text);
}

#[test]
fn an_empty_pool_is_filled_a_few_bays_at_a_time() {
    let spec = serde_json::json!({"replicas": {"ams": 3, "fra": 2}, "maxInFlight": 3});
    let mut fra = coming("a");
    fra.wanted_region = Some("fra".to_owned());
    check(
        &world(spec, vec![fra]),
        &expect![[r#"
        make [Some("ams"), Some("ams")], retire []
        Full False Refilling: 0 of 5 are ready, 1 on their way; more are begun
        Available False Empty: none is ready: an environment that is made now gets a bay of its own making
        Stalled False AsDeclared: 
    "#]],
    );
}

#[test]
fn what_is_claimed_is_made_again_and_counted() {
    let spec = serde_json::json!({"replicas": 2, "refill": {"maxPerMinute": 1}});
    let mut claimed = ready("a", 30);
    claimed.claimed_at = Some(ago(1));
    let missed = StockFact { missed: true, made_at: ago(10), ..coming("m") };
    let world = world(spec, vec![claimed, ready("b", 5), missed]);
    check(
        &world,
        &expect![[r#"
        make [None], retire []
        Full False Refilling: 1 of 2 are ready, 0 on their way; more are begun
        Available True AsDeclared: 1 of 2 are ready, 0 on their way
        Stalled False AsDeclared: 
    "#]],
    );
    let status = plan(&world, now()).status;
    let counted = (status.claimed_last_hour, status.missed_last_hour, status.hit_rate_percent);
    assert_eq!(counted, (1, 1, Some(50)));
}

#[test]
fn new_bays_are_ready_before_old_ones_go() {
    let spec = || serde_json::json!({"replicas": 2, "maxInFlight": 1});
    let old = || vec![outdated("a", 60), outdated("b", 50)];
    check(
        &world(spec(), old()),
        &expect![[r#"
        make [None], retire []
        Full False RollingOut: 2 of 2 are ready, 0 on their way; 2 of the ready are to be replaced
        Available True AsDeclared: 2 of 2 are ready, 0 on their way
        Stalled False AsDeclared: 
    "#]],
    );
    let half = [old(), vec![ready("c", 1)]].concat();
    check(
        &world(spec(), half),
        &expect![[r#"
        make [None], retire ["a"]
        Full False RollingOut: 3 of 2 are ready, 0 on their way; 2 of the ready are to be replaced
        Available True AsDeclared: 3 of 2 are ready, 0 on their way
        Stalled False AsDeclared: 
    "#]],
    );
    // One on its way from the old template is nothing to wait for.
    let never = StockFact { made_from: "old".to_owned(), ..coming("d") };
    let plan = plan(&world(spec(), [old(), vec![never]].concat()), now());
    assert_eq!(plan.retire, ["d"]);
}

/// Rolls a pool of old bays to the template as it is, one new bay getting ready at a time, under a quota of so many bays if there
/// is one; the fewest that could be had, and the most that there were.
fn roll(spec: serde_json::Value, old: usize, quota: Option<usize>) -> (usize, usize) {
    let bays = (0..old).map(|it| outdated(&format!("old-{it}"), 60)).collect();
    let mut world = world(spec, bays);
    let (mut fewest, mut most) = (old, old);
    for pass in 0..100 {
        let left = quota.map(|it| it.saturating_sub(world.bays.len()));
        world.room = left.map(|left| Room { left, why: "exceeded quota: small".to_owned() });
        let planned = plan(&world, now());
        if planned.make.is_empty() && planned.retire.is_empty() {
            let waits = world.bays.iter_mut().find(|it| it.available_since.is_none());
            let Some(next) = waits else { break };
            next.available_since = Some(now());
        }
        let made = (0..planned.make.len()).map(|it| coming(&format!("new-{pass}-{it}")));
        world.bays.extend(made);
        world.bays.retain(|it| !planned.retire.contains(&it.name));
        most = most.max(world.bays.len());
        world.pool.status = planned.status;
        fewest = fewest.min(world.bays.iter().filter(|it| it.available_since.is_some()).count());
    }
    assert!(world.bays.iter().all(|it| it.made_from == fresh()), "{:?}", world.bays);
    (fewest, most)
}

#[test]
fn a_roll_never_has_fewer_ready_than_are_wanted_unless_some_may_be_missing() {
    let roll_of = |more: serde_json::Value| {
        let mut spec = serde_json::json!({"replicas": 10, "maxInFlight": 3});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        roll(spec, 10, None)
    };
    assert_eq!(roll_of(serde_json::json!({})), (10, 13));
    assert_eq!(roll_of(serde_json::json!({"maxUnavailable": 0})), (10, 13));
    assert_eq!(roll_of(serde_json::json!({"maxUnavailable": "9%"})), (10, 13), "rounded down");
    assert_eq!(roll_of(serde_json::json!({"maxUnavailable": 2})).0, 8);
    assert_eq!(roll_of(serde_json::json!({"maxUnavailable": "20%"})).0, 8);
    assert_eq!(roll_of(serde_json::json!({"maxUnavailable": "100%"})).0, 7, "as many as are made");
}

#[test]
fn a_pool_rolls_under_a_quota_that_leaves_no_room_for_one_more() {
    let spec = serde_json::json!({"replicas": {"ams": 2, "fra": 1}, "maxUnavailable": 1});
    let of = |name: &str, region: &str| StockFact {
        wanted_region: Some(region.to_owned()),
        ..outdated(name, 60)
    };
    let full = || vec![of("a", "ams"), of("b", "ams"), of("c", "fra")];
    let room = |left| Some(Room { left, why: "exceeded quota: small".to_owned() });
    let first = plan(&PoolWorld { room: room(0), ..world(spec.clone(), full()) }, now());
    assert_eq!((first.make, first.retire), (vec![], vec!["a".to_owned()]), "of all regions one");
    let mut less = full();
    less.remove(0);
    let then = plan(&PoolWorld { room: room(1), ..world(spec, less) }, now());
    assert_eq!((then.make, then.retire), (vec![Some("ams".to_owned())], vec![]));
    let anywhere = serde_json::json!({"replicas": 3, "maxUnavailable": 1});
    assert_eq!(roll(anywhere, 3, Some(3)), (2, 3));
}

/// A template that no environment can claim a bay of.
fn make_unfit(world: &mut PoolWorld) {
    let sleep = serde_json::json!({"after": "1h", "decidedBy": "FlyProxy"});
    world.template.as_mut().unwrap().spec.sleep = serde_json::from_value(sleep).unwrap();
}

#[test]
fn no_old_bay_goes_ahead_of_one_that_would_not_be_made() {
    let spec = serde_json::json!({"replicas": 3, "maxUnavailable": 2});
    let old = || vec![outdated("a", 60), outdated("b", 50), outdated("c", 40)];
    let retired = |world: &PoolWorld| {
        let plan = plan(world, now());
        [plan.failed, plan.retire].concat()
    };
    assert_eq!(retired(&world(spec.clone(), old())), ["a", "b"]);
    let one_claimed = old().split_off(1);
    assert_eq!(retired(&world(spec.clone(), one_claimed)), ["b"], "claims count as well");
    let held = Some("a person must say so".to_owned());
    assert!(retired(&PoolWorld { no_creating: held, ..world(spec.clone(), old()) }).is_empty());
    let mut unfit = world(spec.clone(), old());
    make_unfit(&mut unfit);
    assert!(retired(&unfit).is_empty());
    let fails = world(spec, [old(), vec![failed("d")]].concat());
    assert_eq!(retired(&fails), ["d"], "it pauses");
    // What a change of nothing but the number takes away is none of this.
    let fewer = world(serde_json::json!({"replicas": 3, "maxUnavailable": 3}), Vec::new());
    let bays = ["x", "y", "z"].map(|it| ready(it, 5)).to_vec();
    assert!(retired(&PoolWorld { bays, ..fewer }).is_empty(), "nothing is replaced");
}

#[test]
fn what_is_too_many_goes_and_what_can_be_had_goes_last() {
    let spec = serde_json::json!({"replicas": 1});
    check(
        &world(spec, vec![ready("a", 60), ready("b", 5), coming("c")]),
        &expect![[r#"
        make [], retire ["c", "a"]
        Full False Refilling: 2 of 1 are ready, 1 on their way
        Available True AsDeclared: 2 of 1 are ready, 1 on their way
        Stalled False AsDeclared: 
    "#]],
    );
}

/// What becomes of a pool that asks for this and has these, by name and region.
fn asked(replicas: serde_json::Value, had: &[(&str, &str, bool)]) -> (usize, Vec<String>) {
    let bay = |(at, (name, region, by_region)): (usize, &(&str, &str, bool))| StockFact {
        region: Some((*region).to_owned()),
        wanted_region: by_region.then(|| (*region).to_owned()),
        ..ready(name, 60 - i64::try_from(at).unwrap())
    };
    let bays = had.iter().enumerate().map(bay).collect();
    let plan = plan(&world(serde_json::json!({"replicas": replicas}), bays), now());
    (plan.make.len(), plan.retire)
}

#[test]
fn what_can_be_had_stays_until_each_region_has_what_is_now_asked_of_it() {
    let ams = [("a", "ams", false), ("b", "ams", false)];
    let named = [("a", "ams", true), ("b", "ams", true)];
    let none = Vec::<String>::new;
    // The same, said in other words.
    assert_eq!(asked(serde_json::json!({"ams": 2}), &ams), (0, none()));
    assert_eq!(asked(serde_json::json!(2), &named), (0, none()));
    // One of them stands in for the one that is made, and then goes.
    for had in [ams, named] {
        let both = serde_json::json!({"ams": 1, "fra": 1});
        assert_eq!(asked(both.clone(), &had), (1, none()));
        let made = [had[0], had[1], ("c", "fra", true)];
        assert_eq!(asked(both, &made), (0, vec!["a".to_owned()]));
        // Another region altogether.
        let other = serde_json::json!({"fra": 2});
        assert_eq!(asked(other.clone(), &had), (2, none()));
        assert_eq!(asked(other.clone(), &made), (1, vec!["a".to_owned()]));
        let all = [made.as_slice(), &[("d", "fra", true)]].concat();
        assert_eq!(asked(other, &all), (0, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(asked(serde_json::json!({"fra": 0}), &had).1.len(), 2, "nobody needs them");
    }
}

#[test]
fn bays_that_failed_and_cannot_be_removed_do_not_become_more_and_more() {
    let gone = |name| StockFact { going: true, ..failed(name) };
    let spec = serde_json::json!({"replicas": 3, "maxInFlight": 3});
    let plan_of = |bays| plan(&world(spec.clone(), bays), now());
    let two = plan_of(vec![gone("a"), gone("b")]);
    assert_eq!((two.make.len(), two.status.failed), (1, 2));
    let three = plan_of(vec![gone("a"), gone("b"), gone("c")]);
    assert_eq!((three.make.len(), three.status.failed), (0, 3));
}

#[test]
fn a_bay_of_a_certain_age_is_replaced_by_a_new_one() {
    let spec = serde_json::json!({"replicas": 1, "maxAge": "1h"});
    let plan_of = |bays| plan(&world(spec.clone(), bays), now());
    let young = plan_of(vec![ready("a", 59)]);
    assert_eq!((young.make.len(), young.wake_at), (0, Some(ago(59) + 60.minutes())));
    let old = plan_of(vec![ready("a", 60)]);
    assert_eq!((old.make.len(), old.retire.len()), (1, 0));
    let both = plan_of(vec![ready("a", 60), ready("b", 1)]);
    assert_eq!((both.make.len(), both.retire), (0, vec!["a".to_owned()]));
}

#[test]
fn a_bay_that_is_removed_is_said_to_be_old_or_of_another_revision_or_too_many() {
    let spec = serde_json::json!({"replicas": 1, "maxAge": "1h"});
    let world = world(spec, Vec::new());
    let why = |bay| why_removed(&world, &bay, now());
    assert_eq!(why(outdated("a", 70)), "its template has another revision now");
    assert_eq!(why(ready("a", 60)), "it is older than the pool's `maxAge`");
    assert_eq!(why(ready("a", 59)), "there are more than are wanted");
}

#[test]
fn bays_that_fail_are_removed_and_the_pool_pauses_longer_each_time() {
    let spec = serde_json::json!({"replicas": 2});
    let mut world = world(spec, vec![failed("a"), ready("b", 30)]);
    check(
        &world,
        &expect![[r#"
            make [], retire ["a"]
            Full False Paused: a bay failed (1 in a row); the next is begun at 2026-01-01T12:00:10Z: it does not start
            Available True AsDeclared: 1 of 2 are ready, 0 on their way, 1 failed and are being removed
            Stalled False AsDeclared: 
        "#]],
    );
    let (mut pauses, mut stalled) = (Vec::new(), Vec::new());
    for _ in 0..9 {
        let planned = plan(&world, now());
        stalled.push(condition::holds(&planned.status.conditions, PoolConditionType::Stalled));
        pauses.push(planned.status.failures.as_ref().unwrap().paused_until.as_second());
        world.pool.status = planned.status;
    }
    let pauses: Vec<_> = pauses.iter().map(|it| it - now().as_second()).collect();
    assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 640, 640]);
    assert_eq!(stalled, [false, false, true, true, true, true, true, true, true]);
    world.bays = vec![StockFact { available_since: Some(now() + 1.seconds()), ..coming("c") }];
    assert_eq!(plan(&world, now() + 2.seconds()).status.failures, None, "one got ready since");
}

#[test]
fn bays_of_another_template_say_nothing_of_this_one() {
    let mut world = world(serde_json::json!({"replicas": 1}), vec![failed("a")]);
    world.pool.status = plan(&world, now()).status;
    world.bays = Vec::new();
    assert_eq!(plan(&world, now()).make.len(), 0, "it pauses");
    world.template.as_mut().unwrap().spec.machine.image = "i:2".to_owned();
    world.bays = vec![failed("b")];
    let mended = plan(&world, now());
    assert_eq!((mended.make.len(), mended.failed.len()), (1, 1));
    assert_eq!(mended.status.failures, None);
}

#[test]
fn a_region_without_room_takes_no_other_regions_places() {
    let (reason, message) = (Reason::NoCapacity, "no room".to_owned());
    let trouble = Some(Trouble { reason, message, since: ago(60) });
    let waits = |name: &str, region: &str, trouble| StockFact {
        wanted_region: Some(region.to_owned()),
        trouble,
        ..coming(name)
    };
    let spec = serde_json::json!({"replicas": {"ams": 10, "fra": 4}, "maxInFlight": 3});
    let make = |bays| plan(&world(spec.clone(), bays), now()).make;
    let fra = Some("fra".to_owned());
    let full = || ["a", "b", "c"].map(|name| waits(name, "ams", trouble.clone())).to_vec();
    assert_eq!(make(full()), vec![fra.clone(); 3]);
    assert_eq!(make([full(), vec![waits("d", "fra", None)]].concat()), vec![fra; 2]);
    // One on a host that is full says little of its region.
    let others = (0..4).map(|it| waits(&format!("f{it}"), "fra", None).available());
    let bays = full().into_iter().take(1).chain(others).collect();
    assert_eq!(make(bays), vec![Some("ams".to_owned()); 3]);
}

#[test]
fn a_clock_that_was_set_back_stops_no_refill() {
    let spec = serde_json::json!({"replicas": 2, "refill": {"maxPerMinute": 1}});
    let before = StockFact { made_at: ago(-60), available_since: Some(ago(-60)), ..coming("a") };
    let mut world = world(spec, vec![before]);
    world.pool.status.failures = Some(PoolFailures {
        count: 3,
        made_from: fresh(),
        message: "x".to_owned(),
        failed_at: ago(-60),
        paused_until: ago(-70),
    });
    assert_eq!(plan(&world, now()).make.len(), 1);
}

#[test]
fn a_bay_that_fly_refuses_to_make_says_so_and_is_not_given_up() {
    let (reason, message) = (Reason::CallFailed, "create-machine: no such image".to_owned());
    let trouble = Some(Trouble { reason, message, since: ago(60) });
    let refused = StockFact { trouble, ..coming("a") };
    check(
        &world(serde_json::json!({"replicas": 1}), vec![refused]),
        &expect![[r#"
            make [], retire []
            Full False Refilling: 0 of 1 are ready, 1 on their way (1 of them held up: create-machine: no such image)
            Available False Empty: none is ready: an environment that is made now gets a bay of its own making
            Stalled False AsDeclared: 
        "#]],
    );
}

#[test]
fn a_bay_on_its_way_says_what_is_wrong_with_it_before_it_is_given_up() {
    let mut young = failed("a");
    young.trouble.as_mut().unwrap().since = ago(0);
    check(
        &world(serde_json::json!({"replicas": 1}), vec![young]),
        &expect![[r#"
            make [], retire []
            Full False Refilling: 0 of 1 are ready, 1 on their way (1 of them with a fault: it does not start)
            Available False Empty: none is ready: an environment that is made now gets a bay of its own making
            Stalled False AsDeclared: 
        "#]],
    );
}

#[test]
fn a_template_that_cannot_be_claimed_stops_the_pool_and_says_why() {
    let mut world = world(serde_json::json!({"replicas": 1}), vec![outdated("a", 5)]);
    make_unfit(&mut world);
    check(
        &world,
        &expect![[r#"
        make [], retire []
        Full False TemplateUnfit: template node has `sleep.decidedBy: FlyProxy`, which would take an update, and so a restart, at each claim
        Available True AsDeclared: 1 of 1 are ready, 0 on their way
        Stalled True TemplateUnfit: template node has `sleep.decidedBy: FlyProxy`, which would take an update, and so a restart, at each claim
    "#]],
    );
}

#[test]
fn bound_bays_and_those_of_others_are_never_let_go() {
    let mut bound = outdated("a", 600);
    bound.claimed_at = Some(ago(1));
    let other = StockFact { pool_uid: "q".to_owned(), ..outdated("b", 600) };
    // It may have been claimed after the export that the store was made from.
    let doubtful = StockFact { doubtful: true, ..failed("c") };
    let bays = vec![bound, other, doubtful];
    let plan = plan(&world(serde_json::json!({"replicas": 0}), bays), now());
    assert_eq!((plan.retire, plan.status.doubtful), (Vec::<String>::new(), 1));
}

#[test]
fn no_more_bays_are_begun_than_a_quota_leaves() {
    let spec = serde_json::json!({"replicas": 4});
    let with_room = |left, bays| {
        let why = "exceeded quota: small".to_owned();
        PoolWorld { room: Some(Room { left, why }), ..world(spec.clone(), bays) }
    };
    assert_eq!(plan(&with_room(1, vec![ready("a", 5)]), now()).make.len(), 1);
    let full = with_room(0, vec![ready("a", 5), coming("b")]);
    check(
        &full,
        &expect![[r#"
        make [], retire []
        Full False QuotaExceeded: no bay is begun: exceeded quota: small
        Available True AsDeclared: 1 of 4 are ready, 1 on their way
        Stalled False AsDeclared: 
    "#]],
    );
    assert_eq!(plan(&full, now()).wake_at, Some(now() + 10.seconds()));
    let all = with_room(0, ["a", "b", "c", "d"].map(|it| ready(it, 5)).to_vec());
    assert_eq!(plan(&all, now()).wake_at, None, "nothing is waited for");
}

#[test]
fn a_pool_that_follows_its_claims_wants_what_they_need_and_says_why() {
    let spec = serde_json::json!({"replicas": 1, "autoscale": {"min": 1, "max": 3}});
    let claimed = |name: &str| StockFact { claimed_at: Some(ago(1)), ..ready(name, 30) };
    let mut got_ready = ready("e", 10);
    got_ready.available_since = Some(ago(9));
    let bays = ["a", "b", "c", "d"].map(claimed).into_iter().chain([got_ready]).collect();
    let mut world = world(spec, bays);
    check(
        &world,
        &expect![[r#"
        make [None, None], retire []
        Full False Refilling: 1 of 3 are ready, 0 on their way; more are begun
        Available True AsDeclared: 1 of 3 are ready, 0 on their way
        Stalled False AsDeclared: 
        ScalingLimited True TooManyReplicas: 4 claims in 15m, 0 missed; a bay is ready after 60 s: 4 would have served 95 % of them, and 3 is the most
    "#]],
    );
    world.pool.status = plan(&world, now()).status;
    world.pool.spec.autoscale = None;
    let plan = plan(&world, now());
    assert_eq!((plan.status.desired_replicas, plan.status.autoscale), (1, None));
    assert_eq!(plan.status.conditions.len(), 3);
}
