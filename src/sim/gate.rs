//! Where a controller's life may end: the places around each commit and each call that changes something. A gate belongs to
//! one life of the controller; after its end, whoever comes to it waits for ever. It must never decide when to strike: it
//! is told.

use std::{
    collections::BTreeSet,
    future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, time::Instant};

pub use crate::failpoint::Boundary;

/// A boundary that was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Which.
    pub boundary: Boundary,
    /// The call, or the keys of the commit.
    pub what: String,
    /// When.
    pub at: Instant,
}

/// The count of boundaries over all lives of a controller, and which of them are struck.
#[derive(Debug, Default)]
pub struct Strikes {
    crossed: AtomicU64,
    at: Mutex<BTreeSet<u64>>,
    log: Mutex<Vec<Crossing>>,
}

impl Strikes {
    /// Strikes at these boundaries, counted from 0.
    #[must_use]
    pub fn at(at: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Arc::new(Self { at: Mutex::new(at.into_iter().collect()), ..Self::default() })
    }

    /// What was crossed so far, in order.
    #[must_use]
    pub fn log(&self) -> Vec<Crossing> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn crosses(&self, boundary: Boundary, what: &str) -> bool {
        let number = self.crossed.fetch_add(1, Ordering::Relaxed);
        let crossing = Crossing { boundary, what: what.to_owned(), at: Instant::now() };
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(crossing);
        self.at.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }
}

/// One life of the controller.
#[derive(Debug)]
pub(crate) struct Gate {
    alive: AtomicBool,
    strikes: Arc<Strikes>,
    struck: Notify,
}

impl Gate {
    pub(crate) fn new(strikes: Arc<Strikes>) -> Arc<Self> {
        Arc::new(Self { alive: AtomicBool::new(true), strikes, struck: Notify::new() })
    }

    /// Crosses a boundary, or dies at it.
    pub(crate) async fn cross(&self, boundary: Boundary, what: &str) {
        if self.is_alive() && self.strikes.crosses(boundary, what) {
            self.kill();
        }
        self.live().await;
    }

    /// Returns if this life goes on.
    pub(crate) async fn live(&self) {
        if !self.is_alive() {
            future::pending().await
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Ends this life.
    pub(crate) fn kill(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.struck.notify_one();
    }

    /// Returns when this life was ended.
    pub(crate) async fn struck(&self) {
        self.struck.notified().await;
    }
}
