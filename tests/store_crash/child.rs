//! The processes that are made to suffer: this test binary, started again as one of its own tests. Alone those do nothing.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use hangar::store::{Backend, Entry, Key, Op, Precondition, Revision, Txn, sled::Sled};

/// Set in a child to the directory of its store.
const DIR: &str = "HANGAR_STORE_CRASH_DIR";
const WRITES: &str = "child::commits_until_it_is_ended";
const OPENS: &str = "child::opens_and_says_what_it_finds";

const WRITERS: u64 = 6;
const LARGE_BYTES: usize = 9000;

/// Far more than opening takes on a loaded computer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a writer's commit number `n` leaves: both of its keys hold it, its own large value too, and of its last few numbers
/// each has a key of its own.
fn txn(writer: u64, n: u64) -> Txn {
    let number = Bytes::copy_from_slice(n.to_string().as_bytes());
    let large = Bytes::from(vec![u8::try_from(n % 251).unwrap(); LARGE_BYTES]);
    Txn::one(key(writer, "left"), Precondition::Any, Op::Put(number.clone()))
        .and(key(writer, "right"), Precondition::Any, Op::Put(number.clone()))
        .and(key(writer, "large"), Precondition::Any, Op::Put(large))
        .and(key(writer, &format!("recent/{n}")), Precondition::Absent, Op::Put(number))
        .and(key(writer, &format!("recent/{}", n.saturating_sub(7))), Precondition::Any, Op::Delete)
}

fn key(writer: u64, name: &str) -> Key {
    Key::new(&format!("writers/{writer}/{name}"))
}

