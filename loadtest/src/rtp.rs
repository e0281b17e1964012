//! Reading RTP headers, which are in the clear (RFC 3550, 5.1; RFC 8285), and numbering that wraps.

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// Bytes of all of the header, extensions included.
    pub(crate) bytes: usize,
}

/// Whether a datagram is RTP: neither of another protocol (RFC 7983), nor RTCP (RFC 5761, 4).
pub(crate) fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, second, ..] if !(192..=223).contains(second)) && datagram.len() >= 12
}

impl Header {
    /// Reads it; `None` if the datagram is too short for what it says.
    pub(crate) fn read(datagram: &[u8]) -> Option<Self> {
        let fixed: &[u8; 12] = datagram.first_chunk()?;
        let mut bytes = 12 + 4 * usize::from(fixed[0] & 0x0F);
        if fixed[0] & 0x10 != 0 {
            let words = datagram.get(bytes + 2..bytes + 4)?;
            bytes += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
        (datagram.len() >= bytes).then_some(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7F,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            bytes,
        })
    }
}

/// The value of a header extension of one- or two-byte form, by its negotiated id.
pub(crate) fn extension(datagram: &[u8], id: u8) -> Option<&[u8]> {
    let first = *datagram.first()?;
    if first & 0x10 == 0 {
        return None;
    }
    let at = 12 + 4 * usize::from(first & 0x0F);
    let head = datagram.get(at..at + 4)?;
    let size = 4 * usize::from(u16::from_be_bytes([head[2], head[3]]));
    let mut rest = datagram.get(at + 4..at + 4 + size)?;
    let one_byte = head[..2] == [0xBE, 0xDE];
    loop {
        let (found, size, skip) = match rest {
            [] => return None,
            [0, ..] => {
                rest = &rest[1..];
                continue;
            }
            [head, ..] if one_byte => (head >> 4, usize::from(head & 0x0F) + 1, 1),
            [found, size, ..] => (*found, usize::from(*size), 2),
            [_] => return None,
        };
        let value = rest.get(skip..skip + size)?;
        if found == id {
            return Some(value);
        }
        rest = &rest[skip + size..];
    }
}

/// The number, not wrapped, that is nearest to `near` and ends in `short`.
pub(crate) fn unwrap(near: u64, short: u16) -> u64 {
    let step = short.wrapping_sub(near as u16) as i16;
    near.checked_add_signed(i64::from(step)).unwrap_or(u64::from(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_with_all_that_may_be_in_them() {
        let mut packet = vec![0x91, 0xE0, 1, 2, 0, 0, 0, 3, 0, 0, 0, 4, 9, 9, 9, 9];
        packet.extend([0xBE, 0xDE, 0, 2, 0x10, b'0', 0, 0x31, 0xAB, 0xCD, 0, 0, b'x']);
        let header = Header::read(&packet).unwrap();
        let truth =
            Header { marker: true, payload_type: 96, sequence: 258, timestamp: 3, ssrc: 4, bytes: 28 };
        assert_eq!(header, truth);
        assert_eq!(extension(&packet, 1), Some(&b"0"[..]));
        assert_eq!(extension(&packet, 3), Some(&[0xAB, 0xCD][..]));
        assert_eq!(extension(&packet, 2), None);
        for length in 0..28 {
            assert_eq!(Header::read(&packet[..length]), None, "{length}");
            assert_eq!(extension(&packet[..length], 3), None, "{length}");
        }
        assert!(is_rtp(&packet) && !is_rtp(&packet[..11]));
        assert!(!is_rtp(&[&[0x80, 200][..], &[0; 20]].concat()) && !is_rtp(&[0; 20]));
    }

    #[test]
    fn numbers_go_on_beyond_their_wrap() {
        assert_eq!(unwrap(65_535, 0), 65_536);
        assert_eq!(unwrap(65_536, 65_535), 65_535);
        assert_eq!(unwrap(200_000, 200_000_u64 as u16), 200_000);
        assert_eq!(unwrap(3, 65_535), 65_535, "there is nothing before the first");
    }
}
