//! Tokens over real TLS: what they let do, and that what is revoked or expired is over at once.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Api, ENVS, Lines, NAMESPACES, Reply, SECRETS, env, secret, text};
use crate::api::access_token;
use crate::clock::Clock as _;
use crate::server::reach::Connection;

const TOKENS: &str = "/apis/hangar.dev/v1alpha1/accesstokens";
/// The server's own token.
pub(super) const OWN: &str = "own-token-canary";

impl Api {
    pub(super) async fn guarded() -> Self {
        Self::start_with(Some(OWN)).await
    }

    /// A connection, with TLS where the server wants it.
    pub(super) async fn connect(&self) -> Box<dyn Connection> {
        let (scheme, address) = self.url.split_once("://").unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        if scheme == "http" {
            return Box::new(stream);
        }
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let mut roots = rustls::RootCertStore::empty();
        let authority = self.authority.as_ref().unwrap();
        roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
        let mut config =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let name = address.rsplit_once(':').unwrap().0.to_owned().try_into().unwrap();
        let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = tls.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
        Box::new(stream)
    }

    /// Makes a token with this scope, and returns its text.
    pub(super) async fn token(&self, name: &str, scope: &Value) -> String {
        let token = access_token::text(name, &[7; 32]);
        let mut spec = scope.clone();
        spec["hash"] = json!(blake3::hash(token.as_bytes()).to_hex().as_str());
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let made = self.as_user(OWN, &format!("POST {TOKENS}"), Some(&object)).await;
        assert_eq!(made.code, 201, "{}", made.body);
        token
    }

    pub(super) async fn as_user(&self, token: &str, request: &str, body: Option<&Value>) -> Reply {
        let mut builder = self.request(request).bearer_auth(token);
        if let Some(body) = body {
            let media = match request.split_once(' ').unwrap().0 {
                "PATCH" => "application/merge-patch+json",
                _ => "application/json",
            };
            builder = builder.header("content-type", media).body(body.to_string());
        }
        self.send(builder).await
    }
}

fn team(resources: &[&str]) -> Value {
    json!({"namespaces": ["default"], "verbs": ["get", "list", "watch"], "resources": resources})
}

#[tokio::test]
async fn a_token_lets_do_what_its_scope_says() {
    let api = Api::guarded().await;
    let ci = api.token("ci", &team(&["environments"])).await;
    api.as_user(OWN, &format!("POST {ENVS}"), Some(&env("alice"))).await;
    for (request, code) in [
        (format!("GET {ENVS}"), 200),
        (format!("GET {ENVS}/alice"), 200),
        ("GET /version".to_owned(), 200),
        ("GET /apis".to_owned(), 200),
        ("GET /openapi/v3".to_owned(), 200),
        (format!("GET {ENVS}/alice/status"), 403),
        (format!("DELETE {ENVS}/alice"), 403),
        (format!("DELETE {ENVS}"), 403),
        ("GET /apis/hangar.dev/v1alpha1/environments".to_owned(), 403),
        (format!("GET {SECRETS}"), 403),
        (format!("GET {NAMESPACES}"), 403),
        (format!("GET {TOKENS}"), 403),
        (format!("GET {TOKENS}/ci"), 403),
        ("GET /metrics".to_owned(), 403),
        ("GET /logs".to_owned(), 403),
        ("POST /backups".to_owned(), 403),
        ("GET /nothing".to_owned(), 404),
    ] {
        let reply = api.as_user(&ci, &request, None).await;
        assert_eq!(reply.code, code, "{request}: {}", reply.body);
    }
    let refused = api.as_user(&ci, &format!("POST {ENVS}"), Some(&env("bob"))).await;
    assert_eq!(
        refused.body,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "environments.hangar.dev is forbidden: User \"ci\" cannot create resource \"environments\" in API group \"hangar.dev\" in the namespace \"default\"",
            "reason": "Forbidden",
            "details": {"group": "hangar.dev", "kind": "environments"},
            "code": 403,
        })
    );
    let all = json!({"namespaces": ["*"], "verbs": ["*"], "resources": ["*"]});
    let all = api.token("all", &all).await;
    assert_eq!(
        api.as_user(&all, &format!("POST {SECRETS}"), Some(&secret("s", "v"))).await.code,
        201
    );
    for request in [format!("GET {TOKENS}"), format!("DELETE {TOKENS}/ci"), "GET /logs".to_owned()]
    {
        assert_eq!(api.as_user(&all, &request, None).await.code, 403, "{request}");
    }
    let more = json!({"spec": {"verbs": ["*"]}});
    assert_eq!(api.as_user(&all, &format!("PATCH {TOKENS}/ci"), Some(&more)).await.code, 403);
}

