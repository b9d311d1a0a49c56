//! What an environment adds to a machine that ran already when it was claimed: the personalize file, read again whenever it
//! changed. It must never fail a request because of that file.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::Deserialize;

use crate::sample::place::Place;

/// What the app needs of the file.
#[derive(Debug, Deserialize)]
struct File {
    env: BTreeMap<String, String>,
    secrets: BTreeMap<String, String>,
}

/// When the file was last changed, and how long it is: another file of the same name differs in one of these.
type Stamp = (SystemTime, u64);

/// Where the app runs, as its variables and the file tell.
#[derive(Debug)]
pub(super) struct Personal {
    file: Option<PathBuf>,
    variables: BTreeMap<String, String>,
    now: Mutex<(Option<Stamp>, Arc<Place>)>,
}

impl Personal {
    pub(super) fn new(variables: impl Iterator<Item = (String, String)>) -> Self {
        let variables: BTreeMap<String, String> = variables.collect();
        let root = variables.get("HANGAR_ROOT").cloned().unwrap_or_default();
        let file =
            variables.get("HANGAR_PERSONALIZE_FILE").map(|it| PathBuf::from(root + it.as_str()));
        let place = Place::from_env(variables.clone().into_iter());
        Self { file, variables, now: Mutex::new((None, Arc::new(place))) }
    }

    /// Where it runs now.
    pub(super) fn place(&self) -> Arc<Place> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.as_ref().and_then(|file| {
            let found = fs::metadata(file).ok()?;
            Some((found.modified().ok()?, found.len()))
        });
        if let (true, Some(place)) = (stamp.is_some() && stamp != now.0, self.read()) {
            *now = (stamp, Arc::new(place));
        }
        Arc::clone(&now.1)
    }

    fn read(&self) -> Option<Place> {
        let text = fs::read(self.file.as_ref()?).ok()?;
        let file: File = serde_json::from_slice(&text).ok()?;
        let mut variables = self.variables.clone();
        variables.extend(file.env);
        variables.extend(file.secrets);
        // Where it listens was decided when it started.
        variables.extend(self.variables.get_key_value("PORT").map(|(k, v)| (k.clone(), v.clone())));
        Some(Place::from_env(variables.into_iter()))
    }
}
