//! Who the API of a server command lets in: everybody of this computer, or whoever shows a token over TLS; and where it is written
//! what they did. It must never print a token.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::builder::BoolishValueParser;

use crate::{
    api::{access_token, kind::Kind},
    chance::Chance,
    cli::{connection::Connection, failure::Failure, printer::Printer},
    clock::Timestamp,
    server::{
        self, Access,
        audit::Audit,
        tls::{self, Tls},
    },
    store::handle::Store,
};

/// Certificates of an own authority, below the data directory.
const TLS: &str = "tls";
/// The token that may do everything, below the data directory, where none was given.
const ADMIN_TOKEN: &str = "admin.token";
const AUDIT_LOG: &str = "audit.log";

/// Who is let in.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AccessArgs {
    /// Speak HTTPS and let in nobody without a token, on a loopback address too. On others it is always so, and wherever
    /// HANGAR_TOKEN is set
    #[arg(long, env = "HANGAR_TLS", value_parser = BoolishValueParser::new())]
    pub tls: bool,
    /// Certificate chain in PEM, in the place of hangar's own
    #[arg(long, env = "HANGAR_TLS_CERT", value_name = "PATH", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The key of --tls-cert, in PEM
    #[arg(long, env = "HANGAR_TLS_KEY", value_name = "PATH", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Names and addresses that hangar's own certificate is for, beside localhost, 127.0.0.1, ::1 and --listen
    #[arg(
        long,
        env = "HANGAR_TLS_SAN",
        value_name = "NAME",
        value_delimiter = ',',
        conflicts_with = "tls_cert"
    )]
    pub tls_san: Vec<String>,
    /// File for a line of JSON about each call, - for standard output, or /dev/null for none [default: audit.log in the data
    /// directory]
    #[arg(long, env = "HANGAR_AUDIT_LOG", value_name = "PATH")]
    pub audit_log: Option<PathBuf>,
}

/// How the API is guarded, and how this process itself gets in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) audit: Audit,
    /// The token that may do everything, and the authority that clients must know.
    key: Option<(String, Option<String>)>,
    /// Whether that token is the environment's.
    is_given: bool,
}

impl AccessArgs {
    /// Opens certificate, token and audit log.
    pub(super) fn open(
        &self,
        listen: SocketAddr,
        data_dir: &Path,
        (now, chance): (Timestamp, &dyn Chance),
    ) -> anyhow::Result<Door> {
        let audit = self.audit(data_dir)?;
        let given = given_token()?;
        let is_open = given.is_none() && !self.tls && self.tls_cert.is_none();
        if is_open && listen.ip().is_loopback() {
            if !self.tls_san.is_empty() {
                let hint = "add --tls: on a loopback address the API speaks plain HTTP otherwise";
                return Err(Failure::usage("--tls-san is of no use without HTTPS", hint).into());
            }
            return Ok(Door { access: Access::Open, audit, key: None, is_given: false });
        }
        let is_given = given.is_some();
        let text = match given {
            Some(text) => text,
            None => admin_token(data_dir, chance)?,
        };
        let tls = Tls::open(self.source(listen, data_dir), now)?;
        let key = Some((text.clone(), tls.authority()));
        let token = server::Token::new(&text);
        Ok(Door { access: Access::Tokens { token, tls }, audit, key, is_given })
    }

    fn source(&self, listen: SocketAddr, data_dir: &Path) -> tls::Source {
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            return tls::Source::Given { certificate: certificate.clone(), key: key.clone() };
        }
        let mut names = vec![reached_at(listen).ip().to_string()];
        names.extend(self.tls_san.iter().cloned());
        tls::Source::Own { dir: data_dir.join(TLS), names }
    }

    fn audit(&self, data_dir: &Path) -> anyhow::Result<Audit> {
        let path = match &self.audit_log {
            Some(path) if path == Path::new("-") => return Ok(Audit::to_stdout()?),
            Some(path) => path.clone(),
            None => data_dir.join(AUDIT_LOG),
        };
        Audit::to_file(&path)
            .with_context(|| format!("cannot write the audit log {}", path.display()))
    }
}

