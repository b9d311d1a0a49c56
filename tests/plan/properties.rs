//! What holds in every course, whatever goes wrong: checked at each pass of random courses, and of known courses with a fault
//! at each call. It must never say how a plan gets there.

use hangar::api::{
    bay::MissingWhat,
    condition::holds,
    environment::{ConditionType, Phase},
    meta::Resource as _,
};
use hangar::plan::{
    action::Action,
    hold::Impact,
    plan,
    world::{Sight, World},
};
use proptest::prelude::*;

use crate::model::{Model, Passed};
use crate::script::Script;

/// What can happen to an environment, apart from faults of calls.
const EVENTS: &[&str] = &[
    "tick 1s",
    "tick 3s",
    "tick 20s",
    "tick 2m",
    "tick 12m",
    "run",
    "request",
    "connections 1",
    "connections 0",
    "template machine.image app@sha256:2",
    "template machine.guest.memory 512Mi",
    "template volume.size 2Gi",
    "template update {strategy: Rolling}",
    "template update {strategy: WhenAsleep}",
    "template regions [fra, ams]",
    "environment operatingMode Running",
    "environment operatingMode Asleep",
    "environment operatingMode Auto",
    "environment env {A: b}",
    "secret keys A",
    "secret keys missing",
    "machine destroy",
    "machine stopped",
    "machine started",
    "machine failed",
    "machine replacing",
    "machine destroying",
    "machine hibernating",
    "machine image evil",
    "machine touched",
    "machine unreachable",
    "machine reachable",
    "machine older",
    "machine copy",
    "machine back",
    "migrate",
    "unheard",
    "unheard -",
    "machine stranger",
    "machines stick",
    "programs hang",
    "programs exit",
    "programs serve",
    "full ams",
    "full ams fra",
    "full",
    "list incomplete",
    "list complete",
    "no-destroying doubts",
    "no-destroying -",
    "hold replacing doubts",
    "hold all doubts",
    "hold -",
    "unclear machine",
    "unclear volume",
    "unclear app",
    "clear",
];
/// What takes the user's data, or the app.
const LOSSES: &[&str] =
    &["app delete", "app foreign", "volume destroy", "volume going", "environment delete"];
const FAULTS: &[&str] = &[
    "ambiguous",
    "ambiguous after-effect",
    "ambiguous late 5s",
    "ambiguous late 20s",
    "crash before",
    "crash after",
    "nothing",
    "other",
    "too-early",
    "no-capacity",
    "changed",
];
/// All is well from now on.
const HEALED: &str = "clear
list complete
no-destroying -
hold -
unheard -
programs serve
full
connections 0
machine reachable
secret keys A";

fn check(model: &Model, passed: &Passed) {
    let Passed { world, plan: planned, .. } = passed;
    assert_eq!(*planned, plan(world, model.now), "the same world gives the same plan");
    let before = world.bay.as_ref().map(|it| it.status.clone()).unwrap_or_default();
    let after = planned.bay.clone().unwrap_or_default();
    assert!(planned.bay.is_none() || after.epoch >= before.epoch, "epochs never fall");
    assert!(
        planned.action.is_some()
            || planned.bind.is_some()
            || planned.wake_at.is_none_or(|it| it > model.now),
        "a pass without a call waits"
    );
    if holds(&planned.status.conditions, ConditionType::Ready) {
        let machine = after.machine.as_ref().unwrap();
        let ready = machine.ready.as_ref().map(|it| &it.version);
        assert!(ready.is_some() && ready == machine.version.as_ref(), "Ready was seen");
    }
    if let Some(action) = &planned.action {
        check_action(action, world, model);
    }
    let held = match planned.impact {
        Impact::None => &None,
        Impact::Creates => &world.no_creating,
        Impact::Replaces => &world.no_replacing,
        Impact::Discards | Impact::Destroys => &world.no_destroying,
    };
    assert!(held.is_none(), "{:?} although {held:?}", planned.action);
    let identity = |it: &hangar::api::bay::BayStatus| it.volume.as_ref().map(|it| it.id.clone());
    let moved = || world.seen.moved_volume.as_ref().map(|it| it.id.clone());
    assert!(
        before.volume.as_ref().is_none_or(discarded)
            || identity(&before) == identity(&after)
            || moved().is_some_and(|it| Some(it) == identity(&after)),
        "a recorded volume is never forgotten"
    );
}

/// Whether a volume that no machine ever had was deleted, to be made elsewhere.
fn discarded(volume: &hangar::api::bay::VolumeStatus) -> bool {
    volume.discarded_at.is_some() && volume.mounts == Some(0)
}

