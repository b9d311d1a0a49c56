//! `hangar scale`: how many bays a pool keeps, by its scale, or region by region. It must never change anything else of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::{
        kind::Kind,
        meta::ObjectRef,
        pool::{Replicas, WarmPool},
    },
    cli::{
        Exit,
        connection::Connection,
        dry_run::{DryRun, Who},
        failure::Failure,
        printer::Printer,
        targets::{self, label},
    },
    client::{Client, Error, Written},
};

/// What to scale, and to what.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND NAME… or KIND/NAME…; pools are what can be scaled
    #[arg(required = true, value_name = "OBJECT")]
    words: Vec<String>,
    /// How many bays are kept: a number, or one for each region (ams=3,fra=1)
    #[arg(long, value_name = "COUNT", value_parser = replicas)]
    replicas: Replicas,
    #[command(flatten)]
    dry_run: DryRun,
}

/// `3`, or `ams=3,fra=1`.
fn replicas(text: &str) -> Result<Replicas, String> {
    if let Ok(count) = text.parse() {
        return Ok(Replicas::Anywhere(count));
    }
    let mut counts = BTreeMap::new();
    for part in text.split(',') {
        let pair = part.split_once('=').and_then(|(region, it)| Some((region, it.parse().ok()?)));
        let Some((region, count)) = pair else {
            return Err(format!("`{part}` is neither a number nor REGION=NUMBER"));
        };
        let _again: Option<u32> = counts.insert(region.to_owned(), count);
    }
    Ok(Replicas::PerRegion(counts))
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
            Failure::hinted(message, "pools can: hangar scale pool/NAME --replicas 3").into()
        );
    }
    for object in objects {
        let dry = args.dry_run.by == Who::Server;
        let scaled = match &args.replicas {
            _ if args.dry_run.by == Who::Client => {
                Written { object: client.get(&object).await?, warnings: Vec::new() }
            }
            Replicas::Anywhere(count) => client.scale(&object, *count, dry).await?,
            Replicas::PerRegion(counts) => by_region(&client, &object, counts, dry).await?,
        };
        scaled.warnings.iter().for_each(|it| printer.note(it));
        printer.line(format_args!("{} scaled{}", label(&object), args.dry_run.by.suffix()))?;
    }
    Ok(Exit::Success)
}

/// A patch merges maps, so that regions that are not named go by name.
async fn by_region(
    client: &Client,
    object: &ObjectRef,
    counts: &BTreeMap<String, u32>,
    dry_run: bool,
) -> Result<Written<Value>, Error> {
    let pool: WarmPool = client.get(object).await?;
    let mut replicas: BTreeMap<_, _> =
        counts.iter().map(|(region, count)| (region.clone(), json!(count))).collect();
    if let Replicas::PerRegion(old) = pool.spec.replicas {
        for region in old.into_keys() {
            replicas.entry(region).or_insert(Value::Null);
        }
    }
    client.merge_patch(object, &json!({"spec": {"replicas": replicas}}), dry_run).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_one_for_each_region_is_read() {
        assert_eq!(replicas("3"), Ok(Replicas::Anywhere(3)));
        let counts = [("ams".to_owned(), 3), ("fra".to_owned(), 0)];
        assert_eq!(replicas("ams=3,fra=0"), Ok(Replicas::PerRegion(counts.into())));
        for wrong in ["", "-1", "ams", "ams=x", "ams=1,", "ams=1 fra=2"] {
            assert!(replicas(wrong).is_err(), "{wrong}");
        }
    }
}
