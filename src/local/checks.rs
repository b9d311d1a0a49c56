//! Health checks of started machines: one task per machine that has any, each check at its own interval. It must never act
//! on a result, only record it.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use http::{Request, header::HOST};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::fly::wire;
use crate::local::{Backend, machine::State, state::Key};
use crate::retry;
use crate::tasks;

const INTERVAL: Duration = Duration::from_secs(15);
const INTERVAL_MIN: Duration = Duration::from_millis(200);
/// A failure that does not count yet is looked at again this soon.
const GRACE_INTERVAL_MAX: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Fly's word for a check that finds nothing wrong.
pub(super) const PASSING: &str = "passing";
/// And for one that finds something wrong.
pub(super) const CRITICAL: &str = "critical";
const OUTPUT_BYTES_MAX: usize = 4 * 1024;

/// A check with its name and port filled in.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) check: wire::Check,
}

/// All checks of a configuration: its own, then its services'.
pub(super) fn of(config: &wire::MachineConfig) -> Vec<Named> {
    let own = config
        .checks
        .iter()
        .map(|(name, check)| Named { name: name.clone(), check: check.clone() });
    let services = config.services.iter().flat_map(|service| {
        let checks = service.other.get("checks").and_then(Value::as_array);
        checks.into_iter().flatten().enumerate().filter_map(|(index, check)| {
            let mut check: wire::Check = serde_json::from_value(check.clone()).ok()?;
            let port = *check.port.get_or_insert(service.internal_port);
            let name = format!("servicecheck-{index:02}-{}-{port}", check.kind);
            Some(Named { name, check })
        })
    });
    own.chain(services).collect()
}

/// What one run of a check found.
struct Found {
    status: &'static str,
    output: String,
}

impl Found {
    fn critical(output: String) -> Self {
        Self { status: CRITICAL, output }
    }
}

impl Backend {
    /// Runs a started machine's checks until something else happens to it.
    pub(super) fn run_checks(self: &Arc<Self>, id: &str, epoch: u64) {
        let checks = {
            let world = self.lock();
            let started = world.machines.get(id).filter(|it| it.state == State::Started);
            started.and_then(|it| it.current()).map(|it| of(&it.config)).unwrap_or_default()
        };
        if checks.is_empty() {
            return;
        }
        let (backend, id) = (Arc::clone(self), id.to_owned());
        self.background(async move {
            tokio::time::sleep(backend.config.timings.first_check).await;
            if backend.config.no_run {
                for it in &checks {
                    let output = "not run: the driver starts nothing".to_owned();
                    backend.record(&id, epoch, &it.name, Found { status: PASSING, output });
                }
                return;
            }
            join_all(checks.iter().map(|it| backend.repeat(&id, epoch, it))).await;
        });
    }

    async fn repeat(&self, id: &str, epoch: u64, named: &Named) {
        let interval = named.check.interval.map_or(INTERVAL, |it| it.0).max(INTERVAL_MIN);
        let grace = named.check.grace_period.map_or(Duration::ZERO, |it| it.0);
        let timeout = named.check.timeout.map_or(TIMEOUT, |it| it.0);
        let started = self.clock.monotonic();
        while self.epoch(id) == Some(epoch) {
            let found = match tokio::time::timeout(timeout, self.run_check(id, &named.check)).await
            {
                Ok(found) => found,
                Err(_) => Found::critical(format!("timed out after {timeout:?}")),
            };
            let in_grace = self.clock.monotonic().saturating_sub(started) < grace;
            if in_grace && found.status != PASSING {
                tokio::time::sleep(interval.min(GRACE_INTERVAL_MAX)).await;
                continue;
            }
            self.record(id, epoch, &named.name, found);
            tokio::time::sleep(interval).await;
        }
    }

