//! Keyframe requests: many wishes, few requests. A keyframe costs the host several times a usual frame, and serves
//! everybody at once.

use std::time::{Duration, Instant};

/// Joins cause at most one request a layer in this time: a joiner starts from the GOP cache and does not wait for it. So
/// do those who change to a layer that is better than what they see.
pub const JOIN_INTERVAL: Duration = Duration::from_secs(2);

/// Lost pictures (a viewer's PLI, a hole on the way in) cause at most one request a layer in this time.
pub const LOSS_INTERVAL: Duration = Duration::from_millis(500);

/// A joiner whose cached GOP is younger than this needs no newer keyframe: it is at the live edge anyway.
pub const FRESH_GOP: Duration = Duration::from_millis(500);

/// So many of one viewer's complaints of a broken picture are passed on in quick succession.
pub const COMPLAINTS: u32 = 3;

/// And then one in this time. Everybody pays for a keyframe, so one bad line, or one bad player, must not order them for
/// all: its own layer choice is what helps it.
pub const COMPLAINT_INTERVAL: Duration = Duration::from_secs(2);

/// Why somebody wants a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Somebody joined.
    Join,
    /// Somebody is to be moved to this layer, and sees another until then.
    Switch,
    /// Somebody has a broken picture, or none.
    Loss,
}

/// Merges the wishes for one layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Throttle {
    /// When the source was last asked.
    asked: Option<Instant>,
    /// When it last delivered.
    delivered: Option<Instant>,
    /// A picture was lost after the keyframe that was asked for had come, so that another is needed, but it is too soon
    /// to ask.
    pending: bool,
}

impl Throttle {
    /// A keyframe has come.
    pub fn keyframe(&mut self, now: Instant) {
        self.delivered = Some(now);
        self.pending = false;
    }

    /// A frame has come, so time has passed. Whether to ask the source now, for what could not be asked earlier.
    pub fn due(&mut self, now: Instant) -> bool {
        self.pending && self.wish(Wish::Loss, now)
    }

    /// Whether to ask the source now. A wish that is not passed on is served by the request that was, or by one that
    /// [`Throttle::due`] makes later.
    pub fn wish(&mut self, wish: Wish, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let interval = match wish {
            Wish::Join | Wish::Switch => JOIN_INTERVAL,
            Wish::Loss => LOSS_INTERVAL,
        };
        let fresh = wish == Wish::Join && since(self.delivered).is_some_and(|age| age < FRESH_GOP);
        if fresh {
            return false;
        }
        if since(self.asked).is_some_and(|age| age < interval) {
            self.pending |= wish == Wish::Loss && self.delivered > self.asked;
            return false;
        }
        self.asked = Some(now);
        self.pending = false;
        true
    }
}

/// One viewer's complaints of a broken picture (PLI, FIR).
#[derive(Debug, Clone, Copy, Default)]
pub struct Complaints {
    /// So many were passed on and have not been forgiven yet.
    counted: u32,
    /// Since when they are being forgiven, one each [`COMPLAINT_INTERVAL`].
    since: Option<Instant>,
}

impl Complaints {
    /// Whether to pass one on now; if so, it is taken as passed on.
    pub fn allows(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let intervals = now.saturating_duration_since(since).as_micros() / COMPLAINT_INTERVAL.as_micros();
        let forgiven = u32::try_from(intervals).unwrap_or(u32::MAX).min(self.counted);
        self.counted -= forgiven;
        self.since = match self.counted {
            0 => Some(now),
            _ => Some(since + COMPLAINT_INTERVAL * forgiven),
        };
        let allowed = self.counted < COMPLAINTS;
        self.counted += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn five_hundred_joins_in_a_second_are_one_request() {
        let (mut throttle, start) = (Throttle::default(), start().instant);
        let asked =
            (0..500).filter(|i| throttle.wish(Wish::Join, start + Duration::from_millis(i * 2))).count();
        assert_eq!(asked, 1);
        assert!(throttle.wish(Wish::Join, start + JOIN_INTERVAL));
    }

    #[test]
    fn a_broken_picture_waits_less_than_a_join() {
        let (mut throttle, start) = (Throttle::default(), start().instant);
        assert!(throttle.wish(Wish::Join, start));
        assert!(!throttle.wish(Wish::Loss, start + Duration::from_millis(499)));
        assert!(throttle.wish(Wish::Loss, start + Duration::from_millis(500)));
    }

    #[test]
    fn a_picture_lost_behind_the_keyframe_that_was_asked_for_gets_another() {
        let (mut throttle, start) = (Throttle::default(), start().instant);
        let after = |ms| start + Duration::from_millis(ms);
        assert!(throttle.wish(Wish::Loss, start));
        assert!(!throttle.wish(Wish::Loss, after(50)));
        assert!(!throttle.due(after(600)), "the keyframe that is on its way will do");
        throttle.keyframe(after(700));
        assert!(throttle.wish(Wish::Loss, after(800)));
        throttle.keyframe(after(900));
        assert!(!throttle.wish(Wish::Loss, after(1_000)), "too soon");
        assert!(!throttle.due(after(1_299)));
        assert!(throttle.due(after(1_300)));
        assert!(!throttle.due(after(2_000)), "once");
    }

    #[test]
    fn a_join_just_behind_a_keyframe_asks_for_none() {
        let (mut throttle, start) = (Throttle::default(), start().instant);
        throttle.keyframe(start);
        assert!(!throttle.wish(Wish::Join, start + Duration::from_millis(100)));
        assert!(throttle.wish(Wish::Loss, start + Duration::from_millis(100)));
    }

    #[test]
    fn one_viewer_complains_three_times_and_then_every_two_seconds() {
        let (mut complaints, start) = (Complaints::default(), start().instant);
        let after = |ms| start + Duration::from_millis(ms);
        let at_once = (0..100).filter(|i| complaints.allows(after(i * 10))).count();
        assert_eq!(at_once, 3);
        let in_a_minute = (0..600).filter(|i| complaints.allows(after(1_000 + i * 100))).count();
        assert_eq!(in_a_minute, 30);
        let after_a_calm = (0..100).filter(|i| complaints.allows(after(90_000 + i * 10))).count();
        assert_eq!(after_a_calm, 3);
    }
}
