//! Calls that reach into a running machine: exec, ps, signal. It must never change a machine's state.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fly::wire;
use crate::local::{Backend, driver, machine::State, refusal::Refusal, respond::Reply};
use crate::retry;

const EXEC_TIMEOUT: Duration = Duration::from_secs(60);

/// Names by number, as Linux numbers them.
const SIGNALS: [(i64, &str); 14] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (10, "SIGUSR1"),
    (11, "SIGSEGV"),
    (12, "SIGUSR2"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
];

impl Backend {
    fn must_run(&self, id: &str, verb: &'static str) -> Result<(), Refusal> {
        let world = self.lock();
        let machine = world.machines.get(id).ok_or(Refusal::NotFound("machine"))?;
        if machine.state == State::Started {
            Ok(())
        } else {
            Err(Refusal::Unable { verb, state: machine.state.word() })
        }
    }

    pub(super) async fn exec(&self, id: &str, input: wire::Exec) -> Result<Reply, Refusal> {
        self.must_run(id, "exec on")?;
        let argv = match input.cmd.filter(|_| input.command.is_empty()) {
            Some(line) => split(&line),
            None => input.command,
        };
        if argv.is_empty() {
            return Err(Refusal::Invalid("invalid_argument: command is required".to_owned()));
        }
        let timeout = input.timeout.filter(|it| *it > 0).map_or(EXEC_TIMEOUT, Duration::from_secs);
        let stdin = input.stdin.unwrap_or_default();
        let done = self
            .driver
            .exec(id, &argv, stdin.as_bytes(), timeout.min(EXEC_TIMEOUT))
            .await
            .map_err(refusal)?;
        Reply::json(&wire::Executed {
            exit_code: done.code.unwrap_or(0),
            exit_signal: done.signal.unwrap_or(0),
            stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
        })
    }

    pub(super) async fn processes(
        &self,
        id: &str,
        sort_by: &str,
        descending: bool,
    ) -> Result<Reply, Refusal> {
        self.must_run(id, "list processes of")?;
        let mut processes = self.driver.processes(id).await.map_err(refusal)?;
        match sort_by {
            "" | "pid" => processes.sort_by_key(|it| it.pid),
            "rss" => processes.sort_by_key(|it| it.rss_bytes),
            "cpu" | "rtime" | "stime" => processes.sort_by_key(|it| it.cpu_ms),
            "command" => processes.sort_by(|a, b| a.command.cmp(&b.command)),
            other => {
                return Err(Refusal::Invalid(format!("invalid_argument: cannot sort by {other}")));
            }
        }
        if descending {
            processes.reverse();
        }
        let shown = processes.iter().map(|it| {
            json!({
                "pid": it.pid, "command": it.command, "directory": it.directory,
                "rss": it.rss_bytes, "cpu": it.cpu_ms, "rtime": it.cpu_ms, "stime": 0,
                "listen_sockets": [],
            })
        });
        Reply::json(&shown.collect::<Vec<_>>())
    }

    /// The signal by name, or as fly-go sends it, by number.
    pub(super) async fn signal(&self, id: &str, body: &Value) -> Result<Reply, Refusal> {
        let found = match body.get("signal") {
            Some(Value::String(name)) => SIGNALS.iter().find(|(_, known)| known == name),
            Some(Value::Number(number)) => {
                SIGNALS.iter().find(|(known, _)| number.as_i64() == Some(*known))
            }
            _ => None,
        };
        let Some((_, name)) = found else {
            return Err(Refusal::Invalid("invalid_argument: unsupported signal".to_owned()));
        };
        self.must_run(id, "signal")?;
        self.driver.signal(id, name).await.map_err(refusal)?;
        Reply::ok()
    }
}

fn refusal(error: driver::Error) -> Refusal {
    match error {
        driver::Error::NotRunning { .. } => {
            Refusal::Precondition("machine is not running".to_owned())
        }
        driver::Error::ExecTimeout => Refusal::Deadline("command did not end in time"),
        driver::Error::UnknownImage { .. }
        | driver::Error::NothingRuns
        | driver::Error::NoRunBefore { .. }
        | driver::Error::Io { .. } => Refusal::Internal(retry::chain(&error)),
    }
}

/// A command line at its spaces, with quotes as a shell has them.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            (Some(_) | None, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_a_shell_does() {
        assert_eq!(
            split("sh -c 'echo  a b' \"c \\\"d\" ''"),
            ["sh", "-c", "echo  a b", "c \"d", ""]
        );
        assert!(split("  ").is_empty());
    }
}
