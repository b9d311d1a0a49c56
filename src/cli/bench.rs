//! `hangar bench`: a load test of hangar itself, in a place of its own, against the stand-in for Fly. It must never touch another
//! server, nor measure anything but through the API and the router.

mod beside;
mod book;
mod cost;
mod ground;
mod load;
mod probe;
mod report;
mod seen;

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::{kind::Kind, meta::ObjectRef, pool::WarmPool},
    cli::{
        Exit,
        bench::{
            cost::{Meter, Yardsticks},
            ground::{DOMAIN, Ground},
            load::Load,
            report::{Fill, Report},
        },
        printer::Printer,
    },
    local::timed::Durations,
};

/// Where all of it is.
const NAMESPACE: &str = "default";
/// The template's name and the pool's.
const NAME: &str = "bench";
/// As many bays as a pool may have, and as are made at a time.
const POOL_MAX: u32 = 1_000;
const IN_FLIGHT: u32 = 50;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// How long a pool may take to be full beyond what the limits ask.
const FILL_PATIENCE: Duration = Duration::from_mins(10);
const LOOK: Duration = Duration::from_millis(20);

/// What to try.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Create environments of a template with a warm pool, and measure how long each waits until it is served
    Claims(Claims),
}

/// A load of claims.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Claims {
    /// How many environments are made; 0 only fills the pool
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100_000))]
    count: u32,
    /// How many are made in a second, whether or not earlier ones are served
    #[arg(long, default_value_t = 45.0, value_name = "PER-SECOND", value_parser = rate)]
    rate: f64,
    /// Make all of them at the same moment
    #[arg(long, conflicts_with = "rate")]
    at_once: bool,
    /// How many bays wait in the pool [default: as many as environments are made, at most 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(POOL_MAX)))]
    pool: Option<u32>,
    /// How long the stand-in for Fly takes to start a machine and to run a command in it
    #[arg(long, value_enum, default_value = "modelled")]
    fly: FlyModel,
    /// What machines are: nothing, or processes that run the sample application
    #[arg(long, value_enum, default_value = "no-run")]
    driver: DriverKind,
    /// Fill the pool at Fly's rate limits too. Otherwise they are kept from the first claim on
    #[arg(long)]
    fill_at_limits: bool,
    /// Claim bays into which nothing is written: the environments add nothing to their template, so that no call to Fly is on the way
    #[arg(long)]
    plain: bool,
    /// Change the template when the claims begin, and end when the pool has followed, whatever is left of the count
    #[arg(long)]
    roll: bool,
    /// How many other environments, of a template without a pool, there are before the claims begin; what it costs to keep all of them
    /// is counted afterwards
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(..=100_000))]
    beside: u32,
    /// Where everything is kept; a directory that is not there yet [default: a temporary one that is removed]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON document instead of a table
    #[arg(long, short, value_enum, value_name = "FORMAT")]
    output: Option<Output>,
}

/// How long the stand-in takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum FlyModel {
    /// As long as Fly's documentation says
    Modelled,
    /// No time: what is left is hangar's own share
    Instant,
}

/// What machines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum DriverKind {
    /// They are only pretended
    NoRun,
    /// Processes on this computer
    Process,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Json,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_invalid| "not a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("must be above 0".to_owned()) }
}

impl Claims {
    fn pool(&self) -> u32 {
        self.pool.unwrap_or_else(|| self.count.min(POOL_MAX))
    }

    fn durations(&self) -> Durations {
        match self.fly {
            FlyModel::Modelled => Durations::as_on_fly(),
            FlyModel::Instant => Durations::INSTANT,
        }
    }
}

pub(super) async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let What::Claims(claims) = &args.what;
    let report = Box::pin(ground::on(claims, async |ground| {
        Box::pin(course(claims, ground, printer)).await
    }))
    .await?;
    if claims.output == Some(Output::Json) {
        printer.line(serde_json::to_string_pretty(&report)?)?;
    } else {
        report.lines().into_iter().try_for_each(|line| printer.line(line))?;
    }
    Ok(if report.is_right() { Exit::Success } else { Exit::Failed })
}

