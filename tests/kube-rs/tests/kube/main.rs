//! kube-rs against the real program: what a controller that is written with it does.

mod ground;

use std::{pin::pin, sync::Arc};

use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Discovery, ResourceExt as _,
    api::{AttachParams, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    runtime::{
        Controller,
        controller::Action,
        events::{Event, EventType, Recorder, Reporter},
        watcher,
    },
};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::ground::{Ground, PATIENCE, until};

#[tokio::test]
async fn discovery_finds_the_kinds_in_both_forms() {
    let ground = Ground::up().await;
    let named = kube::core::GroupVersionKind::gvk("hangar.dev", "v1alpha1", "Environment");
    let legacy = Discovery::new(ground.client.clone()).run().await.unwrap();
    let aggregated = Discovery::new(ground.client.clone()).run_aggregated().await.unwrap();
    for found in [legacy, aggregated] {
        let (kind, can) = found.resolve_gvk(&named).unwrap();
        assert_eq!(kind.plural, "environments");
        assert!(can.supports_operation("watch"));
        assert!(can.subresources.iter().any(|(it, _)| it.plural == "status"), "{can:?}");
    }
}

#[tokio::test]
async fn environments_are_made_read_changed_and_deleted() {
    let ground = Ground::up().await;
    let api = ground.environments();
    let made = api.create(&PostParams::default(), &ground.environment("made")).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));
    let again = api.create(&PostParams::default(), &ground.environment("made")).await.unwrap_err();
    assert!(matches!(&again, kube::Error::Api(it) if it.reason == "AlreadyExists"), "{again}");
    let change = Patch::Merge(json!({"spec": {"env": {"A": "1"}}}));
    let changed = api.patch("made", &PatchParams::default(), &change).await.unwrap();
    assert_eq!(
        (changed.metadata.generation, &changed.data["spec"]["env"]["A"]),
        (Some(2), &json!("1"))
    );
    let mut stale = made;
    stale.metadata.labels = Some([("a".into(), "b".into())].into());
    let stale = api.replace("made", &PostParams::default(), &stale).await.unwrap_err();
    assert!(matches!(&stale, kube::Error::Api(it) if it.code == 409), "{stale}");
    let selected = ListParams::default().fields("metadata.name=made");
    assert_eq!(api.list(&selected).await.unwrap().items.len(), 1);
    assert_eq!(api.list_metadata(&selected).await.unwrap().items[0].name_any(), "made");
    assert!(api.get_opt("nobody").await.unwrap().is_none());
    api.delete("made", &DeleteParams::default()).await.unwrap();
    until("the end", async || match api.get_opt("made").await.unwrap() {
        None => Ok(()),
        Some(it) => Err(format!("{it:?}")),
    })
    .await;
}

/// The next thing that is told.
async fn next<T>(stream: &mut (impl Stream<Item = watcher::Result<T>> + Unpin)) -> T {
    let told = tokio::time::timeout(PATIENCE, stream.try_next()).await;
    told.expect("nothing was told").unwrap().expect("the watch ended")
}

