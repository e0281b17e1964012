//! What one viewer's network is behind with, as far as we know: what was sent and can't have got through yet. Pictures
//! that would come late are better not sent at all.

use std::time::{Duration, Instant};

/// How late a frame may come. Enough for a keyframe of nine usual frames on a link that the stream just fits, and no more
/// than the queues of slow links hold: what does not fit there is lost, sound included.
pub const MAX_LATE: Duration = Duration::from_millis(300);
/// How far the debt must have fallen before pictures go on.
const PAID: Duration = Duration::from_millis(100);

/// A bucket that empties at the rate of the estimate.
#[derive(Debug)]
pub struct Budget {
    /// Bits that are on their way.
    debt: f64,
    /// The debt that a keyframe left: what follows it may go out, or the keyframe was for nothing.
    borne: f64,
    at: Instant,
}

impl Budget {
    /// Nothing was sent.
    pub fn new(now: Instant) -> Self {
        Self { debt: 0.0, borne: 0.0, at: now }
    }

    /// So many bytes were sent.
    pub fn sent(&mut self, bytes: usize) {
        self.debt += bytes as f64 * 8.0;
    }

    /// The last that was sent was a keyframe, and was worth it: as long as debt does not grow beyond it, it is borne.
    pub fn bear(&mut self) {
        self.borne = self.debt;
    }

    /// How long what is on its way takes to get there.
    pub fn late(&mut self, now: Instant, rate_bps: u64) -> Duration {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        let rate = rate_bps.max(1) as f64;
        // What has been paid off and what can't be any more are both forgotten.
        let most = 8.0 * MAX_LATE.as_secs_f64() * rate;
        self.debt = (self.debt - rate * elapsed).clamp(0.0, most);
        Duration::from_secs_f64(self.debt / rate)
    }

    /// Whether a picture may go out that follows one that did.
    pub fn admits(&mut self, now: Instant, rate_bps: u64) -> bool {
        if self.late(now, rate_bps) <= MAX_LATE {
            self.borne = 0.0;
            return true;
        }
        self.debt <= self.borne
    }

    /// Whether pictures may go on after they were stopped.
    pub fn is_paid(&mut self, now: Instant, rate_bps: u64) -> bool {
        self.late(now, rate_bps) <= PAID
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn what_fits_is_never_stopped_and_what_does_not_is_soon() {
        let now = start().instant;
        let stopped_after = |bitrate_bps: u64| {
            let mut budget = Budget::new(now);
            (0..300_u32).find(|frame| {
                budget.sent((bitrate_bps / 8 / 30) as usize);
                !budget.admits(now + *frame * Duration::from_nanos(33_333_333), 1_000_000)
            })
        };
        assert_eq!(stopped_after(1_000_000), None);
        let frames = stopped_after(1_500_000).unwrap();
        assert!((14..26).contains(&frames), "300 ms behind after 0.6 s: {frames}");
    }

    #[test]
    fn a_keyframe_is_borne_while_what_follows_it_fits() {
        let now = start().instant;
        let stopped_after = |bitrate_bps: u64| {
            let mut budget = Budget::new(now);
            budget.sent(100_000);
            budget.bear();
            (1..60_u32).find(|frame| {
                let stops = !budget.admits(now + *frame * Duration::from_nanos(33_333_333), 1_000_000);
                budget.sent((bitrate_bps / 8 / 30) as usize);
                stops
            })
        };
        assert_eq!(stopped_after(900_000), None, "800 ms late, and catching up");
        assert!(stopped_after(1_100_000).is_some_and(|frames| frames < 15));
    }

    #[test]
    fn a_debt_is_paid_off_in_time() {
        let now = start().instant;
        let mut budget = Budget::new(now);
        budget.sent(1_000_000);
        assert!(!budget.admits(now, 1_000_000), "eight seconds' worth");
        assert!(!budget.is_paid(now + Duration::from_secs(2), 1_000_000));
        assert!(budget.is_paid(now + Duration::from_millis(2_400), 1_000_000), "old debts are written off");
    }
}
