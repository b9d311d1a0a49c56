//! Which server, which namespace. It must never print the token.

use crate::client::{Client, DEFAULT_SERVER, Error};

/// Which server and which namespace.
#[derive(Debug, Clone, clap::Args)]
pub struct Connection {
    /// The server's address, for commands that talk to one; its token, if it wants one, is read from HANGAR_TOKEN
    /// [env: HANGAR_SERVER] [default: http://127.0.0.1:7070]
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// Namespace, for the same commands [env: HANGAR_NAMESPACE] [default: default]
    #[arg(long, short, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

impl Connection {
    /// To the server of this process.
    pub(super) fn to(address: std::net::SocketAddr) -> Self {
        Self { server: Some(format!("http://{address}")), namespace: None }
    }

    /// A client of the server.
    ///
    /// # Errors
    /// If the address is not one.
    pub fn client(&self) -> Result<Client, Error> {
        let server = self.server.clone().or_else(|| variable("HANGAR_SERVER"));
        Client::new(server.as_deref().unwrap_or(DEFAULT_SERVER), variable("HANGAR_TOKEN"))
    }

    /// The flag that was typed, if any was.
    pub(super) fn flag(&self) -> Option<&'static str> {
        let namespace = self.namespace.as_ref().map(|_| "--namespace");
        self.server.as_ref().map(|_| "--server").or(namespace)
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
