//! What the payloads of one stream's access units say: where decoding can start, what can be decoded after a loss, and
//! what a keyframe needs that came apart from it.

use bytes::Bytes;
use haul_model::{Codec, Kind, media::PictureNumbers};

use crate::{
    av1,
    dependence::{Dependence, Reference, Verdict},
    h264, h265,
    nal::Units,
    vp8, vp9,
};

/// The most payloads of parameter sets remembered. A stream with more of them is forwarded without help from us.
const MAX_PARAMETER_SETS: usize = 8;

/// What becomes of an access unit, seen from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It goes on.
    Go { keyframe: bool, numbers: Option<PictureNumbers> },
    /// It was parameter sets alone, which go on with the next.
    Keep,
    /// It can't be decoded.
    Drop,
}

/// One stream's pictures, in order of decoding.
#[derive(Debug, Clone)]
pub(super) struct Pictures {
    codec: Codec,
    /// Nothing can be decoded before the next keyframe.
    broken: bool,
    /// What can be decoded after a loss, where pictures say what they depend on.
    dependence: Dependence,
    /// Something was lost before the next picture.
    lost: bool,
    /// Parameter sets that came alone, to be put in front of the next frame.
    held_sets: Vec<Bytes>,
    /// The last parameter sets, for keyframes that come without (some encoders send them once, or in the SDP only).
    known_sets: Vec<Bytes>,
    bidirectional: bool,
}

