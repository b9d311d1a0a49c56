//! Prints every change of every environment, for ever: `cargo run --example environments_watch`. It shows how to go on after
//! a watch has ended. It must never change anything.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, time::Duration};

use hangar::{
    api::{environment::Environment, kind::Kind},
    client::{Client, DEFAULT_SERVER, Error, Query, WatchEvent, Watched as _},
};

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = env::var("HANGAR_SERVER").unwrap_or_else(|_| DEFAULT_SERVER.to_owned());
    let authority = env::var("HANGAR_CA").ok().map(std::fs::read_to_string).transpose()?;
    let client = Client::trusting(&server, env::var("HANGAR_TOKEN").ok(), authority.as_deref())?;
    // From where to go on; nothing means from the beginning.
    let mut after = None;
    loop {
        match follow(&client, &mut after).await {
            // Servers end watches after some minutes.
            Ok(()) => {}
            Err(error) if error.is_expired() => after = None,
            Err(error) => println!("{error}; trying again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints changes until the watch ends.
async fn follow(client: &Client, after: &mut Option<String>) -> Result<(), Error> {
    let query = Query::default();
    let mut changes =
        client.watch::<Environment>(Kind::Environment, None, &query, after.as_deref()).await?;
    while let Some(change) = changes.next().await? {
        let (word, environment) = match change {
            WatchEvent::Added(it) => ("is there", it),
            WatchEvent::Modified(it) => ("changed", it),
            WatchEvent::Deleted(it) => ("is gone", it),
            WatchEvent::Bookmark(revision) => {
                *after = Some(revision);
                continue;
            }
        };
        *after = environment.revision().map(str::to_owned);
        println!("{} {word}: {:?}", environment.metadata.name, environment.status.phase);
    }
    Ok(())
}
