//! What follows from one world, pass by pass: a small imitation of Fly answers calls and shows what it has.

use std::collections::BTreeMap;

use crate::api::{
    Timestamp,
    bay::{Order, OrderKind, Trouble},
    condition,
    environment::{ConditionType, Environment, Phase, Reason},
    pod,
    pool::WarmState,
    template::Template,
};
use crate::plan::{
    Binding, Level, Plan,
    action::{self, Action, Outcome},
    bay, plan, stock,
    world::{
        CheckState, MachineState, Seen, SeenApp, SeenMachine, SeenVolume, Settings, Sight, World,
    },
};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn world(mode: &str, volume: bool) -> World {
    let volume = if volume { "volume: {mountPath: /data, size: 1Gi}," } else { "" };
    let template: Template = serde_yaml::from_str(&format!(
        "{{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {{name: t}}, spec: {{machine: {{image: 'i:1'}}, \
         {volume} services: [{{name: web, internalPort: 8080}}], regions: [ams, fra], sleep: {{after: 15m}}}}}}"
    ))
    .unwrap();
    let environment: Environment = serde_yaml::from_str(&format!(
        "{{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {{name: alice, namespace: default, uid: u1, \
         generation: 1}}, spec: {{templateRef: {{name: t}}, owner: a@example.com, operatingMode: {mode}}}}}"
    ))
    .unwrap();
    World {
        settings: Settings {
            instance: "i1".to_owned(),
            scheme: "https".to_owned(),
            domain: "dev.example.com".to_owned(),
            port: None,
            restored_at: None,
        },
        environment,
        template: Some(template),
        revision: None,
        secrets: BTreeMap::new(),
        bay: None,
        vacancy: None,
        empty_pool: None,
        no_bay: None,
        orphan: None,
        seen: Seen::default(),
        last_request_at: None,
        connections: None,
        fresh_name: "abc".to_owned(),
        full_regions: Vec::new(),
        unheard_since: None,
        clock_was_set: None,
        no_destroying: None,
        no_replacing: None,
        no_creating: None,
    }
}

/// Plans, and takes over what the plan records.
fn pass(world: &mut World, now: Timestamp) -> Plan {
    let plan = plan(world, now);
    world.environment.status = plan.status.clone();
    if let (Some(bay), Some(status)) = (&mut world.bay, &plan.bay) {
        bay.status = status.clone();
    }
    if plan.bind.is_some() {
        let mut bay = bay::made(world);
        bay.metadata.uid = "b1".to_owned();
        world.bay = Some(bay);
    }
    plan
}

fn answer(world: &mut World, action: &Action, outcome: &Outcome, now: Timestamp) {
    action::record(&mut world.bay.as_mut().unwrap().status, action, outcome, now);
}

/// A world whose environment serves.
pub(crate) fn serving(mode: &str, volume: bool) -> World {
    let mut world = world(mode, volume);
    for _ in 0..20 {
        let plan = pass(&mut world, at(0));
        match plan.action {
            Some(Action::CreateApp { .. }) => {
                answer(&mut world, &plan.action.unwrap(), &Outcome::Done, at(0));
            }
            Some(action @ Action::WriteSecrets { .. }) => {
                answer(&mut world, &action, &Outcome::SecretsWritten { version: 1 }, at(0));
            }
            Some(action @ Action::CreateVolume { .. }) => {
                let (id, region) = ("vol_1".to_owned(), "ams".to_owned());
                answer(&mut world, &action, &Outcome::Volume { id, region, size_gib: 1 }, at(0));
            }
            Some(ref action @ Action::CreateMachine { ref spec, ref name, .. }) => {
                let outcome = Outcome::Machine {
                    id: "m1".to_owned(),
                    version: "v1".to_owned(),
                    region: "ams".to_owned(),
                    state: "started".to_owned(),
                };
                answer(&mut world, action, &outcome, at(0));
                world.seen.machine = Sight::Present(SeenMachine {
                    id: "m1".to_owned(),
                    name: name.clone(),
                    state: MachineState::Started,
                    version: "v1".to_owned(),
                    region: "ams".to_owned(),
                    config: Some(spec.as_ref().clone()),
                    check: CheckState::Passing,
                    launch_error: None,
                    started_at: None,
                    host_answers: true,
                    metadata: Some(spec.metadata.clone()),
                    mark: None,
                });
            }
            Some(action) => panic!("{action:?}"),
            None if plan.bind.is_some() => {}
            None => break,
        }
    }
    assert_eq!(world.environment.status.phase, Phase::Ready);
    world.seen.complete_list_at = Some(at(0));
    if volume {
        world.seen.volume = Sight::Present(SeenVolume {
            id: "vol_1".to_owned(),
            region: "ams".to_owned(),
            name: "bay_abc".to_owned(),
            size_gib: 1,
            attached_to: None,
            going: false,
            created_at: None,
        });
    }
    world
}

