//! The one media model: a live has a broadcast, a broadcast has tracks, a track has layers, a layer is a row of frames.
//!
//! Every ingest makes frames once, and every egress is made from frames, whatever protocol either speaks.

use bytes::Bytes;

use crate::Now;

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// How a track's frames are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Sound, 48 kHz clock.
    Opus,
    /// Pictures, packetization mode 1 (RFC 6184).
    H264,
    /// Pictures (RFC 7741).
    Vp8,
}

impl Codec {
    /// Audio or video.
    pub fn kind(self) -> Kind {
        match self {
            Codec::Opus => Kind::Audio,
            Codec::H264 | Codec::Vp8 => Kind::Video,
        }
    }

    /// Ticks a second of its RTP timestamps.
    pub fn clock_rate_hz(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::H264 | Codec::Vp8 => 90_000,
        }
    }

    /// The name in SDP's `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::H264 => "H264",
            Codec::Vp8 => "VP8",
        }
    }
}

/// What a viewer must know of a track to decode it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackInfo {
    /// How it is coded.
    pub codec: Codec,
    /// The codec's parameters, as in SDP's `a=fmtp` (without payload type); empty where there are none.
    pub fmtp: String,
}

/// Which of a video track's simulcast layers; a track without simulcast has layer 0 only. In the order of the offer's
/// rids, so 0 is not necessarily the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Layer(pub u8);

/// One access unit: all of a picture, or one packet of sound.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Audio or video.
    pub kind: Kind,
    /// The simulcast layer it belongs to; 0 for audio.
    pub layer: Layer,
    /// Media time in ticks of the codec's clock, as the publisher's RTP counts them (wraps).
    pub timestamp: u32,
    /// When its last packet had arrived.
    pub arrived: Now,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// VP8's running numbers, which must go on without a jump for a viewer who is moved to another layer or broadcast.
    pub vp8: Option<Vp8Numbers>,
    /// RTP payloads in order, none empty. The last carries the marker for video.
    pub packets: Vec<Bytes>,
}

impl Frame {
    /// All payload bytes.
    pub fn size_bytes(&self) -> usize {
        self.packets.iter().map(Bytes::len).sum()
    }
}

/// The running numbers in a VP8 payload descriptor (RFC 7741, 4.2). All packets of a frame have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Numbers {
    /// 15 bits; present in every stream of libwebrtc's. A 7-bit number is not rewritten and counts as absent.
    pub picture_id: u16,
    /// TL0PICIDX, where present.
    pub tl0: Option<u8>,
}
