//! The parameters of what is opened in a pod. It must never look at a header or the store.

use http::Method;

use crate::api::pod::CONTAINER;
use crate::clock::Timestamp;
use crate::server::{
    call::{NoCall, Query},
    reach::Command,
};

/// Ports that one request may name.
const PORTS_MAX: usize = 16;
/// Words that a command may have, and bytes in all of them.
const WORDS_MAX: usize = 1_024;

/// What is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) enum Open {
    /// What the program wrote.
    Log(Log),
    /// A command beside the program.
    Command(Wanted),
    /// The program's own output.
    Attach(Wanted),
    /// Ports; named here only by clients that open one connection for each.
    Ports(Vec<u16>),
}

/// Which lines, and how they look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::server) struct Log {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) last: Option<usize>,
    pub(super) since: Option<Since>,
    pub(super) limit_bytes: Option<u64>,
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Since {
    /// So many seconds ago.
    Seconds(i64),
    /// This time.
    Time(Timestamp),
}

/// A command and the streams that its caller opens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::server) struct Wanted {
    pub(super) command: Command,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

/// Reads what is asked of `pods/NAME/<stream>`.
pub(in crate::server) fn read(
    stream: &str,
    method: &Method,
    query: &Query,
) -> Result<Open, NoCall> {
    match query.get("container") {
        None | Some(CONTAINER) => {}
        Some(_) => {
            let why = format!("the only container of every pod is `{CONTAINER}`");
            return Err(NoCall::Bad(why));
        }
    }
    match (stream, method) {
        ("log", &Method::GET) => Ok(Open::Log(log(query)?)),
        ("exec", &(Method::GET | Method::POST)) => {
            let argv = query.all("command");
            if argv.is_empty() || argv.len() > WORDS_MAX {
                let why = format!("a command has 1 to {WORDS_MAX} words, given as `command`");
                return Err(NoCall::Bad(why));
            }
            Ok(Open::Command(wanted(query, argv)?))
        }
        ("attach", &(Method::GET | Method::POST)) => Ok(Open::Attach(wanted(query, Vec::new())?)),
        ("portforward", &(Method::GET | Method::POST)) => Ok(Open::Ports(ports(query)?)),
        _ => Err(NoCall::MethodNotAllowed),
    }
}

fn wanted(query: &Query, argv: Vec<String>) -> Result<Wanted, NoCall> {
    let (stdin, tty) = (query.flag("stdin"), query.flag("tty"));
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdin && !stdout && !stderr {
        return Err(NoCall::Bad("one of `stdin`, `stdout` and `stderr` must be true".to_owned()));
    }
    if tty && stderr {
        return Err(NoCall::Bad("a terminal has no `stderr` of its own".to_owned()));
    }
    Ok(Wanted { command: Command { argv, stdin, tty }, stdout, stderr })
}

fn log(query: &Query) -> Result<Log, NoCall> {
    let since = match (query.number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(_), Some(_)) => {
            let why = "at most one of `sinceSeconds` and `sinceTime` may be given";
            return Err(NoCall::Bad(why.to_owned()));
        }
        (Some(seconds), None) => Some(Since::Seconds(i64::try_from(seconds).unwrap_or(i64::MAX))),
        (None, Some(text)) => Some(Since::Time(text.parse().map_err(|_| {
            NoCall::Bad("`sinceTime` must be a time as RFC 3339 has it".to_owned())
        })?)),
        (None, None) => None,
    };
    let limit_bytes = query.number("limitBytes")?;
    if limit_bytes == Some(0) {
        return Err(NoCall::Bad("`limitBytes` must be greater than 0".to_owned()));
    }
    let last = query.number("tailLines")?;
    Ok(Log {
        follow: query.flag("follow"),
        previous: query.flag("previous"),
        timestamps: query.flag("timestamps"),
        last: last.map(|last| usize::try_from(last).unwrap_or(usize::MAX)),
        since,
        limit_bytes,
    })
}

fn ports(query: &Query) -> Result<Vec<u16>, NoCall> {
    let wrong = || NoCall::Bad(format!("`ports` must be 1 to {PORTS_MAX} port numbers"));
    let mut ports = Vec::new();
    for word in query.all("ports").iter().flat_map(|list| list.split(',')) {
        let port: u16 = word.trim().parse().map_err(|_| wrong())?;
        ports.push(port);
    }
    if ports.len() > PORTS_MAX || ports.contains(&0) { Err(wrong()) } else { Ok(ports) }
}
