//! Turns of writers that were in one another's way: whoever was too late once waits for the others who were, so that of many
//! writers of one object none is refused because it never was the first. It must never be needed for what is stored to be right.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio::sync::{Mutex, MutexGuard};

use crate::api::meta::ObjectRef;

/// Objects that share a turn wait for one another without need, which is rare enough.
const TURNS: usize = 64;

/// One for every few objects.
#[derive(Debug)]
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Turns {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }

    /// Waits for an object's turn, and has it until this is dropped.
    pub(super) async fn take(&self, object: &ObjectRef) -> Option<MutexGuard<'_, ()>> {
        let mut hasher = DefaultHasher::new();
        object.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        Some(self.0.get(at)?.lock().await)
    }
}
