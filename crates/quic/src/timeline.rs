//! One time for all tracks of a live: RTP counts each track from anywhere, MoQ's frames say when they are shown.
//!
//! The time is our wall clock's at capture, in microseconds since 1970: it goes on over a host's absence, and tells a
//! viewer with a good clock how late a picture is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use haul_media::clock::ntp_from;
use haul_model::{Codec, Frame, Now, UnixMillis, media::Capture};

/// Where a track's stated time of capture has moved by more than this against its timestamps, it is followed. Less is
/// what reports scatter by.
const TOLERATED_US: i64 = 15_000;
/// Where it has moved back by no more than this, it is only gained upon, by one part in [`GAINED`] of the time that passes: a queue on the
/// publisher's way has emptied, or it is said for the first time when a frame was captured that was placed by its arrival. Players take what is below the time that they have seen for late, and some for broken.
const GAINED_UPON_US: i64 = 5_000_000;
const GAINED: i64 = 16;
/// The same against the time of arrival, while nothing is stated: only a new encoder jumps so far.
const JUMP_US: i64 = 1_000_000;
/// From 1900, where NTP counts from, to 1970, in seconds.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// One track's timestamps on the common time.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    known: Option<Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    timestamp: u32,
    us: i64,
    /// It was stated by the publisher, and not taken from the time of arrival.
    stated: bool,
}

impl Timeline {
    /// When the frame was captured, in microseconds since 1970.
    pub(crate) fn at(&mut self, codec: Codec, frame: &Frame) -> u64 {
        let stated = frame
            .captured
            .and_then(|captured| Some(unix_us(captured.ntp.wrapping_add_signed(captured.to_ours?))));
        let arrived = |wall: UnixMillis| wall.0 as i64 * 1000;
        let us = match self.known {
            None => stated.unwrap_or_else(|| arrived(frame.arrived.wall)),
            Some(known) => {
                let ticks = i64::from(frame.timestamp.wrapping_sub(known.timestamp) as i32);
                let passed = ticks * 1_000_000 / i64::from(codec.clock_rate_hz());
                let counted = known.us + passed;
                match stated {
                    Some(stated) if (TOLERATED_US..=GAINED_UPON_US).contains(&(counted - stated)) => {
                        // All tracks by the same part, so that sound and pictures stay together.
                        counted - (passed.max(0) / GAINED).min(counted - stated)
                    }
                    Some(stated) if !known.stated || (stated - counted).abs() > TOLERATED_US => stated,
                    None if !known.stated && (arrived(frame.arrived.wall) - counted).abs() > JUMP_US => {
                        arrived(frame.arrived.wall)
                    }
                    _ => counted,
                }
            }
        };
        let stated = stated.is_some() || self.known.is_some_and(|known| known.stated);
        self.known = Some(Known { timestamp: frame.timestamp, us, stated });
        us.max(0) as u64
    }
}

/// How long the best of a publisher's arrivals counts at least, and how many such times are remembered.
const SLICE: Duration = Duration::from_secs(1);
const SLICES: usize = 16;
/// A time that is further from what was known than this is another beginning, in NTP's fixed point.
const RESTART: i64 = 5 << 32;

/// A publisher's clock beside ours, by when its frames arrive: the quickest of the last seconds says how they stand. One for
/// all its tracks, so that sound that is sent late stays with its pictures.
#[derive(Debug, Default)]
pub(crate) struct PublisherClock {
    /// Our clock less theirs: the least of each second, the latest last.
    offsets: VecDeque<i64>,
    began: Option<Instant>,
}

impl PublisherClock {
    /// A frame that was captured at `ntp` by the publisher's clock has arrived.
    pub(crate) fn arrived(&mut self, ntp: u64, now: Now) -> Capture {
        let offset = ntp_of_us(now.wall.0 * 1_000).wrapping_sub(ntp) as i64;
        let known = self.offsets.iter().min().copied();
        if known.is_some_and(|known| offset.saturating_sub(known).saturating_abs() > RESTART) {
            self.offsets.clear();
        }
        let in_slice = self.began.is_some_and(|at| now.instant.saturating_duration_since(at) < SLICE);
        match self.offsets.back_mut() {
            Some(least) if in_slice => *least = offset.min(*least),
            _ => {
                if self.offsets.len() == SLICES {
                    self.offsets.pop_front();
                }
                self.offsets.push_back(offset);
                self.began = Some(now.instant);
            }
        }
        Capture { ntp, to_ours: self.offsets.iter().min().copied() }
    }
}

/// NTP's 32.32 fixed point as microseconds since 1970.
fn unix_us(ntp: u64) -> i64 {
    let micros = (u128::from(ntp & u64::from(u32::MAX)) * 1_000_000) >> 32;
    ((ntp >> 32) as i64 - NTP_TO_UNIX as i64) * 1_000_000 + micros as i64
}

/// Microseconds since 1970 in NTP's 32.32 fixed point.
pub(crate) fn ntp_of_us(us: u64) -> u64 {
    ntp_from(Duration::from_micros(us) + Duration::from_secs(NTP_TO_UNIX))
}

