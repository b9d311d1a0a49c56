//! The client against a real HTTP server with scripted answers. It must never look inside the client.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use expect_test::expect;
use futures::FutureExt as _;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use super::{
    http::{Config, Http},
    observer::{CallRecord, Observer, Silent},
    token::Token,
    *,
};
use crate::clock::System;
use crate::net::{self, Limits};
use crate::tasks;

mod request;

const TOKEN: &str = "fm2_canary";

/// One request as the server saw it.
#[derive(Debug, Clone)]
struct Seen {
    /// Method, path, query and body.
    line: String,
    headers: ::http::HeaderMap,
}

/// What the server answers: status, headers, body.
#[derive(Debug, Clone)]
struct Reply(u16, Vec<(&'static str, &'static str)>, Vec<u8>);

impl Reply {
    fn json(body: &Value) -> Self {
        Self(200, vec![("fly-request-id", "01J-ams")], body.to_string().into_bytes())
    }

    fn refusal(status: u16, text: &str) -> Self {
        let body = json!({ "error": text }).to_string().into_bytes();
        Self(status, vec![("fly-request-id", "01J-ams")], body)
    }
}

/// A server that gives its answers in order, the last one for ever, and a client of it.
#[derive(Debug)]
struct Fly {
    client: Http,
    seen: Arc<Mutex<Vec<Seen>>>,
    records: Arc<Records>,
    _serving: tasks::Trigger,
}

impl Fly {
    async fn with(replies: impl IntoIterator<Item = Reply>) -> Self {
        let listener = net::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let (trigger, shutdown) = tasks::shutdown();
        let handler = {
            let seen = Arc::clone(&seen);
            move |request, _peer| answer(request, Arc::clone(&seen), Arc::clone(&script))
        };
        tasks::detached(async move {
            net::serve(listener, Limits::default(), Duration::ZERO, shutdown, handler)
                .await
                .unwrap();
        });
        let records = Arc::new(Records::default());
        let client = client(address, records.clone());
        Self { client, seen, records, _serving: trigger }
    }

    async fn answering(body: &Value) -> Self {
        Self::with([Reply::json(body)]).await
    }

    async fn refusing(status: u16, text: &str) -> Self {
        Self::with([Reply::refusal(status, text)]).await
    }

    fn lines(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.line.clone()).collect()
    }
}

fn client(address: SocketAddr, observer: Arc<dyn Observer>) -> Http {
    let config = Config::new(&format!("http://{address}"), Token::new(TOKEN));
    Http::new(config, System::shared(), observer).unwrap()
}

async fn answer(
    request: hyper::Request<hyper::body::Incoming>,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<VecDeque<Reply>>>,
) -> hyper::Response<net::Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let line = format!("{} {} {}", head.method, head.uri, String::from_utf8_lossy(&body));
    seen.lock().unwrap().push(Seen { line: line.trim().to_owned(), headers: head.headers });
    let Reply(status, headers, body) = {
        let mut script = script.lock().unwrap();
        if script.len() > 1 { script.pop_front().unwrap() } else { script[0].clone() }
    };
    let mut response = hyper::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    if body.starts_with(b"CUT") {
        let chunks = [
            Ok(Frame::data(Bytes::from_static(b"{\"id\":"))),
            Err(std::io::Error::other("the connection breaks here")),
        ];
        let body = StreamBody::new(futures::stream::iter(chunks));
        return response.body(body.boxed_unsync()).unwrap();
    }
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    response.body(body.boxed_unsync()).unwrap()
}

/// `name outcome status request-id` of each call.
#[derive(Debug, Default)]
struct Records(Mutex<Vec<String>>);

impl Observer for Records {
    fn called(&self, record: &CallRecord<'_>) {
        let status = record.status.map_or(0, |status| status.as_u16());
        let id = record.request_id.unwrap_or("-");
        let line = format!("{} {} {status} {id}", record.call.route.name, record.outcome);
        self.0.lock().unwrap().push(line);
    }
}

