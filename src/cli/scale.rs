//! `hangar scale`: how many bays a pool keeps. It must never change anything else of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::{kind::Kind, pool::WarmPool},
    cli::{
        Exit,
        connection::Connection,
        failure::Failure,
        printer::Printer,
        targets::{self, label},
    },
};

/// What to scale, and to what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND NAME… or KIND/NAME…; pools are what can be scaled
    #[arg(required = true, value_name = "OBJECT")]
    words: Vec<String>,
    /// How many bays are kept: a number, or one for each region (ams=3,fra=1)
    #[arg(long, value_name = "COUNT", value_parser = replicas)]
    replicas: Value,
    /// Check, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// `3`, or `ams=3,fra=1`.
fn replicas(text: &str) -> Result<Value, String> {
    if let Ok(count) = text.parse::<u32>() {
        return Ok(json!(count));
    }
    let mut counts = BTreeMap::new();
    for part in text.split(',') {
        let pair = part.split_once('=').and_then(|(region, it)| Some((region, it.parse().ok()?)));
        let Some((region, count)) = pair else {
            return Err(format!("`{part}` is neither a number nor REGION=NUMBER"));
        };
        let _again: Option<u32> = counts.insert(region, count);
    }
    Ok(json!(counts))
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    let objects = targets::parse_named(&args.words, &connection.namespace())?;
    if let Some(other) = objects.iter().find(|it| it.kind != Kind::WarmPool) {
        let message = format!("{} cannot be scaled", label(other));
        return Err(
            Failure::usage(message, "pools can: hangar scale pool/NAME --replicas 3").into()
        );
    }
    for object in objects {
        let pool: WarmPool = client.get(&object).await?;
        // A patch merges maps, so that regions that are not named go by name.
        let mut replicas = args.replicas.clone();
        if let (Some(new), Ok(Value::Object(old))) =
            (replicas.as_object_mut(), serde_json::to_value(&pool.spec.replicas))
        {
            old.into_iter().for_each(|(region, _)| {
                new.entry(region).or_insert(Value::Null);
            });
        }
        let patch = json!({"spec": {"replicas": replicas}});
        let scaled = client.merge_patch::<WarmPool>(&object, &patch, args.dry_run).await?;
        scaled.warnings.iter().for_each(|it| printer.note(it));
        let done = if args.dry_run { "scaled (dry run)" } else { "scaled" };
        printer.line(format_args!("{} {done}", label(&object)))?;
    }
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_one_for_each_region_is_read() {
        assert_eq!(replicas("3"), Ok(json!(3)));
        assert_eq!(replicas("ams=3,fra=0"), Ok(json!({"ams": 3, "fra": 0})));
        for wrong in ["", "-1", "ams", "ams=x", "ams=1,", "ams=1 fra=2"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
    }
}
