//! How long a player is asked to hold pictures back, so that what is lost on a long way has come again by the time it is to
//! be shown. Browsers hold back a round trip by themselves once repairs are needed, but one that only receives is not told how
//! long that is (they do not offer the reports of RFC 3611, 4.4 and 4.5, by themselves), so it shows what was repaired late,
//! which is a freeze each time. The server knows.

use std::time::{Duration, Instant};

/// Pictures are held back after so many repairs, each asked for within this time of the last: as libwebrtc does where it
/// knows the round trip.
const REPAIRS: u8 = 3;
const REPAIRS_COUNT: Duration = Duration::from_secs(60);
/// What is asked for within this time belongs to one loss.
const ONE_LOSS: Duration = Duration::from_millis(30);
/// Over a shorter way a repair comes before its absence is noticed.
const LONG_WAY: Duration = Duration::from_millis(80);
/// A loss is noticed with the next picture, and a round trip later its repair is there. That takes so much longer at times.
const UNEVEN: Duration = Duration::from_millis(80);
/// No picture is held back for longer: who watches from so far away would rather see a freeze at times than everything late.
const MOST: Duration = Duration::from_millis(500);
/// What is told is in units of this (the playout-delay extension's).
const UNIT_MS: u64 = 10;
/// What is asked for moves by one unit a picture upwards, so that none of them stands much longer than the others, and
/// downwards by one a second.
const DOWN: Duration = Duration::from_secs(1);
/// Longer pauses between pictures are pauses of the host's, shorter ones parts of the same picture.
const PAUSES: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(200));
/// How much of the mean pause, and of the mean round trip, stays.
const SMOOTHING: u32 = 8;

/// What one viewer is asked for.
#[derive(Debug, Default)]
pub struct Hold {
    /// What it was told last; nothing if it never had to be.
    told: u8,
    /// Repairs so far, up to [`REPAIRS`], and when the last was asked for.
    repairs: u8,
    repaired: Option<Instant>,
    round_trip: Option<Duration>,
    /// When the last picture was sent, and the usual pause between two.
    sent: Option<Instant>,
    pause: Duration,
    /// When it was last told less.
    lowered: Option<Instant>,
}

impl Hold {
    /// A round trip took so long.
    pub fn round_trip(&mut self, took: Duration) {
        self.round_trip = Some(self.round_trip.map_or(took, |usual| mean(usual, took)));
    }

    /// A packet was asked for that was lost.
    pub fn repair(&mut self, now: Instant) {
        let since = self.repaired.replace(now).map(|at| now.saturating_duration_since(at));
        match since {
            Some(since) if since < ONE_LOSS => {}
            Some(since) if since < REPAIRS_COUNT => self.repairs = (self.repairs + 1).min(REPAIRS),
            _ => self.repairs = 1,
        }
    }

    /// A picture is being sent. Returns how long it and those behind it are to be held back, in 10 ms; 0 if there is nothing
    /// to tell. Once something was told it is never 0 again: players keep what they were told.
    #[inline]
    pub fn picture(&mut self, now: Instant) -> u8 {
        if self.repairs == REPAIRS || self.told > 0 {
            self.follow(now);
        }
        self.told
    }

    fn follow(&mut self, now: Instant) {
        let Some(pause) = self.sent.map(|at| now.saturating_duration_since(at)) else {
            self.sent = Some(now);
            return;
        };
        let (shortest, longest) = PAUSES;
        if pause < shortest {
            return;
        }
        self.sent = Some(now);
        if pause < longest {
            self.pause = if self.pause.is_zero() { pause } else { mean(self.pause, pause) };
        }
        let wanted = (self.wanted(now).as_millis() as u64).div_ceil(UNIT_MS) as u8;
        if wanted > self.told {
            self.told += 1;
        } else if wanted < self.told
            && self.told > 1
            && self.lowered.is_none_or(|at| now.saturating_duration_since(at) >= DOWN)
        {
            self.lowered = Some(now);
            self.told -= 1;
        }
    }

    fn wanted(&self, now: Instant) -> Duration {
        let is_lossy = self.repairs == REPAIRS
            && self.repaired.is_some_and(|at| now.saturating_duration_since(at) < REPAIRS_COUNT);
        let round_trip = self.round_trip.filter(|took| is_lossy && *took >= LONG_WAY);
        round_trip.map_or(Duration::ZERO, |took| (self.pause + took + UNEVEN).min(MOST))
    }
}

fn mean(usual: Duration, next: Duration) -> Duration {
    (usual * (SMOOTHING - 1) + next) / SMOOTHING
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    /// A viewer who is sent 25 pictures a second.
    struct Watch {
        hold: Hold,
        now: Instant,
    }

    impl Watch {
        fn new(round_trip_ms: u64) -> Self {
            let mut hold = Hold::default();
            hold.round_trip(Duration::from_millis(round_trip_ms));
            Self { hold, now: start().instant }
        }

        /// What it is told after so many pictures.
        fn after(&mut self, pictures: u32) -> u8 {
            (0..pictures).fold(0, |_, _| {
                self.now += Duration::from_millis(40);
                self.hold.picture(self.now)
            })
        }

        fn loses(&mut self, times: u32) {
            for _ in 0..times {
                self.now += Duration::from_millis(100);
                self.hold.repair(self.now);
                self.hold.repair(self.now + Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn nothing_is_told_where_repairs_come_soon_or_are_not_needed() {
        let mut clean = Watch::new(300);
        clean.loses(2);
        assert_eq!(clean.after(100), 0, "twice is no habit");
        let mut near = Watch::new(40);
        near.loses(10);
        assert_eq!(near.after(100), 0);
    }

    #[test]
    fn on_a_long_way_pictures_wait_for_the_repair_little_by_little() {
        let mut watch = Watch::new(150);
        watch.loses(3);
        assert_eq!(watch.after(6), 5, "one unit a picture, from the second on");
        // 40 ms until the loss is noticed, the round trip, and 80 ms.
        assert_eq!(watch.after(100), 27);
        watch.hold.round_trip(Duration::from_secs(1));
        watch.hold.round_trip(Duration::from_secs(9));
        assert_eq!(watch.after(100), 50, "and no longer than this");
    }

    #[test]
    fn it_is_taken_back_slowly_when_nothing_is_lost_any_more() {
        let mut watch = Watch::new(150);
        watch.loses(3);
        assert_eq!(watch.after(100), 27);
        assert_eq!(watch.after(56 * 25), 27, "for a minute it may begin again");
        let soon = watch.after(5 * 25);
        assert!((22..27).contains(&soon), "{soon}");
        assert_eq!(watch.after(60 * 25), 1, "players keep what they are told, so they are told how little");
    }

    #[test]
    fn losses_far_apart_are_no_habit() {
        let mut watch = Watch::new(150);
        for _ in 0..5 {
            watch.loses(1);
            watch.now += REPAIRS_COUNT;
        }
        assert_eq!(watch.after(100), 0);
    }
}
