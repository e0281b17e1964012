//! The catalog of a MoQ broadcast, as the `hang` format has it: JSON on a track of its own that names the other tracks
//! and says how they are coded. Publishers' are untrusted.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The track that a catalog is on.
pub(crate) const TRACK: &str = "catalog.json";
/// Delivery priorities, higher first, as the format's other implementations have them.
pub(crate) const PRIORITY: u8 = 100;
pub(crate) const AUDIO_PRIORITY: u8 = 80;
pub(crate) const VIDEO_PRIORITY: u8 = 60;
/// The largest catalog read, in bytes. A larger one is refused.
pub(crate) const MAX_BYTES: usize = 256 * 1024;

/// What a broadcast consists of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Catalog {
    #[serde(default)]
    pub(crate) video: Renditions<Video>,
    #[serde(default)]
    pub(crate) audio: Renditions<Audio>,
}

/// The same thing in several qualities, by the names of their tracks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Renditions<T> {
    #[serde(default = "BTreeMap::new")]
    pub(crate) renditions: BTreeMap<String, T>,
}

impl<T> Default for Renditions<T> {
    fn default() -> Self {
        Self { renditions: BTreeMap::new() }
    }
}

/// Pictures, as a `VideoDecoderConfig` of WebCodecs says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Video {
    pub(crate) codec: String,
    /// The decoder configuration record, in hexadecimal digits; without one, the stream has what a decoder needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) coded_width: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) coded_height: Option<u32>,
    /// What it takes, in bits a second, as measured. What publishers say of theirs is not looked at.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) bitrate: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) label: Option<String>,
    #[serde(default)]
    pub(crate) container: Container,
}

/// Sound, as an `AudioDecoderConfig` says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Audio {
    pub(crate) codec: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) description: Option<String>,
    pub(crate) sample_rate: u32,
    pub(crate) number_of_channels: u32,
    /// As of pictures.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub(crate) bitrate: Option<u64>,
    #[serde(default)]
    pub(crate) container: Container,
}

/// How a frame's time and bytes are put into a MoQ frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub(crate) enum Container {
    /// A QUIC variable-length integer, microseconds; then the bytes.
    #[default]
    Legacy,
    /// Fragmented MP4: each MoQ frame is a `moof` and an `mdat`.
    Cmaf {
        /// `ftyp` and `moov`, in base64.
        init: String,
    },
    /// One we don't know. Its track is not taken.
    #[serde(other)]
    Unknown,
}

impl Catalog {
    /// Reads a publisher's.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        if json.len() > MAX_BYTES {
            return None;
        }
        serde_json::from_slice(json).ok()
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers under text keys are always JSON")
    }
}

/// The bytes that hexadecimal digits stand for.
pub(crate) fn hex(digits: &str) -> Option<Bytes> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_of_another_implementation_is_read() {
        let json =
            br#"{"video":{"renditions":{"hd":{"codec":"avc1.64001f","codedWidth":1280,"codedHeight":720,
            "framerate":30.0,"bitrate":2.5e6,"description":"0164","container":{"kind":"cmaf","init":"AAAA"}}},"rotation":0},
            "audio":{"renditions":{"a":{"codec":"opus","sampleRate":48000,"numberOfChannels":2,
            "container":{"kind":"legacy"}}}},"clock":{"wall":1}}"#;
        let catalog = Catalog::parse(json).unwrap();
        let video = &catalog.video.renditions["hd"];
        assert_eq!(video.container, Container::Cmaf { init: "AAAA".to_owned() });
        assert_eq!(video.coded_width, Some(1280));
        assert_eq!(catalog.audio.renditions["a"].number_of_channels, 2);
        assert_eq!(Catalog::parse(&catalog.json()), Some(catalog));
    }

    #[test]
    fn what_is_no_catalog_is_none_and_an_unknown_container_spoils_nothing_else() {
        for json in [&b""[..], b"3", b"{\"video\":3}", b"{\"video\":{\"renditions\":{\"a\":{}}}}", &[0xFF; 9]]
        {
            assert_eq!(Catalog::parse(json), None);
        }
        assert_eq!(Catalog::parse(b"{}"), Some(Catalog::default()));
        let json = br#"{"video":{"renditions":{"x":{"codec":"vp8","container":{"kind":"new","y":1}}}}}"#;
        assert_eq!(Catalog::parse(json).unwrap().video.renditions["x"].container, Container::Unknown);
        assert_eq!(Catalog::parse(&vec![b' '; MAX_BYTES + 1]), None);
    }
}
