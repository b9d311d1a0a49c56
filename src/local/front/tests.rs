//! The front as clients, routers and machines meet it, over real sockets.

mod bench;
mod rounds;
mod streams;

use std::time::Duration;

use bench::Bench;
use http::StatusCode;

use crate::fly::wire::Autostop;

const TO_M1: (&str, &str) = ("x-order", "app=web;instance=m1;state=epoch-7");

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|place| u8::try_from((place * 31 + place / 251) % 256).unwrap()).collect()
}

#[tokio::test]
async fn a_replay_takes_the_request_to_the_machine_that_the_router_names() {
    let bench = Bench::start().await;
    let forged = ("fly-replay-src", "instance=evil;state=forged");
    let told = bench.get("/a/b?c=d", &[TO_M1, forged, ("x-own", "1")]).await;
    assert_eq!(told.status, StatusCode::OK);
    let saw = told.saw();
    assert_eq!(saw["machine"], "m1");
    assert_eq!((&saw["path"], &saw["query"]), (&"/a/b".into(), &"c=d".into()));
    let headers = &saw["headers"];
    assert_eq!(headers["host"], bench.address.to_string());
    assert_eq!(headers["x-own"], "1");
    assert_eq!(headers["fly-client-ip"], "127.0.0.1");
    assert_eq!(headers["fly-forwarded-port"], bench.address.port().to_string());
    let source = headers["fly-replay-src"].as_str().unwrap();
    assert!(source.starts_with("instance=local;region=local;t="), "{source}");
    assert!(source.ends_with(";state=epoch-7") && !source.contains("evil"), "{source}");
    assert!(!told.headers.contains_key("fly-replay"));
    assert_eq!(told.headers["server"], "Fly/local");
    assert_eq!(told.headers["via"], "1.1 fly.io");
    assert!(told.headers["fly-request-id"].to_str().unwrap().ends_with("-local"));
    assert_eq!(headers["fly-request-id"], told.headers["fly-request-id"].to_str().unwrap());
}

#[tokio::test]
async fn the_router_never_sees_a_forged_source() {
    let bench = Bench::start().await;
    let forged = [("fly-replay-src", "state=x"), ("fly-replay-failed", "reason=timeout")];
    let saw = bench.get("/", &forged).await.saw();
    assert_eq!(saw["machine"], "router");
    assert!(saw["headers"].get("fly-replay-src").is_none());
    assert!(saw["headers"].get("fly-replay-failed").is_none());
}

