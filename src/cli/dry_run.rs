//! `--dry-run`, as kubectl has it. It must never be understood as less than it says: what is not known is refused.

/// Who checks, when nothing is to be changed. Without a word it is the server: kubectl's own meaning of that is deprecated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(super) struct DryRun {
    /// Check and change nothing: by the server with its rules (server), or without asking it to (client)
    #[arg(long = "dry-run", value_enum, value_name = "WHO", num_args = 0..=1, require_equals = true, default_value = "none", default_missing_value = "server", hide_default_value = true)]
    pub(super) by: Who,
}

/// Who checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Who {
    None,
    Client,
    Server,
}

impl Who {
    /// What stands after what was not done.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Client => " (dry run)",
            Self::Server => " (server dry run)",
        }
    }
}
