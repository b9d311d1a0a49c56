//! Orders about orphans, pass by pass over a small imitation of one app at Fly.

use super::*;
use crate::api::orphan::{MadeBy, OrphanPhase, OrphanVolume};
use crate::plan::{machine::MachineSpec, world::Mark};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn machine(id: &str, epoch: u64) -> SeenMachine {
    SeenMachine {
        id: id.to_owned(),
        name: format!("bay-abc-{epoch}"),
        state: MachineState::Started,
        version: "v1".to_owned(),
        region: "ams".to_owned(),
        config: Some(MachineSpec {
            volume: Some(("vol_1".to_owned(), "/data".to_owned())),
            ..MachineSpec::default()
        }),
        check: crate::plan::world::CheckState::Passing,
        host_answers: true,
        metadata: Some(std::collections::BTreeMap::new()),
        launch_error: None,
        started_at: None,
        mark: Some(Mark { instance: "i1".to_owned(), bay: "b1".to_owned(), epoch }),
    }
}

fn volume(attached_to: Option<&str>) -> SeenVolume {
    SeenVolume {
        id: "vol_1".to_owned(),
        region: "ams".to_owned(),
        name: "bay_abc".to_owned(),
        size_gib: 10,
        attached_to: attached_to.map(str::to_owned),
        going: false,
        created_at: None,
    }
}

/// An orphan of an app, a machine and a volume, under an order given now.
fn world(verb: Verb) -> OrphanWorld {
    let recorded = OrphanMachine {
        id: "m1".to_owned(),
        name: "bay-abc-1".to_owned(),
        bay_uid: Some("b1".to_owned()),
        epoch: Some(1),
        ..OrphanMachine::default()
    };
    let status = OrphanStatus {
        app: "hgr-abc".to_owned(),
        id: "hgr-abc".to_owned(),
        phase: OrphanPhase::Confirmed,
        made_by: MadeBy::This,
        environment: Some("env/alice".to_owned()),
        bay_uid: Some("b1".to_owned()),
        machines: vec![recorded.clone()],
        volumes: vec![OrphanVolume { id: "vol_1".to_owned(), ..OrphanVolume::default() }],
        ..OrphanStatus::default()
    };
    let environment = "{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {name: alice, namespace: default, \
                       uid: e9}, spec: {templateRef: {name: t}}}";
    let template = "{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: t}, spec: {machine: {image: 'i:1'}, \
                    volume: {mountPath: /data, size: 1Gi}, regions: [ams]}}";
    OrphanWorld {
        instance: "i1".to_owned(),
        status,
        order: Order { verb, ordered_at: Some(at(0)), ..Order::default() },
        accounted: None,
        no_destroying: None,
        complete_list_at: Some(at(0)),
        app: Sight::Present(SeenApp { network: Some("hgr-abc-i1".to_owned()), ours: true }),
        machines: Sight::Present(vec![machine("m1", 1)]),
        volumes: Sight::Present(vec![volume(Some("m1"))]),
        machine_reads: vec![(recorded, Sight::Present(machine("m1", 1)))],
        volume_reads: vec![("vol_1".to_owned(), Sight::Present(volume(Some("m1"))))],
        target: Some(serde_yaml::from_str(environment).unwrap()),
        template: Some(serde_yaml::from_str(template).unwrap()),
    }
}

/// The same, with everything read once already.
fn proven(verb: Verb) -> OrphanWorld {
    let mut world = world(verb);
    world.order.proven_at = Some(at(0));
    world
}

fn refuses(world: &OrphanWorld) -> bool {
    matches!(step(world, at(10)), OrphanStep::Refuse(_))
}

fn waits(world: &OrphanWorld) -> bool {
    matches!(step(world, at(10)), OrphanStep::Wait(_))
}

#[test]
fn a_deletion_proves_first_and_then_goes_id_by_id() {
    let mut world = world(Verb::Delete);
    let app = "hgr-abc".to_owned();
    assert_eq!(step(&world, at(0)), OrphanStep::Prove);
    world.order.proven_at = Some(at(0));
    assert!(matches!(step(&world, at(1)), OrphanStep::Wait(_)), "too soon after the first look");
    let destroy = Action::DestroyMachine { app: app.clone(), id: "m1".to_owned() };
    assert_eq!(step(&world, at(2)), OrphanStep::Act(destroy));
    let Sight::Present(seen) = &mut world.machine_reads[0].1 else { panic!() };
    seen.state = MachineState::Destroying;
    assert!(waits(&world));
    world.machine_reads[0].1 = Sight::Absent;
    world.machines = Sight::Present(Vec::new());
    assert!(waits(&world), "the volume is bound for a while");
    world.volume_reads[0].1 = Sight::Present(volume(None));
    let delete = Action::DeleteVolume { app: app.clone(), id: "vol_1".to_owned() };
    assert_eq!(step(&world, at(3)), OrphanStep::Act(delete));
    world.volume_reads[0].1 = Sight::Present(SeenVolume { going: true, ..volume(None) });
    world.volumes = Sight::Present(vec![SeenVolume { going: true, ..volume(None) }]);
    assert_eq!(step(&world, at(4)), OrphanStep::Act(Action::DeleteApp { app }));
    world.order.acted_at = Some(at(4));
    assert!(matches!(step(&world, at(5)), OrphanStep::Wait(_)), "it is under way");
    world.app = Sight::Absent;
    assert_eq!(step(&world, at(6)), OrphanStep::Done);
}

