//! `hangar apply`: make objects be as manifests say, by client-side apply as kubectl does it. It must never send anything of
//! a file that has something wrong, nor a part of what the server would not take whole.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Map, Value};

use crate::{
    api::{admit, kind::Kind, meta::ObjectRef},
    cli::{
        Exit,
        connection::Connection,
        dry_run::{DryRun, Who},
        failure::Failure,
        files::{self, Bundle, FileArgs, Item, Purpose},
        merge,
        printer::Printer,
        targets::label,
        wait::{self, Goal},
    },
    client::{self, Client, Written},
};

/// What to apply.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["files"]))]
pub struct Args {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    dry_run: DryRun,
    /// Wait until the environments are served, asleep or stuck
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "5m", value_parser = wait::duration)]
    timeout: Duration,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let bundle = read(&args.files, connection, printer)?;
    let dry_run = args.dry_run.by;
    if dry_run == Who::Client {
        // No server is needed for it, so it is not known whether it would be created or configured.
        for item in &bundle.items {
            printer.line(format_args!("{} valid (client dry run)", label(&item.object)))?;
        }
        return Ok(if bundle.complaints.is_empty() { Exit::Success } else { Exit::Failed });
    }
    let client = connection.client()?;
    let (mut exit, applied) = send(&bundle, dry_run, &client, printer).await?;
    if args.wait && dry_run == Who::None {
        for object in applied.iter().filter(|it| it.kind == Kind::Environment) {
            printer.flush()?;
            let asked = (object, &Goal::Settled, args.timeout);
            let outcome = wait::until_telling(&client, asked, printer).await?;
            if !outcome.report(object, printer)? {
                exit = Exit::Failed;
            }
        }
    }
    Ok(exit)
}

/// Reads what is to be applied, and says what is wrong with it.
pub(super) fn read(
    files: &FileArgs,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Bundle> {
    let bundle = files.read(connection, Purpose::Declare)?;
    files::report(&bundle, printer);
    if bundle.items.is_empty() && bundle.complaints.is_empty() {
        return Err(Failure::new("no objects passed to apply").into());
    }
    Ok(bundle)
}

/// Applies what was read; which objects were applied.
pub(super) async fn declare(
    bundle: &Bundle,
    client: &Client,
    printer: &mut Printer,
) -> anyhow::Result<(Exit, Vec<ObjectRef>)> {
    send(bundle, Who::None, client, printer).await
}

async fn send(
    bundle: &Bundle,
    dry_run: Who,
    client: &Client,
    printer: &mut Printer,
) -> anyhow::Result<(Exit, Vec<ObjectRef>)> {
    let mut refusals = Refusals::default();
    if dry_run == Who::None && bundle.items.len() > 1 {
        rehearse(bundle, client, &mut refusals, printer).await?;
    }
    // Of files of which the server would refuse a part, nothing is sent.
    let items = if refusals.is_empty() { bundle.items.as_slice() } else { &[] };
    let mut applied = Vec::new();
    for item in items {
        match apply(client, item, dry_run == Who::Server).await {
            Ok((did, written)) => {
                remark(item, &written, printer);
                printer.line(format_args!("{} {did}{}", label(&item.object), dry_run.suffix()))?;
                applied.push(item.object.clone());
            }
            Err(error) => refusals.add(item, error, printer)?,
        }
    }
    let whole = bundle.complaints.is_empty() && refusals.is_empty();
    refusals.hint(printer);
    Ok((if whole { Exit::Success } else { Exit::Failed }, applied))
}

/// Asks the server about everything before anything is sent. What is in a namespace that comes with it cannot be asked about:
/// the server does not know that namespace yet.
async fn rehearse(
    bundle: &Bundle,
    client: &Client,
    refusals: &mut Refusals,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let mut new = BTreeSet::new();
    for item in &bundle.items {
        if new.contains(item.object.namespace.as_str()) {
            continue;
        }
        match apply(client, item, true).await {
            Ok(("created", _)) if item.object.kind == Kind::Namespace => {
                new.insert(item.object.name.as_str());
            }
            Ok(_) => {}
            Err(error) => refusals.add(item, error, printer)?,
        }
    }
    Ok(())
}

/// What the server refuses, as it is said.
#[derive(Debug, Default)]
struct Refusals {
    count: usize,
    hints: BTreeSet<String>,
}

impl Refusals {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Says a refusal; without a server there is no point in going on.
    fn add(
        &mut self,
        item: &Item,
        error: client::Error,
        printer: &mut Printer,
    ) -> Result<(), client::Error> {
        if !matches!(error, client::Error::Status(_)) {
            return Err(error);
        }
        self.count += 1;
        for complaint in item.refusal(&error) {
            printer.note(format_args!("error: {complaint}"));
        }
        self.hints.extend(error.hint());
        Ok(())
    }

    fn hint(self, printer: &mut Printer) {
        for hint in self.hints {
            printer.note(format_args!("hint: {hint}"));
        }
    }
}

/// The server's remarks, except those that were made here before.
fn remark(item: &Item, written: &Written<Value>, printer: &mut Printer) {
    for warning in written.warnings.iter().filter(|it| !item.warnings.contains(it)) {
        printer.note(format_args!("warning: {}", item.complaint("", warning)));
    }
}

/// Applies one object; what was done, and the object as it then is.
pub(super) async fn apply(
    client: &Client,
    item: &Item,
    dry_run: bool,
) -> Result<(&'static str, Written<Value>), client::Error> {
    let wanted = merge::prepared(item.object.kind, item.manifest());
    let current = match client.get::<Value>(&item.object).await {
        Ok(current) => current,
        Err(error) if error.is_not_found() => {
            let new = merge::without_nulls(&wanted);
            let (kind, namespace) = (item.object.kind, &item.object.namespace);
            match client.create(kind, namespace, &new, dry_run).await {
                // Somebody was faster: then it is a change.
                Err(error) if error.reason() == Some("AlreadyExists") => {
                    client.get::<Value>(&item.object).await?
                }
                created => return created.map(|it| ("created", it)),
            }
        }
        Err(error) => return Err(error),
    };
    let patch = merge::three_way(&merge::last_applied(&current), &wanted, &current);
    if patch.is_empty() {
        return Ok(("unchanged", Written { object: current, warnings: Vec::new() }));
    }
    let is_going = current.pointer("/metadata/deletionTimestamp").is_some();
    let mut written = change(client, item, patch, dry_run).await?;
    if same_declaration(&written.object, &current) {
        // A list without the defaults of its entries is sent whole, and comes out as it was.
        return Ok(("unchanged", written));
    }
    if is_going {
        written.warnings.push("it is being deleted, so the change will not last".to_owned());
    }
    Ok(("configured", written))
}

/// Whether two versions declare the same: what the server counts and what the controller writes is left out.
fn same_declaration(one: &Value, other: &Value) -> bool {
    let fields = ["labels", "annotations", "finalizers", "ownerReferences"];
    let same = |field: &&str| {
        let pointer = format!("/metadata/{field}");
        one.pointer(&pointer) == other.pointer(&pointer)
    };
    admit::same_spec(one, other) && fields.iter().all(same)
}

async fn change(
    client: &Client,
    item: &Item,
    patch: Map<String, Value>,
    dry_run: bool,
) -> Result<Written<Value>, client::Error> {
    client.merge_patch(&item.object, &Value::Object(patch), dry_run).await
}
