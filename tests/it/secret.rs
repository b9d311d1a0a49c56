//! Secrets through the whole of hangar while every part, its libraries included, logs all that it can, and Fly repeats in its
//! errors what it was sent: no value is in anything that hangar says or keeps, in whatever form.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Method, Request, Response, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::apart::{forward, free, kill, start};
use crate::fly::Fly;
use crate::harness::{PATIENCE, call, host, until};

/// What nobody may see. Letters and digits only, so that neither JSON nor a URL writes them otherwise; what stands around them
/// in a secret's value is written otherwise by both.
const FIRST: &str = "Zq7XwK2mVt9RbLc4";
const MANY_LINES: &str = "Hd3YpN8sGf6JuTa5";
const CHANGED: &str = "Wk5EvB9xQy2CnMz7";
const FLY_TOKEN: &str = "Po4SgU8hDr3LiFj6";
const TOKEN: &str = "Xc9TbV5nKe2WqAz8";
/// The authority of the server's certificate.
const CA: &str = "serve/tls/ca.crt";
const PASSPHRASE: &str = "Rm6JyH3kZs7GpDv4";
/// What the stand-in for Fly would repeat, and may: it is in the environment's specification for all to read.
const OPEN: &str = "not-a-secret";

const MANIFESTS: &str = "
{apiVersion: hangar.dev/v1alpha1, kind: Template, metadata: {name: kept}, spec: {machine: {image: 'hangar.dev/sample-app:1',
  files: [{path: /etc/motd, content: hello}]}, volume: {mountPath: /data, size: 1Gi}, services: [{name: web, internalPort: 8080}],
  regions: [ams], readiness: {http: {path: /healthz, port: 8080}}, sleep: {after: 1h}, update: {strategy: Rolling}}}
---
{apiVersion: hangar.dev/v1alpha1, kind: Environment, metadata: {name: alice}, spec: {templateRef: {name: kept},
  owner: a@example.com, access: Public, secrets: [{name: keys}], env: {GREETING: not-a-secret}}}
";

fn secret(key: &str) -> String {
    let data = json!({"API_KEY": format!("/\"+ü& {key} \\?=%"), "PEM": format!("-----\n{MANY_LINES}\n-----\n")});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data})
        .to_string()
}

