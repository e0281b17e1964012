//! The bundled clips: ten seconds of picture and sound, cut into what goes into RTP packets. Made by `clips/make`.

use std::time::Duration;

use bytes::Bytes;
use rtc::rtp::{codec::h264::H264Payloader, packetizer::Payloader};

/// Payload bytes of a packet at most: with headers and SRTP's tag it fits a path of 1,280 bytes, IPv6's least.
const MTU: usize = 1_188;
/// Pictures a second of both clips.
const RATE: u32 = 30;
/// RTP's clock for video.
const VIDEO_HZ: u32 = 90_000;
/// Samples of a packet of sound: 20 ms at 48 kHz.
pub(crate) const SOUND_SAMPLES: u32 = 960;
/// What the layers of a simulcast are called (RFC 8851's `rid`), the largest first, as browsers' pages call them.
pub(crate) const LAYERS: [&str; 3] = ["f", "h", "q"];
/// How long a packet of sound is.
pub(crate) const SOUND_TIME: Duration = Duration::from_millis(20);

/// Which clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Codec {
    /// 640×360 at 1 Mb/s, a keyframe every 2 s.
    H264,
    /// 320×180 at 250 kb/s, a keyframe every second.
    Vp8,
}

/// A picture.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    pub(crate) keyframe: bool,
    /// As RTP payloads.
    pub(crate) payloads: Vec<Bytes>,
    /// As decoders take it: H.264 as Annex B without the delimiter.
    pub(crate) whole: Bytes,
}

/// A clip, to be sent round and round.
#[derive(Debug, Clone)]
pub(crate) struct Clip {
    pub(crate) codec: Codec,
    /// One, or the layers of a simulcast with the largest first: equally many pictures, and keyframes at the same ones.
    pub(crate) layers: Vec<Vec<Picture>>,
    /// Opus packets of 20 ms.
    pub(crate) sound: Vec<Bytes>,
}

