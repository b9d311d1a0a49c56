//! The source against a server that answers by a script.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
};

use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use tokio::sync::mpsc;

use super::*;
use crate::{
    clock,
    net::{self, Body, Limits},
    router::{
        activity::Seen,
        decide::Decision,
        feed::Feed,
        head::{Head, Replayed},
        packed::Label,
        table::Table,
    },
    tasks,
};

const UID: &str = "00000000-1111-4222-8333-000000000001";

/// What the server has and who watches it.
#[derive(Default)]
struct State {
    objects: BTreeMap<&'static str, Vec<String>>,
    watches: BTreeMap<String, mpsc::UnboundedSender<String>>,
    /// Watches from these versions are answered 410.
    expired: Vec<String>,
    asked: Vec<String>,
}

type Shared = Arc<Mutex<State>>;

fn with<T>(state: &Shared, f: impl FnOnce(&mut State) -> T) -> T {
    f(&mut state.lock().unwrap_or_else(PoisonError::into_inner))
}

fn environment(app: &str, epoch: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"alice","namespace":"default","uid":"{UID}","resourceVersion":"1{epoch}"}},"spec":{{"access":"Public"}},"status":{{"bay":{{"name":"bay-1","app":"{app}","machine":"00000000000001","epoch":{epoch}}}}}}}"#
    )
}

fn scripted() -> Shared {
    let hostname = format!(
        r#"{{"metadata":{{"name":"alice"}},"spec":{{"namespace":"default","environment":"alice","uid":"{UID}"}}}}"#
    );
    let key = r#"{"metadata":{"name":"bay-1","namespace":"default"},"type":"hangar.dev/bay-key","data":{"key":"AAECAwQFBgcICQoLDA0ODw=="}}"#;
    let objects = BTreeMap::from([
        ("environments", vec![environment("hgr-1", 1)]),
        ("hostnames", vec![hostname]),
        ("secrets", vec![key.to_owned()]),
    ]);
    Arc::new(Mutex::new(State { objects, ..State::default() }))
}

