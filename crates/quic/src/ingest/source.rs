//! What is taken of a publisher's broadcast, and how its frames become the live's.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use haul_media::{Broadcast, ClockMap, relay::MAX_LAYERS};
use haul_model::{Codec, Frame, Kind, Layer, Now, TrackInfo, media::PictureNumbers};

use super::reader::Piece;
use crate::{
    bitstream::{self, Configuration, aac, annex_b},
    catalog::{Audio, Catalog, Container, hex},
    cmaf::{Init, Sample},
    stats::Counters,
    timeline::{PublisherClock, ntp_of_us},
};

/// How often a track says which instant a timestamp belongs to: what reports of RTP are made from.
const CLOCK_MAP_EVERY_US: u64 = 1_000_000;

/// A track that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) name: String,
    codec: Codec,
    layer: Layer,
    packing: Packing,
    /// Of sound: its parameters, as SDP has them.
    fmtp: String,
}

/// How a frame of a track is put together.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Packing {
    /// Time and bytes; with a configuration, units have lengths in front.
    Legacy(Option<Configuration>),
    Cmaf(Init, Option<Configuration>),
}

impl Chosen {
    pub(super) fn kind(&self) -> Kind {
        self.codec.kind()
    }
}

/// The tracks of a broadcast that are taken: pictures as layers, the smallest first, and sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    tracks: Vec<Chosen>,
}

