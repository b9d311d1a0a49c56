//! What a router hears whose controller is careless. It must never hear of what is not in the store.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, future, stream::BoxStream};
use serde_json::Value;

use crate::{
    router::feed::{Fed, Part, Source},
    sim::mistakes::Mistake,
};

/// A source with a mistake.
pub(super) struct Careless {
    mistake: Mistake,
    inner: Box<dyn Source>,
}

impl Careless {
    pub(super) fn new(mistake: Mistake, inner: Box<dyn Source>) -> Self {
        Self { mistake, inner }
    }
}

impl Source for Careless {
    fn stream(self: Box<Self>) -> BoxStream<'static, Fed> {
        let Self { mistake, inner } = *self;
        let first = Mutex::default();
        let told = move |fed| {
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            future::ready(told(mistake, fed, &mut first))
        };
        inner.stream().filter_map(told).boxed()
    }
}

/// What is told instead. `first` is what was told first of each environment.
fn told(mistake: Mistake, fed: Fed, first: &mut BTreeMap<String, Value>) -> Option<Fed> {
    let gone = |object: &Value| {
        object.pointer("/metadata/deletionTimestamp").is_some()
            || object.pointer("/status/releasedAt").is_some()
    };
    match (mistake, fed) {
        (Mistake::RouteToDeleted, Fed::Delete(_, _)) => None,
        (Mistake::RouteToDeleted, Fed::Apply(part, bytes)) => {
            let object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            (!gone(&object)).then_some(Fed::Apply(part, bytes))
        }
        (Mistake::RouteToOld | Mistake::RouteToOther, Fed::Apply(Part::Environments, bytes)) => {
            let mut object: Value = serde_json::from_slice(&bytes).unwrap_or_default();
            let uid = object["metadata"]["uid"].to_string();
            if let Some(bay) =
                object.pointer_mut("/status/bay").filter(|it| it.get("machine").is_some())
            {
                if mistake == Mistake::RouteToOld {
                    let first = first.entry(uid).or_insert_with(|| bay.clone());
                    bay["machine"] = first["machine"].clone();
                } else {
                    // All are the one that was told first.
                    *bay = first.entry(String::new()).or_insert_with(|| bay.clone()).clone();
                }
            }
            Some(Fed::Apply(Part::Environments, Bytes::from(object.to_string())))
        }
        (_, fed) => Some(fed),
    }
}