fn check_action(action: &Action, world: &World, model: &Model) {
    let bay = world.bay.as_ref().unwrap();
    let record = bay.status.machine.as_ref();
    let known = record.and_then(|it| it.id.as_ref());
    let believed_gone = |what| bay.status.missing.as_ref().is_some_and(|it| it.what == what);
    match action {
        Action::CreateVolume { .. } => {
            let discarded = bay.status.volume.as_ref().is_none_or(discarded);
            assert!(discarded, "a volume is recorded already");
            assert!(
                bay.status.volume_intended_at.is_none() || world.seen.volume == Sight::Absent,
                "a volume may be there"
            );
        }
        Action::CreateMachine { .. } => {
            let given_up = matches!(&world.seen.machine, Sight::Present(it)
                if it.state.word() == "destroying" || !it.host_answers);
            let gone = believed_gone(MissingWhat::Machine) && world.seen.complete_list_at.is_some()
                || given_up && !bay.spec.volume;
            assert!(known.is_none() || gone, "a machine is recorded already");
            let intended = record.is_some_and(|it| it.id.is_some() || it.intended_at.is_some());
            let absent = match &world.seen.machine {
                Sight::Absent => true,
                Sight::Present(it) => it.state.word() == "destroyed",
                Sight::Unasked | Sight::Unclear(_) => false,
            };
            let given_up = given_up && !bay.spec.volume;
            assert!(!intended || absent || given_up, "a machine may be there");
        }
        Action::DestroyMachine { id, .. } => {
            let older = world.seen.others.iter().any(|it| {
                it.id == *id
                    && it.mark.as_ref().is_some_and(|mark| {
                        mark.bay == bay.metadata.uid && mark.epoch <= bay.status.epoch
                    })
            });
            assert!(known == Some(id) || older, "not ours to destroy");
            assert!(world.no_destroying.is_none(), "nothing may be destroyed");
        }
        Action::DeleteVolume { id, .. } => {
            let own = bay.status.volume.as_ref().filter(|it| it.id == *id);
            let stray = bay.status.stray.as_ref().is_some_and(|it| it.id == *id);
            assert!(stray || own.is_some_and(|it| it.mounts == Some(0)), "not ours to delete");
            assert!(!model.fly.used.contains(id), "it was in use");
        }
        Action::DeleteApp { .. } => {
            assert!(world.no_destroying.is_none(), "nothing may be destroyed");
            // Reads lag behind writes: one that was made and is not shown may be there.
            let made = world.seen.app == Sight::Absent && bay.status.app_created;
            let ours = matches!(&world.seen.app, Sight::Present(it) if it.ours);
            assert!(ours || made, "not ours");
        }
        _ => {}
    }
}

/// Live things that hangar made.
fn live(model: &Model) -> (usize, usize) {
    let uid = model.bay.as_ref().map(|it| it.metadata.uid.clone()).unwrap_or_default();
    let ours = |it: &&crate::fly::Machine| {
        it.config.metadata.get(hangar::plan::machine::BAY) == Some(&uid)
    };
    let machines = model.fly.machines.iter().filter(ours).count();
    (machines, model.fly.volumes.iter().filter(|it| !it.going).count())
}

/// The course ends well and stays so.
fn check_end(script: &mut Script) {
    script.run(HEALED);
    script.run("tick 40m");
    let calls = script.calls;
    script.run("tick 10m\nshow");
    let model = &script.model;
    let phase = model.environment.status.phase;
    let told = &script.out;
    assert!(!told.contains("WITHOUT END"), "a pass that repeats itself:\n{told}");
    if model.environment.metadata.deletion_timestamp.is_some() {
        let lost = model.fly.app.as_ref().is_some_and(|it| !it.ours);
        // While Fly lists a machine of it that came back, it waits.
        let listed = !model.fly.machines.is_empty();
        assert!(model.released || lost || listed, "deleted and still there:\n{told}");
        return;
    }
    let known = model.bay.as_ref().and_then(|it| it.status.volume.clone());
    let kept = known.is_none_or(|it| {
        model.fly.volumes.iter().any(|volume| volume.id == it.id && !volume.going)
    });
    let ours = model.fly.app.as_ref().is_some_and(|it| it.ours);
    // A state that hangar does not know, and a machine that somebody else destroys without end, are not hangar's to end.
    let strange = model
        .fly
        .machines
        .iter()
        .any(|it| matches!(it.state.word(), "hibernating" | "destroying" | "failed"));
    // Nor is a stranger's machine that has the name which the bay's own would have: hangar stalls, and says so.
    let squatted = model.fly.machines.iter().any(|it| it.id.ends_with("-strange"))
        && model
            .bay
            .as_ref()
            .is_some_and(|it| it.status.machine.as_ref().is_none_or(|it| it.id.is_none()));
    if kept && ours && !strange {
        let (machines, volumes) = live(model);
        assert!(machines <= 1 && volumes <= 1, "more than one of a kind:\n{told}");
        let well = matches!(phase, Phase::Ready | Phase::Asleep);
        assert!(well || (squatted && phase == Phase::Stalled), "ends {phase:?}:\n{told}");
        assert!(script.calls <= calls + 2, "calls without end:\n{told}");
    }
}