#[test]
fn nothing_is_acted_on_that_is_not_as_recorded() {
    type Change = fn(&mut OrphanWorld);
    let changes: [(&str, Change); 8] = [
        ("a bay accounts for it", |it| it.accounted = Some("bay-abc".to_owned())),
        ("another network", |it| {
            it.app = Sight::Present(SeenApp { network: Some("shop".to_owned()), ours: true });
        }),
        ("another installation's network", |it| {
            let network = Some("hgr-abc-i2".to_owned());
            it.app = Sight::Present(SeenApp { network, ours: true });
        }),
        ("a machine that was not listed", |it| {
            it.machines = Sight::Present(vec![machine("m1", 1), machine("m2", 2)]);
        }),
        ("a volume that was not listed", |it| {
            let other = SeenVolume { id: "vol_2".to_owned(), ..volume(None) };
            it.volumes = Sight::Present(vec![other]);
        }),
        ("a machine of another bay", |it| {
            let mark = Some(Mark { instance: "i1".to_owned(), bay: "b2".to_owned(), epoch: 1 });
            it.machine_reads[0].1 = Sight::Present(SeenMachine { mark, ..machine("m1", 1) });
        }),
        ("a machine without marks", |it| {
            it.machine_reads[0].1 = Sight::Present(SeenMachine { mark: None, ..machine("m1", 1) });
        }),
        ("a volume of another name", |it| {
            let name = "photos".to_owned();
            it.volume_reads[0].1 = Sight::Present(SeenVolume { name, ..volume(None) });
        }),
    ];
    for verb in [Verb::Delete, Verb::Adopt] {
        for (what, change) in changes {
            let mut world = proven(verb);
            change(&mut world);
            assert!(refuses(&world), "{verb:?}: {what}");
        }
    }
}

#[test]
fn what_cannot_be_seen_clearly_is_waited_for() {
    type Change = fn(&mut OrphanWorld);
    let changes: [(&str, Change); 8] = [
        ("no complete list since the order", |it| it.complete_list_at = Some(at(-1))),
        ("an app that may not be read", |it| {
            it.app = Sight::Present(SeenApp { network: None, ours: false });
        }),
        ("an app that cannot be read", |it| it.app = Sight::Unclear(String::new())),
        ("a machine that cannot be read", |it| it.machine_reads[0].1 = Sight::Unasked),
        ("a volume that cannot be read", |it| it.volume_reads[0].1 = Sight::Unasked),
        ("machines that cannot be listed", |it| it.machines = Sight::Unasked),
        ("volumes that cannot be listed", |it| it.volumes = Sight::Unasked),
        ("a state that is not known", |it| {
            let state = MachineState::Other("hibernating".to_owned());
            it.machine_reads[0].1 = Sight::Present(SeenMachine { state, ..machine("m1", 1) });
        }),
    ];
    for verb in [Verb::Delete, Verb::Adopt] {
        for (what, change) in changes {
            let mut world = proven(verb);
            change(&mut world);
            assert!(waits(&world), "{verb:?}: {what}");
        }
    }
    let mut world = proven(Verb::Delete);
    world.no_destroying = Some("a person must look first".to_owned());
    assert!(waits(&world));
}

#[test]
fn a_bay_is_written_as_it_was() {
    let OrphanStep::Adopt(bay) = step(&proven(Verb::Adopt), at(10)) else { panic!() };
    assert_eq!((bay.metadata.name.as_str(), bay.metadata.uid.as_str()), ("bay-abc", "b1"));
    assert_eq!((bay.spec.app.as_str(), bay.spec.network.as_str()), ("hgr-abc", "hgr-abc-i1"));
    assert_eq!(
        (bay.spec.environment_ref.as_ref().unwrap().uid.as_str(), bay.status.epoch),
        ("e9", 1)
    );
    assert_eq!(bay.status.volume.as_ref().unwrap().id, "vol_1");
    let machine = bay.status.machine.unwrap();
    assert_eq!(machine.id.as_deref(), Some("m1"));
    assert!(
        machine.ready.is_none() && bay.status.secrets.is_none(),
        "its new key is written first"
    );
}

#[test]
fn an_adoption_that_would_lose_data_is_refused() {
    let mut world = proven(Verb::Adopt);
    world.template.as_mut().unwrap().spec.volume = None;
    assert!(refuses(&world), "the template has no volume");
    let mut world = proven(Verb::Adopt);
    world.volume_reads[0].1 = Sight::Absent;
    assert!(refuses(&world), "the mounted volume is gone");
    let mut world = proven(Verb::Adopt);
    world.target = None;
    assert!(refuses(&world), "no such environment");
    let mut world = proven(Verb::Adopt);
    world.machine_reads[0].1 = Sight::Absent;
    world.machines = Sight::Present(Vec::new());
    assert!(refuses(&world), "its machine is gone");
    let mut world = proven(Verb::Adopt);
    world.no_destroying = Some("the store was restored".to_owned());
    assert!(matches!(step(&world, at(10)), OrphanStep::Adopt(_)), "adopting destroys nothing");
}

#[test]
fn a_single_machine_or_volume_goes_alone() {
    let mut world = proven(Verb::Delete);
    world.status.what = OrphanWhat::Volume;
    world.status.id = "vol_1".to_owned();
    (world.status.machines, world.machine_reads) = (Vec::new(), Vec::new());
    assert!(refuses(&world), "a volume that a machine has is in use");
    world.volume_reads[0].1 = Sight::Present(volume(None));
    assert!(matches!(step(&world, at(10)), OrphanStep::Act(Action::DeleteVolume { .. })));
    world.volume_reads[0].1 = Sight::Absent;
    assert_eq!(step(&world, at(10)), OrphanStep::Done, "the app stays");
}
