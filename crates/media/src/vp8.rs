//! The VP8 payload descriptor (RFC 7741, 4.2): reading it, and writing other running numbers into it. Payloads are
//! untrusted: one that does not parse is no descriptor.

use haul_model::media::PictureNumbers;

use crate::dependence::Reference;

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The payload is the beginning of a frame (S = 1, PID = 0).
    pub starts_frame: bool,
    /// The payload is the beginning of a keyframe.
    pub starts_keyframe: bool,
    /// Running numbers, where a 15-bit picture id is present.
    pub numbers: Option<PictureNumbers>,
    /// What the frame depends on.
    pub reference: Reference,
    /// Where the 15-bit picture id stands.
    picture_id_at: Option<usize>,
    /// Where TL0PICIDX stands.
    tl0_at: Option<usize>,
}

impl Descriptor {
    /// Reads the descriptor in front of `payload`; `None` where it is cut short or nothing follows it.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut at = 1;
        let extension = if first & 0x80 != 0 {
            at += 1;
            *payload.get(1)?
        } else {
            0
        };
        let (mut picture_id_at, mut tl0_at) = (None, None);
        if extension & 0x80 != 0 {
            let long = payload.get(at)? & 0x80 != 0;
            picture_id_at = long.then_some(at);
            at += if long { 2 } else { 1 };
        }
        if extension & 0x40 != 0 {
            tl0_at = Some(at);
            at += 1;
        }
        let mut layer = 0;
        if extension & 0x30 != 0 {
            layer = *payload.get(at)?;
            at += 1;
        }
        // TID and Y mean something only where T says that they are there.
        let layer = if extension & 0x20 != 0 { layer } else { 0 };
        // The first byte of the frame: its lowest bit is 0 for keyframes (RFC 6386, 9.1).
        let body = *payload.get(at)?;
        let numbers = picture_id_at.map(|id| PictureNumbers {
            picture_id: u16::from_be_bytes([payload[id] & 0x7F, payload[id + 1]]),
            tl0: tl0_at.map(|tl0| payload[tl0]),
        });
        let starts_frame = first & 0x17 == 0x10;
        Some(Self {
            starts_frame,
            starts_keyframe: starts_frame && body & 1 == 0,
            numbers,
            reference: Reference {
                numbers,
                temporal_id: layer >> 6,
                depends_on_base_only: layer & 0x20 != 0,
                switching_point: false,
                pictures: None,
                unneeded: first & 0x20 != 0,
            },
            picture_id_at,
            tl0_at,
        })
    }
}

/// Writes `numbers` over those in `payload`'s descriptor, where it has them.
pub fn renumber(payload: &mut [u8], numbers: PictureNumbers) {
    let Some(descriptor) = Descriptor::parse(payload) else { return };
    if let Some(at) = descriptor.picture_id_at {
        let [high, low] = (numbers.picture_id | 0x8000).to_be_bytes();
        payload[at] = high;
        payload[at + 1] = low;
    }
    if let (Some(at), Some(tl0)) = (descriptor.tl0_at, numbers.tl0) {
        payload[at] = tl0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_of_every_shape() {
        let numbers = |picture_id, tl0| Some(PictureNumbers { picture_id, tl0 });
        let cases: [(&str, &[u8], bool, Option<PictureNumbers>); 6] = [
            ("shortest, keyframe", &[0x10, 0x00], true, None),
            ("shortest, delta", &[0x10, 0x01], false, None),
            ("not the beginning", &[0x00, 0x00], false, None),
            ("second partition", &[0x11, 0x00], false, None),
            ("7-bit picture id", &[0x90, 0x80, 0x11, 0x00], true, None),
            ("libwebrtc's", &[0x90, 0xE0, 0x92, 0x34, 0x05, 0x20, 0x00], true, numbers(0x1234, Some(5))),
        ];
        for (name, payload, keyframe, numbers) in cases {
            let descriptor = Descriptor::parse(payload).unwrap();
            assert_eq!((descriptor.starts_keyframe, descriptor.numbers), (keyframe, numbers), "{name}");
        }
    }

    #[test]
    fn what_is_cut_short_is_no_descriptor() {
        let whole = [0x90, 0xF0, 0x92, 0x34, 0x05, 0x20, 0x00];
        for length in 0..whole.len() {
            assert_eq!(Descriptor::parse(&whole[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn renumbering_changes_the_numbers_and_nothing_else() {
        let mut payload = [0x90, 0xE0, 0x92, 0x34, 0x05, 0x20, 0x00, 0xAB];
        renumber(&mut payload, PictureNumbers { picture_id: 0x7FFF, tl0: Some(9) });
        assert_eq!(payload, [0x90, 0xE0, 0xFF, 0xFF, 0x09, 0x20, 0x00, 0xAB]);
        let mut short_id = [0x90, 0x80, 0x11, 0x00];
        renumber(&mut short_id, PictureNumbers { picture_id: 3, tl0: None });
        assert_eq!(short_id, [0x90, 0x80, 0x11, 0x00]);
    }
}
