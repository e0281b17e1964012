//! A stamp in the picture that says when it was sent, so that whoever receives it knows how long it was under way.
//!
//! It travels in the picture itself, since every server rewrites RTP headers, and no header extension survives all of
//! them. In H.264 it is an SEI message of user data (ITU-T H.264, D.1.7), which decoders skip; in VP8 it stands behind
//! the last partition, which decoders don't read. It is text of letters and digits only: so no byte sequence in it needs
//! escaping (7.4.1), and it can be found by looking for its mark.
//!
//! The time is the sender's wall clock. Publisher and viewers of one process share it, and the difference is the delay
//! to the microsecond. Between machines it is as good as their clocks agree; a report says which of the two it was.

/// What every stamp begins with: 16 bytes, the UUID of the SEI message.
const MARK: &[u8; 16] = b"haul-delay-stamp";
/// Bytes of a stamp: mark, run (8 hexadecimal digits), microseconds since 1970 (14 of them), layer (one).
pub(crate) const BYTES: usize = 16 + 8 + 14 + 1;

/// When a picture was sent, and by which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Of the process that sent it: whether the clock is ours.
    pub(crate) run: u32,
    /// Microseconds since 1970.
    pub(crate) sent_us: u64,
    /// Which of the publisher's layers the picture is of, the largest first.
    pub(crate) layer: u8,
}

impl Stamp {
    /// As it travels in VP8.
    pub(crate) fn text(self) -> [u8; BYTES] {
        let mut text = [0; BYTES];
        text[..16].copy_from_slice(MARK);
        let digits = format!("{:08x}{:014x}{:x}", self.run, self.sent_us & ((1 << 56) - 1), self.layer & 0xF);
        text[16..].copy_from_slice(digits.as_bytes());
        text
    }

    /// As it travels in H.264: a NAL unit of type 6 with one message of type 5, and the trailing bit.
    pub(crate) fn sei(self) -> Vec<u8> {
        let mut unit = vec![6, 5, BYTES as u8];
        unit.extend(self.text());
        unit.push(0x80);
        unit
    }

    /// Finds one in a payload.
    pub(crate) fn find(payload: &[u8]) -> Option<Self> {
        let start = payload.windows(MARK.len()).position(|window| window == MARK)?;
        let digits = std::str::from_utf8(payload.get(start + 16..start + BYTES)?).ok()?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(Self {
            run: number(&digits[..8])? as u32,
            sent_us: number(&digits[8..22])?,
            layer: number(&digits[22..])? as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_where_it_was_put() {
        let stamp = Stamp { run: 0xBEEF, sent_us: 1_790_000_000_123_456, layer: 2 };
        for around in [stamp.sei(), [&[0x10, 1, 2, 3][..], &stamp.text(), &[9; 5]].concat()] {
            assert_eq!(Stamp::find(&around), Some(stamp));
        }
        assert!(stamp.sei().windows(2).all(|two| two != [0, 0]), "nothing to escape");
    }

    #[test]
    fn what_is_no_stamp_is_none() {
        let text = Stamp { run: 1, sent_us: 2, layer: 0 }.text();
        assert_eq!(Stamp::find(&text[..BYTES - 1]), None, "cut");
        let mut broken = text;
        broken[20] = b'z';
        assert_eq!(Stamp::find(&broken), None);
        broken[20] = 0xC3;
        assert_eq!(Stamp::find(&broken), None, "not even text");
        assert_eq!(Stamp::find(&[0; 1_200]), None);
    }
}
