//! Pods: stock kubectl reads a machine's log, runs commands in it, copies files, and reaches its ports.

pub(crate) mod ground;

use std::{
    fs,
    io::{Read as _, Write as _},
};

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout},
};

use self::ground::Ground;
use crate::{
    kubectl::Kubectl,
    server::{PATIENCE, until},
};

/// More than any buffer on the way holds.
const MANY_BYTES: usize = 8 * 1024 * 1024;

#[tokio::test]
async fn a_machine_is_listed_as_a_pod_and_only_read() {
    let kubectls = Kubectl::ends();
    if kubectls.is_empty() {
        return;
    }
    let ground = Ground::up().await;
    for kubectl in &kubectls {
        ground.run(kubectl, &["wait", "pod/alice", "--for=condition=Ready"]).await.good();
        let table = ground.run(kubectl, &["get", "pods"]).await.good();
        let rows: Vec<Vec<&str>> =
            table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        assert_eq!(rows[1][..4], ["alice", "1/1", "Running", "0"]);
        let labels = ["get", "po", "-l", "hangar.dev/environment=alice,team=a", "-o", "name"];
        assert_eq!(ground.run(kubectl, &labels).await.good(), "pod/alice\n");
        let page = ground.run(kubectl, &["describe", "pod", "alice"]).await.good();
        assert!(page.contains("Controlled By:  Environment/alice"), "{page}");
        let top = ground.run(kubectl, &["top", "pods"]).await.good();
        let cells: Vec<_> = top.lines().nth(1).unwrap().split_whitespace().collect();
        assert!(
            cells[0] == "alice" && cells[1].ends_with('m') && cells[2].ends_with("Mi"),
            "{top}"
        );
        let said = ground.run(kubectl, &["run", "x", "--image=y"]).await.refused();
        assert!(said.contains("only a view"), "{said}");
        let debug = ["debug", "alice", "--image=y", "--attach=false"];
        let said = ground.run(kubectl, &debug).await.refused();
        assert!(said.contains("gets no containers"), "{said}");
    }
}

#[tokio::test]
async fn a_pod_that_is_deleted_is_a_machine_made_anew_with_its_volume() {
    let kubectls = Kubectl::ends();
    if kubectls.is_empty() {
        return;
    }
    let ground = Ground::up().await;
    let machine = async |kubectl: &Kubectl| {
        let path = "jsonpath={.status.containerStatuses[0].containerID} {.metadata.uid}";
        ground.run(kubectl, &["get", "pod", "alice", "-o", path]).await.good()
    };
    for (index, kubectl) in kubectls.iter().enumerate() {
        let ready = ["wait", "pod/alice", "--for=condition=Ready", "--timeout=60s"];
        ground.run(kubectl, &ready).await.good();
        let before = machine(kubectl).await;
        let write = "echo stays > $HANGAR_ROOT/data/kept; echo goes > $HANGAR_ROOT/gone";
        ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", write]).await.good();
        // It comes back when the old one is gone.
        let deleted = ground.run(kubectl, &["delete", "pod", "alice"]).await.good();
        assert!(deleted.starts_with("pod \"alice\" deleted"), "{deleted}");
        until("the pod to be another", async || {
            let ran = ground.run(kubectl, &ready).await;
            if ran.code == 0 { Ok(()) } else { Err(ran.err) }
        })
        .await;
        assert_ne!(machine(kubectl).await, before);
        let read = "cat $HANGAR_ROOT/data/kept; ls $HANGAR_ROOT/gone 2>&1";
        let left = ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", read]).await;
        assert!(left.out.starts_with("stays\n") && left.code != 0, "{left:?}");
        let restarts = ["get", "pod", "alice", "--no-headers"];
        let row = ground.run(kubectl, &restarts).await.good();
        let expected = (index + 1).to_string();
        assert_eq!(row.split_whitespace().nth(3), Some(expected.as_str()), "{row}");
    }
}

/// Has the program say something.
async fn say(ground: &Ground, kubectl: &Kubectl, word: &str) {
    let script = format!("echo {word} > $HANGAR_ROOT/say");
    ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", &script]).await.good();
}

