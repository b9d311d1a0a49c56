//! `hangar kubeconfig`: what kubectl and its kind need to reach a server. It must never write a file: whoever asked redirects.

use std::path::PathBuf;

use base64::Engine as _;
use serde_json::json;

use crate::cli::{
    Exit, access,
    connection::Connection,
    failure::Failure,
    printer::Printer,
    token::{self, Scope},
};

/// Whose way in.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The token in it [default: HANGAR_TOKEN, or the server's own from --data-dir]
    #[arg(long, value_name = "TOKEN", conflicts_with = "name")]
    token: Option<String>,
    /// Make a new token of this name for it, as `hangar token create` does
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    scope: Scope,
    /// Data directory of a server on this computer, for its certificate and its own token
    #[arg(long, env = "HANGAR_DATA_DIR", default_value = "./hangar-data", value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    if args.name.is_none() && args.scope.is_given() {
        return Err(Failure::usage(
            "what a token lets do is said of a new one",
            "--name NAME makes one; without it the token is one that there is",
        )
        .into());
    }
    let server = connection.server();
    let mut cluster = json!({"server": server});
    let mut user = json!({});
    if server.starts_with("https://") {
        let authority = connection.authority()?.or_else(|| access::authority(&args.data_dir));
        let own = access::known_admin_token(&args.data_dir);
        let mine = args.token.clone().or_else(|| connection.token()).or_else(|| own.clone());
        let token = match (&args.name, mine) {
            (None, Some(token)) => {
                if Some(&token) == own.as_ref() {
                    printer.note("note: its token lets do everything; --name NAME makes one that may do less");
                }
                token
            }
            (Some(name), Some(own)) => {
                let by = Connection::with(server.clone(), own, authority.clone());
                token::make(&by.client()?, name, &args.scope, connection).await?
            }
            (_, None) => {
                let hint = "give --token or set HANGAR_TOKEN; on the server's computer --data-dir is enough";
                return Err(Failure::usage("there is no token for this server", hint).into());
            }
        };
        if let Some(authority) = authority {
            let authority = base64::engine::general_purpose::STANDARD.encode(authority);
            cluster["certificate-authority-data"] = json!(authority);
        }
        user = json!({"token": token});
    } else if args.token.is_some() || args.name.is_some() {
        let message =
            format!("{server} is no https address, and kubectl sends no token to such a one");
        return Err(Failure::usage(
            message,
            "start the server with --tls, and give --server https://…",
        )
        .into());
    }
    let user_name = args.name.as_deref().unwrap_or("hangar");
    let mut context = json!({"cluster": "hangar"});
    if let Some(namespace) = connection.demanded_namespace().filter(|it| !it.contains(',')) {
        context["namespace"] = json!(namespace);
    }
    let mut config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "hangar", "cluster": cluster}],
        "contexts": [{"name": "hangar", "context": context}],
        "current-context": "hangar",
    });
    if user != json!({}) {
        config["contexts"][0]["context"]["user"] = json!(user_name);
        config["users"] = json!([{"name": user_name, "user": user}]);
    }
    printer.text(&serde_yaml::to_string(&config)?)?;
    Ok(Exit::Success)
}
