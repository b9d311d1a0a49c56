//! `hangar logs`: hangar's own log lines. It must never reach into a machine; that is another log.

use serde_json::Value;

use crate::{
    api::meta::ObjectRef,
    cli::{
        Exit,
        connection::Connection,
        printer::{Printer, one_line},
        targets,
    },
    client::{Client, Error},
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
    let absent = match &object {
        Some(object) => absence(&client, object).await?,
        None => None,
    };
    if let Some(error) = absent.as_ref().filter(|_| args.follow) {
        printer.note(format_args!("{error}; waiting for lines about it"));
    }
    let mut lines = client.logs(object.as_ref(), args.tail, args.follow).await?;
    let mut is_empty = true;
    loop {
        match lines.next().await {
            Ok(Some(line)) if args.json => printer.line(&line)?,
            Ok(Some(line)) => printer.line(readable(&line))?,
            // A deleted object's lines are worth showing; without any, it was most likely mistyped.
            Ok(None) => {
                return absent.filter(|_| is_empty).map_or(Ok(Exit::Success), |it| Err(it.into()));
            }
            Err(error) => return Err(error.into()),
        }
        is_empty = false;
        if args.follow {
            printer.flush()?;
        }
    }
}

/// What the server says of an object that is not there.
async fn absence(client: &Client, object: &ObjectRef) -> Result<Option<Error>, Error> {
    match client.get::<Value>(object).await {
        Ok(_) => Ok(None),
        Err(error) if error.is_not_found() => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

/// A line for people; one of a newer server, which may not fit our type, as it is.
fn readable(line: &Value) -> String {
    match serde_json::from_value::<Line>(line.clone()) {
        Ok(line) => one_line(&line.to_string()),
        Err(_) => line.to_string(),
    }
}
