//! `hangar logs`: hangar's own log lines. It must never reach into a machine; that is another log.

use serde_json::Value;

use crate::{
    cli::{
        Exit,
        connection::Connection,
        printer::{Printer, one_line},
        table::plain,
        targets,
    },
    client::Error,
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
            Err(error @ Error::Stream { .. }) if args.follow => {
                printer.flush()?;
                return Err(error.into());
            }
            Err(error) => return Err(error.into()),
        }
        if args.follow {
            printer.flush()?;
        }
    }
}

/// `TIME LEVEL OBJECT message key=value …`; fields may stand at the top or under `fields`.
fn readable(line: &Value) -> String {
    let mut time = String::new();
    let mut level = String::new();
    let mut object = String::new();
    let mut message = String::new();
    let mut rest = Vec::new();
    let nested = line.get("fields").and_then(Value::as_object);
    let span = line.get("span").and_then(Value::as_object);
    let top = line.as_object().into_iter().flatten();
    for (key, value) in top.chain(span.into_iter().flatten()).chain(nested.into_iter().flatten()) {
        match key.as_str() {
            "timestamp" => time = plain(value),
            "level" => level = plain(value),
            "object" => object = plain(value),
            "message" => message = plain(value),
            "fields" | "span" | "spans" | "target" | "name" => {}
            _ => rest.push(format!("{key}={}", plain(value))),
        }
    }
    let words = [time, format!("{level:5}"), object, message].into_iter().chain(rest);
    one_line(&words.filter(|it| !it.trim().is_empty()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_reads_from_time_to_message() {
        let flat = json!({"timestamp": "T", "level": "INFO", "object": "env/a", "message": "created", "ms": 3});
        assert_eq!(readable(&flat), "T INFO  env/a created ms=3");
        let nested = json!({
            "timestamp": "T", "level": "WARN", "target": "x", "fields": {"message": "no\nroom", "region": "ams"},
            "span": {"object": "env/a", "name": "pass"}, "spans": [],
        });
        assert_eq!(readable(&nested), "T WARN  env/a no room region=ams");
    }
}
