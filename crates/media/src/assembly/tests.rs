//! Streams as tests tell them: packets in, frames out, in virtual time.

mod line;
mod loss;

use super::*;
use crate::testing::start;

const KEY: &[u8] = &[0x10, 0x00, 0xAA];
const DELTA: &[u8] = &[0x10, 0x01, 0xBB];
const MORE: &[u8] = &[0x00, 0xCC];

/// A stream as a test tells it: packets are put in by number, and what comes out is written down.
struct Story {
    assembly: Assembly,
    now: Now,
    first: u16,
}

impl Story {
    fn of(codec: Codec) -> Self {
        Self { assembly: Assembly::new(codec, Layer(0)), now: start(), first: 65_530 }
    }

    /// Packet `number` of the stream. Sequence numbers wrap after the first few.
    fn packet(&mut self, number: u16, timestamp: u32, marker: bool, payload: &[u8]) -> &mut Self {
        let payload = Bytes::copy_from_slice(payload);
        let sequence = self.first.wrapping_add(number);
        self.assembly.push(self.now, Packet { sequence, timestamp, marker, payload });
        self
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.now = self.now.after(Duration::from_millis(ms));
        if self.assembly.poll_timeout().is_some_and(|at| at <= self.now.instant) {
            self.assembly.handle_timeout(self.now);
        }
        self
    }

    /// Frames as timestamps, `K` in front of keyframes, and `?` where a keyframe is asked for.
    fn told(&mut self) -> String {
        let mut words = Vec::new();
        while let Some(out) = self.assembly.poll() {
            words.push(match out {
                Assembled::Frame(frame) if frame.keyframe => format!("K{}", frame.timestamp),
                Assembled::Frame(frame) => frame.timestamp.to_string(),
                Assembled::KeyframeNeeded => "?".to_owned(),
                Assembled::OutOfOrder => "~".to_owned(),
            });
        }
        words.join(" ")
    }
}

#[test]
fn packets_become_frames_across_the_wrap() {
    let mut story = Story::of(Codec::Vp8);
    for frame in 0..8 {
        let head = if frame == 0 { KEY } else { DELTA };
        story.packet(frame * 2, frame.into(), false, head).packet(frame * 2 + 1, frame.into(), true, MORE);
    }
    assert_eq!(story.told(), "K0 1 2 3 4 5 6 7");
    assert_eq!(story.assembly.counts(), Counts { frames: 8, keyframes: 1, ..Counts::default() });
}

#[test]
fn a_timestamp_ends_a_frame_whose_marker_is_missing() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, false, KEY).packet(1, 1, false, DELTA).packet(2, 2, false, DELTA);
    assert_eq!(story.told(), "K0 1");
}

#[test]
fn reordered_and_doubled_packets_change_nothing() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, false, KEY).packet(0, 0, false, KEY);
    story
        .packet(3, 1, true, MORE)
        .packet(2, 1, false, DELTA)
        .packet(1, 0, true, MORE)
        .packet(1, 0, true, MORE);
    assert_eq!(story.told(), "K0 1");
    assert_eq!(story.assembly.counts().late, 2);
}

#[test]
fn padding_takes_a_number_and_nothing_else() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY).packet(1, 0, false, &[]).packet(2, 0, false, &[]);
    story.packet(3, 1, false, DELTA).packet(4, 1, false, &[]).packet(5, 1, true, MORE);
    assert_eq!(story.told(), "K0 1");
}

#[test]
fn a_hole_that_is_filled_in_time_costs_only_time() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY).packet(2, 2, true, DELTA).after(249);
    assert_eq!(story.told(), "K0");
    story.packet(1, 1, true, DELTA);
    assert_eq!(story.told(), "1 2");
    assert_eq!(story.assembly.poll_timeout(), None);
}

