//! H.264: RTP payloads (RFC 6184, packetization mode 1) and byte streams.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Decoder, MAX_PAYLOAD_BYTES, Packets, bits::Bits, nal};

const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// Profiles whose parameter sets say how colours are sampled (ITU-T H.264, 7.3.2.1.1).
const WITH_CHROMA: [u8; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// A sequence parameter set is read no further than this.
const MAX_SPS_BYTES: usize = 256;

pub(super) fn depacketize(payloads: &[Bytes], out: &mut BytesMut) -> Option<()> {
    let mut within_fragment = false;
    for payload in payloads {
        let (header, body) = payload.split_first()?;
        match header & 31 {
            STAP_A => {
                let mut rest = body;
                while let [high, low, more @ ..] = rest {
                    let (unit, more) =
                        more.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
                    nal::put(out, unit);
                    rest = more;
                }
            }
            FU_A => {
                let (fragment, body) = body.split_first()?;
                if fragment & 0x80 != 0 {
                    nal::put(out, &[header & 0xE0 | fragment & 31]);
                } else if !within_fragment {
                    return None;
                }
                within_fragment = fragment & 0x40 == 0;
                out.put_slice(body);
            }
            1..=23 => nal::put(out, payload),
            _ => return None,
        }
    }
    (!within_fragment).then_some(())
}

pub(super) fn packetize(frame: &Bytes) -> Option<Packets> {
    // Delimiters say what the packets' markers and timestamps say.
    let mut units = nal::split(frame);
    units.retain(|unit| unit[0] & 31 != AUD && (1..24).contains(&(unit[0] & 31)));
    let keyframe = units.iter().any(|unit| matches!(unit[0] & 31, IDR | SPS));
    let mut payloads = Vec::new();
    let mut rest = &units[..];
    while let [unit, more @ ..] = rest {
        // Parameter sets travel with each other; RFC 6184, 5.7.1.
        let sets = rest.iter().take_while(|unit| matches!(unit[0] & 31, SPS | PPS)).count();
        let together = nal::run(1, &rest[..sets]);
        if together > 0 {
            let importance = rest[..together].iter().map(|unit| unit[0] & 0x60).max().unwrap_or_default();
            payloads.push(nal::aggregate(&[importance | STAP_A], &rest[..together]));
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
    let (indicator, kind) = (unit[0] & 0xE0 | FU_A, unit[0] & 31);
    let body = unit.slice(1..);
    let pieces = body.len().div_ceil(MAX_PAYLOAD_BYTES - 2);
    let each = body.len().div_ceil(pieces);
    for (index, piece) in body.chunks(each).enumerate() {
        let begins = if index == 0 { 0x80 } else { 0 };
        let ends = if index + 1 == pieces { 0x40 } else { 0 };
        let mut payload = BytesMut::with_capacity(piece.len() + 2);
        payload.put_slice(&[indicator, kind | begins | ends]);
        payload.put_slice(piece);
        payloads.push(payload.freeze());
    }
}

pub(super) fn decoder(keyframe: &[u8]) -> Option<Decoder> {
    let stream = Bytes::copy_from_slice(keyframe);
    let units = nal::split(&stream);
    let sps = units.iter().find(|unit| unit[0] & 31 == SPS)?;
    let [profile, constraints, level] = [*sps.get(1)?, *sps.get(2)?, *sps.get(3)?];
    let codec = format!("avc3.{profile:02x}{constraints:02x}{level:02x}");
    Some(Decoder { codec, size: size(sps) })
}

/// Width and height of the pictures that a sequence parameter set describes (ITU-T H.264, 7.3.2.1.1).
fn size(sps: &[u8]) -> Option<(u32, u32)> {
    let sps = nal::unescape(sps.get(1..)?, MAX_SPS_BYTES);
    let mut bits = Bits::new(&sps);
    let profile = bits.bits(8)?;
    bits.skip(16)?;
    bits.ue()?;
    let mut chroma = 1;
    if WITH_CHROMA.contains(&(profile as u8)) {
        chroma = bits.ue()?;
        if chroma == 3 {
            bits.skip(1)?;
        }
        bits.ue()?;
        bits.ue()?;
        bits.skip(1)?;
        if bits.flag()? {
            for list in 0..if chroma == 3 { 12 } else { 8 } {
                if bits.flag()? {
                    skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                }
            }
        }
    }
    bits.ue()?;
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1)?;
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let rows = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let frames_only = bits.bit()?;
    let height = rows.checked_mul(2 - frames_only)?;
    if frames_only == 0 {
        bits.skip(1)?;
    }
    bits.skip(1)?;
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
    let down = crop[2].checked_add(crop[3])?.checked_mul(unit_y * (2 - frames_only))?;
    Some((width.checked_sub(across)?, height.checked_sub(down)?))
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?) & 255;
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From x264, 640 × 360, constrained baseline profile.
    const SPS_UNIT: [u8; 25] = [
        0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xbf, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00, 0x04, 0x00,
        0x00, 0x03, 0x00, 0xf0, 0x3c, 0x58, 0xba, 0x80,
    ];

    fn keyframe(slice: usize) -> Bytes {
        let mut stream = BytesMut::new();
        nal::put(&mut stream, &[AUD, 0xF0]);
        nal::put(&mut stream, &SPS_UNIT);
        nal::put(&mut stream, &[0x68, 0xEB, 0xE3, 0xCB]);
        nal::put(&mut stream, &[0x65].into_iter().chain((0..slice).map(|i| i as u8 | 1)).collect::<Vec<_>>());
        stream.freeze()
    }

    #[test]
    fn a_frame_goes_into_packets_and_comes_out_the_same() {
        for slice in [1, 100, MAX_PAYLOAD_BYTES - 1, MAX_PAYLOAD_BYTES, 5 * MAX_PAYLOAD_BYTES + 3] {
            let stream = keyframe(slice);
            let packets = packetize(&stream).unwrap();
            assert!(packets.keyframe);
            assert!(packets.payloads.iter().all(|payload| (1..=MAX_PAYLOAD_BYTES).contains(&payload.len())));
            let mut out = BytesMut::new();
            depacketize(&packets.payloads, &mut out).unwrap();
            assert_eq!(out, stream.slice(6..), "all but the delimiter");
        }
    }

    #[test]
    fn what_decoders_need_is_read_from_the_parameter_set() {
        let decoder = decoder(&keyframe(10)).unwrap();
        assert_eq!(decoder.codec, "avc3.42c01e");
        assert_eq!(decoder.size, Some((640, 360)));
    }

    #[test]
    fn lost_and_damaged_fragments_make_no_frame() {
        let packets = packetize(&keyframe(5 * MAX_PAYLOAD_BYTES)).unwrap().payloads;
        let whole = |payloads: &[Bytes]| depacketize(payloads, &mut BytesMut::new());
        assert_eq!(whole(&packets), Some(()));
        assert_eq!(whole(&packets[..packets.len() - 1]), None, "the end is missing");
        assert_eq!(whole(&packets[2..]), None, "the beginning is missing");
        assert_eq!(whole(&[Bytes::from_static(&[0x78, 0, 9, 1])]), None);
        assert_eq!(whole(&[Bytes::new()]), None);
        assert_eq!(packetize(&Bytes::from_static(b"no start code")), None);
    }
}
