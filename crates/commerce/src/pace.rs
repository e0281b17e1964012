//! Whether the clock that decides about deadlines goes as time does.
//!
//! Opening, closing and every deadline are by the gate's clock. Set forward by mistake, it would end thousands of holds in
//! one sweep, of buyers who are at their bank's page. So each process compares it with its own monotonic clock, and a
//! question that would be decided at a time which cannot be yet is refused before anything is done. The sale is frozen
//! until the clock is right again, or is believed after all.
//!
//! A clock that goes back needs no watch: a sale never goes back behind what it has written down.

use std::time::{Duration, Instant};

use haul_model::{Now, UnixMillis};

/// A clock may be ahead of what it should show by this much: synchronisation corrects by less.
pub const MAX_JUMP: Duration = Duration::from_secs(2);
/// A clock that stays where it has jumped to is believed after this time if this machine's own wall clock agrees with it:
/// then it was time that passed while this process stood still (a machine that was suspended), or both were corrected.
pub const BELIEVED_AFTER: Duration = Duration::from_secs(60);
/// What the clock showed is measured from for so long; then from a newer reading, so that two clocks which don't go
/// equally fast never seem to jump.
const MEASURED_FROM: Duration = Duration::from_secs(600);

/// One clock, as one process has seen it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// What it showed, and when. Of several readings the one that was furthest ahead.
    shown: Option<Reading>,
    /// Where it jumped to.
    jump: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    clock: UnixMillis,
    at: Instant,
}

impl Reading {
    fn later(&self, at: Instant) -> UnixMillis {
        self.clock + at.saturating_duration_since(self.at)
    }
}

impl Pace {
    /// The latest time that the clock can show for a question that is asked at `at` and answered at once. `None`: it was
    /// never read, and is believed.
    pub fn latest(&self, at: Instant) -> Option<UnixMillis> {
        self.shown.map(|shown| shown.later(at) + MAX_JUMP)
    }

    /// It showed this to a question that was asked at `at`, and was believed.
    pub fn saw(&mut self, clock: UnixMillis, at: Instant) {
        let keep = |shown: Reading| {
            shown.later(at) >= clock && at.saturating_duration_since(shown.at) < MEASURED_FROM
        };
        if !self.shown.is_some_and(keep) {
            self.shown = Some(Reading { clock, at });
        }
        self.jump = None;
    }

    /// It showed this, later than [`Pace::latest`], and nothing was done. Gives by how many milliseconds it is ahead.
    pub fn jumped(&mut self, clock: UnixMillis, now: Now) -> u64 {
        let goes_on =
            |jump: &Reading| clock.0.abs_diff(jump.later(now.instant).0) <= MAX_JUMP.as_millis() as u64;
        let jump = *self.jump.take_if(|jump| goes_on(jump)).get_or_insert(Reading { clock, at: now.instant });
        self.jump = Some(jump);
        let ahead = self.shown.map_or(0, |shown| clock.0.saturating_sub(shown.later(now.instant).0));
        let lasts = now.instant.saturating_duration_since(jump.at) >= BELIEVED_AFTER;
        if lasts && clock.0.abs_diff(now.wall.0) <= MAX_JUMP.as_millis() as u64 {
            *self = Self { shown: Some(Reading { clock, at: now.instant }), jump: None };
        }
        ahead
    }

    /// Both at once, for a clock that is at hand: whether it may be used, or by how many milliseconds it is ahead.
    pub fn check(&mut self, clock: UnixMillis, now: Now) -> Result<(), u64> {
        match self.latest(now.instant) {
            Some(latest) if clock > latest => Err(self.jumped(clock, now)),
            _ => {
                self.saw(clock, now.instant);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine whose clocks agree, and the gate's clock, so far ahead of them.
    struct Clocks {
        now: Now,
        pace: Pace,
    }

    impl Clocks {
        #[allow(clippy::disallowed_methods)]
        fn new() -> Self {
            Self {
                now: Now { instant: Instant::now(), wall: UnixMillis(1_700_000_000_000) },
                pace: Pace::default(),
            }
        }

        fn wait(&mut self, by: Duration) {
            self.now = self.now.after(by);
        }

        fn check(&mut self, ahead_ms: i64) -> Result<(), u64> {
            self.pace.check(UnixMillis(self.now.wall.0.saturating_add_signed(ahead_ms)), self.now)
        }
    }

    #[test]
    fn a_clock_that_goes_as_time_does_is_believed_whatever_it_shows() {
        let mut clocks = Clocks::new();
        for seconds in [0, 1, 59, 3_600, 86_400] {
            clocks.wait(Duration::from_secs(seconds));
            assert_eq!(clocks.check(300_000), Ok(()));
        }
    }

    #[test]
    fn a_jump_forward_is_refused_until_the_clock_is_back() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.check(0), Ok(()));
        clocks.wait(Duration::from_secs(10));
        assert_eq!(clocks.check(2_000), Ok(()), "as much may be corrected");
        assert_eq!(clocks.check(4_001), Err(2_001));
        for _ in 0..100 {
            clocks.wait(Duration::from_secs(10));
            assert_eq!(clocks.check(3_600_000), Err(3_598_000), "this machine's clock does not agree");
        }
        assert_eq!(clocks.check(0), Ok(()));
    }

    #[test]
    fn a_jump_that_lasts_is_believed_where_this_machine_stood_still() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.check(0), Ok(()));
        // Suspended for five minutes: its wall clock is right again, its monotonic clock saw none of it.
        clocks.now.wall.0 += 300_000;
        for _ in 0..6 {
            assert_eq!(clocks.check(0), Err(300_000));
            clocks.wait(Duration::from_secs(10));
        }
        assert_eq!(clocks.check(0), Err(300_000), "it is believed from the next question on");
        assert_eq!(clocks.check(0), Ok(()));
    }

    #[test]
    fn a_clock_that_jumps_about_is_never_believed() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.check(0), Ok(()));
        for round in 1..100 {
            clocks.wait(Duration::from_secs(30));
            assert!(clocks.check(10_000 * round).is_err());
        }
    }

    #[test]
    fn clocks_that_go_a_little_faster_never_seem_to_jump() {
        let mut clocks = Clocks::new();
        // A hundred parts in a million, for two days.
        for minute in 0..2_880 {
            assert_eq!(clocks.check(minute * 6), Ok(()));
            clocks.wait(Duration::from_secs(60));
        }
        // Nor does a slower one hide a jump.
        let mut clocks = Clocks::new();
        for minute in 0..2_880 {
            assert_eq!(clocks.check(-minute * 6), Ok(()));
            clocks.wait(Duration::from_secs(60));
        }
        assert!(clocks.check(-17_280 + 2_200).is_err());
    }
}