    /// Results are not state: they are neither written to disk nor do they move the machine in lists.
    fn record(&self, id: &str, epoch: u64, name: &str, found: Found) {
        let now = self.now();
        let mut world = self.lock();
        let Some(machine) = world.machines.get_mut(id).filter(|it| it.epoch == epoch) else {
            return;
        };
        let status = wire::CheckStatus {
            name: name.to_owned(),
            status: found.status.to_owned(),
            output: found.output,
            updated_at: now.to_string(),
        };
        match machine.checks.iter_mut().find(|it| it.name == name) {
            Some(known) => *known = status,
            None => machine.checks.push(status),
        }
        let key = Key::Machine(machine.app.clone(), id.to_owned());
        self.faults.remember(&world, [&key], self.clock.monotonic());
    }

    async fn run_check(&self, id: &str, check: &wire::Check) -> Found {
        let port = check.port.unwrap_or(0);
        let stream = match self.driver.dial(id, port).await {
            Ok(stream) => stream,
            Err(error) => return Found::critical(retry::chain(&error)),
        };
        if check.kind == "http" {
            return get(stream, check).await;
        }
        Found { status: PASSING, output: "Success".to_owned() }
    }
}

async fn get(stream: Box<dyn crate::local::driver::Stream>, check: &wire::Check) -> Found {
    let request = match request(check) {
        Ok(request) => request,
        Err(error) => return Found::critical(error.to_string()),
    };
    let connected =
        hyper::client::conn::http1::handshake::<_, Empty<bytes::Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = match connected {
        Ok(connected) => connected,
        Err(error) => return Found::critical(retry::chain(&error)),
    };
    tasks::detached(async move {
        // Its error is the request's too.
        let _told_by_request = connection.await;
    });
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return Found::critical(retry::chain(&error)),
    };
    let status = response.status();
    let body = match Limited::new(response.into_body(), OUTPUT_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(_) => "(too long or cut short)".to_owned(),
    };
    let verdict = match status.as_u16() {
        200..300 => PASSING,
        429 => "warning",
        _ => "critical",
    };
    Found { status: verdict, output: format!("HTTP {status}: {body}") }
}

fn request(check: &wire::Check) -> Result<Request<Empty<bytes::Bytes>>, http::Error> {
    let mut request = Request::builder()
        .method(check.method.as_deref().filter(|it| !it.is_empty()).unwrap_or("GET"))
        .uri(check.path.as_deref().filter(|it| !it.is_empty()).unwrap_or("/"))
        .header(HOST, format!("localhost:{}", check.port.unwrap_or(0)))
        .header("user-agent", "Consul Health Check");
    let headers = check.other.get("headers").and_then(Value::as_array);
    for header in headers.into_iter().flatten() {
        let name = header.get("name").and_then(Value::as_str).unwrap_or_default();
        let values = header.get("values").and_then(Value::as_array);
        for value in values.into_iter().flatten().filter_map(Value::as_str) {
            request = request.header(name, value);
        }
    }
    request.body(Empty::new())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a check says of a program that answers with this text, and what the program was sent.
    async fn check(answer: &'static str) -> (&'static str, String, String) {
        let (near, mut far) = tokio::io::duplex(4096);
        let served = async move {
            let mut asked = vec![0; 4096];
            let length = far.read(&mut asked).await.unwrap();
            asked.truncate(length);
            far.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap()
        };
        let headers = serde_json::json!([{"name": "x-why", "values": ["a", "b"]}]);
        let check = wire::Check {
            kind: "http".to_owned(),
            path: Some("/healthz".to_owned()),
            port: Some(80),
            other: [("headers".to_owned(), headers)].into_iter().collect(),
            ..wire::Check::default()
        };
        let (found, asked) = tokio::join!(get(Box::new(near), &check), served);
        (found.status, found.output, asked)
    }

    #[tokio::test]
    async fn an_http_check_passes_on_a_good_answer_and_tells_its_body() {
        let (status, output, asked) =
            check("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready").await;
        assert_eq!((status, output.as_str()), ("passing", "HTTP 200 OK: ready"));
        assert!(asked.starts_with("GET /healthz HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("x-why: a\r\nx-why: b\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn an_http_check_warns_on_429_and_is_critical_on_anything_else() {
        let status = async |answer| check(answer).await.0;
        let empty = "HTTP/1.1 429 Slow\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(status(empty).await, "warning");
        assert_eq!(status("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n").await, "critical");
        assert_eq!(status("not http at all").await, "critical");
    }
}
