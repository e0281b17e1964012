//! How a viewer comes back from a network that was gone: with the first whole picture, and then steadily, on the session
//! that was there or on another one. Pure: the time goes in.

use std::time::{Duration, Instant};

use crate::{
    network::is_lost,
    pace::Pace,
    tally::{Count, Tally, Time},
};

/// A failure of a viewer's network, until the pictures are steady again.
#[derive(Debug)]
pub(crate) struct Outage {
    /// The network is gone until then.
    until: Instant,
    /// It is another one then. Taken when that has been seen to.
    roams: bool,
    /// The session that was there is over.
    anew: bool,
    had_picture: bool,
    pace: Pace,
}

impl Outage {
    /// The network is gone until then. `anew`: there was no session.
    pub(crate) fn new(until: Instant, roams: bool, anew: bool) -> Self {
        Self { until, roams, anew, had_picture: false, pace: Pace::default() }
    }

    /// It has failed again, before the pictures were steady.
    pub(crate) fn again(&mut self, until: Instant, roams: bool) {
        let (roams, anew) = (self.roams || roams, self.anew);
        *self = Self::new(self.until.max(until), roams, anew);
    }

    /// Until when the network is gone.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// Whether it is gone.
    pub(crate) fn is_gone(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Whether the network is another one from now on; told once.
    pub(crate) fn take_roaming(&mut self, now: Instant) -> bool {
        !self.is_gone(now) && std::mem::take(&mut self.roams)
    }

    /// The session is over; the next one is on whatever network there is.
    pub(crate) fn session_over(&mut self) {
        (self.anew, self.roams, self.pace) = (true, false, Pace::default());
    }

    /// A picture is whole. Returns whether pictures are steady again, so that it is over.
    pub(crate) fn picture(&mut self, now: Instant, tally: &mut Tally) -> bool {
        if self.is_gone(now) {
            return false;
        }
        if !std::mem::replace(&mut self.had_picture, true) {
            tally.record(Time::DropPicture, now - self.until);
        }
        self.pace.frame(now);
        let Some(steady) = self.pace.steady_since else { return false };
        tally.record(Time::DropSteady, steady.saturating_duration_since(self.until));
        tally.count(if self.anew { Count::DropAnew } else { Count::DropSame }, 1);
        true
    }

    /// The viewer leaves before the pictures were steady: they are lost if they should have been.
    pub(crate) fn leave(&self, now: Instant, tally: &mut Tally) {
        tally.count(if is_lost(self.until, now) { Count::DropLost } else { Count::DropLeft }, 1);
    }

    /// When a session may be tried that was over at `now`: at once, as pages do when the network is back.
    pub(crate) fn try_at(&self, now: Instant, spread: Duration) -> Instant {
        now.max(self.until) + spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(33);

    /// Pictures from `from` on until it is over; how many of them were needed.
    fn show(outage: &mut Outage, from: Instant, tally: &mut Tally) -> u32 {
        (1..100).find(|at| outage.picture(from + *at * FRAME, tally)).unwrap_or(0)
    }

    #[test]
    fn who_comes_back_is_timed_from_the_networks_return() {
        let (begun, mut tally) = (Instant::now(), Tally::default());
        let mut outage = Outage::new(begun + Duration::from_secs(4), false, false);
        assert!(outage.is_gone(begun) && !outage.picture(begun, &mut tally));
        let back = outage.until();
        assert!(!outage.is_gone(back));
        // A picture, a hole of half a second, and from then on evenly.
        assert!(!outage.picture(back + FRAME, &mut tally));
        let needed = show(&mut outage, back + Duration::from_millis(500), &mut tally);
        assert_eq!(needed, 32, "a second of pictures without a gap");
        assert_eq!((tally.get(Count::DropSame), tally.get(Count::DropAnew)), (1, 0));
        let ms = |time| tally.time(time).max_us().unwrap_or(0) / 1_000;
        assert_eq!((ms(Time::DropPicture), ms(Time::DropSteady)), (33, 533));
    }

    #[test]
    fn a_second_failure_before_the_return_is_seen_is_one_longer_failure() {
        let (now, mut tally) = (Instant::now(), Tally::default());
        let mut outage = Outage::new(now, true, false);
        assert!(!outage.picture(now, &mut tally));
        outage.again(now + Duration::from_secs(2), false);
        assert!(outage.is_gone(now) && !outage.take_roaming(now));
        assert!(outage.take_roaming(outage.until()) && !outage.take_roaming(outage.until()));
        outage.session_over();
        let back = outage.until();
        assert!(show(&mut outage, back, &mut tally) > 0);
        assert_eq!((tally.get(Count::DropSame), tally.get(Count::DropAnew)), (0, 1));
    }

    #[test]
    fn who_leaves_early_is_not_lost_and_who_never_came_back_is() {
        let (now, mut tally) = (Instant::now(), Tally::default());
        let outage = Outage::new(now, false, false);
        outage.leave(now + Duration::from_secs(1), &mut tally);
        assert_eq!((tally.get(Count::DropLeft), tally.get(Count::DropLost)), (1, 0));
        outage.leave(now + Duration::from_secs(9), &mut tally);
        assert_eq!((tally.get(Count::DropLeft), tally.get(Count::DropLost)), (1, 1));
        let spread = Duration::from_millis(5);
        assert_eq!(Outage::new(now + FRAME, false, true).try_at(now, spread), now + FRAME + spread);
    }
}