impl Choice {
    /// Chooses: of pictures, those of one codec, the largest [`MAX_LAYERS`]; of sound, the first in Opus, else the first in AAC.
    pub(super) fn of(catalog: &Catalog, counters: &Counters) -> Self {
        let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
        let named = catalog.video.renditions.len() + catalog.audio.renditions.len();
        for (name, video) in &catalog.video.renditions {
            let codec = video_codec(&video.codec);
            let chosen = codec.and_then(|codec| {
                let packing = Packing::new(codec, &video.container, video.description.as_deref())?;
                Some(Chosen { name: name.clone(), codec, layer: Layer(0), packing, fmtp: String::new() })
            });
            let area = video.coded_width.unwrap_or(0) as u64 * u64::from(video.coded_height.unwrap_or(0));
            pictures.extend(chosen.map(|chosen| (area, chosen)));
        }
        for (name, audio) in &catalog.audio.renditions {
            sounds.extend(sound(name, audio));
        }
        pictures.sort_by_key(|(area, _)| *area);
        // What most decoders know first: the codec of the first in the order of `Codec::ALL`.
        let first = Codec::ALL.into_iter().find(|codec| pictures.iter().any(|(_, one)| one.codec == *codec));
        pictures.retain(|(_, one)| Some(one.codec) == first);
        let surplus = pictures.len().saturating_sub(usize::from(MAX_LAYERS));
        let mut tracks: Vec<_> = pictures.into_iter().skip(surplus).map(|(_, one)| one).collect();
        for (index, one) in tracks.iter_mut().enumerate() {
            one.layer = Layer(index as u8);
        }
        // Everybody hears Opus, and not everybody AAC.
        sounds.sort_by_key(|one: &Chosen| one.codec != Codec::Opus);
        tracks.extend(sounds.into_iter().take(1));
        counters.ingest_tracks_refused.add((named - tracks.len()) as u64);
        Self { tracks }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    pub(super) fn has_video(&self) -> bool {
        self.tracks.iter().any(|one| one.kind() == Kind::Video)
    }

    pub(super) fn tracks(&self) -> impl Iterator<Item = &Chosen> {
        self.tracks.iter()
    }

    pub(super) fn streams(&self) -> Vec<Stream> {
        self.tracks.iter().cloned().map(Stream::new).collect()
    }

    /// What the relay is told, once `first` has come of a track: what it says itself counts, and not the catalog.
    pub(super) fn broadcast(&self, track: usize, first: &Frame) -> Option<Broadcast> {
        let mut broadcast = Broadcast::default();
        let videos: Vec<_> = self.tracks.iter().filter(|one| one.kind() == Kind::Video).collect();
        if let Some(video) = videos.first() {
            if self.tracks[track].kind() != Kind::Video {
                return None;
            }
            let keyframe = bitstream::depacketize(video.codec, &first.packets)?;
            let decoder = bitstream::decoder(video.codec, &keyframe)?;
            broadcast.video = Some(TrackInfo { codec: video.codec, fmtp: fmtp(video.codec, &decoder.codec) });
            if videos.len() > 1 {
                broadcast.layer_names = videos.iter().map(|one| one.name.clone()).collect();
            }
        }
        let sound = self.tracks.iter().find(|one| one.kind() == Kind::Audio);
        broadcast.audio = sound.map(|one| TrackInfo { codec: one.codec, fmtp: one.fmtp.clone() });
        Some(broadcast)
    }
}

/// A track of sound, if it can be taken.
fn sound(name: &str, audio: &Audio) -> Option<Chosen> {
    let chosen =
        |codec, packing, fmtp| Some(Chosen { name: name.to_owned(), codec, layer: Layer(0), packing, fmtp });
    if audio.codec == "opus" {
        let packing = Packing::new(Codec::Opus, &audio.container, None)?;
        return chosen(Codec::Opus, packing, "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".to_owned());
    }
    if !audio.codec.starts_with("mp4a.40.") {
        return None;
    }
    let packing = Packing::new(Codec::Aac, &audio.container, None)?;
    let config = match (&audio.description, &packing) {
        (Some(digits), _) => hex(digits)?,
        (None, Packing::Cmaf(init, _)) => init.configuration.clone()?,
        (None, Packing::Legacy(_)) => return None,
    };
    aac::Config::parse(&config)?;
    let digits: String = config.iter().map(|byte| format!("{byte:02x}")).collect();
    // RFC 3640, 4.1.
    chosen(Codec::Aac, packing, format!("config={digits}"))
}

/// The codec of a codec string (RFC 6381).
fn video_codec(name: &str) -> Option<Codec> {
    match name.split('.').next()? {
        "avc1" | "avc3" => Some(Codec::H264),
        "hev1" | "hvc1" => Some(Codec::H265),
        "vp8" | "vp08" => Some(Codec::Vp8),
        "vp9" | "vp09" => Some(Codec::Vp9),
        "av01" => Some(Codec::Av1),
        _ => None,
    }
}

/// The parameters of RTP's payload formats that say the same as a codec string.
fn fmtp(codec: Codec, name: &str) -> String {
    let part = |index: usize| name.split('.').nth(index).unwrap_or_default();
    match codec {
        Codec::H264 => {
            format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={}", part(1))
        }
        Codec::H265 => {
            let (tier, level) = part(3).split_at(part(3).len().min(1));
            let tier = u8::from(tier == "H");
            format!("profile-id={};tier-flag={tier};level-id={level};tx-mode=SRST", part(1))
        }
        Codec::Vp9 => format!("profile-id={}", part(1).parse().unwrap_or(0_u8)),
        Codec::Av1 => {
            format!("profile={};level-idx={};tier=0", part(1), part(2).trim_end_matches(['M', 'H']))
        }
        Codec::Vp8 | Codec::Opus | Codec::Aac => String::new(),
    }
}

impl Packing {
    fn new(codec: Codec, container: &Container, description: Option<&str>) -> Option<Self> {
        let configuration = |record: &Bytes| match codec {
            Codec::H264 => Configuration::avcc(record),
            Codec::H265 => Configuration::hvcc(record),
            _ => None,
        };
        let has_units = matches!(codec, Codec::H264 | Codec::H265);
        match container {
            Container::Legacy => match description.filter(|_| has_units) {
                Some(digits) => Some(Self::Legacy(Some(configuration(&hex(digits)?)?))),
                None => Some(Self::Legacy(None)),
            },
            Container::Cmaf { init } => {
                let init = Init::parse(&BASE64.decode(init).ok()?.into())?;
                // MP4 has nothing but lengths.
                let configuration = match &init.configuration {
                    Some(record) if has_units => Some(configuration(record)?),
                    None if has_units => return None,
                    _ => None,
                };
                Some(Self::Cmaf(init, configuration))
            }
            Container::Unknown => None,
        }
    }
}

/// A track on its way to the relay.
pub(super) struct Stream {
    track: Chosen,
    picture_id: u16,
    /// When the last clock map was made, in the publisher's time.
    mapped: Option<u64>,
    /// The time of the frame before.
    last_us: u64,
    out_of_order: bool,
}

impl Stream {
    fn new(track: Chosen) -> Self {
        Self { track, picture_id: 0, mapped: None, last_us: 0, out_of_order: false }
    }

    pub(super) fn kind(&self) -> Kind {
        self.track.kind()
    }

    /// The encoder has sent a picture that is shown before one that it sent earlier.
    pub(super) fn is_out_of_order(&self) -> bool {
        self.out_of_order
    }

    /// The frames in a piece; `None` in place of what is none.
    pub(super) fn frames(
        &mut self,
        piece: &Piece,
        clock: &mut PublisherClock,
        now: Now,
    ) -> Vec<Option<Frame>> {
        let samples = match &self.track.packing {
            Packing::Legacy(_) => legacy(&piece.bytes).map(|sample| vec![sample]),
            Packing::Cmaf(init, _) => init.samples(&piece.bytes),
        };
        let Some(samples) = samples else { return vec![None] };
        let mut begins = piece.begins_group;
        let frame = |sample: Sample| {
            let frame = self.frame(sample, begins, clock, now);
            begins = false;
            frame
        };
        samples.into_iter().map(frame).collect()
    }

