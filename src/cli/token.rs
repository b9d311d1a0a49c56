//! `hangar token`: tokens of the API that may do less than everything. The text of one is printed once, and sent nowhere. It must
//! never show a hash.

use std::time::Duration;

use crate::{
    api::{
        access_token::{self, ANY, AccessToken, AccessTokenSpec},
        kind::Kind,
        meta::{Metadata, ObjectRef},
        offer,
    },
    chance::{self, Chance as _},
    cli::{
        Exit,
        connection::Connection,
        failure::Failure,
        printer::Printer,
        table::{self, plain},
    },
    client::{Client, Query},
    clock::{Clock as _, System, Timestamp},
};

/// The verbs that change nothing.
const READ: [&str; 3] = ["get", "list", "watch"];

/// What to do with tokens.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Make one and print it: it is shown this once
    Create(Create),
    /// Show those there are, without their text
    List,
    /// End one, and everything that is open with it
    Revoke {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Its name, which is the user's in refusals and in the audit log
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    scope: Scope,
}

/// What a new token lets do. It holds in the namespaces of --namespace (several are joined by commas).
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Scope {
    /// In all namespaces, and for what is in none
    #[arg(long, short = 'A')]
    all_namespaces: bool,
    /// Verbs as Kubernetes has them, or * for all; exec, attach and port-forward are `create` of pods/exec and so on
    /// [default: get,list,watch]
    #[arg(long, value_name = "VERBS", value_delimiter = ',')]
    verbs: Vec<String>,
    /// Resources by their plural, such as environments or pods/exec, or * for all [default: all with their subresources but Secrets;
    /// where more than reading is let, neither namespaces, quotas, holds, orphans nor any status]
    #[arg(long, value_name = "RESOURCES", value_delimiter = ',')]
    resources: Vec<String>,
    /// How long it holds, such as 30d or 12h [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expires: Option<Duration>,
}

impl Scope {
    /// Whether anything was said.
    pub(super) fn is_given(&self) -> bool {
        self.all_namespaces
            || !self.verbs.is_empty()
            || !self.resources.is_empty()
            || self.expires.is_some()
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it would be over at once".to_owned()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}: write 30d or 12h")),
    }
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    match &args.verb {
        Verb::Create(create) => {
            let text = make(&client, &create.name, &create.scope, connection).await?;
            printer.line(text)?;
            printer
                .note(format_args!("accesstoken/{} created; it is not shown again", create.name));
        }
        Verb::List => {
            let query = Query::default();
            let listed = client.table(Kind::AccessToken, None, &query).await?;
            // What is wide is for `hangar get tokens -o wide`.
            let columns = listed.column_definitions.iter().enumerate();
            let columns: Vec<_> = columns.filter(|(_, it)| it.priority == 0).collect();
            let headings: Vec<_> = columns.iter().map(|(_, it)| it.name.as_str()).collect();
            let row = |row: &crate::client::TableRow| {
                columns.iter().filter_map(|(at, _)| row.cells.get(*at)).map(plain).collect()
            };
            for line in table::lines(&headings, listed.rows.iter().map(row).collect()) {
                printer.line(line)?;
            }
        }
        Verb::Revoke { name } => {
            client.delete(&ObjectRef::new(Kind::AccessToken, "", name), false).await?;
            printer.line(format_args!("accesstoken/{name} revoked"))?;
        }
    }
    Ok(Exit::Success)
}

/// Makes a token; its text.
pub(super) async fn make(
    client: &Client,
    name: &str,
    scope: &Scope,
    connection: &Connection,
) -> anyhow::Result<String> {
    let mut secret = [0; 32];
    chance::System.fill(&mut secret);
    let text = access_token::text(name, &secret);
    let expires_at = scope.expires.map(|it| after(System::new().now(), it)).transpose()?;
    if scope.all_namespaces && connection.demanded_namespace().is_some() {
        let message = "-A is all namespaces, and --namespace some of them";
        return Err(Failure::usage(message, "leave out one of them").into());
    }
    let namespaces = if scope.all_namespaces {
        vec![ANY.to_owned()]
    } else {
        connection.namespace().split(',').map(|it| it.trim().to_owned()).collect()
    };
    let verbs = if scope.verbs.is_empty() {
        READ.iter().map(|it| (*it).to_owned()).collect()
    } else {
        scope.verbs.clone()
    };
    let info = Kind::AccessToken.info();
    let token = AccessToken {
        api_version: info.api_version(),
        kind: info.kind_name.to_owned(),
        metadata: Metadata { name: name.to_owned(), ..Metadata::default() },
        spec: AccessTokenSpec {
            hash: blake3::hash(text.as_bytes()).to_hex().to_string(),
            namespaces,
            resources: if scope.resources.is_empty() {
                ordinary(&verbs)
            } else {
                scope.resources.clone()
            },
            verbs,
            expires_at,
        },
    };
    client.create(Kind::AccessToken, "", &token, false).await?;
    Ok(text)
}

/// Everything that tokens are for unless somebody says otherwise: whoever reads must not read Secrets by the way, and whoever
/// writes not lift what the namespace's owner set.
fn ordinary(verbs: &[String]) -> Vec<String> {
    let reads_only = verbs.iter().all(|it| READ.contains(&it.as_str()));
    let mut all = Vec::new();
    for offer in offer::all() {
        let is_ordinary = match offer.behind {
            offer::Behind::Kind(Kind::Secret | Kind::AccessToken, _) | offer::Behind::Review(_) => {
                false
            }
            offer::Behind::Kind(
                Kind::Namespace | Kind::ResourceQuota | Kind::Hold | Kind::Orphan,
                _,
            ) => reads_only,
            offer::Behind::Kind(..) | offer::Behind::Usage => true,
        };
        let parts = offer.parts.iter().map(|it| it.name);
        let parts = parts.filter(|it| reads_only || *it != "status");
        let words = parts.map(|it| format!("{}/{it}", offer.plural));
        for word in std::iter::once(offer.plural.to_owned()).chain(words) {
            if is_ordinary && !all.contains(&word) {
                all.push(word);
            }
        }
    }
    all
}

fn after(now: Timestamp, time: Duration) -> anyhow::Result<Timestamp> {
    let too_long =
        || Failure::usage("--expires is too long", "leave it out for a token that stays");
    let end = now.checked_add(time).map_err(|_| too_long())?;
    Ok(Timestamp::from_second(end.as_second()).unwrap_or(end))
}
