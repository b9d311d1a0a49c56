//! Environments that are there before the claims and have nothing to do with them, and what it costs to keep them. It must never make
//! anything that a claim could get.

use std::{fs, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    api::{
        environment::{Environment, Phase},
        kind::Kind,
    },
    cli::{
        bench::{NAMESPACE, TELL_EVERY, cost, ground::Ground, template},
        printer::Printer,
    },
    client::Query,
};

/// The template's name, and what theirs begin with.
const NAME: &str = "beside";
/// So many are declared at the same time.
const AT_ONCE: usize = 32;
const LOOK: Duration = Duration::from_secs(2);
/// All of them are served within so long, or none ever will be.
const PATIENCE: Duration = Duration::from_mins(20);
/// How long it is counted what they cost while nothing happens, and how long nothing happens before that.
const QUIET: Duration = Duration::from_secs(60);
const SETTLES: Duration = Duration::from_secs(15);

/// What they cost while nothing happens, with all else that is in the process: the stand-in for Fly, the API, the router.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quiet {
    /// Of one core, in per cent.
    pub(super) cpu_percent: f64,
    /// Memory that is really there.
    pub(super) resident_mib: u64,
}

/// Makes them, without Fly's limits, and waits until all are served.
pub(super) async fn make(
    count: u32,
    ground: &Ground,
    printer: &mut Printer,
) -> anyhow::Result<Duration> {
    let clock = &*ground.core.clock;
    let began = clock.monotonic();
    let template = template(NAME, &["ams", "fra"], &json!({}));
    ground.client.create(Kind::Template, NAMESPACE, &template, false).await?;
    let declare = async |number: u32| {
        let spec = json!({"templateRef": {"name": NAME}});
        let environment = json!({"metadata": {"name": format!("{NAME}-{number}")}, "spec": spec});
        let made =
            ground.client.create::<Value>(Kind::Environment, NAMESPACE, &environment, false).await;
        made.map(|_| ()).with_context(|| format!("environment {number} could not be made"))
    };
    stream::iter(0..count).map(declare).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let wanted = usize::try_from(count)?;
    let mut tell_at = clock.monotonic() + TELL_EVERY;
    loop {
        let found = ground
            .client
            .list::<Environment>(Kind::Environment, Some(NAMESPACE), &Query::default())
            .await?;
        let ready = found.items.iter().filter(|it| it.status.phase == Phase::Ready).count();
        let took = clock.monotonic().saturating_sub(began);
        if ready == wanted {
            return Ok(took);
        }
        anyhow::ensure!(
            took < PATIENCE,
            "of {count} environments {ready} are ready after {took:.0?}"
        );
        if clock.monotonic() >= tell_at {
            tell_at += TELL_EVERY;
            printer.note(format_args!("environments beside the claims: {ready} of {count}"));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Counts what all of it costs while nothing happens.
pub(super) async fn quiet(ground: &Ground, printer: &mut Printer) -> Quiet {
    printer.note(format_args!("counting for {} s what it costs to keep them", QUIET.as_secs()));
    tokio::time::sleep(SETTLES).await;
    let clock = &*ground.core.clock;
    let (began, before) = (clock.monotonic(), cost::cpu());
    tokio::time::sleep(QUIET).await;
    let used = cost::cpu().saturating_sub(before);
    let took = clock.monotonic().saturating_sub(began);
    let share = used.as_secs_f64() / took.as_secs_f64() * 100.0;
    Quiet { cpu_percent: (share * 100.0).round() / 100.0, resident_mib: resident_mib() }
}

/// As `/proc` has it.
fn resident_mib() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    pages * page / (1 << 20)
}
