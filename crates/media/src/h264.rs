//! H.264 in RTP (RFC 6184, packetization mode 1), as far as starting to decode is concerned. Payloads are untrusted:
//! whatever is in them, the answer is "nothing of the kind".

use crate::nal::{Units, aggregated};

/// NAL unit types (ITU-T H.264, table 7-1) and payload structures (RFC 6184, table 1).
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// The SEI message that tells of a recovery point (ITU-T H.264, D.1.8).
const RECOVERY_POINT: usize = 6;
/// Slice type (ITU-T H.264, table 7-6).
const B_SLICE: u32 = 1;

/// What `payload` carries.
pub fn units(payload: &[u8]) -> Units {
    let mut units = Units::default();
    match payload {
        [header, rest @ ..] if header & 31 == STAP_A => {
            for unit in aggregated(rest) {
                if let [header, body @ ..] = unit {
                    add(&mut units, header & 31, true, body);
                }
            }
        }
        [header, fragment, body @ ..] if header & 31 == FU_A => {
            add(&mut units, fragment & 31, fragment & 0x80 != 0, body);
        }
        [header, body @ ..] => add(&mut units, header & 31, true, body),
        [] => {}
    }
    units
}

fn add(units: &mut Units, kind: u8, begins: bool, body: &[u8]) {
    match kind {
        SLICE..=IDR => {
            units.picture = true;
            units.intra |= kind == IDR;
            // A slice header begins with first_mb_in_slice as Exp-Golomb: a leading 1 is the number 0.
            units.intra_start |= kind == IDR && begins && body.first().is_some_and(|byte| byte & 0x80 != 0);
            units.bidirectional |= kind == SLICE && begins && slice_type(body) == Some(B_SLICE);
        }
        SEI => units.recovery |= begins && messages(body).any(|kind| kind == RECOVERY_POINT),
        SPS => units.sps |= begins,
        PPS => units.pps |= begins,
        _ => {}
    }
}

/// What the messages of supplemental information in `body` are about, as far as they are whole (ITU-T H.264, 7.3.2.3.1): type
/// and size of each are sums, of which 255 is not the last number.
fn messages(body: &[u8]) -> impl Iterator<Item = usize> {
    fn sum(rest: &mut &[u8]) -> Option<usize> {
        let more = rest.iter().take_while(|byte| **byte == 255).count();
        let last = usize::from(*rest.get(more)?);
        *rest = &rest[more + 1..];
        Some(255 * more + last)
    }
    let mut rest = body;
    std::iter::from_fn(move || {
        let kind = sum(&mut rest)?;
        let size = sum(&mut rest)?;
        rest = rest.get(size..)?;
        Some(kind)
    })
}

/// The type of the slice whose header begins with `body` (ITU-T H.264, 7.3.3: the second number in it). The types from
/// 5 on say the same of all slices of the picture.
fn slice_type(body: &[u8]) -> Option<u32> {
    let mut bits =
        body.iter().take(8).flat_map(|byte| (0..8).rev().map(move |bit| u32::from(byte >> bit & 1)));
    let mut number = || {
        let zeros = bits.by_ref().take_while(|bit| *bit == 0).count();
        // More would be no number of a slice that exists.
        let value =
            (zeros <= 24).then(|| (0..zeros).try_fold(1, |value, _| Some(value << 1 | bits.next()?)))??;
        Some(value - 1)
    };
    number()?;
    Some(number()? % 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_found_in_every_packaging() {
        let cases: [(&str, &[u8], bool, bool); 12] = [
            ("IDR, first slice", &[0x65, 0x88], true, true),
            ("IDR, a later slice", &[0x65, 0x40], true, false),
            ("plain slice", &[0x41, 0x9A], false, false),
            ("SPS", &[0x67, 0x42], false, true),
            ("SEI with a recovery point", &[0x06, 6, 1, 0xC4, 0x80], true, true),
            ("SEI with others before it", &[0x06, 255, 1, 2, 9, 9, 1, 1, 7, 6, 1, 0xC4, 0x80], true, true),
            (
                "STAP-A with SPS, SEI and a slice",
                &[0x78, 0, 1, 0x67, 0, 4, 6, 6, 1, 0xC4, 0, 2, 0x41, 0x9A],
                true,
                true,
            ),
            ("FU-A, start of an IDR", &[0x7C, 0x85, 0x88], true, true),
            ("FU-A, middle of an IDR", &[0x7C, 0x05, 0x88], true, false),
            ("FU-A, start of a plain slice", &[0x7C, 0x81, 0x9A], false, false),
            ("STAP-A with SPS and PPS", &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE], false, true),
            ("STAP-A with SEI and a slice", &[0x78, 0, 1, 0x06, 0, 2, 0x41, 0x9A], false, false),
        ];
        for (name, payload, keyframe, starts) in cases {
            let units = units(payload);
            assert_eq!((units.keyframe(), units.starts_keyframe()), (keyframe, starts), "{name}");
        }
    }

    #[test]
    fn garbage_is_no_keyframe_and_no_panic() {
        for payload in
            [&[][..], &[0x78], &[0x78, 0xFF], &[0x78, 0xFF, 0xFF, 0x67], &[0x7C], &[0x78, 0, 0, 0, 0]]
        {
            assert_eq!(units(payload), Units::default(), "{payload:02x?}");
        }
        for sei in [&[0x06][..], &[0x06, 6], &[0x06, 6, 9, 1], &[0x06, 255, 255], &[0x06, 5, 1, 6]] {
            assert!(!units(sei).recovery, "{sei:02x?}");
        }
        // A STAP-A is read as far as it is whole.
        assert!(units(&[0x78, 0, 1, 0x67, 0xFF, 0xFF, 0x41]).sps);
    }

    #[test]
    fn slices_predicted_from_both_sides_are_told_from_others() {
        // first_mb_in_slice, slice_type as Exp-Golomb.
        let cases: [(&str, &[u8], bool); 6] = [
            ("0, P (5)", &[0x41, 0b1001_1000], false),
            ("0, B (6)", &[0x01, 0b1001_1100], true),
            ("0, B (1)", &[0x01, 0b1010_0000], true),
            ("0, I (7)", &[0x41, 0b1000_1000], false),
            ("130, B (6), in an FU-A", &[0x5C, 0x81, 0b0000_0001, 0b0000_0110, 0b0111_0000], true),
            ("the middle of an FU-A", &[0x5C, 0x01, 0b1001_1100], false),
        ];
        for (name, payload, bidirectional) in cases {
            assert_eq!(units(payload).bidirectional, bidirectional, "{name}");
        }
        assert!(!units(&[0x01]).bidirectional && !units(&[0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0]).bidirectional);
    }
}
