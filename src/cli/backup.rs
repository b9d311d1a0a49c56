//! `hangar backup`: an export of the store now, by the server or from the data directory of a stopped one. It must never
//! make a store.

use std::{path::PathBuf, sync::Arc};

use crate::{
    cli::{
        Exit, assembly, connection::Connection, data_dir, exports, failure::Failure,
        printer::Printer,
    },
    clock::{Clock as _, System},
    store::{crypt::Cipher, handle::Store, sled::Sled, whole},
};

/// Of which store.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data directory of a server that does not run; without it a running one is asked
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let Some(data_dir) = &args.data_dir else {
        let made = connection.client()?.backup().await?;
        say(printer, &made.file, made.entries, made.revision)?;
        return Ok(Exit::Success);
    };
    let dir = data_dir.join(data_dir::STORE);
    if whole::is_free(&dir)? {
        return Err(Failure::new(format!("there is no store in {}", data_dir.display())).into());
    }
    let sled = Sled::open(&dir).await;
    let sled = sled.map_err(|error| data_dir::cannot_open(error, data_dir))?;
    // Sealed values stay sealed, so any key will do.
    let store = Store::new(Arc::new(sled), Cipher::ephemeral()?, assembly::SEALED);
    let made = exports::of(data_dir).write(&store, System::new().now()).await?;
    let entries = u64::try_from(made.entries).unwrap_or(u64::MAX);
    say(printer, &made.file.display().to_string(), entries, made.revision)?;
    Ok(Exit::Success)
}

fn say(printer: &mut Printer, file: &str, entries: u64, revision: u64) -> anyhow::Result<()> {
    printer.note(format_args!("{entries} entries at revision {revision} exported"));
    Ok(printer.line(file)?)
}