#[test]
fn after_a_hole_nothing_goes_on_until_a_keyframe_which_is_asked_for() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY).packet(2, 2, true, DELTA).after(250);
    assert_eq!(story.told(), "K0 ?");
    story
        .packet(1, 1, true, DELTA)
        .packet(3, 3, true, DELTA)
        .packet(4, 4, true, DELTA)
        .packet(5, 5, true, DELTA);
    assert_eq!(story.told(), "", "what follows can't be decoded, and that was said");
    story.packet(6, 6, true, KEY).packet(7, 7, true, DELTA);
    assert_eq!(story.told(), "K6 7");
    assert_eq!(
        story.assembly.counts(),
        Counts { late: 1, lost: 1, frames: 3, keyframes: 2, dropped: 4, ..Counts::default() }
    );
}

#[test]
fn the_tail_of_a_torn_keyframe_is_not_a_keyframe() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY).packet(1, 1, false, KEY).packet(3, 1, true, MORE);
    story.packet(4, 2, true, DELTA).after(250).packet(5, 3, true, KEY);
    assert_eq!(story.told(), "K0 ? K3");
}

#[test]
fn two_holes_are_waited_for_together() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY).packet(2, 2, true, DELTA).packet(4, 4, true, KEY);
    story.after(250);
    assert_eq!(story.told(), "K0 K4", "the keyframe is there already");
    assert_eq!(story.assembly.counts().lost, 2);
}

#[test]
fn sound_skips_its_holes_sooner_and_needs_no_keyframe() {
    let mut story = Story::of(Codec::Opus);
    story.packet(0, 0, true, &[1]).packet(2, 1_920, false, &[1]).after(59);
    assert_eq!(story.told(), "K0");
    story.after(1).packet(3, 2_880, false, &[1]);
    assert_eq!(story.told(), "K1920 K2880");
}

#[test]
fn a_stream_that_starts_anew_elsewhere_is_followed() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY).packet(20_000, 9, true, KEY);
    assert_eq!(story.told(), "K0", "one stray packet proves nothing");
    story.packet(1, 1, true, DELTA).packet(20_000, 9, true, KEY).packet(20_001, 10, true, KEY);
    assert_eq!(story.told(), "1 K10");
}

#[test]
fn a_flood_of_gaps_stays_within_the_window() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, KEY);
    for number in (2..60_000).step_by(2) {
        story.packet(number, number.into(), true, DELTA);
    }
    assert!(story.assembly.window.len() <= MAX_SPAN);
}

#[test]
fn a_stream_that_is_joined_in_the_middle_asks_at_once() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, DELTA);
    assert_eq!(story.told(), "?");
}

const SPS: &[u8] = &[0x67, 0x42];
const PPS: &[u8] = &[0x68, 0xCE];
const IDR: &[u8] = &[0x65, 0x88];
const SLICE: &[u8] = &[0x41, 0x9A];

fn frames(story: &mut Story) -> Vec<Vec<Bytes>> {
    std::iter::from_fn(|| story.assembly.poll())
        .filter_map(|out| match out {
            Assembled::Frame(frame) => Some(frame.packets),
            _ => None,
        })
        .collect()
}

#[test]
fn parameter_sets_sent_alone_join_the_keyframe_behind_them() {
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, true, SPS).packet(1, 0, true, PPS).packet(2, 0, true, IDR).packet(3, 1, true, SLICE);
    assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![SLICE]]);
}

#[test]
fn parameter_sets_make_no_keyframe_of_a_picture_that_needs_others() {
    const SPS_PPS: &[u8] = &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE];
    const RECOVERY: &[u8] = &[0x06, 6, 1, 0xC4, 0x80];
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS_PPS).packet(1, 0, true, SLICE);
    assert_eq!(story.told(), "?", "nobody can start there");
    story.packet(2, 1, false, SPS_PPS).packet(3, 1, true, IDR);
    story.packet(4, 2, false, SPS_PPS).packet(5, 2, true, SLICE);
    // The same in an access unit of their own.
    story.packet(6, 3, true, SPS_PPS).packet(7, 4, true, SLICE);
    assert_eq!(story.told(), "K1 2 4");
    // An encoder that refreshes its pictures bit by bit says where one may begin.
    story.packet(8, 5, false, SPS_PPS).packet(9, 5, false, RECOVERY).packet(10, 5, true, SLICE);
    story.packet(11, 6, false, RECOVERY).packet(12, 6, true, SLICE);
    assert_eq!(story.told(), "K5 K6");
}

