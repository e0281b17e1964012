//! What H.264 and H.265 have in common: network abstraction layer units, and what a decoder needs of them to start.

/// What one payload, or several, carry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Units {
    /// A video parameter set (H.265 only).
    pub vps: bool,
    /// A sequence parameter set. Some encoders put one in front of any picture, so by itself it is no keyframe.
    pub sps: bool,
    /// A picture parameter set.
    pub pps: bool,
    /// Some part of a coded picture.
    pub picture: bool,
    /// Some part of a picture that needs no earlier one (H.264: IDR; H.265: any random access point).
    pub intra: bool,
    /// The beginning of the first slice of such a picture: nothing of it comes before.
    pub intra_start: bool,
    /// A recovery point (H.264 only): from here on pictures become right, for encoders that refresh them bit by bit and send
    /// no picture that is whole by itself.
    pub recovery: bool,
    /// The beginning of a slice predicted from both sides (H.264 only, see [`crate::h264`]).
    pub bidirectional: bool,
}

impl Units {
    /// What both carry together.
    pub fn and(self, other: Self) -> Self {
        Self {
            vps: self.vps | other.vps,
            sps: self.sps | other.sps,
            pps: self.pps | other.pps,
            picture: self.picture | other.picture,
            intra: self.intra | other.intra,
            intra_start: self.intra_start | other.intra_start,
            recovery: self.recovery | other.recovery,
            bidirectional: self.bidirectional | other.bidirectional,
        }
    }

    /// Whether a decoder can start with these, once it has the parameter sets.
    pub fn keyframe(self) -> bool {
        self.intra || self.recovery
    }

    /// Whether a keyframe may begin in this payload, and not before it.
    pub fn starts_keyframe(self) -> bool {
        self.vps || self.sps || self.recovery || self.intra_start
    }

    /// Parameter sets and nothing of a picture.
    pub fn only_parameter_sets(self) -> bool {
        (self.vps || self.sps || self.pps) && !self.picture
    }
}

/// The units of an aggregation packet's body: each has its length in front, two bytes. As far as they are whole.
pub(crate) fn aggregated(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let [high, low, more @ ..] = rest else { return None };
        let (unit, more) = more.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        rest = more;
        Some(unit)
    })
}
