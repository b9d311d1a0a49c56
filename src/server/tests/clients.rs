//! What Kubernetes' clients ask beside the objects themselves, and the forms in which they ask.

use futures::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::{
    self, Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode,
};

use super::*;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", |it| it.to_str().unwrap())
}

#[tokio::test]
async fn discovery_is_one_page_for_those_who_can_read_it() {
    let api = Api::start().await;
    for (path, group) in [("/api", Value::Null), ("/apis", json!("hangar.dev"))] {
        let accept = format!("{AGGREGATED},application/json");
        let reply = api.send(api.request(&format!("GET {path}")).header("accept", accept)).await;
        assert_eq!(
            (header(&reply, "content-type"), header(&reply, "vary")),
            (AGGREGATED, "Accept")
        );
        assert_eq!(
            reply.body["items"][0]["metadata"].get("name").cloned().unwrap_or_default(),
            group
        );
        let plain = api.get(path).await;
        assert_eq!(header(&plain, "content-type"), "application/json");
        assert!(plain.body.get("items").is_none());
    }
    assert_eq!(api.get("/apis/nothing.example").await.code, 404);
    assert_eq!(api.get("/apis/hangar.dev/v2").await.code, 404);
}

#[tokio::test]
async fn openapi_is_found_by_its_hash_and_kept_for_good() {
    let api = Api::start().await;
    let index = api.get("/openapi/v3").await.body;
    let address = text(&index, "/paths/apis~1hangar.dev~1v1alpha1/serverRelativeURL");
    let document = api.get(address).await;
    assert!(header(&document, "cache-control").contains("immutable"));
    let schemas = &document.body["components"]["schemas"];
    let environment = &schemas["dev.hangar.v1alpha1.Environment"];
    assert!(text(environment, "/properties/spec/properties/owner/description").len() > 5);
    let request = api.request(&format!("GET {address}"));
    let again = api.send(request.header("if-none-match", header(&document, "etag"))).await;
    assert_eq!(again.code, 304);
    let (path, _) = address.split_once('?').unwrap();
    assert!(!header(&api.get(path).await, "cache-control").contains("immutable"));
    // The client follows to the edition there is.
    assert_eq!(api.get(&format!("{path}?hash=OLD")).await.body, document.body);
    assert_eq!(api.get("/openapi/v3/apis/authorization.k8s.io/v1").await.code, 404);
}

#[tokio::test]
async fn the_old_openapi_can_be_read_by_those_who_ask_for_it() {
    let api = Api::start().await;
    let media = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let response = api.request("GET /openapi/v2").header("accept", media).send().await.unwrap();
    assert_eq!(response.bytes().await.unwrap().len(), 27);
    assert_eq!(api.get("/openapi/v2").await.body["swagger"], "2.0");
}

#[tokio::test]
async fn a_body_may_be_protobuf_where_there_is_a_table_for_it() {
    let api = Api::start().await;
    let field = |number: u8, bytes: &[u8]| {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    };
    let body = |kind: &str, raw: &[u8]| {
        let of = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
        [b"k8s\0".to_vec(), field(1, &of), field(2, raw)].concat()
    };
    let send = |request: String, body: Vec<u8>| {
        let media = "application/vnd.kubernetes.protobuf";
        api.send(api.request(&request).header("content-type", media).body(body))
    };
    let settings = "/api/v1/namespaces/default/configmaps";
    let entry = [field(1, b"K"), field(2, b"v")].concat();
    let raw = [field(1, &field(1, b"settings")), field(2, &entry)].concat();
    let made = send(format!("POST {settings}"), body("ConfigMap", &raw)).await;
    assert_eq!((made.code, &made.body["data"]), (201, &json!({"K": "v"})), "{}", made.body);
    assert_eq!(send(format!("POST {settings}"), body("Pod", b"")).await.code, 415);
    assert_eq!(send(format!("POST {settings}"), b"k8s\0\xff".to_vec()).await.code, 400);
    assert_eq!(send(format!("POST {settings}"), body("Secret", &raw)).await.code, 400);
    let wrong = body("DeleteOptions", &field(2, &field(1, b"another uid")));
    assert_eq!(send(format!("DELETE {settings}/settings"), wrong).await.code, 409);
    let deleted = send(format!("DELETE {settings}/settings"), body("DeleteOptions", b"")).await;
    assert_eq!(deleted.code, 200, "{}", deleted.body);
}

#[tokio::test]
async fn callers_learn_what_they_may_do_and_who_they_are() {
    let access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let ask = |verb: &str, resource: &str| {
        json!({"spec": {"resourceAttributes": {
            "verb": verb, "group": "hangar.dev", "resource": resource, "namespace": "default",
        }}})
    };
    for (token, name) in [(None, "system:unsecured"), (Some("t"), "hangar:token")] {
        let api = Api::start_with(token).await;
        let post = async |path: &str, body: &Value| {
            let request = api.request(&format!("POST {path}")).bearer_auth(token.unwrap_or("none"));
            let request = request.header("content-type", "application/json");
            api.send(request.body(body.to_string())).await
        };
        let may = post(access, &ask("create", "environments")).await;
        assert_eq!((may.code, &may.body["status"]["allowed"]), (201, &json!(true)));
        let may = post(access, &ask("create", "bays")).await;
        assert_eq!(may.body["status"]["allowed"], false);
        assert_eq!(post(access, &json!({"spec": {}})).await.code, 422);
        let rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let rules = post(rules, &json!({"spec": {"namespace": "default"}})).await.body;
        let bays = json!({"verbs": ["get", "list", "watch"], "apiGroups": ["hangar.dev"], "resources": ["bays"]});
        assert!(rules["status"]["resourceRules"].as_array().unwrap().contains(&bays), "{rules}");
        for version in ["v1", "v1beta1"] {
            let path = format!("/apis/authentication.k8s.io/{version}/selfsubjectreviews");
            let me = post(&path, &json!({})).await.body;
            assert_eq!(text(&me, "/status/userInfo/username"), name);
            assert_eq!(me["apiVersion"], format!("authentication.k8s.io/{version}"));
        }
    }
}

