//! H.265: RTP payloads (RFC 7798, without decoding order numbers) and byte streams.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Decoder, MAX_PAYLOAD_BYTES, Packets, bits::Bits, nal};

const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=23;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const AUD: u8 = 35;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;
/// A sequence parameter set is read no further than this.
const MAX_SPS_BYTES: usize = 256;

fn kind(header: u8) -> u8 {
    header >> 1 & 63
}

pub(super) fn depacketize(payloads: &[Bytes], out: &mut BytesMut) -> Option<()> {
    let mut within_fragment = false;
    for payload in payloads {
        let [first, second, body @ ..] = &payload[..] else { return None };
        match kind(*first) {
            AGGREGATION => {
                let mut rest = body;
                while let [high, low, more @ ..] = rest {
                    let (unit, more) =
                        more.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
                    nal::put(out, unit);
                    rest = more;
                }
            }
            FRAGMENTATION => {
                let (fragment, body) = body.split_first()?;
                if fragment & 0x80 != 0 {
                    nal::put(out, &[first & 0x81 | (fragment & 63) << 1, *second]);
                } else if !within_fragment {
                    return None;
                }
                within_fragment = fragment & 0x40 == 0;
                out.put_slice(body);
            }
            0..=47 => nal::put(out, payload),
            _ => return None,
        }
    }
    (!within_fragment).then_some(())
}

pub(super) fn packetize(frame: &Bytes) -> Option<Packets> {
    let mut units = nal::split(frame);
    units.retain(|unit| unit.len() > 2 && kind(unit[0]) != AUD && kind(unit[0]) < AGGREGATION);
    let keyframe = units.iter().any(|unit| RANDOM_ACCESS.contains(&kind(unit[0])) || kind(unit[0]) == SPS);
    let mut payloads = Vec::new();
    let mut rest = &units[..];
    while let [unit, more @ ..] = rest {
        let sets = rest.iter().take_while(|unit| matches!(kind(unit[0]), VPS | SPS | PPS)).count();
        let together = nal::run(2, &rest[..sets]);
        if together > 0 {
            payloads.push(nal::aggregate(&[AGGREGATION << 1, 1], &rest[..together]));
            rest = &rest[together..];
            continue;
        }
        if unit.len() <= MAX_PAYLOAD_BYTES {
            payloads.push(unit.clone());
        } else {
            fragment(unit, &mut payloads);
        }
        rest = more;
    }
    (!payloads.is_empty()).then_some(Packets { payloads, keyframe })
}

fn fragment(unit: &Bytes, payloads: &mut Vec<Bytes>) {
    let body = unit.slice(2..);
    let pieces = body.len().div_ceil(MAX_PAYLOAD_BYTES - 3);
    let each = body.len().div_ceil(pieces);
    for (index, piece) in body.chunks(each).enumerate() {
        let begins = if index == 0 { 0x80 } else { 0 };
        let ends = if index + 1 == pieces { 0x40 } else { 0 };
        let mut payload = BytesMut::with_capacity(piece.len() + 3);
        payload.put_slice(&[unit[0] & 0x81 | FRAGMENTATION << 1, unit[1], kind(unit[0]) | begins | ends]);
        payload.put_slice(piece);
        payloads.push(payload.freeze());
    }
}

/// The codec string (ISO/IEC 14496-15, E.3) and size, from the sequence parameter set (ITU-T H.265, 7.3.2.2).
pub(super) fn decoder(keyframe: &[u8]) -> Option<Decoder> {
    let stream = Bytes::copy_from_slice(keyframe);
    let units = nal::split(&stream);
    let sps = units.iter().find(|unit| kind(unit[0]) == SPS)?;
    let sps = nal::unescape(sps.get(2..)?, MAX_SPS_BYTES);
    let layers = sps.first()? >> 1 & 7;
    let profile = *sps.get(1)?;
    let compatible = u32::from_be_bytes(sps.get(2..6)?.try_into().ok()?).reverse_bits();
    let constraints = sps.get(6..12)?;
    let level = *sps.get(12)?;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let mut codec = format!("hev1.{space}{}.{compatible:X}.{tier}{level}", profile & 31);
    let told = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    constraints[..told].iter().for_each(|byte| codec.push_str(&format!(".{byte:X}")));
    Some(Decoder { codec, size: size(&sps[13..], layers) })
}

