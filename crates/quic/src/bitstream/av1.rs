//! AV1: RTP payloads ("RTP Payload Format For AV1", Alliance for Open Media) and temporal units of OBUs with sizes.

use bytes::{BufMut, Bytes, BytesMut};

use super::{Decoder, MAX_PAYLOAD_BYTES, Packets, bits::Bits};

/// The aggregation header (4.4): an element goes on from the packet before, goes on in the next, a sequence begins.
const CONTINUES: u8 = 0x80;
const CONTINUED: u8 = 0x40;
const NEW_SEQUENCE: u8 = 0x08;
/// OBU types (AV1 specification, 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// In an OBU's header: it has a size, it has an extension.
const HAS_SIZE: u8 = 2;
const HAS_EXTENSION: u8 = 4;
/// The most OBUs of a temporal unit. Further ones are nonsense.
const MAX_OBUS: usize = 256;

pub(super) fn depacketize(payloads: &[Bytes], out: &mut BytesMut) -> Option<()> {
    let mut begun: Option<BytesMut> = None;
    for payload in payloads {
        let (header, mut rest) = payload.split_first()?;
        let told = usize::from(header >> 4 & 3);
        let mut index = 0;
        while !rest.is_empty() {
            index += 1;
            let element = if index == told {
                std::mem::take(&mut rest)
            } else {
                let (length, after) = leb128(rest)?;
                let (element, after) = after.split_at_checked(length)?;
                rest = after;
                element
            };
            let first = index == 1 && header & CONTINUES != 0;
            let mut obu = match (begun.take(), first) {
                (Some(obu), true) => obu,
                (None, false) => BytesMut::new(),
                _ => return None,
            };
            obu.put_slice(element);
            if rest.is_empty() && header & CONTINUED != 0 {
                begun = Some(obu);
            } else {
                put(out, &obu)?;
            }
        }
    }
    begun.is_none().then_some(())
}

/// Appends an OBU with its size (5.3.2).
fn put(out: &mut BytesMut, obu: &[u8]) -> Option<()> {
    let header = *obu.first()?;
    if header & HAS_SIZE != 0 {
        out.put_slice(obu);
        return Some(());
    }
    let body = if header & HAS_EXTENSION != 0 { 2 } else { 1 };
    let payload = obu.get(body..)?;
    out.put_u8(header | HAS_SIZE);
    out.put_slice(&obu[1..body]);
    put_leb128(out, payload.len());
    out.put_slice(payload);
    Some(())
}

pub(super) fn packetize(frame: &Bytes) -> Option<Packets> {
    let obus = split(frame)?;
    let keyframe = obus.iter().any(|obu| obu[0] >> 3 & 15 == SEQUENCE_HEADER);
    let mut payloads: Vec<Bytes> = Vec::new();
    let mut payload = BytesMut::new();
    let begin = |first: bool, continues: bool| {
        let mut payload = BytesMut::with_capacity(MAX_PAYLOAD_BYTES);
        let sequence = if first && keyframe { NEW_SEQUENCE } else { 0 };
        payload.put_u8(sequence | if continues { CONTINUES } else { 0 });
        payload
    };
    for obu in &obus {
        let mut rest = obu.clone();
        let mut continues = false;
        while !rest.is_empty() {
            if payload.is_empty() {
                payload = begin(payloads.is_empty(), continues);
            }
            // Two bytes of length are enough for any payload of ours.
            let room = MAX_PAYLOAD_BYTES.saturating_sub(payload.len() + 2);
            if room < 16 && payload.len() > 1 {
                payloads.push(payload.split().freeze());
                continue;
            }
            let piece = rest.split_to(rest.len().min(room));
            put_leb128(&mut payload, piece.len());
            payload.put_slice(&piece);
            continues = !rest.is_empty();
            if continues {
                payload[0] |= CONTINUED;
                payloads.push(payload.split().freeze());
            }
        }
    }
    if !payload.is_empty() {
        payloads.push(payload.freeze());
    }
    (!payloads.is_empty()).then_some(Packets { payloads, keyframe })
}

/// A temporal unit's OBUs without their sizes, and without what packets do not carry (section 5).
fn split(unit: &Bytes) -> Option<Vec<Bytes>> {
    let mut obus = Vec::new();
    let mut at = 0;
    while at < unit.len() {
        let header = unit[at];
        let head = if header & HAS_EXTENSION != 0 { 2 } else { 1 };
        let (length, body) = if header & HAS_SIZE != 0 {
            let (length, after) = leb128(unit.get(at + head..)?)?;
            (length, unit.len() - after.len())
        } else {
            (unit.len().checked_sub(at + head)?, at + head)
        };
        let end = body.checked_add(length).filter(|end| *end <= unit.len())?;
        if obus.len() == MAX_OBUS {
            return None;
        }
        if !matches!(header >> 3 & 15, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            let mut obu = BytesMut::with_capacity(head + length);
            obu.put_u8(header & !HAS_SIZE);
            obu.put_slice(&unit[at + 1..at + head]);
            obu.put_slice(&unit[body..end]);
            obus.push(obu.freeze());
        }
        at = end;
    }
    (!obus.is_empty()).then_some(obus)
}

