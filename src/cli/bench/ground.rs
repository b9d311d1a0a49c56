//! What a load test stands on: everything that `hangar up` starts, in a directory of its own, with a controller that comes and goes
//! by phase. It must never use an address or a directory that somebody else may use.

use std::{
    fs::{self, DirBuilder},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;

use crate::{
    cli::{
        access,
        assembly::{self, Core, Fly, LocalArgs, LocalFly},
        bench::{Claims, DriverKind},
        failure::Failure,
        up::{self, Started},
    },
    client::Client,
    fly::token::Token,
    local::{
        Keep,
        timed::{Durations, Timed},
    },
    reconcile::Address,
    store::handle::Store,
    tasks::Set,
};

/// The domain of the environments.
pub(super) const DOMAIN: &str = "bench.localhost";
/// Any free port, for this computer only.
const ANYWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const LOOK: Duration = Duration::from_millis(5);

/// The parts that a load test talks to.
pub(super) struct Ground {
    pub(super) core: Core,
    pub(super) store: Store,
    pub(super) client: Client,
    pub(super) router: SocketAddr,
    /// How long the stand-in takes.
    pub(super) timed: Arc<Timed>,
    fly_url: String,
    address: Address,
}

impl Ground {
    /// Has a controller for as long as the work takes.
    pub(super) async fn controlled<T>(
        &self,
        limited: bool,
        work: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let mut set = Set::new();
        let fly = Fly {
            base_url: self.fly_url.clone(),
            token: Token::new(assembly::LOCAL_TOKEN),
            org: assembly::LOCAL_ORG.to_owned(),
            limited,
        };
        self.core.controller(&mut set, &self.store, fly, self.address.clone())?;
        lasting(set, work).await
    }

    /// Returns once the controller has read the store and Fly.
    pub(super) async fn synced(&self) {
        while !self.core.readiness.gates().iter().all(|(_, state)| state.is_ok()) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Makes the ground, does something on it, and takes it away again.
pub(super) async fn on<T>(
    claims: &Claims,
    course: impl AsyncFnOnce(&Ground) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let home = Home::new(claims.data_dir.as_deref())?;
    let mut set = Set::new();
    assembly::end_on_signals(set.trigger())?;
    let core = Core::new(&home.path)?;
    let no_run = claims.driver == DriverKind::NoRun;
    let data_dir = home.path.join("fly");
    let driver = LocalFly::driver(&data_dir, no_run)?;
    let timed = Arc::new(Timed::new(driver, Durations::INSTANT));
    let mut config = LocalFly::config(data_dir, no_run);
    config.timings.prepare = Duration::ZERO;
    if no_run {
        // The stand-in's own disk is no part of what is measured.
        config.keep = Keep::Nothing;
    }
    let local = LocalFly::over(config, Arc::clone(&timed) as _, &core.clock, ANYWHERE);
    let settings = settings(&home.path, no_run);
    let parts =
        |_: &mut Set, store: &Store, fly: Fly, address| Ok((store.clone(), fly.base_url, address));
    let Started { addresses, door, backend, controller, exports: _ } =
        up::start(&settings, &core, &mut set, local, parts).await?;
    let (store, fly_url, address) = controller;
    let work = async {
        let (Some(api), Some(router)) = (addresses.api, addresses.router) else {
            return Err(Failure::new("the API or the router has no address").into());
        };
        let client = door.connection(api).client()?;
        course(&Ground { core, store, client, router, timed, fly_url, address }).await
    };
    let done = lasting(set, work).await;
    backend.stop_all().await;
    backend.close();
    done
}

fn settings(data_dir: &Path, no_run: bool) -> up::Args {
    up::Args {
        files: Vec::new(),
        data_dir: data_dir.to_owned(),
        listen: ANYWHERE,
        fly_listen: ANYWHERE,
        front_listen: ANYWHERE,
        router_listen: ANYWHERE,
        domain: DOMAIN.to_owned(),
        ready_file: None,
        local: LocalArgs { no_run, insecure: false, faults: None },
        access: access::AccessArgs::default(),
    }
}

/// Runs tasks for as long as the work takes. A task that ends before it ends the work.
async fn lasting<T>(set: Set, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let trigger = set.trigger();
    let mut tasks = std::pin::pin!(set.run(assembly::DRAIN));
    tokio::select! {
        ended = &mut tasks => {
            ended?;
            Err(Failure::new("the load test was ended before it was done").into())
        }
        done = work => {
            trigger.shut_down();
            let ended = tasks.await;
            let done = done?;
            ended.map(|()| done)
        }
    }
}

/// The directory; a temporary one goes with this.
struct Home {
    path: PathBuf,
    is_temporary: bool,
}

impl Home {
    fn new(wanted: Option<&Path>) -> anyhow::Result<Self> {
        let temporary =
            || std::env::temp_dir().join(format!("hangar-bench-{}", std::process::id()));
        let path = wanted.map_or_else(temporary, Path::to_owned);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| {
            format!("cannot make the directory {}: it must be a new one", path.display())
        })?;
        Ok(Self { path, is_temporary: wanted.is_none() })
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.is_temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "the temporary directory stays");
        }
    }
}