#[tokio::test]
async fn a_log_is_read_followed_and_cut() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let first = format!("first{}", kubectl.minor);
        say(&ground, kubectl, &first).await;
        let whole = until("the line", async || {
            let log = ground.run(kubectl, &["logs", "alice"]).await.good();
            if log.contains(&first) { Ok(log) } else { Err(log) }
        })
        .await;
        assert!(whole.lines().any(|it| it == "up") && whole.lines().any(|it| it == "careful"));
        let tail = ground.run(kubectl, &["logs", "alice", "--tail=1"]).await.good();
        assert_eq!(tail, format!("{first}\n"));
        let stamped = ["logs", "alice", "--tail=1", "--timestamps", "--since=1h", "-c", "main"];
        let stamped = ground.run(kubectl, &stamped).await.good();
        let (at, line) = stamped.split_once(' ').unwrap();
        at.parse::<jiff::Timestamp>().unwrap();
        assert_eq!(line, tail);
        let cut = ground.run(kubectl, &["logs", "alice", "--limit-bytes=2"]).await.good();
        assert_eq!(cut.len(), 2);
        let by_label = ground.run(kubectl, &["logs", "-l", "team=a", "--tail=1"]).await.good();
        assert_eq!(by_label, tail);
        let said = ground.run(kubectl, &["logs", "alice", "-p"]).await.refused();
        assert!(said.contains("started once only"), "{said}");
        let mut following =
            ground.command(kubectl, &["logs", "-f", "alice", "--tail=1"]).spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), first);
        say(&ground, kubectl, "later").await;
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "later");
    }
}

#[tokio::test]
async fn the_log_of_the_run_before_is_kept_and_following_ends_with_the_run() {
    let Some(kubectl) = &Kubectl::ends().pop() else { return };
    let ground = Ground::up().await;
    say(&ground, kubectl, "before").await;
    let following = ground.command(kubectl, &["logs", "-f", "alice"]).spawn().unwrap();
    let kill = "kill -9 $(cat $HANGAR_ROOT/pid)";
    // The command is of the machine, and ends with its program.
    ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", kill]).await;
    until("the log of the run before", async || {
        let ran = ground.run(kubectl, &["logs", "alice", "-p"]).await;
        if ran.out.contains("before") { Ok(()) } else { Err(ran.out + &ran.err) }
    })
    .await;
    let now = ground.run(kubectl, &["logs", "alice"]).await.good();
    assert!(!now.contains("before"), "{now}");
    let ended = tokio::time::timeout(PATIENCE, following.wait_with_output()).await.unwrap();
    let ended = ended.unwrap();
    let followed = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success() && followed.ends_with("before\n"), "{followed}");
}

#[tokio::test]
async fn of_a_machine_that_sleeps_only_the_log_is_reached() {
    let Some(kubectl) = &Kubectl::ends().pop() else { return };
    let ground = Ground::up().await;
    let asleep = r#"{"spec":{"operatingMode":"Asleep"}}"#;
    let patch = ["patch", "environment", "alice", "--type=merge", "-p", asleep];
    ground.run(kubectl, &patch).await.good();
    until("the pod to sleep", async || {
        let table = ground.run(kubectl, &["get", "pod", "alice"]).await.good();
        if table.contains("Asleep") { Ok(()) } else { Err(table) }
    })
    .await;
    let said = ground.run(kubectl, &["exec", "alice", "--", "true"]).await.refused();
    assert!(said.contains("does not run"), "{said}");
    let said = ground.run(kubectl, &["port-forward", "pod/alice", ":8080"]).await.refused();
    assert!(said.contains("does not run"), "{said}");
    let log = ground.run(kubectl, &["logs", "alice"]).await.good();
    assert!(log.contains("careful"), "{log}");
}