fn machine(world: &mut World) -> &mut SeenMachine {
    match &mut world.seen.machine {
        Sight::Present(machine) => machine,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_machine_that_the_list_has_is_not_replaced_though_a_read_does_not_find_it() {
    let mut world = serving("Auto", true);
    let listed = machine(&mut world).clone();
    world.seen.machine = Sight::Absent;
    world.seen.others = vec![listed];
    for second in 1..60 {
        world.seen.complete_list_at = Some(at(second));
        assert_eq!(pass(&mut world, at(second)).action, None);
    }
    let bay = world.environment.status.bay.clone().unwrap();
    assert_eq!(bay.machine.as_deref(), Some("m1"), "it may serve all the same");
    world.seen.others.clear();
    assert!(matches!(
        pass(&mut world, at(60)).action,
        Some(Action::CreateMachine { epoch: 2, .. })
    ));
}

#[test]
fn a_machine_that_is_to_be_made_anew_goes_and_the_one_in_its_place_stays() {
    let mut world = serving("Auto", true);
    let (key, order) = pod::reset_order("m1", at(1));
    world.environment.metadata.annotations.insert(key.to_owned(), order);
    let plan = pass(&mut world, at(1));
    assert!(plan.status.conditions.iter().any(|it| it.reason == Reason::Reset));
    let destroy = plan.action.unwrap();
    assert!(matches!(&destroy, Action::DestroyMachine { id, .. } if id == "m1"));
    action::intend(&mut world.bay.as_mut().unwrap().status, &destroy, 1, at(1));
    answer(&mut world, &destroy, &Outcome::Done, at(1));
    let old = machine(&mut world).clone();
    world.seen.machine = Sight::Absent;
    // It goes by two looks, as any other.
    let plan = pass(&mut world, at(1));
    assert!(plan.status.conditions.iter().any(|it| it.reason == Reason::Reset));
    assert_eq!(plan.action, None);
    world.seen.complete_list_at = Some(at(4));
    let plan = pass(&mut world, at(4));
    assert!(plan.status.conditions.iter().any(|it| it.reason == Reason::Reset));
    let create = plan.action.unwrap();
    let Action::CreateMachine { epoch: 2, spec, name, .. } = &create else { panic!("{create:?}") };
    let (config, name) = (Some(spec.as_ref().clone()), name.clone());
    let metadata = Some(spec.metadata.clone());
    action::intend(&mut world.bay.as_mut().unwrap().status, &create, 1, at(4));
    let outcome = Outcome::Machine {
        id: "m2".to_owned(),
        version: "v2".to_owned(),
        region: "ams".to_owned(),
        state: "started".to_owned(),
    };
    answer(&mut world, &create, &outcome, at(4));
    let (id, version) = ("m2".to_owned(), "v2".to_owned());
    world.seen.machine = Sight::Present(SeenMachine { id, name, version, config, metadata, ..old });
    let plan = pass(&mut world, at(5));
    assert_eq!((plan.action, world.environment.status.phase), (None, Phase::Ready));
}

#[test]
fn what_a_list_had_between_two_looks_in_vain_is_looked_for_from_the_beginning() {
    let mut world = serving("Auto", true);
    world.seen.machine = Sight::Absent;
    world.seen.complete_list_at = Some(at(1));
    assert_eq!(pass(&mut world, at(1)).action, None);
    // No pass was run while it had it.
    world.seen.machine_unlisted_since = Some(at(9));
    world.seen.complete_list_at = Some(at(10));
    assert_eq!(pass(&mut world, at(10)).action, None);
    world.seen.complete_list_at = Some(at(12));
    assert!(matches!(
        pass(&mut world, at(12)).action,
        Some(Action::CreateMachine { epoch: 2, .. })
    ));
}

#[test]
fn a_machine_that_its_volume_says_is_there_is_not_replaced_for_a_while_whatever_reads_and_lists_say()
 {
    let mut world = serving("Auto", true);
    world.seen.machine = Sight::Absent;
    let Sight::Present(volume) = &mut world.seen.volume else { panic!("no volume") };
    volume.attached_to = Some("m1".to_owned());
    let mut made_at = None;
    for second in 1..=120 {
        world.seen.complete_list_at = Some(at(second));
        if pass(&mut world, at(second)).action.is_some() {
            made_at.get_or_insert(second);
        }
    }
    assert_eq!(made_at, Some(61), "such a claim can outlive its machine");
}

#[test]
fn an_app_in_which_the_list_has_a_machine_is_not_made_again_though_reads_do_not_find_it() {
    let mut world = serving("Auto", false);
    let listed = machine(&mut world).clone();
    world.seen.app = Sight::Absent;
    for second in 1..60 {
        world.seen.complete_list_at = Some(at(second));
        if second == 30 {
            world.seen.machine = Sight::Absent;
            world.seen.others = vec![listed.clone()];
        }
        assert_eq!(pass(&mut world, at(second)).action, None);
    }
    world.seen.others.clear();
    world.seen.complete_list_at = Some(at(60));
    assert!(matches!(pass(&mut world, at(60)).action, Some(Action::CreateApp { .. })));
}

#[test]
fn put_to_sleep_before_it_ever_served_it_is_started_when_it_may_be_awake() {
    let mut world = serving("Auto", false);
    let status = &mut world.bay.as_mut().unwrap().status;
    let record = status.machine.as_mut().unwrap();
    record.ready = None;
    let signal = Some(crate::api::environment::SleepSignal::Ordered);
    record.order = Some(Order { kind: OrderKind::Sleep, signal, at: at(0) });
    machine(&mut world).state = MachineState::Stopped;
    assert!(matches!(pass(&mut world, at(60)).action, Some(Action::StartMachine { .. })));
}

#[test]
fn what_cannot_be_launched_since_a_change_in_its_sleep_is_changed_back_without_being_woken() {
    for (order, skips) in [(OrderKind::Sleep, true), (OrderKind::Start, false)] {
        let mut world = serving("Auto", false);
        let record = world.bay.as_mut().unwrap().status.machine.as_mut().unwrap();
        record.order = Some(Order { kind: order, signal: None, at: at(0) });
        record.config = Some("of another image".to_owned());
        let seen = machine(&mut world);
        (seen.state, seen.config) = (MachineState::Failed, None);
        let action = pass(&mut world, at(1)).action;
        let Some(Action::UpdateMachine { skip_launch, .. }) = action else { panic!("{action:?}") };
        assert_eq!(skip_launch, skips, "{order:?}");
    }
}

#[test]
fn a_pools_bay_is_not_taken_for_well_because_it_is_started_again() {
    let mut world = serving("Running", false);
    let now = at(300);
    let reason = Reason::MachineFailed;
    let trouble = Trouble { reason, message: "x".to_owned(), since: at(240) };
    machine(&mut world).state = MachineState::Failed;
    assert_eq!(pass(&mut world, at(240)).action, None, "it was started not long ago");
    world.bay.as_mut().unwrap().status.trouble = Some(trouble);
    let mut plan = pass(&mut world, now);
    assert!(matches!(plan.action, Some(Action::StartMachine { .. })), "{:?}", plan.action);
    stock::judge(&mut plan, WarmState::Started, now);
    assert_eq!(plan.bay.unwrap().trouble.map(|it| it.since), Some(at(240)));
}

#[test]
fn why_a_pools_bay_goes_is_known_until_it_is_gone() {
    let mut world = serving("Running", false);
    let trouble = Trouble { reason: Reason::MachineFailed, message: "x".to_owned(), since: at(1) };
    world.bay.as_mut().unwrap().status.trouble = Some(trouble.clone());
    world.environment.metadata.deletion_timestamp = Some(at(60));
    world.no_destroying = Some("a person is asked".to_owned());
    world.seen.app = Sight::Present(SeenApp { network: None, ours: true });
    let mut plan = pass(&mut world, at(60));
    assert_eq!(plan.note.reason, Reason::Held);
    stock::judge(&mut plan, WarmState::Started, at(60));
    assert_eq!(plan.bay.unwrap().trouble, Some(trouble));
}

#[test]
fn a_bay_that_is_not_in_the_store_is_not_made_anew() {
    let mut world = serving("Auto", true);
    world.bay = None;
    for second in 1..5 {
        let plan = pass(&mut world, at(second));
        assert!(plan.bind.is_none() && plan.action.is_none());
        assert_eq!(plan.status.phase, Phase::Stalled);
        assert_eq!(plan.status.bay.unwrap().app, "hgr-abc");
    }
}

#[test]
fn after_a_restore_no_machine_is_made_before_it_was_looked_for_and_epochs_go_on_above() {
    let mut world = serving("Auto", false);
    world.settings.restored_at = Some(at(100));
    let status = &mut world.bay.as_mut().unwrap().status;
    (status.machine, world.seen.machine) = (None, Sight::Unasked);
    for unsure in [Sight::Unasked, Sight::Unclear("503".to_owned())] {
        world.seen.machine = unsure;
        assert_eq!(pass(&mut world, at(200)).action, None);
    }
    world.seen.machine = Sight::Absent;
    let Some(Action::CreateMachine { epoch, name, .. }) = pass(&mut world, at(200)).action else {
        panic!("it is not made");
    };
    assert_eq!((epoch, &*name), (1_800_000_101, "bay-abc-1800000101"));
}

#[test]
fn a_bay_that_is_younger_than_the_restore_is_made_without_looking() {
    let mut world = serving("Auto", true);
    world.settings.restored_at = Some(at(100));
    let bay = world.bay.as_mut().unwrap();
    bay.metadata.creation_timestamp = Some(at(101));
    (bay.status.machine, bay.status.volume) = (None, None);
    (world.seen.machine, world.seen.volume) = (Sight::Unasked, Sight::Unasked);
    let action = pass(&mut world, at(200)).action;
    assert!(matches!(action, Some(Action::CreateVolume { .. })), "{action:?}");
}

#[test]
fn an_environment_that_no_quota_has_room_for_waits_and_says_so() {
    let mut world = world("Auto", true);
    world.no_bay = Some("exceeded quota: small".to_owned());
    let plan = pass(&mut world, at(0));
    assert_eq!((plan.bind, plan.wake_at), (None, Some(at(10))));
    assert_eq!((plan.note.reason, plan.note.level), (Reason::QuotaExceeded, Level::Warning));
    let ready = condition::get(&plan.status.conditions, ConditionType::Ready).unwrap();
    assert_eq!(ready.message, "no bay can be made for it: exceeded quota: small");
    world.no_bay = None;
    assert_eq!(pass(&mut world, at(10)).bind, Some(Binding::New));
}
