//! Processes as the kernel tells them in `/proc`, and signals to many of them. It must never trust a process id alone: an
//! id is used together with its start time.

use std::{collections::BTreeSet, fs, io, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal};

use crate::local::driver;
use crate::tasks;

/// How long processes may take to stop or to die. A process in an uninterruptible wait of the kernel takes its time.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at the process table.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A line of `/proc/<pid>/stat`, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) state: char,
    /// Clock ticks since boot; with the pid it names one process for ever.
    pub(super) started: u64,
    cpu_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may hold any character, a closing parenthesis included.
        let (pid, rest) = text.split_once(" (")?;
        let (_, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            pid: pid.parse().ok()?,
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            group: fields.get(2)?.parse().ok()?,
            cpu_ticks: number(11)? + number(12)?,
            started: number(19)?,
            rss_pages: number(21)?,
        })
    }

    fn dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    fn stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// One process, if it lives.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Stat::parse(&text).filter(|it| !it.dead())
}

/// Every living process.
pub(super) fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        found.extend(stat(pid));
    }
    Ok(found)
}

/// Children of `pid`, their children and so on; `pid` itself left out.
pub(super) fn below(all: &[Stat], pid: u32) -> Vec<Stat> {
    let mut family = BTreeSet::from([pid]);
    loop {
        let before = family.len();
        family.extend(
            all.iter()
                .filter(|it| family.contains(&it.parent))
                .map(|it| it.pid)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    family.remove(&pid);
    all.iter().filter(|it| family.contains(&it.pid)).cloned().collect()
}

/// Processes that were started with `marker` (`NAME=value`) in their environment, and everything below them.
pub(super) fn marked(all: &[Stat], marker: &[u8]) -> Vec<Stat> {
    let mut found: Vec<Stat> = Vec::new();
    for it in all {
        // Other users' environments can't be read; they are not ours.
        let Ok(environ) = fs::read(format!("/proc/{}/environ", it.pid)) else { continue };
        if !environ.split(|byte| *byte == 0).any(|variable| variable == marker) {
            continue;
        }
        for member in below(all, it.pid).into_iter().chain([it.clone()]) {
            if !found.contains(&member) {
                found.push(member);
            }
        }
    }
    found
}

/// Sends a signal to exactly this process; one that is gone is no error.
pub(super) fn send(to: &Stat, signal: Signal) -> io::Result<()> {
    let Some(pid) = i32::try_from(to.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match send_if_same(to, pid, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(target_os = "linux")]
fn send_if_same(to: &Stat, pid: Pid, signal: Signal) -> rustix::io::Result<()> {
    use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
    // The descriptor stays with the process that it was opened for, so checking it afterwards leaves no gap.
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    if stat(to.pid).is_none_or(|now| now.started != to.started) {
        return Ok(());
    }
    pidfd_send_signal(handle, signal)
}

#[cfg(not(target_os = "linux"))]
fn send_if_same(_to: &Stat, pid: Pid, signal: Signal) -> rustix::io::Result<()> {
    rustix::process::kill_process(pid, signal)
}

/// Kills what `chosen` picks until it picks nothing any more, twice in a row: a fork may slip between look and kill.
pub(super) async fn kill(
    chosen: impl Fn(&[Stat]) -> Vec<Stat> + Send + Sync + 'static,
) -> io::Result<()> {
    settle("some processes do not die", Signal::KILL, chosen).await
}

/// Stops everything below `pid` until nothing moves any more.
pub(super) async fn freeze(pid: u32) -> io::Result<()> {
    let awake =
        move |all: &[Stat]| below(all, pid).into_iter().filter(|it| !it.stopped()).collect();
    settle("some processes do not stop", Signal::STOP, awake).await
}

/// Continues everything below `pid`.
pub(super) async fn thaw(pid: u32) -> io::Result<()> {
    let asleep = move |all: &[Stat]| below(all, pid).into_iter().filter(Stat::stopped).collect();
    settle("some processes do not continue", Signal::CONT, asleep).await
}

/// Sends a signal to what is `left` until nothing is, twice in a row.
async fn settle(
    trouble: &'static str,
    signal: Signal,
    left: impl Fn(&[Stat]) -> Vec<Stat> + Send + Sync + 'static,
) -> io::Result<()> {
    let left = Arc::new(left);
    let looks = async {
        let mut nothing = 0;
        loop {
            let left = Arc::clone(&left);
            let look = move || {
                let left = left(&all()?);
                left.iter().try_for_each(|it| send(it, signal))?;
                Ok::<_, io::Error>(left.is_empty())
            };
            let none = tasks::blocking(look).await.map_err(io::Error::other)??;
            nothing = if none { nothing + 1 } else { 0 };
            if nothing == 2 {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(SETTLE_MAX, looks)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, trouble)))
}

/// A process as the Machines API tells it.
pub(super) fn describe(it: &Stat) -> driver::Process {
    let command = fs::read(format!("/proc/{}/cmdline", it.pid)).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    let directory = fs::read_link(format!("/proc/{}/cwd", it.pid)).unwrap_or_default();
    driver::Process {
        pid: it.pid,
        command,
        directory: directory.to_string_lossy().into_owned(),
        rss_bytes: it.rss_pages.saturating_mul(rustix::param::page_size() as u64),
        cpu_ms: it.cpu_ticks.saturating_mul(1_000) / rustix::param::clock_ticks_per_second().max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32) -> Stat {
        Stat { pid, parent, group: pid, state: 'S', started: 1, cpu_ticks: 0, rss_pages: 0 }
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let line = "77 (a) S 1) R 5 6 7 0 -1 0 0 0 0 0 11 12 0 0 20 0 1 0 4242 1000 99 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.pid, stat.parent, stat.group, stat.state), (77, 5, 6, 'R'));
        assert_eq!((stat.cpu_ticks, stat.started, stat.rss_pages), (23, 4242, 99));
    }

    #[test]
    fn below_means_grandchildren_too_and_nobody_else() {
        let all = [process(4, 3), process(2, 1), process(3, 2), process(9, 1)];
        let pids: Vec<_> = below(&all, 2).iter().map(|it| it.pid).collect();
        assert_eq!(pids, [4, 3]);
    }

    #[test]
    fn an_older_process_of_the_same_id_gets_no_signal() {
        let mut me = stat(std::process::id()).unwrap();
        me.started -= 1;
        // Were it sent, it would end the test.
        send(&me, Signal::KILL).unwrap();
    }
}