/// The codec string (AV1 in ISOBMFF, section 5) and size, from the sequence header (5.5).
pub(super) fn decoder(keyframe: &[u8]) -> Option<Decoder> {
    let unit = Bytes::copy_from_slice(keyframe);
    let obus = split(&unit)?;
    let sequence = obus.iter().find(|obu| obu[0] >> 3 & 15 == SEQUENCE_HEADER)?;
    let body = if sequence[0] & HAS_EXTENSION != 0 { 2 } else { 1 };
    let mut bits = Bits::new(sequence.get(body..)?);
    let profile = bits.bits(3)?;
    bits.skip(1)?;
    let reduced = bits.flag()?;
    let (mut level, mut tier) = (0, 0);
    if reduced {
        level = bits.bits(5)?;
    } else {
        let mut delays = None;
        if bits.flag()? {
            bits.skip(64)?;
            if bits.flag()? {
                bits.ue()?;
            }
            if bits.flag()? {
                delays = Some(bits.bits(5)? + 1);
                bits.skip(42)?;
            }
        }
        let told = bits.flag()?;
        for point in 0..=bits.bits(5)? {
            bits.skip(12)?;
            let this_level = bits.bits(5)?;
            let this_tier = if this_level > 7 { bits.bit()? } else { 0 };
            if let Some(delays) = delays
                && bits.flag()?
            {
                bits.skip(2 * delays + 1)?;
            }
            if told && bits.flag()? {
                bits.skip(4)?;
            }
            if point == 0 {
                (level, tier) = (this_level, this_tier);
            }
        }
    }
    let (across, down) = (bits.bits(4)? + 1, bits.bits(4)? + 1);
    let size = (bits.bits(across)? + 1, bits.bits(down)? + 1);
    let tier = if tier == 0 { 'M' } else { 'H' };
    // Browsers' encoders make 8 bits; decoders find out by themselves where it is another depth.
    Some(Decoder { codec: format!("av01.{profile}.{level:02}{tier}.08"), size: Some(size) })
}

/// A number of up to four bytes (4.10.5); nothing here is larger.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn put_leb128(out: &mut BytesMut, mut value: usize) {
    while value > 0x7F {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delimiter and sequence header, from libaom, 320 × 240.
    const SEQUENCE: [u8; 15] = [0x12, 0, 0x0a, 11, 0, 0, 0, 0x04, 0x3c, 0xff, 0xbc, 0xda, 0xf9, 0x00, 0x40];

    /// Those and a frame of `bytes`.
    fn keyframe(bytes: usize) -> Bytes {
        let mut unit = BytesMut::from(&SEQUENCE[..]);
        unit.put_u8(0x32);
        put_leb128(&mut unit, bytes);
        (0..bytes).for_each(|i| unit.put_u8(i as u8));
        unit.freeze()
    }

    #[test]
    fn a_frame_goes_into_packets_and_comes_out_the_same() {
        for bytes in [1, 1100, 1125, MAX_PAYLOAD_BYTES, 9 * MAX_PAYLOAD_BYTES + 5] {
            let packets = packetize(&keyframe(bytes)).unwrap();
            assert!(packets.keyframe);
            assert!(haul_media::av1::starts_keyframe(&packets.payloads[0]));
            assert!(packets.payloads.iter().all(|payload| payload.len() <= MAX_PAYLOAD_BYTES), "{bytes}");
            let mut out = BytesMut::new();
            depacketize(&packets.payloads, &mut out).unwrap();
            assert_eq!(out, keyframe(bytes).slice(2..), "all but the delimiter, {bytes}");
        }
    }

    #[test]
    fn what_decoders_need_is_read_from_the_sequence_header() {
        let decoder = decoder(&keyframe(3)).unwrap();
        assert_eq!(decoder.codec, "av01.0.00M.08");
        assert_eq!(decoder.size, Some((320, 240)));
    }

    #[test]
    fn lost_and_damaged_packets_make_no_frame() {
        let packets = packetize(&keyframe(5 * MAX_PAYLOAD_BYTES)).unwrap().payloads;
        let whole = |payloads: &[Bytes]| depacketize(payloads, &mut BytesMut::new());
        assert_eq!(whole(&packets[..packets.len() - 1]), None);
        assert_eq!(whole(&packets[1..]), None);
        assert_eq!(whole(&[Bytes::from_static(&[0, 0xFF, 0xFF, 0xFF, 0xFF, 1])]), None);
        assert_eq!(packetize(&Bytes::from_static(&[0x32, 0x7F, 1])), None);
        assert_eq!(packetize(&Bytes::from_static(&[0x12, 0])), None, "a delimiter alone");
    }
}
