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
    /// Sound that WebRTC does not carry: raw access units of MPEG-4 AAC, whose parameters are RFC 3640's. 48 kHz clock,
    /// whatever the sound's own rate is.
    Aac,
    /// Pictures, packetization mode 1 (RFC 6184).
    H264,
    /// Pictures (RFC 7741).
    Vp8,
    /// Pictures (RFC 9628).
    Vp9,
    /// Pictures ("RTP Payload Format For AV1", Alliance for Open Media).
    Av1,
    /// Pictures (RFC 7798).
    H265,
}

impl Codec {
    /// All that WebRTC carries, too.
    pub const ALL: [Codec; 6] = [Codec::Opus, Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265];

    /// Audio or video.
    pub fn kind(self) -> Kind {
        match self {
            Codec::Opus | Codec::Aac => Kind::Audio,
            Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 | Codec::H265 => Kind::Video,
        }
    }

    /// Ticks a second of its RTP timestamps.
    pub fn clock_rate_hz(self) -> u32 {
        match self.kind() {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }

    /// Whether WebRTC carries it.
    pub fn is_of_webrtc(self) -> bool {
        self != Codec::Aac
    }

    /// The name in SDP's `a=rtpmap`, or in words where there is none.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Opus => "opus",
            Codec::Aac => "AAC",
            Codec::H264 => "H264",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Av1 => "AV1",
            Codec::H265 => "H265",
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

/// One access unit: all of a picture, or one packet of sound. Or a part of a picture that takes long to arrive: then
/// its other parts follow with the same timestamp, before anything else of their layer.
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
    /// Whether decoding can start here. Of a keyframe in parts, true for the first part only.
    pub keyframe: bool,
    /// Whether the access unit begins with this. False for the later parts of one.
    pub begins: bool,
    /// Whether the access unit ends with this. False for the earlier parts of one, whose end may never come.
    pub ends: bool,
    /// When it was captured, if the publisher told.
    pub captured: Option<Capture>,
    /// Running numbers, which must go on without a jump for a viewer who is moved to another layer or broadcast.
    pub numbers: Option<PictureNumbers>,
    /// RTP payloads in order, none empty. The last carries the marker for video if the access unit ends here.
    pub packets: Vec<Bytes>,
}

impl Frame {
    /// All payload bytes.
    pub fn size_bytes(&self) -> usize {
        self.packets.iter().map(Bytes::len).sum()
    }
}

/// When something was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// On the publisher's clock: seconds since 1900 in 32.32 fixed point, as NTP and RTCP have it.
    pub ntp: u64,
    /// What to add to get the same instant on our own clock, in the same unit; `None` while it can't be estimated.
    /// It includes what the quickest report took to get here, unless a round trip was measured.
    pub to_ours: Option<i64>,
}

/// The running numbers in a VP8 or VP9 payload descriptor (RFC 7741, 4.2; RFC 9628, 4.2). All packets of a picture have
/// the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureNumbers {
    /// 15 bits; present in every stream of libwebrtc's. A 7-bit number is not rewritten and counts as absent.
    pub picture_id: u16,
    /// TL0PICIDX, where present.
    pub tl0: Option<u8>,
}
