//! HTTPS and tokens: stock kubectl gets in with what `hangar kubeconfig` prints, and does what its token lets it do.

use std::fs;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{
    kubectl::Kubectl,
    pods::ground::Ground,
    server::{PATIENCE, until},
};

/// hangar's own command line, in the ground's directory, with these variables; its standard output.
async fn hangar(ground: &Ground, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
    command.args(arguments).env_clear().current_dir(ground.home.path()).kill_on_drop(true);
    command.env("HANGAR_SERVER", format!("https://{}", ground.api));
    command.env("HANGAR_CA", ground.home.path().join("data/tls/ca.crt"));
    command.env("HANGAR_TOKEN", own_token(ground));
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "hangar {}: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

fn own_token(ground: &Ground) -> String {
    fs::read_to_string(ground.home.path().join("data/admin.token")).unwrap().trim().to_owned()
}

/// What a kubectl printed on either side, and its exit code.
struct Said {
    code: i32,
    out: String,
    err: String,
}

/// A kubectl that knows nothing but a kubeconfig.
fn command(ground: &Ground, kubectl: &Kubectl, config: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(&kubectl.path);
    command.args(["--kubeconfig", config]).args(arguments).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", ground.home.path().join(format!("{config}-{}", kubectl.minor)));
    command.current_dir(ground.home.path()).kill_on_drop(true).stdin(std::process::Stdio::null());
    command
}

async fn run(ground: &Ground, kubectl: &Kubectl, config: &str, arguments: &[&str]) -> Said {
    let mut command = command(ground, kubectl, config, arguments);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// An HTTP client that believes this authority, if any.
fn client(authority: Option<&[u8]>) -> reqwest::Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let authority = authority.map(|it| reqwest::Certificate::from_pem(it).unwrap());
    reqwest::Client::builder().no_proxy().tls_certs_only(authority).build().unwrap()
}

/// Has hangar print a kubeconfig into a file of this name.
async fn configure(ground: &Ground, file: &str, arguments: &[&str]) {
    let arguments = [&["kubeconfig"], arguments].concat();
    let printed = hangar(ground, &arguments).await;
    fs::write(ground.home.path().join(file), printed).unwrap();
}

#[tokio::test]
async fn a_kubeconfig_opens_everything_over_tls_streams_included() {
    let kubectls = Kubectl::ends();
    if kubectls.is_empty() {
        return;
    }
    let ground = Ground::start(&["--tls"]).await;
    configure(&ground, "own.yaml", &["--data-dir", "data"]).await;
    let http = client(None);
    fs::write(ground.home.path().join("none.yaml"), "{apiVersion: v1, kind: Config}").unwrap();
    for kubectl in &kubectls {
        let got = run(&ground, kubectl, "own.yaml", &["get", "env", "-o", "name"]).await;
        assert_eq!((got.code, got.out.trim()), (0, "environment.hangar.dev/alice"), "{}", got.err);
        let ran = ["exec", "alice", "--", "sh", "-c", "echo out; exit 3"];
        let ran = run(&ground, kubectl, "own.yaml", &ran).await;
        assert_eq!((ran.code, ran.out.as_str()), (3, "out\n"), "{}", ran.err);
        let forward = ["port-forward", "pod/alice", ":8080"];
        let mut forward = command(&ground, kubectl, "own.yaml", &forward);
        let mut forward = forward.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
        let line = line.unwrap().unwrap();
        let port = line.split(" -> ").next().unwrap().rsplit(':').next().unwrap();
        let page = http.get(format!("http://127.0.0.1:{port}/healthz")).send().await.unwrap();
        assert_eq!(page.status().as_u16(), 200);
        forward.kill().await.unwrap();
        // Without a token nobody is let in, and without the certificate's authority nobody is believed.
        let server = format!("https://{}", ground.api);
        let ca = ["--server", &server, "--certificate-authority", "data/tls/ca.crt", "get", "env"];
        let nobody = run(&ground, kubectl, "none.yaml", &ca).await;
        assert_eq!(nobody.code, 1, "{}", nobody.out);
        let unknown = ["--server", &server, "--token", "x", "get", "env"];
        let unknown = run(&ground, kubectl, "none.yaml", &unknown).await;
        assert!(unknown.err.contains("certificate"), "{}", unknown.err);
    }
}

#[tokio::test]
async fn a_scoped_token_does_what_can_i_says_and_ends_when_it_is_revoked() {
    let kubectls = Kubectl::ends();
    if kubectls.is_empty() {
        return;
    }
    let ground = Ground::start(&["--tls"]).await;
    let scope = ["--name", "reader", "-n", "default", "--resources", "environments,pods,pods/log"];
    configure(&ground, "reader.yaml", &scope).await;
    for kubectl in &kubectls {
        let run = async |arguments: &[&str]| run(&ground, kubectl, "reader.yaml", arguments).await;
        let who = run(&["auth", "whoami"]).await;
        assert!(who.out.contains("reader"), "{} {}", who.out, who.err);
        for (question, act) in [
            (&["get", "env"][..], &["get", "env", "alice"][..]),
            (&["list", "env", "-A"], &["get", "env", "-A"]),
            (&["list", "secrets"], &["get", "secrets"]),
            (&["delete", "env"], &["delete", "env", "alice", "--wait=false"]),
            (&["get", "pods", "--subresource=log"], &["logs", "alice"]),
            (&["create", "pods", "--subresource=exec"], &["exec", "alice", "--", "true"]),
            (&["list", "accesstokens"], &["get", "accesstokens"]),
        ] {
            let asked = run(&[&["auth", "can-i"], question].concat()).await;
            let done = run(act).await;
            let is_let = asked.out.trim() == "yes";
            assert_eq!(is_let, done.code == 0, "{question:?}: {} {}", asked.out, done.err);
            if !is_let {
                assert!(done.err.contains("User \"reader\" cannot"), "{act:?}: {}", done.err);
            }
        }
        let refused = run(&["get", "secrets"]).await;
        assert!(
            refused.err.contains("User \"reader\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\""),
            "{}",
            refused.err
        );
    }
    let listed = hangar(&ground, &["token", "list"]).await;
    assert!(listed.contains("reader") && listed.contains("get,list,watch"), "{listed}");
    let newest = kubectls.last().unwrap();
    let mut watch = command(&ground, newest, "reader.yaml", &["get", "env", "-w", "-o", "name"]);
    let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    assert!(tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().is_some());
    hangar(&ground, &["token", "revoke", "reader"]).await;
    let ended = tokio::time::timeout(PATIENCE, async {
        while lines.next_line().await.unwrap().is_some() {}
    });
    ended.await.unwrap();
    let over = run(&ground, newest, "reader.yaml", &["get", "env"]).await;
    assert_eq!(over.code, 1, "{}", over.out);
}

/// A server that is not to start; what it says.
async fn refused(variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
    let any = "--listen 127.0.0.1:0 --fly-listen 127.0.0.1:0 --front-listen 127.0.0.1:0 --router-listen 127.0.0.1:0";
    command.arg("up").args(any.split(' ')).args(arguments).current_dir(home.path());
    command.env_clear().envs(variables.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn what_would_leave_a_server_open_or_unreachable_is_refused_at_its_start() {
    let scoped = format!("hangar_ci_{}", "0".repeat(64));
    let said = refused(&[("HANGAR_TOKEN", &scoped)], &[]).await;
    assert!(said.contains("`ci`, which may not do everything"), "{said}");
    let said = refused(&[], &["--tls-san", "hangar.example"]).await;
    assert!(said.contains("of no use without HTTPS"), "{said}");
    let said = refused(&[("HANGAR_TLS", "1")], &["--tls-san", "https://x"]).await;
    assert!(said.contains("cannot be for `https://x`") && said.contains("hint:"), "{said}");
    let said = refused(&[], &["--tls-cert", "none.crt", "--tls-key", "none.key"]).await;
    assert!(said.contains("cannot read none.crt"), "{said}");
}

#[tokio::test]
async fn whoever_has_the_wrong_scheme_or_authority_is_told_which() {
    let ground = Ground::start(&["--tls"]).await;
    let ask = async |server: String, variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
        command.args(["get", "env", "--server", &server]).current_dir(ground.home.path());
        command.env_clear().envs(variables.iter().copied()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let https = format!("https://{}", ground.api);
    let said = ask(format!("http://{}", ground.api), &[]).await;
    assert!(said.contains("https only"), "{said}");
    let said = ask(https.clone(), &[]).await;
    assert!(said.contains("HANGAR_CA names it"), "{said}");
    let known = ("HANGAR_CA", "data/tls/ca.crt");
    let said = ask(https.clone(), &[known]).await;
    assert!(said.contains("HANGAR_TOKEN"), "{said}");
    let said = ask(https, &[("HANGAR_CA", "data/admin.token")]).await;
    assert!(said.contains("no certificate"), "{said}");
    let said = ask("http://hangar.example:1".to_owned(), &[("HANGAR_TOKEN", "x")]).await;
    assert!(said.contains("over https only"), "{said}");
    // Whoever is to have less than everything must not get it by leaving out a name.
    let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
    command.args(["kubeconfig", "--data-dir", "data", "--verbs", "get"]).env_clear();
    let output = command.current_dir(ground.home.path()).output().await.unwrap();
    assert!(output.stdout.is_empty() && output.status.code() == Some(2), "{output:?}");
}

#[tokio::test]
async fn an_expired_token_is_refused_and_neither_log_nor_data_shows_any() {
    let ground = Ground::start(&["--tls"]).await;
    let created = ["token", "create", "brief", "-A", "--verbs", "*", "--expires", "2s"];
    let token = hangar(&ground, &created).await.trim().to_owned();
    let authority = fs::read(ground.home.path().join("data/tls/ca.crt")).unwrap();
    let http = client(Some(&authority));
    let url = format!("https://{}/apis/hangar.dev/v1alpha1/environments", ground.api);
    until("the token to expire", async || {
        let answer = http.get(&url).bearer_auth(&token).send().await.unwrap();
        match answer.status().as_u16() {
            401 => Ok(()),
            code => Err(code.to_string()),
        }
    })
    .await;
    let own = own_token(&ground);
    let log = fs::read_to_string(ground.home.path().join("data/audit.log")).unwrap();
    assert!(log.contains("\"resource\":\"accesstokens\",\"name\":\"brief\""), "{log}");
    for hidden in [&token, &own] {
        assert!(!log.contains(hidden.as_str()));
    }
    let server = format!("https://{}", ground.api);
    let plain = hangar(&ground, &["kubeconfig", "--server", "http://127.0.0.1:7070"]).await;
    assert!(!plain.contains("token") && !plain.contains(&server), "{plain}");
}