#[test]
fn parameter_sets_sent_once_are_repeated_before_every_keyframe() {
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS).packet(1, 0, false, PPS).packet(2, 0, true, IDR).packet(3, 1, true, IDR);
    assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![SPS, PPS, IDR]]);
}

#[test]
fn a_later_slice_of_a_torn_picture_is_no_beginning() {
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS).packet(1, 0, false, PPS).packet(2, 0, true, IDR);
    // The first slice of the second picture is lost, its second slice arrives.
    story.packet(4, 1, true, &[0x65, 0x40]).after(250).packet(5, 2, false, PPS).packet(6, 2, true, IDR);
    assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![SPS, PPS, IDR]]);
    assert_eq!(story.assembly.counts().dropped, 1);
}

#[test]
fn garbage_in_every_codec_is_dropped_quietly() {
    for codec in Codec::ALL {
        let mut story = Story::of(codec);
        for number in 0..500_u16 {
            let noise: Vec<u8> = (0..number % 7).map(|i| (number.wrapping_mul(31 + i) >> 3) as u8).collect();
            story.packet(number ^ (number % 5), number.into(), number % 3 == 0, &noise).after(7);
        }
    }
}

const START: &[u8] = &[0x10, 0x00, 0xAA];

/// Parts as `K[` a keyframe's first part, `[` another's, `-` a middle one, `]` a last; whole frames as `K` and `d`; each
/// with its number of packets.
fn parts(story: &mut Story) -> String {
    let mut words = Vec::new();
    while let Some(out) = story.assembly.poll() {
        words.push(match out {
            Assembled::Frame(frame) => {
                let shape = match (frame.begins, frame.ends) {
                    (true, true) => {
                        if frame.keyframe {
                            "K"
                        } else {
                            "d"
                        }
                    }
                    (true, false) => {
                        if frame.keyframe {
                            "K["
                        } else {
                            "["
                        }
                    }
                    (false, false) => "-",
                    (false, true) => "]",
                };
                format!("{shape}{}", frame.packets.len())
            }
            Assembled::KeyframeNeeded => "?".to_owned(),
            Assembled::OutOfOrder => "~".to_owned(),
        });
    }
    words.join(" ")
}

#[test]
fn a_slow_keyframe_goes_on_in_parts_and_keeps_its_last_packet_for_the_marker() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, false, START).after(3).packet(1, 0, false, MORE).after(3).packet(2, 0, false, MORE);
    assert_eq!(parts(&mut story), "");
    story.after(2);
    assert_eq!(parts(&mut story), "K[2");
    story.after(1).packet(3, 0, false, MORE).after(1).packet(4, 0, false, MORE).after(6);
    assert_eq!(parts(&mut story), "-2", "eight milliseconds from what is left");
    story.packet(5, 0, true, MORE).packet(6, 1, true, DELTA);
    assert_eq!(parts(&mut story), "]2 d1");
    let counts = Counts { frames: 2, keyframes: 1, in_parts: 1, ..Counts::default() };
    assert_eq!(story.assembly.counts(), counts);
}

#[test]
fn parts_end_with_the_timestamp_where_there_is_no_marker() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, false, START).packet(1, 0, false, MORE).packet(2, 0, false, &[]).after(8);
    story.packet(3, 1, true, DELTA);
    assert_eq!(parts(&mut story), "K[1 ]1 d1");
}

#[test]
fn parts_go_on_up_to_a_hole_and_no_further() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, false, START).packet(1, 0, false, MORE).packet(3, 0, true, MORE).after(8);
    assert_eq!(parts(&mut story), "K[1");
    story.packet(2, 0, false, MORE);
    assert_eq!(parts(&mut story), "]3");
}

#[test]
fn a_picture_whose_rest_never_comes_was_the_last_before_a_keyframe() {
    let mut story = Story::of(Codec::Vp8);
    story
        .packet(0, 0, false, START)
        .packet(1, 0, false, MORE)
        .packet(3, 0, true, MORE)
        .packet(4, 1, true, DELTA);
    story.after(8).after(242);
    assert_eq!(parts(&mut story), "K[1 ?");
    story.packet(5, 2, true, START);
    assert_eq!(parts(&mut story), "K1");
}

