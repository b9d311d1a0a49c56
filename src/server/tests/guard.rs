//! Who is let in, over real HTTP. The table of cases is beside the guard itself.

use super::{Api, ENVS, env};
use crate::clock::Clock as _;
use crate::server::{Access, Config, Error, Server, Token, audit::Audit};

#[tokio::test]
async fn a_foreign_host_or_page_is_refused() {
    let api = Api::start().await;
    for (header, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let get = api.request("GET /version").header(header, value);
        assert_eq!(api.send(get).await.code, 403, "{header}");
        let post = api.request(&format!("POST {ENVS}")).header(header, value);
        let post = post.header("content-type", "application/json").body(env("x").to_string());
        assert_eq!(api.send(post).await.code, 403, "{header}");
    }
    let own = api.request("GET /version").header("origin", &api.url);
    assert_eq!(api.send(own).await.code, 200);
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_by_probes() {
    let api = Api::start_with(Some("s3cret-canary")).await;
    for path in ["/version", "/metrics", "/logs", ENVS, "/nothing"] {
        let reply = api.get(path).await;
        assert_eq!(reply.code, 401, "{path}");
        assert!(reply.headers.contains_key("www-authenticate"));
    }
    assert_eq!(api.get("/readyz").await.code, 200);
    let known = api.request("GET /version").bearer_auth("s3cret-canary");
    assert_eq!(api.send(known).await.code, 200);
    assert!(!format!("{:?}", Token::new("s3cret-canary")).contains("canary"));
}

#[tokio::test]
async fn an_address_that_others_reach_needs_a_token() {
    let api = Api::start().await;
    let config = |access| {
        let listen = "0.0.0.0:0".parse().unwrap();
        Config { listen, access, audit: Audit::off() }
    };
    let refused = Server::bind(config(Access::Open), api.parts.clone()).await;
    assert!(matches!(refused, Err(Error::Unprotected(_))));
    let (tokens, _) = super::access(Some("t"), api.dir.path(), api.clock.now());
    assert!(Server::bind(config(tokens), api.parts.clone()).await.is_ok());
}

#[tokio::test]
async fn a_body_of_no_said_type_is_json_but_not_from_a_browser() {
    let api = Api::start().await;
    let post = || api.request(&format!("POST {ENVS}")).body(env("alice").to_string());
    assert_eq!(api.send(post().header("sec-fetch-site", "none")).await.code, 415);
    assert_eq!(api.send(post()).await.code, 201);
    let patch = api.request(&format!("PATCH {ENVS}/alice")).body("{}");
    assert_eq!(api.send(patch).await.code, 415, "there are several sorts of patches");
}
