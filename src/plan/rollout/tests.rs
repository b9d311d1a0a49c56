//! What becomes of a change: who follows when, how many at a time, what stops it, and what is kept.

use serde_json::json;

use super::*;
use crate::api::{admit, kind::Kind};

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// A template of this image and update rule that has recorded revisions of `old` and, where it is another, of `image`.
fn template(image: &str, update: serde_json::Value) -> Template {
    let spec = |image: &str| json!({"machine": {"image": image}, "regions": ["ams"], "sleep": {"after": "15m"}, "update": update});
    let admitted = |image: &str| -> Template {
        let object = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Template",
            "metadata": {"name": "node", "namespace": "default", "generation": 1}, "spec": spec(image),
        });
        serde_json::from_value(admit::admit(Kind::Template, object, None).unwrap().object).unwrap()
    };
    let mut template = admitted("hangar.dev/old:1");
    template.status = run(&template, Vec::new()).status;
    template.spec = admitted(image).spec;
    template.status = run(&template, Vec::new()).status;
    template
}

fn run(template: &Template, fleet: Vec<FleetFact>) -> RolloutPlan {
    plan(&RolloutWorld { template: template.clone(), fleet, stock: BTreeSet::new() }, now())
}

fn new(update: serde_json::Value) -> Template {
    template("hangar.dev/new:1", update)
}

fn rolling(most: u32) -> Template {
    new(json!({"strategy": "Rolling", "maxUnavailable": most}))
}

/// An environment that has served at the first revision for long.
fn old(template: &Template, name: &str, phase: Phase) -> FleetFact {
    let kept_at = EnvironmentRevision {
        looked: true,
        ready_at: Some(now()),
        ..template.status.recorded(1).unwrap().into()
    };
    FleetFact {
        name: name.to_owned(),
        kept_at: Some(kept_at),
        phase,
        unmade: false,
        claims: false,
        waits: false,
        always_awake: false,
        follow: 0,
        trouble: None,
    }
}

/// An environment that was changed to the second revision.
fn changed(template: &Template, name: &str, phase: Phase, served: bool) -> FleetFact {
    let kept_at = EnvironmentRevision {
        from: Some(1),
        looked: true,
        at_once: phase != Phase::Asleep,
        ready_at: served.then(now),
        ..template.status.recorded(2).unwrap().into()
    };
    FleetFact { kept_at: Some(kept_at), ..old(template, name, phase) }
}

fn failing(template: &Template, name: &str) -> FleetFact {
    let trouble = Some("its check has not passed".to_owned());
    FleetFact { trouble, ..changed(template, name, Phase::Degraded, false) }
}

fn moves(plan: &RolloutPlan) -> Vec<String> {
    plan.moves.iter().map(|it| format!("{} {} {:?}", it.name, it.to.revision, it.why)).collect()
}

fn said(plan: &RolloutPlan) -> Vec<String> {
    let line = |it: &rollout::TemplateCondition| {
        format!("{:?} {:?} {:?}: {}", it.kind, it.status, it.reason, it.message)
    };
    plan.status.conditions.iter().map(line).collect()
}

#[test]
fn in_its_window_those_that_wait_for_their_sleep_are_changed_by_turns() {
    // It is 12:00.
    for (start, duration, expected, looks) in [
        ("11:30", "1h", vec!["a 2 Turn"], "12:30"),
        ("12:30", "1h", vec![], "12:30"),
        ("20:00", "16h", vec![], "20:00"),
        ("20:00", "16h 1m", vec!["a 2 Turn"], "12:01"),
    ] {
        let window = json!({"start": start, "duration": duration});
        let template = new(json!({"strategy": "WhenAsleep", "window": window}));
        let fleet = ["a", "b"].map(|it| old(&template, it, Phase::Ready)).to_vec();
        let plan = run(&template, fleet.clone());
        assert_eq!(moves(&plan), expected, "{start} {duration}");
        assert!(plan.wake_at.unwrap().to_string().contains(looks), "{:?}", plan.wake_at);
        let world = RolloutWorld { template, fleet, stock: BTreeSet::new() };
        let then = outlook(&world, now())["b"].to_string();
        let waits =
            format!("changed when it next sleeps, or by turns from {start} UTC for {duration}");
        let by_turns = "changed when its turn comes, 1 at a time";
        assert_eq!(then, if expected.is_empty() { &*waits } else { by_turns });
        let progress = said(&plan).into_iter().find(|it| it.starts_with("Progressing")).unwrap();
        assert_eq!(progress.contains("or by turns from"), expected.is_empty(), "{progress}");
    }
}

