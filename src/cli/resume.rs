//! `hangar resume`: a person says that what is held back may go on. It must never lift a hold that it does not name.

use crate::{
    api::{hold::Hold, kind::Kind, meta::Resource as _},
    cli::{Exit, connection::Connection, failure::Failure, printer::Printer, targets::label},
    client::Query,
};

/// Which holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these, by name as `hangar get holds` shows them
    #[arg(value_name = "HOLD")]
    names: Vec<String>,
    /// Say what would be lifted and lift nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    let mut holds = client.list::<Hold>(Kind::Hold, None, &Query::default()).await?.items;
    let there = |name: &String| holds.iter().any(|it| it.metadata.name == **name);
    if let Some(name) = args.names.iter().find(|name| !there(name)) {
        let message = format!("there is no hold {name}");
        return Err(Failure::hinted(message, "hangar get holds shows those there are").into());
    }
    if !args.names.is_empty() {
        holds.retain(|it| args.names.contains(&it.metadata.name));
    }
    if holds.is_empty() {
        printer.note("nothing is held back");
    }
    for hold in holds {
        let object = hold.object_ref();
        client.delete(&object, args.dry_run).await?;
        let done = if args.dry_run { "would be lifted" } else { "lifted" };
        let since = hold.metadata.creation_timestamp.unwrap_or_default();
        let (what, message) = (hold.spec.what.sentence(), &hold.spec.message);
        printer
            .line(format_args!("{} {done}: {what}. Since {since}: {message}", label(&object)))?;
    }
    Ok(Exit::Success)
}
