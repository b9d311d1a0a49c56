//! What `GET /metrics` tells. Labels are templates and numbers, never names from a request.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    kind: &'static str,
}

/// The counters.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter<u64, AtomicU64>>,
    faults: Family<FaultLabels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        // The encoder appends `_total`.
        registry.register(
            "hangar_local_requests",
            "Requests to the local Machines API",
            Family::clone(&requests),
        );
        let faults = Family::default();
        registry.register(
            "hangar_local_faults",
            "Faults on purpose that came true",
            Family::clone(&faults),
        );
        Self { registry, requests, faults }
    }

    pub(super) fn fault(&self, kind: &'static str) {
        self.faults.get_or_create(&FaultLabels { kind }).inc();
    }

    /// Status 0 stands for an answer that was never sent.
    pub(super) fn count(&self, method: &'static str, route: &'static str, status: u16) {
        self.requests.get_or_create(&Labels { method, route, status }).inc();
    }

    /// The text of `GET /metrics`.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }
}
