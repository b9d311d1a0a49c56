//! `fly-replay`: what the router writes, and what the front reads, as a header and as JSON.

use std::fmt::Write as _;

use hangar::{
    local::front::replay::{Fallback, Instance, Replay, parse, parse_json},
    router::{
        decide::Decision,
        packed::App,
        respond::{Asked, respond},
        table::{Flag, Machine, Route},
    },
};
use http::HeaderMap;

/// Reads the bytes as a header and as a JSON body, and has the router write a header of what is in them.
///
/// # Panics
/// If a property does not hold.
pub(crate) fn check(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(replay) = parse(text)
    {
        sound(&replay);
        same(&replay);
        assert!(replay.transform == Default::default(), "a header changes no request");
    }
    if let Ok(mut replay) = parse_json(bytes) {
        sound(&replay);
        for (name, _) in &replay.transform.set_headers {
            let framing = [
                "host",
                "content-length",
                "transfer-encoding",
                "connection",
                "upgrade",
                "te",
                "trailer",
            ];
            assert!(!framing.contains(&name.as_str()), "{name} frames a message");
        }
        // What is said in JSON could have been said in a header, but for the changes.
        replay.transform = Default::default();
        same(&replay);
    }
    written(bytes);
}

/// Nothing in it can be taken for another field, here or in the `fly-replay-src` that it becomes.
fn sound(replay: &Replay) {
    let name = |it: &str| {
        (1..=63).contains(&it.len())
            && it.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    assert!(replay.regions.len() <= 40 && replay.regions.iter().all(|it| name(it)));
    assert!(replay.app.as_deref().is_none_or(name));
    let instance = replay.instance.as_ref();
    assert!(instance.is_none_or(|(Instance::Exactly(it) | Instance::Prefer(it))| name(it)));
    let plain = |it: &str| {
        it.len() <= 4_096 && it.bytes().all(|c| c.is_ascii_graphic() && c != b';' && c != b'"')
    };
    assert!(replay.state.as_deref().is_none_or(plain));
    assert!(replay.timeout.is_none_or(|it| !it.is_zero()));
}

/// What was read is read again from the header that says the same; only nothing at all has none.
fn same(replay: &Replay) {
    let header = header(replay);
    if header.is_empty() {
        return assert_eq!(*replay, Replay::default());
    }
    assert_eq!(parse(&header).as_ref(), Ok(replay), "{header}");
}

/// The header that says the same.
fn header(replay: &Replay) -> String {
    let mut fields = Vec::new();
    if !replay.regions.is_empty() {
        fields.push(format!("region=\"{}\"", replay.regions.join(",")));
    }
    match &replay.instance {
        Some(Instance::Exactly(id)) => fields.push(format!("instance={id}")),
        Some(Instance::Prefer(id)) => fields.push(format!("prefer_instance={id}")),
        None => {}
    }
    fields.extend(replay.app.iter().map(|it| format!("app={it}")));
    fields.extend(replay.state.iter().map(|it| format!("state={it}")));
    if replay.elsewhere {
        fields.push("elsewhere=true".to_owned());
    }
    fields.extend(replay.timeout.iter().map(|it| format!("timeout={}ms", it.as_millis())));
    fields.extend(replay.fallback.iter().map(|it| match it {
        Fallback::ForceSelf => "fallback=force_self".to_owned(),
        Fallback::PreferSelf => "fallback=prefer_self".to_owned(),
    }));
    fields.join(";")
}

/// The router's header has exactly the fields of its route, whatever app and machine are called.
fn written(bytes: &[u8]) {
    let mut parts = bytes.split(|byte| *byte == b';');
    let app = parts.next().unwrap_or_default();
    let machine = parts.next().unwrap_or_default();
    let key = parts.next().unwrap_or_default();
    let (Ok(text), Some(machine)) = (std::str::from_utf8(app), Machine::parse(machine)) else {
        return;
    };
    let Some(app) = App::exact(text) else { return };
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    let route = Route::new(0).to(app, machine).keyed(Some(bytes)).with(Flag::PUBLIC, true);
    let headers = HeaderMap::new();
    let response = respond(&Decision::Replay(route), Asked { headers: &headers, head: false });
    let names: Vec<_> = response.headers().keys().map(|it| it.as_str()).collect();
    assert_eq!(names, ["fly-replay"]);
    let header = response.headers()["fly-replay"].to_str().expect("visible");
    let mut state = String::new();
    bytes.iter().for_each(|byte| write!(state, "{byte:02x}").expect("a string takes all"));
    let expected =
        format!("app={text};instance={machine};state={state};timeout=10s;fallback=prefer_self");
    assert_eq!(header, expected);
    let read = parse(header).expect("the front reads what the router writes");
    let (app, id) = (read.app.expect("an app"), read.instance.expect("a machine"));
    assert_eq!((app.as_str(), id), (text, Instance::Exactly(machine.to_string())));
    assert_eq!(read.state, Some(state));
    assert!(read.regions.is_empty() && !read.elsewhere);
}
