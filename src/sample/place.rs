//! Where the app runs, as its environment tells. It must never hold a variable that looks like a secret, save the fence's
//! key, which it never shows.

use std::{collections::BTreeMap, path::PathBuf};

/// A variable whose name contains one of these is not shown.
const SECRET_NAMES: &[&str] = &["KEY", "SECRET", "TOKEN", "PASS", "CREDENTIAL"];

/// What the environment says.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) environment: String,
    pub(super) app: String,
    pub(super) machine: String,
    pub(super) region: String,
    pub(super) epoch: String,
    pub(super) volume: PathBuf,
    /// What a replayed request must carry.
    pub(super) bay_key: Option<String>,
    /// Everything that may be shown.
    pub(super) env: BTreeMap<String, String>,
    /// How many variables are not.
    pub(super) hidden: usize,
}

impl Place {
    pub(super) fn from_env(variables: impl Iterator<Item = (String, String)>) -> Self {
        let all: BTreeMap<String, String> = variables.collect();
        let get = |name: &str| all.get(name).cloned().unwrap_or_default();
        let volume = all.get("HANGAR_VOLUME").map_or("/data", String::as_str);
        let env: BTreeMap<String, String> = all
            .iter()
            .filter(|(name, value)| !secret(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        Self {
            environment: get("HANGAR_ENVIRONMENT"),
            app: get("FLY_APP_NAME"),
            machine: get("FLY_MACHINE_ID"),
            region: get("FLY_REGION"),
            epoch: get("HANGAR_EPOCH"),
            volume: PathBuf::from(volume),
            bay_key: all.get("HANGAR_BAY_KEY").cloned(),
            hidden: all.len() - env.len(),
            env,
        }
    }
}

fn secret(name: &str, value: &str) -> bool {
    let name = name.to_ascii_uppercase();
    // `postgres://user:password@host` goes by many names.
    let has_login = value.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
    has_login || SECRET_NAMES.iter().any(|it| name.contains(it))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(env: &[(&str, &str)]) -> Place {
        Place::from_env(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn what_looks_secret_is_counted_and_not_kept() {
        let place = place(&[
            ("GREETING", "hello"),
            ("API_TOKEN", "x"),
            ("my_secret", "x"),
            ("DB_PASSWORD", "x"),
            ("HANGAR_BAY_KEY", "k"),
            ("DATABASE_URL", "postgres://me:pw@db/x"),
            ("HOMEPAGE", "https://example.com/"),
        ]);
        assert_eq!(place.env.keys().collect::<Vec<_>>(), ["GREETING", "HOMEPAGE"]);
        assert_eq!((place.hidden, place.bay_key.as_deref()), (5, Some("k")));
    }

    #[test]
    fn the_volume_is_where_the_driver_says_or_where_fly_mounts_it() {
        assert_eq!(place(&[]).volume, PathBuf::from("/data"));
        assert_eq!(place(&[("HANGAR_VOLUME", "/v")]).volume, PathBuf::from("/v"));
    }
}
