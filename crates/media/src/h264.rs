//! H.264 in RTP (RFC 6184, packetization mode 1), as far as starting to decode is concerned. Payloads are untrusted:
//! whatever is in them, the answer is "nothing of the kind".

/// NAL unit types (ITU-T H.264, table 7-1) and payload structures (RFC 6184, table 1).
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// What one payload, or several, carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Units {
    /// A sequence parameter set: decoding can start here.
    pub sps: bool,
    /// A picture parameter set.
    pub pps: bool,
    /// Some part of a coded picture.
    pub picture: bool,
    /// Some part of a picture that needs no earlier one.
    pub idr: bool,
    /// The beginning of the first slice of an IDR picture: nothing of that picture comes before it.
    pub idr_start: bool,
}

impl Units {
    /// What `payload` carries.
    pub fn of(payload: &[u8]) -> Self {
        let mut units = Self::default();
        match payload {
            [header, rest @ ..] if header & 31 == STAP_A => {
                let mut rest = rest;
                while let [high, low, more @ ..] = rest {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    let Some((unit, more)) = more.split_at_checked(length) else { break };
                    if let [header, body @ ..] = unit {
                        units.add(header & 31, true, body);
                    }
                    rest = more;
                }
            }
            [header, fragment, body @ ..] if header & 31 == FU_A => {
                units.add(fragment & 31, fragment & 0x80 != 0, body);
            }
            [header, body @ ..] => units.add(header & 31, true, body),
            [] => {}
        }
        units
    }

    /// What all of `payloads` carry together.
    pub fn of_all<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Self {
        payloads.into_iter().map(Self::of).fold(Self::default(), |all, one| Self {
            sps: all.sps | one.sps,
            pps: all.pps | one.pps,
            picture: all.picture | one.picture,
            idr: all.idr | one.idr,
            idr_start: all.idr_start | one.idr_start,
        })
    }

    /// Whether a decoder can start with these.
    pub fn keyframe(self) -> bool {
        self.sps || self.idr
    }

    /// Whether a keyframe begins in this payload, and not before it.
    pub fn starts_keyframe(self) -> bool {
        self.sps || self.idr_start
    }

    /// Parameter sets and nothing of a picture.
    pub fn only_parameter_sets(self) -> bool {
        (self.sps || self.pps) && !self.picture
    }

    fn add(&mut self, kind: u8, begins: bool, body: &[u8]) {
        match kind {
            SLICE..=IDR => {
                self.picture = true;
                self.idr |= kind == IDR;
                // A slice header begins with first_mb_in_slice as Exp-Golomb: a leading 1 is the number 0.
                self.idr_start |= kind == IDR && begins && body.first().is_some_and(|byte| byte & 0x80 != 0);
            }
            SPS => self.sps |= begins,
            PPS => self.pps |= begins,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_found_in_every_packaging() {
        let cases: [(&str, &[u8], bool, bool); 9] = [
            ("IDR, first slice", &[0x65, 0x88], true, true),
            ("IDR, a later slice", &[0x65, 0x40], true, false),
            ("plain slice", &[0x41, 0x9A], false, false),
            ("SPS", &[0x67, 0x42], true, true),
            ("FU-A, start of an IDR", &[0x7C, 0x85, 0x88], true, true),
            ("FU-A, middle of an IDR", &[0x7C, 0x05, 0x88], true, false),
            ("FU-A, start of a plain slice", &[0x7C, 0x81, 0x9A], false, false),
            ("STAP-A with SPS and PPS", &[0x78, 0, 2, 0x67, 0x42, 0, 2, 0x68, 0xCE], true, true),
            ("STAP-A with SEI and a slice", &[0x78, 0, 1, 0x06, 0, 2, 0x41, 0x9A], false, false),
        ];
        for (name, payload, keyframe, starts) in cases {
            let units = Units::of(payload);
            assert_eq!((units.keyframe(), units.starts_keyframe()), (keyframe, starts), "{name}");
        }
    }

    #[test]
    fn garbage_is_no_keyframe_and_no_panic() {
        for payload in
            [&[][..], &[0x78], &[0x78, 0xFF], &[0x78, 0xFF, 0xFF, 0x67], &[0x7C], &[0x78, 0, 0, 0, 0]]
        {
            assert_eq!(Units::of(payload), Units::default(), "{payload:02x?}");
        }
        // A STAP-A is read as far as it is whole.
        assert!(Units::of(&[0x78, 0, 1, 0x67, 0xFF, 0xFF, 0x41]).sps);
    }
}
