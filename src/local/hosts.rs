//! The hardware that machines and volumes are on: a few hosts in each region, told apart only by what befalls them. It must
//! never know what befalls them.

/// Hosts in each region.
const PER_REGION: u64 = 3;

/// The hosts of a region in the order in which something with this id tries them.
pub(super) fn order(region: &str, id: &str) -> Vec<String> {
    let hash = blake3::hash(id.as_bytes());
    let first = u64::from(hash.as_bytes()[0]) % PER_REGION;
    (0..PER_REGION).map(|it| format!("{region}-{}", (first + it) % PER_REGION + 1)).collect()
}

/// The first of them.
pub(super) fn first(region: &str, id: &str) -> String {
    order(region, id).into_iter().next().unwrap_or_default()
}

/// What the API tells of a host, as the `zone` of its volumes.
pub(super) fn zone(host: &str) -> String {
    blake3::hash(host.as_bytes()).to_hex().chars().take(4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tries_every_host_of_its_region_once_and_ids_spread() {
        let mut firsts = std::collections::BTreeSet::new();
        for id in 0..50 {
            let mut order = order("ams", &id.to_string());
            firsts.insert(order[0].clone());
            order.sort();
            assert_eq!(order, ["ams-1", "ams-2", "ams-3"]);
        }
        assert_eq!(firsts.len(), 3);
    }
}
