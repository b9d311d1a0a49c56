//! `hangar restore-store`: a store from an export, in the data directory of a server that does not run. It must never touch a
//! store that is there, nor open a sealed value but to see that the secret key is the right one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    api::{
        hold::{Hold, HoldReason},
        kind::Kind,
        meta::Resource as _,
        restored::{self, Restored},
    },
    chance,
    cli::{Exit, assembly, data_dir, failure::Failure, printer::Printer, table},
    clock::{Clock as _, System, Timestamp},
    store::{Backend as _, Key, Revision, backup, export::Export, sled::Sled, whole},
};

/// From what, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The export
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Data directory, in which there must be no store; what else is in it stays
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Check everything, say what is in the export, and make nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let export = backup::read(&args.from)?;
    let now = restored::time(export.about.at, System::new().now());
    let dir = args.data_dir.join(data_dir::STORE);
    if !whole::is_free(&dir)? {
        return Err(Failure::hinted(
            format!("there is a store in {}", args.data_dir.display()),
            format!("end the server, and move {} away", dir.display()),
        )
        .into());
    }
    check_secrets(&args.data_dir, &export, printer)?;
    let about = &export.about;
    printer.note(format_args!("exported at {:.0}, revision {}", about.at, about.revision()));
    for line in table::lines(&["ENTRIES", "OF"], counts(&export)) {
        printer.line(line)?;
    }
    say_tokens(&export, printer);
    if args.dry_run {
        printer.note("nothing was made (dry run)");
        return Ok(Exit::Success);
    }
    let revision = restored::revision(about.revision().0, now);
    let entries = entries(&export, now)?;
    let count = entries.len();
    whole::make(&dir, entries, Revision(revision)).await?;
    let (found, found_at) = Sled::open(&dir).await?.list("").await?;
    if (found.len(), found_at.0) != (count, revision) {
        return Err(Failure::new("the new store does not hold what was written").into());
    }
    printer.note(format_args!(
        "restored into {}, which begins at revision {revision}; nothing is destroyed at Fly until `hangar resume`",
        dir.display()
    ));
    Ok(Exit::Success)
}

/// A token that was revoked since the export lets in again.
fn say_tokens(export: &Export, printer: &mut Printer) {
    let prefix = format!("{}/", Kind::AccessToken.info().plural);
    let names = export.entries.iter().filter_map(|it| it.key.as_str().strip_prefix(&prefix));
    let names: Vec<_> = names.collect();
    if !names.is_empty() {
        printer.note(format_args!(
            "warning: these tokens let in as they did then, also if they were revoked since: {}",
            names.join(", ")
        ));
    }
}

/// Whether the secret key that the server will use opens what is sealed.
fn check_secrets(data_dir: &Path, export: &Export, printer: &mut Printer) -> anyhow::Result<()> {
    let sealed = |key: &Key| assembly::SEALED.iter().any(|it| key.as_str().starts_with(it));
    let mut sealed = export.entries.iter().filter(|it| sealed(&it.key)).peekable();
    if sealed.peek().is_none() {
        return Ok(());
    }
    let Some(cipher) = assembly::known_cipher(data_dir)? else {
        printer.note(format_args!(
            "warning: the Secrets in it need the {} they were written with: put it into {} before the start",
            data_dir::SECRET_KEY,
            data_dir.display()
        ));
        return Ok(());
    };
    for entry in sealed {
        cipher.open(&entry.key, &entry.value).map_err(|error| {
            Failure::new(format!("{} cannot be read with this secret key: {error}", entry.key))
        })?;
    }
    Ok(())
}

/// How many entries there are of each sort.
fn counts(export: &Export) -> Vec<Vec<String>> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for entry in &export.entries {
        let (sort, _) = entry.key.as_str().split_once('/').unwrap_or((entry.key.as_str(), ""));
        *counts.entry(sort).or_default() += 1;
    }
    counts.into_iter().map(|(sort, count)| vec![count.to_string(), sort.to_owned()]).collect()
}

/// What the new store holds: the export, in which nothing goes backwards, and that nothing is destroyed for now.
fn entries(export: &Export, now: Timestamp) -> anyhow::Result<Vec<(Key, bytes::Bytes)>> {
    let mut all = BTreeMap::new();
    for entry in &export.entries {
        let mut value = entry.value.clone();
        // What is sealed is no JSON.
        if let Ok(mut object) = serde_json::from_slice(&value)
            && restored::advance(entry.key.as_str(), &mut object, now)
        {
            value = serde_json::to_vec(&object)?.into();
        }
        all.insert(entry.key.clone(), value);
    }
    let about = &export.about;
    let from = Restored { at: now, exported_at: about.at, revision: about.revision().0 };
    all.insert(Key::new(restored::KEY), serde_json::to_vec(&from)?.into());
    let message = format!("the store was made at {now:.0} from an export of {:.0}", about.at);
    let uid = chance::uuid(&chance::System).to_string();
    let hold = Hold::because(HoldReason::Restored, &message, uid, now);
    let key = Key::new(&hold.object_ref().store_key());
    all.insert(key, serde_json::to_vec(&hold)?.into());
    Ok(all.into_iter().collect())
}