impl Door {
    /// `http://127.0.0.1:7070`
    pub(super) fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.key.is_some() { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// How this process gets in.
    pub(super) fn connection(&self, address: SocketAddr) -> Connection {
        match &self.key {
            None => Connection::to(address),
            Some((token, authority)) => {
                let near = match address.ip() {
                    ip if ip.is_unspecified() => {
                        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
                    }
                    ip => SocketAddr::from((ip, address.port())),
                };
                Connection::with(self.url(near), token.clone(), authority.clone())
            }
        }
    }

    /// Refuses what this process could not do itself: a given certificate is for the names that others use.
    pub(super) fn check_own(&self) -> Result<(), Failure> {
        match &self.key {
            Some((_, None)) => Err(Failure::usage(
                "-f goes with hangar's own certificate only",
                "leave out -f, and apply the manifests when it runs",
            )),
            Some((_, Some(_))) | None => Ok(()),
        }
    }

    /// Says how others get in.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub(super) async fn say(
        &self,
        address: SocketAddr,
        data_dir: &Path,
        (store, printer): (&Store, &mut Printer),
    ) -> anyhow::Result<()> {
        let Some((_, authority)) = &self.key else {
            let tokens = store.count(Kind::AccessToken.info().plural).await?;
            if tokens > 0 {
                printer.note(format_args!(
                    "note: {tokens} tokens were made and none is asked for: every program of this computer may do everything; --tls asks for them"
                ));
            }
            return Ok(());
        };
        let url = self.url(reached_at(address));
        let data_dir = data_dir.display();
        printer.note(format_args!(
            "note: tokens are asked for; `hangar kubeconfig --server {url} --data-dir {data_dir}` gives kubectl the one that may do everything, and for hangar's own commands:"
        ));
        printer.note(format_args!("  export HANGAR_SERVER={url}"));
        if authority.is_some() {
            printer.note(format_args!("  export HANGAR_CA={data_dir}/{TLS}/{}", tls::AUTHORITY));
        }
        if !self.is_given {
            printer.note(format_args!("  export HANGAR_TOKEN=$(cat {data_dir}/{ADMIN_TOKEN})"));
        }
        Ok(())
    }
}

/// The authority's certificate of a server that has its data here, if it made one.
pub(super) fn authority(data_dir: &Path) -> Option<String> {
    fs::read_to_string(data_dir.join(TLS).join(tls::AUTHORITY)).ok()
}

/// The token that may do everything, of a server that has its data here, if it made one.
pub(super) fn known_admin_token(data_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(data_dir.join(ADMIN_TOKEN)).ok()?;
    Some(text.trim().to_owned()).filter(|it| !it.is_empty())
}

/// The token that the environment gives the server as its own.
fn given_token() -> anyhow::Result<Option<String>> {
    let given = std::env::var("HANGAR_TOKEN").unwrap_or_default();
    let given = given.trim();
    match access_token::name_in(given) {
        Some(name) if name != access_token::OWN => Err(Failure::usage(
            format!("HANGAR_TOKEN holds the token of `{name}`, which may not do everything"),
            "unset it: the server then has a token of its own; this variable is for clients too",
        )
        .into()),
        _ => Ok(Some(given.to_owned()).filter(|it| !it.is_empty())),
    }
}

/// Where others reach an address; of one that stands for all, this computer's own on the way out.
fn reached_at(listen: SocketAddr) -> SocketAddr {
    // Nothing is sent: the address is from a range that is for documents.
    let way_out = || {
        let (from, to): (SocketAddr, SocketAddr) = match listen {
            SocketAddr::V4(_) => ((Ipv4Addr::UNSPECIFIED, 0).into(), ([192, 0, 2, 1], 9).into()),
            SocketAddr::V6(_) => {
                ((Ipv6Addr::UNSPECIFIED, 0).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into())
            }
        };
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let ip = if listen.ip().is_unspecified() { way_out() } else { None };
    SocketAddr::new(ip.unwrap_or_else(|| listen.ip()), listen.port())
}

/// The token that may do everything; made at the first start that wants one.
fn admin_token(data_dir: &Path, chance: &dyn Chance) -> anyhow::Result<String> {
    let path = data_dir.join(ADMIN_TOKEN);
    if path.try_exists().unwrap_or(true) {
        let known = known_admin_token(data_dir);
        return known.filter(|it| access_token::name_in(it).is_some()).ok_or_else(|| {
            let hint = "delete it: the next start makes another one";
            Failure::hinted(format!("there is no token in {}", path.display()), hint).into()
        });
    }
    let mut bytes = [0; 32];
    chance.fill(&mut bytes);
    let text = access_token::text(access_token::OWN, &bytes);
    tls::write(&path, &format!("{text}\n"))
        .with_context(|| format!("cannot write the token {}", path.display()))?;
    Ok(text)
}