/// Width and height, from behind the general profile, tier and level.
fn size(sps: &[u8], layers: u8) -> Option<(u32, u32)> {
    let mut bits = Bits::new(sps);
    let mut present = Vec::new();
    for _ in 0..layers {
        present.push((bits.flag()?, bits.flag()?));
    }
    if layers > 0 {
        bits.skip(2 * (8 - u32::from(layers)))?;
    }
    for (profile, level) in present {
        bits.skip(if profile { 88 } else { 0 } + if level { 8 } else { 0 })?;
    }
    bits.ue()?;
    let chroma = bits.ue()?;
    if chroma == 3 {
        bits.skip(1)?;
    }
    let (width, height) = (bits.ue()?, bits.ue()?);
    let mut crop = [0; 4];
    if bits.flag()? {
        for side in &mut crop {
            *side = bits.ue()?;
        }
    }
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let across = crop[0].checked_add(crop[1])?.checked_mul(unit_x)?;
    let down = crop[2].checked_add(crop[3])?.checked_mul(unit_y)?;
    Some((width.checked_sub(across)?, height.checked_sub(down)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From x265, 320 × 240, main profile.
    const SPS_UNIT: [u8; 42] = [
        0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00,
        0x3c, 0xa0, 0x0a, 0x08, 0x0f, 0x16, 0x59, 0x59, 0xa4, 0x93, 0x2b, 0xc0, 0x5a, 0x02, 0x00, 0x00, 0x03,
        0x00, 0x02, 0x00, 0x00, 0x03, 0x00, 0x3c, 0x10,
    ];

    fn keyframe(slice: usize) -> Bytes {
        let mut stream = BytesMut::new();
        nal::put(&mut stream, &[0x40, 1, 0x0C, 1]);
        nal::put(&mut stream, &SPS_UNIT);
        nal::put(&mut stream, &[0x44, 1, 0xC1]);
        nal::put(
            &mut stream,
            &[0x26, 1].into_iter().chain((0..slice).map(|i| i as u8 | 1)).collect::<Vec<_>>(),
        );
        stream.freeze()
    }

    #[test]
    fn a_frame_goes_into_packets_and_comes_out_the_same() {
        for slice in [1, MAX_PAYLOAD_BYTES - 2, MAX_PAYLOAD_BYTES, 4 * MAX_PAYLOAD_BYTES] {
            let stream = keyframe(slice);
            let packets = packetize(&stream).unwrap();
            assert!(packets.keyframe);
            assert!(packets.payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD_BYTES));
            let mut out = BytesMut::new();
            depacketize(&packets.payloads, &mut out).unwrap();
            assert_eq!(out, stream);
        }
    }

    #[test]
    fn what_decoders_need_is_read_from_the_parameter_set() {
        let decoder = decoder(&keyframe(10)).unwrap();
        assert_eq!(decoder.codec, "hev1.1.6.L60.90");
        assert_eq!(decoder.size, Some((320, 240)));
    }

    #[test]
    fn lost_and_damaged_fragments_make_no_frame() {
        let packets = packetize(&keyframe(5 * MAX_PAYLOAD_BYTES)).unwrap().payloads;
        let whole = |payloads: &[Bytes]| depacketize(payloads, &mut BytesMut::new());
        assert_eq!(whole(&packets[..packets.len() - 1]), None);
        assert_eq!(whole(&packets[2..]), None);
        assert_eq!(whole(&[Bytes::from_static(&[0x60, 1, 0, 9, 1])]), None);
        assert_eq!(decoder(&[0, 0, 1, 0x42, 1, 1]), None);
    }
}