#[tokio::test]
async fn who_shows_no_token_or_a_wrong_one_is_not_let_in() {
    let api = Api::guarded().await;
    let ci = api.token("ci", &team(&["environments"])).await;
    let mut wrong = ci.clone();
    wrong.replace_range(wrong.len() - 1.., "x");
    for token in ["", "x", &wrong, &ci.replace("_ci_", "_cj_"), "hangar_ci_"] {
        let reply = api.as_user(token, &format!("GET {ENVS}"), None).await;
        assert_eq!((reply.code, text(&reply.body, "/reason")), (401, "Unauthorized"), "{token}");
    }
    let masked = api.request(&format!("GET {ENVS}")).bearer_auth(OWN);
    let masked = masked.header("impersonate-user", "ci");
    assert_eq!(api.send(masked).await.code, 403);
    for probe in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(api.get(probe).await.code, 200);
    }
}

#[tokio::test]
async fn plain_http_gets_nothing_from_a_server_that_wants_tokens() {
    let api = Api::guarded().await;
    let plain = api.url.replacen("https", "http", 1);
    let asked = api.http.get(format!("{plain}/version")).bearer_auth(OWN).send().await.unwrap();
    assert_eq!(asked.status().as_u16(), 400);
    assert!(asked.text().await.unwrap().contains("https only"));
}

#[tokio::test]
async fn what_is_revoked_is_over_at_once_and_what_is_open_with_it() {
    let api = Api::guarded().await;
    let ci = api.token("ci", &team(&["environments"])).await;
    let mut watch = api.watch_as(&ci).await;
    assert_eq!(api.as_user(OWN, &format!("DELETE {TOKENS}/ci"), None).await.code, 200);
    assert_eq!(api.as_user(&ci, &format!("GET {ENVS}"), None).await.code, 401);
    assert_eq!(watch.next().await, None);
    // Another one of the same name is another.
    let again = api.token("ci", &team(&["environments"])).await;
    let mut watch = api.watch_as(&again).await;
    let less = json!({"spec": {"resources": ["bays"]}});
    assert_eq!(api.as_user(OWN, &format!("PATCH {TOKENS}/ci"), Some(&less)).await.code, 200);
    assert_eq!(watch.next().await, None);
    assert_eq!(api.as_user(&again, &format!("GET {ENVS}"), None).await.code, 403);
}

#[tokio::test]
async fn what_expires_is_over_at_its_time_and_what_is_open_with_it() {
    let api = Api::guarded().await;
    let mut scope = team(&["environments"]);
    let end = api.clock.now() + jiff::SignedDuration::from_hours(1);
    scope["expiresAt"] = json!(end.to_string());
    let ci = api.token("ci", &scope).await;
    let mut watch = api.watch_as(&ci).await;
    assert_eq!(api.as_user(&ci, &format!("GET {ENVS}"), None).await.code, 200);
    api.clock.advance(std::time::Duration::from_secs(3_601));
    assert_eq!(api.as_user(&ci, &format!("GET {ENVS}"), None).await.code, 401);
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn reviews_are_true_to_what_happens() {
    let api = Api::guarded().await;
    let ci = api.token("ci", &team(&["environments", "pods/log"])).await;
    let review = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, group, resource, namespace, path) in [
        ("list", "hangar.dev", "environments", "default", ENVS),
        ("list", "hangar.dev", "environments", "", "/apis/hangar.dev/v1alpha1/environments"),
        ("list", "", "secrets", "default", SECRETS),
        ("list", "", "namespaces", "default", NAMESPACES),
        ("list", "hangar.dev", "accesstokens", "", TOKENS),
    ] {
        let attributes =
            json!({"verb": verb, "group": group, "resource": resource, "namespace": namespace});
        let asked = json!({"spec": {"resourceAttributes": attributes}});
        let said = api.as_user(&ci, review, Some(&asked)).await;
        let happens = api.as_user(&ci, &format!("GET {path}"), None).await.code == 200;
        assert_eq!(said.body["status"]["allowed"], happens, "{path}: {}", said.body);
    }
    // A namespace is in itself, and what is opened by GET is made.
    let all = json!({"namespaces": ["default"], "verbs": ["*"], "resources": ["*"]});
    let all = api.token("all", &all).await;
    for (token, verb, resource, name, part, allowed) in [
        (&all, "delete", "namespaces", "default", "", true),
        (&all, "delete", "namespaces", "kube", "", false),
        (&all, "get", "pods", "", "exec", true),
        (&ci, "get", "pods", "", "exec", false),
        (&ci, "get", "pods", "", "log", true),
    ] {
        let attributes = json!({
            "verb": verb, "resource": resource, "name": name, "subresource": part, "namespace": "default",
        });
        let asked = json!({"spec": {"resourceAttributes": attributes}});
        let said = api.as_user(token, review, Some(&asked)).await;
        assert_eq!(said.body["status"]["allowed"], allowed, "{attributes}: {}", said.body);
    }
    let rules = "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let said = api.as_user(&ci, rules, Some(&json!({"spec": {"namespace": "default"}}))).await;
    let rules = said.body["status"]["resourceRules"].as_array().unwrap().clone();
    let environments = json!({"verbs": ["get", "list", "watch"], "apiGroups": ["hangar.dev"], "resources": ["environments"]});
    assert!(rules.contains(&environments), "{rules:?}");
    assert!(!said.body.to_string().contains("secrets"));
    let me = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews";
    let said = api.as_user(&ci, me, Some(&json!({}))).await;
    assert_eq!(
        said.body["status"]["userInfo"],
        json!({"username": "ci", "groups": ["system:authenticated"]})
    );
}

