//! `hangar schema`: the JSON Schema of manifests, or their reference as Markdown. It must never ask a server.

use crate::{
    api::schema,
    cli::{Exit, printer::Printer, targets},
};

/// Which schema.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Kind; without it, any object that can be applied
    kind: Option<String>,
    /// The reference of all kinds as Markdown instead
    #[arg(long, conflicts_with = "kind")]
    docs: bool,
}

pub(super) fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    if args.docs {
        printer.text(&schema::reference())?;
        return Ok(Exit::Success);
    }
    let schema = match &args.kind {
        Some(word) => schema::of(targets::kind_of(word)?),
        None => schema::of_manifests(),
    };
    printer.line(serde_json::to_string_pretty(&schema)?)?;
    Ok(Exit::Success)
}
