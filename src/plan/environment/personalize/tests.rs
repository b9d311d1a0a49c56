//! When the file of a claimed machine is written again, and what goes before that.

use super::*;
use crate::api::{
    Timestamp,
    bay::Stock,
    condition,
    environment::{ConditionType, Phase},
    rollout::{EnvironmentRevision, RevisionRef},
};
use crate::plan::{
    Plan,
    action::{self, Outcome},
    plan,
    stock::made_from,
    tests::serving,
    world::{CheckState, SecretFact, SeenMachine},
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A claimed environment whose file was written.
fn claimed(mode: &str, volume: bool) -> World {
    let mut world = serving(mode, volume);
    let template = world.template.as_mut().unwrap();
    template.spec.personalize =
        Some(serde_json::from_value(serde_json::json!({"file": "/data/hangar/env.json"})).unwrap());
    let made_from = template.spec.clone();
    let bay = world.bay.as_mut().unwrap();
    bay.spec.stock = Some(Box::new(Stock {
        pool: "p".to_owned(),
        pool_uid: "p1".to_owned(),
        template: "t".to_owned(),
        made_from,
        region: None,
    }));
    bay.spec.claimed_at = Some(at(1));
    bay.status.machine.as_mut().unwrap().as_stock = true;
    world.environment.spec.env.insert("MINE".to_owned(), "1".to_owned());
    keep_at(&mut world, 1);
    world.bay.as_mut().unwrap().status.template = world.revision.as_ref().map(|it| it.to_ref());
    written(&mut world, 1, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(2)).action, None);
    world
}

/// From now on it is kept at what the template says now.
fn keep_at(world: &mut World, revision: u64) {
    let hash = made_from(&world.template.as_ref().unwrap().spec);
    let kept = EnvironmentRevision::from(RevisionRef { revision, hash });
    world.revision = Some(EnvironmentRevision { at_once: true, looked: true, ..kept });
}

fn pass(world: &mut World, now: Timestamp) -> Plan {
    let plan = plan(world, now);
    world.environment.status = plan.status.clone();
    world.bay.as_mut().unwrap().status = plan.bay.clone().unwrap();
    plan
}

/// A pass that writes the file, and how that ends.
#[track_caller]
fn written(world: &mut World, second: i64, outcome: &Outcome) {
    let plan = pass(world, at(second));
    let Some(action @ Action::Personalize { .. }) = plan.action else { panic!("{plan:?}") };
    action::record(&mut world.bay.as_mut().unwrap().status, &action, outcome, at(second));
}

fn machine(world: &mut World) -> &mut SeenMachine {
    match &mut world.seen.machine {
        Sight::Present(machine) => machine,
        other => panic!("{other:?}"),
    }
}

/// A pass that changes the machine, which is started anew with that.
#[track_caller]
fn changed(world: &mut World, second: i64) {
    let plan = pass(world, at(second));
    let Some(action @ Action::UpdateMachine { .. }) = plan.action else { panic!("{plan:?}") };
    let Action::UpdateMachine { spec, .. } = &action else { return };
    let machine = machine(world);
    (machine.config, machine.version) = (Some(spec.as_ref().clone()), "v2".to_owned());
    let (id, version, region, state) = (machine.id.clone(), "v2", String::new(), "started");
    let (version, state) = (version.to_owned(), state.to_owned());
    let outcome = Outcome::Machine { id, version, region, state };
    action::record(&mut world.bay.as_mut().unwrap().status, &action, &outcome, at(second));
}

fn not_taken_over() -> Outcome {
    Outcome::NotTakenOver { code: 127, said: Some("reload-v1: not found".to_owned()) }
}

#[test]
fn variables_of_another_revision_are_written_once_the_machine_has_it() {
    let mut world = claimed("Running", true);
    let spec = &mut world.template.as_mut().unwrap().spec;
    spec.machine.env.insert("MODE".to_owned(), "v2".to_owned());
    keep_at(&mut world, 2);
    changed(&mut world, 3);
    written(&mut world, 4, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(5)).action, None);
    assert_eq!(world.environment.status.phase, Phase::Ready);
}

#[test]
fn it_serves_by_the_older_file_while_a_change_is_written() {
    let mut world = claimed("Running", true);
    let ready = |world: &World| {
        condition::get(&world.environment.status.conditions, ConditionType::Ready).cloned().unwrap()
    };
    let since = ready(&world).last_transition_time;
    world.environment.spec.env.insert("MINE".to_owned(), "2".to_owned());
    world.environment.metadata.generation = 2;
    let plan = pass(&mut world, at(3));
    let is = ready(&world);
    assert_eq!((is.last_transition_time, is.observed_generation), (since, 1));
    assert!(!condition::holds(&plan.status.conditions, ConditionType::Updated));
    written(&mut world, 4, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(5)).action, None);
    let is = ready(&world);
    assert_eq!((is.last_transition_time, is.observed_generation), (since, 2));
}

