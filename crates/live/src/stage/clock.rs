//! The gate's clock, read here.
//!
//! "Server time" is the time of whoever decides about stock, not that of this machine. Every answer of the gate carries
//! it; between answers it is carried forward by the monotonic clock.

use std::time::Instant;

use haul_model::{Now, UnixMillis};

/// A reading older than the estimate by more than this is believed: the gate's clock was set back. One that is older
/// by less was late on its way.
const BELIEVED_STEP_MS: u64 = 1_000;

/// An estimate of the gate's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GateClock {
    read: UnixMillis,
    at: Instant,
}

impl GateClock {
    /// Until the gate has answered, this machine's clock must do.
    pub(crate) fn new(now: Now) -> Self {
        Self { read: now.wall, at: now.instant }
    }

    /// The gate's clock now.
    pub(crate) fn now(&self, now: Now) -> UnixMillis {
        self.read + now.instant.saturating_duration_since(self.at)
    }

    /// The instant at which the gate's clock will show `time`; now, if it did before.
    pub(crate) fn instant_of(&self, time: UnixMillis, now: Now) -> Instant {
        now.instant + time.saturating_since(self.now(now))
    }

    /// The gate has answered that it was `reading` when it decided. The answer took a while to arrive, so the true
    /// time is never before it, and the latest estimate is the best.
    pub(crate) fn observe(&mut self, reading: UnixMillis, now: Now) {
        let estimate = self.now(now);
        if reading > estimate || estimate.0 - reading.0 > BELIEVED_STEP_MS {
            *self = Self { read: reading, at: now.instant };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::start;

    #[test]
    fn the_gates_clock_wins_over_this_machines() {
        let now = start();
        let mut clock = GateClock::new(now);
        let gate = now.wall + Duration::from_secs(300);
        clock.observe(gate, now);
        assert_eq!(clock.now(now), gate);
        let later = now.after(Duration::from_secs(2));
        assert_eq!(clock.now(later), gate + Duration::from_secs(2));
        clock.observe(gate + Duration::from_millis(1_500), later);
        assert_eq!(clock.now(later), gate + Duration::from_secs(2), "an answer that was late on its way");
        clock.observe(gate - Duration::from_secs(60), later);
        assert_eq!(clock.now(later), gate - Duration::from_secs(60), "a clock that was set back");
        assert_eq!(
            clock.instant_of(gate - Duration::from_secs(59), later),
            later.instant + Duration::from_secs(1)
        );
    }
}
