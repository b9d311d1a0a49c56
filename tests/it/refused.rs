//! Starts that are refused: each says what is wrong and which flag, variable or command mends it.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio};

use crate::harness::{Hangar, Output};
use crate::manifest;

const FREE: &str = "--listen 127.0.0.1:0 --router-listen 127.0.0.1:0 --fly-listen 127.0.0.1:0 \
                    --front-listen 127.0.0.1:0";

#[track_caller]
fn refused(output: &Output, error: &str, hint: &str) {
    let Output { line, stderr, code, .. } = output;
    assert_eq!(*code, 1, "hangar {line}\n{stderr}");
    let told = |start: &str, part: &str| {
        stderr.lines().any(|it| it.starts_with(start) && it.contains(part))
    };
    assert!(told("error: ", error) && told("hint: ", hint), "hangar {line}\n{stderr}");
}

#[tokio::test]
async fn what_is_in_use_or_too_open_is_refused_with_the_flag_to_change() {
    let hangar = Hangar::empty().await;
    let start = async |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        hangar.cli(&words).await
    };
    let (api, router) = (&hangar.api, &hangar.router);
    let up = format!("up --data-dir other {FREE}");
    refused(
        &start(&up.replace(FREE, &format!("--fly-listen {}", hangar.fly))).await,
        "in use",
        "--fly-listen",
    );
    let line =
        format!("up --data-dir other --fly-listen 127.0.0.1:0 --front-listen {}", hangar.front);
    refused(&start(&line).await, "in use", "--front-listen");
    let line = format!("router --data-dir other --from http://{api} --listen {router}");
    refused(&start(&line).await, "in use", "with --listen");
    let line = up.replace("--fly-listen 127.0.0.1:0", "--fly-listen 0.0.0.0:0");
    refused(&start(&line).await, "any token is believed", "--insecure");
    let line = format!("up --data-dir data {FREE}");
    refused(&start(&line).await, "another process has", "--data-dir");

    let line = format!("router --data-dir routes --from http://{api} --listen 127.0.0.1:0");
    let words: Vec<_> = line.split_whitespace().chain(["--ready-file", "routes.json"]).collect();
    let mut first = hangar.spawn(&words);
    crate::harness::eventually("the router", crate::harness::PATIENCE, async || {
        hangar.home.path().join("routes.json").exists()
    })
    .await;
    refused(&start(&line).await, "in use by another process", "--data-dir");
    first.kill().await.unwrap();
}

#[tokio::test]
async fn keys_that_are_not_the_right_one_are_named() {
    let mut hangar = Hangar::up(&(manifest::one("alice") + SECRET)).await;
    hangar.stop().await;
    let line = format!("up --data-dir data {FREE}");
    let words: Vec<_> = line.split_whitespace().collect();
    let home = hangar.home.path();
    let with_key = tokio::process::Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(&words)
        .current_dir(home)
        .env("HANGAR_SECRET_KEY", "another key, and a long one")
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(with_key.stderr).unwrap();
    assert_eq!(with_key.status.code(), Some(1), "{said}");
    assert!(said.contains("hint: set HANGAR_SECRET_KEY to the key of before"), "{said}");
    let key = home.join("data/secret.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(&hangar.cli(&words).await, "has mode 644", "chmod 600 ");
}

const SECRET: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {KEY: value}
";