#[tokio::test]
async fn an_event_is_the_same_object_in_both_groups() {
    let api = Api::start().await;
    let (old, new) =
        ("/api/v1/namespaces/default/events", "/apis/events.k8s.io/v1/namespaces/default/events");
    let event = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "alice.1"},
        "eventTime": "2026-09-01T12:00:00.123456Z",
        "regarding": {"kind": "Environment", "name": "alice", "namespace": "default"},
        "reportingController": "test",
        "reportingInstance": "test-1",
        "action": "Trying",
        "reason": "Tried",
        "note": "it was tried",
        "type": "Normal",
    });
    let made = api.post(new, &event).await;
    assert_eq!(made.code, 201, "{}", made.body);
    assert_eq!((text(&made.body, "/note"), made.body.get("message")), ("it was tried", None));
    let read = api.get(&format!("{old}/alice.1")).await.body;
    assert_eq!(text(&read, "/apiVersion"), "v1");
    assert_eq!(text(&read, "/involvedObject/name"), "alice");
    assert_eq!(text(&read, "/lastTimestamp"), "2026-09-01T12:00:00.123456Z");
    let series = json!({"series": {"count": 3, "lastObservedTime": "2026-09-01T12:01:00.000000Z"}});
    let patched = api.patch(&format!("{new}/alice.1"), &series).await;
    assert_eq!(
        (patched.code, &patched.body["deprecatedCount"]),
        (200, &json!(3)),
        "{}",
        patched.body
    );
    let mut whole = patched.body;
    whole["note"] = json!("again");
    assert_eq!(api.call(&format!("PUT {new}/alice.1"), Some(&whole)).await.code, 200);
    for (path, field, kind) in
        [(old, "involvedObject", "/items/0/message"), (new, "regarding", "/items/0/note")]
    {
        let selected = api.get(&format!("{path}?fieldSelector={field}.name=alice")).await.body;
        assert_eq!(text(&selected, kind), "again");
        let none = api.get(&format!("{path}?fieldSelector={field}.name=bob")).await.body;
        assert_eq!(none["items"], json!([]));
    }
    let mut lines = api.watch(&format!("{new}?watch=true")).await;
    let told = lines.next().await.unwrap();
    assert_eq!(text(&told, "/object/apiVersion"), "events.k8s.io/v1");
    assert_eq!(api.post(old, &event).await.code, 400, "another group's object");
}

#[tokio::test]
async fn definitions_of_hangars_own_kinds_are_read_and_not_written() {
    let api = Api::start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let list = api.get(path).await.body;
    let names: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|it| text(it, "/metadata/name")).collect();
    assert!(names.contains(&"environments.hangar.dev") && names.len() > 5, "{names:?}");
    let one = api.get(&format!("{path}/environments.hangar.dev")).await.body;
    assert_eq!(text(&one, "/spec/versions/0/name"), "v1alpha1");
    assert!(revision(&one) > 0);
    assert_eq!(api.get(&format!("{path}/nothing.hangar.dev")).await.code, 404);
    assert_eq!(api.delete(&format!("{path}/environments.hangar.dev")).await.code, 403);
    assert_eq!(api.post(path, &json!({"metadata": {"name": "x"}})).await.code, 403);
    let page = api.get(&format!("{path}?limit=1")).await.body;
    assert!(page["metadata"]["continue"].is_string());
    let selector = "fieldSelector=metadata.name=bays.hangar.dev";
    let mut lines =
        api.watch(&format!("{path}?watch=true&{selector}&allowWatchBookmarks=true")).await;
    assert_eq!(lines.event().await.unwrap(), "ADDED bays.hangar.dev");
    assert_eq!(lines.event().await.unwrap(), "BOOKMARK", "it goes on, and nothing comes");
}

#[tokio::test]
async fn a_watch_may_be_a_web_socket() {
    let api = Api::start().await;
    api.env("alice").await;
    let url = format!("{}{ENVS}?watch=true&timeoutSeconds=600", api.url.replace("http", "ws"));
    let mut foreign = url.as_str().into_client_request().unwrap();
    foreign.headers_mut().insert("origin", "http://evil.example".parse().unwrap());
    let Err(tungstenite::Error::Http(refused)) = tokio_tungstenite::connect_async(foreign).await
    else {
        panic!("a page of another site may watch");
    };
    assert_eq!(refused.status(), 403);
    let (mut socket, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let next = async |socket: &mut tokio_tungstenite::WebSocketStream<_>| {
        tokio::time::timeout(SOON, socket.next()).await.unwrap()
    };
    let told = |message: Option<Result<Message, _>>| -> (String, String) {
        let event: Value =
            serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap();
        (text(&event, "/type").to_owned(), text(&event, "/object/metadata/name").to_owned())
    };
    assert_eq!(told(next(&mut socket).await), ("ADDED".to_owned(), "alice".to_owned()));
    socket.send(Message::Ping("p".into())).await.unwrap();
    assert_eq!(next(&mut socket).await.unwrap().unwrap(), Message::Pong("p".into()));
    api.env("bob").await;
    assert_eq!(told(next(&mut socket).await), ("ADDED".to_owned(), "bob".to_owned()));
    api.trigger.shut_down();
    let Some(Ok(Message::Close(Some(frame)))) = next(&mut socket).await else {
        panic!("it does not close");
    };
    assert_eq!(frame.code, CloseCode::Normal);
}
