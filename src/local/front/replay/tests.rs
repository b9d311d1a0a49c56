//! The grammar of replays, by example and by hostile input.

use proptest::prelude::*;

use super::*;

fn both(app: &str, id: &str) -> Replay {
    Replay {
        app: Some(app.to_owned()),
        instance: Some(Instance::Exactly(id.to_owned())),
        ..Replay::default()
    }
}

#[test]
fn every_documented_field_is_read() {
    let text = "region=\"iad, ord,any\";prefer_instance=00bb33ff;app=web-1;state=a=b,c;elsewhere=true;\
                timeout=800ms;fallback=prefer_self";
    let wanted = Replay {
        regions: vec!["iad".into(), "ord".into(), "any".into()],
        instance: Some(Instance::Prefer("00bb33ff".into())),
        app: Some("web-1".into()),
        state: Some("a=b,c".into()),
        elsewhere: true,
        timeout: Some(Duration::from_millis(800)),
        fallback: Some(Fallback::PreferSelf),
        transform: Transform::default(),
    };
    assert_eq!(parse(text), Ok(wanted));
    assert_eq!(parse(" app = web ; instance = m1 "), Ok(both("web", "m1")));
    assert_eq!(parse("region=sjc").unwrap().regions, ["sjc"]);
}

#[test]
fn what_is_not_documented_is_refused() {
    use Invalid as I;
    let cases = [
        ("", I::EmptyField),
        (";", I::EmptyField),
        ("app=web;", I::EmptyField),
        ("app", I::NoValue),
        ("app;instance=m", I::NoValue),
        ("=web", I::UnknownField),
        ("App=web", I::UnknownField),
        ("ap p=web", I::UnknownField),
        ("app=web;app=web", I::Twice("app")),
        ("instance=m1;prefer_instance=m2", I::Twice("instance")),
        ("app=", I::Value("app")),
        ("app=We b", I::Value("app")),
        ("app=../x", I::Value("app")),
        ("region=iad,ord", I::Value("region")),
        ("region=\"iad,,ord\"", I::Value("region")),
        ("region=\"iad", I::Quote),
        ("region=\"iad\"x;app=a", I::Quote),
        ("state=\"a;t=1\"", I::Value("state")),
        ("state=a b", I::Value("state")),
        ("elsewhere=yes", I::Value("elsewhere")),
        ("timeout=10", I::Value("timeout")),
        ("timeout=0s", I::Value("timeout")),
        ("timeout=-1s", I::Value("timeout")),
        ("timeout=1.5s", I::Value("timeout")),
        ("timeout=99999999999999999999s", I::Value("timeout")),
        ("timeout=9999999999999999999m", I::Value("timeout")),
        ("fallback=self", I::Value("fallback")),
        ("app=web\r\nx: y", I::Unreadable),
        ("app=wéb", I::Unreadable),
    ];
    for (text, why) in cases {
        assert_eq!(parse(text), Err(why), "{text:?}");
    }
    assert!(parse(&format!("app={}", "a".repeat(64))).is_err());
    assert!(parse(&format!("state={}", "a".repeat(STATE_MAX + 1))).is_err());
}

#[test]
fn the_json_form_says_the_same_and_more() {
    let body = br#"{"app":"web","instance":"m1","timeout":"2s","fallback":"force_self","elsewhere":false,
        "region":"iad,ord","cache":{"prefix":"/"},"allow_bypass":true,
        "transform":{"path":"/new?x=1","delete_headers":["Cookie"],"set_headers":[{"name":"X-A","value":"1"}]}}"#;
    let replay = parse_json(body).unwrap();
    assert_eq!(replay.app.as_deref(), Some("web"));
    assert_eq!(replay.regions, ["iad", "ord"]);
    assert_eq!(replay.timeout, Some(Duration::from_secs(2)));
    assert_eq!(replay.transform.path.unwrap(), "/new?x=1");
    assert_eq!(replay.transform.delete_headers, [http::header::COOKIE]);
    assert_eq!(replay.transform.set_headers[0].1, "1");
}

#[test]
fn the_json_form_cannot_forge_anything() {
    let cases = [
        r#"[]"#,
        r#"{"app":"web","extra":1}"#,
        r#"{"app":"web","app":"other"}"#,
        r#"{"app":"web;instance=m2"}"#,
        r#"{"app":"web","state":"a;t=1"}"#,
        r#"{"app":"web","state":"a\r\nx: y"}"#,
        r#"{"instance":"m1","prefer_instance":"m2"}"#,
        r#"{"app":"web","elsewhere":"true"}"#,
        r#"{"app":"web","timeout":10}"#,
        r#"{"app":"web","transform":{"path":"//"  ,"x":1}}"#,
        r#"{"app":"web","transform":{"path":"http://elsewhere/"}}"#,
        r#"{"app":"web","transform":{"set_headers":[{"name":"x","value":"1\r\ny: 2"}]}}"#,
        r#"{"app":"web","transform":{"set_headers":[{"name":"x y","value":"1"}]}}"#,
        r#"{"app":"web","transform":{"set_headers":[{"name":"Content-Length","value":"0"}]}}"#,
        r#"{"app":"web","transform":{"delete_headers":["transfer-encoding"]}}"#,
    ];
    for body in cases {
        assert!(parse_json(body.as_bytes()).is_err(), "{body}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_or_passes_a_separator_on(text in "\\PC*") {
        if let Ok(replay) = parse(&text) {
            prop_assert!(!replay.state.unwrap_or_default().contains([';', '"', '\r', '\n', ' ']));
        }
    }

    #[test]
    fn what_is_written_is_read(app in "[a-z0-9-]{1,63}", id in "[a-z0-9]{1,20}") {
        prop_assert_eq!(parse(&format!("app={app};instance={id}")), Ok(both(&app, &id)));
    }
}
