//! When pictures came, and when they stood still, as WebRTC's `freezeCount` has it: the time between two pictures is more
//! than three times the average of the last 30, and more than that average and 150 ms. Counted from when the picture has
//! first been steady. Pure: the time goes in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Pictures are steady when no gap has been longer than this for that long.
const CALM_GAP: Duration = Duration::from_millis(250);
const CALM_FOR: Duration = Duration::from_secs(1);
/// The average that a freeze is measured by is over so many pictures (as in libwebrtc).
const AVERAGED: usize = 30;
const FREEZE_MORE: Duration = Duration::from_millis(150);
/// A picture that has stood still for so long does not move.
const LATELY: Duration = Duration::from_secs(2);

/// The times between pictures.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
    calm_since: Option<Instant>,
    /// When the first second without a gap began.
    pub(crate) steady_since: Option<Instant>,
    /// When steadiness was sure: freezes are counted from here.
    pub(crate) watched_from: Option<Instant>,
    intervals: VecDeque<Duration>,
    sum: Duration,
    pub(crate) freezes: u64,
    /// Time in freezes.
    pub(crate) frozen: Duration,
}

impl Pace {
    /// A picture can be shown.
    pub(crate) fn frame(&mut self, now: Instant) {
        self.judge(now);
        let last = self.last.replace(now);
        if self.watched_from.is_some() {
            let interval = last.map_or(Duration::ZERO, |last| now - last);
            self.intervals.push_back(interval);
            self.sum += interval;
            if self.intervals.len() > AVERAGED {
                self.sum -= self.intervals.pop_front().unwrap_or_default();
            }
            return;
        }
        if last.is_none_or(|last| now - last > CALM_GAP) {
            self.calm_since = Some(now);
        }
        if let Some(since) = self.calm_since
            && now - since >= CALM_FOR
        {
            self.steady_since = Some(since);
            self.watched_from = Some(now);
        }
    }

    /// The average between the last pictures, once they are steady.
    pub(crate) fn average(&self) -> Option<Duration> {
        (!self.intervals.is_empty()).then(|| self.sum / self.intervals.len() as u32)
    }

    /// Whether there was a picture lately.
    pub(crate) fn is_moving(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < LATELY)
    }

    fn judge(&mut self, now: Instant) {
        let (Some(last), Some(average)) = (self.last, self.average()) else { return };
        let interval = now - last;
        if interval > (3 * average).max(average + FREEZE_MORE) {
            self.freezes += 1;
            self.frozen += interval;
        }
    }

    /// It is over: a picture that stands still at the end is a freeze too.
    pub(crate) fn end(&mut self, now: Instant) {
        self.judge(now);
    }

    /// For how long it has been watched.
    pub(crate) fn watched(&self, now: Instant) -> Duration {
        self.watched_from.map_or(Duration::ZERO, |from| now.saturating_duration_since(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freezes_are_gaps_beyond_the_rule_once_the_picture_is_steady() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let mut show = |pace: &mut Pace, after_ms: u64| {
            now += Duration::from_millis(after_ms);
            pace.frame(now);
            now
        };
        show(&mut pace, 0);
        show(&mut pace, 2_000);
        assert_eq!((pace.freezes, pace.steady_since), (0, None), "not steady yet, so nothing freezes");
        for _ in 0..60 {
            show(&mut pace, 33);
        }
        assert!(pace.steady_since.is_some());
        show(&mut pace, 150);
        assert_eq!(pace.freezes, 0);
        let last = show(&mut pace, 250);
        assert_eq!((pace.freezes, pace.frozen), (1, Duration::from_millis(250)));
        assert!(pace.is_moving(last + Duration::from_millis(1_999)) && !pace.is_moving(last + LATELY));
        pace.end(last + Duration::from_secs(1));
        assert_eq!(pace.freezes, 2, "it ended standing still");
    }
}
