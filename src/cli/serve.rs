//! `hangar serve`: API, controller and router against Fly. It must never print the token.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use crate::{
    cli::{
        Exit, access,
        assembly::{self, Addresses, Core, Fly, Follows, IntoStore},
        failure::Failure,
        printer::Printer,
        reach::ByApi,
    },
    fly::{http::PUBLIC_URL, token::Token},
    reconcile::Address,
    router::follow::Local,
    tasks::Set,
};

/// Which organisation, and where everything listens and is kept.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Organisation at Fly. Its token is read from FLY_API_TOKEN, another API base from FLY_FLAPS_BASE_URL
    #[arg(long, env = "HANGAR_ORG", value_name = "SLUG")]
    pub org: String,
    /// Where everything is kept
    #[arg(long, env = "HANGAR_DATA_DIR", default_value = "./hangar-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the API listens
    #[arg(long, env = "HANGAR_LISTEN", default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where the router listens
    #[arg(
        long,
        env = "HANGAR_ROUTER_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDRESS"
    )]
    pub router_listen: SocketAddr,
    /// Domain under which environments have their hostnames
    #[arg(long, env = "HANGAR_DOMAIN", default_value = "dev.localhost", value_name = "DOMAIN")]
    pub domain: String,
    /// Where environments answer, where it is not https under the domain: a URL with scheme, host and port
    #[arg(long, env = "HANGAR_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<String>,
    /// File that is written, with the addresses as JSON, once everything listens; an old one is
    /// removed at the start
    #[arg(long, env = "HANGAR_READY_FILE", value_name = "PATH")]
    pub ready_file: Option<PathBuf>,
    /// Who the API lets in
    #[command(flatten)]
    pub access: access::AccessArgs,
}

/// Runs until it is told to end.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(args: &Args, printer: &mut Printer) -> anyhow::Result<Exit> {
    let token =
        std::env::var("FLY_API_TOKEN").ok().filter(|it| !it.is_empty()).ok_or_else(|| {
            Failure::usage("FLY_API_TOKEN is not set", "fly tokens create org prints one")
        })?;
    let fly = Fly {
        limited: true,
        base_url: std::env::var("FLY_FLAPS_BASE_URL").unwrap_or_else(|_| PUBLIC_URL.to_owned()),
        token: Token::new(&token),
        org: args.org.clone(),
    };
    let address = address(args)?;
    assembly::clear_ready_file(args.ready_file.as_deref())?;
    let mut set = Set::new();
    assembly::end_on_signals(set.trigger())?;
    let core = Core::new(&args.data_dir)?;
    let store = core.store(&args.data_dir).await?;
    let exports = core.exports(&mut set, &store, &args.data_dir);
    let machines = core.controller(&mut set, &store, fly, address)?;
    let reach = Arc::new(ByApi(machines));
    let door = core.door(&args.access, args.listen, &args.data_dir)?;
    let api = core.api(&mut set, &exports, (args.listen, &door), reach).await?;
    assembly::say_holds(&store, printer).await?;
    let sink = Arc::new(IntoStore { store: store.clone(), clock: Arc::clone(&core.clock) });
    let follows = Follows { source: Box::new(Local::new(store)), shelf: None, sink };
    let router = core
        .router(&mut set, follows, (args.router_listen, "--router-listen"), &args.domain)
        .await?;
    let addresses = Addresses { api: Some(api), router: Some(router), ..Addresses::default() };
    addresses.write(args.ready_file.as_deref())?;
    printer.note(format_args!("API: {}", door.url(api)));
    door.say(api, &args.data_dir, (&exports.store, printer)).await?;
    printer.note(format_args!("router: http://{router}"));
    let ended = set.run(assembly::DRAIN).await;
    exports.make().await;
    ended.map(|()| Exit::Success)
}

fn address(args: &Args) -> anyhow::Result<Address> {
    let Some(url) = &args.public_url else {
        return Ok(Address { scheme: "https".to_owned(), domain: args.domain.clone(), port: None });
    };
    let url: http::Uri = url
        .parse()
        .map_err(|error| Failure::new(format!("--public-url {url} is not a URL: {error}")))?;
    Ok(Address {
        scheme: url.scheme_str().unwrap_or("https").to_owned(),
        domain: url.host().unwrap_or(&args.domain).to_owned(),
        port: url.port_u16(),
    })
}