#[tokio::test]
async fn a_watcher_tells_all_that_is_there_and_then_each_change() {
    let ground = Ground::up().await;
    let api = ground.environments();
    let listing = watcher::Config::default();
    for (name, config) in [("first", listing.clone()), ("second", listing.streaming_lists())] {
        let mut told = pin!(watcher(api.clone(), config));
        assert!(matches!(next(&mut told).await, watcher::Event::Init));
        assert!(
            matches!(next(&mut told).await, watcher::Event::InitApply(it) if it.name_any() == "alice")
        );
        assert!(matches!(next(&mut told).await, watcher::Event::InitDone));
        api.create(&PostParams::default(), &ground.environment(name)).await.unwrap();
        let is = |it: &DynamicObject| it.name_any() == name;
        // The controller's own changes of the status come between.
        while !matches!(next(&mut told).await, watcher::Event::Apply(it) if is(&it)) {}
        api.delete(name, &DeleteParams::default()).await.unwrap();
        loop {
            match next(&mut told).await {
                watcher::Event::Delete(it) if is(&it) => break,
                watcher::Event::Apply(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Failed(#[from] kube::Error);

/// Notes in an environment, and in its status, that it was seen.
async fn reconcile(
    seen: Arc<DynamicObject>,
    api: Arc<Api<DynamicObject>>,
) -> Result<Action, Failed> {
    let name = seen.name_any();
    let note = Patch::Merge(
        json!({"metadata": {"annotations": {"controller.example/saw": seen.data["spec"]["owner"]}}}),
    );
    api.patch(&name, &PatchParams::default(), &note).await?;
    // The number is hangar's own, and right as it is: that a patch of the status is taken is what counts.
    let status = Patch::Merge(json!({"status": {"bays_given_up": 0}}));
    api.patch_status(&name, &PatchParams::default(), &status).await?;
    Ok(Action::await_change())
}

#[tokio::test]
async fn a_controller_reconciles_what_is_made() {
    let ground = Ground::up().await;
    let api = ground.environments();
    let config = watcher::Config::default().fields("metadata.name=made");
    let mut done = Controller::new_with(api.clone(), config, ground.kind.clone())
        .run(reconcile, |_, failed, _| panic!("{failed}"), Arc::new(api.clone()))
        .boxed();
    api.create(&PostParams::default(), &ground.environment("made")).await.unwrap();
    let (object, _) = tokio::time::timeout(PATIENCE, done.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(object.name, "made");
    let made = api.get("made").await.unwrap();
    assert_eq!(made.annotations()["controller.example/saw"], "a@example.com");
}

#[tokio::test]
async fn a_recorder_writes_events_and_repeats_them() {
    let ground = Ground::up().await;
    let alice = ground.environments().get("alice").await.unwrap();
    let reference = kube::core::Resource::object_ref(&alice, &ground.kind);
    let reporter = Reporter { controller: "example".into(), instance: None };
    let recorder = Recorder::new(ground.client.clone(), reporter);
    let event = Event {
        type_: EventType::Normal,
        reason: "Looked".into(),
        note: Some("at it".into()),
        action: "Look".into(),
        secondary: None,
    };
    for _ in 0..2 {
        recorder.publish(&event, &reference).await.unwrap();
    }
    let events: Api<k8s_openapi::api::events::v1::Event> =
        Api::default_namespaced(ground.client.clone());
    let events = events.list(&ListParams::default().fields("reason=Looked")).await.unwrap().items;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].note.as_deref(), Some("at it"));
    assert_eq!(events[0].series.as_ref().map(|it| it.count), Some(2));
}

/// The pods, once alice's is ready.
async fn pods(ground: &Ground) -> Api<Pod> {
    let pods: Api<Pod> = Api::default_namespaced(ground.client.clone());
    let ready = kube::runtime::wait::conditions::is_pod_running();
    let waiting = kube::runtime::wait::await_condition(pods.clone(), "alice", ready);
    tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    until("alice to answer", async || {
        let alice = pods.get("alice").await.unwrap();
        let conditions = alice.status.clone().and_then(|it| it.conditions).unwrap_or_default();
        let is_ready = conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
        is_ready.then_some(()).ok_or_else(|| format!("{alice:?}"))
    })
    .await;
    pods
}

#[tokio::test]
async fn a_command_is_run_with_input_and_its_exit_code_comes_back() {
    let ground = Ground::up().await;
    let options = AttachParams::default().stdin(true).stderr(true);
    let script = ["sh", "-c", "read word; echo got $word; echo bad >&2; exit 3"];
    let mut running = pods(&ground).await.exec("alice", script, &options).await.unwrap();
    let status = running.take_status().unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    let mut stdout = running.stdout().unwrap();
    let mut stderr = running.stderr().unwrap();
    running.stdin().unwrap().write_all(b"hello\n").await.unwrap();
    let reading = async {
        futures::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err), status).2
    };
    let status = tokio::time::timeout(PATIENCE, reading).await.unwrap().unwrap();
    running.join().await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("got hello\n", "bad\n"));
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let causes = status.details.unwrap().causes.unwrap();
    assert_eq!(causes[0].message.as_deref(), Some("3"));
}

#[tokio::test]
async fn a_port_is_forwarded() {
    let ground = Ground::up().await;
    let mut forward = pods(&ground).await.portforward("alice", &[8080]).await.unwrap();
    let mut stream = forward.take_stream(8080).unwrap();
    let body = "y".repeat(300_000);
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: alice\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let writing = async {
        to.write_all(head.as_bytes()).await.unwrap();
        to.write_all(body.as_bytes()).await.unwrap();
    };
    let mut answer = String::new();
    let both = async { futures::join!(writing, from.read_to_string(&mut answer)).1.unwrap() };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&body), "{}", &answer[..200]);
}
