//! The parts of a life as a careless controller has them: each is the real one, or that with a planted mistake in front of
//! it. It must never change a part whose mistake was not asked for.

mod feed;
mod pools;
mod store;
mod wire;

use std::{sync::Arc, time::Duration};

use http::Method;

use crate::{
    clock::Clock,
    fly::{
        call::{ALL, Route},
        transport::Transport,
    },
    router::feed::Source,
    sim::mistakes::Mistake,
    store::Backend,
    telemetry::journal::Journal,
};

/// For how long something is taken for gone.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// What stands between hangar and Fly.
pub(crate) fn transport(
    plant: Option<Mistake>,
    inner: Arc<dyn Transport>,
    clock: Arc<dyn Clock>,
    journal: Journal,
) -> Arc<dyn Transport> {
    match plant {
        Some(mistake) => Arc::new(wire::Wire::new(mistake, inner, clock, journal)),
        None => inner,
    }
}

/// What stands between hangar and its disk.
pub(crate) fn store(
    plant: Option<Mistake>,
    inner: Arc<dyn Backend>,
    clock: Arc<dyn Clock>,
) -> Arc<dyn Backend> {
    match plant {
        Some(mistake) => Arc::new(store::Store::new(mistake, inner, clock)),
        None => inner,
    }
}

/// What stands between the store and the router.
pub(crate) fn source(plant: Option<Mistake>, inner: Box<dyn Source>) -> Box<dyn Source> {
    match plant {
        Some(mistake) => Box::new(feed::Careless::new(mistake, inner)),
        None => inner,
    }
}

/// How much of what was acknowledged last a power cut takes.
pub(crate) fn unsynced(plant: Option<Mistake>) -> Option<Duration> {
    match plant? {
        // As long as Linux keeps pages that nobody synced.
        Mistake::SkipSync => Some(Duration::from_secs(30)),
        Mistake::AcknowledgeEarly => Some(Duration::from_millis(5)),
        _ => None,
    }
}

/// The call that a request is, if hangar makes such calls.
pub(crate) fn route(method: &Method, path: &str) -> Option<&'static Route> {
    let matches = |template: &str| {
        let (is, should): (Vec<_>, Vec<_>) =
            (path.split('/').collect(), template.split('/').collect());
        is.len() == should.len()
            && is.iter().zip(should).all(|(is, should)| *is == should || should.starts_with('{'))
    };
    ALL.into_iter().find(|it| it.method == *method && matches(it.template))
}
