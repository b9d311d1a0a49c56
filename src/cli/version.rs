//! `hangar version`: ours, and the server's where there is one. It must never fail because there is none.

use crate::{
    cli::{Exit, connection::Connection, printer::Printer},
    retry,
};

pub(super) async fn run(connection: &Connection, printer: &mut Printer) -> anyhow::Result<Exit> {
    printer.line(concat!("hangar ", env!("CARGO_PKG_VERSION")))?;
    match connection.client()?.version().await {
        Ok(version) => printer.line(format_args!("server {}", version.git_version))?,
        Err(error) => printer.note(format_args!("no server: {}", retry::chain(&error))),
    }
    Ok(Exit::Success)
}
