//! AV1 in RTP ("RTP Payload Format For AV1", 4.4), as far as starting to decode is concerned. Payloads are untrusted:
//! whatever is in them, the answer is "nothing of the kind".

/// The aggregation header: the first element goes on from the packet before, and a coded video sequence begins.
const CONTINUES: u8 = 0x80;
const NEW_SEQUENCE: u8 = 0x08;
/// OBU types (AV1 specification, 6.2.2) that may stand in front of what makes a keyframe, and that make one.
const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;

/// Whether a keyframe begins in this payload. The sequence header is within it, so nothing has to be remembered.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    let [header, rest @ ..] = payload else { return false };
    if rest.is_empty() || header & CONTINUES != 0 {
        return false;
    }
    header & NEW_SEQUENCE != 0 || begins_with_sequence_header(*header, rest)
}

/// Encoders should say that a sequence begins (4.4: the N bit); one that does not still has to send its header.
fn begins_with_sequence_header(header: u8, mut rest: &[u8]) -> bool {
    let elements = usize::from(header >> 4 & 3);
    for index in 1..=2 {
        // The last of a told number of elements has no length in front.
        let element = if index == elements {
            rest
        } else {
            let Some((length, after)) = leb128(rest) else { return false };
            let Some((element, after)) = after.split_at_checked(length) else { return false };
            rest = after;
            element
        };
        match element.first().map(|first| first >> 3 & 15) {
            Some(SEQUENCE_HEADER) => return true,
            Some(TEMPORAL_DELIMITER) if index != elements => {}
            _ => return false,
        }
    }
    false
}

/// A length of up to four bytes (AV1 specification, 4.10.5); no packet needs more.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_found() {
        let cases: [(&str, &[u8], bool); 9] = [
            ("a new sequence", &[0x18, 0x0A, 1], true),
            ("its second packet", &[0x90, 0x32, 1], false),
            ("no new sequence", &[0x10, 0x32, 1], false),
            ("a sequence header, not announced", &[0x10, 0x0A, 1], true),
            ("behind a temporal delimiter", &[0x20, 1, 0x12, 0x0A, 1], true),
            ("with lengths in front of all", &[0x00, 1, 0x12, 2, 0x0A, 1], true),
            ("a fragment that claims both", &[0x98, 0x0A], false),
            ("a length beyond the end", &[0x00, 9, 0x0A], false),
            ("nothing behind the header", &[0x18], false),
        ];
        for (name, payload, keyframe) in cases {
            assert_eq!(starts_keyframe(payload), keyframe, "{name}");
        }
        assert!(!starts_keyframe(&[]) && !starts_keyframe(&[0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x0A]));
    }
}
