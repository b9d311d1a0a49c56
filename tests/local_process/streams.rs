//! Commands with open streams, and a run's output as it comes.

use futures::StreamExt as _;
use hangar::local::driver::{Driver as _, Ended, Error, Interactive, Session, Wanted};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::machine::{Machine, PATIENCE, eventually};

async fn open(machine: &Machine, argv: &[&str], stdin: bool, tty: bool) -> Result<Session, Error> {
    let argv = argv.iter().map(|it| (*it).to_owned()).collect();
    machine.driver.open("m1", &Interactive { argv, stdin, tty }).await
}

async fn sleeper() -> Machine {
    let machine = Machine::script("echo up; exec sleep 1000");
    machine.start().await;
    machine
}

#[tokio::test]
async fn a_commands_streams_are_its_callers_to_the_end() {
    let machine = sleeper().await;
    let script = ["sh", "-c", "cat; echo end >&2; exit 5"];
    let Session { stdin, mut stdout, stderr, resize, ended } =
        open(&machine, &script, true, false).await.unwrap();
    assert!(resize.is_none());
    let mut stdin = stdin.unwrap();
    let sent = vec![b'x'; 1_000_000];
    let writing = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let (mut heard, mut errors) = (Vec::new(), String::new());
    let mut stderr = stderr.unwrap();
    let reading = async {
        stdout.read_to_end(&mut heard).await.unwrap();
        stderr.read_to_string(&mut errors).await.unwrap();
    };
    let ((), (), ended) = tokio::join!(writing, reading, ended);
    assert_eq!((heard.len(), errors.as_str()), (sent.len(), "end\n"));
    assert_eq!(ended, Ended { code: Some(5), signal: None });
    let missing = open(&machine, &["/no/such"], false, false).await.unwrap_err();
    assert!(hangar::retry::chain(&missing).contains("cannot run /no/such"), "{missing}");
    machine.end().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_a_session_of_its_own() {
    let machine = sleeper().await;
    let Session { stdin, mut stdout, resize, ended, .. } =
        open(&machine, &["sh"], true, true).await.unwrap();
    resize.unwrap()(101, 33).unwrap();
    let mut stdin = stdin.unwrap();
    stdin.write_all(b"stty size; test -t 2 && exit 6\n").await.unwrap();
    let mut said = Vec::new();
    // Its end is an error of the terminal.
    let (_end, ended) = tokio::join!(stdout.read_to_end(&mut said), ended);
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("33 101"), "{said}");
    assert_eq!(ended, Ended { code: Some(6), signal: None });
    machine.end().await;
}

#[tokio::test]
async fn a_command_goes_with_its_caller_and_with_its_machine() {
    let machine = sleeper().await;
    let sleeps = |name: &str| {
        let processes = machine.left().into_iter();
        processes.filter(|stat| stat.contains(name)).count()
    };
    for tty in [false, true] {
        let session = open(&machine, &["tail", "-f", "/dev/null"], false, tty).await.unwrap();
        eventually(async || sleeps("(tail)") == 1).await;
        drop(session);
        eventually(async || sleeps("(tail)") == 0).await;
    }
    let session = open(&machine, &["tail", "-f", "/dev/null"], false, false).await.unwrap();
    machine.stop().await;
    let ended = tokio::time::timeout(PATIENCE, session.ended).await.unwrap();
    assert_eq!(ended, Ended { code: None, signal: Some(9) });
    let late = open(&machine, &["true"], false, false).await.unwrap_err();
    assert!(matches!(late, Error::NotRunning { .. }), "{late}");
    machine.end().await;
}

async fn texts(machine: &Machine, wanted: Wanted) -> Vec<String> {
    let lines = machine.driver.output("m1", wanted).await.unwrap();
    lines.flat_map(futures::stream::iter).map(|line| line.text).collect().await
}

#[tokio::test]
async fn output_is_of_one_run_and_followed_to_its_end() {
    let machine = sleeper().await;
    machine.logged("up").await;
    let none = machine.driver.output("m1", Wanted { previous: true, ..Wanted::default() }).await;
    assert!(matches!(none, Err(Error::NoRunBefore { .. })));
    machine.end().await;

    let machine = Machine::script("echo one; read word; echo two");
    machine.start().await;
    let followed = Wanted { follow: true, ..Wanted::default() };
    assert_eq!(texts(&machine, followed).await, ["one", "two"]);
    machine.start().await;
    let followed = Wanted { follow: true, last: Some(1), ..Wanted::default() };
    assert_eq!(texts(&machine, followed).await.last().unwrap(), "two");
    assert_eq!(texts(&machine, Wanted::default()).await, ["one", "two"]);
    let previous = Wanted { previous: true, ..Wanted::default() };
    assert_eq!(texts(&machine, previous).await, ["one", "two"]);
    let future = Wanted { since_ms: Some(i64::MAX), ..Wanted::default() };
    assert_eq!(texts(&machine, future).await, Vec::<String>::new());
    machine.end().await;
}