#[test]
fn durations_that_add_up_to_more_than_there_is_are_none() {
    let most = "10000000000000000000s";
    assert!(wire::GoDuration::parse(most).is_some());
    assert_eq!(wire::GoDuration::parse(&most.repeat(2)), None);
}

#[tokio::test]
async fn a_machine_is_read_in_every_form_that_fly_gives_it() {
    let body = json!({
        "id": "3d8d1", "name": null, "state": "started", "instance_id": "01V", "version": "01V",
        "private_ip": null, "events": null, "host_status": "ok", "new_field": {"x": [1]},
        "checks": [
            {"name": "bg_deployments_compat_1", "status": "passing"},
            {"name": "ready", "status": "critical", "output": null},
        ],
        "config": {
            "image": "i", "env": null, "mounts": null, "metadata": null, "restart": null,
            "guest": {"cpu_kind": "shared", "cpus": 1, "memory_mb": 256, "persist_rootfs": 2},
            "services": [
                {"protocol": "tcp", "internal_port": 80, "autostop": false, "ports": null},
                {"protocol": "tcp", "internal_port": 81, "autostop": true},
                {"protocol": "tcp", "internal_port": 82, "autostop": "suspend"},
            ],
            "checks": {"ready": {"type": "http", "interval": "15s", "timeout": 2_000_000_000}},
            "stop_config": {"timeout": "1m30s"},
            "dns": {"skip_registration": true},
        },
    });
    let fly = Fly::answering(&body).await;
    let machine = fly.client.get_machine("a", "3d8d1").await.unwrap();
    assert_eq!((machine.instance_id.as_str(), machine.name.as_str()), ("01V", ""));
    let checks: Vec<_> = machine.checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(checks, ["ready"]);
    let config = machine.config.unwrap();
    let autostop: Vec<_> = config.services.iter().map(|it| it.autostop.unwrap()).collect();
    assert_eq!(autostop, [wire::Autostop::Off, wire::Autostop::Stop, wire::Autostop::Suspend]);
    let timeout = config.checks["ready"].timeout.unwrap().0;
    assert_eq!(timeout, Duration::from_secs(2));
    assert_eq!(config.stop_config.unwrap().timeout.unwrap().0, Duration::from_secs(90));
    assert_eq!(config.guest.unwrap().other["persist_rootfs"], 2);
    assert_eq!(config.other["dns"]["skip_registration"], true);
}

#[tokio::test]
async fn a_machine_on_a_dead_host_has_no_configuration() {
    let body = json!({
        "id": "3d8d1", "version": "01V", "host_status": "unreachable",
        "incomplete_config": {"image": "i"}, "image_ref": {"tag": null},
    });
    let fly = Fly::answering(&body).await;
    let machine = fly.client.get_machine("a", "3d8d1").await.unwrap();
    assert_eq!(machine.instance_id, "01V");
    assert_eq!(machine.config, None);
    assert_eq!(machine.incomplete_config.unwrap().image, "i");
}

#[tokio::test]
async fn both_spellings_of_a_key_are_read() {
    for body in [json!({"version": 7}), json!({"Version": 7}), json!({"version": 7, "Version": 6})]
    {
        let fly = Fly::answering(&body).await;
        let update = SecretsUpdate::default();
        assert_eq!(fly.client.set_secrets("a", &update).await.unwrap().version, 7, "{body}");
    }
    for body in [
        json!({"Regions": [{"code": "ams"}], "Nearest": "ams"}),
        json!({"regions": [{"code": "ams"}]}),
    ] {
        let fly = Fly::answering(&body).await;
        assert_eq!(fly.client.regions().await.unwrap()[0].code, "ams", "{body}");
    }
}