#[test]
fn what_makes_a_difference_to_a_machine_is_a_revision_and_the_rest_is_none() {
    let mut template = new(json!({"strategy": "Rolling"}));
    assert_eq!((template.status.revision, template.status.history.len()), (2, 2));
    assert!(!run(&template, Vec::new()).record);
    template.spec.sleep = None;
    template.spec.update = None;
    assert!(!run(&template, Vec::new()).record, "that is hangar's business");
    template.spec.machine.env.insert("A".to_owned(), "1".to_owned());
    let plan = run(&template, Vec::new());
    assert!(plan.record && plan.status.revision == 3, "{plan:?}");
}

#[test]
fn going_back_is_a_new_revision_that_environments_of_the_old_one_have_already() {
    let mut template = rolling(1);
    template.status.stopped =
        Some(Stopped { revision: 2, at: now(), message: "x".to_owned(), instead: Some(1) });
    template.spec.machine.image = "hangar.dev/old:1".to_owned();
    let fleet = vec![failing(&template, "a"), old(&template, "b", Phase::Ready)];
    let plan = run(&template, fleet);
    assert_eq!((plan.status.revision, plan.status.stopped.is_none()), (3, true));
    assert_eq!(moves(&plan), ["b 3 Same", "a 3 Turn"]);
    let kept = &plan.moves[0].to;
    assert!(kept.ready_at.is_some() && kept.from.is_none(), "nothing changes for it: {kept:?}");
}

#[test]
fn no_more_than_may_be_unavailable_are_changed_at_a_time() {
    for (most, total, expected) in [
        (json!(2), 9, 2),
        (json!("50%"), 9, 4),
        (json!("1%"), 9, 1),
        (serde_json::Value::Null, 25, 2),
        (serde_json::Value::Null, 3, 1),
    ] {
        let update = json!({"strategy": "Rolling", "maxUnavailable": most});
        let template = new(update);
        let names: Vec<_> = (0..total).map(|it| format!("e{it:02}")).collect();
        let fleet = names.iter().map(|it| old(&template, it, Phase::Ready)).collect();
        let plan = run(&template, fleet);
        assert_eq!(plan.moves.len(), expected, "{most} of {total}");
        assert!(plan.moves.iter().all(|it| it.to.at_once && it.to.from == Some(1)));
        assert_eq!(plan.status.progress.unwrap().unavailable as usize, expected);
    }
}

#[test]
fn what_does_not_serve_yet_takes_a_turn_and_what_sleeps_takes_none() {
    let template = rolling(2);
    let fleet = vec![
        changed(&template, "a", Phase::Starting, false),
        changed(&template, "b", Phase::Ready, true),
        changed(&template, "c", Phase::Asleep, false),
        old(&template, "d", Phase::Ready),
        old(&template, "e", Phase::Asleep),
        old(&template, "f", Phase::Degraded),
    ];
    let plan = run(&template, fleet);
    assert_eq!(moves(&plan), ["e 2 Asleep", "f 2 Turn"]);
    assert!(!plan.moves[0].to.at_once, "if it wakes before, it waits for a turn");
    assert_eq!(
        said(&plan)[0],
        "Complete False RollingOut: 5 of 6 environments have revision 2, 2 at a time; a does not serve yet"
    );
}

