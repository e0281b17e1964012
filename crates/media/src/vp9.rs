//! The VP9 payload descriptor (RFC 9628, 4.2): reading it, and writing other running numbers into it. Payloads are
//! untrusted: one that does not parse is no descriptor.

use haul_model::media::PictureNumbers;

use crate::dependence::Reference;

/// The most reference pictures that a descriptor in flexible mode may name.
const MAX_DIFFS: usize = 3;

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// The payload is the beginning of a picture's lowest spatial layer.
    pub starts_picture: bool,
    /// The payload is the beginning of a keyframe: of all its spatial layers.
    pub starts_keyframe: bool,
    /// Running numbers, where a 15-bit picture id is present.
    pub numbers: Option<PictureNumbers>,
    /// What the payload's layer frame depends on.
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
        let [id, predicted, layers, flexible, begins] =
            [0x80, 0x40, 0x20, 0x10, 0x08].map(|bit| first & bit != 0);
        let mut at = 1;
        let mut picture_id_at = None;
        if id {
            let long = payload.get(at)? & 0x80 != 0;
            picture_id_at = long.then_some(at);
            at += if long { 2 } else { 1 };
        }
        let (mut layer, mut tl0_at) = (0, None);
        if layers {
            layer = *payload.get(at)?;
            at += 1;
            if !flexible {
                tl0_at = Some(at);
                at += 1;
            }
        }
        let mut pictures = predicted.then_some(0_u128).filter(|_| flexible);
        if let Some(pictures) = &mut pictures {
            for more in (0..MAX_DIFFS).rev() {
                let diff = *payload.get(at)?;
                at += 1;
                *pictures |= 1 << (diff >> 1);
                if diff & 1 == 0 {
                    break;
                }
                if more == 0 {
                    return None;
                }
            }
        }
        if first & 0x02 != 0 {
            at = skip_structure(payload, at)?;
        }
        payload.get(at)?;
        let spatial = (layer >> 1) & 7;
        let numbers = match picture_id_at {
            Some(id) => Some(PictureNumbers {
                picture_id: u16::from_be_bytes([payload[id] & 0x7F, *payload.get(id + 1)?]),
                tl0: tl0_at.map(|tl0| payload[tl0]),
            }),
            None => None,
        };
        let starts_picture = begins && spatial == 0;
        Some(Self {
            starts_picture,
            starts_keyframe: starts_picture && !predicted,
            numbers,
            reference: Reference {
                numbers,
                temporal_id: layer >> 5,
                depends_on_base_only: false,
                switching_point: layer & 0x10 != 0,
                pictures,
                unneeded: false,
            },
            picture_id_at,
            tl0_at,
        })
    }
}

/// Where the scalability structure that begins at `at` ends (RFC 9628, 4.2.1).
fn skip_structure(payload: &[u8], mut at: usize) -> Option<usize> {
    let head = *payload.get(at)?;
    at += 1;
    if head & 0x10 != 0 {
        at += 4 * (usize::from(head >> 5) + 1);
    }
    if head & 0x08 != 0 {
        let pictures = *payload.get(at)?;
        at += 1;
        for _ in 0..pictures {
            at += 1 + usize::from((payload.get(at)? >> 2) & 3);
        }
    }
    Some(at)
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

    /// Its name, its bytes, whether a picture starts, whether a keyframe does, its numbers.
    type Case = (&'static str, &'static [u8], bool, bool, Option<PictureNumbers>);

    #[test]
    fn descriptors_of_every_shape() {
        let numbers = |picture_id, tl0| Some(PictureNumbers { picture_id, tl0 });
        let cases: [Case; 9] = [
            ("shortest, keyframe", &[0x0C, 0xAA], true, true, None),
            ("shortest, delta", &[0x4C, 0xAA], true, false, None),
            ("not the beginning", &[0x04, 0xAA], false, false, None),
            ("7-bit picture id", &[0x8C, 0x05, 0xAA], true, true, None),
            ("flexible, keyframe", &[0xBC, 0x92, 0x34, 0x00, 0xAA], true, true, numbers(0x1234, None)),
            (
                "flexible, two references",
                &[0xFC, 0x92, 0x34, 0x00, 0x03, 0x04, 0xAA],
                true,
                false,
                numbers(0x1234, None),
            ),
            ("with TL0PICIDX", &[0xEC, 0x80, 0x07, 0x20, 0x05, 0xAA], true, false, numbers(7, Some(5))),
            (
                "a keyframe's second spatial layer",
                &[0xBC, 0x80, 0x07, 0x03, 0xAA],
                false,
                false,
                numbers(7, None),
            ),
            (
                "with a scalability structure",
                // Two layers' sizes, and one picture with one reference.
                &[0x8E, 0x80, 0x07, 0x38, 1, 64, 0, 180, 2, 128, 1, 104, 1, 0x04, 1, 0xAA],
                true,
                true,
                numbers(7, None),
            ),
        ];
        for (name, payload, starts, keyframe, numbers) in cases {
            let read = Descriptor::parse(payload).unwrap();
            assert_eq!(
                (read.starts_picture, read.starts_keyframe, read.numbers),
                (starts, keyframe, numbers),
                "{name}"
            );
            for length in 0..payload.len() {
                assert_eq!(Descriptor::parse(&payload[..length]), None, "{name}, {length} bytes");
            }
        }
    }

    #[test]
    fn references_are_read_in_flexible_mode_and_no_more_than_three() {
        let read = Descriptor::parse(&[0xFC, 0x80, 0x07, 0x50, 0x03, 0x04, 0xAA]).unwrap().reference;
        assert_eq!((read.temporal_id, read.switching_point, read.pictures), (2, true, Some(1 << 1 | 1 << 2)));
        assert_eq!(Descriptor::parse(&[0xFC, 0x80, 0x07, 0x50, 0x03, 0x03, 0x03, 0x03, 0xAA]), None);
    }

    #[test]
    fn renumbering_changes_the_numbers_and_nothing_else() {
        let mut payload = [0xEC, 0x80, 0x07, 0x20, 0x05, 0xAA];
        renumber(&mut payload, PictureNumbers { picture_id: 0x7FFF, tl0: Some(9) });
        assert_eq!(payload, [0xEC, 0xFF, 0xFF, 0x20, 0x09, 0xAA]);
    }
}