#[tokio::test]
async fn null_is_an_empty_list_and_an_answer_without_one_is_no_list() {
    let fly = Fly::answering(&Value::Null).await;
    assert!(fly.client.list_machines("a", &[]).await.unwrap().is_empty());
    assert!(fly.client.list_volumes("a").await.unwrap().is_empty());
    assert!(fly.client.snapshots("a", "v").await.unwrap().is_empty());
    let null = json!({"machines": null, "volumes": null, "apps": null, "next_cursor": null});
    let fly = Fly::answering(&null).await;
    let query = OrgQuery::default();
    assert!(fly.client.org_machines("o", &query).await.unwrap().machines.is_empty());
    assert!(fly.client.org_volumes("o", &query).await.unwrap().volumes.is_empty());
    assert!(fly.client.list_apps("o").await.unwrap().is_empty());
    let html = Reply(200, vec![], b"<html>welcome".to_vec());
    for odd in [Reply::json(&json!({})), Reply(200, vec![], Vec::new()), html] {
        let fly = Fly::with([odd.clone()]).await;
        let kind = |error: Error| error.kind();
        assert_eq!(fly.client.org_machines("o", &query).await.map_err(kind), Err("decode"));
        assert_eq!(fly.client.org_volumes("o", &query).await.map_err(kind), Err("decode"));
        assert_eq!(fly.client.list_apps("o").await.map_err(kind), Err("decode"));
        assert_eq!(fly.client.list_machines("a", &[]).await.map_err(kind), Err("decode"));
    }
}

#[tokio::test]
async fn one_unreadable_machine_spoils_the_list() {
    let fly = Fly::answering(&json!({"machines": [{"id": "1", "app_name": "a"}, {"id": 2}]})).await;
    let error = fly.client.org_machines("o", &OrgQuery::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Decode { at: "machines[1].id".to_owned() });
}

#[tokio::test]
async fn a_creation_whose_answer_cannot_be_read_may_have_happened() {
    for body in [json!({}), json!({"id": 7}), json!("fm2_canary")] {
        let fly = Fly::answering(&body).await;
        let error = fly.client.create_machine("a", &MachineInput::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.ambiguous()), ("decode", true), "{body}");
        assert_eq!(error.request_id(), Some("01J-ams"));
    }
}

#[tokio::test]
async fn a_408_after_the_effect_is_ambiguous_for_a_change_only() {
    let fly = Fly::refusing(408, "deadline_exceeded: flyd").await;
    let error = fly.client.create_machine("a", &MachineInput::default()).await.unwrap_err();
    assert_eq!((error.reason.clone(), error.ambiguous()), (Reason::DeadlineExceeded, true));
    assert!(!fly.client.get_machine("a", "m").await.unwrap_err().ambiguous());
    assert_eq!(fly.lines().len(), 2, "nothing is sent twice");
}

#[tokio::test]
async fn a_cut_answer_is_ambiguous_for_a_change_only() {
    let fly = Fly::with([Reply(200, vec![], b"CUT".to_vec())]).await;
    let error = fly.client.create_machine("a", &MachineInput::default()).await.unwrap_err();
    assert_eq!(error.reason, Reason::Transport { ambiguous: true });
    let error = fly.client.get_machine("a", "m").await.unwrap_err();
    assert_eq!(error.reason, Reason::Transport { ambiguous: false });
    assert_eq!(fly.lines().len(), 2, "nothing is sent twice");
}

#[tokio::test]
async fn a_reset_after_the_request_is_ambiguous_for_a_change_only() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(listener.local_addr().unwrap(), Arc::new(Silent));
    let accepted = Arc::new(Mutex::new(0));
    let count = Arc::clone(&accepted);
    tasks::detached(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            let _read = stream.read(&mut [0; 8]).await;
        }
    });
    let error = client.start_machine("a", "m").await.unwrap_err();
    assert_eq!(error.reason, Reason::Transport { ambiguous: true });
    assert!(error.ambiguous());
    let error = client.get_machine("a", "m").await.unwrap_err();
    assert_eq!(error.reason, Reason::Transport { ambiguous: false });
    assert_eq!(*accepted.lock().unwrap(), 2, "nothing is sent twice");
    let text = crate::retry::chain(&error);
    assert!(!text.contains("http://"), "{text}");
}

