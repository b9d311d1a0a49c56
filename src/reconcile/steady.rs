//! Whether the wall clock was set lately, by the clock that nobody sets. It must never correct it.

use std::time::Duration;

use jiff::SignedDuration;

use crate::clock::Timestamp;

/// Less is a clock that is being corrected, and nobody's end comes early by it.
const SET: SignedDuration = SignedDuration::from_mins(1);
/// How long it is not relied on after that: whoever set it wrongly may put it right.
const SETTLES: Duration = Duration::from_secs(600);

/// The two clocks at the last look, and until when the wall clock is not relied on.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    last: Option<(Timestamp, Duration)>,
    doubted: Option<(Duration, String)>,
}

impl Steady {
    /// Takes in what both clocks show; why the wall clock is not to be relied on, if so.
    pub(crate) fn look(&mut self, wall: Timestamp, monotonic: Duration) -> Option<String> {
        if let Some((last, since)) = self.last {
            let passed = monotonic.saturating_sub(since);
            let expected = last.saturating_add(passed).unwrap_or(Timestamp::MAX);
            let by = wall.duration_since(expected);
            if by.abs() > SET {
                let why = format!(
                    "the clock was set by {by:#} to {wall:.0}; it is relied on when that is 10 minutes ago"
                );
                self.doubted = Some((monotonic + SETTLES, why));
            }
        }
        self.last = Some((wall, monotonic));
        self.doubted.take_if(|(until, _)| monotonic >= *until);
        self.doubted.as_ref().map(|(_, why)| why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[track_caller]
    fn check(looks: &[(i64, u64, bool)]) {
        let mut steady = Steady::default();
        for (wall, monotonic, doubted) in looks {
            let wall = Timestamp::from_second(1_800_000_000 + wall).unwrap();
            let said = steady.look(wall, Duration::from_secs(*monotonic));
            assert_eq!(said.is_some(), *doubted, "at {monotonic}: {said:?}");
        }
    }

    #[test]
    fn a_clock_that_goes_on_is_relied_on_however_seldom_it_is_looked_at() {
        check(&[(0, 0, false), (1, 1, false), (30 * DAY, 2_592_000, false)]);
        check(&[(0, 0, false), (50, 10, false), (20, 30, false)]);
    }

    #[test]
    fn a_clock_that_was_set_is_relied_on_ten_minutes_later() {
        let year = 365 * DAY;
        check(&[
            (0, 0, false),
            (year, 10, true),
            (year + 589, 599, true),
            (year + 600, 610, false),
        ]);
        // Set wrongly and put right: both count.
        check(&[
            (0, 0, false),
            (year, 10, true),
            (300, 300, true),
            (899, 899, true),
            (900, 900, false),
        ]);
    }

    #[test]
    fn what_it_is_said_to_be_names_how_far_it_was_set() {
        let mut steady = Steady::default();
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        assert_eq!(steady.look(at(0), Duration::ZERO), None);
        assert_eq!(
            steady.look(at(7_200), Duration::ZERO).unwrap(),
            "the clock was set by 2h to 2027-01-15T10:00:00Z; it is relied on when that is 10 minutes ago"
        );
    }
}