#[tokio::test]
async fn a_commands_streams_and_its_exit_code_arrive() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let script = "echo out; echo err >&2; exit 3";
        let ran = ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", script]).await;
        assert_eq!((ran.code, ran.out.as_str()), (3, "out\n"), "{}", ran.err);
        assert!(ran.err.starts_with("err\n"), "{}", ran.err);
        let killed = ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", "kill -9 $$"]).await;
        assert_eq!(killed.code, 137, "{}", killed.err);
        let said = ground.run(kubectl, &["exec", "alice", "--", "/no/such"]).await.refused();
        assert!(said.contains("cannot run /no/such"), "{said}");
        let input = vec![b'x'; MANY_BYTES];
        let counted =
            ground.feed(kubectl, &["exec", "-i", "alice", "--", "wc", "-c"], &input).await;
        assert_eq!(counted.good().trim(), MANY_BYTES.to_string());
        let both = ground.feed(kubectl, &["exec", "-i", "alice", "--", "cat"], &input).await.good();
        assert!(both.len() == MANY_BYTES && both.bytes().all(|it| it == b'x'), "{}", both.len());
        let unread = ground.feed(kubectl, &["exec", "-i", "alice", "--", "true"], &input).await;
        assert_eq!(unread.code, 0, "{}", unread.err);
        let beside = ground.run(kubectl, &["exec", "alice", "-c", "other", "--", "true"]).await;
        beside.refused();
    }
}

#[tokio::test]
async fn a_command_ends_with_whoever_ran_it() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let seconds = format!("98{}", kubectl.minor);
        let sleep = format!("sleep {seconds}");
        let arguments = ["exec", "alice", "--", "sleep", &seconds];
        let mut running = ground.command(kubectl, &arguments).spawn().unwrap();
        let of_machine = || {
            let all = ground.processes(&sleep).into_iter();
            all.filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.starts_with(b"sleep")
            })
            .count()
        };
        let count = async |wanted: usize| {
            let what = format!("{wanted} of {sleep}");
            until(&what, async || match of_machine() {
                count if count == wanted => Ok(()),
                count => Err(count.to_string()),
            })
            .await;
        };
        count(1).await;
        running.start_kill().unwrap();
        count(0).await;
    }
}

#[tokio::test]
async fn a_terminal_has_the_callers_size_and_its_commands_exit_code() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let (mut near, far) = pty_process::blocking::open().unwrap();
        near.resize(pty_process::Size::new(33, 101)).unwrap();
        let made = ground.command(kubectl, &["exec", "-it", "alice", "--", "sh"]);
        let mut command = pty_process::blocking::Command::new(made.as_std().get_program())
            .args(made.as_std().get_args())
            .env_clear()
            .current_dir(ground.home.path());
        for (name, value) in made.as_std().get_envs() {
            command = command.env(name, value.unwrap());
        }
        let mut child = command.spawn(far).unwrap();
        let script = b"test -t 0 && until stty size | grep '33 101'; do sleep 0.1; done; exit 7\n";
        near.write_all(script).unwrap();
        let said = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            // Its end is an error of the terminal.
            let _ended = near.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        let said = tokio::time::timeout(PATIENCE, said).await.unwrap().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7), "{said}");
        assert!(said.contains("33 101"), "{said}");
    }
}

#[tokio::test]
async fn a_programs_output_is_attached_to() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let mut attached = ground.command(kubectl, &["attach", "alice"]).spawn().unwrap();
        let mut lines = BufReader::new(attached.stdout.take().unwrap()).lines();
        let word = format!("attached{}", kubectl.minor);
        // What is said before it is attached is not shown.
        let hears = async {
            loop {
                say(&ground, kubectl, &word).await;
                let next = lines.next_line();
                if let Ok(line) =
                    tokio::time::timeout(std::time::Duration::from_secs(1), next).await
                {
                    return line.unwrap();
                }
            }
        };
        assert_eq!(tokio::time::timeout(PATIENCE, hears).await.unwrap(), Some(word));
        let said = ground.run(kubectl, &["attach", "-i", "alice"]).await.refused();
        assert!(said.contains("standard input"), "{said}");
    }
}

#[tokio::test]
async fn files_are_copied_both_ways() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let bytes: Vec<u8> = (0..MANY_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
        fs::write(ground.home.path().join("there"), &bytes).unwrap();
        ground.run(kubectl, &["cp", "there", "alice:copied"]).await.good();
        ground.run(kubectl, &["cp", "alice:copied", "back"]).await.good();
        assert!(fs::read(ground.home.path().join("back")).unwrap() == bytes);
        fs::remove_file(ground.home.path().join("back")).unwrap();
    }
}