#[test]
fn one_that_woke_before_it_was_changed_in_its_sleep_waits_for_a_turn() {
    let woke = |template: &Template| {
        let mut fact = changed(template, "a", Phase::Ready, false);
        fact.waits = true;
        fact.kept_at.as_mut().unwrap().at_once = false;
        fact
    };
    let template = rolling(1);
    let busy = changed(&template, "b", Phase::Starting, false);
    assert!(run(&template, vec![woke(&template), busy]).moves.is_empty());
    let plan = run(&template, vec![woke(&template)]);
    assert_eq!(moves(&plan), ["a 2 Turn"]);
    assert_eq!(plan.moves[0].to.from, Some(1));
    let template = new(json!({"strategy": "WhenAsleep"}));
    assert!(run(&template, vec![woke(&template)]).moves.is_empty(), "it sleeps again");
}

#[test]
fn when_asleep_waits_for_those_that_will_sleep_and_takes_the_others_by_turns() {
    let template = new(json!({"strategy": "WhenAsleep", "maxUnavailable": 9}));
    let running = FleetFact { always_awake: true, ..old(&template, "running", Phase::Ready) };
    let fleet = vec![
        old(&template, "asleep", Phase::Asleep),
        old(&template, "broken", Phase::Degraded),
        running,
        old(&template, "serves", Phase::Ready),
        old(&template, "starts", Phase::Starting),
    ];
    let plan = run(&template, fleet);
    assert_eq!(moves(&plan), ["asleep 2 Asleep", "broken 2 Turn", "running 2 Turn"]);
    let plan = run(&template, vec![old(&template, "serves", Phase::Ready)]);
    assert_eq!(
        said(&plan)[1],
        "Progressing True WaitingForSleep: 0 of 1 environments have revision 2; the others follow when they sleep"
    );
    let mut sleepless = template.clone();
    sleepless.spec.sleep = None;
    let plan = run(&sleepless, vec![old(&sleepless, "serves", Phase::Ready)]);
    assert_eq!(moves(&plan), ["serves 2 Turn"]);
}

#[test]
fn paused_and_manual_move_nothing_before_a_person_says_so() {
    let check = |update: serde_json::Value, reason: &str| {
        let mut template = new(update);
        let fleet = vec![
            old(&template, "asleep", Phase::Asleep),
            FleetFact { follow: 2, ..old(&template, "told", Phase::Ready) },
            FleetFact { follow: 1, ..old(&template, "told-before", Phase::Ready) },
            old(&template, "z", Phase::Ready),
        ];
        let plan = run(&template, fleet.clone());
        assert_eq!(moves(&plan), ["told 2 Told"], "{reason}");
        assert!(said(&plan)[0].starts_with(&format!("Complete False {reason}: ")), "{plan:?}");
        template.metadata.annotations.insert(rollout::RESUMED.to_owned(), "1".to_owned());
        let plan = run(&template, fleet);
        template.status = plan.status.clone();
        (template, plan)
    };
    let (_, paused) = check(json!({"strategy": "Rolling", "paused": true}), "Paused");
    assert_eq!(moves(&paused), ["told 2 Told"], "the field says it");
    let manual = json!({"strategy": "Manual", "maxUnavailable": 2});
    let (mut template, resumed) = check(manual, "AwaitingOrder");
    assert_eq!(moves(&resumed), ["asleep 2 Asleep", "told 2 Told", "told-before 2 Turn"]);
    template.spec.machine.image = "hangar.dev/newer:1".to_owned();
    let fleet = vec![old(&template, "asleep", Phase::Asleep)];
    assert!(run(&template, fleet).moves.is_empty(), "each revision takes a word of its own");
}