/// A clip that can't be read: a defect of the build.
#[derive(Debug, thiserror::Error)]
#[error("the bundled clip is damaged: {0}")]
pub(crate) struct Damaged(&'static str);

impl Clip {
    /// Reads one of the bundled clips; with `simulcast`, which only [`Codec::H264`] has, in three sizes.
    pub(crate) fn bundled(codec: Codec, simulcast: bool) -> Result<Self, Damaged> {
        let mut layers = vec![match codec {
            Codec::H264 => h264(include_bytes!("../clips/talk.h264"))?,
            Codec::Vp8 => vp8(include_bytes!("../clips/talk.ivf"))?,
        }];
        if simulcast {
            layers.push(h264(include_bytes!("../clips/talk-half.h264"))?);
            layers.push(h264(include_bytes!("../clips/talk-quarter.h264"))?);
        }
        let sound = ogg(include_bytes!("../clips/talk.ogg"))?;
        let whole = |layer: &Vec<Picture>| layer.first().is_some_and(|first| first.keyframe);
        if !layers.iter().all(whole) || sound.is_empty() {
            return Err(Damaged("it does not begin with a keyframe, or has no sound"));
        }
        if layers.iter().any(|layer| layer.len() != layers[0].len()) {
            return Err(Damaged("its layers are not equally long"));
        }
        Ok(Self { codec, layers, sound })
    }

    /// RTP clock ticks from one picture to the next.
    pub(crate) fn ticks(&self) -> u32 {
        VIDEO_HZ / RATE
    }

    /// Time from one picture to the next.
    pub(crate) fn picture_time(&self) -> Duration {
        Duration::from_secs(1) / RATE
    }

    /// The first keyframe at or after a picture, going round.
    pub(crate) fn keyframe_from(&self, at: usize) -> usize {
        let largest = &self.layers[0];
        (at..at + largest.len()).map(|at| at % largest.len()).find(|at| largest[*at].keyframe).unwrap_or(0)
    }
}

/// Cuts Annex B text at its access unit delimiters and packs each unit (RFC 6184, packetization mode 1).
fn h264(bytes: &'static [u8]) -> Result<Vec<Picture>, Damaged> {
    const DELIMITER: &[u8] = &[0, 0, 0, 1, 9];
    const DAMAGED: Damaged = Damaged("an access unit");
    let mut starts: Vec<usize> = Vec::new();
    for at in 0..bytes.len().saturating_sub(DELIMITER.len()) {
        if bytes[at..].starts_with(DELIMITER) {
            starts.push(at);
        }
    }
    starts.push(bytes.len());
    let mut payloader = H264Payloader::default();
    let mut pictures = Vec::new();
    for pair in starts.windows(2) {
        let unit = Bytes::from_static(&bytes[pair[0]..pair[1]]);
        let payloads = payloader.payload(MTU, &unit).map_err(|_| DAMAGED)?;
        let keyframe = payloads.iter().any(|payload| h264_has(payload, 5));
        let behind = &unit[DELIMITER.len()..];
        let at = behind.windows(3).position(|window| window == [0, 0, 1]).ok_or(DAMAGED)?;
        // A start code may have another zero before it.
        let at = DELIMITER.len() + at - usize::from(at > 0 && behind[at - 1] == 0);
        pictures.push(Picture { keyframe, payloads, whole: unit.slice(at..) });
    }
    Ok(pictures)
}

/// Whether a payload carries (the beginning of) a NAL unit of the given type.
pub(crate) fn h264_has(payload: &[u8], wanted: u8) -> bool {
    let Some(first) = payload.first() else { return false };
    match first & 0x1F {
        // STAP-A: units with their sizes before them.
        24 => {
            let mut rest = &payload[1..];
            while let [high, low, unit @ ..] = rest {
                let size = usize::from(u16::from_be_bytes([*high, *low]));
                if unit.first().is_some_and(|head| head & 0x1F == wanted) {
                    return true;
                }
                rest = unit.get(size..).unwrap_or_default();
            }
            false
        }
        // FU-A: its second byte has the start bit and the type.
        28 => payload.get(1).is_some_and(|head| head & 0x80 != 0 && head & 0x1F == wanted),
        kind => kind == wanted,
    }
}

/// Whether a payload begins a VP8 keyframe: first partition, its first byte's lowest bit clear (RFC 7741, 4.3).
pub(crate) fn vp8_begins_keyframe(payload: &[u8]) -> bool {
    let Some(first) = payload.first() else { return false };
    let mut at = 1;
    if first & 0x80 != 0 {
        let Some(extension) = payload.get(1) else { return false };
        at += 1;
        if extension & 0x80 != 0 {
            at += if payload.get(at).is_some_and(|id| id & 0x80 != 0) { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0) + usize::from(extension & 0x30 != 0);
    }
    // S set and PID 0: the start of the frame.
    first & 0x17 == 0x10 && payload.get(at).is_some_and(|head| head & 1 == 0)
}

/// Reads an IVF file; the payload descriptors, which number the pictures, are written when they are sent.
fn vp8(bytes: &'static [u8]) -> Result<Vec<Picture>, Damaged> {
    const DAMAGED: Damaged = Damaged("the IVF file");
    let mut rest = bytes.get(32..).ok_or(DAMAGED)?;
    let mut pictures = Vec::new();
    while !rest.is_empty() {
        let size: [u8; 4] = rest.get(..4).and_then(|size| size.try_into().ok()).ok_or(DAMAGED)?;
        let size = u32::from_le_bytes(size) as usize;
        let frame = rest.get(12..12 + size).ok_or(DAMAGED)?;
        rest = &rest[12 + size..];
        let payloads = frame.chunks(MTU - VP8_DESCRIPTOR).map(Bytes::from_static).collect();
        let keyframe = frame.first().is_some_and(|head| head & 1 == 0);
        pictures.push(Picture { keyframe, payloads, whole: Bytes::from_static(frame) });
    }
    Ok(pictures)
}

/// Bytes of the descriptor with a picture id of 15 bits.
const VP8_DESCRIPTOR: usize = 4;

/// The descriptor of a packet (RFC 7741, 4.2).
pub(crate) fn vp8_descriptor(first: bool, picture_id: u16) -> [u8; VP8_DESCRIPTOR] {
    let id = (picture_id | 0x8000).to_be_bytes();
    [if first { 0x90 } else { 0x80 }, 0x80, id[0], id[1]]
}

/// The packets of an Ogg file, without the two headers of Opus (RFC 7845).
fn ogg(bytes: &'static [u8]) -> Result<Vec<Bytes>, Damaged> {
    const DAMAGED: Damaged = Damaged("the Ogg file");
    let (mut packets, mut packet, mut rest) = (Vec::new(), Vec::new(), bytes);
    while !rest.is_empty() {
        let segments = usize::from(*rest.get(26).ok_or(DAMAGED)?);
        let table = rest.get(27..27 + segments).ok_or(DAMAGED)?;
        let mut at = 27 + segments;
        for size in table {
            packet.extend_from_slice(rest.get(at..at + usize::from(*size)).ok_or(DAMAGED)?);
            at += usize::from(*size);
            // A packet goes on in the next segment when this one is full.
            if *size < 255 {
                packets.push(Bytes::from(std::mem::take(&mut packet)));
            }
        }
        rest = &rest[at..];
    }
    if packets.len() < 2 {
        return Err(DAMAGED);
    }
    Ok(packets.split_off(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clips_are_ten_seconds_that_begin_with_a_keyframe() {
        for (codec, gop, least, most) in [(Codec::H264, 60, 900, 1_050), (Codec::Vp8, 30, 200, 300)] {
            let clip = Clip::bundled(codec, false).unwrap();
            assert_eq!(clip.layers.len(), 1);
            assert_layer(&clip.layers[0], gop, least..most);
            assert!((500..=502).contains(&clip.sound.len()), "{}", clip.sound.len());
            assert_eq!(clip.keyframe_from(1), gop);
            assert_eq!(clip.keyframe_from(299), 0);
        }
    }

    fn assert_layer(pictures: &[Picture], gop: usize, expected_kbps: std::ops::Range<usize>) {
        assert_eq!(pictures.len(), 300);
        let keyframes: Vec<_> = (0..300).filter(|at| pictures[*at].keyframe).collect();
        assert_eq!(keyframes, (0..300).step_by(gop).collect::<Vec<_>>());
        let bytes: usize = pictures.iter().flat_map(|p| &p.payloads).map(Bytes::len).sum();
        let kbps = bytes * 8 / 10_000;
        assert!(expected_kbps.contains(&kbps), "{kbps} kb/s");
        assert!(pictures.iter().flat_map(|p| &p.payloads).all(|payload| payload.len() <= MTU));
    }

    #[test]
    fn the_layers_of_a_simulcast_have_their_keyframes_together() {
        let clip = Clip::bundled(Codec::H264, true).unwrap();
        assert_eq!(clip.layers.len(), LAYERS.len());
        for (layer, kbps) in clip.layers.iter().zip([900..1_050, 200..300, 60..100]) {
            assert_layer(layer, 60, kbps);
        }
    }

    #[test]
    fn keyframes_are_known_by_their_first_packets() {
        let h264 = Clip::bundled(Codec::H264, false).unwrap();
        assert!(h264_has(&h264.layers[0][0].payloads[0], 7), "parameter sets come first");
        assert!(!h264.layers[0][1].payloads.iter().any(|payload| h264_has(payload, 5)));
        let vp8 = Clip::bundled(Codec::Vp8, false).unwrap();
        for (picture, truth) in [(0, true), (1, false), (30, true)] {
            let first = [&vp8_descriptor(true, 200)[..], &vp8.layers[0][picture].payloads[0]].concat();
            assert_eq!(vp8_begins_keyframe(&first), truth);
        }
        let later = [&vp8_descriptor(false, 200)[..], &vp8.layers[0][0].payloads[1]].concat();
        assert!(!vp8_begins_keyframe(&later));
        for short in [&[][..], &[0x90], &[0x90, 0x80], &[0x90, 0xF0, 0x80]] {
            assert!(!vp8_begins_keyframe(short));
            assert!(!h264_has(short, 5));
        }
    }
}
