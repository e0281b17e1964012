//! H.265 in RTP (RFC 7798, without decoding order numbers, as all of WebRTC sends it), as far as starting to decode is
//! concerned. Payloads are untrusted: whatever is in them, the answer is "nothing of the kind".

use crate::nal::{Units, aggregated};

/// NAL unit types (ITU-T H.265, table 7-1) and payload structures (RFC 7798, 4.4).
const FIRST_RANDOM_ACCESS: u8 = 16; // BLA, IDR and CRA, and what is reserved for their like
const LAST_RANDOM_ACCESS: u8 = 23;
const LAST_PICTURE: u8 = 31;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;

/// What `payload` carries.
pub fn units(payload: &[u8]) -> Units {
    let mut units = Units::default();
    match payload {
        [header, _, rest @ ..] if kind(*header) == AGGREGATION => {
            for unit in aggregated(rest) {
                if let [header, _, body @ ..] = unit {
                    add(&mut units, kind(*header), true, body);
                }
            }
        }
        [header, _, fragment, body @ ..] if kind(*header) == FRAGMENTATION => {
            add(&mut units, fragment & 63, fragment & 0x80 != 0, body);
        }
        [header, _, body @ ..] => add(&mut units, kind(*header), true, body),
        _ => {}
    }
    units
}

fn kind(header: u8) -> u8 {
    header >> 1 & 63
}

fn add(units: &mut Units, kind: u8, begins: bool, body: &[u8]) {
    match kind {
        0..=LAST_PICTURE => {
            let intra = (FIRST_RANDOM_ACCESS..=LAST_RANDOM_ACCESS).contains(&kind);
            units.picture = true;
            units.intra |= intra;
            // A slice segment header begins with first_slice_segment_in_pic_flag.
            units.intra_start |= intra && begins && body.first().is_some_and(|byte| byte & 0x80 != 0);
        }
        VPS => units.vps |= begins,
        SPS => units.sps |= begins,
        PPS => units.pps |= begins,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_found_in_every_packaging() {
        let cases: [(&str, &[u8], bool, bool); 11] = [
            ("IDR, first slice", &[0x26, 0x01, 0xAF], true, true),
            ("IDR, a later slice", &[0x26, 0x01, 0x2F], true, false),
            ("CRA", &[0x2A, 0x01, 0x80], true, true),
            ("BLA", &[0x20, 0x01, 0x80], true, true),
            ("plain slice", &[0x02, 0x01, 0xD0], false, false),
            ("SPS", &[0x42, 0x01, 0x01], false, true),
            ("FU, start of an IDR", &[0x62, 0x01, 0x93, 0xAF], true, true),
            ("FU, middle of an IDR", &[0x62, 0x01, 0x13, 0xAF], true, false),
            ("FU, start of a plain slice", &[0x62, 0x01, 0x81, 0xD0], false, false),
            ("AP with VPS, SPS, PPS", &[0x60, 1, 0, 2, 0x40, 1, 0, 2, 0x42, 1, 0, 2, 0x44, 1], false, true),
            ("AP with SEI and a slice", &[0x60, 1, 0, 2, 0x4E, 1, 0, 3, 0x02, 1, 0xD0], false, false),
        ];
        for (name, payload, keyframe, starts) in cases {
            let units = units(payload);
            assert_eq!((units.keyframe(), units.starts_keyframe()), (keyframe, starts), "{name}");
        }
    }

    #[test]
    fn garbage_is_no_keyframe_and_no_panic() {
        for payload in [
            &[][..],
            &[0x60],
            &[0x60, 1],
            &[0x60, 1, 0xFF, 0xFF, 0x42],
            &[0x62, 1],
            &[0x60, 1, 0, 0, 0, 1, 0x42],
        ] {
            assert!(!units(payload).keyframe(), "{payload:02x?}");
        }
    }
}