async fn number(store: &Sled, key: &Key) -> u64 {
    match store.get(key).await.unwrap() {
        Some(entry) => std::str::from_utf8(&entry.value).unwrap().parse().unwrap(),
        None => 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_until_it_is_ended() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Arc::new(Sled::open(dir).await.unwrap());
    let writers = (0..WRITERS).map(|writer| {
        let store = Arc::clone(&store);
        async move {
            let mut n = number(&store, &key(writer, "left")).await;
            loop {
                n += 1;
                let revision = store.commit(txn(writer, n)).await.unwrap();
                // One write call per line, so that no line is torn but the last.
                let line = format!("ack {writer} {n} {revision}\n");
                std::io::stderr().write_all(line.as_bytes()).unwrap();
            }
        }
    });
    futures::future::join_all(writers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opens_and_says_what_it_finds() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let said = match Sled::open(dir).await {
        Ok(store) => {
            let (entries, revision) = store.list("").await.unwrap();
            let told = history(&store, revision).await;
            format!("found {revision} {} {told}\n", digest(&entries))
        }
        Err(error) => format!("refused {}\n", hangar::retry::chain(&error)),
    };
    std::io::stderr().write_all(said.as_bytes()).unwrap();
}

/// A digest of what a watch from as far back as there is tells.
async fn history(store: &Sled, upto: Revision) -> u64 {
    use futures::StreamExt as _;
    use hangar::store::{Event, WatchError};
    let oldest = match store.watch("", Revision(0)) {
        Err(WatchError::Compacted { oldest, .. }) => oldest,
        Ok(_) | Err(WatchError::Closed) => Revision(0),
    };
    let mut events = store.watch("", oldest).unwrap();
    let (mut told, mut at) = (Vec::new(), oldest);
    while at < upto {
        match events.next().await.unwrap().unwrap() {
            Event::Progress(revision) => at = revision,
            Event::Changes(changes) => {
                at = changes[0].revision;
                told.extend(changes.iter().map(|it| Entry {
                    key: it.key.clone(),
                    value: it.value.clone().unwrap_or_default(),
                    revision: it.revision,
                }));
            }
        }
    }
    digest(&told)
}

fn digest(entries: &[Entry]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    for entry in entries {
        (entry.key.as_str(), &entry.value[..], entry.revision).hash(&mut hasher);
    }
    hasher.finish()
}

fn command(wrapper: &[&str], test: &str, dir: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut command = match wrapper.split_first() {
        Some((first, rest)) => {
            let mut command = Command::new(first);
            command.args(rest).arg(this);
            command
        }
        None => Command::new(this),
    };
    command.args(["--exact", test, "--nocapture"]).env(DIR, dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// What writers were told: for each, its last acknowledged number and that commit's revision.
#[derive(Debug, Default, Clone)]
pub(crate) struct Acknowledged(BTreeMap<u64, (u64, Revision)>);

impl Acknowledged {
    fn take(&mut self, line: &str) -> bool {
        let words: Vec<_> = line.split(' ').collect();
        let ["ack", writer, n, revision] = words.as_slice() else { return false };
        // The last line may be torn.
        let (Ok(writer), Ok(n), Ok(revision)) = (writer.parse(), n.parse(), revision.parse())
        else {
            return false;
        };
        self.0.insert(writer, (n, Revision(revision)));
        true
    }

    /// What a later child of the same store was told counts from now on.
    pub(crate) fn learn(&mut self, later: Self) {
        self.0.extend(later.0);
    }

    pub(crate) fn commits(&self) -> u64 {
        self.0.values().map(|it| it.0).sum()
    }

    /// Asserts that all of it is there, and that every commit is whole. Returns where the store is.
    pub(crate) async fn assert_kept(&self, store: &Sled) -> Revision {
        let (entries, revision) = store.list("").await.unwrap();
        for writer in 0..WRITERS {
            let n = number(store, &key(writer, "left")).await;
            assert_eq!(
                number(store, &key(writer, "right")).await,
                n,
                "writer {writer}: a torn commit"
            );
            if let Some(large) = store.get(&key(writer, "large")).await.unwrap() {
                let expected = vec![u8::try_from(n % 251).unwrap(); LARGE_BYTES];
                assert!(large.value == expected, "writer {writer}: another commit's large value");
            }
            let (recent, _) = store.list(&format!("writers/{writer}/recent/")).await.unwrap();
            let mut recent: Vec<_> = recent.iter().map(|it| it.value.clone()).collect();
            let mut expected: Vec<_> =
                (n.saturating_sub(6).max(1)..=n).map(|it| Bytes::from(it.to_string())).collect();
            recent.sort();
            expected.sort();
            assert_eq!(recent, expected, "writer {writer} at {n}: other rows");
            let (last, at) = self.0.get(&writer).copied().unwrap_or_default();
            assert!(n >= last, "writer {writer}: at {n}, acknowledged {last}");
            assert!(revision >= at, "at {revision}, acknowledged {at}");
        }
        assert!(entries.iter().all(|entry| entry.revision <= revision));
        revision
    }
}

/// A child that commits.
pub(crate) struct Writing {
    process: Child,
    first: Receiver<()>,
    reader: JoinHandle<(Acknowledged, String)>,
}

impl Writing {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_under(&[], dir)
    }

    /// Under another program that gets it as its arguments.
    pub(crate) fn start_under(wrapper: &[&str], dir: &Path) -> Self {
        let mut process = command(wrapper, WRITES, dir).spawn().unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let (told, first) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let (mut acknowledged, mut said) = (Acknowledged::default(), String::new());
            for line in stderr.lines().map_while(Result::ok) {
                if acknowledged.take(&line) {
                    let _after_the_first = told.send(());
                } else {
                    said.push_str(&line);
                    said.push('\n');
                }
            }
            (acknowledged, said)
        });
        Self { process, first, reader }
    }

    /// Returns once a commit was acknowledged.
    pub(crate) fn settle(&self) {
        // It fails at once when the child ends without a word.
        assert!(self.first.recv().is_ok(), "the child committed nothing");
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) -> Acknowledged {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.reader.join().unwrap().0
    }

    /// Its own end: how, what was acknowledged, what else it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, Acknowledged, String) {
        let status = wait(&mut self.process);
        let (acknowledged, said) = self.reader.join().unwrap();
        assert!(status.code().is_some(), "it hung, or was killed by {status}: {said}");
        (status, acknowledged, said)
    }
}

/// The end of a process that must end by itself; one that hangs is killed, which shows in its status.
fn wait(process: &mut Child) -> ExitStatus {
    const LOOK: Duration = Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(LOOK);
    }
    process.kill().unwrap();
    process.wait().unwrap()
}

/// What opening a store came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Revision, and digests of all entries and of the history.
    Found(String),
    /// The error.
    Refused(String),
}

/// Opens a store in a process of its own, so that a crash or a hang is that process's.
pub(crate) fn open(dir: &Path) -> Opening {
    open_under(&[], dir)
}

/// The same, under another program.
pub(crate) fn open_under(wrapper: &[&str], dir: &Path) -> Opening {
    let mut process = command(wrapper, OPENS, dir).spawn().unwrap();
    let mut stderr = process.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        stderr.read_to_string(&mut said).map(|_| said)
    });
    let status = wait(&mut process);
    let said = reader.join().unwrap().unwrap();
    assert!(status.success(), "{status}: {said}");
    let line = |word: &str| {
        said.lines().rev().find_map(|it| it.strip_prefix(word)).map(|it| it.trim().to_owned())
    };
    match (line("found "), line("refused ")) {
        (Some(found), None) => Opening::Found(found),
        (None, Some(error)) => Opening::Refused(error),
        _ => panic!("it said neither what it found nor why it refused: {said}"),
    }
}