/// A port-forward to the program, its output, without whose reader it ends, and the port that it has here.
async fn forwarded(
    ground: &Ground,
    kubectl: &Kubectl,
) -> (Child, Lines<BufReader<ChildStdout>>, u16) {
    let mut command = ground.command(kubectl, &["port-forward", "pod/alice", ":8080"]);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
    let port = line.split(" -> ").next().unwrap().rsplit(':').next().unwrap().parse().unwrap();
    (child, lines, port)
}

async fn echo(port: u16, body: Vec<u8>) -> Vec<u8> {
    let exchange = async {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let request = http::Request::post("/echo").header("host", "alice");
        let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let answering = async {
            let answer = sender.send_request(request).await.unwrap();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            drop(sender);
            body.to_vec()
        };
        futures::join!(answering, connection).0
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap()
}

#[tokio::test]
async fn a_port_is_forwarded_many_bytes_and_many_connections() {
    let ground = Ground::up().await;
    for kubectl in &Kubectl::ends() {
        let (mut child, _lines, port) = forwarded(&ground, kubectl).await;
        let many = vec![b'y'; MANY_BYTES];
        assert!(echo(port, many.clone()).await == many);
        for number in 0..20 {
            let body = format!("connection {number}").into_bytes();
            assert_eq!(echo(port, body.clone()).await, body);
        }
        let at_once = (0..20).map(|_| echo(port, many[..100_000].to_vec()));
        assert!(futures::future::join_all(at_once).await.iter().all(|it| it.len() == 100_000));
        child.kill().await.unwrap();
    }
}

#[tokio::test]
async fn machines_that_are_only_pretended_are_shown_and_not_reached() {
    let ground = Ground::start(&["--no-run"]).await;
    for kubectl in &Kubectl::ends() {
        let pods = ground.run(kubectl, &["get", "pods", "-o", "json"]).await.good();
        let pods: Value = serde_json::from_str(&pods).unwrap();
        assert_eq!(pods["items"].as_array().unwrap().len(), 1);
        for arguments in [&["logs", "alice"][..], &["exec", "alice", "--", "true"]] {
            let said = ground.run(kubectl, arguments).await.refused();
            assert!(said.contains("only pretended here"), "{said}");
        }
        let top = ground.run(kubectl, &["top", "pods"]).await;
        assert!(!top.out.contains("alice"), "{}", top.out);
    }
}

#[tokio::test]
async fn by_the_machines_api_commands_run_and_the_rest_is_refused_with_a_sentence() {
    let kubectls = Kubectl::ends();
    if kubectls.is_empty() {
        return;
    }
    let ground = Ground::apart().await;
    for kubectl in &kubectls {
        let script = "echo out; echo err >&2; exit 3";
        let ran = ground.run(kubectl, &["exec", "alice", "--", "sh", "-c", script]).await;
        assert_eq!((ran.code, ran.out.as_str()), (3, "out\n"), "{}", ran.err);
        assert!(ran.err.starts_with("err\n"), "{}", ran.err);
        for (arguments, why) in [
            (&["exec", "-i", "alice", "--", "cat"][..], "no standard input"),
            (&["logs", "alice"], "has no logs"),
            (&["attach", "alice"], "has no logs"),
        ] {
            let said = ground.run(kubectl, arguments).await.refused();
            assert!(said.contains(why), "{said}");
        }
        let top = ground.run(kubectl, &["top", "pods"]).await;
        assert!(!top.out.contains("alice"), "{}", top.out);
        let (mut child, mut lines, port) = forwarded(&ground, kubectl).await;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut nothing = Vec::new();
        let _broken = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut nothing).await;
        assert_eq!(nothing, b"");
        lines.next_line().await.unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = tokio::time::timeout(PATIENCE, errors.next_line()).await.unwrap().unwrap();
        assert!(said.as_ref().is_some_and(|it| it.contains("no way to a port")), "{said:?}");
        child.kill().await.unwrap();
    }
}
