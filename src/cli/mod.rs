//! The command line: what was typed becomes typed arguments, one file per verb runs them. Verbs and flags follow kubectl.
//! Data goes to stdout, everything else to stderr. It must never hold a rule that the server does not have too.

use std::{io, process::ExitCode};

mod access;
mod apply;
pub(crate) mod assembly;
mod backup;
mod bench;
mod completions;
mod connection;
mod data_dir;
mod delete;
mod describe;
mod dry_run;
mod events;
mod exports;
mod failure;
mod files;
mod follow;
mod forecast;
mod get;
mod go_json;
mod kubeconfig;
pub mod local;
mod logs;
mod merge;
mod orphans;
mod plan;
mod printer;
mod progress;
mod reach;
mod restore_store;
mod resume;
mod rollout;
pub mod router;
pub mod sample_app;
mod scale;
mod schema;
pub mod serve;
pub mod shim;
pub mod sim;
mod table;
mod targets;
mod token;
pub mod up;
mod version;
mod wait;

pub use self::{connection::Connection, failure::Failure, printer::Printer};

/// Per-user environments on Fly.io, kept the way a manifest says.
#[derive(Debug, clap::Parser)]
#[command(
    name = "hangar",
    version,
    propagate_version = false,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage (and `plan`: there are changes)."
)]
pub struct Cli {
    /// Where the server is.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Run everything in one process, on this computer: API, controller, router and a stand-in for Fly
    Up(up::Args),
    /// Run API, controller and router against Fly
    Serve(serve::Args),
    /// Run one more router that follows a server
    Router(router::Args),
    /// Run only the stand-in for Fly: its Machines API and its proxy, on this computer
    Local(local::Args),
    /// Make objects be as manifests say
    Apply(apply::Args),
    /// Show what `apply` would do: calls, restarts, risks. Exit code 2 if there are changes
    Plan(plan::Args),
    /// Show objects
    Get(get::Args),
    /// Show one object, what it waits for and what happened to it
    Describe(describe::Args),
    /// Delete objects
    Delete(delete::Args),
    /// Set how many bays a pool keeps
    Scale(scale::Args),
    /// Show how far a template's change has come; pause it, let it go on, undo it
    Rollout(rollout::Args),
    /// Say that what hangar holds back may go on
    Resume(resume::Args),
    /// Export the store of a server, running or not
    Backup(backup::Args),
    /// Make a store from an export, for a server that does not run
    RestoreStore(restore_store::Args),
    /// Wait until objects are in a state
    Wait(wait::Args),
    /// Show what hangar did: its log lines
    Logs(logs::Args),
    /// Show what happened to objects
    Events(events::Args),
    /// Show what Fly has that the store does not account for, and the reverse; adopt or delete one
    Orphans(orphans::Args),
    /// Make, list and revoke tokens of the API that may do less than everything
    Token(token::Args),
    /// Print what kubectl needs to reach the server
    Kubeconfig(kubeconfig::Args),
    /// Print the JSON Schema of manifests, for editors
    Schema(schema::Args),
    /// Measure hangar itself under load, in a place of its own
    Bench(bench::Args),
    /// Try hangar itself in a simulated world where everything fails
    Sim(sim::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Show the versions of this program and of the server
    Version,
    /// Own one machine's process (started by the stand-in for Fly)
    #[command(hide = true)]
    MachineShim(shim::Args),
    /// Be the program in the sample image
    #[command(hide = true)]
    SampleApp(sample_app::Args),
}

impl Command {
    /// Whether it serves many at once and so wants threads.
    #[must_use]
    pub fn is_server(&self) -> bool {
        matches!(
            self,
            Self::Up(_) | Self::Serve(_) | Self::Router(_) | Self::Local(_) | Self::Bench(_)
        )
    }

    /// Whether it talks to a server, in a namespace.
    fn is_client(&self) -> bool {
        let alone = matches!(self, Self::Schema(_) | Self::Sim(_) | Self::Completions(_));
        let hidden = matches!(self, Self::MachineShim(_) | Self::SampleApp(_));
        !self.is_server() && !alone && !hidden
    }
}

/// How it went, when there is nothing more to say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// Something was refused or failed, and it was said what.
    Failed,
    /// `plan`: there are changes.
    Changes,
}

/// Runs a command on a runtime that suits it: servers want threads, the rest does not, and three bring their own.
///
/// # Errors
/// Whatever keeps it from being done; [`finish`] prints it.
pub fn start(cli: Cli, printer: &mut Printer) -> anyhow::Result<Exit> {
    if !cli.command.is_client()
        && let Some(flag) = cli.connection.flag(matches!(cli.command, Command::Router(_)))
    {
        let message = format!("{flag} means nothing to this command");
        return Err(Failure::usage(message, "it talks to no server; leave it out").into());
    }
    let mut builder = match &cli.command {
        Command::MachineShim(args) => return shim::run(args),
        Command::SampleApp(_) => return sample_app::run(),
        Command::Sim(args) => return sim::run(args, printer),
        command if command.is_server() => {
            let level =
                std::env::var("HANGAR_LOG").unwrap_or_else(|_| log_level(command).to_owned());
            crate::telemetry::init(&level, std::env::var("HANGAR_LOG_JSON").is_ok())?;
            tokio::runtime::Builder::new_multi_thread()
        }
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()?.block_on(run(cli, printer))
}

/// What a server says on standard error. `up` prints the reconciliation log on standard output, so it is left out here.
fn log_level(command: &Command) -> &'static str {
    match command {
        Command::Up(_) | Command::Bench(_) => "warn,hangar::telemetry::journal=off",
        _ => "warn",
    }
}