#[test]
fn a_revision_that_fails_goes_no_further_and_a_newer_one_starts_afresh() {
    let mut template = rolling(5);
    let fleet = |template: &Template, failed: usize| {
        let mut fleet: Vec<_> =
            (0..failed).map(|it| failing(template, &format!("f{it}"))).collect();
        fleet.push(changed(template, "slept", Phase::Asleep, false));
        fleet.push(changed(template, "slept-and-served", Phase::Asleep, true));
        fleet.push(old(template, "x", Phase::Asleep));
        fleet.push(old(template, "y", Phase::Ready));
        fleet
    };
    let plan = run(&template, fleet(&template, 2));
    assert_eq!(moves(&plan), ["x 2 Asleep", "y 2 Turn"]);
    let plan = run(&template, fleet(&template, 3));
    assert_eq!(moves(&plan), ["slept 1 Back"], "what was not seen there is not left there");
    assert_eq!(plan.status.for_new().revision, 1);
    assert_eq!(
        said(&plan)[2],
        "Stalled True RevisionFailing: revision 2 fails: f0 and 2 more do not serve at it: its check has not passed"
    );
    template.status = plan.status;
    assert!(moves(&run(&template, fleet(&template, 0))).iter().all(|it| it.ends_with("Back")));
    let mut newer = template.clone();
    newer.spec.machine.image = "hangar.dev/newer:1".to_owned();
    let plan = run(&newer, fleet(&template, 3));
    assert!(plan.status.stopped.is_none());
    assert_eq!(plan.moves.len(), 3 + 4, "three sleep, and four have a turn");
    // A person's word: what failed before it counts no more, and takes no turns.
    template.metadata.annotations.insert(rollout::RESUMED.to_owned(), "1".to_owned());
    let plan = run(&template, fleet(&template, 3));
    assert_eq!(moves(&plan), ["x 2 Asleep", "y 2 Turn"]);
    template.status = plan.status;
    assert!(run(&template, fleet(&template, 3)).status.stopped.is_none());
    assert!(run(&template, fleet(&template, 6)).status.stopped.is_some(), "three others");
}

#[test]
fn it_is_foretold_when_each_environment_is_changed() {
    let fleet = |template: &Template| {
        let running = FleetFact { always_awake: true, ..old(template, "d", Phase::Ready) };
        let born = changed(template, "e", Phase::Ready, true);
        let names = [("a", Phase::Asleep), ("b", Phase::Ready), ("c", Phase::Ready)];
        let olds = names.into_iter().map(|(name, phase)| old(template, name, phase));
        olds.chain([running, born]).collect::<Vec<_>>()
    };
    for (update, expected) in [
        (
            json!({"strategy": "Rolling", "maxUnavailable": 1}),
            "Asleep Now(1) ByTurns(1) ByTurns(1) Same",
        ),
        (json!({"strategy": "WhenAsleep"}), "Asleep NextSleep(None) NextSleep(None) Now(1) Same"),
        (json!({"strategy": "Manual"}), "Order Order Order Order Same"),
        (json!({"strategy": "Rolling", "paused": true}), "Paused Paused Paused Paused Same"),
    ] {
        let template = new(update.clone());
        let fleet = fleet(&template);
        let found = outlook(&RolloutWorld { template, fleet, stock: BTreeSet::new() }, now());
        let found: Vec<_> = found.values().map(|it| format!("{it:?}")).collect();
        assert_eq!(found.join(" "), expected, "{update}");
    }
}

#[test]
fn a_small_fleet_is_stopped_by_the_first_that_fails() {
    let template = new(json!({"strategy": "Rolling"}));
    let fleet = vec![failing(&template, "a"), old(&template, "b", Phase::Ready)];
    let plan = run(&template, fleet);
    assert!(plan.status.is_stopped() && plan.moves.is_empty(), "{plan:?}");
}

#[test]
fn what_is_wrong_and_no_templates_fault_takes_a_turn_and_stops_nothing() {
    let template = rolling(1);
    let unlucky = changed(&template, "a", Phase::Degraded, false);
    let plan = run(&template, vec![unlucky, old(&template, "b", Phase::Ready)]);
    assert!(plan.moves.is_empty() && plan.status.stopped.is_none(), "{plan:?}");
}

