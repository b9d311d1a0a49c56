//! The process driver with real processes, through the real binary.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod machine;
mod streams;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use hangar::local::driver::{Driver, Error, Restart, Spec, Status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use machine::{Machine, PATIENCE, PORT, alive, driver, eventually, kill, shim_pid};

#[tokio::test]
async fn a_started_sample_app_answers_through_dial() {
    let machine = Machine::of_image("hangar.dev/sample-app:v1").await;
    assert_eq!(machine.status().await, Status::Absent);
    machine.start().await;
    assert!(matches!(machine.status().await, Status::Running { restarts: 0, .. }));
    assert!(machine.get("/").await.contains("sample app"));
    let other = machine.driver.dial("m1", 9).await.err().unwrap();
    assert!(matches!(other, Error::Io { doing: "dial", .. }), "{other}");
    machine.end().await;
}

#[tokio::test]
async fn starting_a_running_machine_changes_nothing() {
    let machine = Machine::script("echo up; exec sleep 1000");
    let (one, two) =
        tokio::join!(machine.driver.start(&machine.spec), machine.driver.start(&machine.spec));
    one.unwrap();
    two.unwrap();
    machine.start().await;
    machine.logged("up").await;
    assert_eq!(machine.logs().await, ["up"]);
    machine.end().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named_and_leaves_nothing() {
    let machine = Machine::new("hangar.dev/host", &["/no/such/program"]);
    let error = machine.driver.start(&machine.spec).await.unwrap_err();
    let said = hangar::retry::chain(&error);
    assert!(said.starts_with("cannot start machine m1: cannot run /no/such/program"), "{said}");
    assert_eq!(machine.status().await, Status::Absent);
    machine.end().await;
}

#[tokio::test]
async fn an_empty_command_is_refused() {
    let machine = Machine::new("hangar.dev/host", &[]);
    let said = hangar::retry::chain(&machine.driver.start(&machine.spec).await.unwrap_err());
    assert!(said.contains("the image has none and none was given"), "{said}");
    machine.end().await;
}

#[tokio::test]
async fn a_stop_sends_the_signal_and_waits_for_the_end() {
    let machine =
        Machine::script("trap 'echo bye; exit 3' USR1; echo up; while :; do sleep 0.01; done");
    machine.start().await;
    machine.logged("up").await;
    machine.driver.stop("m1", Some("SIGUSR1"), None).await.unwrap();
    let Status::Exited(exit) = machine.status().await else { panic!() };
    assert_eq!((exit.code, exit.signal, exit.requested), (Some(3), None, true));
    assert_eq!(machine.logs().await, ["up", "bye"]);
    assert_eq!(machine.left(), Vec::<String>::new());
    machine.stop().await;
    machine.end().await;
}

#[tokio::test]
async fn whoever_ignores_the_signal_is_killed_with_all_descendants() {
    let machine = Machine::script(
        "trap '' INT; setsid sh -c 'trap \"\" INT; sleep 1000' & (env -i sleep 1000 &); echo up; sleep 1000",
    );
    machine.start().await;
    machine.logged("up").await;
    let processes = machine.driver.processes("m1").await.unwrap();
    let pids: Vec<_> = processes.iter().map(|it| i32::try_from(it.pid).unwrap()).collect();
    assert!(pids.len() >= 3, "{processes:?}");
    machine.driver.stop("m1", None, Some(Duration::from_millis(50))).await.unwrap();
    let Status::Exited(exit) = machine.status().await else { panic!() };
    assert_eq!((exit.code, exit.signal, exit.requested), (None, Some(9), true));
    assert!(pids.iter().all(|pid| !alive(*pid)));
    machine.end().await;
}

#[tokio::test]
async fn a_stop_with_a_signal_nobody_knows_is_refused_and_stops_nothing() {
    let machine = Machine::script("exec sleep 1000");
    machine.start().await;
    assert!(machine.driver.stop("m1", Some("SIGNOPE"), None).await.is_err());
    assert!(matches!(machine.status().await, Status::Running { .. }));
    machine.end().await;
}

#[tokio::test]
async fn a_crash_loop_ends_with_its_restarts_counted() {
    let mut machine = Machine::of_image("hangar.test/crash-loop").await;
    machine.spec.restart = Restart::OnFailure { max_retries: 3 };
    machine.start().await;
    let mut status = machine.status().await;
    while !matches!(status, Status::Exited(_)) {
        status = machine.driver.changed("m1", &status, PATIENCE).await;
    }
    let Status::Exited(exit) = status else { panic!() };
    assert_eq!((exit.code, exit.requested, exit.restarts), (Some(1), false, 3));
    assert_eq!(machine.logs().await.len(), 4);
    machine.end().await;
}

#[tokio::test]
async fn a_program_that_always_restarts_does_so_after_success_and_can_still_be_stopped() {
    let mut machine = Machine::script("echo $$ $PORT");
    machine.spec.restart = Restart::Always;
    machine.start().await;
    eventually(async || machine.logs().await.len() >= 3).await;
    machine.stop().await;
    assert!(matches!(machine.status().await, Status::Exited(exit) if exit.requested));
    let logs = machine.logs().await;
    let port = |line: &String| line.split_once(' ').unwrap().1.to_owned();
    assert!(logs.iter().all(|line| port(line) == port(logs.first().unwrap())), "{logs:?}");
    machine.end().await;
}

#[tokio::test]
async fn a_program_that_ended_well_stays_ended() {
    let mut machine = Machine::script("exit 0");
    machine.spec.restart = Restart::OnFailure { max_retries: 10 };
    machine.start().await;
    eventually(async || matches!(machine.status().await, Status::Exited(_))).await;
    let Status::Exited(exit) = machine.status().await else { panic!() };
    assert_eq!((exit.code, exit.requested, exit.restarts), (Some(0), false, 0));
    machine.start().await;
    machine.end().await;
}

#[tokio::test]
async fn a_frozen_machine_answers_nobody_and_a_thawed_one_remembers() {
    let machine = Machine::of_image("hangar.dev/sample-app").await;
    machine.start().await;
    assert_eq!(machine.visits_since_start().await, 1);
    let mut open = machine.driver.dial("m1", PORT).await.unwrap();
    machine.driver.suspend("m1").await.unwrap();
    machine.driver.suspend("m1").await.unwrap();
    assert!(matches!(machine.status().await, Status::Frozen { .. }));
    assert!(matches!(machine.try_get("/").await, Err(Error::NotRunning { .. })));
    assert!(matches!(machine.exec(&["true"], b"").await, Err(Error::NotRunning { .. })));
    assert!(machine.driver.start(&machine.spec).await.is_err());
    open.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut byte = [0];
    let silent = tokio::time::timeout(Duration::from_millis(200), open.read(&mut byte)).await;
    assert!(silent.is_err());
    machine.driver.resume("m1").await.unwrap();
    assert!(matches!(machine.status().await, Status::Running { .. }));
    let mut answer = String::new();
    open.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    assert_eq!(machine.visits_since_start().await, 3);
    machine.end().await;
}

#[tokio::test]
async fn every_process_of_a_frozen_machine_is_stopped_and_a_stop_ends_them() {
    let machine = Machine::script("setsid sleep 1000 & sleep 1000 & echo up; while :; do :; done");
    machine.start().await;
    machine.logged("up").await;
    machine.driver.suspend("m1").await.unwrap();
    let processes = machine.driver.processes("m1").await.unwrap();
    assert!(processes.len() >= 3);
    for process in processes {
        let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
        assert!(stat.contains(") T "), "{stat}");
    }
    machine.stop().await;
    assert!(matches!(machine.status().await, Status::Exited(exit) if exit.requested));
    machine.end().await;
}

#[tokio::test]
async fn exec_tells_output_input_code_and_signal() {
    let mut machine = Machine::script("exec sleep 1000");
    machine.spec.env.insert("GREETING".to_owned(), "hello".to_owned());
    machine.start().await;
    let done = machine.exec(&["sh", "-c", "cat; echo $GREETING >&2; pwd; exit 4"], b"in\n").await;
    let done = done.unwrap();
    assert_eq!((done.code, done.signal), (Some(4), None));
    let root = machine.root().to_string_lossy().into_owned();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("in\n{root}\n"));
    assert_eq!(done.stderr, b"hello\n");
    let killed = machine.exec(&["sh", "-c", "kill -TERM $$"], b"").await.unwrap();
    assert_eq!((killed.code, killed.signal), (None, Some(15)));
    let big = machine.exec(&["head", "-c", "3000000", "/dev/zero"], b"").await.unwrap();
    assert_eq!((big.code, big.stdout.len()), (Some(0), 1024 * 1024));
    let unread = machine.exec(&["true"], &vec![b'x'; 500_000]).await.unwrap();
    assert_eq!(unread.code, Some(0));
    let missing = machine.exec(&["no-such-command"], b"").await.unwrap_err();
    assert!(hangar::retry::chain(&missing).contains("cannot run no-such-command"));
    machine.end().await;
}

#[tokio::test]
async fn exec_with_something_left_in_the_background_returns() {
    let machine = Machine::script("exec sleep 1000");
    machine.start().await;
    let done = machine.exec(&["sh", "-c", "sleep 1000 & echo done"], b"").await.unwrap();
    assert_eq!(done.stdout, b"done\n");
    machine.end().await;
}

#[tokio::test]
async fn an_exec_that_takes_too_long_is_killed_with_its_children() {
    let machine = Machine::script("exec sleep 1000");
    machine.start().await;
    let argv = ["sh", "-c", "sleep 1001 & sleep 1001"].map(str::to_owned);
    let late = machine.driver.exec("m1", &argv, b"", Duration::from_millis(100)).await;
    assert!(matches!(late, Err(Error::ExecTimeout)));
    let processes = machine.driver.processes("m1").await.unwrap();
    let commands: Vec<_> = processes.iter().map(|it| it.command.as_str()).collect();
    assert_eq!(commands, ["sleep 1000"]);
    machine.end().await;
}

#[tokio::test]
async fn a_signal_reaches_the_program() {
    let machine = Machine::script("trap 'echo got' HUP; echo up; while :; do sleep 0.01; done");
    machine.start().await;
    machine.logged("up").await;
    machine.driver.signal("m1", "SIGHUP").await.unwrap();
    machine.logged("got").await;
    machine.end().await;
}

#[test]
fn a_signal_reaches_the_program_also_where_hangar_was_told_to_ignore_it() {
    let test = std::env::current_exe().unwrap();
    // As `nohup` does, and a script for what it puts into the background.
    let ended = Command::new("/bin/sh")
        .args(["-c", "trap '' HUP INT QUIT; exec \"$0\" --exact a_signal_reaches_the_program"])
        .arg(test)
        .stdout(Stdio::null())
        .status();
    assert!(ended.unwrap().success());
}

#[tokio::test]
async fn nothing_can_be_asked_of_a_machine_that_does_not_run() {
    let machine = Machine::script("true");
    assert!(matches!(machine.driver.suspend("m1").await, Err(Error::NotRunning { .. })));
    assert!(matches!(machine.driver.signal("m1", "INT").await, Err(Error::NotRunning { .. })));
    assert!(matches!(machine.exec(&["true"], b"").await, Err(Error::NotRunning { .. })));
    assert!(matches!(machine.driver.processes("m1").await, Err(Error::NotRunning { .. })));
    assert!(machine.logs().await.is_empty());
    machine.stop().await;
    machine.end().await;
}

#[tokio::test]
async fn logs_know_their_stream_and_outlive_the_program() {
    let machine = Machine::script("echo one; sleep 0.05; echo two >&2; sleep 0.05; printf three");
    machine.start().await;
    eventually(async || matches!(machine.status().await, Status::Exited(_))).await;
    let lines = machine.driver.logs("m1", 2).await.unwrap();
    let lines: Vec<_> = lines.iter().map(|line| (line.stderr, line.text.as_str())).collect();
    assert_eq!(lines, [(true, "two"), (false, "three")]);
    machine.end().await;
}

#[tokio::test]
async fn a_later_driver_finds_the_machine_of_an_earlier_one() {
    let mut machine = Machine::of_image("hangar.dev/sample-app").await;
    machine.start().await;
    assert_eq!(machine.visits_since_start().await, 1);
    let before = machine.status().await;
    machine.driver = driver(machine.home.path());
    assert_eq!(machine.status().await, before);
    assert_eq!(machine.visits_since_start().await, 2);
    machine.stop().await;
    assert!(matches!(machine.status().await, Status::Exited(exit) if exit.code == Some(0)));
    machine.end().await;
}

#[tokio::test]
async fn a_machine_outlives_the_backend_that_started_it() {
    let machine = Machine::of_image("hangar.dev/sample-app").await;
    let mut backend = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_backend_to_be_killed", "--ignored"])
        .env(SPEC, serde_json::to_string(&machine.spec).unwrap())
        .env(HOME, machine.home.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually(async || matches!(machine.status().await, Status::Running { .. })).await;
    assert_eq!(machine.visits_since_start().await, 1);
    backend.kill().unwrap();
    backend.wait().unwrap();
    assert_eq!(machine.visits_since_start().await, 2);
    machine.driver.suspend("m1").await.unwrap();
    machine.driver.resume("m1").await.unwrap();
    machine.stop().await;
    assert!(matches!(machine.status().await, Status::Exited(exit) if exit.code == Some(0)));
    machine.end().await;
}

const SPEC: &str = "TEST_SPEC";
const HOME: &str = "TEST_HOME";

#[tokio::test]
#[ignore = "the other half of a_machine_outlives_the_backend_that_started_it"]
async fn a_backend_to_be_killed() {
    let spec: Spec = serde_json::from_str(&std::env::var(SPEC).unwrap()).unwrap();
    driver(Path::new(&std::env::var(HOME).unwrap())).start(&spec).await.unwrap();
    std::future::pending().await
}

#[tokio::test]
async fn a_killed_shim_leaves_an_absent_machine_and_remove_finds_its_processes() {
    let machine = Machine::script("setsid sleep 1000 & echo up; sleep 1000");
    machine.start().await;
    machine.logged("up").await;
    let known = machine.status().await;
    let watch = machine.driver.changed("m1", &known, PATIENCE);
    kill(shim_pid(&machine));
    assert_eq!(watch.await, Status::Absent);
    assert!(!machine.left().is_empty());
    machine.end().await;
}

#[tokio::test]
async fn a_start_after_a_killed_shim_first_ends_what_is_left() {
    let machine = Machine::script("echo $$; exec sleep 1000");
    machine.start().await;
    eventually(async || machine.logs().await.len() == 1).await;
    let old: i32 = machine.logs().await.first().unwrap().parse().unwrap();
    kill(shim_pid(&machine));
    eventually(async || machine.status().await == Status::Absent).await;
    assert!(alive(old));
    machine.start().await;
    assert!(!alive(old));
    assert!(matches!(machine.status().await, Status::Running { .. }));
    machine.end().await;
}

#[tokio::test]
async fn a_shim_that_is_stuck_can_be_removed() {
    let machine = Machine::script("exec sleep 1000");
    machine.start().await;
    let pid = rustix::process::Pid::from_raw(shim_pid(&machine)).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    assert!(matches!(machine.status().await, Status::Running { .. }));
    machine.end().await;
}

#[tokio::test]
async fn the_volume_is_found_by_variable_and_link_and_survives_the_machine() {
    let mut machine = Machine::script(
        "echo $HANGAR_VOLUME; cat $HANGAR_ROOT/data/hello; echo x > $HANGAR_ROOT/data/new",
    );
    let volume = machine.home.path().canonicalize().unwrap().join("volume");
    fs::create_dir(&volume).unwrap();
    machine.spec.volume = Some((volume.clone(), "/data".to_owned()));
    machine.spec.files = vec![("/data/hello".to_owned(), b"hi\n".to_vec(), 0o600)];
    machine.start().await;
    eventually(async || matches!(machine.status().await, Status::Exited(_))).await;
    assert_eq!(machine.logs().await, [volume.to_string_lossy().as_ref(), "hi"]);
    machine.end().await;
}

#[tokio::test]
async fn a_volume_outlives_remove_and_counts_on() {
    let mut machine = Machine::of_image("hangar.dev/sample-app").await;
    let volume = tempfile::tempdir().unwrap();
    machine.spec.volume = Some((volume.path().to_owned(), "/data".to_owned()));
    for visit in 1..=2 {
        machine.start().await;
        assert!(machine.get("/?format=json").await.contains(&format!("\"visits\": {visit},")));
        machine.driver.remove("m1").await.unwrap();
    }
    assert_eq!(fs::read_to_string(volume.path().join("visits")).unwrap(), "2\n");
    machine.end().await;
}

#[tokio::test]
async fn ports_have_variables_and_two_machines_never_the_same() {
    let mut machine = Machine::script("echo $PORT $PORT_8080 $PORT_9090; exec sleep 1000");
    machine.spec.ports = vec![PORT, 9090];
    let other = Spec { id: "m2".to_owned(), ..machine.spec.clone() };
    let (one, two) =
        tokio::join!(machine.driver.start(&machine.spec), machine.driver.start(&other));
    one.unwrap();
    two.unwrap();
    let mut seen = Vec::new();
    for id in ["m1", "m2"] {
        eventually(async || machine.driver.logs(id, 1).await.unwrap().len() == 1).await;
        let line = machine.driver.logs(id, 1).await.unwrap().remove(0).text;
        let ports: Vec<u16> = line.split(' ').map(|port| port.parse().unwrap()).collect();
        assert_eq!(ports.first(), ports.get(1));
        seen.extend(ports.into_iter().skip(1));
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    machine.driver.remove("m2").await.unwrap();
    machine.end().await;
}

#[tokio::test]
async fn a_slow_boot_listens_late_and_a_never_ready_app_says_so() {
    let mut slow = Machine::of_image("hangar.test/slow-boot").await;
    slow.spec.env.insert("SLOW_BOOT_MS".to_owned(), "300".to_owned());
    slow.start().await;
    assert!(slow.try_get("/").await.is_err());
    assert!(slow.get("/healthz").await.contains("200 OK"));
    slow.end().await;
    let never = Machine::of_image("hangar.test/never-ready").await;
    never.start().await;
    assert!(never.get("/healthz").await.contains("503"));
    never.end().await;
}
