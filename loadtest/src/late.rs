//! Pictures that come later than they are due. Due is a stamped picture when it would have come with the shortest delay
//! that this viewer has seen lately; late is one that comes after that by more than WebRTC's rule of freezes permits a gap
//! to be longer than the average one: 150 ms, or twice that average (see `pace`). What comes steadily late is no freeze, and
//! is not lost either: without this, nothing would tell of it. Pure: the times go in.

use std::time::{Duration, Instant};

/// As in the rule of freezes: what a gap may be beyond the average one.
const MORE: Duration = Duration::from_millis(150);
/// The shortest delay is looked for in so long: clocks drift, and paths change.
const LATELY: Duration = Duration::from_secs(30);
/// No gap between two stamped pictures counts for more: a longer one is an outage, and its freeze is told by itself.
const MOST: Duration = Duration::from_secs(2);

/// One viewer's.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// When the last stamped picture came, and when that was sent.
    last: Option<(Instant, Duration)>,
    /// The shortest delay of each half of the time that is looked back upon, and when the later half began.
    shortest: [Option<Duration>; 2],
    half: Option<Instant>,
    /// For how long pictures were looked at, and were late.
    pub(crate) watched: Duration,
    pub(crate) late: Duration,
}

impl Lateness {
    /// A stamped picture has come that was sent then (since 1970) and was so long under way. `gap` is the average between
    /// pictures.
    pub(crate) fn picture(&mut self, sent: Duration, delay: Duration, gap: Duration, now: Instant) {
        let half = *self.half.get_or_insert(now);
        if now.saturating_duration_since(half) > LATELY / 2 {
            self.half = Some(now);
            self.shortest = [self.shortest[1], None];
        }
        self.shortest[1] = Some(self.shortest[1].map_or(delay, |shortest| shortest.min(delay)));
        let shortest = self.shortest.into_iter().flatten().min().unwrap_or(delay);
        // Several layers and resent packets may bring a stamp that is older, or the same once more.
        let Some((came, before)) = self.last else {
            self.last = Some((now, sent));
            return;
        };
        if sent <= before {
            return;
        }
        self.last = Some((now, sent));
        let passed = now.saturating_duration_since(came).min(MOST);
        self.watched += passed;
        if delay - shortest > MORE.max(2 * gap) {
            self.late += passed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pictures, each stamped and so long under way. Returns when the next one is sent.
    fn watch(
        lateness: &mut Lateness,
        from_ms: u64,
        every_ms: u64,
        delays_ms: impl Iterator<Item = u64>,
        start: Instant,
    ) -> u64 {
        let mut sent = from_ms;
        for delay in delays_ms {
            let (at, delay) = (Duration::from_millis(sent), Duration::from_millis(delay));
            lateness.picture(at, delay, Duration::from_millis(every_ms), start + at + delay);
            sent += every_ms;
        }
        sent
    }

    #[test]
    fn what_comes_in_time_is_not_late_whatever_the_delay() {
        for base in [1, 400, 5_000] {
            let mut lateness = Lateness::default();
            watch(&mut lateness, 0, 33, (0..300).map(|at| base + at % 7 * 20), Instant::now());
            assert_eq!(lateness.late, Duration::ZERO, "{base}");
            assert!(lateness.watched > Duration::from_secs(9));
        }
    }

    #[test]
    fn steadily_late_pictures_are_late_though_nothing_freezes() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let sent = watch(&mut lateness, 0, 33, std::iter::repeat_n(10, 100), start);
        let sent = watch(&mut lateness, sent, 33, std::iter::repeat_n(200, 100), start);
        let late = lateness.late;
        assert!(late > Duration::from_millis(3_200) && late < Duration::from_millis(3_600), "{late:?}");
        watch(&mut lateness, sent, 33, std::iter::repeat_n(10, 100), start);
        assert_eq!(lateness.late, late, "in time again");
    }

    #[test]
    fn few_pictures_a_second_may_be_two_of_their_gaps_late() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        watch(&mut lateness, 0, 200, (0..40).map(|at| 10 + at % 2 * 350), start);
        assert_eq!(lateness.late, Duration::ZERO);
    }

    #[test]
    fn another_path_is_not_late_for_ever() {
        let (mut lateness, start) = (Lateness::default(), Instant::now());
        let sent = watch(&mut lateness, 0, 33, std::iter::repeat_n(10, 100), start);
        let sent = watch(&mut lateness, sent, 33, std::iter::repeat_n(300, 1_200), start);
        let late = lateness.late;
        watch(&mut lateness, sent, 33, std::iter::repeat_n(300, 300), start);
        assert_eq!(lateness.late, late, "by now it is the shortest there is");
        assert!(late < LATELY + Duration::from_secs(2), "{late:?}");
    }
}