/// Looks for pieces of secrets: ten characters of a value, of its base64 (wherever in a text it begins), or of its hex digits.
struct Search(HashMap<[u8; PIECE], &'static str>);

const PIECE: usize = 10;

impl Search {
    fn new() -> Self {
        Self(HashMap::new())
    }

    fn add(&mut self, whose: &'static str, value: &str) {
        let mut hex = String::new();
        for byte in value.bytes() {
            write!(hex, "{byte:02x}").unwrap();
        }
        let mut forms = vec![value.to_owned(), hex.to_uppercase(), hex];
        for offset in 0..3 {
            let encoded = STANDARD.encode(format!("{}{value}", &"   "[..offset]));
            // The first and the last characters hang on what stands around it.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
        for form in forms {
            let pieces =
                form.as_bytes().windows(PIECE).map(|it| <[u8; PIECE]>::try_from(it).unwrap());
            self.0.extend(pieces.map(|it| (it, whose)));
        }
    }

    /// Asserts that there is none in a text.
    fn none_in(&self, what: &str, text: &[u8]) {
        for (at, piece) in text.windows(PIECE).enumerate() {
            let Some(whose) = self.0.get(piece) else { continue };
            let around = &text[at.saturating_sub(200)..(at + 200).min(text.len())];
            panic!("{whose} in {what}: {}", String::from_utf8_lossy(around));
        }
    }
}

/// The parts, all of them as talkative as they can be.
struct Loud {
    home: tempfile::TempDir,
    api: String,
    fly: String,
    front: String,
    parts: Vec<Child>,
    /// What command lines said.
    said: Vec<(String, Vec<u8>)>,
}

impl Loud {
    async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let [api, fly, front, router] = [free().await, free().await, free().await, free().await];
        let repeats = repeating(fly.clone()).await;
        let loud_log = ("HANGAR_LOG", "trace");
        let local = ["--fly-listen", &fly, "--front-listen", &front, "--front-upstream", &router];
        let url = format!("http://dev.localhost:{}", front.rsplit_once(':').unwrap().1);
        let serve = [
            "--org",
            "personal",
            "--listen",
            &api,
            "--router-listen",
            "127.0.0.1:0",
            "--public-url",
            &url,
        ];
        let server = format!("https://{api}");
        let routing = ["--from", &server, "--listen", &router];
        let token = format!("fm2_{FLY_TOKEN}");
        let passphrase = format!("a passphrase that is long enough, {PASSPHRASE}");
        let variables = [
            loud_log,
            ("FLY_API_TOKEN", token.as_str()),
            ("FLY_FLAPS_BASE_URL", repeats.as_str()),
            ("HANGAR_TOKEN", TOKEN),
            ("HANGAR_SECRET_KEY", passphrase.as_str()),
        ];
        let mut loud = Self {
            home,
            api: api.clone(),
            fly: fly.clone(),
            front: front.clone(),
            parts: Vec::new(),
            said: Vec::new(),
        };
        loud.start("local", &local, &[loud_log]).await;
        loud.start("serve", &serve, &variables).await;
        let authority = loud.home.path().join(CA);
        let authority = ("HANGAR_CA", authority.to_str().unwrap());
        loud.start("router", &routing, &[loud_log, ("HANGAR_TOKEN", TOKEN), authority]).await;
        loud
    }

    async fn start(&mut self, part: &str, arguments: &[&str], variables: &[(&str, &str)]) {
        let part = start(self.home.path(), part, arguments, variables).await;
        self.parts.push(part);
    }

    /// A command line that succeeds.
    async fn run(&mut self, line: &str) -> Vec<u8> {
        let (said, code) = self.cli(line, "").await;
        assert_eq!(
            code,
            Some(0),
            "hangar {line}: {}",
            String::from_utf8_lossy(&self.said[self.said.len() - 2].1)
        );
        said
    }

    /// A command line, with what it is given on standard input; all that it says is kept.
    async fn cli(&mut self, line: &str, input: &str) -> (Vec<u8>, Option<i32>) {
        fs::write(self.home.path().join("input"), input).unwrap();
        let running = tokio::process::Command::new(env!("CARGO_BIN_EXE_hangar"))
            .args(line.split(' '))
            .env_clear()
            .env("HANGAR_SERVER", format!("https://{}", self.api))
            .env("HANGAR_CA", CA)
            .env("HANGAR_TOKEN", TOKEN)
            .env("HANGAR_LOG", "trace")
            .stdin(fs::File::open(self.home.path().join("input")).unwrap())
            .current_dir(self.home.path())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
        self.said.push((format!("hangar {line}, standard error"), output.stderr));
        self.said.push((format!("hangar {line}"), output.stdout.clone()));
        (output.stdout, output.status.code())
    }

    /// The value of a secret, which is in its own object; that is not kept.
    async fn value(&mut self, name: &str, key: &str) -> Vec<u8> {
        let object = self.run(&format!("get secret/{name} -o json")).await;
        self.said.pop();
        let object: Value = serde_json::from_slice(&object).unwrap();
        STANDARD.decode(object["data"][key].as_str().unwrap()).unwrap()
    }

    async fn status(&mut self) -> Value {
        let object = self.run("get environment/alice -o json").await;
        serde_json::from_slice::<Value>(&object).unwrap()["status"].take()
    }

    /// Waits until the machine was made or changed so often, and is ready.
    async fn ready(&mut self, generation: u64) {
        until(&format!("generation {generation} to be ready"), PATIENCE, async || {
            let status = self.status().await;
            let seen = status["observedGeneration"] == generation && status["phase"] == "Ready";
            if seen { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// Stops the machine behind hangar's back, and waits until Fly's words on why it does not start were taken.
    async fn fail_to_start(&mut self) {
        let fly = Fly { address: self.fly.clone() };
        let machine = fly.machines().await.remove(0);
        let [app, id] = ["app_name", "id"].map(|it| machine[it].as_str().unwrap());
        fly.post(&format!("/v1/apps/{app}/machines/{id}/stop"), &json!({})).await;
        until("to be told why it does not start", PATIENCE, async || {
            let status = self.status().await.to_string();
            if status.contains("no program for API_KEY=[hidden]") { Ok(()) } else { Err(status) }
        })
        .await;
        self.run("describe environment/alice").await;
    }

    /// A page through front, router and machine.
    async fn page(&self) {
        until("a page", PATIENCE, async || {
            let request = Request::builder().uri("/?format=json").header("host", host("alice"));
            let answer = call(&self.front, request, Vec::new()).await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        })
        .await;
    }

    /// All that was said and kept: by name, what it is.
    async fn everything(&mut self) -> Vec<(String, Vec<u8>)> {
        for line in [
            "get environments,bays,templates,events,holds,orphans -A -o yaml",
            "get environments,bays,templates,events,holds,orphans,secrets,hostnames -A -o wide",
            "describe secret/keys",
            "logs --tail 10000 --json",
            "logs environment/alice --tail 10000",
            "events",
            "orphans -o wide --others",
            "backup",
            "version",
        ] {
            self.run(line).await;
        }
        let authority = fs::read(self.home.path().join(CA)).unwrap();
        let authority = reqwest::Certificate::from_pem(&authority).unwrap();
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
        let metrics = http.build().unwrap().get(format!("https://{}/metrics", self.api));
        let metrics = metrics.bearer_auth(TOKEN).send().await.unwrap().bytes().await.unwrap();
        self.said.push(("the metrics".to_owned(), metrics.to_vec()));
        let fly = Fly { address: self.fly.clone() };
        for machine in fly.machines().await {
            let path = format!(
                "/v1/apps/{}/machines/{}",
                machine["app_name"].as_str().unwrap(),
                machine["id"].as_str().unwrap()
            );
            self.said.push((path.clone(), fly.get(&path).await.to_string().into_bytes()));
        }
        let mut everything = std::mem::take(&mut self.said);
        for part in ["local", "serve", "router"] {
            let name = format!("{part}.err");
            let said = fs::read(self.home.path().join(&name)).unwrap();
            assert!(String::from_utf8_lossy(&said).contains("TRACE"), "{part} says little");
            everything.push((name, said));
        }
        // Not those of the stand-in, which runs machines that need their secrets, nor the router's copy of its table.
        for file in files(&self.home.path().join("serve")) {
            everything.push((file.display().to_string(), fs::read(&file).unwrap()));
        }
        everything
    }
}

impl Drop for Loud {
    fn drop(&mut self) {
        self.parts.drain(..).for_each(kill);
        crate::harness::kill_all(self.home.path());
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Something between the server and Fly that refuses the first few calls which carry values, or start a program with them, and
/// repeats in each refusal, in another form, what it was sent and what the program would be given.
async fn repeating(fly: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let refused = Arc::new([const { AtomicUsize::new(0) }; 3]);
    hangar::tasks::detached(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (fly, refused) = (fly.clone(), Arc::clone(&refused));
            let answers = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (fly, refused) = (fly.clone(), Arc::clone(&refused));
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let path = parts.uri.path();
                    let which = usize::from(!path.ends_with("/secrets"));
                    let carries = which == 0 || path.contains("/machines");
                    if parts.method == Method::POST && carries {
                        let number = refused[which].fetch_add(1, Ordering::SeqCst);
                        if let Some(refusal) = refusal(number, &body) {
                            return Ok(refusal);
                        }
                    }
                    let machine = parts.method == Method::GET && path.contains("/machines/");
                    let (mut head, body) =
                        forward(&fly, Request::from_parts(parts, body)).await.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    let failed = machine.then(|| failed(&body, &refused[2])).flatten();
                    head.headers.remove(CONTENT_LENGTH);
                    let body = Full::from(failed.unwrap_or(body));
                    Ok::<_, hyper::Error>(Response::from_parts(head, body))
                }
            });
            hangar::tasks::detached(async move {
                let http = hyper::server::conn::http1::Builder::new();
                let _closed = http.serve_connection(TokioIo::new(stream), answers).await;
            });
        }
    });
    address
}

/// A machine whose last start failed, for the first few looks, in words that repeat what the program would be given.
fn failed(machine: &[u8], looks: &AtomicUsize) -> Option<Bytes> {
    let mut machine: Value = serde_json::from_slice(machine).ok()?;
    let stopped = machine["state"] == "stopped" && looks.fetch_add(1, Ordering::SeqCst) < 2;
    let error = format!("no program for API_KEY=/\"+ü& {CHANGED} \\?=% PEM={MANY_LINES}");
    machine["state"] = json!("failed");
    machine["events"] = json!([{"type": "start", "request": {"error": error}}]);
    stopped.then(|| machine.to_string().into())
}

fn refusal(number: usize, body: &[u8]) -> Option<Response<Full<Bytes>>> {
    let sent = String::from_utf8_lossy(body);
    let value = format!("/\"+ü& {FIRST} \\?=%");
    let program = format!("API_KEY={value} PEM=-----\n{MANY_LINES}\n-----\n");
    let lines = format!("-----\n{MANY_LINES}\n-----\n");
    let base64 = [&value, &lines].map(|it| STANDARD.encode(it));
    let mut form = form_urlencoded::Serializer::new(String::new());
    let form = form.append_pair("API_KEY", &value).append_pair("PEM", &lines).finish();
    let (status, text) = match number {
        0 => (500, format!("{program}{sent}")),
        1 => (409, json!({"error": format!("{program}{sent}")}).to_string()),
        2 => (409, json!({"error": [base64, form, program, sent]}).to_string()),
        // Longer than what is looked through: the end of that would be in the middle of the value.
        3 => (409, format!("{}{value}", " ".repeat(64 * 1024 - value.len() / 2))),
        _ => return None,
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Some(response)
}

#[tokio::test]
async fn no_value_is_in_anything_that_is_said_or_kept() {
    let mut search = Search::new();
    for (whose, value) in [
        ("a secret's value", FIRST),
        ("a line of a secret's value", MANY_LINES),
        ("a changed secret's value", CHANGED),
        ("the token for Fly", FLY_TOKEN),
        ("the token for hangar", TOKEN),
        ("the key of the secrets", PASSPHRASE),
    ] {
        search.add(whose, value);
    }
    let mut loud = Loud::new().await;
    let first = format!("{MANIFESTS}---\n{}\n", secret(FIRST));
    // What is refused or only asked about is not repeated either.
    let wrong = secret(FIRST).replace("stringData", "stringdata");
    loud.cli("apply -f -", &wrong).await;
    loud.cli("apply -f -", &secret(FIRST).replace("\"PEM\"", "\"not a name\"")).await;
    loud.cli("plan -f -", &first).await;
    loud.cli("apply -f - --dry-run", &first).await;
    assert_eq!(loud.cli("apply -f -", &first).await.1, Some(0));
    loud.ready(1).await;
    loud.page().await;
    let bay = loud.status().await["bay"]["name"].as_str().unwrap().to_owned();
    let key: String = loud.value(&bay, "key").await.iter().map(|it| format!("{it:02x}")).collect();
    let key: &'static str = key.leak();
    search.add("a bay's key", key);

    let changed = format!("{}---\n{}\n", MANIFESTS.replace(OPEN, "another"), secret(CHANGED));
    loud.cli("plan -f -", &changed).await;
    assert_eq!(loud.cli("apply -f -", &changed).await.1, Some(0));
    loud.ready(2).await;
    loud.page().await;
    assert!(
        loud.value("keys", "API_KEY")
            .await
            .windows(CHANGED.len())
            .any(|it| it == CHANGED.as_bytes())
    );
    loud.fail_to_start().await;
    let everything = loud.everything().await;
    // Fly's words were taken: they are there but for the values.
    let log =
        &everything.iter().find(|(name, _)| name == "hangar logs --tail 10000 --json").unwrap().1;
    let log = String::from_utf8_lossy(log);
    assert!(log.contains("[hidden]"), "{log}");
    for (what, text) in &everything {
        search.none_in(what, text);
    }
    loud.run("delete environment/alice").await;
    for (what, text) in loud.everything().await {
        search.none_in(&what, &text);
    }
}