#[tokio::test]
async fn a_connection_that_was_never_made_has_no_effect() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client(address, Arc::new(Silent)).start_machine("a", "m").await.unwrap_err();
    assert_eq!(error.reason, Reason::Transport { ambiguous: false });
    assert_eq!(error.retry(), crate::retry::Retry::Backoff);
    assert_eq!(error.to_string(), "cannot start machine m in app a: no answer");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fly = Fly::with([Reply(307, vec![("location", "/elsewhere")], Vec::new())]).await;
    let error = fly.client.start_machine("a", "m").await.unwrap_err();
    assert_eq!((error.kind(), fly.lines().len()), ("refused", 1));
}

#[tokio::test]
async fn the_token_shows_nowhere() {
    let said = format!("invalid token FlyV1 {TOKEN}, hunter2hunter2 is wrong");
    let fly = Fly::refusing(401, &said).await;
    let update =
        SecretsUpdate { values: [("K".to_owned(), Some("hunter2hunter2".to_owned()))].into() };
    let exec = Exec { stdin: Some("hunter2hunter2".to_owned()), ..Default::default() };
    let errors = [
        fly.client.set_secrets("a", &update).await.unwrap_err(),
        fly.client.exec("a", "m", &exec).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.text().contains("[hidden]"), "{error}");
        let shown = format!("{error} {error:?} {}", crate::retry::chain(&error));
        assert!(!shown.contains(TOKEN) && !shown.contains("hunter2"), "{shown}");
    }
    let config = Config::new("http://h", Token::new(TOKEN));
    let shown = format!("{:?} {config:?} {:?}", fly.client, fly.records);
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[tokio::test]
async fn the_observer_hears_of_every_call() {
    let replies = [
        Reply::json(&json!({ "name": "a" })),
        Reply::refusal(409, "aborted: no capacity"),
        Reply::json(&json!({ "id": 7 })),
    ];
    let fly = Fly::with(replies).await;
    fly.client.get_app("a").await.unwrap();
    fly.client.start_machine("a", "m").await.unwrap_err();
    fly.client.get_machine("a", "m").await.unwrap_err();
    for _ in 0..4 {
        let given_up = fly.client.stop_machine("a", "m", &Stop::default()).now_or_never();
        assert!(given_up.is_none());
    }
    let records = fly.records.0.lock().unwrap().join("\n");
    expect![[r#"
        get_app ok 200 01J-ams
        start_machine capacity_region 409 01J-ams
        get_machine decode 200 01J-ams
        stop_machine cancelled 0 -
        stop_machine cancelled 0 -
        stop_machine cancelled 0 -
        stop_machine unsent 0 -"#]]
    .assert_eq(&records);
}

#[tokio::test]
async fn the_fourth_change_within_a_second_waits_and_others_pass() {
    let fly = Fly::answering(&json!({ "id": "m" })).await;
    for _ in 0..3 {
        fly.client.start_machine("a", "m").await.unwrap();
    }
    let fourth = fly.client.start_machine("a", "m");
    tokio::select! {
        biased;
        _ = fourth => panic!("it did not wait"),
        machine = fly.client.get_machine("a", "m") => machine.unwrap(),
    };
    assert_eq!(fly.lines().len(), 4);
    assert_eq!(fly.lines()[3], "GET /v1/apps/a/machines/m");
}

#[tokio::test]
async fn after_a_429_its_bucket_waits_and_others_pass() {
    let limited = Reply(429, vec![("retry-after", "30")], b"rate limit exceeded".to_vec());
    let fly = Fly::with([limited, Reply::json(&json!({ "id": "m" }))]).await;
    let error = fly.client.start_machine("a", "m").await.unwrap_err();
    assert_eq!(error.retry(), crate::retry::Retry::After(Duration::from_secs(30)));
    let again = fly.client.start_machine("a", "m");
    tokio::select! {
        biased;
        _ = again => panic!("it did not wait"),
        started = fly.client.start_machine("a", "m2") => started.unwrap(),
    };
    assert_eq!(fly.lines().len(), 2);
}
