//! Which server, which namespace. It must never print the token.

use crate::client::{Client, DEFAULT_SERVER, Error};

/// Which server and which namespace.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The server's address. Its token, if it wants one, is read from HANGAR_TOKEN
    #[arg(long, global = true, env = "HANGAR_SERVER", default_value = DEFAULT_SERVER, value_name = "URL")]
    server: String,
    /// Namespace [env: HANGAR_NAMESPACE] [default: default]
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

impl Connection {
    /// To the server of this process.
    pub(super) fn to(address: std::net::SocketAddr) -> Self {
        Self { server: format!("http://{address}"), namespace: None }
    }

    /// A client of the server.
    ///
    /// # Errors
    /// If the address is not one.
    pub fn client(&self) -> Result<Client, Error> {
        Client::new(&self.server, variable("HANGAR_TOKEN"))
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
