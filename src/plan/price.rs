//! What things at Fly cost in a month: an estimate from Fly's published prices, in whole numbers. It must never be taken for
//! a bill.

/// A machine's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// `performance`, or else `shared`.
    pub performance: bool,
    /// CPUs.
    pub cpus: u32,
    /// Memory.
    pub memory_mib: u32,
}

/// Fly's month: 30 days.
const MONTH_SECONDS: u128 = 30 * 24 * 3_600;
/// A shared CPU with its 256 MiB, in the cheapest region.
const SHARED_CPU_NANODOLLARS_PER_SECOND: u64 = 750;
/// A performance CPU with its 2 GiB, in the cheapest region.
const PERFORMANCE_CPU_NANODOLLARS_PER_SECOND: u64 = 11_960;
/// A GiB of memory beyond what comes with the CPUs.
const MEMORY_NANODOLLARS_PER_GIB_SECOND: u64 = 1_930;
/// A provisioned GiB of a volume, attached or not.
const VOLUME_MICRODOLLARS_PER_GIB: u64 = 150_000;
/// Prices of regions, in thousandths of the cheapest. Published in August 2025.
const REGIONS_PERMILLE: [(&str, u128); 18] = [
    ("iad", 1_000),
    ("ewr", 1_000),
    ("ams", 1_038),
    ("arn", 1_038),
    ("bom", 1_077),
    ("yyz", 1_115),
    ("lhr", 1_135),
    ("cdg", 1_135),
    ("fra", 1_154),
    ("sjc", 1_192),
    ("lax", 1_200),
    ("ord", 1_250),
    ("dfw", 1_250),
    ("sin", 1_269),
    ("syd", 1_269),
    ("jnb", 1_303),
    ("nrt", 1_308),
    ("gru", 1_615),
];

/// A machine that runs all month. One that is stopped costs its root file system only, whose size no list tells: it is counted
/// as nothing.
#[must_use]
pub fn machine_monthly_microdollars(size: Size, region: &str, is_running: bool) -> u64 {
    if !is_running {
        return 0;
    }
    let cpus = u64::from(size.cpus);
    let (per_cpu, included_mib) = if size.performance {
        (PERFORMANCE_CPU_NANODOLLARS_PER_SECOND, 2_048)
    } else {
        (SHARED_CPU_NANODOLLARS_PER_SECOND, 256)
    };
    let extra_mib = u64::from(size.memory_mib).saturating_sub(cpus * included_mib);
    let known = REGIONS_PERMILLE.iter().find(|(name, _)| *name == region);
    let permille = known.map_or(1_000, |(_, permille)| *permille);
    // Memory is priced by the GiB, so all is counted in 1,024ths of a nanodollar until the end.
    let rate = u128::from(cpus * per_cpu) * 1_024
        + u128::from(extra_mib * MEMORY_NANODOLLARS_PER_GIB_SECOND);
    let microdollars = rate * MONTH_SECONDS * permille / 1_024 / 1_000 / 1_000;
    u64::try_from(microdollars).unwrap_or(u64::MAX)
}

/// A volume.
#[must_use]
pub fn volume_monthly_microdollars(size_gib: u32) -> u64 {
    u64::from(size_gib) * VOLUME_MICRODOLLARS_PER_GIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_what_fly_publishes() {
        let monthly = |performance, cpus, memory_mib, region| {
            let size = Size { performance, cpus, memory_mib };
            let cents = machine_monthly_microdollars(size, region, true) / 10_000;
            (cents / 100, cents % 100)
        };
        assert_eq!(monthly(false, 1, 256, "iad"), (1, 94));
        assert_eq!(monthly(false, 1, 1_024, "iad"), (5, 69));
        assert_eq!(monthly(false, 8, 16_384, "iad"), (85, 58));
        assert_eq!(monthly(true, 1, 2_048, "iad"), (31, 0));
        assert_eq!(monthly(true, 16, 131_072, "iad"), (976, 25));
        // The smallest one in San Jose, which Fly's documentation quotes as $2.32, and in Sydney, $2.47.
        assert_eq!(monthly(false, 1, 256, "sjc"), (2, 31));
        assert_eq!(monthly(false, 1, 256, "syd"), (2, 46));
        assert_eq!(monthly(false, 1, 256, "a region that is new"), (1, 94));
        let largest = Size { performance: true, cpus: u32::MAX, memory_mib: u32::MAX };
        let _no_overflow = machine_monthly_microdollars(largest, "gru", true);
        assert_eq!(machine_monthly_microdollars(Size::default(), "iad", false), 0);
        assert_eq!(volume_monthly_microdollars(10), 1_500_000);
    }
}
