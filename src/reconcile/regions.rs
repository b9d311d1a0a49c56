//! Regions that had no room, for all environments together: one that was refused is enough, and when it is time to ask again
//! one asks for all. Data only, time is passed in; it must never choose a region.

use std::collections::HashMap;

use jiff::SignedDuration;

use crate::api::bay::FullRegion;
use crate::clock::Timestamp;

/// How long one that asks for all has to come back with an answer.
const ASKED: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug)]
struct Entry<K> {
    retry_at: Timestamp,
    /// Who asked for all last, and when.
    asked: Option<(K, Timestamp)>,
}

/// The regions, by name and the size that did not fit.
#[derive(Debug)]
pub(crate) struct Regions<K>(HashMap<(String, String), Entry<K>>);

impl<K: Clone + PartialEq> Regions<K> {
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// A region had no room for this size.
    pub(crate) fn refused(&mut self, region: &str, size: &str, retry_at: Timestamp) {
        let entry = Entry { retry_at, asked: None };
        self.0.insert((region.to_owned(), size.to_owned()), entry);
    }

    /// A region had room for this size.
    pub(crate) fn made(&mut self, region: &str, size: &str) {
        self.0.remove(&(region.to_owned(), size.to_owned()));
    }

    /// Regions that this one must not ask for this size now. One that is due may be asked, by whoever does first.
    pub(crate) fn full(&self, key: &K, size: &str, now: Timestamp) -> Vec<FullRegion> {
        let its = self.0.iter().filter(|((_, wanted), _)| wanted == size);
        let full = its.filter_map(|((region, _), entry)| {
            let asked_at =
                entry.asked.as_ref().filter(|(by, _)| by != key).map(|(_, at)| *at + ASKED);
            let retry_at = asked_at.map_or(entry.retry_at, |at| at.max(entry.retry_at));
            let size = Some(size.to_owned());
            (now < retry_at).then(|| FullRegion { region: region.clone(), retry_at, size })
        });
        let mut full: Vec<_> = full.collect();
        full.sort_by(|a, b| a.region.cmp(&b.region));
        full
    }

    /// This one asks a region, for all: the others wait for the answer.
    pub(crate) fn asks(&mut self, key: &K, region: &str, size: &str, now: Timestamp) {
        if let Some(entry) = self.0.get_mut(&(region.to_owned(), size.to_owned())) {
            entry.asked = Some((key.clone(), now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    /// Whether this one may ask, and then does.
    fn asks(regions: &mut Regions<u32>, key: u32, region: &str, second: i64) -> bool {
        let full = regions.full(&key, "small", at(second));
        let free = full.iter().all(|it| it.region != region);
        if free {
            regions.asks(&key, region, "small", at(second));
        }
        free
    }

    #[test]
    fn a_thousand_ask_a_full_region_once() {
        let mut regions = Regions::new();
        regions.refused("ams", "small", at(600));
        let asked = |regions: &mut Regions<u32>, second| {
            (0..1_000).filter(|key| asks(regions, *key, "ams", second)).count()
        };
        assert_eq!(asked(&mut regions, 10), 0);
        assert_eq!(asked(&mut regions, 600), 1, "when it is time, one asks for all");
        assert_eq!(asked(&mut regions, 630), 1, "and may ask again");
        regions.refused("ams", "small", at(1_300));
        assert_eq!(asked(&mut regions, 700), 0);
        assert_eq!(asked(&mut regions, 1_300), 1);
        regions.made("ams", "small");
        assert_eq!(asked(&mut regions, 1_301), 1_000);
    }

    #[test]
    fn one_that_does_not_come_back_gives_its_turn_to_another() {
        let mut regions = Regions::new();
        regions.refused("ams", "small", at(0));
        assert!(asks(&mut regions, 1, "ams", 1));
        assert!(!asks(&mut regions, 2, "ams", 2));
        assert!(asks(&mut regions, 2, "ams", 61));
        assert!(!asks(&mut regions, 1, "ams", 62));
    }

    #[test]
    fn one_that_has_another_region_takes_nobodys_turn() {
        let mut regions = Regions::new();
        regions.refused("ams", "small", at(0));
        assert!(asks(&mut regions, 1, "fra", 1));
        assert!(asks(&mut regions, 2, "ams", 2));
    }

    #[test]
    fn another_size_may_fit() {
        let mut regions = Regions::<u32>::new();
        regions.refused("ams", "large", at(600));
        assert!(regions.full(&1, "small", at(1)).is_empty());
        assert_eq!(regions.full(&1, "large", at(1)).len(), 1);
    }
}