    fn frame(
        &mut self,
        sample: Sample,
        begins_group: bool,
        clock: &mut PublisherClock,
        now: Now,
    ) -> Option<Frame> {
        let Sample { us, payload } = sample;
        let codec = self.track.codec;
        let payload = match &self.track.packing {
            Packing::Legacy(None) | Packing::Cmaf(_, None) => payload,
            Packing::Legacy(Some(configuration)) | Packing::Cmaf(_, Some(configuration)) => {
                annex_b(configuration, &payload, begins_group)?
            }
        };
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7FFF;
        let numbers = PictureNumbers { picture_id: self.picture_id, tl0: None };
        let packets = bitstream::packetize(codec, &payload, numbers)?;
        let is_video = codec.kind() == Kind::Video;
        self.out_of_order |= is_video && us < self.last_us && !begins_group;
        self.last_us = us;
        Some(Frame {
            kind: codec.kind(),
            layer: self.track.layer,
            timestamp: (u128::from(us) * u128::from(codec.clock_rate_hz()) / 1_000_000) as u32,
            arrived: now,
            keyframe: !is_video || packets.keyframe,
            begins: true,
            ends: true,
            captured: Some(clock.arrived(ntp_of_us(us), now)),
            numbers: matches!(codec, Codec::Vp8 | Codec::Vp9).then_some(numbers),
            packets: packets.payloads,
        })
    }

    /// Where the frame's timestamp stands on the publisher's clock, every now and then.
    pub(super) fn clock_map(&mut self, frame: &Frame) -> Option<ClockMap> {
        if self.mapped.is_some_and(|mapped| self.last_us.abs_diff(mapped) < CLOCK_MAP_EVERY_US) {
            return None;
        }
        self.mapped = Some(self.last_us);
        Some(ClockMap {
            kind: frame.kind,
            layer: frame.layer,
            ntp: frame.captured?.ntp,
            timestamp: frame.timestamp,
            arrived: frame.arrived.instant,
        })
    }
}

/// Time, as a QUIC variable-length integer (RFC 9000, 16), and bytes.
fn legacy(bytes: &Bytes) -> Option<Sample> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (time, _) = bytes.split_at_checked(length)?;
    let us = time.iter().enumerate().fold(0_u64, |value, (index, byte)| {
        value << 8 | u64::from(if index == 0 { byte & 0x3F } else { *byte })
    });
    Some(Sample { us, payload: bytes.slice(length..) })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use haul_model::UnixMillis;

    use super::*;

    fn catalog(json: &str) -> Catalog {
        Catalog::parse(json.as_bytes()).unwrap()
    }

    fn chosen(json: &str) -> (Vec<(String, Codec, u8)>, u64) {
        let counters = Counters::default();
        let choice = Choice::of(&catalog(json), &counters);
        let names = choice.tracks().map(|one| (one.name.clone(), one.codec, one.layer.0)).collect();
        (names, counters.ingest_tracks_refused.get())
    }

