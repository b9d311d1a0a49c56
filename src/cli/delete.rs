//! `hangar delete`: ask for deletion, and wait until it is done. It must never delete more than what was named.

use std::time::Duration;

use serde_json::Value;

use crate::{
    api::meta::ObjectRef,
    cli::{
        Exit,
        connection::Connection,
        dry_run::{DryRun, Who},
        failure::{self, Failure},
        files::{self, FileArgs, Purpose},
        printer::Printer,
        targets::{self, Target},
        wait::{self, Goal},
    },
    client::{Client, Deleted, Error, Query},
};

/// What to delete.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["files", "words"]))]
pub struct Args {
    /// KIND NAME…, KIND/NAME…, or KIND with -l or --all
    #[arg(value_name = "OBJECT", conflicts_with = "files")]
    words: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Those that a label selector selects
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with_all = ["all", "files"])]
    selector: Option<String>,
    /// All of a kind in the namespace
    #[arg(long, conflicts_with = "files")]
    all: bool,
    /// What is not there is as good as deleted
    #[arg(long)]
    ignore_not_found: bool,
    #[command(flatten)]
    dry_run: DryRun,
    /// Wait until the objects are gone
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "10m", value_parser = wait::duration)]
    timeout: Duration,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let (mut exit, dry_run) = (Exit::Success, args.dry_run.by);
    let client = connection.client()?;
    let objects = if args.files.is_empty() {
        named(args, connection, &client).await?
    } else {
        let bundle = args.files.read(connection, Purpose::Name)?;
        files::report(&bundle, printer);
        if !bundle.complaints.is_empty() {
            exit = Exit::Failed;
        }
        // What was made last goes first.
        bundle.items.into_iter().rev().map(|it| it.object).collect()
    };
    if objects.is_empty() && args.files.is_empty() {
        // On standard output, as kubectl's.
        printer.line(targets::nothing("resources", None))?;
    }
    let mut going = Vec::new();
    for object in objects {
        match delete(&client, &object, dry_run).await {
            Ok(deleted) => {
                let kind = object.kind.info().qualified_singular();
                let suffix = dry_run.suffix();
                printer.line(format_args!("{kind} \"{}\" deleted{suffix}", object.name))?;
                if let Deleted::Going(last) = deleted {
                    going.push((object, last));
                }
            }
            Err(error) if error.is_not_found() && args.ignore_not_found => {}
            Err(error @ Error::Status(_)) => {
                failure::report(&error.into(), printer);
                exit = Exit::Failed;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if args.wait && dry_run == Who::None {
        for (object, last) in going {
            if !is_gone(&client, &object, &last, args.timeout, printer).await? {
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

async fn delete(client: &Client, object: &ObjectRef, dry_run: Who) -> Result<Deleted, Error> {
    if dry_run == Who::Client {
        return client.get(object).await.map(Deleted::Going);
    }
    client.delete(object, dry_run == Who::Server).await
}

async fn named(
    args: &Args,
    connection: &Connection,
    client: &Client,
) -> anyhow::Result<Vec<ObjectRef>> {
    let namespace = connection.namespace();
    if !args.all && args.selector.is_none() {
        return Ok(targets::parse_named(&args.words, &namespace)?);
    }
    let mut objects = Vec::new();
    let query = Query { labels: args.selector.clone(), fields: None };
    for target in targets::parse(&args.words, &namespace)? {
        match target {
            Target::All(kind) => {
                objects.extend(targets::selected(client, kind, &namespace, &query).await?);
            }
            Target::One(_) => return Err(Failure::new(targets::NAME_AND_SELECTOR).into()),
        }
    }
    Ok(objects)
}

async fn is_gone(
    client: &Client,
    object: &ObjectRef,
    last: &Value,
    timeout: Duration,
    printer: &mut Printer,
) -> anyhow::Result<bool> {
    let uid = last.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    printer.note(format_args!("waiting until {} is gone", targets::label(object)));
    match wait::until(client, object, &Goal::Gone { uid }, timeout).await? {
        wait::Outcome::Met(_) | wait::Outcome::Needless => Ok(true),
        late => Ok(late.report(object, printer)?),
    }
}