#[test]
fn parameter_sets_alone_are_no_part_and_stay_with_their_picture() {
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS).packet(1, 0, false, PPS).after(8);
    assert_eq!(parts(&mut story), "");
    story.packet(2, 0, false, IDR).packet(3, 0, false, &[0x65, 0x40]).after(8);
    assert_eq!(parts(&mut story), "K[3");
    story.packet(4, 0, true, &[0x65, 0x40]);
    assert_eq!(parts(&mut story), "]2");
}

#[test]
fn what_waits_for_a_keyframe_does_not_go_on_in_parts() {
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, false, DELTA).packet(1, 0, false, MORE).packet(2, 0, false, MORE).after(8);
    assert_eq!(parts(&mut story), "");
    story.packet(3, 0, true, MORE);
    assert_eq!(parts(&mut story), "?");
}

#[test]
fn pictures_out_of_order_are_told_of_once_by_time_or_by_type() {
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS).packet(1, 0, true, IDR).packet(2, 9_000, true, SLICE);
    story.packet(3, 3_000, true, SLICE).packet(4, 6_000, true, SLICE).packet(5, 18_000, true, SLICE);
    assert_eq!(story.told(), "K0 9000 ~ 3000 6000 18000");
    let mut story = Story::of(Codec::H264);
    story.packet(0, 0, false, SPS).packet(1, 0, true, IDR).packet(2, 3_000, true, &[0x01, 0x9C]);
    assert_eq!(story.told(), "K0 ~ 3000");
    let mut story = Story::of(Codec::H264);
    story.packet(0, 900_000, false, SPS).packet(1, 900_000, true, IDR).packet(2, 3_000, true, SLICE);
    assert_eq!(story.told(), "K900000 3000", "time has jumped");
}

#[test]
fn parameter_sets_from_the_offer_stand_in_until_the_stream_has_its_own() {
    let mut story = Story::of(Codec::H264);
    let told = [SPS, PPS, SLICE].map(Bytes::from_static);
    story.assembly = Assembly::new(Codec::H264, Layer(0)).with_parameter_sets(told);
    story
        .packet(0, 0, true, IDR)
        .packet(1, 1, false, &[0x67, 0x64])
        .packet(2, 1, true, IDR)
        .packet(3, 2, true, IDR);
    let own: &[u8] = &[0x67, 0x64];
    assert_eq!(frames(&mut story), [vec![SPS, PPS, IDR], vec![own, IDR], vec![own, IDR]]);
}

#[test]
fn h265_parameter_sets_are_repeated_too() {
    let (vps, sps, pps, idr): (&[u8], &[u8], &[u8], &[u8]) =
        (&[0x40, 1, 1], &[0x42, 1, 1], &[0x44, 1, 1], &[0x26, 1, 0xAF]);
    let mut story = Story::of(Codec::H265);
    for (number, payload) in [vps, sps, pps, idr].into_iter().enumerate() {
        story.packet(number as u16, 0, number == 3, payload);
    }
    story.packet(4, 1, true, &[0x02, 1, 0xD0]).packet(5, 2, true, idr);
    assert_eq!(frames(&mut story)[2], [vps, sps, pps, idr]);
}

#[test]
fn a_lost_picture_of_an_upper_temporal_layer_costs_no_keyframe() {
    let picture = |id: u8, tl0: u8, layer: u8| [0x90, 0xE0, 0x80, id, tl0, layer << 6, u8::from(id > 0)];
    let mut story = Story::of(Codec::Vp8);
    story.packet(0, 0, true, &picture(0, 0, 0)).packet(2, 2, true, &picture(2, 1, 0)).after(250);
    assert_eq!(story.told(), "K0 2");
    story.packet(3, 3, true, &picture(3, 1, 1)).packet(5, 5, true, &picture(5, 3, 0)).after(250);
    assert_eq!(story.told(), "?", "picture 3 may need 1, and 5 needs 4");
}