async fn run(cli: Cli, printer: &mut Printer) -> anyhow::Result<Exit> {
    let connection = &cli.connection;
    match &cli.command {
        Command::Up(args) => up::run(args, printer).await,
        Command::Serve(args) => serve::run(args, printer).await,
        Command::Router(args) => router::run(args, connection, printer).await,
        Command::Local(args) => local::run(args, printer).await,
        Command::Bench(args) => bench::run(args, printer).await,
        Command::Apply(args) => apply::run(args, connection, printer).await,
        Command::Plan(args) => plan::run(args, connection, printer).await,
        Command::Get(args) => get::run(args, connection, printer).await,
        Command::Describe(args) => describe::run(args, connection, printer).await,
        Command::Delete(args) => delete::run(args, connection, printer).await,
        Command::Scale(args) => scale::run(args, connection, printer).await,
        Command::Rollout(args) => rollout::run(args, connection, printer).await,
        Command::Resume(args) => resume::run(args, connection, printer).await,
        Command::Backup(args) => backup::run(args, connection, printer).await,
        Command::RestoreStore(args) => restore_store::run(args, printer).await,
        Command::Wait(args) => wait::run(args, connection, printer).await,
        Command::Logs(args) => logs::run(args, connection, printer).await,
        Command::Events(args) => events::run(args, connection, printer).await,
        Command::Orphans(args) => orphans::run(args, connection, printer).await,
        Command::Token(args) => token::run(args, connection, printer).await,
        Command::Kubeconfig(args) => kubeconfig::run(args, connection, printer).await,
        Command::Schema(args) => schema::run(args, printer),
        Command::Completions(args) => completions::run(args, printer),
        Command::Version => version::run(connection, printer).await,
        // `start` runs these without a runtime around them.
        Command::MachineShim(_) | Command::SampleApp(_) | Command::Sim(_) => Ok(Exit::Success),
    }
}

/// Says what went wrong, with hints, and makes the exit code. A reader of our output that went away is success.
#[must_use]
pub fn finish(result: anyhow::Result<Exit>, printer: &mut Printer) -> ExitCode {
    let result = result.and_then(|exit| Ok(printer.flush().map(|()| exit)?));
    match result {
        Ok(Exit::Success) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::FAILURE,
        Ok(Exit::Changes) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            failure::report(&error, printer);
            if failure::is_usage(&error) { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn commands_are_read_as_kubectl_users_type_them() {
        for line in [
            "hangar apply -f manifests/ --wait",
            "hangar apply -f - --dry-run",
            "hangar apply -f a.yaml -f b.yaml --dry-run=client -n team-a",
            "hangar -n team-a get env",
            "hangar get env/alice -o yaml",
            "hangar get env alice bob -o wide -w",
            "hangar get env,bays -A -l team=a --field-selector status.phase=Ready",
            "hangar get env alice --ignore-not-found --no-headers",
            "hangar describe env alice",
            "hangar describe env -l team=a",
            "hangar delete --dry-run=server env alice",
            "hangar delete --dry-run env alice",
            "hangar delete env alice --wait=false",
            "hangar delete -f x.yaml --ignore-not-found",
            "hangar wait env/alice --for=condition=Ready --timeout=90s",
            "hangar resume restored --dry-run",
            "hangar scale pool/warm --replicas 3",
            "hangar rollout status template/node --watch=false --timeout 5m",
            "hangar rollout undo template node --to-revision 2 --dry-run",
            "hangar rollout history template/node --revision 1",
            "hangar rollout resume env/alice",
            "hangar scale pool warm --replicas ams=3,fra=1 --dry-run",
            "hangar backup --data-dir data",
            "hangar restore-store --from x.jsonl --data-dir data --dry-run",
            "hangar logs -f env/alice --tail 10 --json",
            "hangar events --for env/alice -w",
            "hangar orphans -o wide --others",
            "hangar orphans --delete app-hgr-abc --dry-run",
            "hangar orphans --adopt app-hgr-abc --to env/alice",
            "hangar token create ci -n team-a --verbs get,list,watch --resources pods/exec --expires 30d",
            "hangar token list",
            "hangar token revoke ci",
            "hangar kubeconfig --server https://127.0.0.1:7070 --name ci -A",
            "hangar schema environment",
            "hangar completions zsh",
            "hangar up -f manifests/ --no-run",
            "hangar serve --org acme --domain dev.example.com",
            "hangar router --from http://127.0.0.1:7070",
            "hangar bench claims --rate 45 --count 500 -o json",
            "hangar bench claims --at-once --count 64 --pool 16 --fly instant",
            "hangar sim --seeds 10..20 --minutes 5",
            "hangar sim --course create --seeds 3 --crash-at 7",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "hangar",
            "hangar get",
            "hangar apply",
            "hangar wait env/alice",
            "hangar get env -o xml",
            "hangar completions tcsh",
            "hangar scale pool/warm",
            "hangar rollout",
            "hangar rollout status",
            "hangar scale pool/warm --replicas many",
            "hangar serve",
            "hangar orphans --adopt app-hgr-abc",
            "hangar orphans --delete a --adopt b --to env/alice",
            "hangar bench claims --rate 0",
            "hangar sim --seeds 3..3",
            "hangar sim --crash-at 7",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
