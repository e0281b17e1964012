//! What a publisher's sender reports say: which instant of its clock belongs to which media timestamp.

use std::time::{Duration, Instant};

use haul_model::{Kind, Layer};

/// One point where a publisher's wall clock and a track's media time meet (RTCP SR, RFC 3550, 6.4.1). Both tracks of a
/// broadcast are mapped to the same clock, which is what keeps lips and voice together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockMap {
    /// Audio or video.
    pub kind: Kind,
    /// The simulcast layer; 0 for audio.
    pub layer: Layer,
    /// The publisher's wall clock: seconds since 1900 in 32.32 fixed point, as in the report.
    pub ntp: u64,
    /// The media timestamp of that instant, in ticks of the track's clock.
    pub timestamp: u32,
    /// When the report arrived here.
    pub arrived: Instant,
}

impl ClockMap {
    /// The same meeting point carried forward to `now`, for a track of `clock_hz` ticks a second.
    pub fn at(&self, now: Instant, clock_hz: u32) -> (u64, u32) {
        let elapsed = now.saturating_duration_since(self.arrived);
        (self.ntp.wrapping_add(ntp_from(elapsed)), self.timestamp.wrapping_add(ticks(elapsed, clock_hz)))
    }
}

/// A duration in NTP's 32.32 fixed point.
pub fn ntp_from(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

/// A duration in ticks of a media clock, wrapping as RTP timestamps do.
pub fn ticks(duration: Duration, clock_hz: u32) -> u32 {
    (duration.as_micros() * u128::from(clock_hz) / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::start;

    #[test]
    fn a_map_is_carried_forward_in_both_of_its_units() {
        let map = ClockMap {
            kind: Kind::Video,
            layer: Layer(0),
            ntp: 10 << 32,
            timestamp: u32::MAX,
            arrived: start().instant,
        };
        let later = map.arrived + Duration::from_millis(1_500);
        assert_eq!(map.at(later, 90_000), ((11 << 32) + (1 << 31), 134_999));
    }
}