fn step() -> impl Strategy<Value = String> {
    let actions = prop::sample::select(vec!["*", "create-machine", "update-machine", "create-app"]);
    prop_oneof![
        12 => prop::sample::select(EVENTS).prop_map(str::to_owned),
        1 => prop::sample::select(LOSSES).prop_map(str::to_owned),
        4 => (actions, prop::sample::select(FAULTS)).prop_map(|(on, it)| format!("fail {on} {it}")),
        6 => Just("tick 1s".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_course_keeps_the_rules_and_ends_well(
        volume: bool,
        steps in prop::collection::vec(step(), 1..30),
    ) {
        let mut script = Script::new(check);
        if volume {
            script.run("template volume {mountPath: /data, size: 1Gi}");
        }
        for step in steps {
            if volume || !step.starts_with("template volume") {
                script.run(&step);
            }
        }
        check_end(&mut script);
    }
}

#[test]
fn a_stranger_with_the_name_of_a_machine_that_never_came_stalls_it_and_is_left_alone() {
    let mut script = Script::new(check);
    for step in
        ["fail create-machine ambiguous late 5s", "tick 1s", "machine stranger", "machine destroy"]
    {
        script.run(step);
    }
    check_end(&mut script);
    assert_eq!(script.model.environment.status.phase, Phase::Stalled);
    assert_eq!(script.model.fly.machines.len(), 1);
}

/// Courses without faults, and how each ends.
const COURSES: &[&str] = &[
    "run\ntick 20s",
    "template volume {mountPath: /data, size: 1Gi}\nsecret keys A\nrun\ntick 20s\ntemplate volume.size 2Gi\ntick 20s",
    "template update {strategy: Rolling}\ntick 20s\ntemplate machine.image app@sha256:2\ntick 20s",
    "tick 20s\nenvironment operatingMode Asleep\ntick 20s\nenvironment operatingMode Running\ntick 20s",
    "tick 20s\nmachine destroy\ntick 20s",
    "machines stick\nrun\ntick 6m",
    "tick 20s\nenvironment delete\ntick 20s",
];

/// How it ends, without what may differ.
fn end(script: &mut Script) -> String {
    script.run("tick 5m");
    let model = &script.model;
    let status = &model.environment.status;
    let machines: Vec<_> =
        model.fly.machines.iter().map(|it| (&it.state, &it.config.image)).collect();
    let volumes: Vec<_> = model.fly.volumes.iter().map(|it| it.size_gib).collect();
    format!("{:?} {machines:?} {volumes:?} released {}", status.phase, model.released)
}

#[test]
fn a_lost_answer_or_a_crash_at_any_call_ends_the_same() {
    for course in COURSES {
        let mut reference = Script::new(check);
        reference.run(course);
        let calls = reference.calls;
        let expected = end(&mut reference);
        assert!(calls > 0);
        for fault in ["ambiguous", "ambiguous after-effect", "crash before", "crash after"] {
            for call in 0..calls {
                let mut script = Script::new(check);
                for _ in 0..call {
                    script.run("fail * not");
                }
                script.run(&format!("fail * {fault}"));
                script.run(course);
                let came = end(&mut script);
                assert_eq!(came, expected, "{fault} at call {call} of {course}:\n{}", script.out);
                let (machines, volumes) = live(&script.model);
                assert!(machines <= 1 && volumes <= 1, "{}", script.out);
            }
        }
    }
}

/// Machines and volumes that are there, by id.
fn ids(model: &Model) -> Vec<String> {
    let machines = model.fly.machines.iter().map(|it| it.id.clone());
    machines.chain(model.fly.volumes.iter().map(|it| it.id.clone())).collect()
}

#[test]
fn a_store_made_from_an_export_of_any_moment_takes_up_what_there_is() {
    for course in COURSES {
        let mut reference = Script::new(check);
        reference.run(course);
        for export_after in 0..=reference.calls {
            let mut script = Script::new(check);
            script.export_after = Some(export_after);
            script.run(course);
            let before = ids(&script.model);
            // At first it cannot even be looked for.
            script.run("restore\nunclear volume\nunclear machine\ntick 20s\nclear");
            script.run("programs serve\ntick 10m");
            let told = format!("exported after {export_after} calls of {course}:\n{}", script.out);
            let model = &script.model;
            let after = ids(model);
            assert!(before.iter().all(|id| after.contains(id)), "destroyed or replaced: {told}");
            let (machines, volumes) = live(model);
            assert!(machines <= 1 && volumes <= 1, "made twice: {told}");
            let record = model.bay.as_ref().map(|it| it.status.clone()).unwrap_or_default();
            let recorded = record.machine.and_then(|it| it.id).into_iter();
            let recorded: Vec<_> = recorded.chain(record.volume.map(|it| it.id)).collect();
            if model.fly.app.is_some() && !model.environment.is_deleting() {
                assert_eq!(recorded, after, "not taken up: {told}");
            }
            // A person says that all is well; what is superseded may go then, and nothing else is.
            script.run("no-destroying -\ntick 10m");
            if !script.model.environment.is_deleting() {
                assert_eq!(ids(&script.model), after, "{told}");
            }
        }
    }
}
