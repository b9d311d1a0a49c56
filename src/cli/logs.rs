//! `hangar logs`: hangar's own log lines. It must never reach into a machine; that is another log.

use serde_json::Value;

use crate::{
    cli::{
        Exit,
        connection::Connection,
        printer::{Printer, one_line},
        targets,
    },
    telemetry::Line,
};

/// Which lines.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those about one object: env/alice
    #[arg(value_name = "KIND/NAME")]
    object: Option<String>,
    /// Go on showing those to come
    #[arg(short, long)]
    follow: bool,
    /// Whole lines, as JSON
    #[arg(long)]
    json: bool,
    /// Only the last N lines there are
    #[arg(long, value_name = "N")]
    tail: Option<usize>,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    let namespace = connection.namespace();
    let object = args.object.as_deref().map(|word| targets::one(word, &namespace)).transpose()?;
    let mut lines = client.logs(object.as_ref(), args.tail, args.follow).await?;
    loop {
        match lines.next().await {
            Ok(Some(line)) if args.json => printer.line(&line)?,
            Ok(Some(line)) => printer.line(readable(&line))?,
            Ok(None) => return Ok(Exit::Success),
            Err(error) => return Err(error.into()),
        }
        if args.follow {
            printer.flush()?;
        }
    }
}

/// A line for people; one of a newer server, which may not fit our type, as it is.
fn readable(line: &Value) -> String {
    match serde_json::from_value::<Line>(line.clone()) {
        Ok(line) => one_line(&line.to_string()),
        Err(_) => line.to_string(),
    }
}