#[tokio::test]
async fn what_a_token_may_not_be_is_said_field_by_field() {
    let api = Api::guarded().await;
    let object = json!({"metadata": {"name": "x"}, "spec": {
        "hash": "short", "namespaces": ["Not A Name"], "verbs": ["read"], "resources": ["nodes"],
    }});
    let refused = api.as_user(OWN, &format!("POST {TOKENS}"), Some(&object)).await;
    assert_eq!(refused.code, 422);
    let causes = refused.body["details"]["causes"].as_array().unwrap();
    let fields: Vec<_> = causes.iter().map(|it| text(it, "/field")).collect();
    assert_eq!(fields, ["spec.hash", "spec.namespaces[0]", "spec.verbs[0]", "spec.resources[0]"]);
}

#[tokio::test]
async fn no_scope_means_the_servers_own_token_or_a_path_in_a_namespace() {
    let api = Api::guarded().await;
    for (name, resources, fields) in [
        ("admin", json!(["environments"]), vec!["metadata.name"]),
        ("x", json!(["/logs", "/logz", "env"]), vec!["[0]", "[1]", "[2]"]),
    ] {
        let spec = json!({
            "hash": "0".repeat(64), "namespaces": ["a"], "verbs": ["get"], "resources": resources,
        });
        let object = json!({"metadata": {"name": name}, "spec": spec});
        let refused = api.as_user(OWN, &format!("POST {TOKENS}"), Some(&object)).await;
        let causes = refused.body["details"]["causes"].as_array().unwrap();
        let found: Vec<_> = causes.iter().map(|it| text(it, "/field")).collect();
        let is_it = found.iter().zip(&fields).all(|(found, field)| found.ends_with(field));
        assert!(found.len() == fields.len() && is_it, "{}", refused.body);
    }
}

#[tokio::test]
async fn a_status_is_written_with_a_token_for_all_namespaces_only() {
    let api = Api::guarded().await;
    api.as_user(OWN, &format!("POST {ENVS}"), Some(&env("alice"))).await;
    let forged = json!({"status": {"bay": {"name": "bay-x", "app": "hgr-of-another"}}});
    let request = format!("PATCH {ENVS}/alice/status");
    for (name, namespace, code) in [("team", "default", 403), ("all", "*", 200)] {
        let scope = json!({"namespaces": [namespace], "verbs": ["*"], "resources": ["*"]});
        let token = api.token(name, &scope).await;
        assert_eq!(api.as_user(&token, &request, Some(&forged)).await.code, code, "{name}");
    }
}

#[tokio::test]
async fn who_may_only_patch_makes_nothing_by_applying() {
    let api = Api::guarded().await;
    let patcher =
        json!({"namespaces": ["default"], "verbs": ["patch"], "resources": ["environments"]});
    let patcher = api.token("patcher", &patcher).await;
    let apply = api.request(&format!("PATCH {ENVS}/new?fieldManager=me")).bearer_auth(patcher);
    let apply =
        apply.header("content-type", "application/apply-patch+yaml").body(env("new").to_string());
    let refused = api.send(apply).await;
    assert!(text(&refused.body, "/message").contains("cannot create resource"), "{}", refused.body);
}

impl Api {
    async fn watch_as(&self, token: &str) -> Lines {
        let request = self.request(&format!("GET {ENVS}?watch=true")).bearer_auth(token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        Lines { response, rest: Vec::new() }
    }
}