#[tokio::test]
async fn connections_are_kept_on_both_sides_of_the_front() {
    let bench = Bench::start().await;
    for _ in 0..5 {
        assert_eq!(bench.get("/", &[TO_M1]).await.saw()["machine"], "m1");
        assert_eq!(bench.get("/", &[]).await.saw()["machine"], "router");
    }
    assert_eq!(bench.router_peers.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_machine_may_replay_in_turn() {
    let bench = Bench::start().await;
    let second = ("x-second", "app=db");
    let told = bench.get("/order", &[TO_M1, second]).await;
    // The database machine replays to its own app for ever.
    assert_eq!(told.status, StatusCode::BAD_GATEWAY);
    assert!(told.text().starts_with("PA02: "), "{}", told.text());
    let dials = bench.yard.log();
    assert_eq!(dials.len(), 10, "{dials:?}");

    let json = r#"{"app":"web","instance":"m1","transform":{"path":"/order"}}"#;
    let second = ("x-second", "region=\"ams,local\";elsewhere=true;state=s");
    let told = bench.get("/order", &[("x-order-json", json), second]).await;
    // m1 and m2 send it to each other.
    assert!(told.text().starts_with("PA02: "), "{}", told.text());
    let dials = bench.yard.log();
    assert_eq!(&dials[10..13], ["dial m1", "dial m2", "dial m1"]);
}

#[tokio::test]
async fn the_json_form_changes_the_request() {
    let bench = Bench::start().await;
    let json = r#"{"app":"web","instance":"m2","state":"s",
        "transform":{"path":"/new","delete_headers":["x-gone","x-order-json"],
        "set_headers":[{"name":"x-set","value":"2"},{"name":"fly-replay-src","value":"forged"}]}}"#;
    let json = json.replace('\n', "");
    let told = bench.get("/old?q=1", &[("x-order-json", &json), ("x-gone", "1")]).await;
    let saw = told.saw();
    assert_eq!((&saw["path"], &saw["query"]), (&"/new".into(), &"q=1".into()));
    assert_eq!(saw["headers"]["x-set"], "2");
    assert!(saw["headers"].get("x-gone").is_none());
    assert!(saw["headers"]["fly-replay-src"].as_str().unwrap().ends_with(";state=s"));
}

#[tokio::test]
async fn a_body_under_the_limit_is_replayed_byte_for_byte() {
    let bench = Bench::start().await;
    for length in [0, 1, 900_000, 1024 * 1024] {
        let body = bytes(length);
        let told = bench.ask("POST", "/echo", &[TO_M1], body.clone()).await;
        assert_eq!(told.headers["x-machine"], "m1");
        assert!(told.body == body, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_uploads_at_once_stay_apart() {
    let bench = Bench::start().await;
    let uploads = (0..64).map(|number| {
        let bench = &bench;
        async move {
            let body = bytes(20_000 + number * 1_000);
            let order = if number % 2 == 0 { "app=web;instance=m1" } else { "app=db" };
            let told = bench.ask("POST", "/echo", &[("x-order", order)], body.clone()).await;
            assert_eq!(told.status, 200, "{number} {}", told.text());
            assert_eq!(told.headers["x-machine"], if number % 2 == 0 { "m1" } else { "d1" });
            assert!(told.body == body, "{number}");
        }
    });
    futures::future::join_all(uploads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_arrives_although_nobody_reads_the_upload() {
    let bench = Bench::start().await;
    for length in [10, 100_000, 1_000_000, 8_000_000] {
        for headers in [&[][..], &[TO_M1]] {
            let told = bench.ask("POST", "/deaf", headers, bytes(length)).await;
            if length > 1_024 * 1_024 && !headers.is_empty() {
                assert_eq!(told.status, StatusCode::PAYLOAD_TOO_LARGE);
            } else {
                assert_eq!(told.text(), "unread", "{length} {headers:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_larger_body_is_refused_only_when_it_would_be_replayed() {
    let bench = Bench::start().await;
    let body = bytes(1_200_000);
    let told = bench.ask("POST", "/echo", &[], body.clone()).await;
    assert_eq!(told.headers["x-machine"], "router");
    assert!(told.body == body);
    let told = bench.ask("POST", "/echo", &[TO_M1], body.clone()).await;
    assert_eq!(told.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(told.text().starts_with("PA01: "), "{}", told.text());
    assert!(bench.yard.log().is_empty());
}

#[tokio::test]
async fn answers_without_a_body_stay_so() {
    let bench = Bench::start().await;
    for headers in [&[][..], &[TO_M1]] {
        let whole = bench.ask("GET", "/x", headers, "").await;
        let head = bench.ask("HEAD", "/x", headers, "").await;
        assert_eq!(head.status, StatusCode::OK);
        let length = |told: &bench::Told| -> usize {
            told.headers["content-length"].to_str().unwrap().parse().unwrap()
        };
        // The method is one letter longer in what the machine tells.
        assert_eq!(length(&head), length(&whole) + 1);
        assert!(head.body.is_empty());
        let none = bench.ask("DELETE", "/none", headers, "").await;
        assert_eq!(none.status, StatusCode::NO_CONTENT);
        assert!(!none.headers.contains_key("content-length"));
        let old = bench.ask("GET", "/old", headers, "").await;
        assert_eq!(
            (old.status, &old.headers["etag"]),
            (StatusCode::NOT_MODIFIED, &"\"1\"".parse().unwrap())
        );
    }
}

#[tokio::test]
async fn a_sleeping_machine_is_woken_before_it_is_dialled() {
    let bench = Bench::start().await;
    for asleep in ["stopped", "suspended"] {
        bench.yard.change("m1", |target| target.state = asleep.to_owned());
        let before = bench.yard.log().len();
        assert_eq!(bench.get("/", &[TO_M1]).await.saw()["machine"], "m1");
        assert_eq!(bench.yard.log()[before..], ["wake m1", "dial m1"], "{asleep}");
    }
}

#[tokio::test]
async fn a_machine_that_has_just_started_may_refuse_for_a_while() {
    let bench = Bench::start().await;
    bench.yard.refuse("m1", 3);
    assert_eq!(bench.get("/", &[TO_M1]).await.saw()["machine"], "m1");
    bench.yard.refuse("m1", u32::MAX);
    let told = bench.get("/", &[("x-order", "app=web;instance=m1;timeout=50ms")]).await;
    assert_eq!(told.status, StatusCode::BAD_GATEWAY);
    assert!(told.text().starts_with("PC01: "), "{}", told.text());
}

#[tokio::test]
async fn another_machine_stands_in_for_the_preferred_one() {
    let bench = Bench::start().await;
    bench.yard.change("m1", |target| target.cordoned = true);
    let saw = bench.get("/", &[("x-order", "app=web;prefer_instance=m1")]).await.saw();
    assert_eq!(saw["machine"], "m2");
    assert_eq!(saw["headers"]["fly-preferred-instance-unavailable"], "m1");
    let saw = bench.get("/", &[("x-order", "prefer_instance=m2")]).await.saw();
    assert_eq!(saw["machine"], "m2");
    assert!(saw["headers"].get("fly-preferred-instance-unavailable").is_none());
}

#[tokio::test]
async fn what_cannot_be_followed_is_told_with_flys_code() {
    let bench = Bench::start().await;
    bench.yard.change("m2", |target| {
        target.state = "stopped".to_owned();
        target.autostart = false;
    });
    let cases = [
        ("app=web;app=web", "PA03", 502),
        ("nonsense", "PA03", 502),
        ("region=ams", "PA03", 502),
        ("app=nowhere", "PA04", 502),
        ("app=db;instance=m1", "PR03", 503),
        ("instance=gone", "PR03", 503),
        ("instance=m2", "PR03", 503),
    ];
    for (order, code, status) in cases {
        let told = bench.get("/", &[("x-order", order), ("accept", "application/json")]).await;
        let page = told.saw();
        assert_eq!((&page["code"], told.status.as_u16()), (&code.into(), status), "{order}");
        assert_eq!(page["request_id"], told.headers["fly-request-id"].to_str().unwrap());
        assert!(!told.headers.contains_key("fly-replay"));
    }
    assert!(bench.yard.log().is_empty());
}

#[tokio::test]
async fn a_replay_that_reaches_nobody_falls_back_to_the_router() {
    let bench = Bench::start().await;
    bench.yard.change("m1", |target| target.state = "starting".to_owned());
    let cases = [
        ("app=web;instance=m1;timeout=50ms;fallback=force_self", "timeout", "instance=m1;app=web;"),
        (
            "app=web;instance=gone;region=ams;fallback=prefer_self",
            "no_candidate",
            "instance=gone;app=web;region=ams;",
        ),
    ];
    for (order, reason, names) in cases {
        let told = bench.ask("POST", "/x", &[("x-order", order)], "body").await;
        let saw = told.saw();
        assert_eq!((&saw["machine"], &saw["length"]), (&"router".into(), &4.into()));
        let failed = saw["headers"]["fly-replay-failed"].as_str().unwrap();
        let start = format!("{names}replay_source=local;reason={reason};elapsed_ms=");
        assert!(failed.starts_with(&start), "{failed}");
        assert!(saw["headers"].get("fly-replay-src").is_none());
    }
}

#[tokio::test]
async fn a_request_that_fell_back_is_not_replayed_again() {
    let bench = Bench::start().await;
    let order = ("x-order", "app=web;instance=gone;fallback=force_self");
    let told = bench.get("/again", &[order]).await;
    assert_eq!(told.status, StatusCode::BAD_GATEWAY);
    assert!(told.text().contains("fell back"), "{}", told.text());
}

#[tokio::test]
async fn a_machine_gets_its_own_replay_back_when_it_fails() {
    let bench = Bench::start().await;
    let second = ("x-second", "app=db;instance=gone;fallback=force_self");
    let told = bench.get("/order", &[TO_M1, second]).await;
    // It replays again, which ends the journey: the second answer came from m1 as well.
    assert!(told.text().contains("fell back"), "{}", told.text());
    assert_eq!(bench.yard.log(), ["dial m1", "dial m1"]);
}

#[tokio::test]
async fn a_request_that_cannot_be_passed_on_is_refused() {
    let bench = Bench::start().await;
    let told = streams::raw(
        &bench,
        "CONNECT a.example.com:443 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    let told = streams::raw(
        &bench,
        "GET http://b.example.com/p HTTP/1.1\r\nhost: a.example.com\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(told.contains(r#""host":"b.example.com""#), "{told}");
}

#[tokio::test]
async fn a_get_with_a_body_of_unknown_length_keeps_it() {
    let bench = Bench::start().await;
    for order in ["", "x-order: app=web;instance=m1\r\n"] {
        let request = format!(
            "GET /x HTTP/1.1\r\nhost: a\r\n{order}connection: close\r\ncontent-length: 1\r\n\
             transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        let told = streams::raw(&bench, &request).await;
        assert!(told.contains(r#""length":3"#), "{told}");
    }
}

#[tokio::test]
async fn idle_machines_are_put_to_sleep_and_a_request_wakes_them() {
    let bench = Bench::with(Duration::from_millis(20)).await;
    bench.yard.change("m1", |target| target.autostop = Autostop::Suspend);
    bench.until(|yard| yard.state("m1") == "suspended").await;
    assert_eq!(bench.get("/", &[TO_M1]).await.saw()["machine"], "m1");
    assert_eq!(bench.yard.log()[..3], ["idle m1", "wake m1", "dial m1"]);
    assert_eq!(bench.yard.state("m2"), "started");
}
