//! When frames were captured: from what the publisher says of single packets, else from its reports; and how its clock
//! stands to ours.

use std::{collections::VecDeque, time::Duration};

use haul_model::{UnixMillis, media::Capture};

use crate::clock::ntp_from;

/// From 1900, where NTP counts from, to 1970.
const NTP_EPOCH: Duration = Duration::from_secs(2_208_988_800);
/// Reports whose way here is compared; the quickest of them is nearest to the truth. Old ones are forgotten, because
/// clocks drift apart.
const REPORTS_KEPT: usize = 16;

/// One stream's timestamps on its publisher's clock.
#[derive(Debug, Clone, Copy)]
pub struct CaptureClock {
    clock_hz: u32,
    /// A timestamp, and its instant on the publisher's clock in NTP's 32.32 fixed point.
    known: Option<(u32, u64)>,
    /// The publisher tells with packets, so that reports are not needed.
    exact: bool,
}

impl CaptureClock {
    /// For a stream of `clock_hz` ticks a second.
    pub fn new(clock_hz: u32) -> Self {
        Self { clock_hz, known: None, exact: false }
    }

    /// A packet says when its content was captured (`abs-capture-time`). It is said now and then.
    pub fn tell(&mut self, timestamp: u32, ntp: u64) {
        self.known = Some((timestamp, ntp));
        self.exact = true;
    }

    /// A report maps a timestamp to the publisher's clock (RTCP SR, RFC 3550, 6.4.1).
    pub fn report(&mut self, timestamp: u32, ntp: u64) {
        if !self.exact {
            self.known = Some((timestamp, ntp));
        }
    }

    /// When what has this timestamp was captured.
    pub fn at(&self, timestamp: u32) -> Option<u64> {
        let (known, ntp) = self.known?;
        let ticks = i64::from(timestamp.wrapping_sub(known) as i32);
        Some(ntp.wrapping_add_signed((ticks << 32) / i64::from(self.clock_hz)))
    }
}

/// A publisher's clock beside ours.
#[derive(Debug, Clone, Default)]
pub struct HostClock {
    /// Our clock less the publisher's at the arrival of each report: the difference, and the report's time on its way.
    offsets: VecDeque<i64>,
}

impl HostClock {
    /// A report that gives the publisher's time has arrived.
    pub fn report(&mut self, ntp: u64, arrived: UnixMillis) {
        if self.offsets.len() == REPORTS_KEPT {
            self.offsets.pop_front();
        }
        self.offsets.push_back(ntp_of(arrived).wrapping_sub(ntp) as i64);
    }

    /// What is known of an instant on the publisher's clock. `round_trip` is to the publisher and back, if measured.
    pub fn capture(&self, ntp: u64, round_trip: Option<Duration>) -> Capture {
        let one_way = round_trip.map_or(0, |round_trip| ntp_from(round_trip / 2) as i64);
        Capture { ntp, to_ours: self.offsets.iter().min().map(|least| least.saturating_sub(one_way)) }
    }
}

/// Our wall clock in NTP's 32.32 fixed point.
pub fn ntp_of(wall: UnixMillis) -> u64 {
    ntp_from(NTP_EPOCH + Duration::from_millis(wall.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1 << 32;

    #[test]
    fn timestamps_are_placed_before_and_behind_what_is_known_across_the_wrap() {
        let mut clock = CaptureClock::new(90_000);
        assert_eq!(clock.at(5), None);
        clock.report(u32::MAX - 44_999, 100 * SECOND);
        assert_eq!(clock.at(45_000), Some(101 * SECOND));
        assert_eq!(clock.at(u32::MAX - 89_999), Some(99 * SECOND + SECOND / 2));
    }

    #[test]
    fn what_packets_say_counts_more_than_reports() {
        let mut clock = CaptureClock::new(48_000);
        clock.report(0, 10 * SECOND);
        clock.tell(48_000, 30 * SECOND);
        clock.report(0, 10 * SECOND);
        assert_eq!(clock.at(96_000), Some(31 * SECOND));
    }

    #[test]
    fn the_quickest_report_tells_how_clocks_stand_and_old_ones_are_forgotten() {
        let wall = UnixMillis(1_700_000_000_000);
        let later = |ms| UnixMillis(wall.0 + ms);
        let mut clock = HostClock::default();
        assert_eq!(clock.capture(7, None), Capture { ntp: 7, to_ours: None });
        // The host's clock is two seconds behind ours.
        let host = ntp_of(wall) - 2 * SECOND;
        for delay_ms in [50, 20, 35] {
            clock.report(host, later(delay_ms));
        }
        let ms = |offset: Option<i64>| (offset.unwrap() * 1_000 + SECOND as i64 / 2) >> 32;
        assert_eq!(ms(clock.capture(0, None).to_ours), 2_020);
        assert_eq!(ms(clock.capture(0, Some(Duration::from_millis(40))).to_ours), 2_000);
        for _ in 0..REPORTS_KEPT {
            clock.report(host, later(60));
        }
        assert_eq!(ms(clock.capture(0, None).to_ours), 2_060);
    }
}