#[cfg(test)]
mod tests {
    use haul_model::{Kind, Layer};

    use super::*;

    fn frame(timestamp: u32, arrived_ms: u64, captured: Option<u64>) -> Frame {
        let arrived =
            Now { instant: Instant::now() + Duration::from_millis(arrived_ms), wall: UnixMillis(arrived_ms) };
        let captured = captured.map(|us| Capture { ntp: ntp_of_us(us), to_ours: Some(0) });
        Frame {
            kind: Kind::Video,
            layer: Layer(0),
            timestamp,
            arrived,
            keyframe: true,
            begins: true,
            ends: true,
            captured,
            numbers: None,
            packets: Vec::new(),
        }
    }

    #[test]
    fn timestamps_count_on_from_the_first_arrival_across_their_wrap() {
        let mut line = Timeline::default();
        assert_eq!(line.at(Codec::Vp8, &frame(u32::MAX - 2999, 5_000, None)), 5_000_000);
        assert_eq!(line.at(Codec::Vp8, &frame(0, 5_070, None)), 5_033_333, "late is not later");
        assert_eq!(line.at(Codec::Vp8, &frame(u32::MAX - 2999, 5_070, None)), 5_000_000, "backwards, too");
    }

    #[test]
    fn what_the_publisher_states_is_followed_and_its_scatter_is_not() {
        let mut line = Timeline::default();
        line.at(Codec::Vp8, &frame(0, 5_000, None));
        let near = |us: u64, expected: u64| us.abs_diff(expected) <= 2;
        // Captured before it arrived: that is gained upon.
        assert!(near(line.at(Codec::Vp8, &frame(3_000, 5_040, Some(4_960_000))), 5_031_250));
        assert!(near(line.at(Codec::Vp8, &frame(6_000, 5_080, Some(5_055_000))), 5_064_583));
        assert!(near(line.at(Codec::Vp8, &frame(9_000, 5_110, Some(5_200_000))), 5_200_000));
        assert!(near(line.at(Codec::Vp8, &frame(12_000, 9_999, None)), 5_233_333));
    }

    #[test]
    fn a_way_that_becomes_shorter_takes_no_track_back_nor_from_the_other() {
        let (mut video, mut audio) = (Timeline::default(), Timeline::default());
        let mut last = (0, 0);
        for n in 0..1_000_u32 {
            // 33 ms of pictures, three packets of sound; 400 ms of queue are gone after ten seconds.
            let shorter = if n < 300 { 0 } else { 400_000 };
            let stated = |us: u64| Some(5_000_000 + us - shorter);
            let at = u64::from(n) * 33_000;
            let picture = video.at(Codec::Vp8, &frame(n * 2_970, 5_000, stated(at)));
            let sound = audio.at(Codec::Opus, &frame(n * 1_584, 5_000, stated(at)));
            assert!(n == 0 || picture > last.0 && sound > last.1, "{n}: {picture} after {last:?}");
            assert!(picture.abs_diff(sound) <= 2_000, "{n}: {picture} and {sound}");
            assert!(
                n < 900 || picture <= 5_000_000 + at - shorter + TOLERATED_US as u64,
                "{n}: it is gained"
            );
            last = (picture, sound);
        }
        // A picture that is shown before the one that came before it is where it belongs.
        let before = video.at(Codec::Vp8, &frame(998 * 2_970, 5_000, None));
        assert!(last.0 - before >= 32_900, "{before} before {}", last.0);
        // Another encoder is another time, and is followed at once.
        assert_eq!(video.at(Codec::Vp8, &frame(7, 5_000, Some(20_000_000))), 20_000_000);
    }

    #[test]
    fn an_encoder_that_begins_anew_does_not_send_its_viewers_to_another_year() {
        let mut line = Timeline::default();
        line.at(Codec::Vp8, &frame(0, 5_000, None));
        assert_eq!(line.at(Codec::Vp8, &frame(900_000_000, 5_033, None)), 5_033_000);
    }

    #[test]
    fn what_is_sent_late_is_placed_by_what_is_not() {
        let start = Instant::now();
        let mut clock = PublisherClock::default();
        let mut arrive = |captured_ms: u64, arrived_ms: u64| {
            let now = Now {
                instant: start + Duration::from_millis(arrived_ms),
                wall: UnixMillis(1_000_000 + arrived_ms),
            };
            let captured = clock.arrived(ntp_of_us(captured_ms * 1_000), now);
            let us = unix_us(captured.ntp.wrapping_add_signed(captured.to_ours.unwrap()));
            // NTP's fixed point has no whole milliseconds.
            (us + 500) / 1_000 - 1_000_000
        };
        assert_eq!(arrive(0, 300), 300, "the first is all that is known");
        assert_eq!(arrive(20, 20), 20);
        assert_eq!(arrive(40, 340), 40, "sound of then, sent later");
        for at in 1..20 {
            assert_eq!(
                arrive(at * 1_000, at * 1_000 + 100),
                at as i64 * 1_000 + if at > 16 { 100 } else { 0 }
            );
        }
        assert_eq!(arrive(5, 30_000), 30_000, "another beginning");
    }
}
