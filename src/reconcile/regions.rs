//! Regions that had no room, for all environments together: one that was refused is enough, and when it is time to ask again
//! one asks for all. Data only, time is passed in; it must never choose a region.

use std::collections::HashMap;

use jiff::SignedDuration;

use crate::api::bay::FullRegion;
use crate::clock::Timestamp;

/// How long one that asks for all has to come back with an answer.
const PROBE: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug)]
struct Entry<K> {
    retry_at: Timestamp,
    /// Who asks for all, and since when.
    probe: Option<(K, Timestamp)>,
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
        let entry = Entry { retry_at, probe: None };
        self.0.insert((region.to_owned(), size.to_owned()), entry);
    }

    /// A region had room for this size.
    pub(crate) fn made(&mut self, region: &str, size: &str) {
        self.0.remove(&(region.to_owned(), size.to_owned()));
    }

    /// Regions that this one must not ask for this size now. Of those that are due, the first asker is let through.
    pub(crate) fn full(&mut self, key: &K, size: &str, now: Timestamp) -> Vec<FullRegion> {
        let mut full = Vec::new();
        for ((region, wanted), entry) in &mut self.0 {
            if wanted != size {
                continue;
            }
            let mut retry_at = entry.retry_at;
            if retry_at <= now {
                match &entry.probe {
                    Some((other, since)) if other != key && now < *since + PROBE => {
                        retry_at = *since + PROBE;
                    }
                    Some((own, since)) if own == key && now < *since + PROBE => continue,
                    Some(_) | None => {
                        entry.probe = Some((key.clone(), now));
                        continue;
                    }
                }
            }
            let size = Some(size.to_owned());
            full.push(FullRegion { region: region.clone(), retry_at, size });
        }
        full.sort_by(|a, b| a.region.cmp(&b.region));
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn names(regions: &mut Regions<u32>, key: u32, size: &str, second: i64) -> Vec<String> {
        regions.full(&key, size, at(second)).into_iter().map(|it| it.region).collect()
    }

    #[test]
    fn a_thousand_ask_a_full_region_once() {
        let mut regions = Regions::new();
        regions.refused("ams", "small", at(600));
        let asked = |regions: &mut Regions<u32>, second| {
            (0..1_000).filter(|key| names(regions, *key, "small", second).is_empty()).count()
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
        assert!(names(&mut regions, 1, "small", 1).is_empty());
        assert_eq!(names(&mut regions, 2, "small", 2), ["ams"]);
        assert!(names(&mut regions, 2, "small", 61).is_empty());
        assert_eq!(names(&mut regions, 1, "small", 62), ["ams"]);
    }

    #[test]
    fn another_size_may_fit() {
        let mut regions = Regions::new();
        regions.refused("ams", "large", at(600));
        assert!(names(&mut regions, 1, "small", 1).is_empty());
        assert_eq!(names(&mut regions, 1, "large", 1), ["ams"]);
    }
}