/// A full pool, and then the claims.
async fn course(claims: &Claims, ground: &Ground, printer: &mut Printer) -> anyhow::Result<Report> {
    let alone = Yardsticks::alone(ground).await?;
    if claims.beside > 0 {
        let making = beside::make(claims.beside, ground, printer);
        let took = ground.controlled(false, Box::pin(making)).await?;
        printer.note(format_args!("{} environments are ready after {took:.0?}", claims.beside));
    }
    declare(claims, ground).await?;
    let at_limits = claims.fill_at_limits;
    ground.timed.set(if at_limits { claims.durations() } else { Durations::INSTANT });
    let filling = fill(claims, ground, printer);
    let fill = ground.controlled(at_limits, filling).await?;
    ground.timed.set(claims.durations());
    let before = Meter::read(&ground.core);
    let load = async {
        ground.synced().await;
        let meter = Meter::read(&ground.core);
        let load = Load::new(claims, ground).await?;
        let loaded = load.run(printer).await?;
        let quiet = match claims.beside {
            0 => None,
            _ => Some(beside::quiet(ground, printer).await),
        };
        Ok((loaded, meter, quiet))
    };
    let (loaded, meter, quiet) = ground.controlled(true, Box::pin(load)).await?;
    let limited = fill.rate_limited + Meter::read(&ground.core).since(&before).rate_limited;
    Ok(Report::new(claims, (alone, fill), loaded, (meter, limited)).beside(quiet))
}

/// A template of this name: the sample application with a volume, and more.
fn template(name: &str, regions: &[&str], more: &Value) -> Value {
    let mut template = json!({
        "metadata": {"name": name},
        "spec": {
            "machine": {"image": "hangar.dev/sample-app:1"},
            "volume": {"mountPath": "/data", "size": "1Gi"},
            "services": [{"name": "web", "internalPort": 8080}],
            "regions": regions,
            "readiness": {"http": {"path": "/healthz", "port": 8080}},
        },
    });
    json_patch::merge(&mut template["spec"], more);
    template
}

/// A template that takes what an environment adds into a running machine, where anything is added, and its pool.
async fn declare(claims: &Claims, ground: &Ground) -> anyhow::Result<()> {
    let file = (!claims.plain).then(|| json!({"file": "/data/hangar/env.json"}));
    let template = template(NAME, &["ams"], &json!({"personalize": file}));
    let pool = json!({
        "metadata": {"name": NAME},
        "spec": {
            "templateRef": {"name": NAME}, "replicas": claims.pool(), "maxInFlight": IN_FLIGHT,
        },
    });
    for (kind, object) in [(Kind::Template, template), (Kind::WarmPool, pool)] {
        ground.client.create(kind, NAMESPACE, &object, false).await?;
    }
    Ok(())
}

/// What the pool says of itself.
async fn pool(ground: &Ground) -> anyhow::Result<WarmPool> {
    let of = ObjectRef::new(Kind::WarmPool, NAMESPACE, NAME);
    Ok(ground.client.get(&of).await?)
}

/// Waits until the pool is full.
async fn fill(claims: &Claims, ground: &Ground, printer: &mut Printer) -> anyhow::Result<Fill> {
    let clock = &*ground.core.clock;
    ground.synced().await;
    let meter = Meter::read(&ground.core);
    let began = clock.monotonic();
    let floor = report::floor(claims);
    let mut tell_at = began + TELL_EVERY;
    loop {
        let status = pool(ground).await?.status;
        let took = clock.monotonic().saturating_sub(began);
        if status.ready == claims.pool() && status.provisioning == 0 {
            let rate_limited = Meter::read(&ground.core).since(&meter).rate_limited;
            return Ok(Fill { took, floor, rate_limited });
        }
        anyhow::ensure!(
            took < floor + FILL_PATIENCE,
            "the pool is not full after {took:.0?}: {} of {} are ready",
            status.ready,
            claims.pool()
        );
        if clock.monotonic() >= tell_at {
            tell_at += TELL_EVERY;
            printer.note(format_args!("filling the pool: {} of {}", status.ready, claims.pool()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Makes the template another one, so that the pool's bays are outdated.
async fn change_template(ground: &Ground) -> anyhow::Result<()> {
    let of = ObjectRef::new(Kind::Template, NAMESPACE, NAME);
    let patch = json!({"spec": {"machine": {"env": {"ROLLED": "1"}}}});
    let changed = ground.client.merge_patch::<Value>(&of, &patch, false).await;
    changed.map(|_| ()).context("the template could not be changed")
}

/// Where an environment answers.
fn host(environment: &str) -> String {
    format!("{environment}.{DOMAIN}")
}
