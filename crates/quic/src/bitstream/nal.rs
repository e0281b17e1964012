//! What H.264 and H.265 have in common: units in a byte stream (Annex B), units with lengths in front (as in MP4), units
//! in packets.

use bytes::{BufMut, Bytes, BytesMut};

use super::{MAX_FRAME_BYTES, MAX_PAYLOAD_BYTES};

/// What begins a unit in a byte stream.
const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// The most units of a frame. Further ones are nonsense.
const MAX_UNITS: usize = 1024;

/// Appends a unit to a byte stream.
pub(super) fn put(out: &mut BytesMut, unit: &[u8]) {
    out.put_slice(&START_CODE);
    out.put_slice(unit);
}

/// The units of a byte stream (ITU-T H.264, B.1), as slices of it.
pub(super) fn split(stream: &Bytes) -> Vec<Bytes> {
    let mut units = Vec::new();
    let mut begin = None;
    let mut at = 0;
    while at + 3 <= stream.len() && units.len() < MAX_UNITS {
        if stream[at..at + 3] == [0, 0, 1] {
            if let Some(begin) = begin {
                push(&mut units, stream, begin, at);
            }
            begin = Some(at + 3);
            at += 3;
        } else {
            at += 1;
        }
    }
    if let Some(begin) = begin {
        push(&mut units, stream, begin, stream.len());
    }
    units
}

/// Zeros before a start code, and behind a unit, are padding.
fn push(units: &mut Vec<Bytes>, stream: &Bytes, begin: usize, end: usize) {
    let end = stream[begin..end].iter().rposition(|byte| *byte != 0).map(|last| begin + last + 1);
    if let Some(end) = end {
        units.push(stream.slice(begin..end));
    }
}

/// The same without emulation prevention (7.3.1), up to `most` bytes: what headers are read from.
pub(super) fn unescape(unit: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(unit.len().min(most));
    let mut zeros = 0;
    for byte in unit {
        if out.len() == most {
            break;
        }
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        out.push(*byte);
    }
    out
}

/// What a decoder configuration record says (ISO/IEC 14496-15, 5.3.3 and 8.3.3): how long lengths are, and parameter
/// sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) length_bytes: usize,
    pub(crate) parameter_sets: Vec<Bytes>,
}

impl Configuration {
    /// Reads an `avcC`.
    pub(crate) fn avcc(record: &Bytes) -> Option<Self> {
        let length_bytes = usize::from(record.get(4)? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let mut at = 6;
        take_sets(record, &mut at, usize::from(record.get(5)? & 31), &mut parameter_sets)?;
        let pictures = usize::from(*record.get(at)?);
        at += 1;
        take_sets(record, &mut at, pictures, &mut parameter_sets)?;
        Some(Self { length_bytes, parameter_sets })
    }

    /// Reads an `hvcC`.
    pub(crate) fn hvcc(record: &Bytes) -> Option<Self> {
        let length_bytes = usize::from(record.get(21)? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let mut at = 23;
        for _ in 0..*record.get(22)? {
            let units = usize::from(u16::from_be_bytes([*record.get(at + 1)?, *record.get(at + 2)?]));
            at += 3;
            take_sets(record, &mut at, units, &mut parameter_sets)?;
        }
        Some(Self { length_bytes, parameter_sets })
    }
}

fn take_sets(record: &Bytes, at: &mut usize, sets: usize, into: &mut Vec<Bytes>) -> Option<()> {
    for _ in 0..sets {
        let length = usize::from(u16::from_be_bytes([*record.get(*at)?, *record.get(*at + 1)?]));
        let begin = *at + 2;
        if begin + length > record.len() || into.len() == MAX_UNITS {
            return None;
        }
        into.push(record.slice(begin..begin + length));
        *at = begin + length;
    }
    Some(())
}

/// A frame whose units have lengths in front, as a byte stream. With `sets`, the configuration's parameter sets stand
/// in front of it: a keyframe's decoder may be new.
pub(crate) fn annex_b(configuration: &Configuration, frame: &Bytes, sets: bool) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(frame.len() + 128);
    if sets {
        configuration.parameter_sets.iter().for_each(|set| put(&mut out, set));
    }
    let mut rest = frame.clone();
    while !rest.is_empty() {
        let (length, _) = rest.split_at_checked(configuration.length_bytes)?;
        let length = length.iter().fold(0_usize, |value, byte| value << 8 | usize::from(*byte));
        let begin = configuration.length_bytes;
        if length > MAX_FRAME_BYTES || begin + length > rest.len() {
            return None;
        }
        put(&mut out, &rest[begin..begin + length]);
        rest = rest.slice(begin + length..);
    }
    Some(out.freeze())
}

/// Small units that stand together, as one packet with a header of `header` bytes and lengths (RFC 6184, 5.7.1; RFC
/// 7798, 4.4.2).
pub(super) fn aggregate(header: &[u8], units: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(header);
    for unit in units {
        // They fit into one payload together: see `runs`.
        out.put_u16(unit.len() as u16);
        out.put_slice(unit);
    }
    out.freeze()
}

/// The beginning of `units` that fits into one payload together, if that is more than one.
pub(super) fn run(header: usize, units: &[Bytes]) -> usize {
    let mut bytes = header;
    let fits = units.iter().take_while(|unit| {
        bytes += 2 + unit.len();
        bytes <= MAX_PAYLOAD_BYTES
    });
    match fits.count() {
        0 | 1 => 0,
        several => several,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_stream_is_split_at_start_codes_of_both_lengths() {
        let stream =
            Bytes::from_static(&[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65, 0, 0, 3, 1]);
        assert_eq!(split(&stream), [&[0x67, 1][..], &[0x68, 2], &[0x65, 0, 0, 3, 1]]);
        assert!(split(&Bytes::from_static(&[0x67, 1, 2, 3])).is_empty(), "no start code");
        assert!(split(&Bytes::from_static(&[0, 0, 1, 0, 0, 1])).is_empty());
    }

    #[test]
    fn lengths_become_start_codes_and_nonsense_nothing() {
        let record = Bytes::from_static(&[1, 0x42, 0, 31, 0xFF, 0xE1, 0, 2, 0x67, 9, 1, 0, 1, 0x68]);
        let configuration = Configuration::avcc(&record).unwrap();
        assert_eq!(configuration.length_bytes, 4);
        assert_eq!(configuration.parameter_sets, [&[0x67, 9][..], &[0x68]]);
        let frame = Bytes::from_static(&[0, 0, 0, 2, 0x65, 7]);
        let stream = annex_b(&configuration, &frame, true).unwrap();
        assert_eq!(stream, &[0, 0, 0, 1, 0x67, 9, 0, 0, 0, 1, 0x68, 0, 0, 0, 1, 0x65, 7][..]);
        assert_eq!(annex_b(&configuration, &frame, false).unwrap(), &[0, 0, 0, 1, 0x65, 7][..]);
        for bad in [&[0, 0, 0][..], &[0, 0, 0, 9, 1], &[0xFF, 0xFF, 0xFF, 0xFF, 1]] {
            assert_eq!(annex_b(&configuration, &Bytes::copy_from_slice(bad), false), None);
        }
        for cut in 0..record.len() {
            assert_eq!(Configuration::avcc(&record.slice(..cut)), None, "{cut}");
        }
    }

    #[test]
    fn emulation_prevention_is_undone() {
        assert_eq!(unescape(&[1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 3], 99), [1, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(unescape(&[1, 2, 3], 2), [1, 2]);
    }
}