    #[test]
    fn pictures_become_layers_and_what_is_unknown_is_counted() {
        let json = r#"{"video":{"renditions":{
            "hd":{"codec":"avc3.64001f","codedWidth":1280,"codedHeight":720},
            "sd":{"codec":"avc3.64001f","codedWidth":640,"codedHeight":360},
            "other":{"codec":"vp8"}, "future":{"codec":"vvc1.1"}}},
            "audio":{"renditions":{"a":{"codec":"opus","sampleRate":48000,"numberOfChannels":2},
            "b":{"codec":"pcm","sampleRate":48000,"numberOfChannels":2}}}}"#;
        let expected = [("sd", Codec::H264, 0), ("hd", Codec::H264, 1), ("a", Codec::Opus, 0)];
        let expected = expected.map(|(name, codec, layer)| (name.to_owned(), codec, layer)).to_vec();
        assert_eq!(chosen(json), (expected, 3));
    }

    #[test]
    fn of_sound_opus_is_taken_before_aac_and_aac_with_its_configuration_only() {
        let aac = r#""b":{"codec":"mp4a.40.2","sampleRate":44100,"numberOfChannels":2,"description":"1210"}"#;
        let opus = r#""z":{"codec":"opus","sampleRate":48000,"numberOfChannels":2}"#;
        let lacking = r#""a":{"codec":"mp4a.40.2","sampleRate":44100,"numberOfChannels":2}"#;
        let broken = r#""a":{"codec":"mp4a.40.2","sampleRate":1,"numberOfChannels":1,"description":"1"}"#;
        let json = |tracks: &[&str]| format!(r#"{{"audio":{{"renditions":{{{}}}}}}}"#, tracks.join(","));
        let one = |name: &str, codec| vec![(name.to_owned(), codec, 0)];
        assert_eq!(chosen(&json(&[aac, opus])), (one("z", Codec::Opus), 1));
        assert_eq!(chosen(&json(&[lacking, aac])), (one("b", Codec::Aac), 1));
        assert_eq!(chosen(&json(&[broken])), (vec![], 1));
        let choice = Choice::of(&catalog(&json(&[aac])), &Counters::default());
        let (mut stream, mut clock) = (choice.streams().remove(0), PublisherClock::default());
        let frame = stream.frames(&piece(0, true, &[0x21, 0x10]), &mut clock, now(0)).remove(0).unwrap();
        let sound = choice.broadcast(0, &frame).unwrap().audio.unwrap();
        assert_eq!((sound.codec, sound.fmtp.as_str()), (Codec::Aac, "config=1210"));
        assert_eq!(frame.packets, [Bytes::from_static(&[0x21, 0x10])]);
    }

    #[test]
    fn of_a_thousand_tracks_a_few_are_taken() {
        let many: Vec<_> = (0..1000).map(|i| format!(r#""{i}":{{"codec":"vp8"}}"#)).collect();
        let (taken, refused) = chosen(&format!(r#"{{"video":{{"renditions":{{{}}}}}}}"#, many.join(",")));
        assert_eq!((taken.len(), refused), (usize::from(MAX_LAYERS), 1000 - u64::from(MAX_LAYERS)));
    }

    #[test]
    fn parameters_say_what_the_codec_string_says() {
        assert_eq!(
            fmtp(Codec::H264, "avc3.42c01e"),
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42c01e"
        );
        assert_eq!(fmtp(Codec::H265, "hev1.1.6.L60.90"), "profile-id=1;tier-flag=0;level-id=60;tx-mode=SRST");
        assert_eq!(fmtp(Codec::Vp9, "vp09.00.31.08"), "profile-id=0");
        assert_eq!(fmtp(Codec::Av1, "av01.0.04M.08"), "profile=0;level-idx=04;tier=0");
    }

    fn now(ms: u64) -> Now {
        Now { instant: Instant::now() + Duration::from_millis(ms), wall: UnixMillis(1_000_000 + ms) }
    }

    fn piece(us: u16, begins_group: bool, payload: &[u8]) -> Piece {
        // A time of two bytes.
        let bytes = [&(us | 0x4000).to_be_bytes()[..], payload].concat().into();
        Piece { track: 0, begins_group, bytes }
    }

    #[test]
    fn frames_carry_the_publishers_time_and_its_order() {
        let choice =
            Choice::of(&catalog(r#"{"video":{"renditions":{"v":{"codec":"vp8"}}}}"#), &Counters::default());
        let (mut stream, mut clock) = (choice.streams().remove(0), PublisherClock::default());
        let first =
            stream.frames(&piece(0, true, &[0x10, 0, 0, 0x9D, 1, 0x2A, 64, 0, 48, 0, 9]), &mut clock, now(0));
        let first = first.into_iter().next().flatten().unwrap();
        assert!(first.keyframe && stream.clock_map(&first).is_some());
        let second = stream.frames(&piece(10_000, false, &[0x11, 1]), &mut clock, now(10)).remove(0).unwrap();
        assert_eq!(second.timestamp.wrapping_sub(first.timestamp), 900);
        assert!(stream.clock_map(&second).is_none(), "not so soon");
        assert!(!second.keyframe && !stream.is_out_of_order());
        let at = |frame: &Frame| frame.captured.map(|one| one.ntp.wrapping_add_signed(one.to_ours.unwrap()));
        let (one, two) = (at(&first).unwrap(), at(&second).unwrap());
        assert!((two - one).abs_diff((1 << 32) / 100) < 1 << 16, "10 ms apart on our clock");
        assert!(stream.frames(&piece(5_000, false, &[0x11, 1]), &mut clock, now(20))[0].is_some());
        assert!(stream.is_out_of_order());
        assert_eq!(stream.frames(&piece(9, false, &[]), &mut clock, now(30)).len(), 1);
        assert!(
            stream.frames(&Piece { track: 0, begins_group: true, bytes: Bytes::new() }, &mut clock, now(0))
                [0]
            .is_none()
        );
    }
}