impl Pictures {
    /// Pictures start with a keyframe; sound is whole in every packet.
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            broken: codec.kind() == Kind::Video,
            dependence: Dependence::default(),
            lost: false,
            held_sets: Vec::new(),
            known_sets: Vec::new(),
            bidirectional: false,
        }
    }

    /// Parameter sets that were told out of band.
    pub(super) fn know(&mut self, sets: impl IntoIterator<Item = Bytes>) {
        for set in sets.into_iter().take(MAX_PARAMETER_SETS) {
            if self.units(&set).only_parameter_sets() {
                self.known_sets.push(set);
            }
        }
    }

    /// Whether a keyframe is needed.
    pub(super) fn broken(&self) -> bool {
        self.broken
    }

    /// Whether a slice predicted from both sides was seen.
    pub(super) fn bidirectional(&self) -> bool {
        self.bidirectional
    }

    /// Something is missing that everything may depend on.
    pub(super) fn break_off(&mut self) {
        self.broken = self.codec.kind() == Kind::Video;
    }

    /// Something is missing, in the access unit that begins with `torn` if that is there.
    pub(super) fn lose(&mut self, torn: Option<&Bytes>) {
        match self.codec {
            Codec::Opus | Codec::Aac => {}
            Codec::Vp8 | Codec::Vp9 => {
                let torn = torn.and_then(|payload| self.described(payload));
                self.dependence.lose(torn.filter(|torn| torn.starts_picture).map(|torn| torn.reference));
                self.lost = true;
            }
            Codec::H264 | Codec::H265 | Codec::Av1 => self.broken = true,
        }
    }

    /// Judges the access unit that begins with `packets` (at least one), and takes it as gone on if it goes. What it
    /// needs to be decoded is put in front of it.
    pub(super) fn begin(&mut self, packets: &mut Vec<Bytes>) -> Judgement {
        let Some(first) = packets.first() else { return Judgement::Drop };
        match self.codec {
            Codec::Opus | Codec::Aac => Judgement::Go { keyframe: true, numbers: None },
            Codec::Av1 => {
                let keyframe = av1::starts_keyframe(first);
                self.go_if(keyframe || !self.broken, keyframe, None)
            }
            Codec::H264 | Codec::H265 => self.begin_nal(packets),
            Codec::Vp8 | Codec::Vp9 => match self.described(first) {
                Some(picture) => self.begin_described(picture, packets),
                None => self.go_if(!self.broken && !self.lost, false, None),
            },
        }
    }

    fn go_if(&mut self, goes: bool, keyframe: bool, numbers: Option<PictureNumbers>) -> Judgement {
        if !goes {
            self.broken |= self.lost;
            return Judgement::Drop;
        }
        self.broken = false;
        self.lost = false;
        Judgement::Go { keyframe, numbers }
    }

    fn begin_described(&mut self, picture: Described, packets: &[Bytes]) -> Judgement {
        if self.lost && !picture.starts_picture {
            // The rest of what was lost.
            return Judgement::Drop;
        }
        let mut reference = picture.reference;
        if let (true, Some(pictures)) = (self.lost, &mut reference.pictures) {
            // Upper spatial layers name references of their own.
            let others = packets[1..].iter().filter_map(|payload| self.described(payload));
            *pictures |= others.filter_map(|other| other.reference.pictures).fold(0, |all, one| all | one);
        }
        if self.broken && !picture.starts_keyframe {
            return Judgement::Drop;
        }
        match self.dependence.judge(&reference, picture.starts_keyframe) {
            Verdict::Decodable => self.go_if(true, picture.starts_keyframe, reference.numbers),
            Verdict::Skip => Judgement::Drop,
            Verdict::Broken => {
                self.broken = true;
                Judgement::Drop
            }
        }
    }

    /// Makes sure that a keyframe is whole by itself: parameter sets that came in an access unit of their own, or once
    /// at the beginning of the stream, are put in front of it.
    fn begin_nal(&mut self, packets: &mut Vec<Bytes>) -> Judgement {
        if self.broken {
            // The front may be in the middle of a picture here. One that begins further on is whole.
            let start = packets.iter().position(|payload| self.units(payload).starts_keyframe());
            packets.drain(..start.unwrap_or(0));
            if start.is_none() && !self.units_of(packets).only_parameter_sets() {
                return Judgement::Drop;
            }
        }
        let units = self.units_of(packets);
        self.bidirectional |= units.bidirectional;
        if units.sps {
            self.known_sets.clear();
        }
        for payload in packets.iter() {
            if self.units(payload).only_parameter_sets() && self.known_sets.len() < MAX_PARAMETER_SETS {
                self.known_sets.push(payload.clone());
            }
        }
        if !units.picture {
            if units.sps {
                self.held_sets.clear();
            }
            self.held_sets.append(packets);
            self.held_sets.truncate(MAX_PARAMETER_SETS);
            return Judgement::Keep;
        }
        let mut sets = std::mem::take(&mut self.held_sets);
        let held_sps = self.units_of(&sets).sps;
        if units.keyframe() && !units.sps && !held_sps {
            sets.splice(..0, self.known_sets.iter().cloned());
        }
        // Without a sequence parameter set from anywhere, not even a picture that needs no other decodes.
        let sps = units.sps || held_sps || self.units_of(&sets).sps;
        let keyframe = units.keyframe() && sps;
        packets.splice(..0, sets);
        self.go_if(keyframe || !self.broken, keyframe, None)
    }

    fn units(&self, payload: &[u8]) -> Units {
        if self.codec == Codec::H265 { h265::units(payload) } else { h264::units(payload) }
    }

    fn units_of(&self, payloads: &[Bytes]) -> Units {
        payloads.iter().map(|payload| self.units(payload)).fold(Units::default(), Units::and)
    }

    fn described(&self, payload: &[u8]) -> Option<Described> {
        if self.codec == Codec::Vp9 {
            let vp9::Descriptor { starts_picture, starts_keyframe, reference, .. } =
                vp9::Descriptor::parse(payload)?;
            Some(Described { starts_picture, starts_keyframe, reference })
        } else {
            let vp8::Descriptor { starts_frame, starts_keyframe, reference, .. } =
                vp8::Descriptor::parse(payload)?;
            Some(Described { starts_picture: starts_frame, starts_keyframe, reference })
        }
    }
}

/// What a VP8 or VP9 payload descriptor says.
struct Described {
    starts_picture: bool,
    starts_keyframe: bool,
    reference: Reference,
}
