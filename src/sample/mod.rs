//! The sample app: what runs in an environment before anybody brought an image. It shows where it runs and counts its
//! visits on the volume. It must never need anything of hangar but environment variables, so that it runs the same on
//! Fly and on one's own computer.
//!
//! | path | answer |
//! |---|---|
//! | `/` | a page, or JSON with `Accept: application/json` or `?format=json`; counts a visit |
//! | `/healthz` | 200 when ready |
//! | `/env` | the environment as JSON, without what looks secret |
//! | `/ws` | a WebSocket that echoes |
//! | `POST /echo` | the request's body |
//! | `POST /upload` | how many bytes came, and their blake3 digest |
//! | `/slow?ms=200` | an answer that takes its time |
//!
//! **Fencing.** When `HANGAR_BAY_KEY` is set, a replayed request (one with `fly-replay-src`) must carry that key as its
//! `state`, or is answered 403: a machine that was replaced, and comes back from a dead host with an old key, serves
//! nobody. [`fence`] is the example to copy.
//!
//! **Claims.** What an environment adds to its template comes in a file (`HANGAR_PERSONALIZE_FILE`) when the machine ran
//! already. `personal.rs` is the example to copy: the file is read again whenever it changed.

mod answer;
pub mod fence;
mod page;
mod personal;
mod place;
mod visits;
mod websocket;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::net;
use crate::sample::{answer::App, personal::Personal};
use crate::tasks::{self, Shutdown};

/// How long requests under way may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(2);

/// How the app behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// Listen only after this time.
    pub slow_boot: Duration,
    /// `/healthz` answers 503 for ever.
    pub never_ready: bool,
}

impl Options {
    /// What the environment says: `PORT` (8080), `SLOW_BOOT_MS`, `NEVER_READY`. On a Fly Machine it listens on all
    /// addresses, where Fly Proxy finds it; anywhere else on loopback only.
    ///
    /// # Errors
    /// If a number isn't one.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(get: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let port = get("PORT").unwrap_or_else(|| "8080".to_owned());
        let port: u16 = port.parse().with_context(|| format!("PORT={port} is not a port"))?;
        let slow = get("SLOW_BOOT_MS").unwrap_or_else(|| "0".to_owned());
        let slow = slow.parse().with_context(|| format!("SLOW_BOOT_MS={slow} is not a number"))?;
        let on_fly = get("FLY_APP_NAME").is_some() && get("HANGAR_ROOT").is_none();
        let address = if on_fly {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))
        } else {
            SocketAddr::from((Ipv4Addr::LOCALHOST, port))
        };
        let never_ready = get("NEVER_READY").is_some();
        Ok(Self { address, slow_boot: Duration::from_millis(slow), never_ready })
    }
}

/// Runs the app until SIGINT or SIGTERM. Call it outside any async runtime.
///
/// # Errors
/// If it cannot listen.
pub fn run(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let (trigger, shutdown) = tasks::shutdown();
        tasks::detached(async move {
            tokio::select! {
                _ = interrupted.recv() => {}
                _ = terminated.recv() => {}
            }
            trigger.shut_down();
        });
        let mut early = shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(options.slow_boot) => {}
            () = early.wait() => return Ok(()),
        }
        let listener = net::bind(options.address).await?;
        say(&format!("the sample app listens on {}", listener.local_addr()?));
        let app = App::new(Personal::new(std::env::vars()), options.never_ready);
        serve(listener, app, shutdown).await?;
        say("the sample app ends");
        Ok(())
    })
}

async fn serve(listener: TcpListener, app: App, shutdown: Shutdown) -> anyhow::Result<()> {
    let app = Arc::new(app);
    let handle = move |request, _peer| {
        let app = Arc::clone(&app);
        async move { app.answer(request).await }
    };
    net::serve(listener, net::Limits::default(), DRAIN, shutdown, handle).await
}

/// A line in the machine's log. The app has no other use for its output, so a closed one is no error.
fn say(line: &str) {
    use io::Write;
    let _closed = writeln!(io::stdout().lock(), "{line}");
}

#[cfg(test)]
mod tests;