fn answer(state: &Shared, request: &Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let plural = path.rsplit('/').next().unwrap().to_owned();
    with(state, |state| {
        state.asked.push(format!("{path}?{query}"));
        if !query.contains("watch=1") {
            // Two pages: the first is empty but for its token.
            let (items, token) = match query.contains("continue=next") {
                true => (state.objects[plural.as_str()].join(","), ""),
                false => (String::new(), "next"),
            };
            let list = format!(
                r#"{{"kind":"List","metadata":{{"resourceVersion":"10","continue":"{token}"}},"items":[{items}]}}"#
            );
            return Response::new(
                http_body_util::Full::new(list.into())
                    .map_err(|never| match never {})
                    .boxed_unsync(),
            );
        }
        let asks = |it: &String| query.contains(&format!("resourceVersion={it}"));
        if plural == "environments"
            && let Some(at) = state.expired.iter().position(asks)
        {
            state.expired.remove(at);
            let mut response = Response::new(
                http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(),
            );
            *response.status_mut() = StatusCode::GONE;
            return response;
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        state.watches.insert(plural, sender);
        let lines = stream::unfold(receiver, |mut receiver| async move {
            let line: String = receiver.recv().await?;
            Some((Ok(Frame::data(Bytes::from(line))), receiver))
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    })
}

async fn serve(
    state: &Shared,
    address: SocketAddr,
) -> (SocketAddr, tasks::Trigger, tokio::sync::oneshot::Receiver<()>) {
    let listener = net::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (trigger, shutdown) = tasks::shutdown();
    let (ended, end) = tokio::sync::oneshot::channel();
    let state = Arc::clone(state);
    tasks::detached(async move {
        let handle = move |request: Request<Incoming>, _| {
            let state = Arc::clone(&state);
            async move { answer(&state, &request) }
        };
        net::serve(listener, Limits::default(), Duration::from_secs(5), shutdown, handle)
            .await
            .unwrap();
        let _nobody = ended.send(());
    });
    (address, trigger, end)
}

fn follow(address: SocketAddr) -> Arc<Table> {
    // Another test may have been first.
    let _already = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut remote = Remote::new(client, &format!("http://{address}/"), Some("token".to_owned()));
    remote.pause_max = Duration::from_millis(20);
    let feed = Feed::new(Arc::new(Seen::new(clock::System::shared())));
    let table = feed.table();
    let (trigger, shutdown) = tasks::shutdown();
    tasks::detached(async move {
        feed.run(Box::new(remote), None, shutdown).await.unwrap();
        drop(trigger);
    });
    table
}

fn decided(table: &Table) -> String {
    let head = Head { label: Label::of_name("alice"), failed: false, replayed: Replayed::No };
    match crate::router::decide::decide(&head, table) {
        Decision::Replay(route) => route.app().to_string(),
        other => other.name().to_owned(),
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "waited too long until {what}");
}

fn tell(state: &Shared, plural: &str, line: &str) -> bool {
    with(state, |state| {
        state.watches.get(plural).is_some_and(|it| it.send(line.to_owned()).is_ok())
    })
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

#[tokio::test]
async fn a_list_and_its_changes_reach_the_table() {
    let state = scripted();
    let (address, _trigger, _end) = serve(&state, ANY).await;
    let table = follow(address);
    until("the list is read", || decided(&table) == "hgr-1").await;
    // In two pieces, as a network may deliver it.
    let line = format!("{{\"type\":\"MODIFIED\",\"object\":{}}}\n", environment("hgr-2", 2));
    let (one, other) = line.split_at(40);
    until("environments are watched", || tell(&state, "environments", one)).await;
    assert!(tell(&state, "environments", other));
    until("the change is read", || decided(&table) == "hgr-2").await;
    assert!(tell(
        &state,
        "environments",
        &format!("{{\"type\":\"DELETED\",\"object\":{}}}\n", environment("hgr-2", 2))
    ));
    until("the deletion is read", || decided(&table) == "gone").await;
    let asked = with(&state, |state| state.asked.clone());
    assert!(
        asked.iter().any(|it| it.starts_with("/api/v1/secrets?")
            && it.contains("fieldSelector=type%3Dhangar.dev%2Fbay-key")),
        "{asked:?}"
    );
    assert!(
        asked.iter().any(|it| it.starts_with("/apis/hangar.dev/v1alpha1/hostnames?watch=1")
            && it.contains("resourceVersion=10")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn a_watch_that_is_too_old_starts_with_a_new_list() {
    let state = scripted();
    let (address, _trigger, _end) = serve(&state, ANY).await;
    let table = follow(address);
    until("environments are watched", || {
        with(&state, |it| it.watches.contains_key("environments"))
    })
    .await;
    with(&state, |state| {
        state.objects.insert("environments", vec![environment("hgr-3", 3)]);
        state.watches.clear();
        state.expired.push("10".to_owned());
    });
    until("the new list is read", || decided(&table) == "hgr-3").await;
    let gone = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,\"message\":\"too old\"}}\n";
    until("environments are watched again", || {
        tell(
            &state,
            "environments",
            "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"20\"}}}\n",
        )
    })
    .await;
    with(&state, |state| state.objects.insert("environments", Vec::new()));
    assert!(tell(&state, "environments", gone));
    until("what is not listed any more is gone", || decided(&table) == "gone").await;
}

#[tokio::test]
async fn a_watch_is_resumed_from_the_last_bookmark() {
    let state = scripted();
    let (address, _trigger, _end) = serve(&state, ANY).await;
    let _table = follow(address);
    let bookmark =
        "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{\"resourceVersion\":\"77\"}}}\n";
    until("environments are watched", || tell(&state, "environments", bookmark)).await;
    with(&state, |state| state.watches.clear());
    until("the watch is resumed", || {
        with(&state, |state| {
            state.asked.iter().any(|it| it.contains("watch=1") && it.contains("resourceVersion=77"))
        })
    })
    .await;
}

#[tokio::test]
async fn a_table_is_served_while_the_server_is_gone() {
    let state = scripted();
    let (address, trigger, end) = serve(&state, ANY).await;
    let table = follow(address);
    until("all parts are watched", || with(&state, |it| it.watches.len() == 3)).await;
    with(&state, |state| state.watches.clear());
    trigger.shut_down();
    end.await.unwrap();
    assert!(table.ready());
    assert_eq!(decided(&table), "hgr-1");
    with(&state, |state| state.objects.insert("environments", vec![environment("hgr-4", 4)]));
    with(&state, |state| state.expired.push("1".to_owned()));
    let (_, _trigger, _end) = serve(&state, address).await;
    until("the server is followed again", || decided(&table) == "hgr-4").await;
}
