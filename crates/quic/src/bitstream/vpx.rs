//! VP8 (RFC 7741) and VP9 (RFC 9628): payload descriptors and bare frames.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Decoder, MAX_PAYLOAD_BYTES, Packets, bits::Bits};

/// What begins a VP8 keyframe behind its first three bytes (RFC 6386, 9.1).
const VP8_SYNC: [u8; 3] = [0x9D, 0x01, 0x2A];
/// The same of VP9 (bitstream specification, 6.2).
const VP9_SYNC: u32 = 0x49_83_42;

pub(super) fn depacketize_vp8(payloads: &[Bytes], out: &mut BytesMut) -> Option<()> {
    for payload in payloads {
        let first = *payload.first()?;
        let mut at = 1;
        if first & 0x80 != 0 {
            let extension = *payload.get(1)?;
            at = 2;
            if extension & 0x80 != 0 {
                at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
            }
            at += usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
        }
        out.put_slice(payload.get(at..)?);
    }
    Some(())
}

pub(super) fn depacketize_vp9(payloads: &[Bytes], out: &mut BytesMut) -> Option<()> {
    for payload in payloads {
        out.put_slice(payload.get(vp9_body(payload)?..)?);
    }
    Some(())
}

/// Where a VP9 payload's descriptor ends (RFC 9628, 4.2).
fn vp9_body(payload: &[u8]) -> Option<usize> {
    let first = *payload.first()?;
    let [id, predicted, layers, flexible, structure] =
        [0x80, 0x40, 0x20, 0x10, 0x02].map(|bit| first & bit != 0);
    let mut at = 1;
    if id {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    if layers {
        at += if flexible { 1 } else { 2 };
    }
    if flexible && predicted {
        for _ in 0..3 {
            at += 1;
            if payload.get(at - 1)? & 1 == 0 {
                break;
            }
        }
    }
    if structure {
        let head = *payload.get(at)?;
        at += 1;
        if head & 0x10 != 0 {
            at += 4 * (usize::from(head >> 5) + 1);
        }
        if head & 0x08 != 0 {
            let pictures = *payload.get(at)?;
            at += 1;
            for _ in 0..pictures {
                at += 1 + usize::from(payload.get(at)? >> 2 & 3);
            }
        }
    }
    Some(at)
}

pub(super) fn packetize_vp8(frame: &Bytes, picture_id: u16) -> Option<Packets> {
    let keyframe = frame[0] & 1 == 0;
    let [high, low] = (picture_id | 0x8000).to_be_bytes();
    let payloads = pieces(frame, |begins, _| vec![if begins { 0x90 } else { 0x80 }, 0x80, high, low]);
    Some(Packets { payloads, keyframe })
}

/// Non-flexible mode, one spatial and one temporal layer.
pub(super) fn packetize_vp9(frame: &Bytes, picture_id: u16) -> Option<Packets> {
    let keyframe = vp9_header(frame)?.keyframe;
    let [high, low] = (picture_id | 0x8000).to_be_bytes();
    let payloads = pieces(frame, |begins, ends| {
        let predicted = if keyframe { 0 } else { 0x40 };
        let [begin, end] = [(begins, 0x08), (ends, 0x04)].map(|(is, bit)| if is { bit } else { 0 });
        vec![0x80 | predicted | begin | end, high, low]
    });
    Some(Packets { payloads, keyframe })
}

fn pieces(frame: &Bytes, descriptor: impl Fn(bool, bool) -> Vec<u8>) -> Vec<Bytes> {
    let room = MAX_PAYLOAD_BYTES - descriptor(true, true).len();
    let count = frame.len().div_ceil(room);
    let piece = |(index, piece): (usize, &[u8])| {
        let mut payload = BytesMut::from(&descriptor(index == 0, index + 1 == count)[..]);
        payload.put_slice(piece);
        payload.freeze()
    };
    frame.chunks(frame.len().div_ceil(count)).enumerate().map(piece).collect()
}

pub(super) fn decoder_vp8(keyframe: &[u8]) -> Option<Decoder> {
    let side = |at: usize| {
        Some(u32::from(u16::from_le_bytes([*keyframe.get(at)?, *keyframe.get(at + 1)?]) & 0x3FFF))
    };
    let size = if keyframe.get(3..6)? == VP8_SYNC { side(6).zip(side(8)) } else { None };
    Some(Decoder { codec: "vp8".to_owned(), size })
}

pub(super) fn decoder_vp9(keyframe: &[u8]) -> Option<Decoder> {
    let header = vp9_header(keyframe)?;
    let size = header.size?;
    // Levels by size alone (VP9 levels, Annex A): decoders of browsers look at no more.
    let level = match u64::from(size.0) * u64::from(size.1) {
        0..=122_880 => 20,
        122_881..=552_960 => 30,
        552_961..=983_040 => 31,
        983_041..=2_228_224 => 41,
        _ => 51,
    };
    let codec = format!("vp09.{:02}.{level}.{:02}", header.profile, header.depth);
    Some(Decoder { codec, size: Some(size) })
}

struct Vp9Header {
    keyframe: bool,
    profile: u32,
    depth: u32,
    size: Option<(u32, u32)>,
}

/// The beginning of the uncompressed header (bitstream specification, 6.2).
fn vp9_header(frame: &[u8]) -> Option<Vp9Header> {
    let mut bits = Bits::new(frame);
    if bits.bits(2)? != 2 {
        return None;
    }
    let profile = bits.bit()? | bits.bit()? << 1;
    if profile == 3 {
        bits.skip(1)?;
    }
    let (mut header, shows_existing) =
        (Vp9Header { keyframe: false, profile, depth: 8, size: None }, bits.flag()?);
    if shows_existing {
        return Some(header);
    }
    header.keyframe = !bits.flag()?;
    bits.skip(2)?;
    if !header.keyframe {
        return Some(header);
    }
    if bits.bits(24)? != VP9_SYNC {
        return None;
    }
    if profile >= 2 {
        header.depth = if bits.flag()? { 12 } else { 10 };
    }
    const SRGB: u32 = 7;
    match (bits.bits(3)?, profile) {
        (SRGB, 1 | 3) => bits.skip(1)?,
        (SRGB, _) => {}
        (_, 1 | 3) => bits.skip(4)?,
        _ => bits.skip(1)?,
    }
    header.size = Some((bits.bits(16)? + 1, bits.bits(16)? + 1));
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vp8(keyframe: bool, bytes: usize) -> Bytes {
        let begin = [if keyframe { 0x10 } else { 0x11 }, 2, 0, 0x9D, 0x01, 0x2A, 0x80, 0x02, 0x68, 0x01];
        begin.into_iter().chain((0..bytes).map(|i| i as u8)).collect()
    }

    /// Profile 0, 640 × 360.
    fn vp9(bytes: usize) -> Bytes {
        let begin = [0x82, 0x49, 0x83, 0x42, 0x20, 0x27, 0xF0, 0x16, 0x70];
        begin.into_iter().chain((0..bytes).map(|i| i as u8)).collect()
    }

    #[test]
    fn frames_go_into_packets_and_come_out_the_same() {
        for bytes in [1, MAX_PAYLOAD_BYTES, 7 * MAX_PAYLOAD_BYTES] {
            let (packets, mut out) = (packetize_vp8(&vp8(true, bytes), 300).unwrap(), BytesMut::new());
            assert!(packets.keyframe && packets.payloads.iter().all(|one| one.len() <= MAX_PAYLOAD_BYTES));
            let descriptor = haul_media::vp8::Descriptor::parse(&packets.payloads[0]).unwrap();
            assert!(descriptor.starts_keyframe);
            assert_eq!(descriptor.numbers.unwrap().picture_id, 300);
            depacketize_vp8(&packets.payloads, &mut out).unwrap();
            assert_eq!(out, vp8(true, bytes));

            let (packets, mut out) = (packetize_vp9(&vp9(bytes), 300).unwrap(), BytesMut::new());
            assert!(packets.keyframe && packets.payloads.iter().all(|one| one.len() <= MAX_PAYLOAD_BYTES));
            let descriptor = haul_media::vp9::Descriptor::parse(&packets.payloads[0]).unwrap();
            assert!(descriptor.starts_keyframe);
            assert_eq!(descriptor.numbers.unwrap().picture_id, 300);
            depacketize_vp9(&packets.payloads, &mut out).unwrap();
            assert_eq!(out, vp9(bytes));
        }
        assert!(!packetize_vp8(&vp8(false, 9), 1).unwrap().keyframe);
    }

    #[test]
    fn what_decoders_need_is_read_from_keyframes() {
        assert_eq!(
            decoder_vp8(&vp8(true, 1)),
            Some(Decoder { codec: "vp8".to_owned(), size: Some((640, 360)) })
        );
        let vp9 = decoder_vp9(&vp9(1)).unwrap();
        assert_eq!((vp9.codec.as_str(), vp9.size), ("vp09.00.30.08", Some((640, 360))));
        assert_eq!(decoder_vp9(&[0xFF; 20]), None);
    }

    #[test]
    fn descriptors_cut_short_make_no_frame() {
        let whole =
            |payload: &'static [u8]| depacketize_vp8(&[Bytes::from_static(payload)], &mut BytesMut::new());
        assert_eq!([whole(&[]), whole(&[0x90]), whole(&[0x90, 0xF0, 0x80])], [None; 3]);
        let whole =
            |payload: &'static [u8]| depacketize_vp9(&[Bytes::from_static(payload)], &mut BytesMut::new());
        assert_eq!([whole(&[]), whole(&[0x80]), whole(&[0x0A]), whole(&[0x02, 0xFF])], [None; 4]);
    }
}