#[test]
fn what_has_no_machine_yet_follows_without_a_turn_and_holds_nobody_up() {
    let template = rolling(1);
    let unmade = |fact: FleetFact| FleetFact { unmade: true, phase: Phase::Degraded, ..fact };
    let fleet = |unmade| vec![unmade, old(&template, "b", Phase::Ready)];
    let plan = run(&template, fleet(unmade(old(&template, "a", Phase::Pending))));
    assert_eq!(moves(&plan), ["a 2 Unmade", "b 2 Turn"]);
    let moved = unmade(changed(&template, "a", Phase::Pending, false));
    assert_eq!(moves(&run(&template, fleet(moved.clone()))), ["b 2 Turn"]);
    let served = changed(&template, "b", Phase::Ready, true);
    let plan = run(&template, vec![moved.clone(), served]);
    assert!(said(&plan)[0].starts_with("Complete True"), "{:?}", said(&plan));
    // What fails is no better for one that is to be made.
    let fleet = vec![moved, failing(&template, "b"), old(&template, "c", Phase::Ready)];
    assert_eq!(moves(&run(&template, fleet)), ["a 1 Back"]);
}

#[test]
fn what_is_getting_a_bay_takes_no_turn_before_it_serves() {
    let template = rolling(1);
    let claims = FleetFact { claims: true, ..old(&template, "a", Phase::Starting) };
    let plan = run(&template, vec![claims, old(&template, "b", Phase::Ready)]);
    assert_eq!(moves(&plan), ["b 2 Turn"]);
}

#[test]
fn what_was_made_from_the_newest_revision_is_no_part_of_a_rollout() {
    let template = rolling(1);
    let mut born = failing(&template, "a");
    born.kept_at.as_mut().unwrap().from = None;
    let plan = run(&template, vec![born]);
    assert_eq!((plan.status.stopped, plan.status.progress), (None, None));
}

#[test]
fn it_is_complete_when_all_that_was_changed_serves_or_sleeps() {
    let template = rolling(1);
    let asleep = changed(&template, "a", Phase::Asleep, false);
    let served = changed(&template, "b", Phase::Ready, true);
    let plan = run(&template, vec![asleep.clone(), served]);
    assert_eq!(
        said(&plan),
        [
            "Complete True AsDeclared: every environment has revision 2",
            "Progressing False AsDeclared: every environment has revision 2",
            "Stalled False AsDeclared: ",
        ]
    );
    let starts = changed(&template, "b", Phase::Starting, false);
    assert!(said(&run(&template, vec![asleep, starts]))[0].starts_with("Complete False"));
}

#[test]
fn old_revisions_are_forgotten_but_those_that_something_is_made_from() {
    let mut template = rolling(1);
    let first = old(&template, "a", Phase::Ready);
    let mut forgotten = Vec::new();
    for number in 0..20 {
        template.spec.machine.image = format!("hangar.dev/new:{number}");
        let mut world = RolloutWorld {
            template: template.clone(),
            fleet: vec![FleetFact { phase: Phase::Ready, ..first.clone() }],
            stock: BTreeSet::from([4]),
        };
        world.template.spec.update =
            Some(Update { paused: true, ..Update::by(UpdateStrategy::Rolling) });
        let plan = plan(&world, now());
        forgotten.extend(plan.forget);
        template.status = plan.status;
    }
    let kept: Vec<_> = template.status.history.iter().map(|it| it.revision).collect();
    assert_eq!(kept, [1, 4].into_iter().chain(13..=22).collect::<Vec<_>>());
    assert!(!forgotten.contains(&1) && !forgotten.contains(&4), "{forgotten:?}");
}

#[test]
fn what_is_hangars_to_keep_is_as_it_is_now_whatever_the_revision() {
    let template = rolling(1);
    let mut then = template.spec.clone();
    then.sleep = None;
    then.machine.image = "hangar.dev/old:1".to_owned();
    let at = at_revision(template.clone(), &then);
    assert_eq!(at.spec.machine, then.machine);
    assert_eq!((&at.spec.sleep, &at.spec.update), (&template.spec.sleep, &template.spec.update));
    // Fly Proxy's part of the sleep rule is in the machine.
    let mut proxied = template;
    proxied.spec.sleep.as_mut().unwrap().decided_by =
        Some(crate::api::template::SleepDecider::FlyProxy);
    assert_eq!(at_revision(proxied, &then).spec.sleep, None);
}