#[test]
fn a_change_that_cannot_be_written_keeps_it_from_no_update_and_from_no_sleep() {
    let mut world = claimed("Auto", true);
    world.environment.spec.env.insert("MINE".to_owned(), "2".to_owned());
    let mut second = 3;
    for pause in [1, 2, 4] {
        written(&mut world, second, &not_taken_over());
        let plan = pass(&mut world, at(second));
        assert_eq!((plan.action, plan.wake_at), (None, Some(at(second + pause))));
        assert_eq!(world.environment.status.phase, Phase::Degraded);
        second += pause;
    }
    let degraded =
        condition::get(&world.environment.status.conditions, ConditionType::Degraded).unwrap();
    assert_eq!(degraded.reason, Reason::PersonalizeFailed);
    assert!(degraded.message.contains("reload-v1: not found"), "{}", degraded.message);

    let mut idle = world.clone();
    let plan = pass(&mut idle, at(3600));
    assert!(matches!(plan.action, Some(Action::CountConnections { .. })), "{:?}", plan.action);
    idle.connections = Some((at(3600), 0));
    let plan = pass(&mut idle, at(3600));
    assert!(matches!(plan.action, Some(Action::SleepMachine { .. })), "{:?}", plan.action);

    let spec = &mut world.template.as_mut().unwrap().spec;
    spec.machine.image = "i:2".to_owned();
    spec.personalize.as_mut().unwrap().file = "/data/env.json".to_owned();
    keep_at(&mut world, 2);
    world.revision.as_mut().unwrap().looked = false;
    changed(&mut world, second);
    world.revision.as_mut().unwrap().looked = true;
    let plan = pass(&mut world, at(second));
    let Some(Action::Personalize { file, .. }) = plan.action else { panic!("{plan:?}") };
    assert_eq!(file.rule.file, "/data/env.json", "as the revision that it has says");
}

#[test]
fn what_cannot_be_written_is_tried_again_though_the_program_does_not_serve() {
    let mut world = claimed("Running", true);
    world.environment.spec.env.insert("MINE".to_owned(), "bad".to_owned());
    written(&mut world, 3, &not_taken_over());
    machine(&mut world).check = CheckState::Crashing(2);
    world.environment.spec.env.insert("MINE".to_owned(), "good".to_owned());
    for second in [4, 60] {
        let plan = pass(&mut world, at(second));
        assert!(matches!(plan.action, Some(Action::Personalize { .. })), "{:?}", plan.action);
        let conditions = &world.environment.status.conditions;
        assert!(!condition::holds(conditions, ConditionType::Updated));
        assert!(!condition::holds(conditions, ConditionType::Ready));
    }
}

#[test]
fn whether_it_serves_is_looked_at_though_a_change_cannot_be_written() {
    let mut world = claimed("Running", true);
    let readiness = serde_json::json!({"exec": {"command": ["true"]}});
    let template = world.template.as_mut().unwrap();
    template.spec.readiness = Some(serde_json::from_value(readiness).unwrap());
    template.spec.machine.env.insert("MODE".to_owned(), "v2".to_owned());
    keep_at(&mut world, 2);
    changed(&mut world, 3);
    // Fly has no check of such a machine.
    machine(&mut world).check = CheckState::None;
    written(&mut world, 4, &not_taken_over());
    let plan = pass(&mut world, at(4));
    assert!(matches!(plan.action, Some(Action::Probe { .. })), "{:?}", plan.action);
    assert!(!condition::holds(&world.environment.status.conditions, ConditionType::Updated));
    action::record(
        &mut world.bay.as_mut().unwrap().status,
        &plan.action.unwrap(),
        &Outcome::Exit(0),
        at(4),
    );
    written(&mut world, 5, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(6)).action, None);
    assert_eq!(world.environment.status.phase, Phase::Ready);
}

#[test]
fn a_file_that_a_start_took_is_written_again_until_it_is_there() {
    let mut world = claimed("Running", false);
    machine(&mut world).started_at = Some(at(1));
    assert_eq!(pass(&mut world, at(10)).action, None);
    // Its program ended, and Fly started it again: no list says so.
    machine(&mut world).started_at = Some(at(20));
    written(&mut world, 21, &not_taken_over());
    assert_eq!(world.environment.status.phase, Phase::Starting, "it lacks what it adds");
    written(&mut world, 23, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(24)).action, None);
    // By a clock that is ahead of hangar's it is written once too often, and not again and again.
    machine(&mut world).started_at = Some(at(500));
    written(&mut world, 25, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(26)).action, None);
    let mut kept = claimed("Running", true);
    machine(&mut kept).started_at = Some(at(20));
    assert_eq!(pass(&mut kept, at(21)).action, None, "a volume keeps it");
}

#[test]
fn secrets_are_in_the_app_before_its_machine_is_started_with_another_revision() {
    let mut world = claimed("Running", true);
    let (uid, keys) = ("s1".to_owned(), vec!["KEY".to_owned()]);
    world.secrets.insert("s".to_owned(), Some(SecretFact { uid, generation: 1, keys }));
    written(&mut world, 3, &Outcome::Exit(0));
    assert_eq!(pass(&mut world, at(4)).action, None, "the file has them");
    world.template.as_mut().unwrap().spec.machine.image = "i:2".to_owned();
    keep_at(&mut world, 2);
    let plan = pass(&mut world, at(5));
    let Some(action @ Action::WriteSecrets { .. }) = plan.action else { panic!("{plan:?}") };
    let outcome = Outcome::SecretsWritten { version: 2 };
    action::record(&mut world.bay.as_mut().unwrap().status, &action, &outcome, at(5));
    changed(&mut world, 6);
}
