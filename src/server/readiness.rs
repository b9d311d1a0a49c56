//! Whether every part of the process is ready to be used. A part that never said so is not. It must never know the parts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The gates that must be open. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

/// One part's own gate.
#[derive(Debug, Clone)]
pub struct Gate {
    name: &'static str,
    gates: Readiness,
}

impl Readiness {
    /// A new gate, which is closed.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate { name, gates: self.clone() };
        gate.close("it has not started yet");
        gate
    }

    /// Every gate with what keeps it closed.
    #[must_use]
    pub fn gates(&self) -> Vec<(&'static str, Result<(), String>)> {
        let gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().map(|(name, state)| (*name, state.clone())).collect()
    }

    fn set(&self, name: &'static str, state: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, state);
    }
}

impl Gate {
    /// The part is ready.
    pub fn open(&self) {
        self.gates.set(self.name, Ok(()));
    }

    /// The part is not ready, and why.
    pub fn close(&self, why: &str) {
        self.gates.set(self.name, Err(why.to_owned()));
    }
}
