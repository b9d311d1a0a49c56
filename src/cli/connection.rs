//! Which server, which namespace. It must never print the token.

use std::{fmt, fs, path::PathBuf};

use anyhow::Context as _;

use crate::client::{Client, DEFAULT_SERVER};

/// Which server and which namespace.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The server's address, for commands that talk to one; its token, if it wants one, is read from HANGAR_TOKEN
    /// [env: HANGAR_SERVER] [default: http://127.0.0.1:7070]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Certificate of the authority that an https server's own is from, in PEM [env: HANGAR_CA] [default: those of this computer]
    #[arg(long, global = true, value_name = "PATH")]
    certificate_authority: Option<PathBuf>,
    /// Namespace, for the same commands [env: HANGAR_NAMESPACE] [default: default]
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,
    /// What is known without asking anybody.
    #[arg(skip)]
    known: Option<Known>,
}

/// A token, and the authority behind the server's certificate in PEM.
#[derive(Clone)]
struct Known {
    token: String,
    authority: Option<String>,
}

/// Tells nothing.
impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Known(…)")
    }
}

impl Connection {
    /// To the server of this process, which lets in everybody.
    pub(super) fn to(address: std::net::SocketAddr) -> Self {
        let server = Some(format!("http://{address}"));
        Self { server, certificate_authority: None, namespace: None, known: None }
    }

    /// To a server, with this token and authority.
    pub(super) fn with(server: String, token: String, authority: Option<String>) -> Self {
        let known = Some(Known { token, authority });
        Self { server: Some(server), certificate_authority: None, namespace: None, known }
    }

    /// A client of the server.
    ///
    /// # Errors
    /// If the address is not one, or the authority's certificate cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        let authority = self.authority()?;
        Ok(Client::trusting(&self.server(), self.token(), authority.as_deref())?)
    }

    /// The server's address, by flag, variable or default.
    pub(super) fn server(&self) -> String {
        let server = self.server.clone().or_else(|| variable("HANGAR_SERVER"));
        let server = server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        server.trim_end_matches('/').to_owned()
    }

    /// The token.
    pub(super) fn token(&self) -> Option<String> {
        match &self.known {
            Some(known) => Some(known.token.clone()),
            None => variable("HANGAR_TOKEN"),
        }
    }

    /// The authority's certificate.
    pub(super) fn authority(&self) -> anyhow::Result<Option<String>> {
        if let Some(known) = &self.known {
            return Ok(known.authority.clone());
        }
        let path = self.certificate_authority.clone();
        let Some(path) = path.or_else(|| variable("HANGAR_CA").map(PathBuf::from)) else {
            return Ok(None);
        };
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the certificate {}", path.display()))?;
        Ok(Some(text))
    }

    /// The flag that was typed, if any was, of a command that may need an authority's certificate all the same.
    pub(super) fn flag(&self, takes_authority: bool) -> Option<&'static str> {
        let namespace = self.namespace.as_ref().map(|_| "--namespace");
        let authority = self.certificate_authority.as_ref().filter(|_| !takes_authority);
        let authority = authority.map(|_| "--certificate-authority");
        self.server.as_ref().map(|_| "--server").or(namespace).or(authority)
    }

    /// The namespace, by flag, variable or default.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.namespace
            .clone()
            .or_else(|| variable("HANGAR_NAMESPACE"))
            .unwrap_or_else(|| "default".to_owned())
    }

    /// The namespace, if it was asked for by flag: objects of another one are then a mistake.
    #[must_use]
    pub fn demanded_namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|it| !it.is_empty())
}
