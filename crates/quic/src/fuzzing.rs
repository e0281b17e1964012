//! Where fuzzers come in: each takes any bytes, and may neither panic nor break a promise that is asserted here.
//! The tests below run the corpus through the same doors.

use bytes::Bytes;
use haul_model::{Codec, media::PictureNumbers};

use crate::{
    bitstream::{self, Configuration, MAX_PAYLOAD_BYTES, annex_b},
    catalog::Catalog,
    cmaf::{Init, MAX_SAMPLES},
    request::Target,
};

/// A publisher's catalog, and the target that a session is about.
pub fn catalog(data: &[u8]) {
    if let Some(read) = Catalog::parse(data) {
        assert_eq!(Catalog::parse(&read.json()).as_ref(), Some(&read), "what is written is read");
        crate::ingest::choose(&read);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = Target::parse(text);
    }
}

/// Fragmented MP4: two bytes say how long the header is, the rest is a fragment.
pub fn cmaf(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return };
    let (header, fragment) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let fragment = Bytes::copy_from_slice(fragment);
    let Some(init) = Init::parse(&Bytes::copy_from_slice(header)) else { return };
    let Some(samples) = init.samples(&fragment) else { return };
    assert!(samples.len() <= MAX_SAMPLES as usize, "{} samples", samples.len());
    let bytes: usize = samples.iter().map(|sample| sample.payload.len()).sum();
    assert!(bytes <= fragment.len(), "no byte is in two samples");
}

/// A frame, by the codec that its first byte says: to RTP and back; and as a configuration with a frame behind it.
pub fn bitstream(data: &[u8]) {
    let Some((codec, frame)) = data.split_first() else { return };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    let frame = Bytes::copy_from_slice(frame);
    let _ = bitstream::decoder(codec, &frame);
    let numbers = PictureNumbers { picture_id: 0x1234, tl0: None };
    if let Some(packets) = bitstream::packetize(codec, &frame, numbers) {
        assert!(!packets.payloads.is_empty(), "a frame is something");
        for payload in &packets.payloads {
            assert!(codec == Codec::Opus || payload.len() <= MAX_PAYLOAD_BYTES, "{} bytes", payload.len());
        }
        let again = bitstream::depacketize(codec, &packets.payloads);
        // The others may leave out what no decoder needs.
        if matches!(codec, Codec::Vp8 | Codec::Vp9 | Codec::Opus) {
            assert_eq!(again.as_ref(), Some(&frame), "and comes back");
        }
    }
    let pieces: Vec<Bytes> = frame.chunks(20).map(Bytes::copy_from_slice).collect();
    if let Some(joined) = bitstream::depacketize(codec, &pieces) {
        let _ = bitstream::decoder(codec, &joined);
    }
    let (record, rest) = frame.split_at(frame.len() / 2);
    let (record, rest) = (frame.slice_ref(record), frame.slice_ref(rest));
    for configuration in [Configuration::avcc(&record), Configuration::hvcc(&record)].into_iter().flatten() {
        let _ = annex_b(&configuration, &rest, true);
    }
}

#[cfg(test)]
mod tests {
    type Door = fn(&[u8]);
    const DOORS: [(&str, Door); 3] =
        [("moq_catalog", super::catalog), ("moq_cmaf", super::cmaf), ("moq_bitstream", super::bitstream)];

    #[test]
    fn the_corpus_goes_through() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
        for (target, door) in DOORS {
            let mut files = 0;
            for entry in std::fs::read_dir(format!("{corpus}/{target}")).unwrap() {
                door(&std::fs::read(entry.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files >= 5, "{target} has {files}");
        }
    }

    /// Every file of the corpus with each of its bytes changed, and cut off at each: nearer to what is read than noise is.
    #[test]
    fn the_corpus_goes_through_damaged() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
        for (target, door) in DOORS {
            for entry in std::fs::read_dir(format!("{corpus}/{target}")).unwrap() {
                let whole = std::fs::read(entry.unwrap().path()).unwrap();
                for at in 0..whole.len() {
                    door(&whole[..at]);
                    for value in [0, 0xFF, whole[at] ^ 0x80, whole[at].wrapping_add(1)] {
                        let mut damaged = whole.clone();
                        damaged[at] = value;
                        door(&damaged);
                    }
                }
            }
        }
    }
}
