//! Frames as decoders take them, and as RTP carries them: from the one to the other, both ways, for every codec.
//!
//! A decoder (WebCodecs) takes H.264 and H.265 as an Annex B byte stream with its parameter sets in it, VP8 and VP9 as
//! bare frames, AV1 as a temporal unit of OBUs with their sizes, Opus and AAC as bare packets. Everything is untrusted: what
//! does not parse is `None`.

pub(crate) mod aac;
mod av1;
mod bits;
mod h264;
mod h265;
mod nal;
mod vpx;

use bytes::{Bytes, BytesMut};
use haul_model::{Codec, media::PictureNumbers};

/// The largest RTP payload we make, in bytes: with all headers it fits any path (1280 bytes, IPv6's least).
pub(crate) const MAX_PAYLOAD_BYTES: usize = 1150;
/// The largest frame that is taken from a publisher, in bytes; a larger one is dropped.
pub(crate) const MAX_FRAME_BYTES: usize = 4 << 20;

/// What a decoder must know beforehand, as WebCodecs has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoder {
    /// The codec string (RFC 6381 and the codecs' own registrations).
    pub(crate) codec: String,
    /// Width and height in pixels, where the stream says.
    pub(crate) size: Option<(u32, u32)>,
}

/// What a frame from a publisher is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packets {
    pub(crate) payloads: Vec<Bytes>,
    pub(crate) keyframe: bool,
}

/// The RTP payloads of a whole frame as one thing for a decoder.
pub(crate) fn depacketize(codec: Codec, payloads: &[Bytes]) -> Option<Bytes> {
    let mut out = BytesMut::with_capacity(payloads.iter().map(Bytes::len).sum::<usize>() + 64);
    match codec {
        Codec::Opus | Codec::Aac => return payloads.first().cloned(),
        Codec::H264 => h264::depacketize(payloads, &mut out)?,
        Codec::H265 => h265::depacketize(payloads, &mut out)?,
        Codec::Vp8 => vpx::depacketize_vp8(payloads, &mut out)?,
        Codec::Vp9 => vpx::depacketize_vp9(payloads, &mut out)?,
        Codec::Av1 => av1::depacketize(payloads, &mut out)?,
    }
    (!out.is_empty()).then(|| out.freeze())
}

/// What a decoder must know of a stream of pictures that has this keyframe (as [`depacketize`] makes it). Of sound, its
/// parameters say that.
pub(crate) fn decoder(codec: Codec, keyframe: &[u8]) -> Option<Decoder> {
    match codec {
        Codec::Opus | Codec::Aac => None,
        Codec::H264 => h264::decoder(keyframe),
        Codec::H265 => h265::decoder(keyframe),
        Codec::Vp8 => vpx::decoder_vp8(keyframe),
        Codec::Vp9 => vpx::decoder_vp9(keyframe),
        Codec::Av1 => av1::decoder(keyframe),
    }
}

/// A frame for a decoder as RTP payloads. `numbers` are put into VP8's and VP9's descriptors. H.264 and H.265 are
/// Annex B here; see [`annex_b`] for frames that have lengths instead.
pub(crate) fn packetize(codec: Codec, frame: &Bytes, numbers: PictureNumbers) -> Option<Packets> {
    if frame.is_empty() || frame.len() > MAX_FRAME_BYTES {
        return None;
    }
    match codec {
        Codec::Opus | Codec::Aac => Some(Packets { payloads: vec![frame.clone()], keyframe: true }),
        Codec::H264 => h264::packetize(frame),
        Codec::H265 => h265::packetize(frame),
        Codec::Vp8 => vpx::packetize_vp8(frame, numbers.picture_id),
        Codec::Vp9 => vpx::packetize_vp9(frame, numbers.picture_id),
        Codec::Av1 => av1::packetize(frame),
    }
}

pub(crate) use nal::{Configuration, annex_b};
