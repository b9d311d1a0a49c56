//! What an environment adds to its template, as the personalize file has it, and the command that writes it. It must never be
//! printed or stored.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::api::template::Personalize;
use crate::fly::wire;
use crate::plan::machine;
use crate::reconcile::objects::Objects;

/// Writes standard input to the file `$0`, whole or not at all and for its owner only. Then it runs what follows its first two
/// arguments, and then the first, which is a quoted command, until that ends with 0 or as many seconds have gone by as the second
/// says. Where machines are processes, the file is below the machine's directory.
const WRITE: &str = r#"set -e; umask 077; f="${HANGAR_ROOT:-}$0"; mkdir -p "${f%/*}"; cat > "$f.new"; sync "$f.new" 2>/dev/null || sync; mv -f "$f.new" "$f"
ready=$1; seconds=$2; shift 2
[ $# -eq 0 ] || "$@"
[ -n "$ready" ] || exit 0
end=$(($(date +%s) + seconds))
until eval "$ready"; do [ "$(date +%s)" -lt "$end" ] || exit 124; sleep 0.2 2>/dev/null || sleep 1; done"#;
/// Seconds that writing and the command may take.
const TIMEOUT_S: u64 = 10;

/// The file's content. Version 1 of its format, which docs/pools.md describes.
#[derive(Serialize)]
struct File<'a> {
    version: u32,
    environment: &'a str,
    namespace: &'a str,
    uid: &'a str,
    owner: Option<&'a str>,
    hostnames: Vec<&'a str>,
    /// What the machine's environment variables would be, but for its port.
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

/// The text of a personalize file; it has secrets in it.
pub(crate) struct Personal {
    text: String,
    has_secrets: bool,
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(…)")
    }
}

impl Personal {
    /// From what was read of an environment.
    pub(crate) fn gather(objects: &Objects) -> Self {
        let environment = &objects.environment.value;
        let mut secrets = BTreeMap::new();
        for secret in objects.secrets.values().flatten() {
            for key in secret.data.keys() {
                let value = secret.value(key).and_then(|it| String::from_utf8(it).ok());
                secrets.extend(value.map(|it| (key.clone(), it)));
            }
        }
        let epoch = objects.bay.as_ref().map_or(0, |it| it.value.status.epoch);
        let template = objects.template.as_ref();
        let env = template.map(|it| machine::personal_env(environment, it, epoch));
        let file = File {
            version: 1,
            environment: &environment.metadata.name,
            namespace: environment.metadata.namespace.as_deref().unwrap_or_default(),
            uid: &environment.metadata.uid,
            owner: environment.spec.owner.as_deref(),
            hostnames: environment.hostnames(),
            env: env.unwrap_or_default(),
            secrets,
        };
        let has_secrets = !file.secrets.is_empty();
        // Strings in maps always serialise; an empty file would fail whoever reads it.
        let text = serde_json::to_string_pretty(&file).unwrap_or_default() + "\n";
        Self { text, has_secrets }
    }

    /// Whether there is a secret in it.
    pub(crate) fn has_secrets(&self) -> bool {
        self.has_secrets
    }

    /// The call that writes it, and sees that it was taken over.
    pub(crate) fn exec(&self, rule: &Personalize) -> wire::Exec {
        let (ready, ready_s) = rule.readiness.as_ref().map_or((String::new(), 0), |it| {
            (quoted(&it.exec.command), it.timeout.as_ref().map_or(10, |it| it.get().as_secs()))
        });
        let seconds = ready_s.to_string();
        let line = ["sh", "-c", WRITE, &rule.file, &ready, &seconds].map(str::to_owned);
        let command = rule.exec.iter().flat_map(|it| it.command.iter().cloned());
        wire::Exec {
            command: line.into_iter().chain(command).collect(),
            stdin: Some(self.text.clone()),
            timeout: Some(TIMEOUT_S + ready_s),
            ..wire::Exec::default()
        }
    }
}

/// As a shell reads it again word for word.
fn quoted(command: &[String]) -> String {
    let words = command.iter().map(|it| format!("'{}'", it.replace('\'', r"'\''")));
    words.collect::<Vec<_>>().join(" ")
}
